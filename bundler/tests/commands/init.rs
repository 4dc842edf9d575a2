//! `init`: by flags, and by answers typed at a terminal.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::world::{Said, World};

/// What the installer says of an Atlas with its driver and toolkit.
fn site() -> Value {
    let release = |version: &str| json!({ "value": { "version": version, "inner": null, "accepts": {} }, "source": "version.info" });
    json!({
        "arch": { "value": "aarch64", "source": "uname -m" },
        "glibc": { "value": "2.28", "source": "ldd --version" },
        "programs": [],
        "devices": [{ "address": "0000:c1:00.0", "vendor": "19e5", "device": "d802", "subsystem": "19e5:3004",
            "class": "120000", "family": "ascend", "chip": "ascend-910b", "product": "Atlas 800I A2", "state": "ready" }],
        "vendors": [{ "family": "ascend", "nodes": [], "driver": release("25.5.0"), "firmware": null,
            "toolkit": release("9.0.0"), "tool": null }],
    })
}

fn plan(world: &World) -> Value {
    serde_json::from_slice(&fs::read(world.path("plan.json")).unwrap()).unwrap()
}

/// Runs `init` at a terminal of its own and types `answers`.
fn typed(world: &World, words: &[&str], answers: &str) -> Said {
    let program = env!("CARGO_BIN_EXE_ferry-bundler");
    let line = format!("{program} init {}", words.join(" "));
    let mut child = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .current_dir(world.folder.path())
        .env_clear()
        .envs([("PATH", "/usr/bin:/bin"), ("TERM", "xterm"), ("LANG", "C")])
        .env("HOME", world.folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(answers.as_bytes()).unwrap();
    drop(input);
    Said::of(child.wait_with_output().unwrap())
}

#[test]
fn flags_alone_make_a_plan_that_can_be_locked() {
    let world = World::new();
    world.write("site.json", site().to_string().as_bytes());
    let words = [
        "init",
        "--name",
        "demo",
        "--model",
        "org/model",
        "--accept-license",
        "Apache-2.0",
        "--site",
        "site.json",
        "--require",
        "demo",
        "--installer",
        "aarch64=installer",
        "--channel",
        "lab",
        "--release",
        "7",
    ];
    world.run(&words).ended_with(0);
    let made = plan(&world);
    assert_eq!(
        (&made["channel"], &made["release"]),
        (&json!("lab"), &json!(7))
    );
    assert_eq!(made["accept_licenses"], json!(["Apache-2.0"]));
    let backend = &made["backends"][0];
    assert_eq!(
        (
            &backend["name"],
            &backend["chip"],
            &backend["arch"],
            &backend["glibc"]
        ),
        (
            &json!("ascend-910b"),
            &json!("ascend-910b"),
            &json!("aarch64"),
            &json!("2.28")
        )
    );
    // The toolkit that is there, and the newest adapter that the vendor lists for it.
    assert_eq!(
        backend["versions"],
        json!({ "cann": "9.0.0", "torch": "2.9.0", "torch_npu": "2.9.0.post2" })
    );
    assert_eq!(
        backend["python"],
        json!({ "version": "3.11", "requirements": ["demo"] })
    );
    world.lock().ended_with(0);

    let error = world
        .run(&[&words[..], &["--json"]].concat())
        .ended_with(2)
        .json();
    assert_eq!(error["error"]["code"], "bundler.exists");
    world
        .run(&[&words[..], &["--force", "--with", "torch_npu=2.7.1.post4"]].concat())
        .ended_with(0);
    assert_eq!(
        plan(&world)["backends"][0]["versions"]["torch_npu"],
        "2.7.1.post4"
    );
}

#[test]
fn what_flags_get_wrong_is_said_and_nothing_is_written() {
    let world = World::new();
    world.write("site.json", b"{ this is no survey");
    for (words, code) in [
        (
            &["--model", "org/model", "--accept-license", "MIT"][..],
            "console.no-terminal",
        ),
        (&["--name", "demo"], "bundler.word"),
        (&["--name", "No!", "--chip", "cpu"], "bundler.word"),
        (&["--name", "demo", "--chip", "abacus"], "bundler.word"),
        (
            &["--name", "demo", "--model", "org/model"],
            "console.no-terminal",
        ),
        (
            &[
                "--name",
                "demo",
                "--model",
                "a/b",
                "--model",
                "c/d",
                "--model",
                "e/f",
                "--accept-license",
                "MIT",
                "--accept-license",
                "MIT",
            ],
            "bundler.word",
        ),
        (
            &["--name", "demo", "--chip", "cpu", "--site", "site.json"],
            "bundler.site",
        ),
        (
            &["--name", "demo", "--chip", "cpu", "--site", "none.json"],
            "bundler.file",
        ),
        (
            &[
                "--name",
                "demo",
                "--chip",
                "cpu",
                "--require",
                "x",
                "--python",
                "2.7",
            ],
            "bundler.manifest-value",
        ),
    ] {
        let error = world.run(&[&["init", "--json"][..], words].concat()).json();
        assert_eq!(error["error"]["code"], code, "{words:?}");
        assert!(!world.path("plan.json").exists(), "{words:?}");
    }
}

#[test]
fn answers_at_a_terminal_make_the_same_plan() {
    let world = World::new();
    world.write("site.json", site().to_string().as_bytes());
    // Name, models, datasets, images, three licences, the chip that the site has, its three versions, the environment.
    let answers =
        "\norg/model\norg/data\nquay.io/org/app:1\nApache-2.0\nMIT\nISC\n\n\n\n\ndemo torch-npu\n";
    let said = typed(&world, &["--site", "site.json"], answers).ended_with(0);
    assert!(said.data.contains("Models on the hub"), "{said:#?}");
    let made = plan(&world);
    assert_eq!(made["name"], "demo");
    assert_eq!(made["models"][0]["name"], "org/model");
    assert_eq!(made["datasets"][0]["license"], "MIT");
    assert_eq!(
        made["images"],
        json!([{ "name": "quay.io/org/app", "tag": "1", "license": "ISC", "platforms": ["linux/arm64"],
            "source": { "oci": {} } }])
    );
    assert_eq!(made["accept_licenses"], json!(["Apache-2.0", "ISC", "MIT"]));
    assert_eq!(made["backends"][0]["chip"], "ascend-910b");
    assert_eq!(made["backends"][0]["versions"]["cann"], "9.0.0");
    assert_eq!(
        made["backends"][0]["python"]["requirements"],
        json!(["demo", "torch-npu"])
    );

    // In Chinese, with nothing but a chip that is marked by hand: the first of the list.
    fs::remove_file(world.path("plan.json")).unwrap();
    let said = typed(
        &world,
        &["--lang", "zh", "--arch", "aarch64"],
        "bare\n-\n-\n-\n \n\n\n\n-\n",
    );
    let said = said.ended_with(0);
    assert!(said.data.contains("要携带后端的芯片"), "{said:#?}");
    let made = plan(&world);
    assert_eq!(
        (&made["name"], &made["models"]),
        (&json!("bare"), &json!([]))
    );
    assert_eq!(made["backends"].as_array().unwrap().len(), 1);
}

#[test]
fn every_kind_of_source_has_its_flag() {
    let world = World::new();
    let (shelf, _) = crate::images::signed();
    let registry = shelf.serve();
    world.write("weights.safetensors", &crate::world::weights());
    fs::create_dir_all(world.path("mine/sub")).unwrap();
    world.write("mine/model.safetensors", &crate::world::weights());
    world.write("mine/pytorch_model.bin", b"a pickle");
    world.write("mine/sub/config.json", b"{}");
    world.write("driver.run", b"#!/bin/sh\n");
    world.write("notes.pdf", b"not to be passed on");
    world.write("demo-1.0-py3-none-any.whl", &crate::world::wheel());
    world.write("python.tar.gz", b"a Python");
    fs::create_dir(world.path("plans")).unwrap();
    let words = [
        &["init", "-o", "plans/plan.json", "--name", "demo"][..],
        &["--model-folder", "org/mine=mine", "--accept-license", "MIT"],
        &["--dataset-folder", "notes=weights.safetensors"],
        &["--image", "registry.example/demo/app:1", "--referrers"],
        &[
            "--registry-mirror",
            &registry.url,
            "--platform",
            "linux/amd64",
        ],
        &[
            "--chip",
            "ascend-910b",
            "--arch",
            "aarch64",
            "--require",
            "demo",
        ],
        &[
            "--wheel",
            "demo-1.0-py3-none-any.whl",
            "--interpreter",
            "python.tar.gz",
        ],
        &["--host", "driver=25.5.0=driver.run", "--own", "notes.pdf"],
        &["--from", "https://vendor.example/page", "--json"],
    ]
    .concat();
    world.run(&words).ended_with(0);
    let made: Value =
        serde_json::from_slice(&fs::read(world.path("plans/plan.json")).unwrap()).unwrap();
    let file = |path: &str, source: &str| json!({ "path": path, "source": { "file": { "path": source } } });
    assert_eq!(
        made["models"][0]["files"],
        json!([
            file("model.safetensors", "../mine/model.safetensors"),
            file("sub/config.json", "../mine/sub/config.json"),
        ]),
        "what runs code when it is loaded is left out"
    );
    assert_eq!(
        made["datasets"][0]["files"],
        json!([file("weights.safetensors", "../weights.safetensors")])
    );
    assert_eq!(
        made["images"],
        json!([{ "name": "registry.example/demo/app", "tag": "1", "license": "MIT", "referrers": true,
            "platforms": ["linux/amd64"], "source": { "oci": { "mirrors": [registry.url] } } }])
    );
    let backend = &made["backends"][0];
    let own = |name: &str, bytes: &[u8]| {
        json!({ "own": { "file_name": name, "size": bytes.len(), "digest": manifest_schema::Digest::of(bytes),
            "from": "https://vendor.example/page" } })
    };
    assert_eq!(
        backend["host"],
        json!([{ "kind": "driver", "version": "25.5.0",
            "file": { "path": "driver.run", "source": own("driver.run", b"#!/bin/sh\n") } }])
    );
    assert_eq!(
        backend["files"],
        json!([{ "path": "vendor/notes.pdf", "source": own("notes.pdf", b"not to be passed on") }])
    );
    assert_eq!(
        backend["python"]["interpreter"],
        json!({ "file": { "path": "../python.tar.gz" } })
    );
    assert_eq!(
        backend["python"]["wheels"],
        json!([{ "file": { "path": "../demo-1.0-py3-none-any.whl" } }])
    );
    for (words, code) in [
        (
            &["--host", "abacus=1=driver.run", "--chip", "cpu"][..],
            "bundler.manifest-value",
        ),
        (&["--own", "notes.pdf"], "bundler.word"),
        (&["--wheel", "notes.pdf", "--chip", "cpu"], "bundler.word"),
        (&["--own", "absent.pdf", "--chip", "cpu"], "mirror.file"),
        (
            &["--dataset-folder", "x=absent", "--accept-license", "MIT"],
            "bundler.file",
        ),
        (&["--image", "ubuntu:24.04"], "bundler.word"),
    ] {
        let start = ["init", "--json", "--name", "demo", "-o", "other.json"];
        let error = world.run(&[&start[..], words].concat()).json();
        assert_eq!(error["error"]["code"], code, "{words:?}");
        assert!(!world.path("other.json").exists(), "{words:?}");
    }
}

#[test]
fn images_of_flags_can_be_locked_from_a_registry_and_from_files() {
    let world = World::new();
    let (shelf, _) = crate::images::signed();
    let registry = shelf.serve();
    // The first address does not answer, the mirror does.
    let words = [
        &["init", "--name", "demo", "--accept-license", "MIT"][..],
        &[
            "--image",
            "127.0.0.1:1/demo/app:1",
            "--registry-mirror",
            &registry.url,
        ],
    ]
    .concat();
    world.run(&words).ended_with(0);
    let mut made = plan(&world);
    // Plain HTTP, so that nothing waits for a handshake.
    made["images"][0]["source"]["oci"]["endpoint"] = registry.url.as_str().into();
    world.write_plan(&made);
    world.lock().ended_with(0);
    let digest = world.keygen();
    world.build(&[]).ended_with(0);
    let export = [
        "export",
        "oci",
        "demo-1.ferry",
        "--root",
        &digest,
        "-o",
        "layout",
    ];
    world.run(&export).ended_with(0);
    let words = [
        "init",
        "--force",
        "--name",
        "demo",
        "--accept-license",
        "MIT",
        "--image-layout",
        "127.0.0.1:1/demo/app:1=layout",
    ];
    world.run(&words).ended_with(0);
    let source = &plan(&world)["images"][0]["source"];
    assert_eq!(source, &json!({ "oci-layout": { "path": "layout" } }));
    world.lock().ended_with(0);
}

#[test]
fn a_signed_inventory_pins_its_site_in_the_plan() {
    let world = World::new();
    let key = bundle_format::SiteKey::generate().unwrap();
    let inventory = manifest_schema::site::Inventory {
        format: 1,
        ..Default::default()
    };
    world.write("inventory.json", &key.sign(inventory.clone()));
    let words = [
        "init",
        "--force",
        "--name",
        "demo",
        "--chip",
        "cpu",
        "--site",
        "inventory.json",
    ];
    let said = world.run(&words).ended_with(0);
    assert!(said.words.contains(key.id().as_str()), "{said:?}");
    assert_eq!(plan(&world)["site_key"], key.id().as_str());
    // Whoever signed nothing pins nothing.
    world.write("inventory.json", &serde_json::to_vec(&inventory).unwrap());
    world.run(&words).ended_with(0);
    assert!(plan(&world).get("site_key").is_none());
}
