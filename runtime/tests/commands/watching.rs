//! Long runs: nobody has to stay connected, and anybody who sees the folder can watch and end them.

use std::fs;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::bench::{Bench, wait};

/// A job of many short steps.
fn bench(steps: u32) -> Bench {
    let bench = Bench::new();
    bench.job(&format!(
        "max_steps: {steps}\nsave_strategy: steps\nsave_steps: 500\n"
    ));
    bench
}

fn start(bench: &Bench, stdout: Stdio) -> Child {
    let mut train = bench.command(&["--json", "train", "job.yaml"]);
    train.stdout(stdout).stderr(Stdio::null()).spawn().unwrap()
}

/// Waits for the first line of the log.
fn first_line(bench: &Bench) {
    wait("line of the log", || {
        let log = fs::read_to_string(bench.path("out/trainer_log.jsonl")).ok()?;
        log.contains('\n').then_some(())
    });
}

fn state(bench: &Bench) -> String {
    let text = fs::read(bench.path("out/run.json")).unwrap_or_default();
    let record: Value = serde_json::from_slice(&text).unwrap_or_default();
    record["state"].as_str().unwrap_or_default().to_owned()
}

fn signal(child: &Child, name: &str) {
    let kill = Command::new("kill")
        .args([name, &child.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
}

fn last(output: &Output) -> Value {
    let said = String::from_utf8(output.stdout.clone()).unwrap();
    serde_json::from_str(said.lines().last().unwrap()).unwrap()
}

#[test]
fn a_pipe_that_nobody_reads_holds_nothing_up() {
    let bench = bench(120);
    let (mut reader, writer) = std::io::pipe().unwrap();
    // Room for about thirty steps' lines.
    rustix::pipe::fcntl_setpipe_size(writer.as_fd(), 4096).unwrap();
    let mut child = start(&bench, writer.into());
    wait("end of the run", || (state(&bench) == "done").then_some(()));
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(
        said.lines().last().unwrap().contains("\"steps\":120"),
        "{said}"
    );
}

#[test]
fn a_terminal_that_is_closed_ends_nothing() {
    let bench = bench(120);
    let mut child = start(&bench, Stdio::null());
    first_line(&bench);
    signal(&child, "-HUP");
    assert!(child.wait().unwrap().success());
    assert_eq!(state(&bench), "done");
}

#[test]
fn a_run_that_is_told_to_end_saves_and_goes_on_later() {
    for ask in ["-TERM", "stop"] {
        let bench = bench(4000);
        let child = start(&bench, Stdio::piped());
        first_line(&bench);
        if ask == "stop" {
            let asked = bench.run(&["--json", "stop", "out"]);
            assert_eq!(last(&asked)["asked"], true);
        } else {
            signal(&child, ask);
        }
        let ended = child.wait_with_output().unwrap();
        assert!(ended.status.success(), "{ask}: {}", last(&ended));
        let seen = bench.run(&["--json", "watch", "out"]);
        assert!(seen.status.success());
        let seen = last(&seen);
        assert_eq!(seen["run"]["state"], "stopped", "{ask}");
        let step = seen["step"].as_u64().unwrap();
        let settings = format!("max_steps={}", step + 2);
        let on = bench.run(&["--json", "train", "job.yaml", &settings]);
        assert_eq!(last(&on)["resumed_at"], step, "{ask}");
    }
}

#[test]
fn a_folder_has_one_run_at_a_time() {
    let bench = bench(4000);
    let mut child = start(&bench, Stdio::null());
    first_line(&bench);
    let second = bench.run(&["--json", "train", "job.yaml", "overwrite_output_dir=true"]);
    assert_eq!(second.status.code(), Some(2));
    assert_eq!(last(&second)["error"]["code"], "train.in-use");
    let now = bench.run(&["--json", "watch", "--once", "out"]);
    assert_eq!(last(&now)["run"]["state"], "running");
    // A watcher sees the end, however it comes.
    let mut watch = bench.command(&["--json", "watch", "out"]);
    let watch = watch.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    child.kill().unwrap();
    child.wait().unwrap();
    let seen = watch.unwrap().wait_with_output().unwrap();
    assert_eq!(seen.status.code(), Some(1));
    assert_eq!(last(&seen)["run"]["state"], "cut_off");
    let idle = bench.run(&["--json", "stop", "out"]);
    assert_eq!(last(&idle)["asked"], false);
}

#[test]
fn what_a_watcher_sees() {
    let bench = bench(3);
    let mut screens = bench.screens(&["watch", "out"]);
    assert!(bench.run(&["train", "job.yaml"]).status.success());
    screens.push_str(&bench.screens(&["watch", "out"]));
    let mut record: Value =
        serde_json::from_slice(&fs::read(bench.path("out/run.json")).unwrap()).unwrap();
    record["state"] = "running".into();
    bench.write("out/run.json", record.to_string());
    screens.push_str(&bench.screens(&["watch", "--once", "out"]));
    record["state"] = "failed".into();
    record["failure"] = serde_json::json!({"code": "train.diverged", "args": [["step", "3"], ["loss", "NaN"], ["grad_norm", "1"]]});
    bench.write("out/run.json", record.to_string());
    screens.push_str(&bench.screens(&["watch", "--once", "out"]));
    // Times differ.
    let steady: Vec<String> = screens
        .lines()
        .map(|line| {
            line.split_once("  0:")
                .map_or(line, |(figures, _)| figures)
                .to_owned()
        })
        .collect();
    insta::assert_snapshot!(steady.join("\n"));
}
