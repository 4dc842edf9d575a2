//! The commands that look and tell: `plan`, `diff`, `cache`, `schema`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use insta::assert_snapshot;
use manifest_schema::Digest;

use crate::world::{World, weights};

/// Every file below a folder with its bytes.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(super::looking::files(&path));
        } else if !path.ends_with("asked-of-uv") {
            files.insert(path.display().to_string(), fs::read(&path).unwrap());
        }
    }
    files
}

#[test]
fn a_plan_shows_what_would_be_fetched_and_writes_nothing() {
    let world = World::new();
    world.write_plan(&world.plan());
    let before = files(world.folder.path());
    let said = world.run(&["plan", "plan.json", "--quiet"]).ended_with(0);
    assert!(files(world.folder.path()) == before, "nothing is written");
    let sized = said.shown();
    assert_snapshot!(sized, @"
    status 0
    model org/model  Apache-2.0  0123456789abcdef0123456789abcdef01234567  1.5 MiB
    dataset identity  Apache-2.0  —  742 B
    backend cpu  cpu x86_64  1 wheels  969 B
    = 7 artifacts, 1.5 MiB; 5 of them, 1.5 MiB, are still to be fetched
    ");

    let json = world
        .run(&["plan", "plan.json", "--json"])
        .ended_with(0)
        .json();
    assert!(json["changes"].is_null(), "there is no lock yet");
    let to_fetch = json["fetch_bytes"].as_u64().unwrap();
    world.keygen();
    world.lock().ended_with(0);
    world.build(&[]).ended_with(0);
    let json = world
        .run(&["plan", "plan.json", "--json"])
        .ended_with(0)
        .json();
    assert_eq!(json["changes"]["things"], serde_json::json!([]));
    assert_eq!(json["fetch_bytes"], 0);
    assert!(to_fetch > weights().len() as u64);
}

#[test]
fn a_plan_and_a_diff_say_what_changed_since_a_lock_or_a_bundle() {
    let world = World::new();
    world.built();
    fs::rename(world.path("ferry.lock"), world.path("old.lock")).unwrap();
    let mut plan = world.plan();
    plan["release"] = 2.into();
    plan["models"][0]["hub"]["include"] = serde_json::json!(["*.json"]);
    plan["backends"][0]["versions"] = serde_json::json!({ "torch": "2.7.1" });
    world.write_plan(&plan);
    let planned = world.run(&["plan", "plan.json", "--against", "demo-1.ferry", "--json"]);
    let planned = planned.ended_with(0).json();
    world.lock().ended_with(0);
    let shown = world
        .run(&["diff", "old.lock", "ferry.lock"])
        .ended_with(0)
        .shown();
    assert_snapshot!(shown, @"
    status 0
    ~ backend cpu
        torch: — → 2.7.1
    ~ bundle demo
        release: 1 → 2
    ~ model org/model
        - model.safetensors
    = +0 artifacts, 0 B
    ");
    let json = world
        .run(&["diff", "demo-1.ferry", "ferry.lock", "--json"])
        .ended_with(0)
        .json();
    assert_eq!(
        (&json["same"], &json["changes"]),
        (&false.into(), &planned["changes"])
    );
    let same = world
        .run(&["diff", "demo-1.ferry", "old.lock", "--json"])
        .ended_with(0)
        .json();
    assert_eq!(same["same"], true);
}

#[test]
fn the_cache_is_listed_checked_and_cleared() {
    let world = World::new();
    world.built();
    let cache = world.path("cache/sha256");
    fs::write(cache.join(".tmpAbC.partial"), b"left by a dead run").unwrap();
    let listed = world.run(&["cache", "list", "--json"]).ended_with(0).json();
    let count = listed["files"].as_array().unwrap().len();
    assert_eq!(count, fs::read_dir(&cache).unwrap().count());

    let gone = |words: &[&str]| {
        let said = world
            .run(&[&["cache", "gc", "--json"], words].concat())
            .ended_with(0);
        said.json()["removed"].as_array().unwrap().len()
    };
    assert_eq!(gone(&["--dry-run"]), 1);
    assert_eq!(
        gone(&["--older-than", "1"]),
        1,
        "the leftover, and nothing that is young"
    );
    let members = gone(&["--keep", "ferry.lock", "--dry-run"]);
    assert_eq!(
        gone(&["--keep", "demo-1.ferry"]),
        members,
        "the bundle has the same lock"
    );
    assert_eq!(gone(&["--keep", "ferry.lock"]), 0);
    world.build(&[]).ended_with(0);

    assert_eq!(
        world
            .run(&["cache", "verify", "--json"])
            .ended_with(0)
            .json()["damaged"],
        serde_json::json!([])
    );
    let path = cache.join(Digest::of(&weights()).hex());
    let mut bytes = weights();
    bytes[77] ^= 4;
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    let damaged = world
        .run(&["cache", "verify", "--json"])
        .ended_with(4)
        .json();
    assert_eq!(
        damaged["damaged"][0]["digest"],
        Digest::of(&weights()).to_string()
    );
    world.run(&["cache", "verify", "--delete"]).ended_with(0);
    assert!(!path.exists());
    world.build(&[]).ended_with(0);
}

#[test]
fn schemas_are_those_that_are_published() {
    let world = World::new();
    let published = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/json-schema");
    for name in ["plan", "lock", "index", "profiles"] {
        let said = world.run(&["schema", name]).ended_with(0);
        let file = fs::read_to_string(published.join(format!("{name}.json"))).unwrap();
        assert!(
            said.data == file,
            "{name}: run FERRY_WRITE_SCHEMAS=1 cargo test -p manifest-schema"
        );
        let json = world.run(&["schema", name, "--json"]).ended_with(0).json();
        assert_eq!(
            json,
            serde_json::from_str::<serde_json::Value>(&file).unwrap()
        );
    }
}
