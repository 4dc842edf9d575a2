//! Packages of vendors with their own signatures: a zip with `.run`, `.cms` and `.crl`, and a root that the plan pins.

use std::fs;
use std::io::{Cursor, Write};
use std::process::Command;

use manifest_schema::Digest;
use serde_json::{Value, json};

use crate::world::World;

const PACKAGE: &[u8] = b"#!/bin/sh\necho the toolkit\n";

fn openssl(world: &World, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(world.folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments}: {said}");
}

/// Signs the package, and packs it with its signature and an empty revocation list as `toolkit.zip`.
fn vendor(world: &World) {
    world.write(
        "config",
        b"[req]\ndistinguished_name = name\n[name]\n[root]\nbasicConstraints = critical,CA:TRUE\n\
          keyUsage = critical,keyCertSign,cRLSign\n[signer]\nkeyUsage = critical,digitalSignature\n\
          [ca]\ndefault_ca = lists\n[lists]\ndatabase = index.txt\ndefault_md = sha256\ndefault_crl_days = 3000\n",
    );
    world.write("index.txt", b"");
    world.write("toolkit.run", PACKAGE);
    openssl(
        world,
        "req -x509 -newkey rsa:2048 -nodes -keyout root.key -subj /CN=Root -days 9000 -config config -extensions root -out root.pem",
    );
    openssl(
        world,
        "req -new -newkey rsa:2048 -nodes -keyout signer.key -subj /CN=Signer -config config -out signer.csr",
    );
    openssl(
        world,
        "x509 -req -in signer.csr -CA root.pem -CAkey root.key -set_serial 7 -days 8000 -extfile config -extensions signer -out signer.pem",
    );
    openssl(
        world,
        "ca -gencrl -config config -cert root.pem -keyfile root.key -out crl.pem",
    );
    openssl(world, "crl -in crl.pem -outform DER -out toolkit.crl");
    openssl(
        world,
        "cms -sign -binary -in toolkit.run -signer signer.pem -inkey signer.key -md sha256 -outform DER -out toolkit.run.cms",
    );
    openssl(world, "x509 -in root.pem -outform DER -out root.der");
    pack(world);
}

fn pack(world: &World) {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for name in ["toolkit.run", "toolkit.run.cms", "toolkit.crl"] {
        let plain = zip::write::SimpleFileOptions::default();
        zip.start_file(name, plain).unwrap();
        zip.write_all(&fs::read(world.path(name)).unwrap()).unwrap();
    }
    fs::create_dir_all(world.path("mine")).unwrap();
    world.write("mine/toolkit.zip", &zip.finish().unwrap().into_inner());
}

fn plan(world: &World) -> Value {
    let zip = fs::read(world.path("mine/toolkit.zip")).unwrap();
    let mut plan = world.plan();
    plan["models"] = json!([]);
    plan["datasets"] = json!([]);
    plan["backends"][0]["python"] = json!(null);
    plan["backends"][0]["files"] = json!([
        { "path": "vendor", "source": { "own": { "file_name": "toolkit.zip", "size": zip.len(),
            "digest": Digest::of(&zip), "from": "the vendor's page", "members": ["*"] } } },
        { "path": "vendor/root.pem", "source": { "file": { "path": "root.pem" } } },
    ]);
    plan["backends"][0]["signatures"] = json!([{ "package": "vendor/toolkit.run",
        "signature": "vendor/toolkit.run.cms", "lists": ["vendor/toolkit.crl"], "root": "vendor/root.pem",
        "root_digest": Digest::of(&fs::read(world.path("root.der")).unwrap()) }]);
    plan
}

#[test]
fn a_vendors_signature_is_checked_before_the_bundle_is_written_and_goes_along() {
    let world = World::new();
    vendor(&world);
    world.keygen();
    world.write_plan(&plan(&world));
    world.lock().ended_with(0);
    let said = world.build(&["--bring", "mine"]).ended_with(0);
    assert!(
        said.words.contains("signed by `CN=Signer` under `CN=Root`"),
        "{said:#?}"
    );
    let shown = world
        .run(&["inspect", "demo-1.ferry", "--json"])
        .ended_with(0)
        .json();
    let backend = &shown["profiles"]["backends"][0];
    assert_eq!(
        backend["signatures"],
        plan(&world)["backends"][0]["signatures"]
    );
    let paths: Vec<_> = backend["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["path"].clone())
        .collect();
    assert_eq!(paths.len(), 4, "{paths:?}");
}

#[test]
fn a_package_that_its_vendor_did_not_sign_is_not_packed() {
    let world = World::new();
    vendor(&world);
    world.keygen();
    type Change = fn(&World, &mut Value);
    let changes: [(Change, &str); 4] = [
        (
            |_, plan| {
                plan["backends"][0]["signatures"][0]["root_digest"] = json!(Digest::of(b"other"))
            },
            "vendor.root-differs",
        ),
        (
            |_, plan| plan["backends"][0]["signatures"][0]["signature"] = json!("vendor/none.cms"),
            "vendor.file",
        ),
        (
            |world, plan| {
                world.write(
                    "index.txt",
                    b"R\t450101000000Z\t250203000000Z\t07\tunknown\t/CN=Signer\n",
                );
                openssl(
                    world,
                    "ca -gencrl -config config -cert root.pem -keyfile root.key -out crl.pem",
                );
                openssl(world, "crl -in crl.pem -outform DER -out toolkit.crl");
                pack(world);
                *plan = self::plan(world);
            },
            "vendor.revoked",
        ),
        (
            |world, plan| {
                world.write("toolkit.run", b"#!/bin/sh\necho something else\n");
                pack(world);
                *plan = self::plan(world);
            },
            "vendor.content-differs",
        ),
    ];
    for (change, code) in changes {
        let mut plan = plan(&world);
        change(&world, &mut plan);
        world.write_plan(&plan);
        world.lock().ended_with(0);
        let said = world.build(&["--bring", "mine", "--json"]);
        assert_eq!(said.json()["error"]["code"], code, "{said:#?}");
        assert!(!world.path("demo-1.ferry").exists());
    }
}
