//! Runs that fail, that are asked to end, and that are gone on with.

use std::fs;
use std::process::{Child, Command, Stdio};

use insta::assert_snapshot;
use serde_json::json;

use super::record;
use crate::bench::wait;
use crate::stand_in::{DEAF, LEARNS, Release, SAVES, last};

fn start(release: &Release, more: &[&str]) -> Child {
    let mut train = release.train(more);
    let child = train
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait("line of the log", || {
        let log = fs::read_to_string(release.bench.path("out/trainer_log.jsonl")).ok()?;
        log.contains('\n').then_some(())
    });
    child
}

fn signal(pid: u32, name: &str) {
    let kill = Command::new("kill").args([name, &pid.to_string()]).status();
    assert!(kill.unwrap().success());
}

#[test]
fn a_failure_is_told_in_words_with_a_next_step() {
    for (said, code, status) in [
        (
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
            "engine.out-of-memory",
            5,
        ),
        (
            "ModuleNotFoundError: No module named 'torchaudio'",
            "engine.missing-package",
            2,
        ),
        (
            "ValueError: The checkpoint you are trying to load has model type `q9` but Transformers does not recognize this architecture.",
            "engine.unknown-model",
            2,
        ),
        (
            "ValueError: Undefined dataset towns in dataset_info.json.",
            "engine.data-missing",
            2,
        ),
        (
            "ValueError: Some keys are not used by the HfArgumentParser: ['a']",
            "engine.keys-refused",
            2,
        ),
        (
            "huggingface_hub.errors.OfflineModeIsEnabled: Cannot reach https://huggingface.co",
            "engine.wanted-network",
            2,
        ),
        ("IndexError: list index out of range", "engine.failed", 1),
    ] {
        let release = Release::new("");
        release.behaves(&format!(
            "echo loading\nprintf 'Traceback (most recent call last):\\n  File \"a.py\", line 1\\n' >&2\ncat >&2 <<'EOF'\n{said}\nEOF\nexit 1\n"
        ));
        let output = release.train(&[]).output().unwrap();
        let error = last(&output)["error"].clone();
        assert_eq!(
            (&error["code"], output.status.code()),
            (&json!(code), Some(status)),
            "{said}"
        );
        assert_eq!(error["args"]["said"], said);
        let record = record(&release);
        assert_eq!(
            (&record["state"], &record["failure"]["code"]),
            (&json!("failed"), &json!(code))
        );
        // A run that came to nothing does not hold its folder against the next.
        release.behaves(LEARNS);
        assert!(
            release.train(&[]).output().unwrap().status.success(),
            "{said}"
        );
    }
    let release = Release::new("echo loading; kill -9 $$\n");
    assert_snapshot!(release.screens(&["train", "job.yaml", "--engine", "llamafactory"]));
    assert_snapshot!(
        "a_watcher_is_told_of_it",
        release.screens(&["watch", "out"])
    );
}

#[test]
fn a_run_that_is_asked_to_end_saves_and_goes_on_later() {
    for ask in ["-TERM", "-INT", "stop"] {
        let release = Release::new(SAVES);
        let child = start(&release, &[]);
        if ask == "stop" {
            let asked = release.run(&["--json", "stop", "out"]);
            assert_eq!(last(&asked)["asked"], true);
        } else {
            signal(child.id(), ask);
        }
        let ended = child.wait_with_output().unwrap();
        let result = last(&ended);
        assert!(ended.status.success(), "{ask}: {result}");
        assert_eq!(
            (&result["ending"], &result["saved"]),
            (&json!("stopped"), &json!(true)),
            "{ask}"
        );
        assert_eq!(record(&release)["state"], "stopped", "{ask}");
        release.behaves(LEARNS);
        let on = release.train(&[]).output().unwrap();
        assert_eq!(last(&on)["resumed_at"], 1, "{ask}");
    }
}

#[test]
fn a_run_that_will_not_end_is_ended_with_all_that_it_started() {
    // A worker in a session of its own, as torchrun has them.
    let release = Release::new(&format!(
        "RANK=0 setsid sh -c \"trap '' INT TERM; sleep 600\" &\n{DEAF}"
    ));
    let child = start(&release, &["--grace", "1"]);
    signal(child.id(), "-TERM");
    let ended = child.wait_with_output().unwrap();
    let result = last(&ended);
    assert_eq!(
        (&result["ending"], &result["saved"]),
        (&json!("stopped"), &json!(false))
    );
    assert!(
        String::from_utf8(ended.stdout)
            .unwrap()
            .contains("engine.stopped-unsaved")
    );
    assert_eq!(record(&release)["state"], "stopped");
    assert_eq!(of_run(&release), 0);
}

/// Processes that carry the run's mark.
fn of_run(release: &Release) -> usize {
    let folder = release.bench.path("out").canonicalize().unwrap();
    let mark = format!("FERRY_RUN={}\0", folder.display()).into_bytes();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let environments = entries.filter_map(|entry| fs::read(entry.path().join("environ")).ok());
    environments
        .filter(|one| one.windows(mark.len()).any(|part| part == mark))
        .count()
}

#[test]
fn a_terminal_that_is_closed_ends_nothing_and_an_output_that_nobody_reads_stalls_nothing() {
    let release = Release::new(&format!(
        "log 1 3 2.5\nsleep 0.5\nyes | head -c 4000000\n{LEARNS}"
    ));
    let mut child = start(&release, &[]);
    signal(child.id(), "-HUP");
    assert!(child.wait().unwrap().success());
    assert_eq!(record(&release)["state"], "done");
}

#[test]
fn a_second_run_is_refused_as_long_as_anything_of_the_first_lives() {
    let release = Release::new(DEAF);
    let mut child = start(&release, &[]);
    let second = release
        .train(&["overwrite_output_dir=true"])
        .output()
        .unwrap();
    assert_eq!(last(&second)["error"]["code"], "train.in-use");
    // Killed, this program cannot end what it started; the run still holds its folder.
    child.kill().unwrap();
    child.wait().unwrap();
    let seen = release.run(&["--json", "watch", "--once", "out"]);
    assert_eq!(last(&seen)["run"]["state"], "running");
    let second = release
        .train(&["overwrite_output_dir=true"])
        .output()
        .unwrap();
    assert_eq!(last(&second)["error"]["code"], "train.in-use");
    // Whoever asks the run to end reaches it all the same; asked again it does not get to save.
    for _ in 0..2 {
        assert_eq!(
            last(&release.run(&["--json", "stop", "out"]))["asked"],
            true
        );
    }
    wait("end of the processes", || {
        (of_run(&release) == 0).then_some(())
    });
    let seen = release.run(&["--json", "watch", "--once", "out"]);
    assert_eq!(last(&seen)["run"]["state"], "cut_off");
}

#[test]
fn checkpoints_are_gone_on_from_if_they_are_whole_and_its_own() {
    let release = Release::new(LEARNS);
    release
        .bench
        .write("out/checkpoint-5/trainer_state.json", "{}");
    release
        .bench
        .write("out/checkpoint-8/adapter_model.safetensors", "");
    let output = release.train(&[]).output().unwrap();
    let whole = "out/checkpoint-5";
    assert_eq!(last(&output)["resumed_at"], 5);
    assert_eq!(release.job()["resume_from_checkpoint"], json!(whole));
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("engine.skips-checkpoint")
    );
    release
        .bench
        .write("out/checkpoint-9/trainer_state.json", "{}");
    release
        .bench
        .write("out/checkpoint-9/ferry_state.json", "{}");
    let error = last(&release.train(&[]).output().unwrap())["error"].clone();
    assert_eq!(error["code"], "engine.checkpoint-of-native");
    let other = Release::new(LEARNS);
    other.bench.write("out/thesis.txt", "years of work");
    let error = last(&other.train(&[]).output().unwrap())["error"].clone();
    assert_eq!(error["code"], "train.output-taken");
}
