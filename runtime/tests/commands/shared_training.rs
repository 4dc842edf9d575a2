//! What several processes train together, beside one process that does the same: experts, 16 bits, streams, and a bridge to
//! the vendor's collectives.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::bench::{Bench, golden, result};
use crate::devices::command;
use crate::processes::{near, near_within, points, train};

const TWO: [&str; 3] = ["--processes", "2", "per_device_train_batch_size=2"];

/// Micro-batches are dealt round: two processes compute those that one process accumulates.
#[test]
fn experts_are_those_of_one_process_with_their_balance() {
    for (name, more) in [
        (
            "moe_lora",
            &["lora_target=q_proj,gate_proj,up_proj,down_proj"][..],
        ),
        ("moe_full", &["moe_aux_loss_coef=0.05"]),
        (
            "moe_lora",
            &["moe_aux_loss_coef=0.05", "quantization_bit=4"],
        ),
    ] {
        let [one, two] = [0, 1].map(|_| {
            let bench = Bench::golden(name);
            bench.copy(&golden("model_moe"), "model_moe");
            bench
        });
        let same = [&["max_steps=6", "disable_shuffling=false"], more].concat();
        train(
            &one,
            &[&["gradient_accumulation_steps=2"], &same[..]].concat(),
        );
        let both = [&TWO[..], &["gradient_accumulation_steps=1"], &same[..]].concat();
        train(&two, &both);
        near(&format!("{name} {more:?}"), &two, &one);
    }
}

#[test]
fn a_scaled_loss_is_that_of_one_process() {
    let (one, two) = (Bench::golden("sft_lora"), Bench::golden("sft_lora"));
    let same = [
        "--json",
        "train",
        "job.yaml",
        "output_dir=out",
        "--device",
        "npu",
        "fp16=true",
        "max_steps=6",
    ];
    let whole = [&same[..], &["gradient_accumulation_steps=2"]].concat();
    result(&mut command(&one, &whole));
    let both = [&same[..], &TWO[..], &["gradient_accumulation_steps=1"]].concat();
    result(&mut command(&two, &both));
    near("fp16", &two, &one);
}

/// A file of records that differ in length.
fn stream(bench: &Bench, records: usize) {
    let records = (0..records).map(|number| {
        let question = format!("What is {number}?");
        let answer = "A number. ".repeat(1 + number % 3);
        json!({"instruction": question, "output": answer})
    });
    let records: Vec<_> = records.collect();
    bench.write("data/capitals.json", json!(records).to_string());
    bench.job("streaming: true\nbuffer_size: 5\nval_size: 2\nlearning_rate: 1.0e-3\neval_strategy: steps\neval_steps: 3\n");
}

#[test]
fn a_stream_is_dealt_as_one_process_reads_it() {
    let (one, two) = (Bench::new(), Bench::new());
    for bench in [&one, &two] {
        // Sixteen to train on: two epochs of four rounds.
        stream(bench, 18);
    }
    train(&one, &["max_steps=8", "per_device_train_batch_size=4"]);
    train(&two, &[&TWO[..], &["max_steps=8"]].concat());
    near("stream", &two, &one);
}

#[test]
fn a_stream_of_two_processes_goes_on_to_the_same_bits() {
    let bench = Bench::new();
    // Thirteen to train on: an epoch ends with a round that is filled up.
    stream(&bench, 15);
    let settings = [
        &TWO[..],
        &[
            "max_steps=9",
            "save_steps=1",
            "gradient_accumulation_steps=2",
        ],
    ]
    .concat();
    train(&bench, &settings);
    let whole = points(&bench);
    let weights = || fs::read(bench.path("out/adapter_model.safetensors")).unwrap();
    let before = weights();
    for cut in [1, 2, 5] {
        for step in cut + 1..=9 {
            let _gone = fs::remove_dir_all(bench.path(&format!("out/checkpoint-{step}")));
        }
        let result = train(&bench, &settings);
        assert_eq!(result["resumed_at"], cut);
        assert_eq!(points(&bench), whole, "{cut}");
        assert!(weights() == before, "{cut}");
    }
    // Three processes would deal it otherwise.
    let mut other = settings.clone();
    other[1] = "3";
    let all = [&["--json", "train", "job.yaml", "max_steps=12"], &other[..]].concat();
    let output = bench.command(&all).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("number of processes"), "{said}");
}

#[test]
fn a_bridge_adds_up_what_is_on_devices() {
    let (one, two) = (Bench::golden("sft_lora"), Bench::golden("sft_lora"));
    fs::create_dir_all(two.path("lib")).unwrap();
    symlink(
        host_npu::library().unwrap(),
        two.path("lib/libtorch_npu.so"),
    )
    .unwrap();
    symlink(host_npu::bridge(), two.path("lib/libferry_hccl.so")).unwrap();
    let same = [
        "max_steps=6",
        "val_size=0.2",
        "eval_strategy=steps",
        "eval_steps=3",
    ];
    let alone = [&["gradient_accumulation_steps=2"], &same[..]].concat();
    assert_eq!(train(&one, &alone)["collective"], json!(null));
    let both = [
        &[
            "--json",
            "train",
            "job.yaml",
            "output_dir=out",
            "--device",
            "npu",
        ][..],
        &TWO[..],
        &["gradient_accumulation_steps=1"],
        &same[..],
    ]
    .concat();
    let mut both = two.command(&both);
    both.env("FERRY_DEVICE_LIBRARIES", two.path("lib"));
    assert_eq!(result(&mut both)["collective"], "hccl");
    near_within("bridge", &two, &one, 2e-5);
    // One that is no bridge ends all of it, and says why.
    fs::remove_file(two.path("lib/libferry_hccl.so")).unwrap();
    symlink(
        host_npu::library().unwrap(),
        two.path("lib/libferry_hccl.so"),
    )
    .unwrap();
    let said = String::from_utf8(both.output().unwrap().stdout).unwrap();
    assert!(said.contains("ferry_collective"), "{said}");
}
