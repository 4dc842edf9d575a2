//! Runs on a device whose library is loaded while the program runs; a library over the processor's memory stands in for
//! the chip's.

use std::fs;
use std::process::{Command, Output};

use insta::assert_snapshot;
use serde_json::Value;

use crate::bench::{Bench, result};

/// The command with the stand-in's library where the program looks.
pub(crate) fn command(bench: &Bench, arguments: &[&str]) -> Command {
    let mut command = bench.command(arguments);
    command.env("FERRY_DEVICE_LIBRARIES", host_npu::folder());
    command
}

/// What people are told, then what programs are.
pub(crate) fn said(output: Output) -> String {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    text(output.stderr) + &text(output.stdout)
}

/// Trains a golden run and returns loss and gradient norm of each step.
fn train(bench: &Bench, arguments: &[&str]) -> Vec<(f64, f64)> {
    let mut all = vec!["--json", "train", "job.yaml", "output_dir=out"];
    all.extend(arguments);
    let result = result(&mut command(bench, &all));
    let at = arguments
        .iter()
        .position(|argument| *argument == "--device");
    assert_eq!(result["device"], at.map_or("cpu", |at| arguments[at + 1]));
    steps(bench)
}

/// Loss and gradient norm of each step of a run.
pub(crate) fn steps(bench: &Bench) -> Vec<(f64, f64)> {
    let text = fs::read(bench.path("out/trainer_state.json")).unwrap();
    let state: Value = serde_json::from_slice(&text).unwrap();
    let points = state["log_history"].as_array().unwrap().iter();
    let number = |point: &Value, name: &str| point[name].as_f64();
    points
        .filter_map(|point| Some((number(point, "loss")?, number(point, "grad_norm")?)))
        .collect()
}

fn near(run: &str, found: &[(f64, f64)], wanted: &[(f64, f64)]) {
    assert_eq!(found.len(), wanted.len(), "{run}");
    for (step, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        let off = ((found.0 - wanted.0).abs(), (found.1 / wanted.1 - 1.0).abs());
        assert!(
            off.0 < 1e-5 && off.1 < 1e-4,
            "{run} step {step}: {found:?} {wanted:?}"
        );
    }
}

#[test]
fn a_job_gives_the_losses_of_the_processor() {
    for (run, more) in [
        (
            "sft_lora",
            &["lora_dropout=0.1", "disable_shuffling=false"][..],
        ),
        ("sft_full", &[]),
        ("sft_lora_neat_packing", &["max_steps=4"]),
        ("dpo_lora", &["max_steps=4"]),
        ("kto_lora", &["max_steps=4"]),
    ] {
        let (here, there) = (Bench::golden(run), Bench::golden(run));
        let wanted = train(&here, more);
        let found = train(&there, &[&["--device", "npu:1"], more].concat());
        near(run, &found, &wanted);
    }
}

#[test]
fn sixteen_bits_are_near_thirty_two() {
    let (here, there) = (Bench::golden("sft_lora"), Bench::golden("sft_lora"));
    let wanted = train(&here, &["max_steps=6"]);
    let found = train(&there, &["--device", "npu:0", "fp16=true", "max_steps=6"]);
    assert_eq!(found.len(), 6);
    for (step, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
        let off = (found.0 - wanted.0).abs();
        assert!(off > 0.0 && off < 5e-3, "step {step}: {found:?} {wanted:?}");
    }
}

#[test]
fn a_run_on_a_device_goes_on_from_its_checkpoint() {
    for run in ["sft_lora", "sft_full"] {
        let settings = ["--device", "npu:0", "save_strategy=steps", "save_steps=10"];
        let bench = Bench::golden(run);
        let whole = train(&bench, &settings);
        fs::remove_dir_all(bench.path("out/checkpoint-20")).unwrap();
        let more = ["overwrite_output_dir=false"];
        let halves = train(&bench, &[&settings[..], &more].concat());
        assert_eq!(whole, halves, "{run}");
        // And so does one that goes on elsewhere, but for the last digits.
        fs::remove_dir_all(bench.path("out/checkpoint-20")).unwrap();
        let there = train(&bench, &[&settings[2..], &more].concat());
        near(run, &there, &whole);
    }
}

#[test]
fn a_chat_on_a_device_is_the_same() {
    let bench = Bench::new();
    let chat = [
        "chat",
        "--model",
        "model",
        "--template",
        "qwen",
        "--max-tokens",
        "16",
        "--prompt",
        "Hi",
    ];
    let here = said(command(&bench, &chat).output().unwrap());
    let there = said(
        command(&bench, &[&chat[..], &["--device", "npu"]].concat())
            .output()
            .unwrap(),
    );
    assert!(!here.trim().is_empty());
    assert_eq!(here, there);
}

#[test]
fn a_device_that_cannot_be_used_says_why() {
    let bench = Bench::new();
    let screen = |arguments: &[&str], folder: &str| {
        let mut command = bench.command(arguments);
        command
            .env("FERRY_DEVICE_LIBRARIES", folder)
            .env("HOST_NPU_BYTES", "100000");
        let output = command.output().unwrap();
        let status = output.status.code().unwrap();
        let mut said = said(output);
        // Where the program itself looks is the build's business.
        if let Some(at) = said.find(", `/") {
            let end = said[at + 3..].find('`').unwrap() + at + 4;
            said.replace_range(at..end, ", `[PROGRAM]/lib`");
        }
        let home = host_npu::folder().display().to_string();
        let said = said.replace(&home, "[NPU]");
        format!("$ {}\n{said}[status {status}]\n", arguments.join(" "))
    };
    let npu = host_npu::folder().display().to_string();
    let mut screens = screen(&["train", "job.yaml", "--device", "npu"], "/nowhere");
    screens += &screen(
        &["--lang", "zh", "train", "job.yaml", "--device", "npu"],
        "/nowhere",
    );
    screens += &screen(&["train", "job.yaml", "--device", "npu:2"], &npu);
    screens += &screen(&["train", "job.yaml", "--device", "npu"], &npu);
    screens += &screen(&["train", "job.yaml", "--device", "gpu"], &npu);
    assert_snapshot!(screens);
    bench.write("lib/libtorch_npu.so", "no library");
    let broken = bench.path("lib").display().to_string();
    let unfit = screen(&["train", "job.yaml", "--device", "npu"], &broken);
    assert!(
        unfit.contains("device.library-unfit") && unfit.contains("libtorch 2."),
        "{unfit}"
    );
    assert!(!bench.path("out").exists());
}

#[test]
fn a_chips_rules_are_told_and_hold() {
    let bench = Bench::new();
    let mut screens = String::new();
    for (chip, setting) in [
        ("ascend-910a", "bf16=true"),
        ("ascend-910b", "quantization_bit=4"),
        ("ascend-910b", "flash_attn=fa2"),
        ("ascend-310", "seed=1"),
    ] {
        let mut check = [
            "check", "job.yaml", setting, "--device", "npu", "--chip", chip,
        ];
        let shown = |arguments: &[&str]| said(command(&bench, arguments).output().unwrap());
        for language in ["en", "zh"] {
            let all = [&["--lang", language], &check[..]].concat();
            let said = shown(&all);
            let lines = said
                .lines()
                .take_while(|line| !line.starts_with("model") && !line.starts_with("模型"));
            screens.push_str(&format!("$ {}\n", all.join(" ")));
            lines.for_each(|line| screens.push_str(&format!("{line}\n")));
        }
        check[0] = "train";
        let trained = shown(&[&["--json"], &check[..]].concat());
        let refused = trained.contains("runtime.chip-");
        assert!(refused, "{trained}");
    }
    assert_snapshot!(screens);
    let job = fs::read_to_string(bench.path("out/job.json")).unwrap();
    assert!(job.contains("flash_attn"), "the last one that ran: {job}");
}

#[test]
fn doctor_opens_the_device_that_it_is_asked_for() {
    let bench = Bench::new();
    let output = command(&bench, &["--json", "doctor", "--device", "npu:1"])
        .output()
        .unwrap();
    let said: Value = serde_json::from_str(&said(output)).unwrap();
    assert_eq!(said["device"], "npu:1");
    assert_eq!(said["opened"]["devices"], 2);
    assert!(said["opened"]["total"].as_u64().unwrap() > 0);
    assert_eq!(said["opened"]["copies"], true);
}
