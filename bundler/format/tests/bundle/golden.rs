//! Bundles that were written once and must open for ever. `FERRY_WRITE_GOLDEN=1` writes the first ones anew,
//! `FERRY_WRITE_GOLDEN=chain` the one with a chain of roots: only for a new version of the format, and then beside
//! the old ones.

use std::fs;
use std::path::{Path, PathBuf};

use bundle_format::fake::{Fake, safetensors, weights};
use bundle_format::{
    Algorithm, Draft, RootChain, RootDocument, Sealed, SignedRoot, SigningKey, Squeeze,
    TrustedRoots, repair, write_parity,
};
use manifest_schema::{Codec, Digest};
use report::Silent;

/// The trust root of the golden bundles.
pub(crate) const FINGERPRINT: &str = include_str!("../../../../tests/golden-bundle/fingerprint");

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden-bundle")
}

fn files() -> [(&'static str, Vec<u8>); 4] {
    let lines: Vec<String> = (0..1500).map(|n| format!("{{\"line\": {n}}}\n")).collect();
    let noise = (0..480_u32).flat_map(|n| Digest::of(&n.to_le_bytes()).hex().into_bytes());
    let noise: Vec<u8> = noise.collect();
    [
        ("weights.bin", noise),
        ("train.jsonl", lines.concat().into_bytes()),
        ("a/短.txt", b"ferry\n".to_vec()),
        ("empty", Vec::new()),
    ]
}

fn write() {
    let folder = folder();
    let pem = folder.join("private.pem");
    let pem = fs::read_to_string(pem).unwrap();
    let key = SigningKey::from_encrypted_pem(&pem, b"golden").unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let mut fake = Fake::with_dataset("golden", 1, &files());
    fake.keys = vec![key];
    fake.options.compress = true;
    fs::write(
        folder.join("fingerprint"),
        format!("{}\n", Digest::of(&fake.root()).hex()),
    )
    .unwrap();
    fake.build(scratch.path(), &folder.join("one.ferry"))
        .unwrap();
    fake.options.volume_size = Some(72_000);
    fake.build(scratch.path(), &folder.join("many.ferry"))
        .unwrap();
    let volumes = Sealed::open(&folder.join("many.vol001.ferry"))
        .unwrap()
        .complete()
        .unwrap();
    write_parity(&volumes, 10, None, 1, &Silent).unwrap();
}

/// Weights in planes, and blobs that begin at whole blocks.
fn squeezed_files() -> [(&'static str, Vec<u8>); 3] {
    let model = safetensors(&[
        ("a.weight", "BF16", weights(1, 9000, 2)),
        ("a.scale", "F32", weights(2, 3000, 4)),
        ("a.packed", "I8", weights(3, 2500, 1)),
    ]);
    let [noise, _, short, _] = files();
    [("model.safetensors", model), noise, short]
}

/// `FERRY_WRITE_GOLDEN_SQUEEZED=1` writes the bundle with planes and alignment.
fn write_squeezed() {
    let folder = folder();
    let pem = fs::read_to_string(folder.join("private.pem")).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let mut fake = Fake::with_dataset("golden", 2, &squeezed_files());
    fake.keys = vec![SigningKey::from_encrypted_pem(&pem, b"golden").unwrap()];
    fake.options.squeeze = Squeeze::ALL;
    fake.options.align = true;
    fake.build(scratch.path(), &folder.join("squeezed.ferry"))
        .unwrap();
}

#[test]
fn planes_and_aligned_blobs_open_for_ever() {
    if std::env::var_os("FERRY_WRITE_GOLDEN_SQUEEZED").is_some() {
        write_squeezed();
    }
    let trusted = TrustedRoots::from_fingerprints([Digest::parse_hex(FINGERPRINT.trim()).unwrap()]);
    let sealed = Sealed::open(&folder().join("squeezed.ferry")).unwrap();
    let bundle = sealed.verify(&trusted).unwrap();
    bundle.verify_all(2, &Silent).unwrap();
    let files = squeezed_files();
    for (_, bytes) in &files {
        assert!(bundle.blob_bytes(&Digest::of(bytes)).unwrap() == *bytes);
    }
    let blob = |number: usize| bundle.blob(&Digest::of(&files[number].1)).unwrap();
    assert_eq!((blob(0).codec, blob(1).codec), (Codec::Planes, Codec::Raw));
    assert_eq!(bundle.index.align, Some(4096));
    assert!(blob(1).offset.is_multiple_of(4096));
}

#[test]
fn the_bundles_of_format_1_open_for_ever() {
    if std::env::var("FERRY_WRITE_GOLDEN").is_ok_and(|which| which == "1") {
        write();
    }
    let trusted = TrustedRoots::from_fingerprints([Digest::parse_hex(FINGERPRINT.trim()).unwrap()]);
    let statements = ["one.ferry", "many.vol002.ferry"].map(|name| {
        let sealed = Sealed::open(&folder().join(name)).unwrap();
        let bundle = sealed.verify(&trusted).unwrap();
        bundle.verify_all(2, &Silent).unwrap();
        for (_, bytes) in files() {
            assert!(
                bundle.blob_bytes(&Digest::of(&bytes)).unwrap() == bytes,
                "{name}"
            );
        }
        let codec = |codec| bundle.index.blobs.iter().any(|blob| blob.codec == codec);
        assert!(codec(Codec::Raw) && codec(Codec::Zstd), "{name}");
        let cut = bundle.index.blobs.iter().any(|blob| !blob.parts.is_empty());
        assert_eq!(cut, name.starts_with("many"), "{name}");
        bundle.statement_digest
    });
    assert_ne!(statements[0], statements[1]);
}

#[test]
fn the_parity_of_format_1_repairs_for_ever() {
    let scratch = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder()).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().starts_with("many.") {
            fs::copy(entry.path(), scratch.path().join(entry.file_name())).unwrap();
        }
    }
    let path = scratch.path().join("many.vol001.ferry");
    let whole = fs::read(&path).unwrap();
    let mut scratched = whole.clone();
    scratched[20_000..20_100].fill(0);
    fs::write(&path, scratched).unwrap();
    let done = repair(scratch.path(), &Silent).unwrap();
    assert_eq!(done.files.len(), 1);
    assert!(fs::read(&path).unwrap() == whole);
}

/// The first root of the golden chain.
const FIRST: &str = include_str!("../../../../tests/golden-bundle/fingerprint-chain");

pub(crate) fn golden_key(name: &str) -> SigningKey {
    let pem = fs::read_to_string(folder().join(name)).unwrap();
    SigningKey::from_encrypted_pem(&pem, b"golden").unwrap()
}

/// Two roots; the second has a key of each algorithm, of which P-256 and SM2 sign.
fn write_chain() {
    let folder = folder();
    for algorithm in [Algorithm::Sm2, Algorithm::Ed25519] {
        let path = folder.join(format!("private-{algorithm}.pem"));
        if !path.exists() {
            let key = SigningKey::generate(algorithm).unwrap();
            fs::write(path, key.to_encrypted_pem(b"golden").unwrap()).unwrap();
        }
    }
    let keys = ["private.pem", "private-sm2.pem", "private-ed25519.pem"].map(golden_key);
    let first = RootDocument::new(1, 1, &[keys[0].public()]).unwrap();
    let mut roots = RootChain::first(first.to_bytes().unwrap()).unwrap();
    fs::write(
        folder.join("fingerprint-chain"),
        format!("{}\n", roots.fingerprint().hex()),
    )
    .unwrap();
    let mut next = roots.successor();
    for key in &keys {
        next.add(key.public());
    }
    next.threshold = 2;
    next.require = vec![Algorithm::Sm2];
    let mut next = SignedRoot {
        bytes: next.to_bytes().unwrap(),
        signatures: Vec::new(),
    };
    next.sign(&keys[0]);
    next.sign(&keys[1]);
    roots.extend(next).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let mut fake = Fake::with_dataset("golden", 1, &files());
    fake.keys = keys.into();
    fake.signers = Some(vec![0, 1]);
    fake.roots = Some(roots);
    fake.options.compress = true;
    fake.build(scratch.path(), &folder.join("chain.ferry"))
        .unwrap();
}

#[test]
fn the_chain_of_roots_of_format_1_is_followed_for_ever() {
    if std::env::var("FERRY_WRITE_GOLDEN").is_ok_and(|which| which == "chain") {
        write_chain();
    }
    let trusted = TrustedRoots::from_fingerprints([Digest::parse_hex(FIRST.trim()).unwrap()]);
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("chain.ferry");
    fs::copy(folder().join("chain.ferry"), &path).unwrap();
    let signers = || {
        let bundle = Sealed::open(&path).unwrap().verify(&trusted).unwrap();
        bundle.verify_all(2, &Silent).unwrap();
        assert_eq!(bundle.root_version, 2);
        bundle.signers.len()
    };
    assert_eq!(signers(), 2);
    // The third key still has its room.
    let mut draft = Draft::open(&path).unwrap();
    draft.sign(&golden_key("private-ed25519.pem")).unwrap();
    draft.write().unwrap();
    assert_eq!(signers(), 3);
}
