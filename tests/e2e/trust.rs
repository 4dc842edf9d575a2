//! Roots that are followed, kept, and never given up for older ones.

use std::fs;
use std::path::PathBuf;

use bundle_format::{Algorithm, RootChain, RootDocument, SignedRoot, SigningKey};
use e2e::{Site, say};
use serde_json::Value;

fn key(algorithm: Algorithm) -> SigningKey {
    SigningKey::generate(algorithm).unwrap()
}

fn copy(key: &SigningKey) -> SigningKey {
    let pem = key.to_encrypted_pem(b"p").unwrap();
    SigningKey::from_encrypted_pem(&pem, b"p").unwrap()
}

/// A site whose first bundle is signed under the first root of a chain, its second under the second root, and a key
/// of each algorithm that the second root has.
struct World {
    site: Site,
    first: RootChain,
    second: RootChain,
    keys: Vec<SigningKey>,
}

impl World {
    fn new() -> Self {
        let keys: Vec<_> = Algorithm::ALL.into_iter().map(key).collect();
        let root = RootDocument::new(1, 1, &[keys[0].public()]).unwrap();
        let first = RootChain::first(root.to_bytes().unwrap()).unwrap();
        let second = next(&first, &[&keys[0], &keys[1]], |root| {
            for key in &keys {
                root.add(key.public());
            }
            root.require = vec![Algorithm::Sm2];
        });
        let mut site = Site::new();
        for (name, chain, signers) in [("one", &first, 1), ("two", &second, 2)] {
            site.fake().roots = Some(chain.clone());
            site.fake().keys = keys[..signers].iter().map(copy).collect();
            site.fake().profiles.release += 1;
            site.carry(name);
        }
        Self {
            site,
            first,
            second,
            keys,
        }
    }

    fn bundle(&self, name: &str) -> String {
        self.site.bundle(name).display().to_string()
    }

    fn roots(&self) -> Vec<Value> {
        let list = self.site.installer(&["trust", "list", "--json"]);
        let list = list.ended_with(0).json();
        list["roots"].as_array().unwrap().clone()
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.site.folder().join(name);
        fs::write(&path, bytes).unwrap();
        path.display().to_string()
    }

    /// The first bundle is installed, and its root trusted.
    fn installed(self) -> Self {
        let fingerprint = self.first.fingerprint().hex();
        let bundle = self.bundle("one");
        let words = ["install", &bundle, "--yes", "--trust-root", &fingerprint];
        let _ = self.site.installer(&words).ended_with(0);
        self
    }
}

fn next(
    chain: &RootChain,
    signers: &[&SigningKey],
    change: impl FnOnce(&mut RootDocument),
) -> RootChain {
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
    chain.extend(root).unwrap();
    chain
}

#[test]
fn an_install_follows_the_chain_and_keeps_the_newest_root_alone() {
    let world = World::new().installed();
    assert_eq!(world.roots()[0]["version"], 1);
    let bundle = world.bundle("two");
    let verified = world.site.installer(&["verify", &bundle, "--json"]);
    let verified = verified.ended_with(0).json();
    let signers = verified["signers"].as_array().unwrap();
    let mut algorithms: Vec<_> = signers
        .iter()
        .map(|s| s["algorithm"].as_str().unwrap())
        .collect();
    algorithms.sort_unstable();
    assert_eq!(algorithms, ["ecdsa-p256-sha256", "sm2-sm3"]);
    // Looking keeps nothing.
    assert_eq!(world.roots()[0]["version"], 1);
    let said = world
        .site
        .installer(&["install", &bundle, "--yes"])
        .ended_with(0);
    assert!(
        said.words.contains("version 2 of the trust root"),
        "{said:?}"
    );
    let roots = world.roots();
    let [root] = roots.as_slice() else {
        panic!("{roots:?}");
    };
    assert_eq!(
        (&root["version"], &root["superseded"]),
        (&2.into(), &false.into())
    );
    let _ = world.site.installer(&["log", "verify"]).ended_with(0);
    let log = world
        .site
        .installer(&["log", "--json"])
        .ended_with(0)
        .json();
    let followed = |entry: &&Value| entry["action"] == "follow-root";
    assert_eq!(
        log["entries"]
            .as_array()
            .unwrap()
            .iter()
            .filter(followed)
            .count(),
        1
    );
    // The release that stands on the first root is still as it was signed, and one can go back to it.
    let _ = world.site.installer(&["audit", "--deep"]).ended_with(0);
    let _ = world.site.installer(&["rollback"]).ended_with(0);
    let _ = world.site.installer(&["audit"]).ended_with(0);
    // What the first root's key signed lacks the SM2 signature that the second one asks for.
    let bundle = world.bundle("one");
    let said = world.site.installer(&["verify", &bundle]).ended_with(4);
    assert!(said.words.contains("bundle.root-rollback"), "{said:?}");
    assert!(
        said.words.contains(world.keys[1].key_id().as_str()),
        "{said:?}"
    );
    let first = world.first.fingerprint().hex();
    let said = world
        .site
        .installer(&["trust", "remove", &first, "--yes"])
        .ended_with(2);
    assert!(said.words.contains("install.root-unknown"), "{said:?}");
    let second = world.second.fingerprint().hex();
    let said = world
        .site
        .installer(&["trust", "remove", &second, "--yes"])
        .ended_with(1);
    assert!(said.words.contains("install.root-in-use"), "{said:?}");
}

#[test]
fn a_file_of_roots_revokes_a_key_without_a_bundle() {
    let world = World::new().installed();
    let stolen = world.keys[0].key_id();
    let new = key(Algorithm::P256);
    let third = next(
        &world.second,
        &[&world.keys[0], &world.keys[1], &new],
        |root| {
            root.add(new.public());
            root.revoke(stolen);
        },
    );
    // A root that waits for signatures is no root yet.
    let mut waits = third.successor();
    waits.threshold = 2;
    let waits = SignedRoot {
        bytes: waits.to_bytes().unwrap(),
        signatures: Vec::new(),
    };
    let path = world.write("waits.json", &third.to_bytes(Some(&waits)).unwrap());
    let said = world.site.installer(&["trust", "add", &path]).ended_with(4);
    assert!(said.words.contains("bundle.root-unsigned"), "{said:?}");
    assert_eq!(world.roots()[0]["version"], 1);

    let path = world.write("roots.json", &third.to_bytes(None).unwrap());
    let said = world.site.installer(&["trust", "add", &path]).ended_with(0);
    assert!(said.data.contains("version 3"), "{said:?}");
    assert_eq!(world.roots()[0]["revoked"][0], stolen.as_str());
    for name in ["one", "two"] {
        let bundle = world.bundle(name);
        let said = world.site.installer(&["verify", &bundle]).ended_with(4);
        assert!(said.words.contains("bundle.key-revoked"), "{said:?}");
    }
    let said = world.site.installer(&["audit"]).ended_with(4);
    assert!(said.words.contains("bundle.key-revoked"), "{said:?}");
    // Once more changes nothing; an older file is no way back.
    let _ = world.site.installer(&["trust", "add", &path]).ended_with(0);
    let path = world.write("old.json", &world.second.to_bytes(None).unwrap());
    let said = world.site.installer(&["trust", "add", &path]).ended_with(4);
    assert!(said.words.contains("install.root-older"), "{said:?}");
    assert_eq!(world.roots().len(), 1);
}

#[test]
fn a_stranger_s_file_of_roots_needs_a_person() {
    let world = World::new();
    let path = world.write("roots.json", &world.second.to_bytes(None).unwrap());
    let said = world
        .site
        .installer(&["trust", "add", &path, "--yes"])
        .ended_with(2);
    assert!(said.words.contains("--fingerprint"), "{said:?}");
    let other = "1".repeat(64);
    let said = world
        .site
        .installer(&["trust", "add", &path, "--fingerprint", &other]);
    assert!(said.ended_with(4).words.contains("install.root-other"));
    assert!(!world.site.prefix().join("trust.d").exists());
    // The fingerprint on the paper may be that of any root of the chain.
    let first = world.first.fingerprint().hex();
    let words = ["trust", "add", &path, "--fingerprint", &first];
    let _ = world.site.installer(&words).ended_with(0);
    assert_eq!(world.roots()[0]["version"], 2);
    let bundle = world.bundle("two");
    let _ = world
        .site
        .installer(&["install", &bundle, "--yes"])
        .ended_with(0);
}

#[test]
fn a_fingerprint_can_be_trusted_before_anything_has_come() {
    let world = World::new();
    let first = world.first.fingerprint().hex();
    let _ = world
        .site
        .installer(&["trust", "add", &first])
        .ended_with(0);
    let list = world.site.installer(&["trust", "list"]).ended_with(0);
    assert!(list.data.contains("has not come yet"), "{list:?}");
    let _ = world.site.installer(&["log", "verify"]).ended_with(0);
    let bundle = world.bundle("two");
    let _ = world
        .site
        .installer(&["install", &bundle, "--yes"])
        .ended_with(0);
    let names: Vec<_> = fs::read_dir(world.site.prefix().join("trust.d"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(
        names,
        [format!("{}.json", world.second.fingerprint().hex())]
    );
    let _ = world.site.installer(&["log", "verify"]).ended_with(0);
    // One that nobody needs any more can be taken back.
    let other = "2".repeat(64);
    let _ = world
        .site
        .installer(&["trust", "add", &other])
        .ended_with(0);
    let _ = world
        .site
        .installer(&["trust", "remove", &other, "--yes"])
        .ended_with(0);
    assert_eq!(world.roots().len(), 1);
}

#[test]
fn the_machine_s_own_roots_count_and_are_never_written() {
    let world = World::new();
    let machine: PathBuf = world.site.folder().join("etc/ferry/trust.d");
    fs::create_dir_all(&machine).unwrap();
    let first = world.first.fingerprint().hex();
    let file = machine.join(format!("{first}.json"));
    fs::write(&file, world.first.last_bytes()).unwrap();
    let run = |words: &[&str]| {
        let mut command = world.site.command();
        command.args(words).arg("--prefix").arg(world.site.prefix());
        say(command.env("FERRY_TRUST_DIR", &machine))
    };
    let bundle = world.bundle("one");
    let said = world
        .site
        .installer(&["install", &bundle, "--yes"])
        .ended_with(2);
    assert!(said.words.contains("--trust-root"), "{said:?}");
    let _ = run(&["install", &bundle, "--yes"]).ended_with(0);
    assert!(!world.site.prefix().join("trust.d").exists());
    let list = run(&["trust", "list", "--json"]).ended_with(0).json();
    assert_eq!(list["roots"][0]["system"], true, "{list}");
    let _ = run(&["audit"]).ended_with(0);
    let said = run(&["trust", "remove", &first, "--yes"]).ended_with(1);
    assert!(said.words.contains("install.root-system"), "{said:?}");
    // A newer root goes to the prefix; taking it away again would let the older one count.
    let bundle = world.bundle("two");
    let _ = run(&["install", &bundle, "--yes"]).ended_with(0);
    let list = run(&["trust", "list"]).ended_with(0);
    assert!(list.data.contains("a newer version is trusted"), "{list:?}");
    let second = world.second.fingerprint().hex();
    let said = run(&["trust", "remove", &second, "--yes"]).ended_with(1);
    assert!(said.words.contains("install.root-system"), "{said:?}");
    let old = world.bundle("one");
    let said = run(&["verify", &old]).ended_with(4);
    assert!(said.words.contains("bundle.root-rollback"), "{said:?}");
    assert_eq!(fs::read(file).unwrap(), world.first.last_bytes());
}

#[test]
fn a_bundle_that_still_lacks_signatures_says_whose() {
    let mut world = World::new();
    let fake = world.site.fake();
    fake.signers = Some(vec![0]);
    fake.options.sign_later = true;
    fake.profiles.release += 1;
    world.site.carry("open");
    let bundle = world.bundle("open");
    let first = world.first.fingerprint().hex();
    for command in ["install", "verify", "preflight"] {
        let words = [command, &bundle, "--yes", "--trust-root", &first];
        let said = world.site.installer(&words).ended_with(4);
        assert!(said.words.contains("bundle.algorithm-missing"), "{said:?}");
        assert!(
            said.words.contains(world.keys[1].key_id().as_str()),
            "{said:?}"
        );
    }
    assert!(!world.site.prefix().exists());
}
