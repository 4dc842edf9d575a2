//! Chains of roots, thresholds and algorithms: who may sign a bundle, and who may say so.

use std::fs;
use std::path::Path;
use std::process::Command;

use bundle_format::fake::Fake;
use bundle_format::{
    Algorithm, Draft, Fault, RootChain, RootDocument, Sealed, SignedMetadata, SignedRoot,
    SigningKey, TrustedRoots, Verified, VerifyError,
};
use manifest_schema::Digest;
use report::Diagnose as _;
use tempfile::TempDir;

fn key() -> SigningKey {
    SigningKey::generate(Algorithm::P256).unwrap()
}

fn first(keys: &[&SigningKey], threshold: u32) -> RootChain {
    let keys: Vec<_> = keys.iter().map(|key| key.public()).collect();
    let root = RootDocument::new(1, threshold, &keys).unwrap();
    RootChain::first(root.to_bytes().unwrap()).unwrap()
}

/// The chain with one root more.
fn next(
    chain: &RootChain,
    signers: &[&SigningKey],
    change: impl FnOnce(&mut RootDocument),
) -> Result<RootChain, bundle_format::KeyError> {
    let mut chain = chain.clone();
    let mut document = chain.successor();
    change(&mut document);
    let mut root = SignedRoot {
        bytes: document.to_bytes().unwrap(),
        signatures: Vec::new(),
    };
    for key in signers {
        root.sign(key);
    }
    chain.extend(root).map(|()| chain)
}

/// A bundle under `roots`, signed by `keys`.
struct Parcel {
    folder: TempDir,
}

impl Parcel {
    fn new(roots: &RootChain, keys: &[&SigningKey]) -> Self {
        let mut fake = Fake::with_dataset("demo", 1, &[("x", b"ferry\n".to_vec())]);
        fake.keys.clear();
        for key in keys {
            let pem = key.to_encrypted_pem(b"p").unwrap();
            fake.keys
                .push(SigningKey::from_encrypted_pem(&pem, b"p").unwrap());
        }
        fake.roots = Some(roots.clone());
        let folder = tempfile::tempdir().unwrap();
        fake.build(folder.path(), &folder.path().join("a.ferry"))
            .unwrap();
        Self { folder }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("a.ferry")
    }

    fn verify(&self, roots: &TrustedRoots) -> Result<Verified, VerifyError> {
        Sealed::open(&self.path())?.verify(roots)
    }
}

/// A site that keeps the last root of a chain.
fn keeps(chain: &RootChain) -> TrustedRoots {
    let mut roots = TrustedRoots::default();
    roots.trust_document(chain.last_bytes()).unwrap();
    roots
}

#[test]
fn who_trusts_one_root_trusts_those_that_follow_and_never_goes_back() {
    let [a, b, c] = [(), (), ()].map(|()| key());
    let one = first(&[&a], 1);
    let two = next(&one, &[&a, &b], |root| root.add(b.public())).unwrap();
    let three = next(&two, &[&b, &c], |root| {
        root.remove(a.key_id());
        root.add(c.public());
        root.threshold = 2;
    })
    .unwrap();
    let newest = Parcel::new(&three, &[&b, &c]);
    for (chain, version) in [(&one, 1), (&two, 2), (&three, 3)] {
        let bundle = newest.verify(&keeps(chain)).unwrap();
        assert_eq!(
            (bundle.root_version, bundle.newer_root),
            (3, None),
            "{version}"
        );
        assert_eq!(bundle.root_document(), three.last_bytes());
        let typed = TrustedRoots::from_fingerprints([chain.fingerprint()]);
        assert_eq!(newest.verify(&typed).unwrap().key_ids.len(), 2);
    }
    // What `a` alone signed is refused once `a` does not count, and what two of the new keys signed is not.
    let oldest = Parcel::new(&one, &[&a]);
    assert!(oldest.verify(&keeps(&one)).is_ok());
    assert_eq!(oldest.verify(&keeps(&two)).unwrap().newer_root, Some(2));
    let error = oldest.verify(&keeps(&three)).unwrap_err();
    assert_eq!(error.code(), "bundle.root-rollback");
    assert!(matches!(
        error.fault,
        Fault::RootRollback {
            version: 1,
            trusted: 3,
            ..
        }
    ));
    // A flag that names the old root does not help.
    let mut roots = keeps(&three);
    roots.trust(one.fingerprint());
    assert!(oldest.verify(&roots).is_err());
    assert_eq!(
        newest.verify(&TrustedRoots::default()).unwrap_err().code(),
        "bundle.root-untrusted"
    );
}

#[test]
fn a_revoked_key_counts_nowhere_and_never_again() {
    let [a, b] = [(), ()].map(|()| key());
    let one = first(&[&a, &b], 1);
    let old = Parcel::new(&one, &[&a]);
    let both = Parcel::new(&one, &[&a, &b]);
    let two = next(&one, &[&b], |root| root.revoke(a.key_id())).unwrap();
    let error = old.verify(&keeps(&two)).unwrap_err();
    assert_eq!(error.code(), "bundle.key-revoked");
    assert!(error.to_string().contains(a.key_id().as_str()), "{error}");
    // The other signature is enough.
    let bundle = both.verify(&keeps(&two)).unwrap();
    assert_eq!(bundle.key_ids, [b.key_id().clone()]);
    // An installed release is held to the same.
    let release = old.folder.path().join("release");
    for (name, bytes) in &old.verify(&keeps(&one)).unwrap().metadata {
        let path = release.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    assert!(SignedMetadata::read(&release, &keeps(&one)).is_ok());
    // A key that merely left the root still vouches for what is installed, and for nothing new.
    let left = next(&one, &[&b], |root| root.remove(a.key_id())).unwrap();
    assert!(SignedMetadata::read(&release, &keeps(&left)).is_ok());
    let error = old.verify(&keeps(&left)).unwrap_err();
    assert_eq!(error.code(), "bundle.root-rollback");
    let error = SignedMetadata::read(&release, &keeps(&two)).unwrap_err();
    assert_eq!(error.code(), "bundle.key-revoked");
    // It cannot come back, not even in its own name.
    let error = next(&two, &[&b], |root| root.revoked.clear()).unwrap_err();
    assert_eq!(error.code(), "bundle.root-not-next");
}

#[test]
fn a_root_must_be_signed_by_the_one_before_and_by_itself() {
    let [a, b, c] = [(), (), ()].map(|()| key());
    let one = first(&[&a, &b], 2);
    let change = |root: &mut RootDocument| {
        root.add(c.public());
        root.threshold = 1;
    };
    for (signers, code) in [
        (&[][..], "bundle.root-unsigned"),
        (&[&a], "bundle.root-unsigned"),
        (&[&c], "bundle.root-unsigned"),
        (&[&a, &c], "bundle.root-unsigned"),
    ] {
        assert_eq!(next(&one, signers, change).unwrap_err().code(), code);
    }
    assert!(next(&one, &[&a, &b], change).is_ok());
    let takes_over = |root: &mut RootDocument| {
        root.keys.clear();
        root.add(c.public());
        root.threshold = 1;
    };
    let error = next(&one, &[&a, &b], takes_over).unwrap_err().to_string();
    assert!(error.contains("not signed as version 2 asks"), "{error}");
    let stranger = key();
    let error = next(&one, &[&a, &b, &stranger], change).unwrap_err();
    assert_eq!(error.code(), "bundle.root-signature");
    for wrong in [1, 3] {
        let change = |root: &mut RootDocument| {
            root.version = wrong;
            root.previous = vec![Digest::of(b"x"); wrong as usize - 1];
        };
        let error = next(&one, &[&a, &b], change).unwrap_err();
        assert_eq!(error.code(), "bundle.root-not-next");
    }
    // Two roots of one version: whoever trusts the one refuses the other.
    let ours = next(&one, &[&a, &b], change).unwrap();
    let theirs = next(&one, &[&a, &b], |root| root.threshold = 1).unwrap();
    let error = Parcel::new(&theirs, &[&a])
        .verify(&keeps(&ours))
        .unwrap_err();
    assert_eq!(error.code(), "bundle.root-forked");
}

#[test]
fn roots_travel_alone_in_a_file() {
    let [a, b] = [(), ()].map(|()| key());
    let one = first(&[&a], 1);
    let two = next(&one, &[&a], |root| root.add(b.public())).unwrap();
    let bytes = two.to_bytes(None).unwrap();
    let (read, waits) = RootChain::parse(&bytes).unwrap();
    assert!(waits.is_none() && read.fingerprint() == two.fingerprint());
    assert_eq!(keeps(&one).knows_newer(&read), Ok(false));
    assert_eq!(keeps(&two).knows_newer(&one), Ok(true));
    let mut document = two.successor();
    document.threshold = 2;
    let mut unsigned = SignedRoot {
        bytes: document.to_bytes().unwrap(),
        signatures: Vec::new(),
    };
    unsigned.sign(&a);
    let (read, waits) = RootChain::parse(&two.to_bytes(Some(&unsigned)).unwrap()).unwrap();
    assert_eq!(waits.as_ref(), Some(&unsigned));
    let lacking = read.lacking(&unsigned).unwrap();
    let [(3, lack)] = lacking.as_slice() else {
        panic!("{lacking:?}");
    };
    assert!(lack.keys().contains(b.key_id().as_str()));
    // No byte of it can change unseen.
    let text = String::from_utf8(bytes).unwrap();
    for (from, to) in [
        ("\\\"threshold\\\": 1", "\\\"threshold\\\": 2"),
        ("\"sig\": \"M", "\"sig\": \"N"),
        ("ecdsa-p256-sha256", "sm2-sm3"),
        ("\"format\": 1", "\"format\": 2"),
        ("\"roots\": [", "\"roots\": [], \"more\": ["),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        assert!(RootChain::parse(changed.as_bytes()).is_err(), "{from}");
    }
}

#[test]
fn a_root_may_ask_for_an_algorithm_and_every_bundle_has_p256() {
    let [p256, sm2, ed25519] =
        Algorithm::ALL.map(|algorithm| SigningKey::generate(algorithm).unwrap());
    let all = [&p256, &sm2, &ed25519];
    let publics = all.map(SigningKey::public);
    let mut root = RootDocument::new(1, 1, &publics).unwrap();
    root.require = vec![Algorithm::Sm2];
    let roots = RootChain::first(root.to_bytes().unwrap()).unwrap();
    let parcel = Parcel::new(&roots, &all);
    let bundle = parcel.verify(&keeps(&roots)).unwrap();
    let mut found: Vec<_> = bundle.signers.iter().map(|s| s.algorithm).collect();
    found.sort();
    assert_eq!(found, Algorithm::ALL);
    let two = Parcel::new(&roots, &[&p256, &sm2]);
    assert_eq!(two.verify(&keeps(&roots)).unwrap().signers.len(), 2);
    let mut fake = Fake::with_dataset("demo", 1, &[]);
    fake.keys =
        vec![SigningKey::from_encrypted_pem(&sm2.to_encrypted_pem(b"p").unwrap(), b"p").unwrap()];
    fake.roots = Some(roots.clone());
    let path = two.folder.path().join("b.ferry");
    let error = fake.build(two.folder.path(), &path).unwrap_err();
    assert_eq!(error.code(), "bundle.signers-algorithm");
    fake.options.sign_later = true;
    fake.build(two.folder.path(), &path).unwrap();
    let refused = Sealed::open(&path)
        .unwrap()
        .verify(&keeps(&roots))
        .unwrap_err();
    assert_eq!(refused.code(), "bundle.algorithm-missing");
    assert!(
        refused.to_string().contains(p256.key_id().as_str()),
        "{refused}"
    );
    assert!(path.is_file() && !two.folder.path().join("b.ferry.partial").exists());
}

#[test]
fn what_openssl_signs_with_its_own_keys_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let shell = |script: &str| {
        let output = Command::new("sh")
            .args(["-euc", script])
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
    };
    let make = [
        (
            Algorithm::P256,
            "-algorithm EC -pkeyopt ec_paramgen_curve:P-256",
            "-digest sha256",
        ),
        (
            Algorithm::Sm2,
            "-algorithm EC -pkeyopt ec_paramgen_curve:SM2",
            "-digest sm3 -pkeyopt distid:1234567812345678",
        ),
        (Algorithm::Ed25519, "-algorithm ED25519", ""),
    ];
    let mut keys = Vec::new();
    for (algorithm, options, _) in make {
        shell(&format!(
            "openssl genpkey {options} | openssl pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA256 -passout pass:p -out {algorithm}.pem"
        ));
        let pem = fs::read_to_string(folder.path().join(format!("{algorithm}.pem"))).unwrap();
        let key = SigningKey::from_encrypted_pem(&pem, b"p").unwrap();
        assert_eq!(key.public().algorithm(), algorithm);
        // And openssl reads the key as we write it.
        let ours = folder.path().join(format!("{algorithm}.ours.pem"));
        fs::write(&ours, key.to_encrypted_pem(b"q").unwrap()).unwrap();
        shell(&format!(
            "openssl pkey -in {algorithm}.ours.pem -passin pass:q -pubout -out {algorithm}.pub"
        ));
        let public = fs::read_to_string(folder.path().join(format!("{algorithm}.pub"))).unwrap();
        assert_eq!(public, key.public().pem(), "{algorithm}");
        keys.push(key);
    }
    let publics: Vec<_> = keys.iter().map(SigningKey::public).collect();
    let root = RootDocument::new(1, 3, &publics).unwrap();
    let mut fake = Fake::with_dataset("demo", 1, &[("x", b"ferry\n".to_vec())]);
    fake.keys.clear();
    fake.roots = Some(RootChain::first(root.to_bytes().unwrap()).unwrap());
    fake.options.sign_later = true;
    let path = folder.path().join("a.ferry");
    fake.build(folder.path(), &path).unwrap();
    let mut draft = Draft::open(&path).unwrap();
    fs::write(folder.path().join("statement"), draft.statement()).unwrap();
    shell(
        "{ printf 'DSSEv1 28 application/vnd.in-toto+json %d ' \"$(wc -c < statement)\"; cat statement; } > pae",
    );
    for (algorithm, _, options) in make {
        shell(&format!(
            "openssl pkeyutl -sign -inkey {algorithm}.pem -passin pass:p -rawin {options} -in pae -out {algorithm}.sig"
        ));
        let signature = fs::read(folder.path().join(format!("{algorithm}.sig"))).unwrap();
        assert_eq!(draft.take(&signature).unwrap().algorithm, algorithm);
    }
    draft.write().unwrap();
    let verified = Sealed::open(&path).unwrap().verify(&fake.roots()).unwrap();
    assert_eq!(verified.signers.len(), 3);
}

/// Overwrites the bytes of a member.
fn poke(path: &Path, name: &str, at: usize, with: &[u8]) {
    let mut bytes = fs::read(path).unwrap();
    let mut offset = 0;
    loop {
        let header = &bytes[offset..offset + 512];
        let size = std::str::from_utf8(&header[124..135]).unwrap();
        let size = usize::from_str_radix(size, 8).unwrap();
        if header.starts_with(name.as_bytes()) {
            bytes[offset + 512 + at..][..with.len()].copy_from_slice(with);
            fs::write(path, bytes).unwrap();
            return;
        }
        offset += 512 + size.div_ceil(512) * 512;
    }
}

#[test]
fn the_room_for_a_signature_hides_nothing() {
    let [a, b] = [(), ()].map(|()| key());
    let roots = first(&[&a, &b], 1);
    let parcel = Parcel::new(&roots, &[&a]);
    let good = fs::read(parcel.path()).unwrap();
    assert!(parcel.verify(&keeps(&roots)).is_ok());
    let room = format!("meta/statement.sig/{}.room", b.key_id());
    for (at, with) in [
        (0, &b"x"[..]),
        (511, b"x"),
        (0, b"\x30\x45"),
        (0, &[0xff; 512]),
    ] {
        poke(&parcel.path(), &room, at, with);
        let error = parcel.verify(&keeps(&roots)).unwrap_err();
        assert_eq!(error.code(), "bundle.padding-invalid");
        fs::write(parcel.path(), &good).unwrap();
    }
    // A good signature that is about to be named may stand there: power went between two blocks. It does not count.
    let both = Parcel::new(&roots, &[&a, &b]);
    let signature = format!("meta/statement.sig/{}.p256", b.key_id());
    let mut signature = both.verify(&keeps(&roots)).unwrap().metadata[&signature].clone();
    poke(&parcel.path(), &room, 0, &signature);
    assert_eq!(parcel.verify(&keeps(&roots)).unwrap().signers.len(), 1);
    *signature.last_mut().unwrap() ^= 1;
    poke(&parcel.path(), &room, 0, &signature);
    assert!(parcel.verify(&keeps(&roots)).is_err());
    let envelope = good
        .windows(8)
        .rposition(|run| run == b"\"sig\":\"\"")
        .unwrap();
    let mut changed = good.clone();
    changed[envelope + 7] = b'x';
    fs::write(parcel.path(), &changed).unwrap();
    let error = parcel.verify(&keeps(&roots)).unwrap_err();
    assert_eq!(error.code(), "bundle.member-differs");
}
