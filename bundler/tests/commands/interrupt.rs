//! Ctrl-C and files that change: what is left behind, and how the next run goes on.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use manifest_schema::Digest;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::server::{Answer, Server, honest};
use crate::world::{World, weights};

/// A plan of one large file on the world's web server.
fn plan(world: &World) {
    let mut plan = world.plan();
    plan["models"] = json!([{ "name": "org/model", "license": "Apache-2.0", "files": [
        { "path": "model.safetensors", "source": { "https": {
            "url": format!("{}/model.safetensors", world.web.url), "digest": Digest::of(&weights()) } } },
    ] }]);
    plan["datasets"] = json!([]);
    plan["backends"] = json!([]);
    world.write_plan(&plan);
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(30), "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_build_that_is_interrupted_leaves_no_bundle_and_goes_on_where_it_stopped() {
    let web = Server::new(|number, asked| match (number, asked.method.as_str()) {
        (1, "GET") => honest(asked, &weights()).hang_after(700_000),
        _ => honest(asked, &weights()),
    });
    let world = World::with_web(web);
    world.keygen();
    plan(&world);
    world.lock().ended_with(0);
    let words = [
        "build",
        "ferry.lock",
        "--key",
        "key",
        "--passphrase-file",
        "passphrase",
    ];
    let mut build = world.command(&words).stderr(Stdio::null()).spawn().unwrap();
    let partial = world.path(&format!(
        "cache/sha256/{}.partial",
        Digest::of(&weights()).hex()
    ));
    wait_until("700 000 bytes arrive", || {
        fs::metadata(&partial).is_ok_and(|found| found.len() >= 700_000)
    });
    kill_process(Pid::from_child(&build), Signal::INT).unwrap();
    assert_eq!(build.wait().unwrap().signal(), Some(2));
    assert!(!world.path("demo-1.ferry").exists());
    assert!(fs::metadata(&partial).unwrap().len() >= 700_000);

    world.build(&[]).ended_with(0);
    let asked = world.web.asked();
    assert_eq!(asked.last().unwrap().from(), Some(700_000), "{asked:?}");
    assert!(!partial.exists());
}

#[test]
fn a_lock_that_is_interrupted_leaves_the_old_lock() {
    let web = Server::new(|number, asked| match number {
        0 => honest(asked, &weights()),
        _ => Answer::never(),
    });
    let world = World::with_web(web);
    plan(&world);
    world.lock().ended_with(0);
    let before = fs::read(world.path("ferry.lock")).unwrap();
    let asked = world.web.asked().len();
    let mut plan: serde_json::Value =
        serde_json::from_slice(&fs::read(world.path("plan.json")).unwrap()).unwrap();
    plan["release"] = 2.into();
    let second = json!({ "path": "b", "source": { "https": {
        "url": format!("{}/b", world.web.url), "digest": Digest::of(b"b") } } });
    plan["models"][0]["files"]
        .as_array_mut()
        .unwrap()
        .push(second);
    world.write_plan(&plan);
    let mut lock = world
        .command(&["lock", "plan.json"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the second file is asked for", || {
        world.web.asked().len() > asked
    });
    kill_process(Pid::from_child(&lock), Signal::INT).unwrap();
    assert_eq!(lock.wait().unwrap().signal(), Some(2));
    assert!(fs::read(world.path("ferry.lock")).unwrap() == before);
    let left: Vec<_> = fs::read_dir(world.folder.path()).unwrap().collect();
    let unfinished = |name: &str| name.starts_with(".ferry-");
    assert!(
        !left
            .into_iter()
            .any(|e| unfinished(&e.unwrap().file_name().to_string_lossy())),
        "nothing half-written lies beside the lock"
    );
}

#[test]
fn a_local_file_that_changed_since_the_lock_is_named() {
    let world = World::new();
    world.built();
    fs::remove_file(world.path("demo-1.ferry")).unwrap();
    fs::remove_dir_all(world.path("cache")).unwrap();
    world.write("local.so", b"another library");
    let said = world.build(&["--json"]).ended_with(4);
    let error = &said.json()["error"];
    assert_eq!(error["code"], "bundler.changed");
    assert!(
        error["args"]["path"]
            .as_str()
            .unwrap()
            .ends_with("local.so")
    );
    assert!(!world.path("demo-1.ferry").exists());
}

#[test]
fn a_damaged_cache_is_noticed_whatever_the_file_is() {
    let world = World::new();
    world.built();
    let cache = world.path("cache/sha256");
    let kinds = [
        crate::world::wheel(),
        weights(),
        b"#!/bin/sh\necho installer\n".to_vec(),
    ];
    for bytes in kinds {
        fs::remove_file(world.path("demo-1.ferry")).unwrap();
        let path = cache.join(Digest::of(&bytes).hex());
        let mut damaged = bytes.clone();
        damaged[bytes.len() / 2] ^= 1;
        fs::remove_file(&path).unwrap();
        fs::write(&path, damaged).unwrap();
        let error = world.build(&["--json"]).ended_with(4).json();
        let code = error["error"]["code"].as_str().unwrap().to_owned();
        assert!(
            ["mirror.cache-damaged", "bundle.blob-differs"].contains(&code.as_str()),
            "{code}"
        );
        assert!(!world.path("demo-1.ferry").exists());
        fs::write(&path, &bytes).unwrap();
        world.build(&[]).ended_with(0);
    }
}
