//! What a bad plan, a bad lock and a bad bundle are answered with: code, place, found, expected, remedy, status.

use std::fs;

use insta::assert_snapshot;

use crate::world::World;

/// The answer to `words` in English and in Chinese.
pub fn both(world: &World, words: &[&str]) -> String {
    let [en, zh] = ["en", "zh"].map(|lang| {
        let mut words = words.to_vec();
        words.extend(["--lang", lang]);
        world.run(&words).shown()
    });
    assert_eq!(
        en.lines().next(),
        zh.lines().next(),
        "one status in both languages"
    );
    let zh = zh.split_once('\n').map_or("", |(_, rest)| rest);
    format!("{en}\n---\n{zh}")
}

#[test]
fn a_plan_of_the_wrong_shape() {
    let world = World::new();
    world.write(
        "plan.json",
        b"{\n  \"format\": 1,\n  \"name\": \"demo\",\n  \"release\": \"one\"\n}\n",
    );
    assert_snapshot!(both(&world, &["lock", "plan.json"]), @r#"
    status 2
    error[bundler.manifest-shape]: `plan.json`, line 4, column 18, at `release`: invalid type: string "one", expected u64

    hint: correct that place in the file; `ferry-bundler schema` says what each field means
    ---
    错误[bundler.manifest-shape]: `plan.json` 第 4 行第 18 列（`release`）：invalid type: string "one", expected u64

    建议: 请改正文件中的该处；各字段的含义见 `ferry-bundler schema`
    "#);
    assert!(!world.path("ferry.lock").exists());
}

#[test]
fn a_plan_with_a_licence_that_nobody_accepted() {
    let world = World::new();
    let mut plan = world.plan();
    plan["models"][0]["license"] = "LGPL-3.0-only".into();
    world.write_plan(&plan);
    assert_snapshot!(both(&world, &["lock", "plan.json"]), @"
    status 2
    error[bundler.manifest-value]: `plan.json`, at `models[0].license`: found `LGPL-3.0-only`, which was not accepted, expected an SPDX expression that `accept_licenses` is enough for

    hint: correct that place in the file; `ferry-bundler schema` says what each field means
    ---
    错误[bundler.manifest-value]: `plan.json` 中的 `models[0].license`：实际为 `LGPL-3.0-only`, which was not accepted，应为 an SPDX expression that `accept_licenses` is enough for

    建议: 请改正文件中的该处；各字段的含义见 `ferry-bundler schema`
    ");
}

#[test]
fn a_plan_that_is_not_there() {
    let world = World::new();
    assert_snapshot!(both(&world, &["lock", "plan.json"]), @"
    status 5
    error[bundler.file]: cannot use `plan.json`
      because: No such file or directory (os error 2)

    hint: check the path and its permissions
    ---
    错误[bundler.file]: 无法使用 `plan.json`
      原因: 文件或目录不存在（系统错误 2）

    建议: 请检查路径与权限
    ");
}

#[test]
fn a_lock_that_pins_less_than_it_names() {
    let world = World::new();
    world.keygen();
    world.write_plan(&world.plan());
    world.lock().ended_with(0);
    let mut lock: serde_json::Value =
        serde_json::from_slice(&fs::read(world.path("ferry.lock")).unwrap()).unwrap();
    lock["artifacts"] = serde_json::json!([]);
    world.write("ferry.lock", lock.to_string().as_bytes());
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
    error[bundler.manifest-value]: `ferry.lock`, at `components[0].files[0].artifact`: found sha256:[DIGEST], expected the digest of one of `artifacts`

    hint: correct that place in the file; `ferry-bundler schema` says what each field means
    ---
    错误[bundler.manifest-value]: `ferry.lock` 中的 `components[0].files[0].artifact`：实际为 sha256:[DIGEST]，应为 `artifacts` 中某一项的摘要

    建议: 请改正文件中的该处；各字段的含义见 `ferry-bundler schema`
    ");
}

#[test]
fn a_lock_of_another_format() {
    let world = World::new();
    world.write_plan(&world.plan());
    world.lock().ended_with(0);
    let text = fs::read_to_string(world.path("ferry.lock")).unwrap();
    world.write(
        "ferry.lock",
        text.replace("\"format\": 1", "\"format\": 9").as_bytes(),
    );
    assert_snapshot!(both(&world, &["build", "ferry.lock", "--key", "key"]), @"
    status 2
    error[bundler.manifest-value]: `ferry.lock`, at `format`: found 9, expected 1

    hint: correct that place in the file; `ferry-bundler schema` says what each field means
    ---
    错误[bundler.manifest-value]: `ferry.lock` 中的 `format`：实际为 9，应为 1

    建议: 请改正文件中的该处；各字段的含义见 `ferry-bundler schema`
    ");
}

#[test]
fn a_file_that_is_no_bundle() {
    let world = World::new();
    world.write("a.ferry", &[7; 2000]);
    let root = "0".repeat(64);
    assert_snapshot!(both(&world, &["verify", "a.ferry", "--root", &root]), @"
    status 2
    error[bundle.not-a-bundle]: `a.ferry` is not a bundle

    hint: give the path of a `.ferry` file
    ---
    错误[bundle.not-a-bundle]: `a.ferry` 不是 Ferry 包

    建议: 请指定 `.ferry` 文件的路径
    ");
}

#[test]
fn a_bundle_with_one_byte_changed() {
    let world = World::new();
    let root = world.built();
    let mut bytes = fs::read(world.path("demo-1.ferry")).unwrap();
    let shown = world.run(&["inspect", "demo-1.ferry", "--json"]).json();
    let offset = shown["index"]["blobs"][0]["offset"].as_u64().unwrap();
    bytes[offset as usize] ^= 1;
    world.write("demo-1.ferry", &bytes);
    let shown = both(
        &world,
        &["verify", "demo-1.ferry", "--root", &root, "--quiet"],
    );
    let shown = shown.replace(&offset.to_string(), "[OFFSET]");
    let size = size_shown(&shown);
    assert_snapshot!(shown.replace(&size, "[SIZE]"), @"
    status 4
    error[bundle.piece-differs]: `demo-1.ferry`: blob sha256:[DIGEST] is damaged in the [SIZE]bytes from byte [OFFSET]

    hint: copy the bundle again; if it stays so, the medium is damaged
    ---
    错误[bundle.piece-differs]: `demo-1.ferry`：数据块 sha256:[DIGEST] 从第 [OFFSET] 字节起的 [SIZE]字节已损坏

    建议: 请重新复制该包；若问题依旧，则介质已损坏
    ");
}

/// The blob that comes first depends on digests; its size is not what this is about.
fn size_shown(shown: &str) -> String {
    let after = shown.split_once("in the ").unwrap().1;
    after.split_once(' ').unwrap().0.to_owned() + " "
}

#[test]
fn a_bundle_that_was_not_copied_to_its_end() {
    let world = World::new();
    let root = world.built();
    let bytes = fs::read(world.path("demo-1.ferry")).unwrap();
    world.write("demo-1.ferry", &bytes[..3000]);
    assert_snapshot!(both(&world, &["verify", "demo-1.ferry", "--root", &root]), @"
    status 4
    error[bundle.cut-short]: `demo-1.ferry` ends at byte 3000, within `README.txt`, which needs byte 6144

    hint: the copy is not complete: copy the bundle again
    ---
    错误[bundle.cut-short]: `demo-1.ferry` 在第 3000 字节处结束，`README.txt` 需要到第 6144 字节

    建议: 复制不完整，请重新复制该包
    ");
}

#[test]
fn a_bundle_of_another_root() {
    let world = World::new();
    world.built();
    let root = "f".repeat(64);
    assert_snapshot!(both(&world, &["verify", "demo-1.ferry", "--root", &root]), @"
    status 4
    error[bundle.root-untrusted]: `demo-1.ferry` is signed under the trust root [DIGEST], which is not trusted here

    hint: compare the fingerprint with the one you were given another way, then pass `--trust-root [DIGEST]`
    ---
    错误[bundle.root-untrusted]: `demo-1.ferry` 由信任根 [DIGEST] 签名，本机尚未信任它

    建议: 请与通过其他渠道得到的指纹核对，然后加上 `--trust-root [DIGEST]`
    ");
}

#[test]
fn a_wrong_passphrase_costs_no_download() {
    let world = World::new();
    world.keygen();
    world.write_plan(&world.plan());
    world.lock().ended_with(0);
    world.write("passphrase", b"another\n");
    let before = world.web.asked().len();
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
    error[bundle.key-password]: the password does not open this key

    hint: try again with the password that was set when the key was made
    ---
    错误[bundle.key-password]: 口令无法打开此密钥

    建议: 请使用生成密钥时设置的口令重试
    ");
    assert_eq!(world.web.asked().len(), before);
}

#[test]
fn a_machine_without_uv() {
    let world = World::new();
    world.write_plan(&world.plan());
    assert_snapshot!(both(&world, &["lock", "plan.json", "--uv", "/nowhere/uv", "--quiet"]), @"
    status 2
    error[mirror.no-resolver]: cannot run `/nowhere/uv`
      because: No such file or directory (os error 2)

    hint: install uv, or name it with `--uv` or `FERRY_UV`
    ---
    错误[mirror.no-resolver]: 无法运行 `/nowhere/uv`
      原因: 文件或目录不存在（系统错误 2）

    建议: 请安装 uv，或用 `--uv` 或 `FERRY_UV` 指定
    ");
}
