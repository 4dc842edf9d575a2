//! A folder with a model, data and a job, and a way to run the program in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// A job folder: `model/`, `data/` and `job.yaml`. The program runs in it, so its messages hold relative paths.
pub struct Bench(TempDir);

/// Two small conversations.
pub const DATA: &str = r#"[
  {"instruction": "What is the capital of France?", "output": "Paris."},
  {"instruction": "中国的首都是哪里？", "output": "北京。"}
]
"#;

pub const JOB: &str = "model_name_or_path: model
dataset: capitals
template: qwen
output_dir: out
lora_rank: 4
per_device_train_batch_size: 1
logging_steps: 1
num_train_epochs: 2
report_to: none
";

/// Long enough for the slowest machine; what is waited for comes in a second or two.
const LONGEST: Duration = Duration::from_secs(120);

/// Waits until `found` finds something.
pub fn wait<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(began.elapsed() < LONGEST, "no {what}");
        sleep(Duration::from_millis(20));
    }
}

pub fn golden(rest: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/golden")
        .join(rest)
}

/// Runs a command that must succeed, and returns the result that it ends with.
pub fn result(command: &mut Command) -> Value {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    serde_json::from_str(said.lines().last().unwrap()).unwrap()
}

/// A bench with the golden data in `data/`.
#[cfg(feature = "native")]
pub fn with_golden_data() -> Bench {
    let bench = Bench::new();
    for entry in fs::read_dir(golden("data")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        bench.write(&format!("data/{name}"), fs::read(&path).unwrap());
    }
    bench
}

impl Bench {
    pub fn new() -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        for name in [
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
        ] {
            let bytes = fs::read(golden("model").join(name)).unwrap();
            bench.write(&format!("model/{name}"), bytes);
        }
        let info = r#"{"capitals": {"file_name": "capitals.json"}}"#;
        bench.write("data/dataset_info.json", info);
        bench.write("data/capitals.json", DATA);
        bench.write("job.yaml", JOB);
        bench
    }

    /// The golden data and the job of a golden run.
    #[cfg(feature = "native")]
    pub fn golden(run: &str) -> Self {
        let bench = with_golden_data();
        bench.write(
            "job.yaml",
            fs::read(golden(&format!("configs/{run}.yaml"))).unwrap(),
        );
        bench
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Copies a folder of the repository into the bench.
    #[cfg(feature = "native")]
    pub fn copy(&self, from: &Path, to: &str) {
        for entry in fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            let to = format!("{to}/{}", path.file_name().unwrap().to_str().unwrap());
            if path.is_dir() {
                self.copy(&path, &to);
            } else {
                self.write(&to, fs::read(&path).unwrap());
            }
        }
    }

    /// The usual job with more lines.
    pub fn job(&self, more: &str) -> &Self {
        self.write("job.yaml", format!("{JOB}{more}"));
        self
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ferry-runtime"));
        command
            .args(arguments)
            .current_dir(self.0.path())
            .env_clear()
            .env("HOME", self.path("home"))
            .env("OMP_NUM_THREADS", "1");
        // Where libtorch lies is the machine's business, not the test's.
        for name in ["LD_LIBRARY_PATH", "PATH"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
    }

    /// A program of the machine.
    #[cfg(feature = "native")]
    pub fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command.current_dir(self.0.path());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Everything that a run says, and whether it left an output folder.
    pub fn screen(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let mut screen = format!("$ ferry-runtime {}\n", arguments.join(" "));
        screen.push_str(&text(&output.stdout));
        screen.push_str(&text(&output.stderr));
        screen.push_str(&format!(
            "[status {}{}]\n",
            output.status.code().unwrap(),
            if self.path("out").exists() {
                ", left an output folder"
            } else {
                ""
            }
        ));
        steady(&screen)
    }

    /// The same in English and in Chinese.
    pub fn screens(&self, arguments: &[&str]) -> String {
        let said = |language| {
            let mut all = vec!["--lang", language];
            all.extend(arguments);
            self.screen(&all)
        };
        format!("{}\n{}", said("en"), said("zh"))
    }
}

/// Takes out what differs between machines: free memory and threads.
fn steady(screen: &str) -> String {
    let mut steady = String::new();
    for line in screen.lines() {
        let mut line = line.to_owned();
        if line.starts_with("device ") || line.starts_with("设备") {
            continue;
        }
        for (start, end) in [
            ("at the peak; ", " are free"),
            ("；可用 ", ""),
            ("\"available\":", "}"),
            ("\"threads\":", ","),
        ] {
            if let Some((before, rest)) = line.split_once(start) {
                let after = if end.is_empty() {
                    ""
                } else {
                    rest.find(end).map_or("", |at| &rest[at..])
                };
                line = format!("{before}{start}[MACHINE]{after}");
            }
        }
        steady.push_str(&line);
        steady.push('\n');
    }
    steady
}
