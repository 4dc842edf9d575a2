//! One case an attack, named for it. Each is refused, and nothing of it is left on the disk.

use e2e::Site;

fn is_refused(site: &Site, name: &str, code: &str) {
    let said = site.install(name).ended_with(4);
    assert!(said.words.contains(code), "{said:#?}");
    assert!(!site.prefix().exists(), "something was written");
}

#[test]
fn byte_flipped_in_a_blob() {
    let site = Site::new();
    site.spoil("flipped", |bytes| {
        let spot = bytes
            .windows(9)
            .rposition(|window| window == b"\"release\"")
            .unwrap();
        bytes[spot] ^= 1;
    });
    is_refused(&site, "flipped", "bundle.piece-differs");
}

#[test]
fn byte_flipped_in_the_statement() {
    let site = Site::new();
    site.spoil("flipped", |bytes| {
        let spot = bytes
            .windows(7)
            .position(|window| window == b"in-toto")
            .unwrap();
        bytes[spot] ^= 1;
    });
    is_refused(&site, "flipped", "bundle.");
}

#[test]
fn file_cut_short() {
    let site = Site::new();
    site.spoil("cut", |bytes| bytes.truncate(bytes.len() * 2 / 3));
    is_refused(&site, "cut", "bundle.cut-short");
}

#[test]
fn signature_of_another_key() {
    let site = Site::new();
    let other = Site::new();
    std::fs::copy(other.bundle("1"), site.bundle("other")).unwrap();
    is_refused(&site, "other", "installer.other-root");
}

#[test]
fn unknown_root_without_a_person() {
    let site = Site::new();
    let bundle = site.bundle("1").display().to_string();
    let said = site.installer(&["install", &bundle, "--yes"]).ended_with(2);
    assert!(said.words.contains("--trust-root"), "{said:#?}");
    assert!(!site.prefix().exists());
}

#[test]
fn older_release_replayed() {
    let site = Site::new();
    let _ = site.install("2").ended_with(0);
    let said = site.install("1").ended_with(4);
    assert!(said.words.contains("install.downgrade"), "{said:#?}");
    assert_eq!(site.current().as_deref(), Some("2"));
}
