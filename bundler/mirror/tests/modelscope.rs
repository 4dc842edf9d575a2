//! ModelScope as it is: listings that are cut without a word, pages that refuse for no reason, no ranges.

#![allow(
    clippy::unwrap_used,
    clippy::pedantic,
    unreachable_pub,
    reason = "a test says what it expects by unwrapping"
)]

mod server;

use bundle_mirror::{
    Cache, Download, Downloader, Filter, HubKind, MirrorError, ModelScope, Secret, Web,
};
use manifest_schema::{Digest, RepoName};
use report::Silent;
use serde_json::{Value, json};
use server::{Answer, Asked, QUICK, Server};

fn all() -> Filter {
    Filter::new(&[], &[]).unwrap()
}

fn repo() -> RepoName {
    RepoName::parse("org/model").unwrap()
}

/// The value of a parameter of a query.
fn parameter(asked: &Asked, name: &str) -> Option<String> {
    let (_, query) = asked.path.split_once('?')?;
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let mut found = pairs.filter(|(key, _)| *key == name);
    found.next().map(|(_, value)| value.replace("%2F", "/"))
}

fn blob(path: &str) -> Value {
    json!({ "Path": path, "Name": path, "Type": "blob", "Size": path.len(),
        "Sha256": Digest::of(path.as_bytes()).hex() })
}

fn tree(path: &str) -> Value {
    json!({ "Path": path, "Name": path, "Type": "tree", "Size": 0, "Sha256": "" })
}

fn listing(entries: &[Value]) -> Answer {
    let body = json!({ "Code": 200, "Success": true, "Message": "", "Data": { "Files": entries } });
    Answer::new(200, body.to_string().as_bytes())
}

/// Two folders of `each` files and one file beside them, cut after 3000 entries as the real server cuts.
fn folders(each: usize) -> impl Fn(usize, &Asked) -> Answer {
    move |_, asked| {
        let root = parameter(asked, "Root").unwrap_or_default();
        let mut entries = Vec::new();
        for folder in ["a", "b"] {
            if root.is_empty() {
                entries.push(tree(folder));
            }
            if root == folder
                || (root.is_empty() && parameter(asked, "Recursive").unwrap() == "True")
            {
                entries.extend((0..each).map(|n| blob(&format!("{folder}/{n:05}.bin"))));
            }
        }
        if root.is_empty() {
            entries.push(blob("z.json"));
        }
        entries.truncate(3000);
        listing(&entries)
    }
}

#[test]
fn a_listing_that_was_cut_is_taken_folder_by_folder() {
    for (each, requests) in [(1000, 1), (1499, 4), (2000, 4)] {
        let server = Server::new(folders(each));
        let web = Web::new(QUICK).unwrap();
        let scope = ModelScope::new(&web, &server.url);
        let files = scope
            .files(HubKind::Model, &repo(), "master", &all())
            .unwrap();
        assert_eq!(files.len(), 2 * each + 1, "{each} files a folder");
        assert_eq!(server.asked().len(), requests, "{each} files a folder");
        let first = &files[0];
        assert_eq!(
            (first.path.as_str(), first.digest),
            ("a/00000.bin", Some(Digest::of(b"a/00000.bin")))
        );
    }
}

#[test]
fn a_folder_that_cannot_be_listed_in_full_is_an_error_and_not_a_shorter_list() {
    let server = Server::new(folders(3001));
    let web = Web::new(QUICK).unwrap();
    let scope = ModelScope::new(&web, &server.url);
    let error = scope
        .files(HubKind::Model, &repo(), "master", &all())
        .unwrap_err();
    assert!(error.to_string().contains("the folder `b`"), "{error}");
}

#[test]
fn a_page_of_a_dataset_that_refuses_is_asked_again_and_the_first_one_is_believed() {
    let pages = |number: usize, asked: &Asked| {
        let page: usize = parameter(asked, "PageNumber").unwrap().parse().unwrap();
        if number == 1 || number == 3 {
            return Answer::new(403, b"{}");
        }
        let count = if page < 3 { 200 } else { 7 };
        let entries: Vec<Value> = (0..count)
            .map(|n| blob(&format!("{page}-{n}.parquet")))
            .collect();
        listing(&entries)
    };
    let server = Server::new(pages);
    let web = Web::new(QUICK).unwrap();
    let scope = ModelScope::new(&web, &server.url);
    let files = scope
        .files(HubKind::Dataset, &repo(), "master", &all())
        .unwrap();
    assert_eq!((files.len(), server.asked().len()), (407, 5));

    let closed = Server::new(|_, _| Answer::new(403, b"{}"));
    let scope = ModelScope::new(&web, &closed.url);
    let error = scope
        .files(HubKind::Dataset, &repo(), "master", &all())
        .unwrap_err();
    assert!(matches!(error, MirrorError::Gated { .. }), "{error}");
    assert_eq!(closed.asked().len(), 1);
}

#[test]
fn a_refusal_in_an_answer_of_200_is_a_refusal() {
    let server = Server::new(|_, _| {
        Answer::new(
            200,
            br#"{"Code":10010205001,"Success":false,"Message":"no such model","Data":null}"#,
        )
    });
    let web = Web::new(QUICK).unwrap();
    let scope = ModelScope::new(&web, &server.url);
    let error = scope
        .files(HubKind::Model, &repo(), "master", &all())
        .unwrap_err();
    assert!(error.to_string().contains("no such model"), "{error}");
}

#[test]
fn its_token_goes_out_in_both_forms_and_to_it_alone_and_ranges_are_not_relied_on() {
    let body = vec![9; 900_000];
    let (there, begun) = (body.clone(), body[..300_000].to_vec());
    let storage = Server::new(move |_, _| Answer::new(200, &there));
    let elsewhere = format!("{}/object", storage.url);
    let server = Server::new(move |_, _| Answer::new(302, b"").with("Location", &elsewhere));
    let token = Secret::new("ms-secret");
    let web = Web::new(QUICK)
        .unwrap()
        .with_token(&server.url, &token)
        .unwrap();
    let web = web
        .with_cookie(&server.url, "m_session_id", &token)
        .unwrap();
    let scope = ModelScope::new(&web, &server.url);
    let url = scope
        .file_url(HubKind::Model, &repo(), "master", "a b/模型.bin")
        .unwrap();
    assert!(
        url.contains("/api/v1/models/org/model/repo?Revision=master&FilePath=a+b%2F"),
        "{url}"
    );

    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path()).unwrap();
    let digest = Digest::of(&body);
    let partial = folder
        .path()
        .join(format!("sha256/{}.partial", digest.hex()));
    std::fs::write(partial, begun).unwrap();
    let download = Download {
        digest,
        size: body.len() as u64,
        file_name: "model".to_owned(),
        urls: vec![url],
        git_sha1: None,
        headers: Vec::new(),
        secret_headers: Vec::new(),
        registry: false,
    };
    let downloader = Downloader {
        web: &web,
        cache: &cache,
        rewrites: &[],
        limit: None,
    };
    downloader.fetch(&download, &Silent).unwrap();
    assert!(std::fs::read(cache.path(&digest)).unwrap() == body);
    let asked = &server.asked()[0];
    assert_eq!(asked.header("authorization"), Some("Bearer ms-secret"));
    assert_eq!(asked.header("cookie"), Some("m_session_id=ms-secret"));
    for asked in storage.asked() {
        assert_eq!(
            (asked.header("authorization"), asked.header("cookie")),
            (None, None)
        );
        assert!(
            asked.from().is_some(),
            "the rest was asked for, and all came: that was noticed"
        );
    }
}

#[test]
fn what_the_listing_leaves_open_is_found_out() {
    let server = Server::new(|_, _| Answer::new(200, b"small file"));
    let web = Web::new(QUICK).unwrap();
    let scope = ModelScope::new(&web, &server.url);
    let file = bundle_mirror::ScopeFile {
        path: "a".to_owned(),
        size: 0,
        digest: None,
    };
    let found = scope
        .complete(&format!("{}/a", server.url), &file, None)
        .unwrap();
    assert_eq!(found, (Digest::of(b"small file"), 10));
}
