//! What is handed over, to whom, and what is not.

use std::fs;
use std::path::Path;

use insta::assert_snapshot;
use serde_json::{Value, json};

use super::record;
use crate::bench::{Bench, JOB};
use crate::stand_in::{LEARNS, Release, last};

#[test]
fn a_job_is_handed_over_offline_and_followed() {
    let release = Release::new(LEARNS);
    let job = JOB.replace("report_to: none", "report_to: [wandb, tensorboard]");
    let more = "learning_rate: 1e-4\nbf16: no\npush_to_hub: yes\nsave_strategy: no\n";
    release.bench.write("job.yaml", format!("{job}{more}"));
    release.answer(&[("tensorboard", json!("2.20"))]);
    let before = fs::read(release.bench.path("job.yaml")).unwrap();
    fs::create_dir(release.bench.path("libtorch")).unwrap();
    release.bench.write("libtorch/libtorch_cpu.so", "");
    let libraries = format!(
        "{}:/opt/vendor/lib",
        release.bench.path("libtorch").display()
    );
    let mut train = release.train(&["--threads", "3"]);
    train
        .env("LD_LIBRARY_PATH", &libraries)
        .env("https_proxy", "http://10.0.0.1:3128")
        .env("HF_ENDPOINT", "https://mirror")
        .env("WANDB_API_KEY", "secret")
        .env("FORCE_TORCHRUN", "1")
        .env("PYTHONPATH", "/opt/vendor/python");
    if cfg!(feature = "native") {
        // The program itself needs its libtorch, too.
        let own = std::env::var("LD_LIBRARY_PATH").unwrap_or_default();
        train.env("LD_LIBRARY_PATH", format!("{own}:{libraries}"));
    }
    let output = train.output().unwrap();
    let result = last(&output);
    assert!(output.status.success(), "{result}");
    for (name, value) in [
        ("engine", json!("llamafactory")),
        ("llamafactory", json!("0.9.5")),
        ("ending", json!("done")),
        ("steps", json!(3)),
        ("planned_steps", json!(3)),
        ("train_loss", json!(2.0)),
        ("log", json!("out/llamafactory.log")),
    ] {
        assert_eq!(result[name], value, "{name}");
    }
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        said.matches("\"event\":\"train_step\"").count(),
        3,
        "{said}"
    );
    assert!(
        said.contains("engine.leaves-out") && said.contains("push_to_hub"),
        "{said}"
    );

    assert_eq!(
        release.arguments(),
        ["-m", "llamafactory.cli", "train", "out/llamafactory.yaml"]
    );
    let job = release.job();
    for (key, value) in [
        ("model_name_or_path", json!("model")),
        ("learning_rate", json!(1e-4)),
        ("bf16", json!(false)),
        ("save_strategy", json!("no")),
        ("report_to", json!(["tensorboard"])),
        ("do_train", json!(true)),
        ("disable_tqdm", json!(true)),
        ("enable_jit_checkpoint", json!(true)),
    ] {
        assert_eq!(job.get(key), Some(&value), "{key}");
    }
    assert!(!job.contains_key("push_to_hub"));
    assert_eq!(fs::read(release.bench.path("job.yaml")).unwrap(), before);

    let environment = release.environment();
    let hub = release.bench.path("release/hub");
    let cache = release.bench.path("cache/huggingface");
    for (name, value) in [
        ("HF_HUB_OFFLINE", "1"),
        ("TRANSFORMERS_OFFLINE", "1"),
        ("HF_DATASETS_OFFLINE", "1"),
        ("HF_HUB_DISABLE_TELEMETRY", "1"),
        ("HF_HUB_CACHE", hub.to_str().unwrap()),
        ("HF_HOME", cache.to_str().unwrap()),
        ("OMP_NUM_THREADS", "3"),
        ("PYTHONPATH", "/opt/vendor/python"),
        ("PYTHONSAFEPATH", "1"),
    ] {
        assert_eq!(
            environment.get(name).map(String::as_str),
            Some(value),
            "{name}"
        );
    }
    // Whoever runs the tests may have folders of their own in it.
    let folders: Vec<&str> = environment["LD_LIBRARY_PATH"].split(':').collect();
    assert_eq!(folders.last(), Some(&"/opt/vendor/lib"));
    let of_libtorch = |folder: &&str| Path::new(folder).join("libtorch_cpu.so").exists();
    assert!(!folders.iter().any(of_libtorch), "{folders:?}");
    for name in [
        "https_proxy",
        "HF_ENDPOINT",
        "WANDB_API_KEY",
        "FORCE_TORCHRUN",
        "NPROC_PER_NODE",
    ] {
        assert!(!environment.contains_key(name), "{name}");
    }
    assert!(
        environment["PATH"].starts_with(release.bench.path("release/env/bin").to_str().unwrap())
    );

    let record = record(&release);
    assert_eq!(
        (&record["state"], &record["total_steps"]),
        (&json!("done"), &json!(3))
    );
    assert_eq!(record["program"], "LLaMA-Factory 0.9.5");
    let log = fs::read_to_string(release.bench.path("out/llamafactory.log")).unwrap();
    assert!(log.contains("Running training"), "{log}");
    let seen = release.run(&["--json", "watch", "out"]);
    assert_eq!(
        (seen.status.code(), &last(&seen)["step"]),
        (Some(0), &json!(3))
    );
}

#[test]
fn a_plan_is_shown_and_nothing_is_written() {
    let release = Release::new(LEARNS);
    release.answer(&[("torch-npu", json!("2.7.1"))]);
    release
        .bench
        .job("bf16: true\nflash_attn: fa2\nuse_swanlab: true\n");
    let arguments = [
        "check",
        "job.yaml",
        "--engine",
        "llamafactory",
        "--device",
        "npu:1",
        "--chip",
        "ascend-910a",
        "--processes",
        "2",
    ];
    assert_snapshot!(release.screens(&arguments));
    let shown = last(&release.run(&[&["--json"], &arguments[..]].concat()));
    assert_eq!(shown["job"]["bf16"], false);
    assert_eq!(shown["job"].get("flash_attn"), None);
    let set = &shown["environment"]["set"];
    for (name, value) in [
        ("ASCEND_RT_VISIBLE_DEVICES", "1,2"),
        ("FORCE_TORCHRUN", "1"),
        ("NPROC_PER_NODE", "2"),
        ("MASTER_ADDR", "127.0.0.1"),
        ("GLOO_SOCKET_IFNAME", "lo"),
    ] {
        assert_eq!(set[name], value, "{name}");
    }
    assert!(!release.bench.path("out").exists() && !release.bench.path("cache").exists());
}

#[test]
fn names_become_folders_of_the_release() {
    let release = Release::new(LEARNS);
    let model = release.bench.path("release/models/ferry/golden");
    fs::create_dir_all(model.parent().unwrap()).unwrap();
    fs::rename(release.bench.path("model"), &model).unwrap();
    let datasets = release.bench.path("release/datasets");
    fs::rename(release.bench.path("data"), &datasets).unwrap();
    let job = JOB.replace("path: model", "path: ferry/golden");
    release
        .bench
        .write("job.yaml", format!("{job}max_samples: 1\n"));
    let output = release.train(&[]).output().unwrap();
    assert!(output.status.success(), "{}", last(&output));
    let job = release.job();
    assert_eq!(job["model_name_or_path"], json!(model));
    assert_eq!(job["dataset_dir"], json!(datasets));
}

#[test]
fn what_cannot_be_handed_over_is_refused_before_anything_starts() {
    let release = Release::new(LEARNS);
    let check = ["check", "job.yaml", "--engine", "llamafactory"];
    let mut screens = String::new();
    for (setting, code) in [
        ("group_by_length=true", "engine.not-its-key"),
        ("long_text_overlap=64", "engine.not-its-key"),
        ("lora_rnak=8", "job.unknown-key"),
        ("finetuning_type=qlora", "job.value"),
        ("dataset_dir=ONLINE", "engine.not-local"),
        ("dataset=towns", "data.unknown-dataset"),
        ("quantization_bit=4", "engine.package-missing"),
        ("fsdp_config=none.json", "engine.file-missing"),
        ("adapter_name_or_path=none", "runtime.no-such-model"),
        ("template=qwne", "engine.no-template"),
        ("resume_from_checkpoint=true", "train.no-checkpoint"),
    ] {
        let output = release.run(&[&["--json"], &check[..], &[setting]].concat());
        assert_eq!(last(&output)["error"]["code"], code, "{setting}");
        assert_eq!(output.status.code(), Some(2), "{setting}");
    }
    for setting in [
        "group_by_length=true",
        "quantization_bit=4",
        "template=qwne",
    ] {
        screens.push_str(&release.screens(&[&check[..], &[setting]].concat()));
    }
    assert_snapshot!(screens);
    let info = r#"{"capitals": {"hf_hub_url": "a/b", "file_name": "capitals.json"}}"#;
    release.bench.write("data/dataset_info.json", info);
    let error = last(&release.train(&[]).output().unwrap())["error"].clone();
    assert_eq!(error["code"], "data.not-local");
    assert!(!release.bench.path("out").exists());
}

#[test]
fn a_python_that_will_not_do_says_why() {
    let release = Release::new(LEARNS);
    let check = ["check", "job.yaml", "--engine", "llamafactory"];
    let mut screens = String::new();
    release.answer(&[("llamafactory", json!("0.8.3"))]);
    screens.push_str(&release.screens(&check));
    release.answer(&[("llamafactory", Value::Null)]);
    screens.push_str(&release.screens(&check));
    release.bench.write(
        "release/env/bin/python",
        "#!/bin/sh\necho 'no such library' >&2\nexit 7\n",
    );
    screens.push_str(&release.screens(&check));
    fs::remove_file(release.bench.path("release/env/bin/python")).unwrap();
    screens.push_str(&release.screens(&check));
    assert_snapshot!(screens);
    // One that is near is warned of, and its own keys are let through.
    let near = Release::new(LEARNS);
    near.answer(&[("llamafactory", json!("0.9.6"))]);
    near.bench.job("");
    let output = near.train(&[]).output().unwrap();
    assert!(output.status.success());
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("engine.version-near")
    );
}

#[test]
fn several_machines_are_told_where_they_meet() {
    let release = Release::new("");
    release.bench.write("ds.json", "{}");
    release.answer(&[("deepspeed", json!("0.18"))]);
    let nodes = [
        "--nodes",
        "2",
        "--node-rank",
        "1",
        "--master-addr",
        "10.0.0.7",
        "--processes",
        "8",
        "deepspeed=ds.json",
    ];
    let output = release.train(&nodes).output().unwrap();
    assert!(output.status.success(), "{}", last(&output));
    assert_eq!(release.job()["deepspeed"], "ds.json");
    let environment = release.environment();
    for (name, value) in [
        ("FORCE_TORCHRUN", "1"),
        ("NNODES", "2"),
        ("NODE_RANK", "1"),
        ("NPROC_PER_NODE", "8"),
        ("MASTER_ADDR", "10.0.0.7"),
        ("MASTER_PORT", "29500"),
    ] {
        assert_eq!(
            environment.get(name).map(String::as_str),
            Some(value),
            "{name}"
        );
    }
    assert!(!environment.contains_key("GLOO_SOCKET_IFNAME"));
    // Only the first machine's folder is `output_dir` itself.
    assert_eq!(release.arguments()[3], "out/node-1/llamafactory.yaml");
    assert!(release.bench.path("out/node-1/run.json").is_file());
    // The first one may come later, and find that there.
    let first = ["--nodes", "2", "--master-addr", "10.0.0.7", "max_steps=3"];
    assert!(release.train(&first).output().unwrap().status.success());
    assert_eq!(release.arguments()[3], "out/llamafactory.yaml");
    let mut screens = String::new();
    for more in [
        &["--nodes", "2"][..],
        &["--nodes", "2", "--node-rank", "2", "--master-addr", "a"],
        &["--processes", "2", "output_dir=my runs"],
    ] {
        let all = [&["check", "job.yaml", "--engine", "llamafactory"], more].concat();
        screens.push_str(&release.screens(&all));
    }
    assert_snapshot!(screens);
    let mut under = release.train(&[]);
    let under = under
        .env("RANK", "0")
        .env("WORLD_SIZE", "2")
        .output()
        .unwrap();
    assert_eq!(last(&under)["error"]["code"], "engine.under-torchrun");
}

#[test]
fn what_the_native_engine_refuses_is_offered_and_auto_takes_it() {
    let release = Release::new(LEARNS);
    release.bench.job("neftune_noise_alpha: 5\n");
    assert_snapshot!(release.screens(&["check", "job.yaml"]));
    let shown = release.run(&["--json", "check", "job.yaml"]);
    let said = String::from_utf8(shown.stdout.clone()).unwrap();
    assert!(
        said.contains("engine.offered") && said.contains("--engine llamafactory"),
        "{said}"
    );
    assert!(last(&shown)["error"].is_object());
    let auto = release.run(&["--json", "train", "job.yaml", "--engine", "auto"]);
    assert_eq!(last(&auto)["engine"], "llamafactory");
    let said = String::from_utf8(auto.stdout).unwrap();
    assert!(said.contains("engine.takes-over"), "{said}");
    // Without another engine, the refusal is the answer.
    let alone = Bench::new();
    alone.job("neftune_noise_alpha: 5\n");
    let output = alone.run(&["--json", "train", "job.yaml", "--engine", "auto"]);
    let native = if cfg!(feature = "native") {
        "job.unsupported"
    } else {
        "runtime.not-native"
    };
    assert_eq!(last(&output)["error"]["code"], native);
}

#[test]
fn variables_of_the_originals_launcher_are_not_passed_over_in_silence() {
    let release = Release::new(LEARNS);
    let check = |more: &[&str], rank: Option<&str>| {
        let mut check = release.command(&[&["--json", "check", "job.yaml"], more].concat());
        check.env("NPROC_PER_NODE", "4").env("NNODES", "1");
        check.envs(rank.map(|rank| ("RANK", rank)));
        String::from_utf8(check.output().unwrap().stdout).unwrap()
    };
    let said = check(&[], None);
    assert!(
        said.contains("engine.variable-unread") && said.contains("NPROC_PER_NODE"),
        "{said}"
    );
    assert!(!said.contains("NNODES"), "{said}");
    for said in [check(&["--processes", "4"], None), check(&[], Some("0"))] {
        assert!(!said.contains("engine.variable-unread"), "{said}");
    }
}

#[test]
fn doctor_names_both_engines() {
    let release = Release::new(LEARNS);
    let shown = last(&release.run(&["--json", "doctor"]));
    let engines = &shown["engines"];
    assert_eq!(engines["native"]["usable"], cfg!(feature = "native"));
    assert_eq!(engines["llamafactory"]["usable"], true);
    assert_eq!(engines["llamafactory"]["llamafactory"], "0.9.5");
    let without = last(&Bench::new().run(&["--json", "doctor"]));
    let other = &without["engines"]["llamafactory"];
    assert_eq!(
        (&other["usable"], &other["why"]["code"]),
        (&json!(false), &json!("engine.no-python"))
    );
}

#[cfg(feature = "native")]
#[test]
fn what_only_the_data_show_is_handed_over_too() {
    let release = Release::new(LEARNS);
    let info = r#"{"capitals": {"file_name": "capitals.json", "split": "test"}}"#;
    release.bench.write("data/dataset_info.json", info);
    let native = release.run(&["--json", "train", "job.yaml"]);
    assert_eq!(last(&native)["error"]["code"], "data.unsupported");
    assert!(
        String::from_utf8(native.stdout)
            .unwrap()
            .contains("engine.offered")
    );
    for command in ["check", "train"] {
        let auto = release.run(&["--json", command, "job.yaml", "--engine", "auto"]);
        let result = last(&auto);
        assert_eq!(result["engine"], "llamafactory", "{command}: {result}");
        let said = String::from_utf8(auto.stdout).unwrap();
        assert!(said.contains("engine.takes-over"), "{command}: {said}");
    }
    // What neither can do is this engine's answer.
    let info = r#"{"capitals": {"file_name": "none.json"}}"#;
    release.bench.write("data/dataset_info.json", info);
    let auto = release.run(&[
        "--json",
        "check",
        "job.yaml",
        "--engine",
        "auto",
        "overwrite_output_dir=true",
    ]);
    assert_eq!(last(&auto)["error"]["code"], "data.read", "{auto:?}");
}
