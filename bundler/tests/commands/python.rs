//! Python environments for another machine: requirement files, locks of other tools, own wheels, a chip's table.

use std::fs;
use std::io::{Cursor, Write};

use manifest_schema::Digest;
use serde_json::{Value, json};

use crate::server::{Answer, Server, honest};
use crate::world::{Said, World, script};

/// A world whose plan has one backend with a Python environment for `chip`.
fn world_for(chip: &str, python: &Value) -> (World, Value) {
    let world = World::new();
    let mut plan = world.plan();
    plan["models"] = json!([]);
    plan["datasets"] = json!([]);
    plan["installers"] = json!({});
    plan["backends"] = json!([{ "name": "npu", "chip": chip, "arch": "aarch64", "glibc": "2.28",
        "python": python }]);
    (world, plan)
}

/// Answers as uv does: `pins` for whatever is asked, the newest uv for uv. Keeps what it was asked and told.
fn uv_says(world: &World, pins: &[&str]) {
    let says = format!(
        "#!/bin/sh\nfolder=$(dirname \"$0\")\nasked=$(cat)\n\
         if [ \"$asked\" = uv ]; then echo uv==0.13.9; exit; fi\n\
         echo \"$asked\" > \"$folder/asked-of-uv\"\n\
         while [ $# -gt 0 ]; do case $1 in --constraints) cp \"$2\" \"$folder/constraints\";;\n\
         --excludes) cp \"$2\" \"$folder/excludes\";; esac; shift; done\n\
         printf '{}'\n",
        pins.join("\\n")
    );
    script(&world.path("uv"), &says);
}

/// An index with these wheels, whose bytes are their names.
fn index_of(names: &'static [&'static str]) -> Server {
    Server::new(move |_, asked| {
        if let Some(name) = asked.path.strip_prefix("/files/") {
            let name = name.replace("%2B", "+");
            return honest(asked, name.as_bytes());
        }
        let project = asked
            .path
            .trim_start_matches("/simple/")
            .trim_end_matches('/');
        let mut files = Vec::new();
        for name in names {
            let (own, _) = name.split_once('-').unwrap();
            if own.replace('_', "-") == project {
                files.push(json!({ "filename": name, "size": name.len(),
                    "url": format!("../../files/{}", name.replace('+', "%2B")),
                    "hashes": { "sha256": Digest::of(name.as_bytes()).hex() } }));
            }
        }
        let status = if files.is_empty() { 404 } else { 200 };
        Answer::new(status, json!({ "files": files }).to_string().as_bytes())
            .with("Content-Type", "application/vnd.pypi.simple.v1+json")
    })
}

fn locked(world: &World, plan: &Value) -> Said {
    world.write_plan(plan);
    world.run(&["lock", "plan.json", "--json"])
}

/// The environment and the files of the only backend of the lock.
fn backend(world: &World) -> Value {
    let lock: Value = serde_json::from_slice(&fs::read(world.path("ferry.lock")).unwrap()).unwrap();
    lock["backends"][0].clone()
}

fn wheels(world: &World) -> Vec<String> {
    let wheels = backend(world)["python"]["wheels"].clone();
    let path = |wheel: &Value| wheel["path"].as_str().unwrap().to_owned();
    wheels.as_array().unwrap().iter().map(path).collect()
}

const NPU: &[&str] = &[
    "torch-2.7.1-cp311-cp311-manylinux_2_28_aarch64.whl",
    "torch-2.7.1-cp311-cp311-manylinux_2_28_x86_64.whl",
    "torch-2.7.1-cp312-cp312-manylinux_2_28_aarch64.whl",
    "torch-2.8.0-cp311-cp311-manylinux_2_28_aarch64.whl",
    "torch_npu-2.7.1.post4-cp311-cp311-manylinux_2_28_aarch64.whl",
    "torch_npu-2.7.1.post2-cp311-cp311-manylinux_2_28_aarch64.whl",
    "numpy-2.2.6-cp311-cp311-manylinux_2_17_aarch64.manylinux2014_aarch64.whl",
    "numpy-2.2.6-cp311-cp311-manylinux_2_28_aarch64.whl",
    "numpy-2.2.6-cp311-cp311-manylinux_2_34_aarch64.whl",
    "numpy-2.2.6-cp311-cp311-musllinux_1_2_aarch64.whl",
    "bitsandbytes-0.50.2-py3-none-manylinux_2_24_aarch64.whl",
    "nvidia_cublas-13.1-py3-none-manylinux_2_27_aarch64.whl",
    "uv-0.13.9-py3-none-manylinux_2_28_aarch64.whl",
    "uv-0.13.9-py3-none-manylinux_2_28_x86_64.whl",
];

#[test]
fn an_npu_gets_what_its_table_adds_and_pins() {
    let (mut world, mut plan) = world_for(
        "ascend-910b",
        &json!({ "version": "3.11", "requirements": ["torch-npu", "numpy<3"] }),
    );
    world.index = index_of(NPU);
    plan["backends"][0]["versions"] = json!({ "cann": "9.0.0", "torch_npu": "2.7.1.post4" });
    uv_says(
        &world,
        &["numpy==2.2.6", "torch==2.7.1", "torch-npu==2.7.1.post4"],
    );
    locked(&world, &plan).ended_with(0);
    // The fittest wheel of each for this target, and uv for it beside them.
    assert_eq!(
        wheels(&world),
        [
            "numpy-2.2.6-cp311-cp311-manylinux_2_28_aarch64.whl",
            "torch-2.7.1-cp311-cp311-manylinux_2_28_aarch64.whl",
            "torch_npu-2.7.1.post4-cp311-cp311-manylinux_2_28_aarch64.whl",
        ]
    );
    let uv = &backend(&world)["files"][0];
    assert_eq!(
        (&uv["path"], &uv["member"]),
        (&json!("bin/uv"), &json!("uv-0.13.9.data/scripts/uv"))
    );
    assert_eq!(uv["executable"], true);
    let asked = fs::read_to_string(world.path("asked-of-uv")).unwrap();
    let asked: Vec<&str> = asked.lines().collect();
    assert!(asked.starts_with(&["torch-npu", "numpy<3"]), "{asked:?}");
    for project in [
        "decorator",
        "sympy",
        "cffi",
        "protobuf",
        "attrs",
        "pyyaml",
        "scipy",
        "absl-py",
    ] {
        assert!(asked.contains(&project), "{project}: {asked:?}");
    }
    assert_eq!(
        asked
            .iter()
            .filter(|line| line.starts_with("numpy"))
            .count(),
        1
    );
    let pinned = fs::read_to_string(world.path("constraints")).unwrap();
    assert_eq!(
        pinned,
        "torch-npu==2.7.1.post4\ntorch==2.7.1\ntorchaudio==2.7.1\n"
    );

    let said = world.run(&["plan", "plan.json"]).ended_with(0).data;
    assert!(
        said.contains("torch-npu 2.7.1.post4 goes with torch 2.7.1"),
        "{said}"
    );
    assert!(said.contains("kept out: nvidia-*, triton"), "{said}");
    let said = world
        .run(&["plan", "plan.json", "--json"])
        .ended_with(0)
        .json();
    assert_eq!(said["chip_rules"][0]["framework"]["version"], "2.7.1");
}

#[test]
fn a_pair_that_the_table_does_not_list_stops_unless_it_is_overridden_by_name() {
    let npu = |versions: Value, python: Value| {
        let (mut world, mut plan) = world_for("ascend-910b", &python);
        world.index = index_of(NPU);
        plan["backends"][0]["versions"] = versions;
        (world, plan)
    };
    let python = |version: &str| json!({ "version": version, "requirements": ["torch-npu"] });
    for (versions, version, pins, rule) in [
        (
            json!({ "cann": "8.5.0", "torch_npu": "2.7.1.post4" }),
            "3.11",
            &["torch==2.7.1", "torch-npu==2.7.1.post4"][..],
            "torch-npu 2.7.1.post4 with cann 8.5.0",
        ),
        (
            json!({ "cann": "9.0.0" }),
            "3.11",
            &["torch==2.8.0", "torch-npu==2.7.1.post4"],
            "torch 2.8.0 with torch-npu 2.7.1.post4",
        ),
        (
            json!({ "torch_npu": "2.7.1.post4" }),
            "3.14",
            &["torch==2.7.1", "torch-npu==2.7.1.post4"],
            "Python 3.14 with torch-npu 2.7.1.post4",
        ),
        (
            json!({}),
            "3.11",
            &[
                "torch==2.7.1",
                "torch-npu==2.7.1.post4",
                "bitsandbytes==0.50.2",
            ],
            "bitsandbytes==0.50.2 (bitsandbytes)",
        ),
        (
            json!({ "torch_npu": "2.7.1.post4" }),
            "3.11",
            &[
                "torch==2.7.1",
                "nvidia-cublas==13.1",
                "torch-npu==2.7.1.post4",
            ],
            "nvidia-cublas==13.1 (nvidia-*)",
        ),
        (
            json!({ "torch_npu": "2.7.1.post4" }),
            "3.11",
            &["torch==2.7.1"],
            "torch without torch-npu",
        ),
        (
            json!({ "torch_npu": "9.9.9" }),
            "3.11",
            &["torch==2.7.1", "torch-npu==2.7.1.post4"],
            "torch-npu 9.9.9",
        ),
    ] {
        let (world, mut plan) = npu(versions, python(version));
        uv_says(&world, pins);
        let error = locked(&world, &plan).ended_with(2).json()["error"].clone();
        assert_eq!(error["code"], "bundler.chip-rule", "{error}");
        assert_eq!(error["args"]["rule"], rule, "{error}");
        plan["backends"][0]["python"]["override_rules"] = json!([rule]);
        let said = locked(&world, &plan);
        // No such wheel is there for 3.14; the table no longer stands in the way.
        let expected = if version == "3.14" { 1 } else { 0 };
        assert_eq!(said.status, expected, "{rule}: {said:?}");
    }
}

#[test]
fn locks_of_other_tools_are_taken_as_they_are_for_the_target() {
    let (mut world, mut plan) = world_for(
        "cpu",
        &json!({ "version": "3.11",
        "requirement_files": ["pylock.toml", "more/requirements.txt"] }),
    );
    world.index = index_of(NPU);
    let files = &world.index.url;
    let wheel = |name: &str| {
        format!(
            "{{ url = \"{files}/files/{name}\", hashes = {{ sha256 = \"{}\" }} }}",
            Digest::of(name.as_bytes()).hex()
        )
    };
    let pylock = format!(
        "lock-version = \"1.0\"\n[[packages]]\nname = \"numpy\"\nversion = \"2.2.6\"\nmarker = \"platform_machine == 'aarch64'\"\n\
         wheels = [{}, {}]\n[[packages]]\nname = \"colorama\"\nversion = \"1\"\nmarker = \"sys_platform == 'win32'\"\nwheels = []\n",
        wheel(NPU[6]),
        wheel(NPU[7]),
    );
    world.write("pylock.toml", pylock.as_bytes());
    fs::create_dir(world.path("more")).unwrap();
    let good = Digest::of(NPU[0].as_bytes()).hex();
    let lines =
        |digest: &str| format!("torch==2.7.1 \\\n    --hash=sha256:{digest}\n-c limits.txt\n");
    world.write("more/requirements.txt", lines(&good).as_bytes());
    world.write("more/limits.txt", b"numpy<3\n");
    uv_says(&world, &["torch==2.7.1"]);
    locked(&world, &plan).ended_with(0);
    assert_eq!(wheels(&world), [NPU[7], NPU[0]]);
    assert_eq!(
        fs::read_to_string(world.path("excludes")).unwrap(),
        "numpy\n"
    );
    assert_eq!(
        fs::read_to_string(world.path("constraints")).unwrap(),
        "numpy<3\n"
    );

    // The index has another file than the one that was pinned.
    world.write(
        "more/requirements.txt",
        lines(&Digest::of(b"other").hex()).as_bytes(),
    );
    let error = locked(&world, &plan).ended_with(4).json();
    assert_eq!(error["error"]["code"], "python.hash");
    // Two places that name one project.
    plan["backends"][0]["python"]["requirement_files"] = json!(["pylock.toml", "pylock.toml"]);
    let error = locked(&world, &plan).ended_with(2).json();
    assert_eq!(error["error"]["code"], "python.twice");
    plan["backends"][0]["python"]["requirement_files"] = json!(["uv.lock"]);
    uv_says(&world, &["not a lock"]);
    let error = locked(&world, &plan).ended_with(2).json();
    assert_eq!(error["error"]["code"], "python.lock");
}

/// A wheel of one file, which needs something.
fn own_wheel(name: &str, metadata: &str) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let plain = zip::write::SimpleFileOptions::default();
    zip.start_file(format!("{name}.dist-info/METADATA"), plain)
        .unwrap();
    zip.write_all(metadata.as_bytes()).unwrap();
    zip.finish().unwrap().into_inner()
}

#[test]
fn a_wheel_that_no_index_has_brings_what_it_needs() {
    const VENDOR: &str = "torch-2.7.1+das.opt1.dtk2604-cp311-cp311-manylinux_2_28_aarch64.whl";
    let vendor = Server::new(|_, asked| honest(asked, b"the vendor's torch"));
    let (mut world, mut plan) = world_for("cpu", &json!(null));
    world.index = index_of(NPU);
    world.write(
        "tool-1.0-py3-none-any.whl",
        &own_wheel("tool-1.0", "Name: tool\nRequires-Dist: numpy>=2\nRequires-Dist: rich; extra == 'x'\nRequires-Dist: torch\n\ntext\n"),
    );
    let https = json!({ "url": format!("{}/{}", vendor.url, VENDOR.replace('+', "%2B")),
        "digest": Digest::of(b"the vendor's torch"), "headers": { "Referer": "https://vendor.example/" } });
    plan["backends"][0]["python"] = json!({ "version": "3.11",
        "wheels": [{ "file": { "path": "tool-1.0-py3-none-any.whl" } }, { "https": https }] });
    uv_says(&world, &["numpy==2.2.6"]);
    locked(&world, &plan).ended_with(0);
    assert_eq!(
        wheels(&world),
        [NPU[7], "tool-1.0-py3-none-any.whl", VENDOR]
    );
    assert_eq!(
        backend(&world)["python"]["requirements"],
        json!(["numpy==2.2.6", "tool==1.0", "torch==2.7.1+das.opt1.dtk2604"])
    );
    // What is at hand is not asked for; what it needs is.
    assert_eq!(
        fs::read_to_string(world.path("asked-of-uv")).unwrap(),
        "numpy>=2\n"
    );
    assert_eq!(
        fs::read_to_string(world.path("excludes")).unwrap(),
        "tool\ntorch\n"
    );

    // A source archive, and a wheel for another machine.
    for name in ["tool-1.0.tar.gz", "tool-1.0-cp311-cp311-linux_x86_64.whl"] {
        world.write(name, b"x");
        plan["backends"][0]["python"]["wheels"] = json!([{ "file": { "path": name } }]);
        let error = locked(&world, &plan).ended_with(2).json();
        assert_eq!(error["error"]["code"], "python.not-for-target", "{name}");
    }
}

#[test]
fn a_plan_names_the_python_and_the_uv_of_the_target() {
    let (mut world, mut plan) = world_for("cpu", &json!(null));
    world.web = Server::new(|_, asked| honest(asked, &crate::sources::python()));
    let https = json!({ "url": format!("{}/cpython-3.11-install_only.tar.gz", world.web.url),
        "digest": Digest::of(&crate::sources::python()) });
    plan["backends"][0]["python"] = json!({ "version": "3.11", "requirements": ["demo"], "uv": "0.13.9",
        "interpreter": { "https": https } });
    world.keygen();
    locked(&world, &plan).ended_with(0);
    world.build(&[]).ended_with(0);
    let shown = world
        .run(&["inspect", "demo-1.ferry", "--json"])
        .ended_with(0)
        .json();
    let files = shown["profiles"]["backends"][0]["files"]
        .as_array()
        .unwrap()
        .clone();
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
            ("bin/uv", true),
            ("python/bin/python3", true),
            ("python/bin/python3.11", true),
            ("python/lib/libpython3.so", false),
        ]
    );
    // A uv that the plan brings itself is the only one.
    world.write("my-uv", b"#!/bin/sh\n");
    plan["backends"][0]["files"] = json!([{ "path": "bin/uv", "executable": true, "source": { "file": { "path": "my-uv" } } }]);
    plan["backends"][0]["python"]["interpreter"] = json!(null);
    locked(&world, &plan).ended_with(0);
    assert_eq!(backend(&world)["files"].as_array().unwrap().len(), 1);
}

#[test]
fn the_real_uv_turns_its_lock_into_what_the_target_uses() {
    let Some(uv) = std::env::var_os("FERRY_UV") else {
        eprintln!("skipped: set FERRY_UV to a real uv");
        return;
    };
    let (mut world, plan) = world_for(
        "cpu",
        &json!({ "version": "3.11", "requirement_files": ["app/uv.lock"], "uv": "0.13.9" }),
    );
    world.index = index_of(NPU);
    let files = &world.index.url;
    fs::create_dir(world.path("app")).unwrap();
    world.write("app/pyproject.toml", b"[project]\nname = \"app\"\nversion = \"1\"\nrequires-python = \">=3.11\"\ndependencies = [\"numpy; platform_machine == 'aarch64'\"]\n");
    let entry = |name: &str| {
        format!(
            "    {{ url = \"{files}/files/{name}\", hash = \"sha256:{}\", size = {} }},\n",
            Digest::of(name.as_bytes()).hex(),
            name.len()
        )
    };
    let lock = format!(
        "version = 1\nrevision = 3\nrequires-python = \">=3.11\"\n\n[[package]]\nname = \"app\"\nversion = \"1\"\nsource = {{ virtual = \".\" }}\n\
         dependencies = [\n    {{ name = \"numpy\", marker = \"platform_machine == 'aarch64'\" }},\n]\n\n[package.metadata]\n\
         requires-dist = [{{ name = \"numpy\", marker = \"platform_machine == 'aarch64'\" }}]\n\n\
         [[package]]\nname = \"numpy\"\nversion = \"2.2.6\"\nsource = {{ registry = \"{files}/simple\" }}\nwheels = [\n{}{}]\n",
        entry(NPU[6]),
        entry(NPU[7]),
    );
    world.write("app/uv.lock", lock.as_bytes());
    world.write_plan(&plan);
    let mut command = world.command(&["lock", "plan.json", "--json"]);
    let said = Said::of(command.env("FERRY_UV", uv).output().unwrap());
    said.ended_with(0);
    assert_eq!(wheels(&world), [NPU[7]]);
}

#[test]
fn variables_of_uv_do_not_lead_it_to_another_index_or_other_requirements() {
    let (world, plan) = world_for(
        "cpu",
        &json!({ "version": "3.11", "requirements": ["demo"] }),
    );
    script(
        &world.path("uv"),
        "#!/bin/sh\nenv | sed -n 's/^\\(UV_[A-Z_]*\\)=.*/\\1/p' | sort >> \"$(dirname \"$0\")/env\"\n\
         if [ \"$(cat)\" = uv ]; then echo uv==0.13.9; else echo demo==1.0; fi\n",
    );
    world.write_plan(&plan);
    let mut command = world.command(&["lock", "plan.json"]);
    for name in [
        "UV_EXTRA_INDEX_URL",
        "UV_TORCH_BACKEND",
        "UV_OVERRIDE",
        "UV_CACHE_DIR",
    ] {
        command.env(name, "elsewhere");
    }
    Said::of(command.output().unwrap()).ended_with(0);
    let seen = fs::read_to_string(world.path("env")).unwrap();
    let seen: Vec<&str> = seen.lines().collect();
    assert_eq!(
        seen,
        ["UV_CACHE_DIR", "UV_DEFAULT_INDEX"].repeat(2),
        "{seen:?}"
    );
}
