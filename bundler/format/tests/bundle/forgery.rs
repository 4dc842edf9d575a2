//! Archives that are well made, and lie.

use std::fs;

use bundle_format::SigningKey;
use bundle_format::fake::Fake;
use report::Diagnose as _;

use crate::Bench;

/// Members as `(name, header and bytes and padding)`, and what follows them.
fn split(bytes: &[u8]) -> (Vec<(String, Vec<u8>)>, Vec<u8>) {
    let mut members = Vec::new();
    let mut rest = bytes;
    while rest[0] != 0 {
        let name: Vec<u8> = rest[..100]
            .iter()
            .copied()
            .take_while(|byte| *byte != 0)
            .collect();
        let size = std::str::from_utf8(&rest[124..135]).unwrap();
        let size = usize::from_str_radix(size, 8).unwrap();
        let span = 512 + size.div_ceil(512) * 512;
        members.push((String::from_utf8(name).unwrap(), rest[..span].to_vec()));
        rest = &rest[span..];
    }
    (members, rest.to_vec())
}

fn join(members: &[(String, Vec<u8>)], end: &[u8]) -> Vec<u8> {
    let mut bytes: Vec<u8> = members
        .iter()
        .flat_map(|(_, bytes)| bytes.clone())
        .collect();
    bytes.extend_from_slice(end);
    bytes
}

#[test]
fn every_missing_member_is_found() {
    let bench = Bench::new();
    let (members, end) = split(&bench.bytes());
    for position in 0..members.len() {
        let mut fewer = members.clone();
        let (name, _) = fewer.remove(position);
        let code = bench.check(&join(&fewer, &end)).unwrap_err().code();
        let known = ["bundle.member-missing", "bundle.signatures-too-few"];
        assert!(known.contains(&code), "{name}: {code}");
    }
}

#[test]
fn a_member_twice_or_out_of_order_is_found() {
    let bench = Bench::new();
    let (members, end) = split(&bench.bytes());
    for position in 0..members.len() {
        let mut twice = members.clone();
        twice.insert(position, members[position].clone());
        let code = bench.check(&join(&twice, &end)).unwrap_err().code();
        assert_eq!(
            code, "bundle.member-unexpected",
            "{} twice",
            members[position].0
        );
        if position > 0 {
            let mut swapped = members.clone();
            swapped.swap(position - 1, position);
            let code = bench.check(&join(&swapped, &end)).unwrap_err().code();
            assert_eq!(
                code, "bundle.member-unexpected",
                "{} early",
                members[position].0
            );
        }
    }
}

#[test]
fn a_member_of_another_bundle_is_found() {
    let bench = Bench::new();
    let mut other = Fake::with_dataset("demo", 2, &[("x", b"other".to_vec())]);
    other.keys = vec![];
    // Signed by the same key, so that only the content tells the two apart.
    let pem = bench.fake.keys[0].to_encrypted_pem(b"p").unwrap();
    other
        .keys
        .push(SigningKey::from_encrypted_pem(&pem, b"p").unwrap());
    let path = bench.folder.path().join("other.ferry");
    other.build(bench.folder.path(), &path).unwrap();
    let (ours, end) = split(&bench.bytes());
    let (theirs, _) = split(&fs::read(&path).unwrap());
    for (position, (name, bytes)) in ours.iter().enumerate() {
        let Some((_, foreign)) = theirs.iter().find(|(theirs, _)| theirs == name) else {
            continue;
        };
        if foreign == bytes {
            continue;
        }
        let mut mixed = ours.clone();
        mixed[position].1.clone_from(foreign);
        let code = bench.check(&join(&mixed, &end)).unwrap_err().code();
        let expected = if name.contains("statement") && !name.contains("dsse") {
            "bundle.signature-invalid"
        } else {
            "bundle.member-differs"
        };
        assert_eq!(code, expected, "{name}");
    }
    // A blob more than was signed.
    let blob = theirs
        .iter()
        .find(|(name, _)| name.starts_with("blobs/"))
        .unwrap();
    let mut more = ours;
    let place = more
        .iter()
        .position(|(name, _)| name.starts_with("blobs/") && *name > blob.0)
        .unwrap_or(more.len());
    more.insert(place, blob.clone());
    assert_eq!(
        bench.check(&join(&more, &end)).unwrap_err().code(),
        "bundle.member-unexpected"
    );
}

#[test]
fn another_key_under_the_same_root_is_refused() {
    let bench = Bench::new();
    let key = SigningKey::generate(bundle_format::Algorithm::P256).unwrap();
    let (mut members, end) = split(&bench.bytes());
    let signature = members
        .iter_mut()
        .find(|(name, _)| name.starts_with("meta/statement.sig/"))
        .unwrap();
    let name = format!("meta/statement.sig/{}.p256", key.key_id());
    let header = &mut signature.1;
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[148..156].fill(b' ');
    let sum: u32 = header[..512].iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert_eq!(
        bench.check(&join(&members, &end)).unwrap_err().code(),
        "bundle.signature-invalid"
    );
}

#[test]
fn two_keys_of_two_must_sign() {
    let mut bench = Bench::new();
    bench
        .fake
        .keys
        .push(SigningKey::generate(bundle_format::Algorithm::P256).unwrap());
    bench
        .fake
        .build(bench.folder.path(), &bench.bundle())
        .unwrap();
    assert_eq!(bench.verified().key_ids.len(), 2);
    let (mut members, end) = split(&bench.bytes());
    let position = members
        .iter()
        .position(|(name, _)| name.starts_with("meta/statement.sig/"))
        .unwrap();
    members.remove(position);
    assert_eq!(
        bench.check(&join(&members, &end)).unwrap_err().code(),
        "bundle.signatures-too-few"
    );
}
