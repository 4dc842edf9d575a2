//! One flipped byte anywhere, a cut file, another key, a missing file: refused, saying what and where, and the
//! machine is as it was.

use std::fs;

use e2e::Site;

/// Members of an archive: name, where its header begins, where its bytes begin, and where they end.
fn members(bytes: &[u8]) -> Vec<(String, usize, usize, usize)> {
    let (mut members, mut at) = (Vec::new(), 0);
    while bytes[at] != 0 {
        let header = &bytes[at..at + 512];
        let name = header[..100].split(|byte| *byte == 0).next().unwrap();
        let size = std::str::from_utf8(&header[124..135]).unwrap();
        let size = usize::from_str_radix(size, 8).unwrap();
        let name = String::from_utf8(name.to_vec()).unwrap();
        members.push((name, at, at + 512, at + 512 + size));
        at += 512 + size.div_ceil(512) * 512;
    }
    members
}

/// Refused with one of these outcomes, naming the member, with every file of the site as before.
fn leaves_everything(site: &Site, name: &str, place: &str) {
    let before = site.listing();
    let said = site.install(name);
    assert_eq!(said.status, 4, "{place}: {said:#?}");
    assert!(
        said.words.contains(place),
        "{place} is not named: {said:#?}"
    );
    assert_eq!(site.listing(), before, "{place}: something was written");
}

#[test]
fn a_flipped_byte_in_any_member_is_refused_on_an_empty_machine() {
    let site = Site::new();
    let good = fs::read(site.bundle("1")).unwrap();
    for (name, header, start, end) in members(&good) {
        // The name, the size, the checksum; the first, a middle and the last byte of what it holds.
        let mut spots = vec![
            header + 2,
            header + 130,
            header + 150,
            start,
            start.midpoint(end),
        ];
        spots.push(end - 1);
        for spot in spots {
            site.spoil("flipped", |bytes| bytes[spot] ^= 1);
            let before = site.listing();
            let said = site.install("flipped");
            // A file that does not begin as a bundle does is none.
            let status = if spot < 512 { 2 } else { 4 };
            assert_eq!(said.status, status, "{name}, byte {spot}: {said:#?}");
            let path = site.bundle("flipped").display().to_string();
            let other_root = name == "meta/root/001.json" && said.words.contains("other-root");
            assert!(
                said.words.contains(&path) || other_root,
                "{name}: {said:#?}"
            );
            assert_eq!(site.listing(), before, "{name}, byte {spot}");
            assert!(!site.prefix().exists());
        }
    }
}

#[test]
fn a_flipped_byte_over_an_installed_release_changes_nothing() {
    let site = Site::new();
    let _ = site.install("1").ended_with(0);
    let good = fs::read(site.bundle("2")).unwrap();
    for (name, _, start, end) in members(&good) {
        if name.starts_with("meta/root") {
            continue;
        }
        let mut bytes = good.clone();
        bytes[start.midpoint(end)] ^= 1;
        fs::write(site.bundle("flipped"), bytes).unwrap();
        let blob = name.strip_prefix("blobs/sha256/");
        let place = match blob.map(|blob| blob.trim_end_matches(".zst")) {
            // The runtime is in release 1 already: the store has it, and the bundle's copy is not read.
            Some(hex) if site.prefix().join("store/sha256").join(hex).exists() => continue,
            Some(hex) => hex.to_owned(),
            None if name.starts_with("meta/statement.json") => "meta/statement.sig/".to_owned(),
            None => name,
        };
        leaves_everything(&site, "flipped", &place);
    }
    assert_eq!(site.current().as_deref(), Some("1"));
    let _ = site.installer(&["audit"]).ended_with(0);
}

#[test]
fn a_cut_file_is_refused_wherever_it_is_cut() {
    let site = Site::new();
    let good = fs::read(site.bundle("1")).unwrap();
    for (name, header, start, end) in members(&good) {
        for at in [header + 100, start, start.midpoint(end)] {
            site.spoil("cut", |bytes| bytes.truncate(at));
            let said = site.install("cut");
            // A file without a whole first header is no bundle at all.
            let (status, code) = if at < 512 {
                (2, "bundle.not-a-bundle")
            } else {
                (4, "bundle.cut-short")
            };
            assert_eq!(said.status, status, "{name} at {at}: {said:#?}");
            assert!(said.words.contains(code), "{name} at {at}: {said:#?}");
            assert!(!site.prefix().exists(), "{name} at {at}");
        }
    }
    let end = good.len() - 512;
    site.spoil("cut", |bytes| bytes.truncate(end));
    leaves_everything(&site, "cut", "bundle.cut-short");
}

#[test]
fn a_missing_member_is_refused_by_its_name() {
    let site = Site::new();
    let good = fs::read(site.bundle("1")).unwrap();
    for (name, header, _, end) in members(&good) {
        let next = header + (end - header).div_ceil(512) * 512;
        let mut bytes = good.clone();
        bytes.drain(header..next);
        fs::write(site.bundle("fewer"), bytes).unwrap();
        if name.starts_with("meta/root") {
            let before = site.listing();
            let _ = site.install("fewer").ended_with(4);
            assert_eq!(site.listing(), before);
        } else if name.starts_with("meta/statement.sig/") {
            leaves_everything(&site, "fewer", "bundle.signatures-too-few");
        } else {
            leaves_everything(&site, "fewer", &name);
        }
    }
}

#[test]
fn the_whole_bundle_can_be_read_before_the_first_byte_is_written() {
    let mut site = Site::new();
    // A blob that this machine's backend does not need, so that installing alone would not read it.
    let other = e2e::backend("other", "ascend-910b", manifest_schema::Arch::Aarch64);
    let mut file = other.files[0].clone();
    let blob = b"for another chip".to_vec();
    file.digest = manifest_schema::Digest::of(&blob);
    file.size = manifest_schema::ByteSize(blob.len() as u64);
    let other = manifest_schema::Backend {
        files: vec![file],
        ..other
    };
    site.fake().profiles.backends.push(other);
    site.fake().blobs.push(blob.clone());
    site.carry("both");
    let mut bytes = fs::read(site.bundle("both")).unwrap();
    let spot = bytes
        .windows(blob.len())
        .rposition(|window| window == blob)
        .unwrap();
    bytes[spot] ^= 1;
    fs::write(site.bundle("flipped"), bytes).unwrap();

    let mut words = site.words_to_install("flipped");
    words.push("--verify-first".to_owned());
    let said = site.installer(&words).ended_with(4);
    assert!(said.words.contains("bundle.piece-differs"), "{said:#?}");
    assert!(!site.prefix().exists());
    // Without the flag only what is installed is read, and all of that is good.
    let _ = site.install("flipped").ended_with(0);
    let _ = site.installer(&["audit"]).ended_with(0);
}
