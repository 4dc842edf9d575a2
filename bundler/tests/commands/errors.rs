//! What a bad plan, a bad lock and a bad bundle are answered with: code, place, found, expected, remedy, status.

use std::fs;

use insta::assert_snapshot;
use serde_json::{Value, json};

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
    错误[bundler.manifest-shape]: `plan.json` 第 4 行第 18 列（`release`）：类型不符：实际为字符串 "one"，应为非负整数

    建议: 请改正文件中的该处；各字段的含义见 `ferry-bundler schema`
    "#);
    assert!(!world.path("ferry.lock").exists());
}

#[test]
fn a_plan_that_is_cut_off() {
    let world = World::new();
    world.write("plan.json", b"{\n  \"format\": 1,\n  \"release\": 1");
    assert_snapshot!(both(&world, &["lock", "plan.json"]), @"
    status 2
    error[bundler.manifest-text]: `plan.json`, line 3, column 14: EOF while parsing an object

    hint: correct that place in the file; `ferry-bundler schema` says what each field means
    ---
    错误[bundler.manifest-text]: `plan.json` 第 3 行第 14 列：在对象的中间结束

    建议: 请改正文件中的该处；各字段的含义见 `ferry-bundler schema`
    ");
}

#[test]
fn a_plan_in_the_place_of_a_lock_and_the_other_way_round() {
    let world = World::new();
    world.built();
    assert_snapshot!(both(&world, &["build", "plan.json", "--key", "key"]), @"
    status 2
    error[bundler.plan-not-lock]: `plan.json` is a plan, and a lock is needed here

    hint: make one: `ferry-bundler lock plan.json`
    ---
    错误[bundler.plan-not-lock]: `plan.json` 是计划文件，此处需要锁文件

    建议: 请先生成锁文件：`ferry-bundler lock plan.json`
    ");
    assert_snapshot!(both(&world, &["lock", "ferry.lock"]), @"
    status 2
    error[bundler.lock-not-plan]: `ferry.lock` is a lock, and a plan is needed here

    hint: name the plan that the lock was made of
    ---
    错误[bundler.lock-not-plan]: `ferry.lock` 是锁文件，此处需要计划文件

    建议: 请指定生成该锁文件所用的计划文件
    ");
}

#[test]
fn a_bundle_without_images() {
    let world = World::new();
    let root = world.built();
    let words = [
        "export",
        "oci",
        "demo-1.ferry",
        "-o",
        "images",
        "--root",
        &root,
    ];
    assert_snapshot!(both(&world, &words), @"
    status 2
    error[bundler.no-images]: `demo-1.ferry` holds no images

    hint: name a bundle whose plan has `images`; `ferry-bundler inspect` shows what is in one
    ---
    错误[bundler.no-images]: `demo-1.ferry` 中没有镜像

    建议: 请指定其计划含有 `images` 的包；`ferry-bundler inspect` 可查看包的内容
    ");
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
    错误[bundler.manifest-value]: `plan.json` 中的 `models[0].license`：实际为 `LGPL-3.0-only`，未被接受，应为 `accept_licenses` 已涵盖的 SPDX 表达式

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

    hint: give the path of a `.ferry` file; if it is one, it was damaged on its way: copy it from its medium once more
    ---
    错误[bundle.not-a-bundle]: `a.ferry` 不是 Ferry 包

    建议: 请指定 `.ferry` 文件的路径；若确是包文件，则它在途中损坏，请从介质重新复制
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

    hint: restore it with `ferry-bundler repair` where `.par` files are beside it, else copy the bundle again; if it stays so, the medium is damaged
    ---
    错误[bundle.piece-differs]: `demo-1.ferry`：数据块 sha256:[DIGEST] 从第 [OFFSET] 字节起的 [SIZE]字节已损坏

    建议: 若旁边有 `.par` 文件，请用 `ferry-bundler repair` 恢复，否则请重新复制该包；若问题依旧，则介质已损坏
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

/// English words of a Chinese message. What stands in quotes is somebody's own, and some names have no other.
fn english(message: &str) -> Vec<&str> {
    let outside = message.split('`').step_by(2);
    let words = outside.flat_map(|text| text.split(|c: char| !c.is_ascii_alphabetic()));
    let known = [
        "ASCII",
        "JSON",
        "LicenseRef",
        "Python",
        "SHA",
        "SPDX",
        "glibc",
        "rpm",
        "sha",
        "wheel",
    ];
    words
        .filter(|word| word.len() > 2 && !known.contains(word))
        .collect()
}

#[test]
fn what_is_wrong_in_a_plan_is_said_in_chinese_to_the_last_word() {
    type Edit = fn(&mut Value);
    let edits: [(&str, Edit); 30] = [
        ("format", |p| p["format"] = 2.into()),
        ("name", |p| p["name"] = "No!".into()),
        ("release", |p| p["release"] = "七".into()),
        ("negative", |p| p["release"] = (-1).into()),
        ("unknown", |p| p["colour"] = "red".into()),
        ("unknown choice", |p| p["wheel_licenses"] = "some".into()),
        ("missing", |p| {
            drop(p.as_object_mut().unwrap().remove("name"))
        }),
        ("list", |p| p["models"] = json!({})),
        ("licence", |p| p["accept_licenses"] = json!(["Apache 2"])),
        ("accepted", |p| p["accept_licenses"] = json!([])),
        ("twice", |p| {
            p["models"] = json!([p["models"][0], p["models"][0]])
        }),
        ("backends", |p| {
            p["backends"] = json!([p["backends"][0], p["backends"][0]])
        }),
        ("nothing", |p| {
            drop(p["models"][0].as_object_mut().unwrap().remove("hub"))
        }),
        ("fill", |p| p["datasets"][0]["fill"] = json!({ "{a}": "b" })),
        ("path", |p| {
            p["backends"][0]["files"][0]["path"] = "../a".into()
        }),
        ("path twice", |p| {
            p["backends"][0]["files"][1]["path"] = "bin/tool".into()
        }),
        ("arch", |p| p["backends"][0]["arch"] = "riscv64".into()),
        ("glibc", |p| p["backends"][0]["glibc"] = "two".into()),
        ("python", |p| {
            p["backends"][0]["python"]["version"] = "2.7".into()
        }),
        ("member", |p| {
            p["datasets"][0]["files"][0]["source"]["pypi"]["members"] = json!(["*"])
        }),
        ("version", |p| {
            p["datasets"][0]["files"][0]["source"]["pypi"]["version"] = ">=1".into()
        }),
        ("scheme", |p| tool(p)["url"] = "ftp://a/b".into()),
        ("password", |p| tool(p)["url"] = "https://a:b@c/d".into()),
        ("digest", |p| tool(p)["digest"] = "md5:0".into()),
        ("secret", |p| {
            tool(p)["headers"] = json!({ "Authorization": "x" })
        }),
        ("header", |p| tool(p)["headers"] = json!({ "Range": "x" })),
        ("value", |p| tool(p)["headers"] = json!({ "A": "b\nc" })),
        ("variable", |p| {
            tool(p)["secret_headers"] = json!({ "A": "b" })
        }),
        ("host", |p| {
            let file = json!({ "path": "a", "source": { "file": { "path": "a" } } });
            p["backends"][0]["host"] = json!([{ "kind": "driver", "version": "1", "file": file }]);
        }),
        ("group", |p| {
            p["installers"]["x86_64"] = json!({ "folder": { "path": "a" } });
        }),
    ];
    let world = World::new();
    for (name, edit) in edits {
        let mut plan = world.plan();
        edit(&mut plan);
        world.write_plan(&plan);
        let said = world
            .run(&["lock", "plan.json", "--lang", "zh"])
            .ended_with(2);
        let (_, message) = said.words.split_once("]: ").unwrap();
        let message = message.split("\n\n").next().unwrap();
        assert_eq!(english(message), [""; 0], "{name}: {message}");
    }
}

/// The file of the plan that comes from a web address.
fn tool(plan: &mut Value) -> &mut Value {
    &mut plan["backends"][0]["files"][0]["source"]["https"]
}

#[test]
fn what_is_wrong_with_an_image_is_said_in_chinese_to_the_last_word() {
    type Edit = fn(&mut Value);
    let edits: [(&str, Edit); 9] = [
        ("short name", |i| i["name"] = "ubuntu".into()),
        ("tag", |i| i["tag"] = "a b".into()),
        ("neither", |i| {
            drop(i.as_object_mut().unwrap().remove("tag"))
        }),
        ("platform", |i| i["platforms"] = json!(["arm"])),
        ("backend", |i| i["backends"] = json!(["other"])),
        ("query", |i| {
            i["source"]["oci"]["endpoint"] = "https://a/?b".into()
        }),
        ("password", |i| {
            i["source"]["oci"]["mirrors"] = json!(["https://a:b@c"])
        }),
        ("login", |i| {
            i["source"]["oci"]["login"] = json!({ "user": "me", "password": "P" })
        }),
        ("source", |i| i["source"] = json!({ "cloud": {} })),
    ];
    let world = World::new();
    for (name, edit) in edits {
        let mut plan = world.plan();
        plan["images"] = json!([{ "name": "quay.io/a/b", "tag": "1", "license": "Apache-2.0", "source": { "oci": {} } }]);
        edit(&mut plan["images"][0]);
        world.write_plan(&plan);
        let said = world
            .run(&["lock", "plan.json", "--lang", "zh"])
            .ended_with(2);
        let (_, message) = said.words.split_once("]: ").unwrap();
        let message = message.split("\n\n").next().unwrap();
        assert_eq!(english(message), [""; 0], "{name}: {message}");
    }
}
