//! The memory of a device: weights in four bits lie there, and what is said where it is full.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::Value;

use crate::bench::Bench;
use crate::devices::{command, said, steps};

/// The stand-in under the name of a chip whose rules allow weights in four bits.
fn on_mlu(bench: &Bench, arguments: &[&str]) -> Command {
    fs::create_dir_all(bench.path("lib")).unwrap();
    let library = bench.path("lib/libtorch_mlu.so");
    if !library.exists() {
        symlink(host_npu::library().unwrap(), library).unwrap();
    }
    let mut command = bench.command(arguments);
    command
        .env("FERRY_DEVICE_LIBRARIES", bench.path("lib"))
        .env("HOST_NPU_NAME", "mlu");
    command
}

/// The result of a command that goes well, or the error of one that does not.
fn end(command: &mut Command) -> Result<Value, Value> {
    let output = command.output().unwrap();
    let success = output.status.success();
    let said = said(output);
    let last: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    if success {
        return Ok(last);
    }
    Err(last["error"].clone())
}

#[test]
fn four_bits_on_a_device_give_the_losses_of_the_processor() {
    for run in ["sft_qlora_nf4", "sft_lora"] {
        let (here, there) = (Bench::golden(run), Bench::golden(run));
        let train = [
            "--json",
            "train",
            "job.yaml",
            "output_dir=out",
            "max_steps=6",
        ];
        end(&mut here.command(&train)).unwrap();
        let device = [&train[..], &["--device", "mlu:1"]].concat();
        let result = end(&mut on_mlu(&there, &device)).unwrap();
        assert_eq!(result["device"], "mlu:1");
        let (found, wanted) = (steps(&there), steps(&here));
        assert_eq!(found.len(), 6);
        for (found, wanted) in found.iter().zip(&wanted) {
            assert!(
                (found.0 - wanted.0).abs() < 1e-5,
                "{run}: {found:?} {wanted:?}"
            );
        }
    }
}

/// Three short examples, and a long one at the end.
fn growing(bench: &Bench) {
    let long = "A long answer, word after word. ".repeat(40);
    let records = ["One.", "Two.", "Three.", &long]
        .map(|answer| serde_json::json!({"instruction": "Say it.", "output": answer}));
    bench.write("data/capitals.json", serde_json::json!(records).to_string());
    bench.job("disable_shuffling: true\nsave_steps: 1\nmax_steps: 4\nlearning_rate: 1.0e-3\n");
}

#[test]
fn memory_that_runs_out_in_a_step_leaves_the_last_checkpoint_whole() {
    let (whole, cut) = (Bench::new(), Bench::new());
    growing(&whole);
    growing(&cut);
    let train = ["--json", "train", "job.yaml", "--device", "npu"];
    let peak = |arguments: &[&str]| {
        let result = end(&mut command(&whole, arguments)).unwrap();
        result["device_peak"].as_u64().unwrap()
    };
    let short = peak(&[&train[..], &["max_steps=3", "output_dir=short"]].concat());
    let long = peak(&train);
    assert!(long > short + short / 4, "{long} {short}");
    let limit = u64::midpoint(short, long).to_string();
    let error = end(command(&cut, &train).env("HOST_NPU_BYTES", &limit)).unwrap_err();
    assert_eq!(error["code"], "train.out-of-memory", "{error}");
    assert_eq!(error["outcome"], "host-fault");
    assert!(
        error["causes"].to_string().contains("NPU out of memory"),
        "{error}"
    );
    let told = said(
        command(&cut, &train[1..])
            .env("HOST_NPU_BYTES", &limit)
            .output()
            .unwrap(),
    );
    for words in [
        "gradient_checkpointing",
        "per_device_train_batch_size",
        "cutoff_len",
    ] {
        assert!(told.contains(words), "{told}");
    }
    assert!(
        !told.contains("quantization_bit"),
        "the chip refuses it: {told}"
    );
    assert!(!cut.path("out/checkpoint-4").exists());
    // With room enough it goes on from there, to the same losses.
    let result = end(&mut command(&cut, &train)).unwrap();
    assert_eq!(result["resumed_at"], 3);
    assert_eq!(steps(&cut), steps(&whole));
}

#[test]
fn what_to_do_about_a_model_that_is_too_large_fits_the_chip() {
    let bench = Bench::golden("sft_lora");
    let train = ["--json", "train", "job.yaml", "output_dir=out", "--device"];
    let full = |command: &mut Command| {
        let error = end(command.env("HOST_NPU_BYTES", "100000")).unwrap_err();
        error["code"].as_str().unwrap().to_owned()
    };
    let on_npu = [&train[..], &["npu"]].concat();
    assert_eq!(full(&mut command(&bench, &on_npu)), "runtime.device-full");
    let on_mlu_too = [&train[..], &["mlu"]].concat();
    let packable = "runtime.device-full-packable";
    assert_eq!(full(&mut on_mlu(&bench, &on_mlu_too)), packable);
    // Packed already, or trained whole.
    let packed = [&on_mlu_too[..], &["quantization_bit=4"]].concat();
    assert_eq!(full(&mut on_mlu(&bench, &packed)), "runtime.device-full");
    let whole = Bench::golden("sft_full");
    assert_eq!(
        full(&mut on_mlu(&whole, &on_mlu_too)),
        "runtime.device-full"
    );
    let chat = [
        "--json",
        "chat",
        "--model",
        "model",
        "--template",
        "qwen",
        "--prompt",
        "Hi",
        "--device",
    ];
    let on_npu = [&chat[..], &["npu"]].concat();
    assert_eq!(full(&mut command(&bench, &on_npu)), "runtime.device-full");
    let on_mlu_too = [&chat[..], &["mlu"]].concat();
    assert_eq!(full(&mut on_mlu(&bench, &on_mlu_too)), packable);
    assert!(!bench.path("out").exists());
}
