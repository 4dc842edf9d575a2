//! Keys, roots, signatures, old releases.

use bundle_format::{Algorithm, SigningKey};
use e2e::{Forge, Member, RootOf, Site};
use serde_json::{Value, json};

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
    forgery_is_refused(&site, &forge, "bundle.key-revoked");
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

#[test]
fn one_key_signs_twice_under_two_names() {
    let (site, forge) = forge();
    let mut forge = forge.with_keys(2, 2, &[]).signed_by(&[0]);
    let name = format!("meta/statement.sig/{}.p256", forge.key(0));
    let place = forge.place(&name);
    let mut again = forge.members[place].clone();
    again.name = name.replace(".p256", ".sm2").into_bytes();
    forge.members.insert(place + 1, again);
    forgery_is_refused(&site, &forge, "bundle.member-unexpected");
}

#[test]
fn one_key_stands_twice_in_the_root() {
    let (site, forge) = forge();
    let mut forge = forge.with_keys(1, 1, &[]);
    edit_root(&mut forge, |root| {
        let key = root["keys"][0].clone();
        root["keys"].as_array_mut().unwrap().push(key);
        root["threshold"] = json!(2);
    });
    forgery_is_refused(&site, &forge.signed(), "bundle.root-malformed");
}

/// Changes the last root of a chain before it is signed.
fn edit_root(forge: &mut Forge, change: impl FnOnce(&mut Value)) {
    let last = forge.roots.last_mut().unwrap();
    let mut root: Value = serde_json::from_slice(&last.bytes).unwrap();
    change(&mut root);
    last.bytes = root.to_string().into_bytes();
}

#[test]
fn sm2_key_that_is_called_p256() {
    let (site, forge) = forge();
    let key = SigningKey::generate(Algorithm::Sm2).unwrap();
    let mut forge = forge.with_keys(1, 1, &[]);
    edit_root(&mut forge, |root| {
        let entry = json!({
            "keyid": key.key_id(), "scheme": "ecdsa-p256-sha256", "pem": key.public().pem(),
        });
        root["keys"].as_array_mut().unwrap().push(entry);
        let by_id = |key: &Value| key["keyid"].to_string();
        root["keys"].as_array_mut().unwrap().sort_by_key(by_id);
    });
    let refused = forge.signed();
    refused.write(&site.bundle("forged"));
    let said = is_refused(
        &site,
        "forged",
        &refused.fingerprint(),
        4,
        "bundle.root-malformed",
    );
    assert!(said.words.contains("is one for sm2-sm3"), "{said:?}");
}

#[test]
fn root_without_a_key_that_openssl_can_check() {
    let (site, forge) = forge();
    let key = SigningKey::generate(Algorithm::Ed25519).unwrap();
    let mut forge = forge.with_keys(1, 1, &[]);
    edit_root(&mut forge, |root| {
        root["keys"] = json!([{
            "keyid": key.key_id(), "scheme": "ed25519", "pem": key.public().pem(),
        }]);
    });
    forgery_is_refused(&site, &forge.signed(), "bundle.root-malformed");
}

#[test]
fn signature_under_the_name_of_another_algorithm() {
    for ending in ["sm2", "ed25519"] {
        let (site, forge) = forge();
        let mut forge = forge.with_keys(1, 1, &[]).signed();
        let name = format!("meta/statement.sig/{}.p256", forge.key(0));
        let renamed = name.replace("p256", ending);
        forge.member(&name).name = renamed.into_bytes();
        forgery_is_refused(&site, &forge, "bundle.signature-algorithm");
    }
}

#[test]
fn signature_that_is_not_in_its_one_encoding() {
    let negative = b"\x30\x06\x02\x01\xff\x02\x01\x01".to_vec();
    let long_form = b"\x30\x81\x06\x02\x01\x01\x02\x01\x01".to_vec();
    let endless = b"\x30\x80\x02\x01\x01\x02\x01\x01\0\0".to_vec();
    let raw = vec![7; 64];
    for bytes in [
        Vec::new(),
        negative,
        long_form,
        endless,
        raw,
        vec![0x30; 512],
    ] {
        let (site, forge) = forge();
        let mut forge = forge.with_keys(1, 1, &[]).signed();
        let name = format!("meta/statement.sig/{}.p256", forge.key(0));
        forge.member(&name).bytes = bytes;
        forgery_is_refused(&site, &forge, "bundle.signature-malformed");
    }
}

#[test]
fn signature_larger_than_any() {
    let (site, forge) = forge();
    let mut forge = forge.with_keys(1, 1, &[]).signed();
    let name = format!("meta/statement.sig/{}.p256", forge.key(0));
    forge.member(&name).bytes = vec![0x30; 513];
    forgery_is_refused(&site, &forge, "bundle.member-too-large");
}

/// Two roots: the second has another key, and both sign it.
const HANDED_ON: [RootOf<'_>; 2] = [
    RootOf {
        keys: &[0],
        revoked: &[],
        threshold: 1,
        signers: &[],
    },
    RootOf {
        keys: &[1],
        revoked: &[],
        threshold: 1,
        signers: &[0, 1],
    },
];

/// The forging of chains must not be what is refused.
#[test]
fn honest_chain_is_followed() {
    let (site, forge) = forge();
    let forge = forge.with_roots(2, &HANDED_ON).signed_by(&[1]);
    forge.write(&site.bundle("honest"));
    let bundle = site.bundle("honest").display().to_string();
    let words = [
        "install",
        &bundle,
        "--yes",
        "--trust-root",
        &forge.fingerprint(),
    ];
    let _ = site.installer(&words).ended_with(0);
    let list = site
        .installer(&["trust", "list", "--json"])
        .ended_with(0)
        .json();
    assert_eq!(list["roots"][0]["version"], 2, "{list}");
    assert_eq!(list["roots"].as_array().unwrap().len(), 1, "{list}");
}

#[test]
fn next_root_signed_by_itself_alone() {
    for signers in [&[1][..], &[]] {
        let (site, forge) = forge();
        let mut chain = HANDED_ON;
        chain[1].signers = signers;
        let forge = forge.with_roots(2, &chain).signed_by(&[1]);
        forgery_is_refused(&site, &forge, "bundle.root-unsigned");
    }
}

#[test]
fn next_root_not_signed_by_itself() {
    let (site, forge) = forge();
    let mut chain = HANDED_ON;
    chain[1].signers = &[0];
    let forge = forge.with_roots(2, &chain).signed_by(&[1]);
    forgery_is_refused(&site, &forge, "bundle.root-unsigned");
}

#[test]
fn next_root_signed_as_if_it_were_a_statement() {
    let (site, forge) = forge();
    let mut forge = forge.with_roots(2, &HANDED_ON);
    // A key that signs what it takes for a bundle must not sign a root with it.
    let (_, _, signature) = &mut forge.roots[1].signatures[0];
    signature.reverse();
    let reversed = forge.signed_by(&[1]);
    reversed.write(&site.bundle("forged"));
    let _ = is_refused(
        &site,
        "forged",
        &reversed.fingerprint(),
        4,
        "bundle.root-signature",
    );
}

#[test]
fn chain_with_a_gap() {
    let (site, forge) = forge();
    let mut forge = forge.with_roots(2, &HANDED_ON);
    forge.roots[1].version = 3;
    forgery_is_refused(&site, &forge.signed_by(&[1]), "bundle.root-gap");
}

#[test]
fn signature_of_a_root_that_is_not_there() {
    let (site, forge) = forge();
    let mut forge = forge.with_roots(2, &HANDED_ON);
    let signatures = std::mem::take(&mut forge.roots[1].signatures);
    let mut forge = forge.signed_by(&[1]);
    let place = forge.place("meta/root/002.json") + 1;
    let (key, _, bytes) = &signatures[0];
    let name = format!("meta/root/004.sig/{key}.p256");
    forge.members.insert(place, Member::file(&name, bytes));
    forgery_is_refused(&site, &forge, "bundle.root-gap");
}

#[test]
fn chain_without_an_end() {
    let (site, forge) = forge();
    let one = RootOf {
        keys: &[0],
        revoked: &[],
        threshold: 1,
        signers: &[0],
    };
    let forge = forge.with_roots(1, &[one; 101]).signed();
    forgery_is_refused(&site, &forge, "bundle.member-unexpected");
}

#[test]
fn chain_that_is_spliced_from_two() {
    let (site, forge) = forge();
    let mut forge = forge.with_roots(2, &HANDED_ON);
    // The second root of another chain: the same keys, but it followed another first root.
    edit_root(&mut forge, |root| {
        root["previous"] = json!([format!("sha256:{}", "1".repeat(64))]);
    });
    let mut last = forge.roots.pop().unwrap();
    forge.sign_root(&mut last, &[0, 1]);
    forge.roots.push(last);
    forgery_is_refused(&site, &forge.signed_by(&[1]), "bundle.root-not-next");
}

#[test]
fn older_root_after_a_newer_one_was_trusted() {
    for (revoked, code) in [
        (&[][..], "bundle.root-rollback"),
        (&[0], "bundle.key-revoked"),
    ] {
        let site = Site::new();
        let mut chain = HANDED_ON;
        chain[1].revoked = revoked;
        let newer = Forge::of(&site.bundle("1"))
            .with_roots(2, &chain)
            .signed_by(&[1]);
        newer.write(&site.bundle("newer"));
        let older = Forge::of(&site.bundle("2"))
            .with_roots(2, &chain[..1])
            .signed_by(&[0]);
        older.write(&site.bundle("older"));
        let first = older.fingerprint();
        let bundle = site.bundle("newer").display().to_string();
        let words = ["install", &bundle, "--yes", "--trust-root", &first];
        let _ = site.installer(&words).ended_with(0);
        // Naming the first root once more does not bring it back, and neither does its document.
        let _ = is_refused(&site, "older", &first, 4, code);
        std::fs::write(site.folder().join("root.json"), &older.roots[0].bytes).unwrap();
        let path = site.folder().join("root.json").display().to_string();
        let words = ["trust", "add", &path, "--fingerprint", &first];
        let said = site.installer(&words).ended_with(4);
        assert!(said.words.contains("install.root-older"), "{said:?}");
        let said = site.installer(&["trust", "add", &first]).ended_with(4);
        assert!(said.words.contains("install.root-older"), "{said:?}");
    }
}

#[test]
fn another_second_root_after_one_was_trusted() {
    let site = Site::new();
    let chain = [HANDED_ON[0], HANDED_ON[1]];
    let ours = Forge::of(&site.bundle("1"))
        .with_roots(3, &chain)
        .signed_by(&[1]);
    ours.write(&site.bundle("ours"));
    // Whoever has the first key can make another second root.
    let stolen = RootOf {
        keys: &[2],
        revoked: &[],
        threshold: 1,
        signers: &[0, 2],
    };
    let theirs = Forge::of(&site.bundle("2"))
        .with_roots(3, &[chain[0], stolen])
        .signed_by(&[2]);
    theirs.write(&site.bundle("theirs"));
    let bundle = site.bundle("ours").display().to_string();
    let words = [
        "install",
        &bundle,
        "--yes",
        "--trust-root",
        &ours.fingerprint(),
    ];
    let _ = site.installer(&words).ended_with(0);
    let _ = is_refused(
        &site,
        "theirs",
        &ours.fingerprint(),
        4,
        "bundle.root-forked",
    );
}
