//! Keys, roots, signatures, old releases.

use e2e::{Forge, Site};

use super::{forge, forgery_is_refused, is_refused};

#[test]
fn signature_of_another_key() {
    let site = Site::new();
    let other = Site::new();
    std::fs::copy(other.bundle("1"), site.bundle("other")).unwrap();
    let fingerprint = site.fingerprint();
    let _ = is_refused(&site, "other", &fingerprint, 4, "installer.other-root");
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
fn other_root_after_the_first_was_trusted() {
    let (site, forge) = forge();
    let _ = site.install("1").ended_with(0);
    forge.signed().write(&site.bundle("forged"));
    let bundle = site.bundle("forged").display().to_string();
    let before = site.listing();
    let said = site.installer(&["install", &bundle, "--yes"]).ended_with(2);
    assert!(
        said.words.contains("--trust-root"),
        "nobody was asked: {said:?}"
    );
    assert_eq!(site.listing(), before);
}

#[test]
fn older_release_replayed() {
    let site = Site::new();
    let _ = site.install("2").ended_with(0);
    let said = site.install("1").ended_with(4);
    assert!(said.words.contains("install.downgrade"), "{said:#?}");
    assert_eq!(site.current().as_deref(), Some("2"));
}

#[test]
fn older_release_replayed_after_everything_was_removed() {
    let site = Site::new();
    let _ = site.install("2").ended_with(0);
    let _ = site.installer(&["uninstall", "--yes"]).ended_with(0);
    let said = site.install("1").ended_with(4);
    assert!(said.words.contains("install.downgrade"), "{said:#?}");
    assert_eq!(site.current(), None);
}

#[test]
fn signature_of_another_bundle() {
    let site = Site::new();
    let mut ours = Forge::of(&site.bundle("1")).signed();
    let theirs = Forge::of(&site.bundle("2")).signed();
    let is_signature = |name: &[u8]| name.starts_with(b"meta/statement.sig/");
    let theirs = theirs
        .members
        .into_iter()
        .find(|member| is_signature(&member.name))
        .unwrap();
    let ours_at = ours
        .members
        .iter()
        .position(|member| is_signature(&member.name))
        .unwrap();
    ours.members[ours_at] = theirs;
    forgery_is_refused(&site, &ours, "bundle.signature-invalid");
}

#[test]
fn statement_of_another_bundle_with_its_signature() {
    let site = Site::new();
    let mut ours = Forge::of(&site.bundle("1")).signed();
    let theirs = Forge::of(&site.bundle("2")).signed();
    for member in theirs.members {
        let name = String::from_utf8(member.name.clone()).unwrap();
        if name.starts_with("meta/statement") {
            let place = ours.place(&name);
            ours.members[place] = member;
        }
    }
    forgery_is_refused(&site, &ours, "bundle.member-differs");
}

#[test]
fn no_signature_at_all() {
    let (site, forge) = forge();
    let mut forge = forge.signed();
    forge
        .members
        .retain(|member| !member.name.starts_with(b"meta/statement.sig/"));
    forgery_is_refused(&site, &forge, "bundle.signatures-too-few");
}

#[test]
fn threshold_not_met() {
    let (site, forge) = forge();
    let forge = forge.with_keys(3, 2, &[]).signed_by(&[1]);
    forgery_is_refused(&site, &forge, "bundle.signatures-too-few");
}

#[test]
fn one_key_signs_twice() {
    let (site, forge) = forge();
    let mut forge = forge.with_keys(2, 2, &[]).signed_by(&[0]);
    let is_signature = |name: &[u8]| name.starts_with(b"meta/statement.sig/");
    let at = forge
        .members
        .iter()
        .position(|member| is_signature(&member.name))
        .unwrap();
    let again = forge.members[at].clone();
    forge.members.insert(at, again);
    forgery_is_refused(&site, &forge, "bundle.member-unexpected");
}

#[test]
fn revoked_key_signs() {
    let (site, forge) = forge();
    let forge = forge.with_keys(2, 1, &[0]).signed_by(&[0]);
    forgery_is_refused(&site, &forge, "bundle.signatures-too-few");
}

#[test]
fn root_that_asks_for_no_signature() {
    let (site, forge) = forge();
    let forge = forge.with_keys(1, 0, &[]).signed();
    forgery_is_refused(&site, &forge, "bundle.root-malformed");
}

#[test]
fn root_with_a_lowered_threshold() {
    let site = Site::new();
    let honest = Forge::of(&site.bundle("1")).with_keys(2, 2, &[]).signed();
    let lowered = Forge::of(&site.bundle("1"))
        .with_keys(2, 1, &[])
        .signed_by(&[0]);
    lowered.write(&site.bundle("lowered"));
    let fingerprint = honest.fingerprint();
    let _ = is_refused(&site, "lowered", &fingerprint, 4, "installer.other-root");
}

#[test]
fn root_inside_the_bundle_is_not_the_one_that_was_compared() {
    let (site, forge) = forge();
    let mut forge = forge.signed();
    let good = forge.fingerprint();
    forge.member("meta/root/001.json").bytes.push(b' ');
    forge.write(&site.bundle("forged"));
    let _ = is_refused(&site, "forged", &good, 4, "installer.other-root");
    // And when the altered root is the one that is trusted, the signed list does not have it.
    let altered = forge.fingerprint();
    let _ = is_refused(&site, "forged", &altered, 4, "bundle.member-differs");
}
