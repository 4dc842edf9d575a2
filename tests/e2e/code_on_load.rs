//! Files that run code when they are loaded, from the plan that lets them in to the audit that says so on site.

use std::fs;
use std::process::{Command, Stdio};

use e2e::{Said, Site, bundler, say};
use serde_json::{Value, json};

/// A runtime that says that it works.
const RUNTIME: &[u8] = b"#!/bin/sh\n[ \"$1\" = doctor ]\n";
/// Calls `system("echo")` when it is loaded.
const PICKLE: &[u8] = b"\x80\x02cos\nsystem\nq\x00X\x04\x00\x00\x00echoq\x01\x85q\x02Rq\x03.";
const FILES: [(&str, &[u8]); 4] = [
    ("pytorch_model.bin", PICKLE),
    ("modeling_x.py", b"print('hello')\n"),
    (
        "config.json",
        br#"{"auto_map": {"AutoModel": "modeling_x.X"}}"#,
    ),
    ("tokenizer.json", b"{}"),
];

/// Runs the bundler in the site's folder, without a network or a home.
fn bundle(site: &Site, words: &[&str]) -> Said {
    let mut command = Command::new(bundler());
    command
        .args(words)
        .current_dir(site.folder())
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", site.folder())
        .env("FERRY_CACHE", site.folder().join("cache"))
        .env("FERRY_KEY_PASSPHRASE", "a passphrase")
        .stdin(Stdio::null());
    say(&mut command)
}

/// A plan for a model of [`FILES`], of which `allowed` may run code.
fn write_plan(site: &Site, allowed: &[&str]) {
    let file =
        |path: &str, name: &str| json!({ "path": path, "source": { "file": { "path": name } } });
    for (name, bytes) in FILES.iter().chain([&("ferry-runtime", RUNTIME)]) {
        fs::write(site.folder().join(name), bytes).unwrap();
    }
    let mut runtime = file("bin/ferry-runtime", "ferry-runtime");
    runtime["executable"] = true.into();
    let files: Vec<Value> = FILES.iter().map(|(name, _)| file(name, name)).collect();
    let plan = json!({ "format": 1, "name": "coded", "release": 3, "accept_licenses": ["MIT"],
        "models": [{ "name": "org/model", "license": "MIT", "files": files, "allow_code_on_load": allowed }],
        "backends": [{ "name": "cpu", "chip": "cpu", "arch": std::env::consts::ARCH, "files": [runtime] }] });
    fs::write(site.folder().join("plan.json"), plan.to_string()).unwrap();
}

#[test]
fn what_the_plan_let_in_is_named_by_every_audit() {
    let site = Site::new();
    write_plan(&site, &[]);
    let refused = bundle(&site, &["lock", "plan.json"]).ended_with(2);
    assert!(refused.words.contains("pytorch_model.bin"), "{refused:?}");
    write_plan(&site, &["pytorch_*.bin"]);
    let key = bundle(&site, &["keygen", "key"]).ended_with(0);
    let _ = bundle(&site, &["lock", "plan.json"]).ended_with(0);
    let _ = bundle(&site, &["build", "ferry.lock", "--key", "key"]).ended_with(0);
    let words = [
        "install",
        "coded-3.ferry",
        "--yes",
        "--trust-root",
        key.data.trim(),
    ];
    let _ = site.installer(&words).ended_with(0);

    let audit = site.installer(&["audit", "--json"]).ended_with(0).json();
    let files = audit["audit"]["files"].as_array().unwrap();
    let code = |name: &str| {
        let path = format!("models/org/model/{name}");
        let file = files
            .iter()
            .find(|file| file["path"].as_str().unwrap().ends_with(&path));
        let file = file.unwrap_or_else(|| panic!("{name} is not named"));
        assert_eq!(file["standing"], "signed", "{file}");
        let code = &file["code_on_load"];
        (code["form"].clone(), code["allowed_by"].clone())
    };
    assert_eq!(
        code("pytorch_model.bin"),
        (json!("pickle"), json!("pytorch_*.bin"))
    );
    assert_eq!(code("modeling_x.py"), (json!("python"), Value::Null));
    assert_eq!(code("config.json"), (json!("remote-code"), Value::Null));
    assert_eq!(code("tokenizer.json"), (Value::Null, Value::Null));

    for (language, pickle, program) in [
        (
            "en",
            "⚠ can run code when it is loaded (pickle); the plan allowed it by `pytorch_*.bin`",
            "⚠ is or names a Python program (python), which runs where `trust_remote_code` is set",
        ),
        (
            "zh",
            "⚠ 加载时可能执行代码（pickle）；计划以 `pytorch_*.bin` 予以放行",
            "⚠ 是 Python 程序或指向 Python 程序（python），设置 `trust_remote_code` 时会被执行",
        ),
    ] {
        let page = format!("audit-{language}.html");
        let words = [
            "audit", "--lang", language, "--report", "html", "--output", &page,
        ];
        let said = site.installer(&words).ended_with(0).data;
        let line = |name: &str| {
            let path = format!("models/org/model/{name}");
            let line = said.lines().find(|line| line.contains(&path));
            line.unwrap_or_else(|| panic!("{name}: {said}"))
        };
        assert!(line("pytorch_model.bin").contains(pickle), "{said}");
        assert!(line("modeling_x.py").contains(program), "{said}");
        assert!(!line("tokenizer.json").contains('⚠'), "{said}");
        let page = fs::read_to_string(site.folder().join(&page)).unwrap();
        assert!(page.contains("pytorch_*.bin"), "{language}");
    }

    // What was allowed is not what lies there now.
    let model = site.prefix().join("current/models/org/model/modeling_x.py");
    fs::remove_file(&model).unwrap();
    fs::write(&model, "print('somebody else')\n").unwrap();
    let audit = site.installer(&["audit", "--json"]).ended_with(4).json();
    assert_eq!(audit["wrong"], 1, "{audit}");
}
