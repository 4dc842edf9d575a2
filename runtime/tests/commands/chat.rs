//! `chat` with a person's lines, or a program's.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::bench::{Bench, wait};

/// Words that start a talk.
fn words(template: &'static str) -> [&'static str; 6] {
    [
        "chat",
        "--model",
        "model",
        "--max-tokens=12",
        "--template",
        template,
    ]
}

/// What is said to these lines.
fn talk(bench: &Bench, more: &[&str], template: &'static str, lines: &str) -> Output {
    let mut chat = bench.command(&[more, &words(template)].concat());
    let mut chat = chat
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Who ends a talk does not read the rest.
    let _left = chat.stdin.take().unwrap().write_all(lines.as_bytes());
    chat.wait_with_output().unwrap()
}

fn answers(output: &Output) -> Vec<Value> {
    let said = String::from_utf8(output.stdout.clone()).unwrap();
    said.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A bench whose answers go on until their limit, and depend on all that was said: the token that ends them never comes.
fn endless() -> Bench {
    let bench = Bench::new();
    let path = bench.path("model/tokenizer_config.json");
    let settings = std::fs::read_to_string(&path).unwrap();
    let settings = settings.replace(
        r#""eos_token": "<|im_end|>""#,
        r#""eos_token": "<|endoftext|>""#,
    );
    bench.write("model/tokenizer_config.json", settings);
    bench
}

#[test]
fn clear_forgets_exit_ends_and_a_fence_holds_several_lines() {
    let bench = endless();
    let lines = "tell\ntell\nclear\ntell\n\"\"\"\na\n\nb\n\"\"\"\nexit\nmore\n";
    let output = talk(&bench, &["--json"], "empty", lines);
    assert!(output.status.success(), "{output:?}");
    let answers = answers(&output);
    let asked: Vec<&str> = answers
        .iter()
        .map(|answer| answer["prompt"].as_str().unwrap())
        .collect();
    assert_eq!(asked, ["tell", "tell", "tell", "a\n\nb"]);
    assert_ne!(answers[0], answers[1], "what was said before counts");
    assert_eq!(answers[0], answers[2], "nothing of it is left");
}

#[test]
fn a_question_that_is_too_long_ends_a_programs_talk() {
    let bench = Bench::new();
    let long = format!("{}\nWho are you?\n", "word ".repeat(9000));
    let output = talk(&bench, &["--json"], "qwen", &long);
    assert!(!output.status.success());
    assert_eq!(answers(&output).len(), 1);
    assert_eq!(answers(&output)[0]["error"]["code"], "torch.too-long");
}

/// A terminal that can draw no bars (`TERM` is not set), in which `lines` are typed; returns all that it shows.
fn typed(bench: &Bench, lines: &str) -> String {
    let program = env!("CARGO_BIN_EXE_ferry-runtime");
    let command = format!("{program} --lang en {}", words("qwen").join(" "));
    let mut script = bench.command(&[]);
    let environment: Vec<_> = script
        .get_envs()
        .map(|(k, v)| (k.to_owned(), v.map(ToOwned::to_owned)))
        .collect();
    script = Command::new("script");
    script
        .env_clear()
        .current_dir(bench.path(""))
        .args(["-qec", &command, "/dev/null"]);
    script.envs(environment.into_iter().filter_map(|(k, v)| Some((k, v?))));
    let mut script = script
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    script
        .stdin
        .take()
        .unwrap()
        .write_all(lines.as_bytes())
        .unwrap();
    let output = script.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn who_sits_at_a_terminal_goes_on_after_a_fault() {
    let bench = Bench::new();
    let path = bench.path("model/config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["max_position_embeddings"] = 48.into();
    bench.write("model/config.json", config.to_string());
    let lines = format!("{}\nWho are you?\nexit\n", "word ".repeat(60));
    let shown = typed(&bench, &lines);
    assert!(shown.contains("Ctrl-C ends an answer"), "{shown}");
    let (_, after) = shown
        .split_once("torch.too-long")
        .unwrap_or_else(|| panic!("{shown}"));
    assert!(after.contains("> "), "{after}");
}

#[test]
fn interrupting_ends_an_answer_and_not_the_talk() {
    let bench = endless();
    let mut chat = bench.command(&[
        "chat",
        "--model",
        "model",
        "--template",
        "empty",
        "max_new_tokens=1000000",
    ]);
    let mut chat = chat
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = chat.stdin.take().unwrap();
    input.write_all("tell\n".as_bytes()).unwrap();
    let mut said = chat.stdout.take().unwrap();
    let mut first = [0];
    std::io::Read::read_exact(&mut said, &mut first).unwrap();
    let interrupt = || {
        Command::new("kill")
            .args(["-INT", &chat.id().to_string()])
            .status()
            .unwrap()
    };
    assert!(interrupt().success());
    let mut rest = Vec::new();
    input.write_all("exit\n".as_bytes()).unwrap();
    std::io::Read::read_to_end(&mut said, &mut rest).unwrap();
    let status = wait("end of the talk", || chat.try_wait().unwrap());
    assert!(status.success(), "{status}");
    assert!(rest.ends_with(b"\n"), "the line of the answer was ended");
}

#[test]
fn nobody_who_reads_ends_it() {
    let bench = Bench::new();
    let mut chat = bench.command(&words("qwen"));
    let mut chat = chat
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(chat.stdout.take());
    let mut input = chat.stdin.take().unwrap();
    input.write_all("a\n".as_bytes()).unwrap();
    // The input stays open.
    let status = wait("end of the talk", || chat.try_wait().unwrap());
    assert!(status.success(), "{status}");
    drop(input);
}
