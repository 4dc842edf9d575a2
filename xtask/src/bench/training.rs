//! Fine-tuning beside LLaMA-Factory: the same job, model, data and threads, in one run.
//!
//! Both train from the same folder, so both read the same safetensors; both write
//! `trainer_log.jsonl`, whose growth gives the step times. The runs alternate, so that a busy minute hurts both.

mod models;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use models::Model;

use super::watch::{median, watched};
use crate::demo::{self, Language};
use crate::{libtorch, paths, shell};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Python with LLaMA-Factory in it; made from `PyPI` (6 GB) where none is given
    #[arg(long)]
    python: Option<PathBuf>,
    /// Runs of each program and job; the medians are shown
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Optimizer steps of each run
    #[arg(long, default_value_t = 12)]
    steps: u32,
    /// Threads of each program
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// What is trained (can be repeated)
    #[arg(long, default_value = "demo")]
    model: Vec<Model>,
}

/// What is trained, as lines of a job file.
const JOBS: [(&str, &str); 2] = [
    (
        "LoRA r 16, all linear layers",
        "finetuning_type: lora\nlora_rank: 16\nlora_alpha: 32\nlora_target: all\nlearning_rate: 1.0e-3\n",
    ),
    ("full", "finetuning_type: full\nlearning_rate: 1.0e-5\n"),
];

/// Times both programs and prints a table in Markdown.
pub(crate) fn run(args: &Args) -> Result<()> {
    let python = python(args.python.as_deref())?;
    let site = demo::install(Language::En)?;
    let runtime = site.runtime();
    // The first use converts the model; that is done once on a site, and not by the original at all.
    site.chat(None)?;
    let demo = converted(&site.prefix().join("cache/converted"))?;
    let place = site.place().join("bench");
    fs::create_dir_all(&place)?;
    for model in &args.model {
        let bench = Bench {
            args,
            model: model.folder(&demo, &place)?,
            datasets: site.prefix().join("current/datasets"),
            place: place.clone(),
        };
        println!("\n{}\n", model.name());
        bench.compare(&runtime, &python)?;
    }
    Ok(())
}

/// `given`, or a Python environment with the release that the golden traces were made with.
pub(crate) fn python(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let uv = libtorch::uv()?;
    let place = paths::cache()?.join("llamafactory-0.9.5");
    let python = place.join("bin/python");
    if place.join("complete").exists() {
        return Ok(python);
    }
    eprintln!("installing LLaMA-Factory 0.9.5 from PyPI (6 GB)");
    let mut venv = shell::command(&uv);
    shell::run(
        venv.args(["venv", "--clear", "--python", "3.11"])
            .arg(&place),
    )?;
    let mut install = shell::command(&uv);
    install.args(["pip", "install", "--python"]).arg(&python);
    // Without the second pin, the newest torch comes, which does not agree with the newest torchaudio.
    shell::run(install.args(["llamafactory==0.9.5", "torch==2.13.0"]))?;
    fs::write(place.join("complete"), "")?;
    Ok(python)
}

/// The one folder that the runtime converted.
pub(crate) fn converted(cache: &Path) -> Result<PathBuf> {
    let folders =
        fs::read_dir(cache).with_context(|| format!("cannot read {}", cache.display()))?;
    for folder in folders {
        let folder = folder?.path();
        if folder.join("config.json").exists() {
            return Ok(folder);
        }
    }
    bail!("{} holds no converted model", cache.display())
}

struct Bench<'a> {
    args: &'a Args,
    model: PathBuf,
    datasets: PathBuf,
    place: PathBuf,
}

impl Bench<'_> {
    /// Runs each job by both programs and prints a table.
    fn compare(&self, runtime: &Path, python: &Path) -> Result<()> {
        println!(
            "| job | program | before first step s | first step done s | tokens per CPU s | tokens per s | peak MB | first loss | last loss |"
        );
        println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
        for (name, keys) in JOBS {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for _ in 0..self.args.runs.max(1) {
                ours.push(self.measure(Command::new(runtime).arg("train"), keys)?);
                let mut command = Command::new(python);
                command.args(["-m", "llamafactory.cli", "train"]);
                command.env("HF_HUB_OFFLINE", "1");
                command.env("CUDA_VISIBLE_DEVICES", "");
                theirs.push(self.measure(&mut command, keys)?);
            }
            let (ours, theirs) = (Measured::median(&ours), Measured::median(&theirs));
            println!("| {name} | Ferry | {ours} |");
            println!("| {name} | LLaMA-Factory | {theirs} |");
            println!(
                "| {name} | ratio | {:.3} | {:.3} | {:.2} | {:.2} | {:.2} | | |",
                ours.ready / theirs.ready,
                ours.first_step / theirs.first_step,
                ours.per_cpu_second / theirs.per_cpu_second,
                ours.per_second / theirs.per_second,
                ours.peak_mb / theirs.peak_mb,
            );
        }
        Ok(())
    }

    /// Runs `train` with a job file and watches it.
    fn measure(&self, train: &mut Command, keys: &str) -> Result<Measured> {
        let output = self.place.join("output");
        if output.exists() {
            fs::remove_dir_all(&output)?;
        }
        let job = self.place.join("job.yaml");
        fs::write(&job, self.job(keys, &output))?;
        let said = self.place.join("log.txt");
        let log = fs::File::create(&said)?;
        let threads = self.args.threads.to_string();
        train
            .arg(&job)
            .env("OMP_NUM_THREADS", &threads)
            .env("MKL_NUM_THREADS", &threads)
            .current_dir(&self.place)
            .stdout(log.try_clone()?)
            .stderr(log);
        follow(train, &output, &said).with_context(|| format!("see {}", said.display()))
    }

    fn job(&self, keys: &str, output: &Path) -> String {
        format!(
            "stage: sft\ndo_train: true\nmodel_name_or_path: {model}\ntemplate: smollm2\ndataset: identity\n\
             dataset_dir: {datasets}\ncutoff_len: 512\noverwrite_cache: true\npreprocessing_num_workers: 1\n\
             output_dir: {output}\noverwrite_output_dir: true\nlogging_steps: 1\nsave_strategy: 'no'\nreport_to: none\n\
             per_device_train_batch_size: 4\ngradient_accumulation_steps: 1\nlr_scheduler_type: cosine\n\
             max_steps: {steps}\nseed: 42\ndisable_shuffling: true\nuse_cpu: true\n\
             include_num_input_tokens_seen: true\n{keys}",
            model = self.model.display(),
            datasets = self.datasets.display(),
            output = output.display(),
            steps = self.args.steps,
        )
    }
}

/// One run, or the median of several.
struct Measured {
    /// Seconds from the start of the process until it begins to train: the time before the first step.
    ready: f64,
    /// Seconds from the start of the process to the first step's line in the log.
    first_step: f64,
    /// Tokens per second of processor time, over the steps after the first.
    per_cpu_second: f64,
    /// Tokens per second, over the steps after the first.
    per_second: f64,
    /// Greatest resident memory.
    peak_mb: f64,
    first_loss: f64,
    last_loss: f64,
}

impl Measured {
    fn median(runs: &[Self]) -> Self {
        let of = |field: fn(&Self) -> f64| median(runs.iter().map(field).collect());
        Self {
            ready: of(|run| run.ready),
            first_step: of(|run| run.first_step),
            per_cpu_second: of(|run| run.per_cpu_second),
            per_second: of(|run| run.per_second),
            peak_mb: of(|run| run.peak_mb),
            first_loss: of(|run| run.first_loss),
            last_loss: of(|run| run.last_loss),
        }
    }
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:.2} | {:.2} | {:.0} | {:.0} | {:.0} | {:.4} | {:.4}",
            self.ready,
            self.first_step,
            self.per_cpu_second,
            self.per_second,
            self.peak_mb,
            self.first_loss,
            self.last_loss
        )
    }
}

/// What the log said, and when.
struct Step {
    seconds: f64,
    cpu: f64,
    tokens: f64,
    loss: f64,
}

/// Whether a run has begun to train: Ferry then writes the job that it carries out, and the original says so, both right
/// before the first step.
fn has_begun(output: &Path, said: &Path) -> bool {
    output.join("job.json").exists()
        || fs::read_to_string(said).is_ok_and(|text| text.contains("***** Running training *****"))
}

/// Follows a run, what it has `said`, and the log in its `output` to the end.
fn follow(train: &mut Command, output: &Path, said: &Path) -> Result<Measured> {
    let log = output.join("trainer_log.jsonl");
    let mut ready = None;
    let mut steps = BTreeMap::new();
    let cost = watched(train, |seconds, cpu| {
        if ready.is_none() && has_begun(output, said) {
            ready = Some(seconds);
        }
        let text = fs::read_to_string(&log).unwrap_or_default();
        for (at, line) in text.lines().enumerate() {
            let Ok(line) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            if let Some(loss) = line["loss"].as_f64() {
                let tokens = line["total_tokens"].as_f64().unwrap_or(0.0);
                steps.entry(at).or_insert(Step {
                    seconds,
                    cpu,
                    tokens,
                    loss,
                });
            }
        }
    })?;
    let steps: Vec<Step> = steps.into_values().collect();
    let [first, .., last] = steps.as_slice() else {
        bail!("{} holds fewer than two steps", log.display());
    };
    let tokens = last.tokens - first.tokens;
    Ok(Measured {
        ready: ready.context("the run never said that it begins to train")?,
        first_step: first.seconds,
        per_cpu_second: tokens / (last.cpu - first.cpu),
        per_second: tokens / (last.seconds - first.seconds),
        peak_mb: cost.peak_mb,
        first_loss: first.loss,
        last_loss: last.loss,
    })
}
