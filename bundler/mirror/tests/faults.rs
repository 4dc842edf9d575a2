//! What servers do wrong, and what becomes of a download: resumed, taken elsewhere, or a clear error.

#![allow(
    clippy::unwrap_used,
    clippy::pedantic,
    unreachable_pub,
    reason = "a test says what it expects by unwrapping"
)]

mod server;

use std::time::{Duration, Instant};

use bundle_mirror::{
    Cache, Download, Downloader, Hub, HubKind, MirrorError, RateLimit, Secret, Web,
};
use manifest_schema::{Digest, RepoName};
use report::{Diagnose as _, Recorder, Silent, Sink};
use server::{Answer, Asked, QUICK, Server, honest};

fn body() -> Vec<u8> {
    (0..300_000_u32).flat_map(u32::to_le_bytes).collect()
}

struct Place {
    folder: tempfile::TempDir,
    cache: Cache,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        Self { folder, cache }
    }

    fn fetch(&self, urls: &[&str]) -> Result<(), MirrorError> {
        self.run(&self.download(urls), &Silent)
    }

    fn download(&self, urls: &[&str]) -> Download {
        let body = body();
        Download {
            digest: Digest::of(&body),
            size: body.len() as u64,
            file_name: "file".to_owned(),
            urls: urls.iter().map(|url| format!("{url}/file")).collect(),
            git_sha1: None,
            headers: Vec::new(),
            secret_headers: Vec::new(),
            registry: false,
        }
    }

    fn run(&self, download: &Download, sink: &dyn Sink) -> Result<(), MirrorError> {
        let web = Web::new(QUICK).unwrap();
        let downloader = Downloader {
            web: &web,
            cache: &self.cache,
            rewrites: &[],
            limit: None,
        };
        downloader.fetch_all(std::slice::from_ref(download), 2, sink)
    }

    fn assert_whole(&self) {
        let found = std::fs::read(self.cache.path(&Digest::of(&body()))).unwrap();
        assert!(found == body());
    }

    fn assert_clean(&self) {
        assert!(!self.cache.path(&Digest::of(&body())).exists());
    }

    /// Puts `bytes` where an earlier run would have left the beginning of the file.
    fn begun(&self, bytes: &[u8]) {
        let name = format!("sha256/{}.partial", Digest::of(&body()).hex());
        std::fs::write(self.folder.path().join(name), bytes).unwrap();
    }
}

fn good() -> Server {
    Server::new(|_, asked| honest(asked, &body()))
}

#[test]
fn a_download_cut_off_half_way_goes_on_where_it_stopped() {
    let server = Server::new(|number, asked| match number {
        0 => honest(asked, &body()).cut_after(700_000),
        _ => honest(asked, &body()),
    });
    let place = Place::new();
    place.fetch(&[&server.url]).unwrap();
    place.assert_whole();
    let asked = server.asked();
    assert_eq!(asked.len(), 2);
    assert!(asked[1].from().is_some_and(|from| from > 0), "{asked:?}");
}

#[test]
fn a_server_that_ignores_or_shifts_the_range_is_read_from_the_start() {
    let start = body()[..500_000].to_vec();
    for shifted in [false, true] {
        let server = Server::new(move |_, asked: &Asked| match asked.from() {
            Some(_) if shifted => Answer::new(206, &body()[9..]).with(
                "Content-Range",
                &format!("bytes 9-1199999/{}", body().len()),
            ),
            _ => Answer::new(200, &body()),
        });
        let place = Place::new();
        place.begun(&start);
        place.fetch(&[&server.url]).unwrap();
        place.assert_whole();
    }
}

#[test]
fn a_wrong_beginning_is_thrown_away() {
    let server = good();
    let place = Place::new();
    place.begun(&[7; 500_000]);
    place.fetch(&[&server.url]).unwrap();
    place.assert_whole();
    assert_eq!(server.asked().len(), 2, "resumed once, then from the start");
}

#[test]
fn wrong_bytes_or_lengths_send_us_to_the_next_mirror_and_never_into_the_cache() {
    type Reply = fn(usize, &Asked) -> Answer;
    let wrong: [(&str, Reply); 4] = [
        ("bytes", |_, _| Answer::new(200, &vec![0; body().len()])),
        ("short", |_, _| Answer::new(200, &body()[1..])),
        ("long", |_, _| Answer::new(200, &[body(), vec![0]].concat())),
        ("missing", |_, _| Answer::new(404, b"")),
    ];
    for (name, reply) in wrong {
        let (bad, good) = (Server::new(reply), good());
        let place = Place::new();
        let error = place.fetch(&[&bad.url]).unwrap_err();
        assert!(
            matches!(error, MirrorError::EveryPlaceFailed { .. }),
            "{name}: {error}"
        );
        place.assert_clean();
        place.fetch(&[&bad.url, &good.url]).unwrap();
        place.assert_whole();
    }
}

#[test]
fn a_page_that_is_not_the_file_costs_nothing_that_was_fetched_before() {
    let start = body()[..500_000].to_vec();
    let page = || Answer::new(200, b"<html>this mirror is being renewed</html>");
    let (closed, empty) = (
        Server::new(move |_, _| page()),
        Server::new(move |_, asked| match asked.from() {
            Some(_) => Answer::new(416, b""),
            None => page(),
        }),
    );
    let good = good();
    let place = Place::new();
    place.begun(&start);
    place.fetch(&[&closed.url, &empty.url, &good.url]).unwrap();
    place.assert_whole();
    assert_eq!(good.asked()[0].from(), Some(500_000));
}

#[test]
fn a_secret_in_an_address_is_in_no_message() {
    let cut = Server::new(|_, asked| honest(asked, &body()).cut_after(1000));
    let gone = Server::new(|_, _| Answer::new(404, b""));
    let closed = "http://127.0.0.1:9".to_owned();
    for url in [&cut.url, &gone.url, &closed] {
        let events = Recorder::default();
        let place = Place::new();
        let mut download = place.download(&[]);
        download.urls = vec![format!("{url}/file?token=hush")];
        let error = place.run(&download, &events).unwrap_err();
        let said = format!("{error:?} {:?}", events.events());
        assert!(!said.contains("hush"), "{said}");
        assert!(said.contains(&format!("{url}/file")), "{said}");
    }
}

#[test]
fn a_busy_server_is_given_the_time_it_asks_for() {
    let server = Server::new(|number, asked| match number {
        0 => Answer::new(429, b"").with("Retry-After", "1"),
        1 => Answer::new(503, b""),
        _ => honest(asked, &body()),
    });
    let place = Place::new();
    let started = Instant::now();
    place.fetch(&[&server.url]).unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1));
    place.assert_whole();
}

#[test]
fn a_server_that_stays_broken_is_given_up() {
    let server = Server::new(|_, _| Answer::new(500, b""));
    let place = Place::new();
    let error = place.fetch(&[&server.url]).unwrap_err();
    assert!(error.to_string().contains("500"), "{error}");
    assert_eq!(server.asked().len(), 3);
    place.assert_clean();
}

#[test]
fn the_hub_gives_files_by_pages_and_its_token_stays_with_it() {
    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
    let config = b"hello\n";
    let git = "ce013625030ba8dba906f756967f9e9ca394464a";
    let other = Server::new(|_, _| Answer::new(200, b"hello\n"));
    let elsewhere = format!("{}/cdn", other.url);
    let weights = Digest::of(b"weights").hex();
    let hub = Server::new(move |_, asked| {
        if asked.path.contains("/revision/main") {
            return Answer::new(200, format!(r#"{{"sha":"{COMMIT}"}}"#).as_bytes());
        }
        if asked.path.contains("/resolve/") {
            return Answer::new(302, b"").with("Location", &elsewhere);
        }
        if asked.path.contains("cursor=2") {
            let page = format!(
                r#"[{{"type":"file","path":"m.safetensors","size":7,"oid":"{git}","lfs":{{"oid":"{weights}","size":7,"pointerSize":1}}}}]"#
            );
            return Answer::new(200, page.as_bytes());
        }
        let page = format!(
            r#"[{{"type":"directory","path":"d","oid":"{git}"}},{{"type":"file","path":"config.json","size":6,"oid":"{git}"}},{{"type":"file","path":"x.bin","size":6,"oid":"{git}"}}]"#
        );
        let next = format!(
            // As a mirror hands it on.
            "<https://hub.invalid{}?cursor=2>; rel=\"next\"",
            asked.path.split('?').next().unwrap()
        );
        Answer::new(200, page.as_bytes()).with("Link", &next)
    });
    let token = Secret::new("hf_secret\n");
    assert!(!format!("{token:?}").contains("hf_secret"));
    let web = Web::new(QUICK)
        .unwrap()
        .with_token(&hub.url, &token)
        .unwrap();
    let client = Hub::new(&web, &hub.url);
    let repo = RepoName::parse("org/model").unwrap();
    let commit = client.commit(HubKind::Model, &repo, "main").unwrap();
    assert_eq!(commit, COMMIT);
    let files = client
        .files(HubKind::Model, &repo, &commit, &[], &["*.bin".to_owned()])
        .unwrap();
    let paths: Vec<_> = files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["config.json", "m.safetensors"]);
    assert_eq!(files[1].lfs, Some(Digest::of(b"weights")));

    let place = Place::new();
    let url = client
        .file_url(HubKind::Model, &repo, &commit, "config.json")
        .unwrap();
    let taken = client
        .take_small(&url, &files[0], Some(&place.cache))
        .unwrap();
    assert_eq!(taken, Digest::of(config));
    assert!(
        hub.asked()
            .iter()
            .all(|a| a.header("authorization") == Some("Bearer hf_secret"))
    );
    assert!(
        other
            .asked()
            .iter()
            .all(|a| a.header("authorization").is_none())
    );
    assert_eq!(other.asked().len(), 1);
}

#[test]
fn a_refusal_of_the_hub_says_whether_the_repository_is_closed_or_not_there() {
    for (status, reason, code) in [
        (403, "GatedRepo", "mirror.gated"),
        (401, "GatedRepo", "mirror.gated"),
        (404, "RevisionNotFound", "mirror.hub"),
        (401, "RepoNotFound", "mirror.hub"),
    ] {
        let server = Server::new(move |_, _| Answer::new(status, b"").with("X-Error-Code", reason));
        let web = Web::new(QUICK).unwrap();
        let repo = RepoName::parse("org/model").unwrap();
        let hub = Hub::new(&web, &server.url);
        let error = hub.commit(HubKind::Model, &repo, "main").unwrap_err();
        assert_eq!(error.code(), code);
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn all_downloads_together_keep_to_the_rate() {
    let server = Server::new(|_, asked| honest(asked, &vec![asked.path.as_bytes()[1]; 300_000]));
    let place = Place::new();
    let downloads: Vec<Download> = (b'a'..=b'd')
        .map(|letter| Download {
            digest: Digest::of(&vec![letter; 300_000]),
            size: 300_000,
            file_name: char::from(letter).to_string(),
            urls: vec![format!("{}/{}", server.url, char::from(letter))],
            git_sha1: None,
            headers: Vec::new(),
            secret_headers: Vec::new(),
            registry: false,
        })
        .collect();
    let web = Web::new(QUICK).unwrap();
    let limit = RateLimit::new(1_200_000);
    let downloader = Downloader {
        web: &web,
        cache: &place.cache,
        rewrites: &[],
        limit: Some(&limit),
    };
    let started = Instant::now();
    downloader.fetch_all(&downloads, 4, &Silent).unwrap();
    assert!(
        started.elapsed() >= Duration::from_millis(990),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn a_header_for_one_host_is_not_shown_to_another_and_a_plain_one_goes_along() {
    let storage = good();
    let elsewhere = format!("{}/object", storage.url);
    let vendor = Server::new(move |_, _| Answer::new(302, b"").with("Location", &elsewhere));
    let place = Place::new();
    let body = body();
    let download = Download {
        digest: Digest::of(&body),
        size: body.len() as u64,
        file_name: "driver.run".to_owned(),
        urls: vec![format!("{}/driver.run", vendor.url)],
        git_sha1: None,
        headers: vec![("Referer".to_owned(), "https://vendor.example/".to_owned())],
        secret_headers: vec![("X-Token".to_owned(), Secret::new("hush"))],
        registry: false,
    };
    let web = Web::new(QUICK).unwrap();
    let downloader = Downloader {
        web: &web,
        cache: &place.cache,
        rewrites: &[],
        limit: None,
    };
    downloader.fetch(&download, &Silent).unwrap();
    let (first, second) = (&vendor.asked()[0], &storage.asked()[0]);
    assert_eq!(
        (first.header("x-token"), second.header("x-token")),
        (Some("hush"), None)
    );
    assert_eq!(second.header("referer"), Some("https://vendor.example/"));
}
