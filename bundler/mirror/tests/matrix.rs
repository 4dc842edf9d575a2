//! Every protocol against every fault: what comes whole all the same, what is an error and which, and never a file in the
//! cache that is not what its name says.

#![allow(
    clippy::unwrap_used,
    clippy::pedantic,
    unreachable_pub,
    reason = "a test says what it expects by unwrapping"
)]

mod server;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use bundle_mirror::{
    Cache, Distribution, Download, Downloader, Filter, Hub, HubFile, HubKind, ModelScope,
    PackageIndex, Patience, Registry, Verifier, Wanted, Web,
};
use manifest_schema::plan::{ArchiveKind, OciSource};
use manifest_schema::{Arch, Digest, RepoName};
use report::{Silent, Trouble};
use serde_json::json;
use server::{Answer, Asked, Server, honest};

const PATIENCE: Patience = Patience {
    attempts: 8,
    first_pause: Duration::from_millis(1),
    longest_pause: Duration::from_millis(2),
    silence: Duration::from_millis(400),
    slowest: 1,
};

fn body() -> Vec<u8> {
    (0..50_000_u32).flat_map(u32::to_le_bytes).collect()
}

/// How files are asked for: first a document that names one, then its bytes.
#[derive(Clone, Copy)]
struct Protocol {
    answer: fn(&Asked) -> Answer,
    /// Reads the document and fetches the file.
    fetch: fn(&Web, &str, &Cache) -> Result<Digest, Trouble>,
    /// Where the bytes lie; all else is a document.
    bytes: &'static str,
    /// Codes of the errors for a document that is garbage, or is not there.
    garbage: &'static str,
    absent: &'static str,
    /// Codes for wrong bytes, too few, too many, bytes that are not there or not to be had, redirects without an end.
    file: [&'static str; 6],
}

/// A file that the downloader fetches: whatever a place does, the next one is asked.
const FETCHED: [&str; 6] = ["mirror.every-place-failed"; 6];

fn fetch(web: &Web, cache: &Cache, url: String, registry: bool) -> Result<Digest, Trouble> {
    let body = body();
    let download = Download {
        digest: Digest::of(&body),
        size: body.len() as u64,
        file_name: "file".to_owned(),
        urls: vec![url],
        git_sha1: None,
        headers: Vec::new(),
        secret_headers: Vec::new(),
        registry,
    };
    let downloader = Downloader {
        web,
        cache,
        rewrites: &[],
        limit: None,
    };
    downloader.fetch_all(&[download], 2, &Silent)?;
    Ok(Digest::of(&body))
}

fn repo() -> RepoName {
    RepoName::parse("org/model").unwrap()
}

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

const HTTPS: Protocol = Protocol {
    answer: |asked| honest(asked, &body()),
    fetch: |web, url, cache| {
        let url = format!("{url}/bytes");
        bundle_mirror::size_of(web, &url)?;
        fetch(web, cache, url, false)
    },
    bytes: "/bytes",
    // The size is asked for first, at the same place.
    garbage: "",
    absent: "",
    file: [
        "mirror.every-place-failed",
        "mirror.every-place-failed",
        "mirror.every-place-failed",
        "mirror.status",
        "mirror.status",
        "mirror.redirect",
    ],
};

fn git_name(bytes: &[u8]) -> String {
    use sha1::Digest as _;
    let mut git = sha1::Sha1::new();
    git.update(format!("blob {}\0", bytes.len()));
    git.update(bytes);
    git.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

fn hub(asked: &Asked, large: bool) -> Answer {
    let (body, path) = (body(), asked.path.split('?').next().unwrap());
    if path.contains("/revision/main") {
        return Answer::new(200, json!({ "sha": COMMIT }).to_string().as_bytes());
    }
    if path.contains("/tree/") {
        let mut entry =
            json!({ "type": "file", "path": "a", "size": body.len(), "oid": git_name(&body) });
        if large {
            entry["lfs"] =
                json!({ "oid": Digest::of(&body).hex(), "size": body.len(), "pointerSize": 9 });
        }
        return Answer::new(200, json!([entry]).to_string().as_bytes());
    }
    honest(asked, &body)
}

fn hub_file(web: &Web, url: &str) -> Result<(String, HubFile), Trouble> {
    let hub = Hub::new(web, url);
    let commit = hub.commit(HubKind::Model, &repo(), "main")?;
    let mut files = hub.files(HubKind::Model, &repo(), &commit, &[], &[])?;
    let file = files.remove(0);
    let url = hub.file_url(HubKind::Model, &repo(), &commit, &file.path)?;
    Ok((url, file))
}

const HUB: Protocol = Protocol {
    answer: |asked| hub(asked, true),
    fetch: |web, url, cache| {
        let (url, _) = hub_file(web, url)?;
        fetch(web, cache, url, false)
    },
    bytes: "/resolve/",
    garbage: "mirror.answer",
    absent: "mirror.hub",
    file: FETCHED,
};

/// Files in git itself, which are fetched while a plan is locked.
const HUB_SMALL: Protocol = Protocol {
    answer: |asked| hub(asked, false),
    fetch: |web, url, cache| {
        let (at, file) = hub_file(web, url)?;
        Ok(Hub::new(web, url).take_small(&at, &file, Some(cache))?)
    },
    file: [
        "mirror.digest-differs",
        "mirror.digest-differs",
        "mirror.answer",
        "mirror.status",
        "mirror.status",
        "mirror.redirect",
    ],
    ..HUB
};

const MODELSCOPE: Protocol = Protocol {
    answer: |asked| {
        let body = body();
        if asked.path.contains("/repo/files") {
            let file = json!({ "Path": "a", "Type": "blob", "Size": body.len(), "Sha256": Digest::of(&body).hex() });
            let listing = json!({ "Success": true, "Data": { "Files": [file] } });
            return Answer::new(200, listing.to_string().as_bytes());
        }
        honest(asked, &body)
    },
    fetch: |web, url, cache| {
        let scope = ModelScope::new(web, url);
        let all = Filter::new(&[], &[])?;
        let files = scope.files(HubKind::Model, &repo(), "master", &all)?;
        let url = scope.file_url(HubKind::Model, &repo(), "master", &files[0].path)?;
        fetch(web, cache, url, false)
    },
    bytes: "FilePath=a",
    garbage: "mirror.answer",
    absent: "mirror.hub",
    file: FETCHED,
};

const PYPI: Protocol = Protocol {
    answer: |asked| {
        let body = body();
        if asked.path.contains("/simple/") {
            let file = json!({ "filename": "a-1-py3-none-any.whl", "url": "/files/a.whl",
                "size": body.len(), "hashes": { "sha256": Digest::of(&body).hex() } });
            let page = json!({ "files": [file] }).to_string();
            return Answer::new(200, page.as_bytes())
                .with("Content-Type", "application/vnd.pypi.simple.v1+json");
        }
        honest(asked, &body)
    },
    fetch: |web, url, cache| {
        let index = PackageIndex::new(web, &format!("{url}/simple"));
        let file = index.find("a", "1", ArchiveKind::Wheel, None)?;
        fetch(web, cache, file.url, false)
    },
    bytes: "/files/",
    garbage: "mirror.answer",
    absent: "mirror.status",
    file: FETCHED,
};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

const REGISTRY: Protocol = Protocol {
    answer: |asked| {
        let body = body();
        let config = json!({ "architecture": "amd64", "os": "linux",
            "rootfs": { "type": "layers", "diff_ids": [Digest::of(b"x")] } });
        let config = config.to_string();
        let entry = |kind: &str, bytes: &[u8]| json!({ "mediaType": kind, "digest": Digest::of(bytes), "size": bytes.len() });
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST,
            "config": entry("application/vnd.oci.image.config.v1+json", config.as_bytes()),
            "layers": [entry("application/vnd.oci.image.layer.v1.tar", &body)] });
        let manifest = manifest.to_string();
        if asked.path.contains("/manifests/") {
            return Answer::new(200, manifest.as_bytes())
                .with("Content-Type", MANIFEST)
                .with(
                    "Docker-Content-Digest",
                    &Digest::of(manifest.as_bytes()).to_string(),
                );
        }
        if asked
            .path
            .ends_with(&Digest::of(config.as_bytes()).to_string())
        {
            return honest(asked, config.as_bytes());
        }
        honest(asked, &body)
    },
    fetch: |web, url, cache| {
        let source = OciSource {
            endpoint: Some(url.to_owned()),
            ..OciSource::default()
        };
        let name = "registry.example/demo/app".parse().unwrap();
        let registry = Registry::new(web, &name, &source, &Silent)?;
        let wanted = Wanted {
            platforms: &[],
            referrers: false,
        };
        let taken = registry.take(Some(&"1".parse().unwrap()), None, wanted)?;
        let layer = &taken.platforms[0].layers[0];
        fetch(web, cache, registry.urls(layer).remove(0), true)
    },
    // The end of the layer's digest is added by the test.
    bytes: "LAYER",
    // The header says another digest.
    garbage: "mirror.digest-differs",
    absent: "mirror.no-image",
    file: FETCHED,
};

fn distribution(web: &Web, cache: &Cache, plan: serde_json::Value) -> Result<Digest, Trouble> {
    let distribution = Distribution {
        web,
        verifier: Verifier::new(std::path::Path::new("gpgv"), &[])?,
        now: SystemTime::now(),
    };
    let plan = serde_json::from_value(plan).unwrap();
    let catalogue = distribution.read(&plan, Arch::Aarch64, 0)?;
    let offer = catalogue.packages[0].offer.as_ref().unwrap();
    fetch(web, cache, catalogue.urls(offer).remove(0), false)
}

const DEB: Protocol = Protocol {
    answer: |asked| {
        let body = body();
        let packages = format!(
            "Package: a\nVersion: 1\nArchitecture: arm64\nFilename: pool/a.deb\nSize: {}\nSHA256: {}\n",
            body.len(),
            Digest::of(&body).hex()
        );
        match asked.path.as_str() {
            "/dists/x/Release" => {
                let list = format!(
                    "SHA256:\n {} {} main/binary-arm64/Packages\n",
                    Digest::of(packages.as_bytes()).hex(),
                    packages.len()
                );
                Answer::new(200, list.as_bytes())
            }
            "/dists/x/main/binary-arm64/Packages" => Answer::new(200, packages.as_bytes()),
            "/pool/a.deb" => honest(asked, &body),
            _ => Answer::new(404, b""),
        }
    },
    fetch: |web, url, cache| {
        let deb = json!({ "uri": url, "suite": "x", "components": ["main"], "unsafe_accept_unsigned_metadata": true });
        distribution(web, cache, json!({ "deb": deb }))
    },
    bytes: "/pool/",
    garbage: "packages.metadata",
    absent: "mirror.status",
    file: FETCHED,
};

const RPM: Protocol = Protocol {
    answer: |asked| {
        let body = body();
        let primary = format!(
            "<metadata><package type='rpm'><name>a</name><arch>noarch</arch><version epoch='0' ver='1' rel='1'/>\
             <checksum type='sha256'>{}</checksum><size package='{}'/><location href='Packages/a.rpm'/></package></metadata>",
            Digest::of(&body).hex(),
            body.len()
        );
        match asked.path.as_str() {
            "/repodata/repomd.xml" => {
                let list = format!(
                    "<repomd><data type='primary'><checksum type='sha256'>{}</checksum>\
                     <location href='repodata/p.xml'/></data></repomd>",
                    Digest::of(primary.as_bytes()).hex()
                );
                Answer::new(200, list.as_bytes())
            }
            "/repodata/p.xml" => Answer::new(200, primary.as_bytes()),
            "/Packages/a.rpm" => honest(asked, &body),
            _ => Answer::new(404, b""),
        }
    },
    fetch: |web, url, cache| {
        let rpm = json!({ "base_url": url, "unsafe_accept_unsigned_metadata": true });
        distribution(web, cache, json!({ "rpm": rpm }))
    },
    bytes: "/Packages/",
    garbage: "packages.metadata",
    absent: "mirror.status",
    file: FETCHED,
};

/// What becomes of the `number`th answer to a question.
type Fault = fn(usize, &Asked, Answer) -> Answer;

/// Faults that a download gets over.
const PASSING: [(&str, Fault); 10] = [
    ("none", |_, _, answer| answer),
    ("cut half-way", |number, _, answer| {
        let half = answer.body.len() / 2;
        if number == 0 {
            answer.cut_after(half)
        } else {
            answer
        }
    }),
    ("silent half-way", |number, _, answer| {
        let half = answer.body.len() / 2;
        if number == 0 {
            answer.hang_after(half)
        } else {
            answer
        }
    }),
    ("no answer", |number, _, answer| match number {
        0 => Answer::never(),
        _ => answer,
    }),
    ("429", |number, _, answer| match number {
        0 => Answer::new(429, b"").with("Retry-After", "0"),
        _ => answer,
    }),
    ("500", |number, _, answer| match number {
        0 => Answer::new(500, b"<html>"),
        1 => Answer::new(503, b""),
        _ => answer,
    }),
    ("cut, and no ranges", |number, asked, answer| {
        let whole = match asked.from() {
            Some(from) if from > 0 => Answer::new(200, &body()),
            _ => answer,
        };
        let half = whole.body.len() / 2;
        if number == 0 {
            whole.cut_after(half)
        } else {
            whole
        }
    }),
    ("another ETag each time", |number, _, answer| {
        let half = answer.body.len() / 2;
        let answer = answer.with("ETag", &format!("\"{number}\""));
        if number == 0 {
            answer.cut_after(half)
        } else {
            answer
        }
    }),
    ("redirect", |_, asked, answer| {
        match asked.path.contains("moved=1") {
            true => answer,
            false => {
                let mark = if asked.path.contains('?') { '&' } else { '?' };
                Answer::new(302, b"").with("Location", &format!("{}{mark}moved=1", asked.path))
            }
        }
    }),
    ("a page to wait on, once", |number, asked, answer| {
        // After half of the file: what came must not be thrown away for it.
        let half = answer.body.len() / 2;
        match number {
            0 => answer.cut_after(half),
            1 if asked.from().is_some_and(|from| from > 0) => Answer::new(503, b"come back"),
            _ => answer,
        }
    }),
];

/// Faults that stay.
const LASTING: [(&str, Fault); 6] = [
    ("wrong bytes", |_, _, answer| {
        let wrong = vec![b'{'; answer.body.len()];
        Answer {
            body: wrong,
            ..answer
        }
    }),
    ("too few bytes", |_, _, answer| {
        let mut answer = answer;
        answer.body.pop();
        answer
    }),
    ("too many bytes", |_, _, answer| {
        let mut answer = answer;
        answer.body.push(0);
        answer
    }),
    ("not there", |_, _, _| Answer::new(404, b"")),
    ("broken", |_, _, _| Answer::new(500, b"")),
    ("redirects without an end", |_, asked, _| {
        Answer::new(302, b"").with("Location", &asked.path)
    }),
];

/// Where a fault strikes.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    All,
    Documents,
    Bytes,
}

/// Fetches from a server with a fault; says the code of the error. The cache is never wrong.
fn run(protocol: Protocol, fault: Fault, part: Part) -> Result<(), String> {
    let counts: Mutex<BTreeMap<String, usize>> = Mutex::default();
    let layer = Digest::of(&body()).to_string();
    let server = Server::new(move |_, asked| {
        let plain = asked.path.replace("?moved=1", "").replace("&moved=1", "");
        let is_bytes = asked.path.contains(protocol.bytes)
            || protocol.bytes == "LAYER" && plain.ends_with(&layer);
        let number = {
            let mut counts = counts.lock().unwrap();
            let count = counts.entry(asked.path.clone()).or_default();
            *count += 1;
            *count - 1
        };
        let honest = (protocol.answer)(&Asked {
            path: plain,
            ..asked.clone()
        });
        let strikes = match part {
            Part::All => true,
            Part::Documents => !is_bytes,
            Part::Bytes => is_bytes,
        };
        if strikes {
            fault(number, asked, honest)
        } else {
            honest
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path()).unwrap();
    let web = Web::new(PATIENCE).unwrap();
    let fetched = (protocol.fetch)(&web, &server.url, &cache);
    assert!(cache.verify(1, &Silent).unwrap().is_empty());
    match fetched {
        Ok(digest) => {
            assert!(std::fs::read(cache.path(&digest)).unwrap() == body());
            Ok(())
        }
        Err(trouble) => {
            assert!(!cache.path(&Digest::of(&body())).exists());
            Err(trouble.diagnose().code().to_owned())
        }
    }
}

fn all_faults(protocol: Protocol) {
    for (name, fault) in PASSING {
        assert_eq!(run(protocol, fault, Part::All), Ok(()), "{name}");
    }
    for ((name, fault), code) in LASTING.into_iter().zip(protocol.file) {
        let found = run(protocol, fault, Part::Bytes);
        assert_eq!(found, Err(code.to_owned()), "the file: {name}");
    }
    if protocol.garbage.is_empty() {
        return;
    }
    for ((name, fault), code) in LASTING.into_iter().zip([
        Some(protocol.garbage),
        // What is one byte short or long may still say what it says, as far as nobody pinned it.
        None,
        None,
        Some(protocol.absent),
        Some("mirror.status"),
        Some("mirror.redirect"),
    ]) {
        let found = run(protocol, fault, Part::Documents);
        if let Some(code) = code {
            assert_eq!(found, Err(code.to_owned()), "the document: {name}");
        }
    }
}

macro_rules! every_fault {
    ($($name:ident $protocol:ident)*) => {
        $(#[test]
        fn $name() {
            all_faults($protocol);
        })*
    };
}

every_fault! {
    files_by_address HTTPS
    large_files_of_the_hub HUB
    small_files_of_the_hub HUB_SMALL
    files_of_modelscope MODELSCOPE
    wheels_of_an_index PYPI
    layers_of_a_registry REGISTRY
    packages_of_debian DEB
    packages_of_rpm RPM
}
