//! What was planted on the machine, before an install or after it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use e2e::Site;
use manifest_schema::Digest;

/// A site with release 1, and a file outside the prefix that nothing may touch.
fn installed() -> (Site, PathBuf) {
    let site = Site::new();
    let outside = site.folder().join("outside.txt");
    fs::write(&outside, "not ours").unwrap();
    let _ = site.install("1").ended_with(0);
    (site, outside)
}

fn release(site: &Site) -> PathBuf {
    fs::canonicalize(site.prefix().join("current")).unwrap()
}

fn overwrite(path: &std::path::Path, bytes: &[u8]) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn link_in_the_store_instead_of_a_blob() {
    let site = Site::new();
    let outside = site.folder().join("outside.txt");
    fs::write(&outside, "not ours").unwrap();
    let store = site.prefix().join("store/sha256");
    fs::create_dir_all(&store).unwrap();
    for (hex, _) in e2e::Forge::of(&site.bundle("1")).contents() {
        symlink(&outside, store.join(&hex)).unwrap();
        symlink(&outside, store.join(format!(".part-{hex}"))).unwrap();
    }
    let _ = site.install("1").ended_with(0);
    assert_eq!(fs::read_to_string(&outside).unwrap(), "not ours");
    let _ = site.installer(&["audit"]).ended_with(0);
}

#[test]
fn wrong_blob_in_the_store_of_the_right_size() {
    let site = Site::new();
    let mut good = e2e::Forge::of(&site.bundle("1"));
    let folder = site.prefix().join("store/sha256");
    fs::create_dir_all(&folder).unwrap();
    for (hex, length) in good.contents() {
        fs::write(folder.join(hex), vec![b'!'; length]).unwrap();
    }
    let _ = site.install("1").ended_with(0);
    let _ = site.installer(&["audit"]).ended_with(0);
}

#[test]
fn link_where_the_unfinished_release_goes() {
    let (site, outside) = installed();
    let elsewhere = site.folder().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("precious"), "x").unwrap();
    let name = format!("{}", release(&site).file_name().unwrap().display());
    let planted = site
        .prefix()
        .join("releases")
        .join(format!(".staging-{name}"));
    symlink(&elsewhere, &planted).unwrap();
    let _ = site.install("2").ended_with(0);
    assert!(elsewhere.join("precious").exists() && outside.exists());
    assert!(
        fs::symlink_metadata(&planted).is_err(),
        "the planted link is gone"
    );
}

#[test]
fn current_that_points_out_of_the_prefix() {
    let (site, _) = installed();
    let current = site.prefix().join("current");
    fs::remove_file(&current).unwrap();
    symlink("/etc", &current).unwrap();
    for command in ["status", "audit", "rollback"] {
        let said = site.installer(&[command]).ended_with(5);
        assert!(said.words.contains("not a release"), "{command}: {said:?}");
    }
    let _ = site.install("2").ended_with(5);
}

#[test]
fn root_planted_under_a_trusted_name() {
    let (site, _) = installed();
    let other = e2e::Forge::of(&site.bundle("1")).signed();
    other.write(&site.bundle("forged"));
    let root = &other.members[other.place("meta/root/001.json")].bytes;
    let planted = site
        .prefix()
        .join("trust.d")
        .join(format!("{}.json", site.fingerprint()));
    overwrite(&planted, root);
    let bundle = site.bundle("forged").display().to_string();
    let said = site.installer(&["install", &bundle, "--yes"]).ended_with(4);
    assert!(
        said.words.contains("bundle.root-kept-malformed"),
        "{said:?}"
    );
    let said = site.installer(&["trust", "list"]).ended_with(4);
    assert!(
        said.words.contains("bundle.root-kept-malformed"),
        "{said:?}"
    );
}

#[test]
fn root_planted_under_its_own_name_is_not_in_the_log() {
    let (site, _) = installed();
    let other = e2e::Forge::of(&site.bundle("1")).signed();
    let root = &other.members[other.place("meta/root/001.json")].bytes;
    let planted = site
        .prefix()
        .join("trust.d")
        .join(format!("{}.json", Digest::of(root).hex()));
    fs::write(&planted, root).unwrap();
    let said = site.installer(&["log", "verify"]).ended_with(4);
    assert!(said.data.contains("no entry says so"), "{said:?}");
    let _ = site.installer(&["audit", "--deep"]).ended_with(4);
}

#[test]
fn tampered_program() {
    let (site, _) = installed();
    overwrite(
        &release(&site).join("backend/bin/ferry-runtime"),
        b"#!/bin/sh\necho owned\n",
    );
    let said = site.installer(&["audit"]).ended_with(4);
    assert!(
        said.data.contains("backend/bin/ferry-runtime  CHANGED"),
        "{said:?}"
    );
}

#[test]
fn tampered_launcher_and_environment() {
    let (site, _) = installed();
    for path in ["bin/ferry-runtime", "env.sh"] {
        let path = release(&site).join(path);
        let mut text = fs::read(&path).unwrap();
        text.extend(b"\n# one line more\n");
        overwrite(&path, &text);
    }
    let report = site.installer(&["audit", "--json"]).ended_with(4).json();
    assert_eq!(report["wrong"], 2, "{report}");
}

#[test]
fn link_instead_of_an_installed_file() {
    let (site, outside) = installed();
    let data = release(&site).join("datasets/demo/data.json");
    fs::remove_file(&data).unwrap();
    symlink(&outside, &data).unwrap();
    let said = site.installer(&["audit"]).ended_with(4);
    assert!(
        said.data.contains("datasets/demo/data.json  CHANGED"),
        "{said:?}"
    );
}

#[test]
fn tampered_metadata_of_a_release() {
    let (site, _) = installed();
    for name in [
        "meta/profiles.json",
        "meta/SHA256SUMS",
        "meta/statement.json",
    ] {
        let path = release(&site).join(name);
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        overwrite(&path, &bad);
        let said = site.installer(&["audit"]).ended_with(4);
        assert!(said.words.contains("bundle."), "{name}: {said:?}");
        overwrite(&path, &good);
    }
    let _ = site.installer(&["audit"]).ended_with(0);
}

#[test]
fn metadata_of_a_release_taken_away() {
    let (site, _) = installed();
    let mut open = vec![release(&site).join("meta")];
    let mut seen = 0;
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let good = fs::read(&path).unwrap();
            fs::remove_file(&path).unwrap();
            let said = site.installer(&["audit"]).ended_with(4);
            let name = path.strip_prefix(release(&site)).unwrap().display();
            let told = said.data.contains(&format!("{name}  MISSING"));
            assert!(
                told || said.words.contains("error[bundle."),
                "{name}: {said:?}"
            );
            fs::write(&path, good).unwrap();
            seen += 1;
        }
    }
    assert!(seen > 8, "{seen}");
    let _ = site.installer(&["audit"]).ended_with(0);
}

#[test]
fn tampered_record_of_a_release() {
    let (site, _) = installed();
    let path = release(&site).join("release.json");
    let text = fs::read_to_string(&path).unwrap();
    overwrite(
        &path,
        text.replace("\"channel\": \"stable\"", "\"channel\": \"beta\"")
            .as_bytes(),
    );
    let said = site.installer(&["audit"]).ended_with(4);
    assert!(said.data.contains("release.json  CHANGED"), "{said:?}");
    let said = site.installer(&["log", "verify"]).ended_with(4);
    assert!(
        said.data.contains("is not the one that its entry names"),
        "{said:?}"
    );
}

#[test]
fn stranger_in_the_prefix() {
    let (site, _) = installed();
    fs::write(site.prefix().join("libc.so.6"), "x").unwrap();
    let said = site.installer(&["audit"]).ended_with(4);
    assert!(
        said.data.contains("libc.so.6  NOBODY SIGNED THIS"),
        "{said:?}"
    );
}
