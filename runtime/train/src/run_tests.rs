//! The loop with a trainer that only remembers.

use std::fs;
use std::path::Path;

use report::Recorder;

use super::*;
use crate::trainer::StepReport;

#[derive(Default)]
struct Fake<'a> {
    rates: Vec<f64>,
    micro: Vec<usize>,
    nan_at: Option<usize>,
    stop_at: Option<(usize, Option<&'a AtomicBool>)>,
}

impl Trainer for Fake<'_> {
    fn step(&mut self, batches: &[Batch], rate: f64) -> Result<StepReport, TrainError> {
        self.rates.push(rate);
        self.micro.push(batches.len());
        if let Some((at, Some(stop))) = self.stop_at
            && at == self.rates.len()
        {
            stop.store(true, Ordering::Relaxed);
        }
        let loss = if self.nan_at == Some(self.rates.len()) {
            f64::NAN
        } else {
            10.0 - self.rates.len() as f64
        };
        Ok(StepReport {
            loss,
            grad_norm: 1.0,
            tokens: 8,
        })
    }

    fn save(&mut self, folder: &Path) -> Result<(), TrainError> {
        fs::write(folder.join("weights"), self.rates.len().to_string()).unwrap();
        Ok(())
    }
}

fn job(folder: &Path, more: &str) -> Job {
    let text = format!(
        "model_name_or_path: m\ndataset: d\ntemplate: qwen\noutput_dir: {}\nlogging_steps: 2\n\
         per_device_train_batch_size: 2\ngradient_accumulation_steps: 2\n{more}",
        folder.join("out").display()
    );
    Job::parse("job.yaml", &text, &[]).unwrap()
}

fn examples(count: usize) -> Vec<Example> {
    let example = Example {
        input_ids: vec![1, 2],
        labels: vec![1, 2],
    };
    vec![example; count]
}

fn train(job: &Job, count: usize, fake: &mut Fake<'_>) -> Result<Summary, TrainError> {
    let never = AtomicBool::new(false);
    let stop = fake.stop_at.and_then(|(_, stop)| stop).unwrap_or(&never);
    let material = Material {
        examples: &examples(count),
        padding_id: 0,
        stop,
    };
    run(job, &material, fake, &Recorder::default())
}

#[test]
fn a_run_counts_logs_and_saves_as_the_original() {
    let folder = tempfile::tempdir().unwrap();
    let more = "num_train_epochs: 2\nplot_loss: true\nsave_steps: 2\nsave_total_limit: 2\n";
    let job = job(folder.path(), more);
    let mut fake = Fake::default();
    // 11 examples: 6 micro-batches, the last of one row; 3 steps an epoch.
    let summary = train(&job, 11, &mut fake).unwrap();
    assert_eq!((summary.steps, summary.stopped), (6, false));
    assert_eq!(fake.micro, [2; 6]);
    let out = folder.path().join("out");
    let log = fs::read_to_string(out.join("trainer_log.jsonl")).unwrap();
    let lines: Vec<Value> = log
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(lines.len(), 4, "{log}");
    assert_eq!(
        (&lines[0]["loss"], &lines[0]["current_steps"]),
        (&json!(8.5), &json!(2))
    );
    assert_eq!(lines[3].get("loss"), None);
    assert_eq!(lines[2]["epoch"], 2.0);
    assert_eq!(fs::read_to_string(out.join("weights")).unwrap(), "6");
    assert!(!out.join("checkpoint-2").exists(), "over the limit");
    assert_eq!(
        fs::read_to_string(out.join("checkpoint-4/weights")).unwrap(),
        "4"
    );
    let mut names: Vec<String> = fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "all_results.json",
            "checkpoint-4",
            "checkpoint-6",
            "job.json",
            "train_results.json",
            "trainer_log.jsonl",
            "trainer_state.json",
            "training_loss.png",
            "training_loss.svg",
            "weights"
        ]
    );
    let error = train(&job, 11, &mut fake).unwrap_err();
    assert!(matches!(error, TrainError::OutputTaken { .. }), "{error}");
}

#[test]
fn a_partial_epoch_and_max_steps_end_on_time() {
    let folder = tempfile::tempdir().unwrap();
    let job = job(folder.path(), "max_steps: 4\nsave_strategy: 'no'\n");
    let mut fake = Fake::default();
    // 5 examples: 3 micro-batches, so the second step of an epoch has one.
    train(&job, 5, &mut fake).unwrap();
    assert_eq!(fake.micro, [2, 1, 2, 1]);
}

#[test]
fn a_loss_that_is_no_number_ends_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut fake = Fake {
        nan_at: Some(3),
        ..Fake::default()
    };
    let error = train(&job(folder.path(), ""), 40, &mut fake).unwrap_err();
    assert!(
        matches!(error, TrainError::Diverged { step: 3, .. }),
        "{error}"
    );
}

#[test]
fn a_stop_saves_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let stop = AtomicBool::new(false);
    let mut fake = Fake {
        stop_at: Some((2, Some(&stop))),
        ..Fake::default()
    };
    let summary = train(&job(folder.path(), ""), 40, &mut fake).unwrap();
    assert_eq!((summary.steps, summary.stopped), (2, true));
    assert!(folder.path().join("out/weights").exists());
}

#[test]
fn no_examples_leave_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    let error = train(&job(folder.path(), ""), 0, &mut Fake::default()).unwrap_err();
    assert!(matches!(error, TrainError::NoExamples), "{error}");
    assert!(!folder.path().join("out").exists());
}

#[test]
fn times_read_as_in_the_original() {
    for (seconds, text) in [(62.9, "0:01:02"), (90_000.0, "1 day, 1:00:00")] {
        assert_eq!(clock(seconds), text);
    }
}
