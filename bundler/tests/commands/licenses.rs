//! Licences: what was accepted, what wheels say, the texts, and what `inspect` shows of them.

use insta::assert_snapshot;
use manifest_schema::Digest;
use serde_json::{Value, json};

use crate::errors::both;
use crate::models::member;
use crate::world::World;

const TEXT: &[u8] = b"A text.\n";

/// The ordinary plan, whose model brings the wheel's own text and a notice.
fn plan(world: &World) -> Value {
    world.write("LICENSE", TEXT);
    world.write("NOTICE.txt", b"A notice.\n");
    let file = |path: &str| json!({ "path": path, "source": { "file": { "path": path } } });
    let mut plan = world.plan();
    plan["models"] = json!([{ "name": "org/model", "license": "MIT AND (Apache-2.0 OR LicenseRef-Qwen)",
        "files": [file("LICENSE"), file("NOTICE.txt")] }]);
    plan["accept_licenses"] = json!(["Apache-2.0", "MIT"]);
    plan
}

#[test]
fn what_was_accepted_and_what_wheels_say_is_recorded_with_the_texts() {
    let world = World::new();
    world.keygen();
    world.write_plan(&plan(&world));
    world.lock().ended_with(0);
    world.build(&[]).ended_with(0);
    let shown = world.run(&["inspect", "demo-1.ferry", "--licenses", "--json"]);
    let shown = shown.ended_with(0).json();
    assert_eq!(
        shown["decisions"][0],
        json!({ "kind": "model", "component": "org/model",
            "expression": "MIT AND (Apache-2.0 OR LicenseRef-Qwen)", "accepted": ["Apache-2.0", "MIT"] })
    );
    let wheel = "demo-1.0-py3-none-any.whl";
    assert_eq!(
        shown["licenses"],
        json!({
            "Apache-2.0": ["identity"],
            "MIT AND (Apache-2.0 OR LicenseRef-Qwen)": ["org/model"],
            "MIT OR 0BSD": [wheel],
            "unknown": ["bin/tool", "lib/local.so", "uv-0.13.9-py3-none-manylinux_2_28_x86_64.whl"],
        })
    );
    // The model and the wheel bring the same text: it is carried once, and both are named.
    let digest = Digest::of(TEXT);
    let texts = shown["texts"].as_array().unwrap();
    let of: Vec<_> = texts
        .iter()
        .filter(|text| text["digest"] == digest.to_string())
        .collect();
    assert_eq!(
        (&of[0]["of"], &of[1]["of"]),
        (&wheel.into(), &"org/model".into())
    );
    assert_eq!(texts.len(), 3);
    let name = format!("meta/licenses/{}.txt", digest.hex());
    assert_eq!(member(&world, &name), TEXT);
    let sums = String::from_utf8(member(&world, "meta/SHA256SUMS")).unwrap();
    assert!(
        sums.contains(&format!("{}  {name}\n", digest.hex())),
        "{sums}"
    );

    // A text that was changed is found, and volumes and a second signature keep the texts.
    let good = std::fs::read(world.path("demo-1.ferry")).unwrap();
    let root = Digest::of(&std::fs::read(world.path("key/root.json")).unwrap()).hex();
    let at = good
        .windows(TEXT.len())
        .position(|part| part == TEXT)
        .unwrap();
    let mut bad = good.clone();
    bad[at] ^= 1;
    world.write("bad.ferry", &bad);
    let error = world
        .run(&["verify", "bad.ferry", "--root", &root, "--json"])
        .ended_with(4)
        .json();
    assert_eq!(error["error"]["code"], "bundle.member-differs", "{error}");
    let split = [
        "split",
        "demo-1.ferry",
        "--key",
        "key",
        "--passphrase-file",
        "passphrase",
        "-o",
        "again.ferry",
    ];
    world.run(&split).ended_with(0);
    assert!(
        std::fs::read(world.path("again.ferry")).unwrap() == good,
        "the same bytes"
    );
}

#[test]
fn wheels_are_held_against_what_was_accepted_where_the_plan_asks_for_it() {
    let world = World::new();
    world.keygen();
    let mut plan = plan(&world);
    plan["wheel_licenses"] = "accepted".into();
    // With an environment comes uv, whose wheel here does not say its licence.
    plan["backends"][0]["python"] = json!(null);
    plan["accept_licenses"] = json!(["Apache-2.0", "MIT"]);
    world.write_plan(&plan);
    world.lock().ended_with(0);
    world.build(&[]).ended_with(0);
    // The model is acceptable without MIT; the wheel is not.
    plan["models"][0]["license"] = "Apache-2.0".into();
    plan["accept_licenses"] = json!(["Apache-2.0"]);
    world.write_plan(&plan);
    world.lock().ended_with(0);
    let error = world.build(&["--json"]).ended_with(2).json();
    assert_eq!(
        error["error"]["code"], "license.wheel-not-accepted",
        "{error}"
    );
    assert_eq!(error["error"]["args"]["found"], "MIT OR 0BSD");
    assert_eq!(error["error"]["args"]["what"], "demo-1.0-py3-none-any.whl");
}

#[test]
fn a_licence_that_is_no_expression_is_not_guessed_at() {
    let world = World::new();
    let mut plan = plan(&world);
    plan["models"][0]["license"] = "apache-2.0".into();
    world.write_plan(&plan);
    assert_snapshot!(both(&world, &["lock", "plan.json"]), @"
    status 2
    error[bundler.manifest-value]: `plan.json`, at `models[0].license`: found `apache-2.0` (unknown term at `apache-2.0`; was `Apache-2.0` meant?), expected an SPDX expression, or `LicenseRef-…` for others

    hint: correct that place in the file; `ferry-bundler schema` says what each field means
    ---
    错误[bundler.manifest-value]: `plan.json` 中的 `models[0].license`：实际为 `apache-2.0`（`apache-2.0` 处有未知的词；是否应为 `Apache-2.0`？），应为 SPDX 表达式；其他许可证写作 `LicenseRef-…`

    建议: 请改正文件中的该处；各字段的含义见 `ferry-bundler schema`
    ");
}

#[test]
fn a_lock_that_accepts_less_than_it_holds_is_refused() {
    let world = World::new();
    world.keygen();
    world.write_plan(&plan(&world));
    world.lock().ended_with(0);
    let lock = std::fs::read_to_string(world.path("ferry.lock")).unwrap();
    world.write(
        "ferry.lock",
        lock.replace("\"MIT\"\n", "\"ISC\"\n").as_bytes(),
    );
    let error = world.build(&["--json"]).ended_with(2).json();
    assert_eq!(error["error"]["code"], "license.not-accepted", "{error}");
}
