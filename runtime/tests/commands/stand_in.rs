//! A release whose Python is a script: it answers what is installed, writes down how it was started, and then does as a
//! test says, in the place of LLaMA-Factory.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::bench::Bench;

/// What the script is.
const SCRIPT: &str = r#"#!/bin/sh
place=$(dirname "$0")/..
if [ "$1" = -c ]; then cat "$place/answer.json"; exit 0; fi
env -0 > "$place/environment"
printf '%s\n' "$@" > "$place/arguments"
cp "$4" "$place/job"
out=out
log() { printf '{"current_steps": %s, "total_steps": %s, "loss": %s, "lr": 0.001, "elapsed_time": "0:00:01", "remaining_time": "0:00:01"}\n' "$1" "$2" "$3" >> $out/trainer_log.jsonl; }
state() { printf '{"global_step": %s, "max_steps": %s}' "$1" "$2" > $out/trainer_state.json; }
. "$place/behaviour"
"#;

/// A run that goes well.
pub const LEARNS: &str = "echo '***** Running training *****'
log 1 3 2.5; log 2 3 2.0; log 3 3 1.5
state 3 3
printf '{\"train_loss\": 2.0}' > $out/all_results.json
";

/// A run that saves when it is asked to end.
pub const SAVES: &str = "trap 'asked=1' TERM
log 1 10 2.5
while [ -z \"$asked\" ]; do sleep 0.05; done
mkdir -p $out/checkpoint-1
state 1 10; cp $out/trainer_state.json $out/checkpoint-1
";

/// A run that nothing but force ends.
pub const DEAF: &str = "trap '' INT TERM
log 1 10 2.5
while :; do sleep 0.05; done
";

/// A bench with a release.
pub struct Release {
    pub bench: Bench,
}

impl Release {
    /// A release whose LLaMA-Factory does `behaviour`.
    pub fn new(behaviour: &str) -> Self {
        let release = Self {
            bench: Bench::new(),
        };
        release.answer(&[]);
        release.behaves(behaviour);
        release.bench.write("release/env/bin/python", SCRIPT);
        let program = release.bench.path("release/env/bin/python");
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir_all(release.bench.path("release/hub")).unwrap();
        release
    }

    pub fn behaves(&self, behaviour: &str) -> &Self {
        self.bench.write("release/env/behaviour", behaviour);
        self
    }

    /// Changes what is installed; a null takes a package away.
    pub fn answer(&self, more: &[(&str, Value)]) {
        let mut packages =
            json!({"llamafactory": "0.9.5", "torch": "2.13.0", "transformers": "5.6.0"});
        for (name, version) in more {
            packages[*name] = version.clone();
        }
        let packages = packages.as_object_mut().unwrap();
        packages.retain(|_, version| !version.is_null());
        let origin = packages
            .get("llamafactory")
            .map(|_| "/x/llamafactory/__init__.py");
        let library = self.bench.path("release/env/lib");
        let answer = json!({"version": "3.11.9", "packages": packages, "origin": origin, "libraries": [library]});
        // Python may say other things before it.
        let answer = format!("a warning\n{answer}\n");
        self.bench.write("release/env/answer.json", answer);
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.bench.command(arguments);
        command.env("FERRY_HOME", self.bench.path("release"));
        command.env("FERRY_CACHE", self.bench.path("cache"));
        command
    }

    /// Trains with LLaMA-Factory.
    pub fn train(&self, more: &[&str]) -> Command {
        self.command(
            &[
                &["--json", "train", "job.yaml", "--engine", "llamafactory"],
                more,
            ]
            .concat(),
        )
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Everything that is said, in both languages, without what differs from run to run.
    pub fn screens(&self, arguments: &[&str]) -> String {
        let mut screens = String::new();
        for language in ["en", "zh"] {
            let output = self.run(&[&["--lang", language], arguments].concat());
            screens.push_str(&format!("$ ferry-runtime {}\n", arguments.join(" ")));
            for bytes in [output.stdout, output.stderr] {
                screens.push_str(&String::from_utf8(bytes).unwrap());
            }
            screens.push_str(&format!("[status {}]\n\n", output.status.code().unwrap()));
        }
        let root = self.bench.path("");
        let screens = screens.replace(root.to_str().unwrap(), "[ROOT]/");
        // What the machine and the test have set differs.
        let own = [" PATH=", " LD_LIBRARY_PATH=", " OMP_WAIT_POLICY="];
        let lines = screens.lines().map(|line| format!("{line}\n"));
        lines
            .filter(|line| !own.iter().any(|name| line.contains(name)))
            .collect()
    }

    /// The words that LLaMA-Factory was started with.
    pub fn arguments(&self) -> Vec<String> {
        let text = fs::read_to_string(self.bench.path("release/env/arguments")).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// The environment that it was started in.
    pub fn environment(&self) -> BTreeMap<String, String> {
        let bytes = fs::read(self.bench.path("release/env/environment")).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
        pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// The job that it got: a line a key.
    pub fn job(&self) -> BTreeMap<String, Value> {
        let text = fs::read_to_string(self.bench.path("release/env/job")).unwrap();
        let lines = text.lines().map(|line| line.split_once(": ").unwrap());
        lines
            .map(|(key, value)| (key.to_owned(), serde_json::from_str(value).unwrap()))
            .collect()
    }
}

/// The last line of a program's JSON.
pub fn last(output: &Output) -> Value {
    let said = String::from_utf8(output.stdout.clone()).unwrap();
    let line = said
        .lines()
        .last()
        .unwrap_or_else(|| panic!("nothing was said: {output:?}"));
    serde_json::from_str(line).unwrap()
}
