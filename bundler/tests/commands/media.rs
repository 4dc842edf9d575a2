//! Volumes, parity and deltas through the program.

use std::fs;

use bundle_format::SiteKey;
use serde_json::Value;

use crate::world::World;

fn names(world: &World) -> Vec<String> {
    let entries = fs::read_dir(world.folder.path()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.starts_with("demo-1.")).collect();
    names.sort();
    names
}

/// A bundle of 1.6 MB in one piece does not split, so the model comes in several files.
fn sharded(world: &World) {
    world.keygen();
    let mut plan = world.plan();
    let files: Vec<Value> = (0..4)
        .map(|number: u8| {
            let name = format!("shard-{number}.part");
            world.write(&name, &vec![number; 300_000]);
            serde_json::json!({ "path": name, "source": { "file": { "path": name } } })
        })
        .collect();
    plan["models"] =
        serde_json::json!([{ "name": "org/model", "license": "Apache-2.0", "files": files }]);
    world.write_plan(&plan);
    world.lock().ended_with(0);
}

#[test]
fn a_bundle_is_written_in_volumes_with_parity_and_a_lost_disc_comes_back() {
    let world = World::new();
    sharded(&world);
    let words = ["--volume-size", "700K", "--parity", "60%", "--json"];
    let built = world.build(&words).ended_with(0).json();
    let volumes = built["volumes"].as_array().unwrap().len();
    assert!(
        volumes >= 2 && !built["parity"].as_array().unwrap().is_empty(),
        "{built}"
    );
    for name in names(&world) {
        assert!(
            fs::metadata(world.path(&name)).unwrap().len() <= 700_000,
            "{name}"
        );
    }
    let root = built["fingerprint"].as_str().unwrap().to_owned();
    for place in ["demo-1.vol001.ferry", "demo-1.vol002.ferry"] {
        world.run(&["verify", place, "--root", &root]).ended_with(0);
        world
            .run(&["verify", place, "--root", &root, "--alone"])
            .ended_with(0);
    }
    let whole = fs::read(world.path("demo-1.vol002.ferry")).unwrap();
    fs::remove_file(world.path("demo-1.vol002.ferry")).unwrap();
    let error = world.run(&["verify", "demo-1.vol001.ferry", "--root", &root, "--json"]);
    let error = error.ended_with(2).json();
    assert_eq!(error["error"]["code"], "bundle.volumes-missing");
    assert_eq!(error["error"]["args"]["missing"], "2");
    let repaired = world.run(&["repair", ".", "--json"]).ended_with(0).json();
    assert_eq!(repaired["repaired"].as_array().unwrap().len(), 1);
    assert!(fs::read(world.path("demo-1.vol002.ferry")).unwrap() == whole);
    world
        .run(&["verify", "demo-1.vol001.ferry", "--root", &root])
        .ended_with(0);
}

#[test]
fn a_bundle_is_split_and_joined_again_without_fetching() {
    let world = World::new();
    sharded(&world);
    let built = world.build(&["--json"]).ended_with(0).json();
    let root = built["fingerprint"].as_str().unwrap().to_owned();
    let one = fs::read(world.path("demo-1.ferry")).unwrap();
    let key = [
        "--key",
        "key",
        "--passphrase-file",
        "passphrase",
        "--cache",
        "fresh",
    ];
    let asked = world.web.asked().len();
    let words = [
        &[
            "split",
            "demo-1.ferry",
            "--volume-size",
            "700K",
            "-o",
            "s.ferry",
        ][..],
        &key,
    ]
    .concat();
    world.run(&words).ended_with(0);
    world
        .run(&["verify", "s.vol001.ferry", "--root", &root])
        .ended_with(0);
    let words = [&["split", "s.vol002.ferry", "-o", "joined.ferry"][..], &key].concat();
    world.run(&words).ended_with(0);
    assert!(
        fs::read(world.path("joined.ferry")).unwrap() == one,
        "the same as it was"
    );
    assert_eq!(world.web.asked().len(), asked);
    let parity = world
        .run(&["parity", "joined.ferry", "--share", "20", "--json"])
        .ended_with(0)
        .json();
    assert_eq!(parity["parity"][0], "joined.par001");
}

#[test]
fn weights_are_squeezed_and_stay_so_when_split() {
    use bundle_format::fake::{safetensors, weights};
    let world = World::new();
    world.keygen();
    let mut plan = world.plan();
    let model = safetensors(&[("w", "BF16", weights(1, 150_000, 2))]);
    world.write("model.safetensors", &model);
    plan["models"] = serde_json::json!([{ "name": "org/model", "license": "Apache-2.0", "files": [
        { "path": "model.safetensors", "source": { "file": { "path": "model.safetensors" } } },
    ] }]);
    world.write_plan(&plan);
    world.lock().ended_with(0);
    world.build(&["-o", "plain.ferry"]).ended_with(0);
    let built = world.build(&["--squeeze", "bf16,fp16", "--json"]);
    let root = built.ended_with(0).json()["fingerprint"].clone();
    let root = root.as_str().unwrap();
    let split = |more: &[&str]| {
        let words = ["split", "demo-1.ferry", "--key", "key"];
        let words = [&words[..], &["--passphrase-file", "passphrase"], more].concat();
        world.run(&words)
    };
    // A piece is never cut, and this model is one.
    let error = split(&["--volume-size", "150K", "--json"]).json();
    assert_eq!(error["error"]["code"], "bundle.volume-too-small");
    split(&["-o", "s.ferry"]).ended_with(0);
    let again = fs::read(world.path("s.ferry")).unwrap();
    assert!(again == fs::read(world.path("demo-1.ferry")).unwrap());
    split(&["--squeeze", "none", "-o", "n.ferry"]).ended_with(0);
    let size = |name: &str| fs::metadata(world.path(name)).unwrap().len();
    assert_eq!(size("n.ferry"), size("plain.ferry"));
    for name in ["demo-1.ferry", "s.ferry", "n.ferry"] {
        world.run(&["verify", name, "--root", root]).ended_with(0);
    }
    let said = world.run(&["inspect", "demo-1.ferry"]).ended_with(0);
    let line = said.data.lines().find(|line| line.contains("planes"));
    assert!(line.unwrap().contains("1 blobs") && line.unwrap().contains("(0.6"));
}

#[test]
fn a_delta_leaves_out_what_a_bundle_brought_or_an_inventory_lists() {
    let world = World::new();
    sharded(&world);
    world.build(&["-o", "first.ferry"]).ended_with(0);
    let full = fs::metadata(world.path("first.ferry")).unwrap().len();
    world.write("shard-1.part", &[9; 5000]);
    let mut plan: Value =
        serde_json::from_slice(&fs::read(world.path("plan.json")).unwrap()).unwrap();
    plan["release"] = 2.into();
    world.write_plan(&plan);
    world.lock().ended_with(0);
    let delta = world.build(&["--since", "first.ferry", "-o", "delta.ferry", "--json"]);
    let delta = delta.ended_with(0).json();
    // The shard that changed, and the model's signature over all of them.
    assert_eq!(delta["blobs"], 2, "{delta}");
    assert!(fs::metadata(world.path("delta.ferry")).unwrap().len() < full / 4);
    let root = delta["fingerprint"].as_str().unwrap();
    let verified = world
        .run(&["verify", "delta.ferry", "--root", root, "--json"])
        .ended_with(0)
        .json();
    assert_eq!(verified["requires"], delta["requires"]);

    let index = world
        .run(&["inspect", "first.ferry", "--json"])
        .ended_with(0)
        .json();
    let blobs: Vec<_> = index["index"]["blobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|b| b["digest"].clone())
        .collect();
    let inventory = manifest_schema::site::Inventory {
        format: 1,
        blobs: serde_json::from_value(blobs.into()).unwrap(),
        ..Default::default()
    };
    world.write(
        "inventory.json",
        &serde_json::to_vec_pretty(&inventory).unwrap(),
    );
    let same = world
        .build(&["--since", "inventory.json", "-o", "same.ferry", "--json"])
        .ended_with(0)
        .json();
    assert_eq!(same["statement"], delta["statement"]);
    let newer = serde_json::to_string(&inventory)
        .unwrap()
        .replace("\"format\":1", "\"format\":2");
    world.write("inventory.json", newer.as_bytes());
    let error = world
        .build(&["--since", "inventory.json", "--json"])
        .ended_with(2)
        .json();
    assert_eq!(error["error"]["code"], "bundler.manifest-value");
}

#[test]
fn an_inventory_counts_only_as_its_site_signed_it() {
    let world = World::new();
    sharded(&world);
    world.build(&["-o", "first.ferry"]).ended_with(0);
    let inventory = || manifest_schema::site::Inventory {
        format: 1,
        ..Default::default()
    };
    let (here, elsewhere) = (SiteKey::generate().unwrap(), SiteKey::generate().unwrap());
    let build = |pin: Option<&SiteKey>| {
        let mut words = vec!["--since", "inventory.json", "-o", "delta.ferry"];
        words.extend(pin.iter().flat_map(|key| ["--site-key", key.id().as_str()]));
        let ended = world.build(&words);
        let _ = fs::remove_file(world.path("delta.ferry"));
        ended
    };
    world.write("inventory.json", &here.sign(inventory()));
    let ended = build(None).ended_with(0);
    assert!(ended.words.contains(here.id().as_str()), "{ended:?}");
    build(Some(&here)).ended_with(0);
    let ended = build(Some(&elsewhere)).ended_with(4);
    assert!(ended.words.contains("bundler.inventory-other"), "{ended:?}");

    // Another list under a signature that was good for this one.
    let read = |bytes: Vec<u8>| serde_json::from_slice::<Value>(&bytes).unwrap();
    let mut changed = read(here.sign(inventory()));
    let releases = vec![manifest_schema::Digest::of(b"another")];
    let more = manifest_schema::site::Inventory {
        releases,
        ..inventory()
    };
    changed["payload"] = read(here.sign(more))["payload"].clone();
    world.write("inventory.json", changed.to_string().as_bytes());
    let ended = build(None).ended_with(4);
    assert!(ended.words.contains("bundler.inventory"), "{ended:?}");
    assert!(
        ended.words.contains("changed after it was signed"),
        "{ended:?}"
    );

    // Nobody signed it: said aloud, and refused where a key is pinned, also by the plan.
    world.write("inventory.json", &serde_json::to_vec(&inventory()).unwrap());
    let ended = build(None).ended_with(0);
    assert!(ended.words.contains("nobody signed"), "{ended:?}");
    let ended = build(Some(&here)).ended_with(4);
    assert!(
        ended.words.contains("bundler.inventory-nobody"),
        "{ended:?}"
    );
    let mut plan: Value =
        serde_json::from_slice(&fs::read(world.path("plan.json")).unwrap()).unwrap();
    plan["site_key"] = here.id().as_str().into();
    world.write_plan(&plan);
    world.lock().ended_with(0);
    build(None).ended_with(4);
    world.write("inventory.json", &here.sign(inventory()));
    build(None).ended_with(0);
}
