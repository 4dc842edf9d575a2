//! From nothing to a bundle that was checked, with the program and by hand.

use std::fs;
use std::process::Command;

use manifest_schema::Digest;
use serde_json::json;

use crate::world::{COMMIT, Said, TOKEN, World};

#[test]
fn init_lock_build_verify_inspect() {
    let world = World::new();
    let fingerprint = world.keygen();
    let init = [
        "init",
        "--name",
        "demo",
        "--model",
        "org/model",
        "--accept-license",
        "Apache-2.0",
    ];
    world.run(&init).ended_with(0);
    assert_eq!(
        world.run(&init).ended_with(2).status,
        2,
        "a plan is never overwritten"
    );
    let locked = world
        .run(&["lock", "plan.json", "--json"])
        .ended_with(0)
        .json();
    assert_eq!(locked["artifacts"], 2, "{locked}");
    let words = ["--json", "--output", "out.ferry"];
    let built = world.build(&words).ended_with(0).json();
    assert_eq!(built["fingerprint"], fingerprint);
    let verified = world.run(&["verify", "out.ferry", "--root", &fingerprint, "--json"]);
    let verified = verified.ended_with(0).json();
    assert_eq!(verified["statement"], built["statement"]);
    let key = world.run(&["verify", "out.ferry", "--key", "key/public.pem"]);
    assert_eq!(
        key.ended_with(0).data.trim(),
        built["statement"].as_str().unwrap()
    );
    let inspected = world
        .run(&["inspect", "out.ferry", "--json"])
        .ended_with(0)
        .json();
    let model = &inspected["profiles"]["components"][0];
    assert_eq!(model["revision"], COMMIT);
    let files: Vec<_> = model["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| &f["path"])
        .collect();
    assert_eq!(files, ["config.json", "model.safetensors", "model.sig"]);
    assert_eq!(model["signature"], "model.sig");
}

#[test]
fn every_source_ends_up_in_the_bundle_with_its_origin() {
    let world = World::new();
    world.built();
    let shown = world
        .run(&["inspect", "demo-1.ferry", "--json"])
        .ended_with(0)
        .json();
    let backend = &shown["profiles"]["backends"][0];
    let paths: Vec<_> = backend["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| &f["path"])
        .collect();
    assert_eq!(
        paths,
        [
            "bin/tool",
            "bin/uv",
            "lib/liba.so",
            "lib/libb.so",
            "lib/local.so"
        ]
    );
    assert_eq!(backend["python"]["requirements"][0], "demo==1.0");
    assert_eq!(
        fs::read_to_string(world.path("asked-of-uv")).unwrap(),
        "demo\n"
    );
    let dataset = &shown["profiles"]["components"][1]["files"][0];
    let filled = r#"[{"output": "I am Xiaodu."}]"#;
    assert_eq!(dataset["digest"], Digest::of(filled.as_bytes()).to_string());
    let origins = shown["provenance"]["blobs"].as_object().unwrap();
    let of = |bytes: &[u8]| &origins[&Digest::of(bytes).to_string()];
    assert_eq!(of(b"a")["archive"]["member"], "demo/lib/liba.so");
    assert_eq!(of(b"a library of this machine")["project"], "local.so");
    assert_eq!(
        of(b"#!/bin/sh\necho tool\n")["url"],
        format!("{}/tool.run", world.web.url)
    );
}

#[test]
fn a_lock_built_in_two_places_with_one_and_two_threads_gives_the_same_bytes() {
    let world = World::new();
    world.built();
    let first = fs::read(world.path("demo-1.ferry")).unwrap();
    for threads in ["1", "2"] {
        let place = world.path(&format!("place-{threads}"));
        fs::create_dir(&place).unwrap();
        for name in ["ferry.lock", "local.so", "installer"] {
            fs::copy(world.path(name), place.join(name)).unwrap();
        }
        let key = world.path("key");
        let words = [
            "build",
            "ferry.lock",
            "--passphrase-file",
            "../passphrase",
            "--key",
        ];
        let more = [
            "--threads",
            threads,
            "--downloads",
            threads,
            "-o",
            "another name",
        ];
        let words = [&words[..], &[key.to_str().unwrap()], &more].concat();
        Said::of(world.command_in(&place, &words).output().unwrap()).ended_with(0);
        let again = fs::read(place.join("another name")).unwrap();
        assert!(again == first, "{threads} threads");
    }
}

#[test]
fn the_token_is_in_no_file_and_no_word() {
    let world = World::new();
    let fingerprint = world.keygen();
    world.write_plan(&world.plan());
    let mut said = vec![world.lock(), world.build(&["--json"])];
    said.push(world.run(&[
        "verify",
        "demo-1.ferry",
        "--root",
        &fingerprint,
        "--verbose",
    ]));
    world.write("broken.json", b"{}");
    said.push(world.run(&["lock", "broken.json"]));
    assert!(
        world
            .hub
            .asked()
            .iter()
            .any(|a| a.header("authorization").is_some())
    );
    for other in [&world.index, &world.web] {
        assert!(
            other
                .asked()
                .iter()
                .all(|a| a.header("authorization").is_none())
        );
    }
    for said in said {
        assert!(
            !said.data.contains(TOKEN) && !said.words.contains(TOKEN),
            "{said:?}"
        );
    }
    let found = Command::new("grep")
        .args(["-rlF", TOKEN, "."])
        .current_dir(world.folder.path())
        .output();
    assert_eq!(String::from_utf8(found.unwrap().stdout).unwrap(), "");
}

/// The commands of the hand check, as `README.txt` in the bundle has them.
#[test]
fn the_readme_in_the_bundle_leads_through_the_check_by_hand() {
    let world = World::new();
    let fingerprint = world.built();
    let sh = |folder: &str, script: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).current_dir(world.path(folder));
        let said = Said::of(shell.output().unwrap());
        said.data + &said.words
    };
    let readme = sh(".", "tar -xOf demo-1.ferry README.txt");
    let check = readme.split_once("Check by hand").unwrap().1;
    let commands: Vec<_> = check
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .collect();
    let [
        take,
        root,
        listed,
        chain,
        signature,
        others,
        signed,
        same,
        complete,
    ] = commands[..]
    else {
        panic!("{commands:#?}");
    };
    assert_eq!(sh(".", take), "");
    assert_eq!(
        sh("check", root),
        format!("{fingerprint}  meta/root/001.json\n")
    );
    assert_eq!(sh("check", listed), "listed\n");
    assert_eq!(sh("check", chain), "");
    assert_eq!(sh("check", signature), "Verified OK\n");
    assert_eq!(sh("check", others), "");
    assert_eq!(sh("check", signed), "signed\n");
    let lines = sh("check", same);
    let sums = fs::read_to_string(world.path("check/meta/SHA256SUMS")).unwrap();
    assert_eq!(lines.matches("same ").count(), sums.lines().count());
    assert!(!lines.contains("differs"));
    assert_eq!(sh("check", complete), "complete\n");
}

#[test]
fn the_bill_of_materials_lists_models_data_and_wheels_with_their_digests() {
    let world = World::new();
    world.built();
    let tar = Command::new("tar")
        .args(["-xOf", "demo-1.ferry", "meta/sbom.cdx.json"])
        .current_dir(world.folder.path())
        .output()
        .unwrap();
    let bill: serde_json::Value = serde_json::from_slice(&tar.stdout).unwrap();
    assert_eq!(
        (&bill["bomFormat"], &bill["specVersion"]),
        (&"CycloneDX".into(), &"1.6".into())
    );
    let components = bill["components"].as_array().unwrap();
    let of = |name: &str| components.iter().find(|c| c["name"] == name).unwrap();
    let model = of("org/model");
    assert_eq!(
        (&model["type"], &model["version"]),
        (&"machine-learning-model".into(), &COMMIT.into())
    );
    assert_eq!(model["licenses"][0]["expression"], "Apache-2.0");
    assert_eq!(of("identity")["type"], "data");
    let parts = of("cpu")["components"].as_array().unwrap();
    let wheel = parts.iter().find(|part| part["type"] == "library").unwrap();
    assert_eq!(wheel["purl"], "pkg:pypi/demo@1.0");
    assert_eq!(wheel["licenses"], json!([{ "expression": "MIT OR 0BSD" }]));
    assert_eq!(model["purl"], format!("pkg:huggingface/org/model@{COMMIT}"));
    let digest = Digest::of(&crate::world::wheel()).hex();
    assert_eq!(wheel["hashes"][0]["content"], digest);
    let library = |name: &str| parts.iter().find(|part| part["name"] == name).unwrap();
    assert_eq!(
        library("lib/liba.so")["purl"],
        "pkg:pypi/demo@1.0#demo/lib/liba.so"
    );
    let tool = library("bin/tool")["purl"].as_str().unwrap();
    let digest = Digest::of(b"#!/bin/sh\necho tool\n").hex();
    assert!(
        tool.starts_with(&format!(
            "pkg:generic/tool.run?checksum=sha256:{digest}&download_url=http:%2F%2F"
        )),
        "{tool}"
    );
    assert_follows_the_schema(&bill);
}

/// The rules of CycloneDX 1.6 that a bill of ours can break. The oracle holds one against the whole schema.
fn assert_follows_the_schema(bill: &serde_json::Value) {
    let serial = bill["serialNumber"]
        .as_str()
        .unwrap()
        .strip_prefix("urn:uuid:")
        .unwrap();
    let groups: Vec<_> = serial.split('-').map(str::len).collect();
    assert_eq!(groups, [8, 4, 4, 4, 12]);
    assert!(
        serial
            .bytes()
            .all(|b| b == b'-' || b"0123456789abcdef".contains(&b))
    );
    assert!(bill["version"].as_u64().unwrap() >= 1);
    let fields = [
        "type",
        "bom-ref",
        "name",
        "version",
        "licenses",
        "purl",
        "hashes",
        "externalReferences",
        "components",
    ];
    let kinds = [
        "application",
        "platform",
        "library",
        "file",
        "machine-learning-model",
        "data",
        "container",
    ];
    let mut refs = std::collections::BTreeSet::new();
    let mut open: Vec<_> = bill["components"].as_array().unwrap().iter().collect();
    while let Some(component) = open.pop() {
        for field in component.as_object().unwrap().keys() {
            assert!(fields.contains(&field.as_str()), "{field}");
        }
        assert!(
            kinds.contains(&component["type"].as_str().unwrap()),
            "{component}"
        );
        assert!(!component["name"].as_str().unwrap().is_empty());
        assert!(
            refs.insert(component["bom-ref"].as_str().unwrap()),
            "{component}"
        );
        for hash in component["hashes"].as_array().into_iter().flatten() {
            assert_eq!(hash["alg"], "SHA-256");
            assert_eq!(hash["content"].as_str().unwrap().len(), 64);
        }
        let licenses = component["licenses"].as_array();
        let expressions = licenses
            .into_iter()
            .flatten()
            .filter(|one| one["expression"].is_string());
        assert!(
            expressions.count() == 0 || licenses.unwrap().len() == 1,
            "one expression, alone"
        );
        if let Some(purl) = component["purl"].as_str() {
            assert!(
                purl.starts_with("pkg:") && purl.is_ascii() && !purl.contains(' '),
                "{purl}"
            );
        }
        for reference in component["externalReferences"]
            .as_array()
            .into_iter()
            .flatten()
        {
            assert_eq!(reference["type"], "distribution");
            assert!(reference["url"].as_str().unwrap().contains("://"));
        }
        open.extend(component["components"].as_array().into_iter().flatten());
    }
}

/// SLSA provenance 1: what lies at an address has the digest that stands beside it.
#[test]
fn the_provenance_names_what_was_built_from_with_its_digest() {
    let world = World::new();
    world.built();
    let statement: serde_json::Value =
        serde_json::from_slice(&crate::models::member(&world, "meta/statement.json")).unwrap();
    let predicate = &statement["predicate"];
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    let parts: Vec<_> = predicate.as_object().unwrap().keys().collect();
    assert_eq!(parts, ["buildDefinition", "runDetails"]);
    let definition = &predicate["buildDefinition"];
    assert!(definition["buildType"].as_str().unwrap().contains(':'));
    assert!(definition["externalParameters"].is_object());
    assert!(
        predicate["runDetails"]["builder"]["id"]
            .as_str()
            .unwrap()
            .contains(':')
    );
    let dependencies = definition["resolvedDependencies"].as_array().unwrap();
    let digests: Vec<_> = dependencies
        .iter()
        .map(|one| one["digest"]["sha256"].as_str().unwrap())
        .collect();
    let mut once = digests.clone();
    once.dedup();
    assert_eq!(
        (once.len(), digests.is_sorted()),
        (digests.len(), true),
        "each once, in order"
    );
    // Three members and the whole of one wheel: the wheel, at its address.
    let wheel = Digest::of(&crate::world::wheel()).hex();
    let at = |digest: &str| {
        dependencies
            .iter()
            .find(|one| one["digest"]["sha256"] == digest)
            .unwrap()
    };
    assert!(at(&wheel)["uri"].as_str().unwrap().ends_with(".whl"));
    assert_eq!(
        at(&Digest::of(b"a library of this machine").hex())["name"],
        "local.so"
    );
    let model = at(&Digest::of(&crate::world::weights()).hex());
    assert_eq!(model["annotations"]["revision"], COMMIT);
    // config.json, model.safetensors, two wheels, tool, local.so; what was made here is no dependency.
    assert_eq!(digests.len(), 6);
}
