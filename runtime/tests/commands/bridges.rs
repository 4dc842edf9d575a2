//! Several processes that add numbers up on devices of their own: by a bridge to the vendor's collectives, or without one.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Output};

use serde_json::Value;

use crate::bench::Bench;
use crate::processes::all_is_whole;

/// A bench with the stand-in's device library, and with `bridge` where there is one.
fn bench_with(bridge: Option<&std::path::Path>) -> Bench {
    let bench = Bench::golden("sft_lora");
    fs::create_dir_all(bench.path("lib")).unwrap();
    let library = host_npu::library().unwrap();
    symlink(library, bench.path("lib/libtorch_npu.so")).unwrap();
    if let Some(bridge) = bridge {
        symlink(bridge, bench.path("lib/libferry_hccl.so")).unwrap();
    }
    bench
}

fn on_devices(bench: &Bench, command: &[&str]) -> Command {
    let two = ["--device", "npu", "--processes", "2"];
    let mut command = bench.command(&[&["--json"], command, &two[..]].concat());
    command.env("FERRY_DEVICE_LIBRARIES", bench.path("lib"));
    command
}

fn lines(output: &Output) -> Vec<Value> {
    let said = String::from_utf8(output.stdout.clone()).unwrap();
    said.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn last(output: &Output) -> Value {
    lines(output).pop().unwrap()
}

#[test]
fn doctor_tries_the_devices_together() {
    let bench = bench_with(Some(host_npu::bridge()));
    let output = on_devices(&bench, &["doctor"]).output().unwrap();
    let said = last(&output);
    let together = &said["together"];
    assert_eq!(together["collective"], "hccl", "{said}");
    assert_eq!(together["processes"], 2, "{said}");
    assert_eq!(together["sums"], true, "{said}");
    assert_eq!(together["shares"], true, "{said}");
    assert!(output.status.success());
}

#[test]
fn without_a_bridge_it_is_told_that_gloo_does_the_work() {
    let bench = bench_with(None);
    let output = on_devices(&bench, &["doctor"]).output().unwrap();
    let lines = lines(&output);
    let warned = |line: &&Value| line["code"] == "runtime.no-bridge";
    assert_eq!(lines.iter().filter(warned).count(), 1, "{lines:?}");
    let together = &lines.last().unwrap()["together"];
    assert_eq!(together["collective"], "gloo", "{together}");
    assert_eq!(together["sums"], true, "{together}");
}

#[test]
fn a_bridge_for_other_libraries_is_not_used() {
    let bench = bench_with(Some(host_npu::bridge()));
    let version = last(&on_devices(&bench, &["doctor"]).output().unwrap())["opened"]["torch"]
        .as_str()
        .unwrap()
        .to_owned();
    for (made_for, expected) in [
        ("2.0.1 00".to_owned(), "libtorch 2.0.1"),
        (format!("{version} 00ff"), "`libtorch_npu.so` sha256:00ff"),
    ] {
        let mut doctor = on_devices(&bench, &["doctor"]);
        let output = doctor.env("HOST_HCCL_MADE_FOR", made_for).output().unwrap();
        let error = &last(&output)["error"];
        assert_eq!(output.status.code(), Some(5), "{error}");
        assert_eq!(error["code"], "device.bridge-of-other", "{error}");
        assert_eq!(error["args"]["expected"], expected, "{error}");
        let path = error["args"]["path"].as_str().unwrap();
        assert!(path.ends_with("lib/libferry_hccl.so"), "{error}");
    }
}

#[test]
fn what_is_no_bridge_says_so() {
    let bench = bench_with(Some(host_npu::library().unwrap()));
    let output = on_devices(&bench, &["doctor"]).output().unwrap();
    let error = &last(&output)["error"];
    assert_eq!(error["code"], "device.bridge-unfit", "{error}");
    let reason = error["args"]["reason"].as_str().unwrap();
    assert!(reason.contains("ferry_collective"), "{error}");
}

/// A device waits for ever for a process that is gone.
#[test]
fn a_process_that_dies_as_devices_add_up_ends_all() {
    let bench = bench_with(Some(host_npu::bridge()));
    let job = [
        "train",
        "job.yaml",
        "output_dir=out",
        "max_steps=100000",
        "save_strategy=steps",
        "save_steps=1",
        "save_total_limit=3",
    ];
    // As it begins and in the midst of training.
    for (command, call) in [(&["doctor"][..], "1"), (&job[..], "80")] {
        let mut command = on_devices(&bench, command);
        let output = command.env("HOST_HCCL_DIES", format!("1:{call}")).output();
        let output = output.unwrap();
        let error = &last(&output)["error"];
        assert_eq!(output.status.code(), Some(5), "{error}");
        assert_eq!(error["code"], "runtime.process-ended", "{error}");
        assert_eq!(error["args"]["how"], "signal 9", "{error}");
    }
    all_is_whole(&bench);
}
