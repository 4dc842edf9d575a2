//! Headers and bytes: what anybody can do to a stick.

use std::fs;
use std::process::Command;

use e2e::{Forge, Member, Site};

use super::{forge, forgery_is_refused, is_refused};

/// Puts a member before the end of a bundle that is otherwise as it was signed.
fn with_member(member: Member) -> (Site, Forge) {
    let (site, forge) = forge();
    let mut forge = forge.signed();
    forge.members.push(member);
    (site, forge)
}

fn spoiled(change: impl FnOnce(&mut Vec<u8>), code: &str) {
    let site = Site::new();
    site.spoil("spoiled", change);
    let fingerprint = site.fingerprint();
    let _ = is_refused(&site, "spoiled", &fingerprint, 4, code);
}

#[test]
fn byte_flipped_in_a_blob() {
    let flip = |bytes: &mut Vec<u8>| {
        let spot = bytes
            .windows(9)
            .rposition(|window| window == b"\"release\"")
            .unwrap();
        bytes[spot] ^= 1;
    };
    spoiled(flip, "bundle.piece-differs");
}

#[test]
fn byte_flipped_in_the_statement() {
    let flip = |bytes: &mut Vec<u8>| {
        let spot = bytes
            .windows(7)
            .position(|window| window == b"in-toto")
            .unwrap();
        bytes[spot] ^= 1;
    };
    spoiled(flip, "bundle.");
}

#[test]
fn file_cut_short() {
    spoiled(
        |bytes| bytes.truncate(bytes.len() * 2 / 3),
        "bundle.cut-short",
    );
}

#[test]
fn second_archive_behind_the_first() {
    spoiled(|bytes| bytes.extend(bytes.clone()), "bundle.trailing-data");
}

#[test]
fn bytes_hidden_in_the_padding() {
    let hide = |bytes: &mut Vec<u8>| {
        let end = bytes.len() - 1024;
        assert_eq!(bytes[end - 1], 0, "the last member is padded");
        bytes[end - 1] = b'!';
    };
    spoiled(hide, "bundle.padding-invalid");
}

#[test]
fn path_climbs_out() {
    let (site, forge) = with_member(Member::file("blobs/../../../evil", b"x"));
    forgery_is_refused(&site, &forge, "bundle.header-invalid");
}

#[test]
fn path_is_absolute() {
    let (site, forge) = with_member(Member::file("/etc/cron.d/evil", b"* * * * * root x"));
    forgery_is_refused(&site, &forge, "bundle.header-invalid");
}

#[test]
fn link_then_write_through() {
    let (site, forge) = forge();
    let mut forge = forge.signed();
    let blob = forge.blobs()[0].clone();
    let place = forge.place(&blob);
    let link = Member::file(&blob, b"").of_kind(b'2', "/etc/passwd");
    forge.members.insert(place, link);
    forgery_is_refused(&site, &forge, "bundle.header-invalid");
}

#[test]
fn hard_link_to_a_file_of_the_system() {
    let member = Member::file("meta/link", b"").of_kind(b'1', "/etc/shadow");
    let (site, forge) = with_member(member);
    forgery_is_refused(&site, &forge, "bundle.header-invalid");
}

#[test]
fn device_node() {
    let (site, forge) = with_member(Member::file("dev", b"").of_kind(b'3', ""));
    forgery_is_refused(&site, &forge, "bundle.header-invalid");
}

#[test]
fn named_pipe() {
    let (site, forge) = with_member(Member::file("pipe", b"").of_kind(b'6', ""));
    forgery_is_refused(&site, &forge, "bundle.header-invalid");
}

#[test]
fn pax_header_renames_the_next_member() {
    let (site, forge) = forge();
    let mut forge = forge.signed();
    let place = forge.members.len() - 1;
    let pax = Member::file("PaxHeader", b"24 path=../../evil/file\n").of_kind(b'x', "");
    forge.members.insert(place, pax);
    forgery_is_refused(&site, &forge, "bundle.header-invalid");
}

#[test]
fn global_pax_header_smuggles_a_size() {
    let (site, forge) = with_member(Member::file("g", b"19 size=1000000000\n").of_kind(b'g', ""));
    forgery_is_refused(&site, &forge, "bundle.header-invalid");
}

#[test]
fn gnu_long_name() {
    let (site, forge) = with_member(Member::file("././@LongLink", b"evil\0").of_kind(b'L', ""));
    forgery_is_refused(&site, &forge, "bundle.header-invalid");
}

#[test]
fn gnu_sparse_file() {
    let (site, forge) = with_member(Member::file("sparse", b"").of_kind(b'S', ""));
    forgery_is_refused(&site, &forge, "bundle.header-invalid");
}

#[test]
fn duplicate_member() {
    let (site, forge) = forge();
    let mut forge = forge.signed();
    let place = forge.place("meta/profiles.json");
    let mut second = forge.members[place].clone();
    second.bytes = b"{}".to_vec();
    forge.members.insert(place + 1, second);
    forgery_is_refused(&site, &forge, "bundle.member-unexpected");
}

#[test]
fn blob_that_nobody_listed() {
    let name = format!("blobs/sha256/{}", "f".repeat(64));
    let (site, forge) = with_member(Member::file(&name, b"smuggled"));
    forgery_is_refused(&site, &forge, "bundle.member-unexpected");
}

#[test]
fn two_blobs_change_places() {
    let (site, forge) = forge();
    let mut forge = forge.signed();
    let blobs = forge.blobs();
    let (first, second) = (forge.place(&blobs[0]), forge.place(&blobs[1]));
    let one = forge.members[first].bytes.clone();
    forge.members[first].bytes = std::mem::replace(&mut forge.members[second].bytes, one);
    forge.write(&site.bundle("forged"));
    let fingerprint = forge.fingerprint();
    let _ = is_refused(&site, "forged", &fingerprint, 4, "bundle.");
}

#[test]
fn size_says_more_than_there_is() {
    let (site, forge) = forge();
    let mut forge = forge.signed();
    let last = forge.members.len() - 1;
    forge.members[last].size = Some(b"00077777777\0".to_vec());
    forgery_is_refused(&site, &forge, "bundle.cut-short");
}

#[test]
fn size_in_binary() {
    let (site, forge) = forge();
    let mut forge = forge.signed();
    let last = forge.members.len() - 1;
    forge.members[last].size = Some(vec![0x80, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff]);
    forgery_is_refused(&site, &forge, "bundle.header-invalid");
}

#[test]
fn size_below_zero() {
    let (site, forge) = forge();
    let mut forge = forge.signed();
    let last = forge.members.len() - 1;
    forge.members[last].size = Some(b"-0000000001\0".to_vec());
    forgery_is_refused(&site, &forge, "bundle.header-invalid");
}

#[test]
fn program_that_runs_with_its_owners_rights() {
    let (site, forge) = forge();
    let mut forge = forge.signed();
    forge.member("install.sh").mode = "0004755".to_owned();
    forgery_is_refused(&site, &forge, "bundle.header-invalid");
}

#[test]
fn name_that_is_no_text() {
    let mut member = Member::file("", b"x");
    member.name = b"blobs/\xff\xfe".to_vec();
    let (site, forge) = with_member(member);
    forgery_is_refused(&site, &forge, "bundle.header-invalid");
}

#[test]
fn name_that_clears_the_screen() {
    let (site, forge) = with_member(Member::file("blobs/\u{1b}[2J", b"x"));
    forgery_is_refused(&site, &forge, "bundle.header-invalid");
}

#[test]
fn index_larger_than_memory_should_hold() {
    let (site, forge) = forge();
    let mut forge = forge.signed();
    forge.member("meta/index.json").bytes = vec![b' '; 65 * 1024 * 1024];
    forgery_is_refused(&site, &forge, "bundle.member-too-large");
}

#[test]
fn bundle_that_is_no_file() {
    let site = Site::new();
    let fingerprint = site.fingerprint();
    fs::create_dir(site.bundle("folder")).unwrap();
    let _ = is_refused(&site, "folder", &fingerprint, 2, "bundle.not-a-bundle");
    std::os::unix::fs::symlink("/dev/zero", site.bundle("endless")).unwrap();
    let _ = is_refused(&site, "endless", &fingerprint, 2, "bundle.not-a-bundle");
    fs::write(site.bundle("empty"), "").unwrap();
    let _ = is_refused(&site, "empty", &fingerprint, 2, "bundle.not-a-bundle");
    // Nobody writes into this pipe: opening it must not wait for ever.
    let pipe = site.folder().join("pipe.ferry");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let mut command = Command::new("timeout");
    let words = [
        "10".into(),
        e2e::installer().as_os_str().to_owned(),
        "verify".into(),
    ];
    command
        .args(words)
        .arg(&pipe)
        .arg("--prefix")
        .arg(site.prefix());
    let said = e2e::say(&mut command);
    assert_eq!(said.status, 2, "{said:?}");
}
