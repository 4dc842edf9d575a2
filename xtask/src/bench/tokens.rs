//! Text into tokens beside `datasets.map` of LLaMA-Factory: the same records, tokenizer, template and settings, in one run.
//!
//! The original is timed from when its libraries are imported to when its examples are there; Ferry from the start of
//! the process to its end, and less what the same command takes for one record. Once with nothing kept from before, once more as
//! a second start.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::training::{converted, python};
use super::watch::{median, watched};
use crate::demo::{self, Language};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Python with LLaMA-Factory in it; made from `PyPI` (6 GB) where none is given
    #[arg(long)]
    python: Option<PathBuf>,
    /// A model's folder with a tokenizer; the demo's where none is given
    #[arg(long, requires = "runtime")]
    model: Option<PathBuf>,
    /// The runtime to measure; the demo's where none is given
    #[arg(long, requires = "model")]
    runtime: Option<PathBuf>,
    /// Records to tokenize
    #[arg(long, default_value_t = 20_000)]
    records: usize,
    /// Runs of each program; the medians are shown
    #[arg(long, default_value_t = 3)]
    runs: usize,
}

/// Times both programs and prints a table in Markdown.
pub(crate) fn run(args: &Args) -> Result<()> {
    let python = python(args.python.as_deref())?;
    let (runtime, model) = if let (Some(runtime), Some(model)) = (&args.runtime, &args.model) {
        (runtime.canonicalize()?, model.canonicalize()?)
    } else {
        let site = demo::install(Language::En)?;
        site.chat(None)?;
        (
            site.runtime(),
            converted(&site.prefix().join("cache/converted"))?,
        )
    };
    let place = std::env::temp_dir().join(format!("ferry-bench-tokens-{}", std::process::id()));
    fs::create_dir_all(place.join("data"))?;
    let characters = write_data(&place.join("data"), args.records)?;
    fs::write(place.join("measure.py"), MEASURE)?;
    let bench = Bench {
        python,
        runtime,
        model,
        place,
    };
    let measured = bench.compare(args, characters);
    fs::remove_dir_all(&bench.place)?;
    measured
}

struct Bench {
    python: PathBuf,
    runtime: PathBuf,
    model: PathBuf,
    place: PathBuf,
}

impl Bench {
    fn compare(&self, args: &Args, characters: usize) -> Result<()> {
        let cores = std::thread::available_parallelism()?.get();
        let (mut ours, mut theirs) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        let mut tokens = [0, 0];
        for _ in 0..args.runs.max(1) {
            let start = self.ours("max_samples=1", "fresh")?.0;
            for (at, mode) in ["fresh", "again"].into_iter().enumerate() {
                let (seconds, count) = self.ours("max_samples=null", mode)?;
                ours[at].push((seconds - start).max(1e-3));
                tokens[0] = count;
                let (seconds, count) = self.theirs(mode, cores)?;
                theirs[at].push(seconds);
                tokens[1] = count;
            }
        }
        anyhow::ensure!(
            tokens[0] == tokens[1],
            "Ferry made {} tokens, the original {}",
            tokens[0],
            tokens[1]
        );
        println!(
            "{} records, {characters} characters, {} tokens, {cores} cores",
            args.records, tokens[0]
        );
        println!();
        println!(
            "| start | Ferry s | LLaMA-Factory s | ratio | Ferry tokens/s | LLaMA-Factory tokens/s |"
        );
        println!("| --- | --- | --- | --- | --- | --- |");
        for (name, ours, theirs) in [
            ("first", &ours[0], &theirs[0]),
            ("second", &ours[1], &theirs[1]),
        ] {
            let (ours, theirs) = (median(ours.clone()), median(theirs.clone()));
            let rate = |seconds: f64| tokens[0] as f64 / seconds;
            println!(
                "| {name} | {ours:.2} | {theirs:.2} | {:.3} | {:.0} | {:.0} |",
                ours / theirs,
                rate(ours),
                rate(theirs)
            );
        }
        Ok(())
    }

    /// Seconds of a check of the job, which tokenizes all of it, and the tokens it counted.
    fn ours(&self, setting: &str, mode: &str) -> Result<(f64, u64)> {
        let kept = self.place.join("tokenized");
        if mode == "fresh" && kept.exists() {
            fs::remove_dir_all(&kept)?;
        }
        if mode == "again" && !kept.exists() {
            // A check writes nothing, so one step of training keeps the tokens.
            let mut train = self.runtime_command("train");
            train.args([setting, "max_steps=1"]);
            train.arg(format!("tokenized_path={}", kept.display()));
            train.stdout(fs::File::create(self.place.join("train.txt"))?);
            train.stderr(fs::File::create(self.place.join("train.log"))?);
            watched(&mut train, |_, _| {}).context("see train.log")?;
        }
        let said = self.place.join("said.txt");
        let mut check = self.runtime_command("check");
        check.args([setting, "num_train_epochs=1"]);
        if mode == "again" {
            check.arg(format!("tokenized_path={}", kept.display()));
        }
        check
            .stdout(fs::File::create(&said)?)
            .stderr(fs::File::create(self.place.join("check.log"))?);
        let cost = watched(&mut check, |_, _| {})?;
        let text = fs::read_to_string(&said)?;
        let last = text.lines().last().context("`check` said nothing")?;
        let result: Value = serde_json::from_str(last)?;
        let tokens = find(&result, "tokens").context("`check` counted no tokens")?;
        Ok((cost.seconds, tokens))
    }

    fn runtime_command(&self, command: &str) -> Command {
        let mut runtime = Command::new(&self.runtime);
        runtime.args([command, "--json", "job.yaml"]);
        runtime.env("FERRY_CACHE", self.place.join("cache"));
        // Each start is to tokenize: what the program keeps by itself is not measured here.
        let _absent = fs::remove_dir_all(self.place.join("cache/tokens"));
        runtime.current_dir(&self.place);
        let _written = fs::write(self.place.join("job.yaml"), self.job());
        runtime
    }

    fn job(&self) -> String {
        format!(
            "stage: sft\nmodel_name_or_path: {}\nfinetuning_type: lora\nlora_rank: 4\ntemplate: smollm2\n\
             dataset: texts\ndataset_dir: data\ncutoff_len: 1024\noutput_dir: out\noverwrite_output_dir: true\n\
             per_device_train_batch_size: 1\nsave_strategy: 'no'\nreport_to: none\n",
            self.model.display()
        )
    }

    /// Seconds that the original took, and the tokens it made.
    fn theirs(&self, mode: &str, cores: usize) -> Result<(f64, u64)> {
        let said = self.place.join("theirs.txt");
        let mut run = Command::new(&self.python);
        run.args(["measure.py", mode, &cores.to_string()])
            .arg(&self.model)
            .env("HF_HUB_OFFLINE", "1")
            .env("HF_DATASETS_CACHE", self.place.join("datasets"))
            .env("CUDA_VISIBLE_DEVICES", "")
            .current_dir(&self.place)
            .stdout(fs::File::create(&said)?)
            .stderr(fs::File::create(self.place.join("theirs.log"))?);
        watched(&mut run, |_, _| {}).context("LLaMA-Factory failed")?;
        let text = fs::read_to_string(&said)?;
        let last = text.lines().last().context("measure.py said nothing")?;
        let result: Value = serde_json::from_str(last)?;
        let seconds = result["seconds"].as_f64().context("no seconds")?;
        Ok((seconds, result["tokens"].as_u64().context("no tokens")?))
    }
}

/// The first number of this name, however deep.
fn find(value: &Value, name: &str) -> Option<u64> {
    match value {
        Value::Object(fields) => fields
            .get(name)
            .and_then(Value::as_u64)
            .or_else(|| fields.values().find_map(|field| find(field, name))),
        _ => None,
    }
}

/// Writes a dataset of made-up questions and answers in two languages; returns how many characters it has.
fn write_data(folder: &Path, records: usize) -> Result<usize> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut draw = |count: usize| {
        // xorshift: any spread does.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize % count
    };
    let mut text = String::new();
    let mut characters = 0;
    for number in 0..records {
        let mut say = |words: usize| {
            let mut said = String::new();
            for _ in 0..words {
                said.push_str(WORDS[draw(WORDS.len())]);
            }
            characters += said.chars().count();
            said
        };
        let (question, answer) = (say(20), say(120));
        let record = serde_json::json!({"instruction": format!("{number}. {question}"), "input": "", "output": answer});
        writeln!(text, "{record}")?;
    }
    fs::write(folder.join("texts.jsonl"), text)?;
    fs::write(
        folder.join("dataset_info.json"),
        r#"{"texts": {"file_name": "texts.jsonl"}}"#,
    )?;
    Ok(characters)
}

const WORDS: [&str; 24] = [
    "contract ",
    "the ",
    "party ",
    "shall ",
    "not ",
    "within ",
    "thirty ",
    "days ",
    "payment, ",
    "unless ",
    "otherwise ",
    "agreed.\n",
    "Seller's ",
    "obligations ",
    "under ",
    "clause 14.2 ",
    "合同",
    "甲方",
    "应当在",
    "三十日内",
    "支付",
    "违约金，",
    "但另有约定的除外。",
    "乙方",
];

/// What the original does before it trains, timed without its imports.
const MEASURE: &str = r#"
import json, sys, time
from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
from llamafactory.hparams import get_train_args
from llamafactory.model import load_tokenizer

mode, cores, model = sys.argv[1:4]
model_args, data_args, training_args, _, _ = get_train_args({
    "stage": "sft", "do_train": True, "model_name_or_path": model, "finetuning_type": "lora", "template": "smollm2",
    "dataset": "texts", "dataset_dir": "data", "cutoff_len": 1024, "output_dir": "theirs", "report_to": "none",
    "preprocessing_num_workers": int(cores), "overwrite_cache": mode == "fresh", "use_cpu": True,
    "dataloader_num_workers": 0,
})
loaded = load_tokenizer(model_args)
template = get_template_and_fix_tokenizer(loaded["tokenizer"], data_args)
began = time.time()
made = get_dataset(template, model_args, data_args, training_args, stage="sft", **loaded)["train_dataset"]
seconds = time.time() - began
print(json.dumps({"seconds": seconds, "tokens": sum(len(row) for row in made["input_ids"])}))
"#;
