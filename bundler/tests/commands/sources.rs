//! Places that files come from, beyond those of the ordinary way.

use std::fs;

use manifest_schema::Digest;
use serde_json::{Value, json};

use crate::server::{Answer, Asked, Server, honest};
use crate::world::{BUILD, Said, World, entry, weights};

/// A plan with one backend whose files are `files`, and nothing else.
fn of_files(world: &World, files: &Value) -> Value {
    let mut plan = world.plan();
    plan["models"] = json!([]);
    plan["datasets"] = json!([]);
    plan["backends"][0]["python"] = json!(null);
    plan["backends"][0]["files"] = files.clone();
    plan
}

/// Locks, builds and returns the backend as the bundle has it.
fn packed(world: &World, plan: &Value, more: &[&str]) -> Value {
    world.keygen();
    world.write_plan(plan);
    world.lock().ended_with(0);
    world.build(more).ended_with(0);
    let shown = world.run(&["inspect", "demo-1.ferry", "--json"]);
    shown.ended_with(0).json()["profiles"].clone()
}

fn paths(files: &Value) -> Vec<String> {
    let path = |file: &Value| file["path"].as_str().unwrap().to_owned();
    files.as_array().unwrap().iter().map(path).collect()
}

#[test]
fn a_folder_is_taken_in_order_with_its_patterns() {
    let world = World::new();
    for (name, text) in [
        ("b.so", "b"),
        ("a/x.so", "x"),
        ("a/x.md", "text"),
        ("c.so", "b"),
    ] {
        let path = world.path("vendor").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let folder = json!({ "path": "vendor", "exclude": ["*.md"] });
    let files = json!([{ "path": "lib", "source": { "folder": folder } }]);
    let profiles = packed(&world, &of_files(&world, &files), &[]);
    let files = paths(&profiles["backends"][0]["files"]);
    assert_eq!(files, ["lib/a/x.so", "lib/b.so", "lib/c.so"]);

    let nothing = json!([{ "path": "lib", "source": { "folder": { "path": "vendor", "include": ["*.exe"] } } }]);
    world.write_plan(&of_files(&world, &nothing));
    let error = world
        .run(&["lock", "plan.json", "--json"])
        .ended_with(2)
        .json();
    assert_eq!(error["error"]["code"], "bundler.nothing-taken");
}

#[test]
fn a_file_that_must_be_brought_is_asked_for_and_found_by_its_digest() {
    let world = World::new();
    let own = b"what only the vendor may hand out";
    let slot = json!({ "file_name": "Ascend-cann.run", "size": own.len(), "digest": Digest::of(own),
        "from": "the vendor's download page, with your account" });
    let files = json!([{ "path": "cann.run", "executable": true, "source": { "own": slot } }]);
    world.keygen();
    world.write_plan(&of_files(&world, &files));
    world.lock().ended_with(0);
    let error = world.build(&["--json"]).ended_with(2).json();
    assert_eq!(error["error"]["code"], "bundler.not-brought");
    assert_eq!(
        error["error"]["args"]["from"],
        "the vendor's download page, with your account"
    );
    assert!(!world.path("demo-1.ferry").exists());

    fs::create_dir_all(world.path("mine/deep")).unwrap();
    world.write("mine/deep/another name", own);
    let mut wrong = own.to_vec();
    wrong[0] ^= 1;
    world.write("mine/Ascend-cann.run", &wrong);
    world.build(&["--bring", "mine"]).ended_with(0);
    let shown = world
        .run(&["inspect", "demo-1.ferry", "--json"])
        .ended_with(0)
        .json();
    assert_eq!(
        shown["provenance"]["blobs"][Digest::of(own).to_string()]["kind"],
        "own"
    );
}

pub fn python() -> Vec<u8> {
    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(
        Vec::new(),
        flate2::Compression::fast(),
    ));
    let mut add = |name: &str, mode: u32, kind: tar::EntryType, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_entry_type(kind);
        if kind.is_symlink() {
            header.set_size(0);
            let target = std::str::from_utf8(bytes).unwrap();
            archive.append_link(&mut header, name, target).unwrap();
        } else {
            header.set_size(bytes.len() as u64);
            archive.append_data(&mut header, name, bytes).unwrap();
        }
    };
    add(
        "python/bin/python3",
        0o777,
        tar::EntryType::Symlink,
        b"python3.11",
    );
    add(
        "python/bin/python3.11",
        0o755,
        tar::EntryType::Regular,
        b"\x7fELF python",
    );
    add(
        "python/lib/libpython3.so",
        0o644,
        tar::EntryType::Regular,
        b"library",
    );
    archive.into_inner().unwrap().finish().unwrap()
}

#[test]
fn a_standalone_python_by_address_and_digest_has_its_programs_and_links() {
    let world = World::with_web(Server::new(|_, asked| honest(asked, &python())));
    let url = format!("{}/cpython-3.11-aarch64-install_only.tar.gz", world.web.url);
    let https = json!({ "url": url, "digest": Digest::of(&python()), "members": ["*"] });
    let files = json!([{ "path": "python", "source": { "https": https } }]);
    let profiles = packed(&world, &of_files(&world, &files), &[]);
    let files = profiles["backends"][0]["files"].as_array().unwrap();
    let shown: Vec<_> = files
        .iter()
        .map(|f| {
            (
                f["path"].as_str().unwrap(),
                f["executable"].as_bool().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("python/bin/python3", true),
            ("python/bin/python3.11", true),
            ("python/lib/libpython3.so", false),
        ]
    );
    assert_eq!(
        files[0]["digest"], files[1]["digest"],
        "a link is the file that it leads to"
    );
}

#[test]
fn a_vendor_that_wants_headers_gets_them_and_the_secret_is_written_nowhere() {
    const SECRET: &str = "a secret of the vendor's shop";
    let vendor = Server::new(|_, asked| {
        let good = asked.header("referer") == Some("https://vendor.example/")
            && asked.header("x-token") == Some(SECRET);
        if good {
            honest(asked, b"driver")
        } else {
            Answer::new(403, b"")
        }
    });
    let world = World::with_web(vendor);
    let https = json!({ "url": format!("{}/driver.run", world.web.url), "digest": Digest::of(b"driver"),
        "headers": { "Referer": "https://vendor.example/" }, "secret_headers": { "X-Token": "SHOP_TOKEN" } });
    let files = json!([{ "path": "driver.run", "source": { "https": https } }]);
    world.keygen();
    world.write_plan(&of_files(&world, &files));
    let error = world
        .run(&["lock", "plan.json", "--json"])
        .ended_with(2)
        .json();
    assert_eq!(error["error"]["code"], "mirror.no-secret");
    assert_eq!(error["error"]["args"]["variable"], "SHOP_TOKEN");
    let with = |words: &[&str]| {
        let mut command = world.command(words);
        Said::of(command.env("SHOP_TOKEN", SECRET).output().unwrap())
    };
    let mut said = vec![with(&["lock", "plan.json"]).ended_with(0)];
    said.push(with(&BUILD).ended_with(0));
    assert!(
        said.iter()
            .all(|said| !format!("{said:?}").contains(SECRET))
    );
    for name in ["ferry.lock", "demo-1.ferry"] {
        let bytes = fs::read(world.path(name)).unwrap();
        let found = bytes
            .windows(SECRET.len())
            .any(|run| run == SECRET.as_bytes());
        assert!(!found, "{name}");
    }
}

#[test]
fn mirrors_are_tried_in_their_order_and_the_lock_keeps_the_origin() {
    let wrong = Server::new(|_, _| Answer::new(200, b"#!/bin/sh\necho fool\n"));
    let right = Server::new(|_, asked| honest(asked, b"#!/bin/sh\necho tool\n"));
    let world = World::new();
    world.keygen();
    world.write_plan(&world.plan());
    world.lock().ended_with(0);
    let before = world.web.asked().len();
    let rewrites = [&wrong, &right].map(|to| format!("{}={}", world.web.url, to.url));
    let said = world
        .build(&["--mirror", &rewrites[0], "--mirror", &rewrites[1]])
        .ended_with(0);
    assert!(said.words.contains(&wrong.url), "{}", said.words);
    assert_eq!((wrong.asked().len(), right.asked().len()), (1, 1));
    assert_eq!(world.web.asked().len(), before, "a mirror had it");
    let shown = world
        .run(&["inspect", "demo-1.ferry", "--json"])
        .ended_with(0)
        .data;
    assert!(shown.contains(&world.web.url) && !shown.contains(&right.url));
}

#[test]
fn a_proxy_from_the_environment_is_used() {
    let proxy = Server::new(|_, asked: &Asked| match asked.path.as_str() {
        "http://files.invalid/tool.run" => honest(asked, b"through the proxy"),
        _ => Answer::new(502, b""),
    });
    let world = World::new();
    let https = json!({ "url": "http://files.invalid/tool.run", "digest": Digest::of(b"through the proxy") });
    let files = json!([{ "path": "tool", "source": { "https": https } }]);
    world.keygen();
    world.write_plan(&of_files(&world, &files));
    for words in [&["lock", "plan.json"][..], &BUILD] {
        let mut command = world.command(words);
        Said::of(command.env("http_proxy", &proxy.url).output().unwrap()).ended_with(0);
    }
    assert_eq!(proxy.asked().len(), 2);
}

#[test]
fn the_login_of_an_index_goes_to_the_index_and_into_no_file() {
    let world = World::new();
    let with_login = world.index.url.replace("http://", "http://me:hush%21@") + "/simple";
    world.keygen();
    world.write_plan(&world.plan());
    for words in [&["lock", "plan.json"][..], &BUILD] {
        let mut command = world.command(words);
        let said = Said::of(
            command
                .env("UV_DEFAULT_INDEX", &with_login)
                .output()
                .unwrap(),
        );
        assert!(!format!("{:?}", said.ended_with(0)).contains("hush"));
    }
    // printf 'me:hush!' | base64
    let login = Some("Basic bWU6aHVzaCE=");
    assert!(
        world
            .index
            .asked()
            .iter()
            .all(|asked| asked.header("authorization") == login)
    );
    assert!(
        !fs::read_to_string(world.path("ferry.lock"))
            .unwrap()
            .contains("hush")
    );
}

/// A ModelScope with the files of the world's model.
fn modelscope(changed: bool) -> Server {
    Server::new(move |_, asked| {
        let weights = weights();
        let config = if changed {
            "{\"model_type\": \"other\"}\n"
        } else {
            "{\"model_type\": \"qwen2\"}\n"
        };
        if asked
            .path
            .starts_with("/api/v1/models/org/model/repo/files?")
        {
            let file = |path: &str, bytes: &[u8]| json!({ "Path": path, "Type": "blob", "Size": bytes.len(), "Sha256": Digest::of(bytes).hex() });
            let files = [
                file("config.json", config.as_bytes()),
                file("model.safetensors", &weights),
            ];
            return Answer::new(
                200,
                json!({ "Data": { "Files": files } }).to_string().as_bytes(),
            );
        }
        if asked.path.ends_with("FilePath=model.safetensors") {
            return honest(asked, &weights);
        }
        Answer::new(200, config.as_bytes())
    })
}

#[test]
fn where_both_hubs_hold_the_same_bytes_either_may_supply_them() {
    let scope = modelscope(true);
    let world = World::new();
    let mut plan = world.plan();
    plan["models"][0]["modelscope"] = json!({ "repo": "org/model" });
    world.keygen();
    world.write_plan(&plan);
    let run = |words: &[&str]| {
        let mut command = world.command(words);
        command.env("MODELSCOPE_ENDPOINT", &scope.url);
        Said::of(command.output().unwrap())
    };
    run(&["lock", "plan.json"]).ended_with(0);
    let lock: Value = serde_json::from_slice(&fs::read(world.path("ferry.lock")).unwrap()).unwrap();
    let places = |bytes: &[u8]| {
        let of = |a: &&Value| a["digest"] == Digest::of(bytes).to_string();
        lock["artifacts"]
            .as_array()
            .unwrap()
            .iter()
            .find(of)
            .unwrap()["urls"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(places(&weights()), 2);
    assert_eq!(
        places(b"{\"model_type\": \"qwen2\"}\n"),
        1,
        "other bytes there: no second place"
    );
    let lost = fs::read_to_string(world.path("ferry.lock"))
        .unwrap()
        .replace(&world.hub.url, "http://127.0.0.1:9");
    world.write("ferry.lock", lost.as_bytes());
    run(&BUILD).ended_with(0);
}

#[test]
fn other_bytes_under_the_same_revision_are_an_error_that_names_them() {
    let world = World::new();
    let mut plan = world.plan();
    let model = plan["models"][0].as_object_mut().unwrap();
    model.remove("hub");
    model.insert("modelscope".to_owned(), json!({ "repo": "org/model" }));
    world.keygen();
    world.write_plan(&plan);
    let run = |scope: &Server, words: &[&str]| {
        let mut command = world.command(words);
        command.env("MODELSCOPE_ENDPOINT", &scope.url);
        Said::of(command.output().unwrap())
    };
    let (before, after) = (modelscope(false), modelscope(true));
    run(&before, &["lock", "plan.json"]).ended_with(0);
    // The same address, and other bytes: as when a branch moves between locking and building.
    let moved = fs::read_to_string(world.path("ferry.lock"))
        .unwrap()
        .replace(&before.url, &after.url);
    world.write("ferry.lock", moved.as_bytes());
    let words = [&BUILD[..], &["--json"]].concat();
    let error = run(&after, &words).ended_with(5).json();
    assert_eq!(error["error"]["code"], "mirror.every-place-failed");
    assert_eq!(error["error"]["args"]["file"], "config.json");
    let again = run(&after, &["lock", "plan.json", "--json"])
        .ended_with(4)
        .json();
    assert_eq!(again["error"]["code"], "bundler.revision-changed");
    assert_eq!(again["error"]["args"]["files"], "config.json");
    run(&after, &["lock", "plan.json", "--accept-changed"]).ended_with(0);
}

#[test]
fn a_branch_that_moved_is_said_so() {
    let world = World::new();
    world.write_plan(&world.plan());
    world.lock().ended_with(0);
    let old = fs::read_to_string(world.path("ferry.lock")).unwrap();
    let other = "89abcdef".repeat(5);
    world.write(
        "ferry.lock",
        old.replace(crate::world::COMMIT, &other).as_bytes(),
    );
    let said = world.lock().ended_with(0);
    assert!(
        said.words
            .contains(&format!("from {other} to {}", crate::world::COMMIT)),
        "{}",
        said.words
    );
    // What the hub lists is what is checked: the entry of a file is git's name of its bytes.
    assert_eq!(
        entry("a", b"hello\n")["oid"],
        "ce013625030ba8dba906f756967f9e9ca394464a"
    );
}
