//! Images in layouts and in what `docker save` wrote: as they should be, and as somebody else might make them.

#![allow(
    clippy::unwrap_used,
    clippy::pedantic,
    unreachable_pub,
    reason = "a test says what it expects by unwrapping"
)]

mod registry;
mod server;

use std::fs;
use std::path::{Path, PathBuf};

use bundle_mirror::{Cache, Layout, MirrorError, Tarball, Wanted, docker_archive};
use manifest_schema::Digest;
use registry::{Shelf, layer};
use report::Diagnose as _;
use serde_json::{Value, json};

const ALL: Wanted<'_> = Wanted {
    platforms: &[],
    referrers: false,
};
const EVERYTHING: Wanted<'_> = Wanted {
    platforms: &[],
    referrers: true,
};

type Files = Vec<(String, Vec<u8>)>;

/// The files of a layout that has `entries` in its index.
fn layout(shelf: &Shelf, entries: &[Value]) -> Files {
    let index = json!({ "schemaVersion": 2, "manifests": entries });
    let mut files = vec![
        (
            "oci-layout".to_owned(),
            br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
        ),
        ("index.json".to_owned(), index.to_string().into_bytes()),
    ];
    let manifests = shelf
        .manifests
        .iter()
        .filter(|(name, _)| name.contains("sha256:"));
    let manifests = manifests.map(|(name, (_, bytes))| (name, bytes));
    for (name, bytes) in shelf.blobs.iter().chain(manifests) {
        files.push((format!("blobs/{}", name.replace(':', "/")), bytes.clone()));
    }
    files
}

fn named(entry: &Value, name: &str) -> Value {
    let mut entry = entry.clone();
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
    entry
}

fn write_folder(at: &Path, files: &Files) {
    for (name, bytes) in files {
        let path = at.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

fn member(name: &str, size: u64, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    // Not `set_path`, which refuses what a hostile tar would have.
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(size);
    header.set_mode(0o644);
    header.set_entry_type(kind);
    header.set_cksum();
    header
}

fn tar_of(at: &Path, files: &Files) -> PathBuf {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let header = member(name, bytes.len() as u64, tar::EntryType::Regular);
        archive.append(&header, bytes.as_slice()).unwrap();
    }
    let path = at.join("image.tar");
    fs::write(&path, archive.into_inner().unwrap()).unwrap();
    path
}

#[test]
fn a_layout_is_the_same_image_as_a_folder_and_as_a_tar() {
    let mut shelf = Shelf::default();
    let root = shelf.both("1");
    let signature = shelf.attached(&root, "signature", None);
    let tag = format!("sha256-{}.sig", &root["digest"].as_str().unwrap()[7..]);
    let cosign = shelf.attached(&root, "cosign", Some(&tag));
    let entries = [
        named(&root, "1"),
        signature,
        named(&cosign, &format!("a.b/c:{tag}")),
    ];
    let files = layout(&shelf, &entries);
    let folder = tempfile::tempdir().unwrap();
    write_folder(&folder.path().join("folder"), &files);
    let places = [folder.path().join("folder"), tar_of(folder.path(), &files)];
    let cache = Cache::open(&folder.path().join("cache")).unwrap();
    for place in &places {
        let layout = Layout::open(place).unwrap();
        let taken = layout.take(Some("1"), EVERYTHING).unwrap();
        assert_eq!(taken.root.digest.to_string(), root["digest"]);
        assert_eq!((taken.platforms.len(), taken.attached.len()), (2, 2));
        assert_eq!(taken.attached[1].tag.as_ref().unwrap().as_str(), tag);
        let by_digest = layout.take(root["digest"].as_str(), ALL).unwrap();
        assert_eq!(by_digest.root, taken.root);
        let blob = layout.blob(&Digest::of(&layer("arm64"))).unwrap();
        if let Some(member) = blob.member {
            let copied = Tarball::open(&blob.path)
                .unwrap()
                .copy(&member, &cache)
                .unwrap();
            assert_eq!(copied.digest, Digest::of(&layer("arm64")));
        }
        for (reference, expected) in [(None, "several images"), (Some("2"), "no image `2`")] {
            let error = layout.take(reference, ALL).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}

#[test]
fn a_layout_that_lacks_or_lies_is_refused() {
    let mut shelf = Shelf::default();
    let root = shelf.image("amd64", None);
    let good = layout(&shelf, std::slice::from_ref(&root));
    let the_layer = format!("blobs/sha256/{}", Digest::of(&layer("amd64")).hex());
    let the_manifest = format!("blobs/sha256/{}", &root["digest"].as_str().unwrap()[7..]);
    let without = |name: &str| -> Files {
        good.iter()
            .filter(|(found, _)| found != name)
            .cloned()
            .collect()
    };
    let with = |name: &str, bytes: &[u8]| {
        let mut files = without(name);
        files.push((name.to_owned(), bytes.to_vec()));
        files
    };
    let config = good
        .iter()
        .find(|(_, bytes)| bytes.starts_with(br#"{"architecture"#))
        .unwrap();
    let mut loop_entry = root.clone();
    loop_entry["digest"] = Digest::of(b"itself").to_string().into();
    let circle = json!({ "schemaVersion": 2, "manifests": [loop_entry] }).to_string();
    let mut huge = root.clone();
    huge["size"] = (1_u64 << 50).into();
    for (name, files, code) in [
        ("no mark", without("oci-layout"), "mirror.no-member"),
        (
            "another version",
            with("oci-layout", br#"{"imageLayoutVersion":"2"}"#),
            "mirror.image",
        ),
        ("no index", without("index.json"), "mirror.no-member"),
        (
            "an index that is none",
            with("index.json", b"[]"),
            "mirror.image",
        ),
        (
            "a circle",
            with("index.json", circle.as_bytes()),
            "mirror.no-member",
        ),
        (
            "a huge manifest",
            with(
                "index.json",
                json!({ "schemaVersion": 2, "manifests": [huge] })
                    .to_string()
                    .as_bytes(),
            ),
            "mirror.image",
        ),
        ("no manifest", without(&the_manifest), "mirror.no-member"),
        (
            "another manifest",
            with(&the_manifest, b"{}"),
            "mirror.digest-differs",
        ),
        ("no configuration", without(&config.0), "mirror.no-member"),
        (
            "another configuration",
            with(&config.0, b"{}"),
            "mirror.digest-differs",
        ),
        ("no layer", without(&the_layer), "mirror.no-member"),
        (
            "a shorter layer",
            with(&the_layer, b"short"),
            "mirror.size-differs",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = tar_of(folder.path(), &files);
        let taken = Layout::open(&path).and_then(|layout| layout.take(None, ALL));
        assert_eq!(taken.unwrap_err().code(), code, "{name}");
        write_folder(&folder.path().join("folder"), &files);
        let layout = Layout::open(&folder.path().join("folder"));
        let error = layout
            .and_then(|layout| layout.take(None, ALL))
            .unwrap_err();
        let expected = if code == "mirror.no-member" {
            "mirror.file"
        } else {
            code
        };
        assert_eq!(error.code(), expected, "{name}");
    }
}

#[test]
fn a_tar_that_climbs_out_repeats_itself_or_ends_early_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let open = |bytes: &[u8]| -> Result<(), MirrorError> {
        let path = folder.path().join("x.tar");
        fs::write(&path, bytes).unwrap();
        Tarball::open(&path).map(drop)
    };
    let tar = |entries: &[(&str, tar::EntryType, &str)]| {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, kind, target) in entries {
            let mut header = member(name, 0, *kind);
            header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
            header.set_cksum();
            archive.append(&header, std::io::empty()).unwrap();
        }
        archive.into_inner().unwrap()
    };
    use tar::EntryType as Kind;
    for (entries, expected) in [
        (vec![("../evil", Kind::Regular, "")], "leads out"),
        (vec![("/etc/passwd", Kind::Regular, "")], "leads out"),
        (vec![("a/../../evil", Kind::Regular, "")], "leads out"),
        (vec![("a\\b", Kind::Regular, "")], "leads out"),
        (
            vec![("a", Kind::Regular, ""), ("./a", Kind::Regular, "")],
            "twice",
        ),
        (
            vec![("a/layer.tar", Kind::Symlink, "../../etc/passwd")],
            "leads out",
        ),
        (vec![("a", Kind::Symlink, "/etc/passwd")], "leads out"),
        (vec![("a", Kind::Char, "")], "neither a file"),
        (vec![("a", Kind::Fifo, "")], "neither a file"),
    ] {
        let error = open(&tar(&entries)).unwrap_err().to_string();
        assert!(error.contains(expected), "{entries:?}: {error}");
    }
    let circle = tar(&[
        ("manifest.json", Kind::Symlink, "b"),
        ("b", Kind::Symlink, "manifest.json"),
    ]);
    open(&circle).unwrap();
    let error = docker_archive(&folder.path().join("x.tar"), None, ALL).unwrap_err();
    assert!(error.to_string().contains("leads to no file"), "{error}");

    let mut lie = member("a", 1 << 40, tar::EntryType::Regular)
        .as_bytes()
        .to_vec();
    lie.extend([0; 1024]);
    assert!(open(&lie).is_err());
    let gzip = open(&[0x1f, 0x8b, 8, 0]).unwrap_err().to_string();
    assert!(gzip.contains("gunzip"), "{gzip}");
    assert!(open(b"no tar at all").is_err());
}

/// What `docker save` wrote before version 25.
fn saved(tags: &[&str]) -> Files {
    let config = json!({ "architecture": "amd64", "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [Digest::of(b"one"), Digest::of(b"two")] } });
    let config = config.to_string().into_bytes();
    let name = format!("{}.json", Digest::of(&config).hex());
    let manifest =
        json!([{ "Config": name, "RepoTags": tags, "Layers": ["1/layer.tar", "2/layer.tar"] }]);
    vec![
        ("1/VERSION".to_owned(), b"1.0".to_vec()),
        ("1/layer.tar".to_owned(), b"one".to_vec()),
        ("2/layer.tar".to_owned(), b"two".to_vec()),
        (name, config),
        (
            "manifest.json".to_owned(),
            manifest.to_string().into_bytes(),
        ),
        ("repositories".to_owned(), b"{}".to_vec()),
    ]
}

#[test]
fn an_old_docker_save_gets_the_one_manifest_that_follows_from_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = tar_of(folder.path(), &saved(&["demo:1"]));
    let first = docker_archive(&path, None, ALL).unwrap().unwrap();
    let again = docker_archive(&path, Some("docker.io/library/demo:1"), ALL)
        .unwrap()
        .unwrap();
    assert_eq!(first.manifest, again.manifest);
    let manifest: Value = serde_json::from_str(&first.manifest).unwrap();
    let layers = manifest["layers"].as_array().unwrap();
    assert_eq!(layers[1]["digest"], Digest::of(b"two").to_string());
    assert_eq!(
        layers[1]["mediaType"],
        "application/vnd.oci.image.layer.v1.tar"
    );
    assert_eq!(first.members[&Digest::of(b"one")], "1/layer.tar");
    assert_eq!(
        first.taken.root.digest,
        Digest::of(first.manifest.as_bytes())
    );
    assert_eq!(first.taken.platforms[0].platform.as_str(), "linux/amd64");
    let error = docker_archive(&path, Some("other:1"), ALL)
        .unwrap_err()
        .to_string();
    assert!(error.contains("`other:1`; it has demo:1"), "{error}");
    let arm = ["linux/arm64".parse().unwrap()];
    let wanted = Wanted {
        platforms: &arm,
        ..ALL
    };
    let error = docker_archive(&path, None, wanted).unwrap_err();
    assert_eq!(error.code(), "mirror.no-platform");
}

#[test]
fn an_old_docker_save_may_link_a_layer_and_may_not_lack_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.tar");
    let write = |files: &Files, link: bool| {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            if link && name == "2/layer.tar" {
                let mut header = member(name, 0, tar::EntryType::Symlink);
                header.set_link_name("../1/layer.tar").unwrap();
                header.set_cksum();
                archive.append(&header, std::io::empty()).unwrap();
                continue;
            }
            let header = member(name, bytes.len() as u64, tar::EntryType::Regular);
            archive.append(&header, bytes.as_slice()).unwrap();
        }
        fs::write(&path, archive.into_inner().unwrap()).unwrap();
    };
    write(&saved(&[]), true);
    let linked = docker_archive(&path, None, ALL).unwrap().unwrap();
    assert_eq!(
        linked.taken.platforms[0].layers[1].digest,
        Digest::of(b"one")
    );
    for missing in ["2/layer.tar", "manifest.json"] {
        let files: Files = saved(&[])
            .into_iter()
            .filter(|(name, _)| name != missing)
            .collect();
        write(&files, false);
        let error = docker_archive(&path, None, ALL).unwrap_err();
        assert_eq!(error.code(), "mirror.no-member", "{missing}: {error}");
    }
    let files: Files = saved(&[])
        .into_iter()
        .filter(|(name, _)| !name.ends_with(".json") || name == "manifest.json")
        .collect();
    write(&files, false);
    let error = docker_archive(&path, None, ALL).unwrap_err();
    assert_eq!(
        error.code(),
        "mirror.no-member",
        "no configuration: {error}"
    );
}

#[test]
fn a_new_docker_save_is_the_layout_that_it_is() {
    let mut shelf = Shelf::default();
    let root = shelf.image("amd64", None);
    let mut entry = named(&root, "1");
    entry["annotations"]["io.containerd.image.name"] = "docker.io/library/demo:1".into();
    let mut files = layout(&shelf, &[entry]);
    files.extend(saved(&["demo:1"]));
    let folder = tempfile::tempdir().unwrap();
    let path = tar_of(folder.path(), &files);
    assert!(docker_archive(&path, None, ALL).unwrap().is_none());
    let taken = Layout::open(&path)
        .unwrap()
        .take(Some("docker.io/library/demo:1"), ALL)
        .unwrap();
    assert_eq!(taken.root.digest.to_string(), root["digest"]);
}
