//! What may be in a model: files that run code are named by the plan or refused, damaged weights are refused.

use std::fs;
use std::io::{Cursor, Write as _};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use insta::assert_snapshot;
use manifest_schema::Digest;
use serde_json::{Value, json};

use crate::errors::both;
use crate::world::World;

const PICKLE: &[u8] = b"\x80\x02cos\nsystem\nq\x00X\x04\x00\x00\x00echoq\x01\x85q\x02Rq\x03.";

/// A plan with one model whose files lie in the world's folder under these names.
fn plan_of(world: &World, files: &[(&str, &[u8])], allowed: &[&str]) -> Value {
    let mut list = Vec::new();
    for (name, bytes) in files {
        world.write(name, bytes);
        list.push(json!({ "path": name, "source": { "file": { "path": name } } }));
    }
    let mut plan = world.plan();
    plan["datasets"] = json!([]);
    plan["backends"] = json!([]);
    plan["models"] = json!([{ "name": "org/model", "license": "Apache-2.0", "files": list,
        "allow_code_on_load": allowed }]);
    plan
}

fn checkpoint() -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let plain = zip::write::SimpleFileOptions::default();
    zip.start_file("archive/data.pkl", plain).unwrap();
    zip.write_all(PICKLE).unwrap();
    zip.finish().unwrap().into_inner()
}

#[test]
fn a_pickle_is_refused_by_its_name_before_anything_is_fetched() {
    let world = World::new();
    let mut plan = world.plan();
    plan["models"][0]["hub"]["include"] = json!(["*.json", "*.safetensors", "*.bin"]);
    world.write_plan(&plan);
    assert_snapshot!(both(&world, &["lock", "plan.json"]), @r#"
    status 2
    lock org/model …
    error[gate.name]: `org/model`: pytorch_model.bin: files with such names are pickles, and loading a pickle can run any code in it

    hint: take only safe files, such as `"include": ["*.safetensors", "*.json", "*.txt"]`; if you trust whoever made them, name them in `allow_code_on_load`
    ---
    锁定 org/model …
    错误[gate.name]: `org/model`：pytorch_model.bin：这类名称的文件是 pickle，加载 pickle 可能执行其中的任意代码

    建议: 只取安全的文件，例如 `"include": ["*.safetensors", "*.json", "*.txt"]`；若确实信任其作者，请在 `allow_code_on_load` 中列出
    "#);
    assert!(!world.path("ferry.lock").exists());
}

#[test]
fn a_pickle_under_another_name_is_refused_by_its_content() {
    let world = World::new();
    world.keygen();
    let files = [
        ("model.safetensors", &checkpoint()[..]),
        ("notes.txt", PICKLE),
    ];
    world.write_plan(&plan_of(&world, &files[..1], &[]));
    world.lock().ended_with(0);
    let words = [
        "build",
        "ferry.lock",
        "--key",
        "key",
        "--passphrase-file",
        "passphrase",
    ];
    assert_snapshot!(both(&world, &words), @"
    status 2
    error[gate.pickle-in-zip]: `org/model`: model.safetensors: a zip archive with a pickle in it, as `torch.save` writes it; loading it can run any code in it

    hint: take only safetensors and GGUF files by `include`; if you trust whoever made it, name it in `allow_code_on_load`
    ---
    错误[gate.pickle-in-zip]: `org/model`：model.safetensors：`torch.save` 所写的 zip 归档，内含 pickle，加载时可能执行其中的任意代码

    建议: 请用 `include` 只取 safetensors 与 GGUF 文件；若确实信任其作者，请在 `allow_code_on_load` 中列出
    ");
    world.write_plan(&plan_of(&world, &files[1..], &["*.pt"]));
    world.lock().ended_with(0);
    let error = world.build(&["--json"]).ended_with(2).json();
    assert_eq!(error["error"]["code"], "gate.pickle", "{error}");
    assert!(!world.path("demo-1.ferry").exists());
}

#[test]
fn what_the_plan_allows_is_packed_and_said_wherever_one_looks() {
    let world = World::new();
    world.keygen();
    let files = [
        ("old.pt", &checkpoint()[..]),
        ("data.bin", b"numbers"),
        ("modeling_x.py", b"print('hello')\n"),
        (
            "config.json",
            br#"{"auto_map": {"AutoModel": "modeling_x.X"}}"#,
        ),
    ];
    world.write_plan(&plan_of(&world, &files, &["*.pt", "data.bin"]));
    let locked = world.lock().ended_with(0);
    assert!(locked.words.contains("modeling_x.py"), "{locked:?}");
    let built = world.build(&[]).ended_with(0);
    assert!(built.words.contains("`old.pt` can run code"), "{built:?}");
    let shown = world.run(&["inspect", "demo-1.ferry"]).ended_with(0);
    let lines: Vec<_> = shown
        .data
        .lines()
        .filter(|line| line.contains("runs code"))
        .collect();
    assert_eq!(
        lines,
        [
            "runs code when loaded (remote-code): org/model/config.json",
            "runs code when loaded (name-only): org/model/data.bin, allowed by `data.bin`",
            "runs code when loaded (python): org/model/modeling_x.py",
            "runs code when loaded (pickle-in-zip): org/model/old.pt, allowed by `*.pt`",
        ]
    );
    let tar = Command::new("tar")
        .args(["-xOf", "demo-1.ferry", "meta/provenance.json"])
        .current_dir(world.folder.path())
        .output()
        .unwrap();
    let provenance: Value = serde_json::from_slice(&tar.stdout).unwrap();
    assert_eq!(
        provenance["code_on_load"][3],
        json!({ "kind": "model", "component": "org/model", "path": "old.pt", "form": "pickle-in-zip",
            "allowed_by": "*.pt" })
    );
}

#[test]
fn weights_that_do_not_hold_what_they_announce_are_refused_with_the_place() {
    let world = World::new();
    world.keygen();
    let header =
        json!({ "w": { "dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24] } }).to_string();
    let weights = |header: &str, data: usize| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.bytes());
        bytes.resize(bytes.len() + data, 1);
        bytes
    };
    let good = weights(&header, 24);
    let index = |map: Value| {
        json!({ "metadata": {}, "weight_map": map })
            .to_string()
            .into_bytes()
    };
    type Files<'a> = &'a [(&'a str, &'a [u8])];
    let cases: [(&str, Files, &str, &str); 6] = [
        (
            "cut",
            &[("m.safetensors", &good[..good.len() - 1])],
            "weights.cut-short",
            "behind the header",
        ),
        (
            "longer",
            &[("m.safetensors", &weights(&header, 25))],
            "weights.too-long",
            "behind the header",
        ),
        (
            "overflow",
            &[(
                "m.safetensors",
                &weights(&header.replace("2,3", "18446744073709551615,3"), 24),
            )],
            "weights.bound",
            "tensor `w`",
        ),
        (
            "gguf",
            &[("m.gguf", b"GGUF\x03\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff")],
            "weights.bound",
            "byte 16",
        ),
        (
            "shard",
            &[(
                "model.safetensors.index.json",
                &index(json!({ "w": "m.safetensors" })),
            )],
            "weights.shard-missing",
            "tensor `w`",
        ),
        (
            "tensor",
            &[
                ("m.safetensors", &good),
                (
                    "model.safetensors.index.json",
                    &index(json!({ "other": "m.safetensors" })),
                ),
            ],
            "weights.tensor-missing",
            "tensor `other`",
        ),
    ];
    for (name, files, code, place) in cases {
        world.write_plan(&plan_of(&world, files, &[]));
        world.lock().ended_with(0);
        let error = world.build(&["--json"]).ended_with(1).json();
        assert_eq!(error["error"]["code"], code, "{name}: {error}");
        assert_eq!(error["error"]["args"]["at"], place, "{name}: {error}");
        let file = error["error"]["args"]["file"].as_str().unwrap();
        assert!(file.starts_with("org/model/"), "{name}: {file}");
    }
    let files: [(&str, &[u8]); 2] = [
        ("m.safetensors", &good),
        (
            "model.safetensors.index.json",
            &index(json!({ "w": "m.safetensors" })),
        ),
    ];
    world.write_plan(&plan_of(&world, &files, &[]));
    world.lock().ended_with(0);
    world.build(&[]).ended_with(0);
    assert!(
        fs::read(world.path("demo-1.ferry"))
            .unwrap()
            .windows(24)
            .any(|part| part == [1; 24])
    );
    assert_eq!(
        Digest::of(&good),
        Digest::of(&fs::read(world.path("m.safetensors")).unwrap())
    );
}

/// The bytes of a member of the bundle.
pub fn member(world: &World, name: &str) -> Vec<u8> {
    let tar = Command::new("tar")
        .args(["-xOf", "demo-1.ferry", name])
        .current_dir(world.folder.path())
        .output();
    tar.unwrap().stdout
}

/// `openssl` stands in for the model signing tool, which the oracle runs: same key, same encoding.
#[test]
fn every_model_has_a_signature_over_its_files_by_the_bundles_key() {
    let world = World::new();
    world.keygen();
    let files = [
        ("config.json", &b"{}"[..]),
        (".gitattributes", b"* lfs"),
        ("model.sig", b"its maker's own"),
    ];
    world.write_plan(&plan_of(&world, &files, &[]));
    world.lock().ended_with(0);
    world.build(&[]).ended_with(0);
    let shown = world
        .run(&["inspect", "demo-1.ferry", "--json"])
        .ended_with(0)
        .json();
    let model = &shown["profiles"]["components"][0];
    assert_eq!(model["signature"], "model.ferry.sig");
    let placed = model["files"].as_array().unwrap();
    let signature = placed
        .iter()
        .find(|file| file["path"] == "model.ferry.sig")
        .unwrap();
    let digest = signature["digest"].as_str().unwrap();
    let origin = &shown["provenance"]["blobs"][digest];
    assert_eq!(
        (&origin["kind"], &origin["project"]),
        (&"built".into(), &"OpenSSF model signature".into())
    );

    let blob = format!("blobs/sha256/{}", digest.strip_prefix("sha256:").unwrap());
    let bundle: Value = serde_json::from_slice(&member(&world, &blob)).unwrap();
    let envelope = &bundle["dsseEnvelope"];
    let decoded = |value: &Value| STANDARD.decode(value.as_str().unwrap()).unwrap();
    let payload = decoded(&envelope["payload"]);
    let kind = envelope["payloadType"].as_str().unwrap();
    let mut signed = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    signed.extend(&payload);
    world.write("signed", &signed);
    world.write("signature", &decoded(&envelope["signatures"][0]["sig"]));
    let words = [
        "dgst",
        "-sha256",
        "-verify",
        "key/public.pem",
        "-signature",
        "signature",
        "signed",
    ];
    let openssl = Command::new("openssl")
        .args(words)
        .current_dir(world.folder.path())
        .output();
    assert_eq!(openssl.unwrap().stdout, b"Verified OK\n");

    let statement: Value = serde_json::from_slice(&payload).unwrap();
    let resources = statement["predicate"]["resources"].as_array().unwrap();
    let listed: Vec<_> = resources
        .iter()
        .map(|file| (&file["name"], &file["digest"]))
        .collect();
    assert_eq!(
        listed,
        [
            (&json!("config.json"), &json!(Digest::of(b"{}").hex())),
            (
                &json!("model.sig"),
                &json!(Digest::of(b"its maker's own").hex())
            ),
        ]
    );
}
