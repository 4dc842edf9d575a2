//! Container images: from a registry or a file to a bundle, and out of it again.

use std::fs;
use std::path::Path;
use std::process::Command;

use manifest_schema::Digest;
use serde_json::{Value, json};

use crate::registry::{LAYER, MANIFEST, Shelf, layer};
use crate::server::Server;
use crate::world::{World, gzip};

const NAME: &str = "registry.example/demo/app";

/// A plan with images and nothing else.
pub fn of_images(images: &Value) -> Value {
    json!({ "format": 1, "name": "demo", "release": 1, "accept_licenses": ["MIT"],
        "backends": [{ "name": "cpu", "chip": "cpu", "arch": "x86_64" }], "images": images })
}

pub fn from_registry(registry: &Server) -> Value {
    json!({ "name": NAME, "tag": "1", "license": "MIT", "referrers": true,
        "source": { "oci": { "endpoint": registry.url } } })
}

fn packed(world: &World, images: &Value) -> String {
    let fingerprint = world.keygen();
    world.write_plan(&of_images(images));
    world.lock().ended_with(0);
    world.build(&[]).ended_with(0);
    fingerprint
}

/// A shelf with an image for both architectures, signed in cosign's way; the digest of its index.
pub fn signed() -> (Shelf, String) {
    let mut shelf = Shelf::default();
    let root = shelf.both("1");
    let digest = root["digest"].as_str().unwrap().to_owned();
    shelf.attached(
        &root,
        "signature",
        Some(&format!("sha256-{}.sig", &digest[7..])),
    );
    (shelf, digest)
}

fn blobs(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder.join("blobs/sha256")).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Whether skopeo reads `image` and sees `digest`. Says so where there is no skopeo.
#[expect(
    clippy::print_stderr,
    reason = "a check that was not made must be seen"
)]
fn skopeo_reads(image: &str, digest: Option<&str>) {
    let read = Command::new("skopeo")
        .args(["inspect", "--override-arch", "amd64", image])
        .output();
    let read = match read {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("SKIPPED: skopeo is not here, so nobody else has read {image}");
            return;
        }
        read => read.unwrap(),
    };
    let said = String::from_utf8_lossy(&read.stderr);
    assert!(read.status.success(), "{image}: {said}");
    let shown: Value = serde_json::from_slice(&read.stdout).unwrap();
    if let Some(digest) = digest {
        assert_eq!(shown["Digest"], digest);
    }
}

#[test]
fn an_image_of_a_registry_is_packed_listed_and_read_by_others() {
    let world = World::new();
    let (shelf, digest) = signed();
    let registry = shelf.serve();
    world.write_plan(&of_images(&json!([from_registry(&registry)])));
    let planned = world.run(&["plan", "plan.json"]).ended_with(0).data;
    assert!(
        planned.contains("image registry.example/demo/app:1  MIT  linux/amd64, linux/arm64  "),
        "{planned}"
    );
    packed(&world, &json!([from_registry(&registry)]));
    let shown = world
        .run(&["inspect", "demo-1.ferry", "--json"])
        .ended_with(0)
        .json();
    let image = &shown["profiles"]["images"][0];
    assert_eq!(image["root"]["digest"], digest);
    assert_eq!(image["platforms"][1]["platform"], "linux/arm64");
    let arm = Digest::of(&layer("arm64")).to_string();
    assert_eq!(image["platforms"][1]["layers"][0]["digest"], arm);
    let origin = &shown["provenance"]["blobs"][&arm];
    assert_eq!(
        (&origin["kind"], &origin["project"]),
        (&"oci".into(), &NAME.into())
    );
    assert_eq!(
        origin["url"],
        format!("{}/v2/demo/app/blobs/{arm}", registry.url)
    );
    let listed = world.run(&["inspect", "demo-1.ferry"]).ended_with(0).data;
    assert!(
        listed.contains("image registry.example/demo/app:1  MIT"),
        "{listed}"
    );

    // The bundle, taken apart with nothing but tar, is an image layout.
    fs::create_dir(world.path("apart")).unwrap();
    let tar = Command::new("tar")
        .args(["-xf", "demo-1.ferry", "-C", "apart"])
        .current_dir(world.folder.path())
        .status();
    assert!(tar.unwrap().success());
    let apart = world.path("apart");
    let index: Value =
        serde_json::from_slice(&fs::read(apart.join("index.json")).unwrap()).unwrap();
    let entries = index["manifests"].as_array().unwrap();
    assert_eq!((entries.len(), &entries[0]["digest"]), (2, &json!(digest)));
    let names = |entry: &Value| entry["annotations"]["org.opencontainers.image.ref.name"].clone();
    assert_eq!(names(&entries[0]), format!("{NAME}:1"));
    assert_eq!(
        names(&entries[1]),
        format!("{NAME}:sha256-{}.sig", &digest[7..])
    );
    skopeo_reads(&format!("oci:{}:{NAME}:1", apart.display()), Some(&digest));
    let bill: Value =
        serde_json::from_slice(&fs::read(apart.join("meta/sbom.cdx.json")).unwrap()).unwrap();
    let components = bill["components"].as_array().unwrap();
    let container = components.iter().find(|c| c["type"] == "container");
    let (hex, at) = (&digest[7..], "registry.example%2Fdemo%2Fapp");
    assert_eq!(
        container.unwrap()["purl"],
        format!("pkg:oci/app@sha256:{hex}?repository_url={at}&tag=1")
    );
    let hex = image["platforms"][1]["manifest"]["digest"]
        .as_str()
        .unwrap();
    assert_eq!(
        container.unwrap()["components"][1]["purl"],
        format!("pkg:oci/app@{hex}?arch=arm64&repository_url={at}")
    );
}

#[test]
fn equal_locks_give_equal_bytes_and_a_tag_that_moves_is_noticed_when_locking_only() {
    let world = World::new();
    let (shelf, digest) = signed();
    let now = std::sync::Arc::new(std::sync::Mutex::new(shelf.clone()));
    let there = std::sync::Arc::clone(&now);
    let registry = Server::new(move |_, asked| there.lock().unwrap().answer(asked));
    packed(&world, &json!([from_registry(&registry)]));
    let first = fs::read(world.path("demo-1.ferry")).unwrap();

    let moved = {
        let mut shelf = now.lock().unwrap();
        shelf.image("amd64", Some("1"))["digest"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let other_cache = |words: &[&str]| {
        let mut command = world.command(words);
        command.env("FERRY_CACHE", world.path("other"));
        crate::world::Said::of(command.output().unwrap())
    };
    let build = [
        "build",
        "ferry.lock",
        "--key",
        "key",
        "--passphrase-file",
        "passphrase",
        "-o",
        "again",
        "--json",
    ];
    other_cache(&build).ended_with(0);
    assert!(
        fs::read(world.path("again")).unwrap() == first,
        "the digest is pinned"
    );
    fs::copy(world.path("ferry.lock"), world.path("old.lock")).unwrap();
    let said = world.lock().ended_with(0).words;
    assert!(
        said.contains(&format!("from {digest} to {moved}")),
        "{said}"
    );
    let changes = world
        .run(&["diff", "old.lock", "ferry.lock"])
        .ended_with(0)
        .data;
    assert!(
        changes.contains("~ image registry.example/demo/app:1"),
        "{changes}"
    );
    assert!(changes.contains("- linux/arm64"), "{changes}");

    // What vanished upstream is named by its digest.
    now.lock().unwrap().blobs.clear();
    fs::remove_dir_all(world.path("other")).unwrap();
    let error = other_cache(&build).ended_with(5).json();
    assert_eq!(error["error"]["code"], "mirror.every-place-failed");
    let message = error["error"].to_string();
    assert!(
        message.contains("BLOB_UNKNOWN") && message.contains("sha256:"),
        "{message}"
    );
}

#[test]
fn images_come_out_again_as_a_folder_a_tar_and_for_docker() {
    let world = World::new();
    let mut shelf = Shelf::default();
    let zstd = "application/vnd.oci.image.layer.v1.tar+zstd";
    // Layers that skopeo can unpack: an empty tar, packed in two ways.
    let plain = vec![0_u8; 1024];
    let packed_layers = [
        (LAYER, gzip(&plain)),
        (zstd, zstd::encode_all(plain.as_slice(), 3).unwrap()),
    ];
    let mut entries = Vec::new();
    for arch in ["amd64", "arm64"] {
        let config = json!({ "architecture": arch, "os": "linux", "config": {},
            "rootfs": { "type": "layers", "diff_ids": [Digest::of(&plain), Digest::of(&plain)] } });
        let config = shelf.blob(crate::registry::CONFIG, config.to_string().into_bytes());
        let layers = packed_layers
            .clone()
            .map(|(kind, bytes)| shelf.blob(kind, bytes));
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
        let mut entry = shelf.manifest(MANIFEST, &manifest, None);
        entry["platform"] = json!({ "architecture": arch, "os": "linux" });
        entries.push(entry);
    }
    shelf.index(&entries, Some("1"));
    let registry = shelf.serve();
    let fingerprint = packed(&world, &json!([from_registry(&registry)]));
    let export = |words: &[&str]| {
        let all = [
            &[
                "export",
                "oci",
                "demo-1.ferry",
                "--root",
                &fingerprint,
                "--json",
            ],
            words,
        ]
        .concat();
        world.run(&all)
    };
    let reference = format!("{NAME}:1");
    export(&["-o", "layout"]).ended_with(0);
    assert_eq!(blobs(&world.path("layout")).len(), 7);
    skopeo_reads(
        &format!("oci:{}:{reference}", world.path("layout").display()),
        None,
    );

    export(&[
        "-o",
        "one.tar",
        "--image",
        NAME,
        "--platform",
        "linux/amd64",
    ])
    .ended_with(0);
    let amd64 = entries[0]["digest"].as_str();
    skopeo_reads(
        &format!("oci-archive:{}", world.path("one.tar").display()),
        amd64,
    );
    export(&[
        "-o",
        "two.tar",
        "--image",
        &reference,
        "--platform",
        "linux/amd64",
    ])
    .ended_with(0);
    assert!(fs::read(world.path("one.tar")).unwrap() == fs::read(world.path("two.tar")).unwrap());

    let error = export(&["-o", "docker.tar", "--docker"])
        .ended_with(2)
        .json();
    assert_eq!(error["error"]["code"], "bundler.several-platforms");
    export(&["-o", "docker.tar", "--docker", "--platform", "linux/amd64"]).ended_with(0);
    let tar = |words: &[&str]| {
        let tar = Command::new("tar")
            .args(words)
            .current_dir(world.folder.path())
            .output();
        tar.unwrap().stdout
    };
    let manifest: Value =
        serde_json::from_slice(&tar(&["-xOf", "docker.tar", "manifest.json"])).unwrap();
    assert_eq!(manifest[0]["RepoTags"][0], reference);
    let unpacked = format!("{}.tar", Digest::of(&plain).hex());
    assert_eq!(
        manifest[0]["Layers"][1], unpacked,
        "old engines do not know zstd"
    );
    assert!(tar(&["-xOf", "docker.tar", &unpacked]) == plain);
    skopeo_reads(
        &format!("docker-archive:{}", world.path("docker.tar").display()),
        None,
    );

    for (words, code) in [
        (&["-o", "layout"][..], "bundler.exists"),
        (&["-o", "x", "--docker"], "bundler.word"),
        (&["-o", "x", "--image", "other"], "bundler.no-image"),
        (
            &["-o", "x", "--platform", "linux/s390x"],
            "bundler.no-image",
        ),
    ] {
        assert_eq!(
            export(words).ended_with(2).json()["error"]["code"],
            code,
            "{words:?}"
        );
        assert!(!world.path("x").exists());
    }
}

#[test]
fn a_damaged_bundle_exports_nothing() {
    let world = World::new();
    let (shelf, _) = signed();
    let fingerprint = packed(&world, &json!([from_registry(&shelf.serve())]));
    let mut bytes = fs::read(world.path("demo-1.ferry")).unwrap();
    let at = bytes.len() - 100_000;
    bytes[at] ^= 1;
    world.write("demo-1.ferry", &bytes);
    for out in ["out", "out.tar"] {
        let words = [
            "export",
            "oci",
            "demo-1.ferry",
            "--root",
            &fingerprint,
            "-o",
            out,
            "--json",
        ];
        let error = world.run(&words).ended_with(4).json();
        assert_eq!(error["error"]["code"], "bundle.piece-differs");
    }
    let names: Vec<_> = fs::read_dir(world.folder.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    let left = names.iter().filter(|name| {
        name.to_string_lossy().starts_with(".ferry-") || name.to_string_lossy().starts_with("out")
    });
    assert_eq!(left.count(), 0, "{names:?}");
}

#[test]
fn a_docker_save_is_packed_with_the_manifest_that_was_written_for_it() {
    let world = World::new();
    let config = json!({ "architecture": "arm64", "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [Digest::of(b"layer")] } });
    let config = config.to_string().into_bytes();
    let manifest =
        json!([{ "Config": "config.json", "RepoTags": ["app:1"], "Layers": ["1/layer.tar"] }]);
    let save = |layer: &[u8]| {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, bytes) in [
            ("1/layer.tar", layer),
            ("config.json", &config),
            ("manifest.json", manifest.to_string().as_bytes()),
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            archive.append_data(&mut header, name, bytes).unwrap();
        }
        world.write("app.tar", &archive.into_inner().unwrap());
    };
    save(b"layer");
    let source = json!({ "docker-archive": { "path": "app.tar" } });
    packed(
        &world,
        &json!([{ "name": NAME, "tag": "1", "license": "MIT", "source": source }]),
    );
    let shown = world
        .run(&["inspect", "demo-1.ferry", "--json"])
        .ended_with(0)
        .json();
    let root = shown["profiles"]["images"][0]["root"]["digest"]
        .as_str()
        .unwrap();
    let origins = &shown["provenance"]["blobs"];
    assert_eq!(
        (
            &origins[root]["kind"],
            &origins[root]["archive"]["file_name"]
        ),
        (&"built".into(), &"app.tar".into())
    );
    let layer = Digest::of(b"layer").to_string();
    assert_eq!(origins[&layer]["archive"]["member"], "1/layer.tar");
    assert_eq!(origins[&layer]["kind"], "file");

    save(b"other");
    fs::remove_dir_all(world.path("cache")).unwrap();
    let error = world.build(&["-o", "again", "--json"]).ended_with(4).json();
    assert_eq!(error["error"]["code"], "bundler.changed");
}

#[test]
fn a_bad_image_in_a_plan_is_named_with_what_it_should_be() {
    let world = World::new();
    let good = json!({ "name": NAME, "tag": "1", "license": "MIT", "source": { "oci": {} } });
    type Edit = fn(&mut Value);
    let edits: [(Edit, &str, &str); 7] = [
        (
            |i| i["name"] = "debian".into(),
            "images[0].name",
            "with its registry",
        ),
        (|i| i["tag"] = "a/b".into(), "images[0].tag", "a tag"),
        (|i| i["tag"] = Value::Null, "images[0].source", "`digest`"),
        (
            |i| i["license"] = "GPL-3.0-only".into(),
            "images[0].license",
            "accept_licenses",
        ),
        (
            |i| i["backends"] = json!(["npu"]),
            "images[0].backends",
            "names of `backends`",
        ),
        (
            |i| i["platforms"] = json!(["arm64"]),
            "images[0].platforms[0]",
            "linux/arm64",
        ),
        (
            |i| i["source"]["oci"]["login"] = json!({ "user": "U", "password": "hush" }),
            "oci.login",
            "environment variable",
        ),
    ];
    for (edit, at, expected) in edits {
        let mut image = good.clone();
        edit(&mut image);
        world.write_plan(&of_images(&json!([image])));
        let said = world.run(&["lock", "plan.json"]).ended_with(2);
        assert!(
            said.words.contains(at) && said.words.contains(expected),
            "{at}: {said:?}"
        );
        assert!(!said.words.contains("hush"));
    }
}
