//! Several processes that train together: one process's numbers, and what happens when one is gone.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bench::{Bench, result};

pub(crate) fn train(bench: &Bench, more: &[&str]) -> Value {
    let all = [&["--json", "train", "job.yaml", "output_dir=out"], more].concat();
    result(&mut bench.command(&all))
}

/// Loss, gradient norm and other figures of each log point, and evaluation losses.
pub(crate) fn points(bench: &Bench) -> Vec<Vec<(String, f64)>> {
    let text = fs::read(bench.path("out/trainer_state.json")).unwrap();
    let state: Value = serde_json::from_slice(&text).unwrap();
    let wanted = |name: &str| {
        let plain = ["loss", "grad_norm", "eval_loss", "learning_rate", "step"];
        plain.contains(&name) || name.starts_with("rewards/") || name.starts_with("logps/")
    };
    let points = state["log_history"].as_array().unwrap().iter();
    points
        .map(|point| {
            let fields = point.as_object().unwrap().iter();
            let mut figures: Vec<(String, f64)> = fields
                .filter(|(name, _)| wanted(name))
                .map(|(name, value)| (name.clone(), value.as_f64().unwrap()))
                .collect();
            // The order of the figures is that in which they came up.
            figures.sort_by(|a, b| a.0.cmp(&b.0));
            figures
        })
        .filter(|point: &Vec<_>| point.len() > 1)
        .collect()
}

pub(crate) fn near(case: &str, found: &Bench, wanted: &Bench) {
    near_within(case, found, wanted, 2e-5);
}

/// The same, with so much of a difference.
pub(crate) fn near_within(case: &str, found: &Bench, wanted: &Bench, share: f64) {
    let (found, wanted) = (points(found), points(wanted));
    assert!(wanted.len() >= 5, "{case}");
    assert_eq!(found.len(), wanted.len(), "{case}");
    for (found, wanted) in found.iter().zip(&wanted) {
        assert_eq!(found.len(), wanted.len(), "{case}: {found:?} {wanted:?}");
        for ((name, found), (other, wanted)) in found.iter().zip(wanted) {
            assert_eq!(name, other, "{case}");
            let most = share * wanted.abs().max(1.0);
            assert!(
                (found - wanted).abs() < most,
                "{case} {name}: {found} {wanted}"
            );
        }
    }
}

#[test]
fn two_processes_give_the_losses_of_one_at_the_doubled_batch() {
    for (golden, more) in [
        (
            "sft_lora",
            &["val_size=0.2", "eval_strategy=steps", "eval_steps=5"][..],
        ),
        ("sft_full", &[]),
        ("dpo_lora", &[]),
        ("kto_lora", &[]),
    ] {
        let (one, two) = (Bench::golden(golden), Bench::golden(golden));
        let same = [
            &[
                "gradient_accumulation_steps=1",
                "disable_shuffling=false",
                "max_steps=5",
            ],
            more,
        ]
        .concat();
        let single = [&["per_device_train_batch_size=4"], &same[..]].concat();
        let double = [
            &["--processes", "2", "per_device_train_batch_size=2"],
            &same[..],
        ]
        .concat();
        train(&one, &single);
        let result = train(&two, &double);
        assert_eq!(result["processes"], 2);
        near(golden, &two, &one);
    }
}

#[test]
fn two_processes_go_on_from_their_checkpoint_to_the_same_bits() {
    let settings = [
        "--processes",
        "2",
        "save_strategy=steps",
        "save_steps=5",
        "lora_dropout=0.1",
    ];
    let bench = Bench::golden("sft_lora");
    train(&bench, &settings);
    let whole = points(&bench);
    let weights = || fs::read(bench.path("out/adapter_model.safetensors")).unwrap();
    let before = weights();
    for late in ["checkpoint-15", "checkpoint-20"] {
        fs::remove_dir_all(bench.path(&format!("out/{late}"))).unwrap();
    }
    let more = ["overwrite_output_dir=false"];
    let result = train(&bench, &[&settings[..], &more].concat());
    assert_eq!(result["resumed_at"], 10);
    assert_eq!(points(&bench), whole);
    assert!(weights() == before);
    // One process would deal the examples otherwise.
    let alone = [
        &["--json", "train", "job.yaml", "output_dir=out"],
        &settings[2..],
        &more,
    ]
    .concat();
    let output = bench.command(&alone).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("train.resume-mismatch") && said.contains("number of processes"),
        "{said}"
    );
}

/// Waits until the run has a checkpoint, and returns the number of the process that it started.
fn other_of(bench: &Bench, first: &Child) -> i32 {
    let until = Instant::now() + Duration::from_secs(120);
    let task = format!("/proc/{0}/task/{0}/children", first.id());
    loop {
        assert!(Instant::now() < until, "no checkpoint came");
        let children = fs::read_to_string(&task).unwrap_or_default();
        let pid = children
            .split_whitespace()
            .next()
            .and_then(|pid| pid.parse().ok());
        if bench.path("out/checkpoint-2").exists()
            && let Some(pid) = pid
        {
            return pid;
        }
        sleep(Duration::from_millis(10));
    }
}

fn kill(pid: i32) {
    let status = Command::new("kill")
        .args(["-KILL", &pid.to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

fn long_run(bench: &Bench) -> Child {
    let job = [
        "--json",
        "train",
        "job.yaml",
        "output_dir=out",
        "--processes",
        "2",
        "max_steps=100000",
        "save_strategy=steps",
        "save_steps=1",
        "save_total_limit=3",
    ];
    bench
        .command(&job)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Every checkpoint can be gone on from, and no other file is left half-written.
pub(crate) fn all_is_whole(bench: &Bench) {
    let names = fs::read_dir(bench.path("out")).unwrap();
    let names: Vec<String> = names
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    let checkpoints = names.iter().filter(|name| name.starts_with("checkpoint-"));
    assert!(checkpoints.clone().count() > 0);
    for name in checkpoints {
        let state = fs::read(bench.path(&format!("out/{name}/ferry_state.json"))).unwrap();
        let state: Value = serde_json::from_slice(&state).unwrap();
        for (file, size) in state["files"].as_object().unwrap() {
            let found = fs::metadata(bench.path(&format!("out/{name}/{file}")))
                .unwrap()
                .len();
            assert_eq!(Some(found), size.as_u64(), "{name}/{file}");
        }
    }
}

#[test]
fn a_process_that_is_killed_ends_all_and_leaves_whole_checkpoints() {
    let bench = Bench::golden("sft_lora");
    let first = long_run(&bench);
    kill(other_of(&bench, &first));
    let output = first.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(5), "{said}");
    let last: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "runtime.process-ended", "{said}");
    assert_eq!(last["error"]["args"]["how"], "signal 9", "{said}");
    all_is_whole(&bench);
}

#[test]
fn the_others_end_with_the_first() {
    let bench = Bench::golden("sft_lora");
    let mut first = long_run(&bench);
    let other = other_of(&bench, &first);
    kill(first.id() as i32);
    first.wait().unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    let there = || {
        // A process that ended and whose parent is gone is the system's to take away.
        let status = fs::read_to_string(format!("/proc/{other}/status")).unwrap_or_default();
        status.contains("State:") && !status.contains("State:\tZ")
    };
    while there() {
        assert!(Instant::now() < until, "it still runs");
        sleep(Duration::from_millis(10));
    }
    all_is_whole(&bench);
}

#[test]
fn a_process_that_cannot_start_its_part_ends_all() {
    let bench = Bench::golden("sft_lora");
    let mut command = bench.command(&[
        "--json",
        "train",
        "job.yaml",
        "output_dir=out",
        "--device",
        "npu:1",
        "--processes",
        "2",
    ]);
    // There are two devices; the second process would need a third one.
    command.env("FERRY_DEVICE_LIBRARIES", host_npu::folder());
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let last: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "runtime.process-ended", "{said}");
    let words = last["error"]["args"]["said"].as_str().unwrap();
    assert!(words.contains("there is no device 2"), "{said}");
    assert!(!bench.path("out").exists());
}

#[test]
fn processes_on_devices_of_their_own_give_the_same_losses() {
    let (one, two) = (Bench::golden("sft_lora"), Bench::golden("sft_lora"));
    let same = ["gradient_accumulation_steps=1", "max_steps=6"];
    train(
        &one,
        &[&["per_device_train_batch_size=4"], &same[..]].concat(),
    );
    let double = [
        "--json",
        "train",
        "job.yaml",
        "output_dir=out",
        "--device",
        "npu",
        "--processes",
        "2",
    ];
    let double = [&double[..], &["per_device_train_batch_size=2"], &same].concat();
    result(
        two.command(&double)
            .env("FERRY_DEVICE_LIBRARIES", host_npu::folder()),
    );
    near("npu", &two, &one);
}

#[test]
fn processes_that_another_program_starts_find_together() {
    let (one, two) = (Bench::golden("sft_lora"), Bench::golden("sft_lora"));
    let same = ["gradient_accumulation_steps=1", "max_steps=6"];
    train(
        &one,
        &[&["per_device_train_batch_size=4"], &same[..]].concat(),
    );
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    drop(free);
    let start = |rank: &str| {
        let job = [
            "--json",
            "train",
            "job.yaml",
            "output_dir=out",
            "per_device_train_batch_size=2",
        ];
        let mut command = two.command(&[&job[..], &same].concat());
        for (name, value) in [
            ("RANK", rank),
            ("WORLD_SIZE", "2"),
            ("LOCAL_RANK", rank),
            ("LOCAL_WORLD_SIZE", "2"),
            ("MASTER_ADDR", "127.0.0.1"),
            ("MASTER_PORT", &port),
        ] {
            command.env(name, value);
        }
        command.stdout(Stdio::piped()).spawn().unwrap()
    };
    let both = [start("0"), start("1")];
    for child in both {
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
    }
    near("torchrun", &two, &one);
}
