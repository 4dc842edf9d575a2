//! Keys on several machines: who may sign, signing without the key at hand, and what a signer gets to see.

use std::fs;

use serde_json::Value;

use crate::world::{Said, World};

/// Runs a command of `key` or `sign`, with the passphrase of all keys where it opens one.
fn run(world: &World, words: &[&str]) -> Said {
    let opens_none = matches!(words, ["key", "export" | "import", ..]);
    let more = ["--yes", "--json", "--passphrase-file", "passphrase"];
    let more = &more[..if opens_none { 2 } else { 4 }];
    world.run(&[words, more].concat())
}

fn done(world: &World, words: &[&str]) -> Value {
    run(world, words).ended_with(0).json()
}

/// Makes a key in `folder` and says its identifier.
fn keygen(world: &World, folder: &str, algorithm: &str) -> String {
    let words = ["keygen", folder, "--algorithm", algorithm];
    let made = world.run(&[&words[..], &["--passphrase-file", "passphrase", "--json"]].concat());
    let made = made.ended_with(0).json();
    made["key_id"].as_str().unwrap().to_owned()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn a_bundle_is_signed_on_machines_that_never_see_it() {
    let world = World::new();
    let first = world.keygen();
    keygen(&world, "sm2", "sm2");
    let made = done(&world, &["key", "add", "key", "sm2/public.pem"]);
    assert_eq!(
        (&made["version"], &made["complete"]),
        (&2.into(), &true.into())
    );
    // Now the new key has to agree: it gets the roots, looks, and signs.
    let made = done(&world, &["key", "require", "key", "sm2"]);
    assert_eq!(
        (&made["version"], &made["complete"]),
        (&3.into(), &false.into())
    );
    let _ = run(&world, &["key", "export", "key", "roots.json"]);
    let list = world
        .run(&["key", "list", "key", "--json"])
        .ended_with(0)
        .json();
    assert_eq!(list["root"]["version"], 2, "{list}");
    assert_eq!(list["waits"]["missing"][0]["of_version"], 3, "{list}");
    let signed = done(&world, &["key", "sign", "roots.json", "--key", "sm2"]);
    assert_eq!(signed["complete"], true, "{signed}");
    for folder in ["key", "sm2"] {
        let made = done(&world, &["key", "import", folder, "roots.json"]);
        assert_eq!(
            (&made["version"], &made["complete"]),
            (&3.into(), &true.into())
        );
    }

    // Without models: where the key is at hand, they are signed by themselves.
    let mut plan = world.plan();
    plan["models"] = serde_json::json!([]);
    world.write_plan(&plan);
    world.lock().ended_with(0);
    let build = [
        "build",
        "ferry.lock",
        "--unsigned",
        "--root",
        "roots.json",
        "--json",
    ];
    let built = world.run(&build).ended_with(0).json();
    assert_eq!(built["missing"], 2, "{built}");
    let verify = ["verify", "demo-1.ferry", "--root", &first, "--json"];
    let refused = world.run(&verify).ended_with(4);
    assert!(
        refused.data.contains("bundle.signatures-too-few"),
        "{refused:?}"
    );
    assert!(
        refused.data.contains("(sm2)") && refused.data.contains("(p256)"),
        "{refused:?}"
    );

    let exported = done(&world, &["sign", "demo-1.ferry", "--export", "statement"]);
    let mut signatures = Vec::new();
    for folder in ["key", "sm2"] {
        let made = done(&world, &["sign", "statement", "--key", folder]);
        assert_eq!(made["statement"], exported["statement"]);
        signatures.push(text(&made["signatures"][0]).to_owned());
    }
    let mut missing = 2;
    for signature in &signatures {
        missing -= 1;
        let signed = done(&world, &["sign", "demo-1.ferry", "--import", signature]);
        assert_eq!(signed["missing"], missing, "{signed}");
        assert_eq!(signed["complete"], missing == 0, "{signed}");
    }
    let verified = world.run(&verify).ended_with(0).json();
    assert_eq!(verified["root_version"], 3);
    let mut found: Vec<_> = verified["signers"].as_array().unwrap().iter().collect();
    found.sort_by_key(|signer| signer["algorithm"].to_string());
    let found: Vec<_> = found
        .iter()
        .map(|signer| text(&signer["algorithm"]))
        .collect();
    assert_eq!(found, ["ecdsa-p256-sha256", "sm2-sm3"]);

    // The machine that has both keys makes the same bytes in one go.
    let later = fs::read(world.path("demo-1.ferry")).unwrap();
    fs::remove_file(world.path("demo-1.ferry")).unwrap();
    world.build(&["--key", "sm2"]).ended_with(0);
    assert!(fs::read(world.path("demo-1.ferry")).unwrap() == later);
    // A signature of another statement, and a file that is none.
    fs::copy(world.path("statement"), world.path("other")).unwrap();
    let other = fs::read_to_string(world.path("other")).unwrap();
    world.write(
        "other",
        other.replacen("\"stable\"", "\"nightly\"", 1).as_bytes(),
    );
    let made = done(&world, &["sign", "other", "--key", "key"]);
    for file in [text(&made["signatures"][0]), "passphrase"] {
        let refused = run(&world, &["sign", "demo-1.ferry", "--import", file]).ended_with(4);
        assert!(refused.data.contains("bundle.sign-foreign"), "{refused:?}");
    }
}

#[test]
fn a_root_goes_round_those_who_must_sign_it() {
    let world = World::new();
    let first = world.keygen();
    let second = keygen(&world, "second", "p256");
    let _ = done(&world, &["key", "add", "key", "second/public.pem"]);
    let made = done(&world, &["key", "threshold", "key", "2"]);
    assert_eq!(made["complete"], false, "{made}");
    let _ = done(&world, &["key", "export", "key", "roots.json"]);
    // The folder of the second key has a root of its own, and that is another.
    let refused = run(&world, &["key", "sign", "roots.json", "--key", "second"]).ended_with(4);
    assert!(refused.data.contains("bundler.roots-differ"), "{refused:?}");
    for file in ["root.json", "fingerprint"] {
        fs::remove_file(world.path("second").join(file)).unwrap();
    }
    let _ = done(&world, &["key", "sign", "roots.json", "--key", "second"]);
    let made = done(&world, &["key", "import", "key", "roots.json"]);
    assert_eq!(
        (&made["version"], &made["complete"]),
        (&3.into(), &true.into())
    );
    let _ = done(&world, &["key", "import", "second", "roots.json"]);

    // The first key is replaced; both must agree, and then it is gone and its folder has the new one.
    let old = fs::read(world.path("key/private.pem")).unwrap();
    let waits = done(&world, &["key", "rotate", "key", "--revoke"]);
    assert_eq!(waits["complete"], false, "{waits}");
    assert!(fs::read(world.path("key/private.pem")).unwrap() == old);
    let again = run(&world, &["key", "rotate", "key"]).ended_with(2);
    assert!(again.data.contains("bundler.exists"), "{again:?}");
    let _ = done(&world, &["key", "export", "key", "roots.json"]);
    let unasked = world
        .run(&["key", "sign", "roots.json", "--key", "second"])
        .ended_with(2);
    assert!(
        unasked.words.contains("--yes"),
        "nobody looked: {unasked:?}"
    );
    let _ = done(&world, &["key", "sign", "roots.json", "--key", "second"]);
    let _ = done(&world, &["key", "import", "key", "roots.json"]);
    let list = world
        .run(&["key", "list", "key", "--json"])
        .ended_with(0)
        .json();
    assert_eq!(list["root"]["version"], 4, "{list}");
    assert_eq!(list["fingerprints"][0], Value::String(first.clone()));
    let revoked = text(&list["root"]["revoked"][0]).to_owned();
    assert!(fs::read(world.path(&format!("key/old-{revoked}.pem"))).unwrap() == old);
    assert!(!world.path("key/next-public.pem").exists());
    let fingerprint = fs::read_to_string(world.path("key/fingerprint")).unwrap();
    assert_eq!(fingerprint.trim(), text(&list["fingerprint"]));

    // Both keys of the new root sign a bundle, which who knows the first root trusts.
    world.write_plan(&world.plan());
    world.lock().ended_with(0);
    let few = world.build(&[]).ended_with(2);
    assert!(few.words.contains(&second), "{few:?}");
    world.build(&["--key", "second"]).ended_with(0);
    let words = ["verify", "demo-1.ferry", "--root", &first, "--json"];
    assert_eq!(world.run(&words).ended_with(0).json()["root_version"], 4);
}

#[test]
fn edits_that_cannot_be_are_explained() {
    let world = World::new();
    let _ = world.keygen();
    let own = keygen(&world, "other", "ed25519");
    for (words, status, code) in [
        (&["threshold", "key", "2"][..], 2, "bundler.root-impossible"),
        (&["threshold", "key", "1"], 2, "bundler.root-unchanged"),
        (&["require", "key", "sm2"], 2, "bundler.root-impossible"),
        (&["remove", "key", "ffff"], 2, "bundler.key-unknown"),
        (&["add", "key", "passphrase"], 2, "bundle.key-malformed"),
        (&["import", "key", "passphrase"], 4, "bundle.root-malformed"),
        (
            &["sign", "key/root.json", "--key", "key"],
            2,
            "bundler.nothing-pending",
        ),
    ] {
        let words = [&["key"], words].concat();
        let refused = run(&world, &words).ended_with(status);
        assert!(refused.data.contains(code), "{words:?}: {refused:?}");
    }
    assert!(!world.path("key/roots.json").exists());
    let refused = world
        .run(&["key", "discard", "key", "--json"])
        .ended_with(2);
    assert!(
        refused.data.contains("bundler.nothing-pending"),
        "{refused:?}"
    );
    let _ = done(&world, &["key", "add", "key", "other/public.pem"]);
    let _ = done(&world, &["key", "threshold", "key", "2"]);
    let list = world.run(&["key", "list", "key"]).ended_with(0);
    assert!(list.data.contains(&format!("ed25519 {own}")), "{list:?}");
    assert!(list.data.contains("threshold 1 -> 2"), "{list:?}");
    let _ = world.run(&["key", "discard", "key"]).ended_with(0);
    let list = world
        .run(&["key", "list", "key", "--json"])
        .ended_with(0)
        .json();
    assert!(list["waits"].is_null(), "{list}");
}

#[test]
fn parity_that_would_undo_a_signature_is_in_the_way() {
    let world = World::new();
    world.built();
    world.run(&["parity", "demo-1.ferry"]).ended_with(0);
    let refused = run(&world, &["sign", "demo-1.ferry", "--key", "key"]).ended_with(2);
    assert!(
        refused.data.contains("bundler.parity-beside"),
        "{refused:?}"
    );
    fs::remove_file(world.path("demo-1.par001")).unwrap();
    let before = fs::read(world.path("demo-1.ferry")).unwrap();
    let signed = done(&world, &["sign", "demo-1.ferry", "--key", "key"]);
    assert_eq!(signed["complete"], true, "{signed}");
    assert!(fs::read(world.path("demo-1.ferry")).unwrap() == before);
}
