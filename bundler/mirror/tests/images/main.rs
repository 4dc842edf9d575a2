//! Container registries: what they do, what they do wrong, and what becomes of an image.

#![allow(
    clippy::unwrap_used,
    clippy::pedantic,
    unreachable_pub,
    reason = "a test says what it expects by unwrapping"
)]

mod logins;
mod pull;
#[path = "../registry/mod.rs"]
mod registry;
#[path = "../server/mod.rs"]
mod server;

use std::process::Command;
use std::time::{Duration, Instant};

use bundle_mirror::{Cache, Taken};
use manifest_schema::Digest;
use pull::{Pull, digest, of, web};
use registry::{INDEX, LAYER, MANIFEST, Shelf, descriptor, layer, unknown};
use report::Diagnose as _;
use serde_json::{Value, json};
use server::{Answer, Asked, Server, honest};

#[track_caller]
fn fails(shelf: Shelf, code: &str, expected: &str) {
    let server = shelf.serve();
    let web = web();
    let mut pull = Pull::of(&web, &[&server.url]);
    pull.referrers = true;
    let error = pull.take().unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    assert!(error.to_string().contains(expected), "{expected}: {error}");
}

#[test]
fn an_index_is_kept_as_it_is_and_its_platforms_are_taken_by_name() {
    let mut shelf = Shelf::default();
    let root = shelf.both("1");
    let bytes = shelf.manifests["1"].1.clone();
    let server = shelf.serve();
    let web = web();
    let mut pull = Pull::of(&web, &[&server.url]);
    let taken = pull.take().unwrap();
    assert_eq!(taken.root, of(&root));
    assert_eq!(taken.documents[0], (digest(&root), bytes));
    let names: Vec<_> = taken
        .platforms
        .iter()
        .map(|p| p.platform.as_str())
        .collect();
    assert_eq!(names, ["linux/amd64", "linux/arm64"]);
    assert_eq!(
        taken.platforms[1].layers[0].digest,
        Digest::of(&layer("arm64"))
    );
    assert!(
        server
            .asked()
            .iter()
            .all(|asked| !asked.path.contains("/blobs/")
                || taken
                    .platforms
                    .iter()
                    .any(|p| asked.path.contains(&p.config.digest.to_string()))),
        "no layer is fetched while locking"
    );

    pull.platforms = &["linux/arm64/v8"];
    let taken = pull.take().unwrap();
    assert_eq!((taken.platforms.len(), taken.root), (1, of(&root)));
    pull.platforms = &["linux/s390x"];
    let error = pull.take().unwrap_err();
    assert_eq!(error.code(), "mirror.no-platform");
    assert!(
        error.to_string().contains("linux/amd64, linux/arm64"),
        "{error}"
    );
    pull.platforms = &[];
    pull.digest = Some(digest(&root));
    assert_eq!(pull.take().unwrap().root, of(&root));
}

/// A registry whose layer misbehaves, and everything else does not.
fn with_layer(reply: impl Fn(usize, &Asked) -> Answer + Send + Sync + 'static) -> Server {
    let mut shelf = Shelf::default();
    shelf.image("amd64", Some("1"));
    let wanted = Digest::of(&layer("amd64")).to_string();
    let count = std::sync::atomic::AtomicUsize::new(0);
    Server::new(move |_, asked| {
        if asked.path.ends_with(&wanted) {
            let number = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            return reply(number, asked);
        }
        shelf.answer(asked)
    })
}

#[test]
fn a_layer_that_is_cut_off_late_or_served_from_the_start_again_comes_whole() {
    type Reply = fn(usize, &Asked) -> Answer;
    let body = || layer("amd64");
    let replies: [(&str, Reply); 4] = [
        ("cut", |number, asked| {
            let answer = honest(asked, &layer("amd64"));
            if number == 0 {
                answer.cut_after(700_000)
            } else {
                answer
            }
        }),
        ("cut, and no ranges", |number, _| {
            let answer = Answer::new(200, &layer("amd64"));
            if number == 0 {
                answer.cut_after(700_000)
            } else {
                answer
            }
        }),
        ("busy", |number, asked| match number {
            0 => Answer::new(429, b"").with("Retry-After", "1"),
            1 => Answer::new(503, b""),
            _ => honest(asked, &layer("amd64")),
        }),
        ("slow to say no", |number, asked| match number {
            0 => Answer::new(502, b"<html>"),
            _ => honest(asked, &layer("amd64")),
        }),
    ];
    for (name, reply) in replies {
        let server = with_layer(reply);
        let web = web();
        let pull = Pull::of(&web, &[&server.url]);
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let started = Instant::now();
        pull.fetch(&of(&descriptor(LAYER, &body())), &cache)
            .unwrap();
        let found = std::fs::read(cache.path(&Digest::of(&body()))).unwrap();
        assert!(found == body(), "{name}");
        assert!(name != "busy" || started.elapsed() >= Duration::from_secs(1));
        let again = server.asked().iter().any(|asked| asked.from().is_some());
        assert_eq!(again, name.starts_with("cut"), "{name}");
    }
}

#[test]
fn wrong_bytes_of_a_layer_send_us_to_the_next_mirror_and_never_into_the_cache() {
    type Reply = fn(usize, &Asked) -> Answer;
    let wrong: [(&str, Reply); 5] = [
        ("bytes", |_, _| {
            Answer::new(200, &vec![0; layer("amd64").len()])
        }),
        ("short", |_, _| Answer::new(200, &layer("amd64")[1..])),
        ("long", |_, _| {
            Answer::new(200, &[layer("amd64"), vec![0]].concat())
        }),
        ("gone", |_, _| unknown("BLOB_UNKNOWN")),
        ("broken", |_, _| Answer::new(500, b"")),
    ];
    for (name, reply) in wrong {
        let (bad, good) = (
            with_layer(reply),
            with_layer(|_, asked| honest(asked, &layer("amd64"))),
        );
        let web = web();
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let blob = of(&descriptor(LAYER, &layer("amd64")));
        let error = Pull::of(&web, &[&bad.url])
            .fetch(&blob, &cache)
            .unwrap_err();
        assert!(
            error.to_string().contains(&blob.digest.to_string()),
            "{name}: {error}"
        );
        assert!(
            name != "gone" || error.to_string().contains("BLOB_UNKNOWN"),
            "{error}"
        );
        assert!(!cache.path(&blob.digest).exists());
        Pull::of(&web, &[&bad.url, &good.url])
            .fetch(&blob, &cache)
            .unwrap();
        assert!(
            std::fs::read(cache.path(&blob.digest)).unwrap() == layer("amd64"),
            "{name}"
        );
    }
}

#[test]
fn a_manifest_that_is_not_what_was_asked_for_comes_from_the_next_mirror() {
    let mut shelf = Shelf::default();
    let root = shelf.both("1");
    let good = shelf.clone().serve();
    let mut other = Shelf::default();
    other.image("riscv64", Some("1"));
    let (kind, bytes) = other.manifests["1"].clone();
    let lies = Server::new({
        let shelf = shelf.clone();
        move |_, asked| match asked.path.contains("sha256:") {
            // Another image under the digest that was asked for.
            true => Answer::new(200, &bytes).with("Content-Type", &kind),
            false => shelf.answer(asked),
        }
    });
    let headed = Server::new(move |_, asked| {
        let mut answer = shelf.answer(asked);
        answer
            .headers
            .retain(|(name, _)| name != "Docker-Content-Digest");
        answer.with("Docker-Content-Digest", &Digest::of(b"else").to_string())
    });
    let web = web();
    let error = Pull::of(&web, &[&lies.url]).take().unwrap_err();
    assert_eq!(error.code(), "mirror.digest-differs", "{error}");
    let error = Pull::of(&web, &[&headed.url]).take().unwrap_err();
    assert_eq!(error.code(), "mirror.digest-differs", "{error}");
    for bad in [&lies, &headed] {
        let taken = Pull::of(&web, &[&bad.url, &good.url]).take().unwrap();
        assert_eq!(taken.root, of(&root));
    }
}

#[test]
fn what_is_gone_is_named_and_a_page_for_people_is_no_image() {
    let empty = Shelf::default().serve();
    let page = Server::new(|_, _| {
        Answer::new(200, b"<html>log in</html>").with("Content-Type", "text/html")
    });
    let web = web();
    let mut pull = Pull::of(&web, &[&empty.url]);
    let error = pull.take().unwrap_err();
    assert_eq!(error.code(), "mirror.no-image");
    assert!(
        error.to_string().contains("registry.example/demo/app:1"),
        "{error}"
    );
    assert!(
        error.to_string().contains("MANIFEST_UNKNOWN: not here"),
        "{error}"
    );
    let gone = Digest::of(b"gone");
    pull.digest = Some(gone);
    let error = pull.take().unwrap_err();
    assert!(error.to_string().contains(&format!("@{gone}")), "{error}");
    let error = Pull::of(&web, &[&page.url]).take().unwrap_err();
    assert_eq!(error.code(), "mirror.image", "{error}");
}

#[test]
fn hostile_documents_are_refused_each_with_its_reason() {
    let mut nested = Shelf::default();
    let inner = nested.both("x");
    let mut entry = inner.clone();
    entry["platform"] = json!({ "architecture": "amd64", "os": "linux" });
    nested.index(&[entry], Some("1"));
    fails(nested, "mirror.image", "index within an index");

    let mut huge = Shelf::default();
    let mut manifest =
        json!({ "schemaVersion": 2, "config": descriptor(INDEX, b""), "layers": [] });
    manifest["annotations"] = json!({ "a": "x".repeat(5 << 20) });
    huge.manifest(MANIFEST, &manifest, Some("1"));
    fails(huge, "mirror.answer", "more than");

    let mut sized = Shelf::default();
    let mut entry = sized.image("amd64", None);
    entry["size"] = (entry["size"].as_u64().unwrap() + 1).into();
    sized.index(&[entry.clone()], Some("1"));
    fails(sized.clone(), "mirror.size-differs", "bytes");
    entry["size"] = (1_u64 << 40).into();
    sized.index(&[entry], Some("1"));
    fails(sized, "mirror.image", "documents have less");

    let mut without = Shelf::default();
    without.image("amd64", Some("1"));
    without
        .blobs
        .retain(|_, bytes| bytes.starts_with(b"0") || bytes.len() > 10_000);
    fails(without, "mirror.no-image", "BLOB_UNKNOWN");

    let mut old = Shelf::default();
    let schema1 = json!({ "schemaVersion": 1, "name": "demo/app", "fsLayers": [], "history": [] });
    let kind = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    old.manifest(kind, &schema1, Some("1"));
    fails(old, "mirror.image", "schema 1");

    let mut windows = Shelf::default();
    windows.image("amd64", Some("1"));
    let (_, bytes) = windows.manifests["1"].clone();
    let mut manifest: Value = serde_json::from_slice(&bytes).unwrap();
    manifest["layers"][0]["mediaType"] =
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".into();
    windows.manifest(MANIFEST, &manifest, Some("1"));
    fails(windows, "mirror.image", "handed on");

    let mut chart = Shelf::default();
    let config = chart.blob("application/vnd.cncf.helm.config.v1+json", b"{}".to_vec());
    let chart_manifest = json!({ "schemaVersion": 2, "config": config, "layers": [] });
    chart.manifest(MANIFEST, &chart_manifest, Some("1"));
    fails(chart, "mirror.image", "helm");

    let mut empty = Shelf::default();
    empty.index(&[], Some("1"));
    fails(empty, "mirror.image", "no platform");

    let mut liar = Shelf::default();
    let entry = liar.image("amd64", Some("1"));
    let other = liar.image("arm64", None);
    let about_other = liar.attached(&other, "signature", None);
    liar.referrers = Some([(digest(&entry).to_string(), vec![about_other])].into());
    fails(liar, "mirror.image", "does not speak of");
}

#[test]
fn a_content_type_that_says_nothing_does_no_harm_and_one_that_lies_is_refused() {
    for (kind, code) in [
        ("text/plain", None),
        (
            "application/vnd.oci.image.manifest.v1+json; charset=utf-8",
            None,
        ),
        (INDEX, Some("mirror.image")),
        (
            "application/vnd.docker.distribution.manifest.v2+json",
            Some("mirror.image"),
        ),
    ] {
        let mut shelf = Shelf::default();
        shelf.image("amd64", Some("1"));
        shelf.manifests.get_mut("1").unwrap().0 = kind.to_owned();
        let server = shelf.serve();
        let web = web();
        let taken = Pull::of(&web, &[&server.url]).take();
        assert_eq!(taken.as_ref().err().map(|e| e.code()), code, "{kind}");
    }
}

#[test]
fn what_speaks_of_an_image_is_found_in_every_way_that_it_is_kept() {
    let mut shelf = Shelf::default();
    let root = shelf.both("1");
    let arm = shelf.image("arm64", None);
    let bill = shelf.attached(&root, "sbom", None);
    let signature = shelf.attached(&bill, "signature", None);
    let about_arm = shelf.attached(&arm, "scan", None);
    let tag = format!("sha256-{}.sig", digest(&root).hex());
    let cosign = shelf.attached(&root, "cosign", Some(&tag));
    let lists = [(&root, &bill), (&bill, &signature), (&arm, &about_arm)];
    let expected = |taken: &Taken, names: &[&Value]| {
        let found: Vec<_> = taken
            .attached
            .iter()
            .map(|one| one.manifest.digest)
            .collect();
        let names: Vec<_> = names.iter().map(|name| digest(name)).collect();
        assert_eq!(found, names, "{:#?}", taken.attached);
    };

    let mut by_api = shelf.clone();
    let known = lists.map(|(subject, one)| (digest(subject).to_string(), vec![one.clone()]));
    by_api.referrers = Some(known.into());
    let mut by_tag = shelf.clone();
    for (subject, one) in lists {
        let tag = format!("sha256-{}", digest(subject).hex());
        by_tag.index(std::slice::from_ref(one), Some(&tag));
    }
    for shelf in [by_api, by_tag] {
        let server = shelf.serve();
        let web = web();
        let mut pull = Pull::of(&web, &[&server.url]);
        expected(&pull.take().unwrap(), &[]);
        pull.referrers = true;
        let taken = pull.take().unwrap();
        expected(&taken, &[&bill, &cosign, &about_arm, &signature]);
        let signed = &taken.attached[1];
        assert_eq!(signed.tag.as_ref().unwrap().as_str(), tag);
        assert_eq!((signed.subject, signed.blobs.len()), (digest(&root), 2));
        assert_eq!(taken.attached[3].subject, digest(&bill));
    }
}

#[test]
fn attestations_that_stand_in_the_index_are_taken_on_request() {
    let mut shelf = Shelf::default();
    let image = shelf.image("amd64", None);
    let mut attestation = shelf.attached(&image, "provenance", Some("unused"));
    attestation["platform"] = json!({ "architecture": "unknown", "os": "unknown" });
    attestation["annotations"] = json!({ "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": image["digest"] });
    shelf.index(&[image, attestation.clone()], Some("1"));
    let server = shelf.serve();
    let web = web();
    let mut pull = Pull::of(&web, &[&server.url]);
    let taken = pull.take().unwrap();
    assert_eq!((taken.platforms.len(), taken.attached.len()), (1, 0));
    pull.referrers = true;
    assert_eq!(
        pull.take().unwrap().attached[0].manifest.digest,
        digest(&attestation)
    );
}

#[test]
fn a_list_of_referrers_goes_on_over_pages_and_one_without_an_end_is_refused() {
    let mut shelf = Shelf::default();
    let root = shelf.image("amd64", Some("1"));
    let first = shelf.attached(&root, "a", None);
    let second = shelf.attached(&root, "b", None);
    let page = |entries: &[Value]| {
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
        Answer::new(200, index.to_string().as_bytes()).with("Content-Type", INDEX)
    };
    for endless in [false, true] {
        let (shelf, first, second) = (shelf.clone(), first.clone(), second.clone());
        let subject = digest(&root).to_string();
        let server = Server::new(move |_, asked| {
            let next = format!("</v2/demo/app/referrers/{subject}?n=2>; rel=\"next\"");
            match asked.path.split_once("/referrers/") {
                None => shelf.answer(asked),
                Some((_, name)) if !name.starts_with(&subject) => page(&[]),
                Some((_, name)) if name.contains("n=2") && !endless => {
                    page(std::slice::from_ref(&second))
                }
                Some(_) => page(std::slice::from_ref(&first)).with("Link", &next),
            }
        });
        let web = web();
        let mut pull = Pull::of(&web, &[&server.url]);
        pull.referrers = true;
        match pull.take() {
            Ok(taken) => assert_eq!((taken.attached.len(), endless), (2, false)),
            Err(error) => assert!(
                endless && error.to_string().contains("does not end"),
                "{error}"
            ),
        }
    }
}

#[test]
fn the_registry_of_these_tests_speaks_the_protocol() {
    let mut shelf = Shelf::default();
    // A layer that skopeo can unpack to check it.
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &[0; 1024]).unwrap();
    let layer = shelf.blob(LAYER, gzip.finish().unwrap());
    let config = json!({ "architecture": "amd64", "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [Digest::of(&[0; 1024])] } });
    let config = shelf.blob(registry::CONFIG, config.to_string().into_bytes());
    let manifest =
        json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] });
    let expected = shelf.manifest(MANIFEST, &manifest, Some("1"));
    let server = shelf.serve();
    let folder = tempfile::tempdir().unwrap();
    let from = format!(
        "docker://{}/demo/app:1",
        server.url.trim_start_matches("http://")
    );
    let to = format!("oci:{}:x", folder.path().join("copy").display());
    let copied = Command::new("skopeo")
        .args([
            "--insecure-policy",
            "copy",
            "--src-tls-verify=false",
            &from,
            &to,
        ])
        .output();
    let copied = match copied {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("SKIPPED: skopeo is not here, so nobody else has read this registry");
            return;
        }
        copied => copied.unwrap(),
    };
    let said = String::from_utf8_lossy(&copied.stderr);
    assert!(copied.status.success(), "{said}");
    let index = std::fs::read(folder.path().join("copy/index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    assert_eq!(index["manifests"][0]["digest"], expected["digest"]);
}
