//! The loop with a trainer that computes next to nothing.

use std::fs;
use std::path::Path;

use report::Recorder;
use serde_json::json;
use train_data::Example;

use super::*;

/// One weight with momentum, and a loss that falls with the number of steps.
#[derive(Default)]
struct Fake<'a> {
    rates: Vec<f64>,
    micro: Vec<usize>,
    weight: f64,
    momentum: f64,
    nan_at: Option<usize>,
    fail_save_at: Option<usize>,
    stop_at: Option<(usize, Option<&'a AtomicBool>)>,
    /// Evaluation losses to come.
    evaluations: Vec<f64>,
}

impl Trainer for Fake<'_> {
    fn step(&mut self, batches: &[Batch], rate: f64) -> Result<StepReport, TrainError> {
        self.rates.push(rate);
        self.micro.push(batches.len());
        let ids: i64 = batches.iter().flat_map(|batch| &batch.input_ids).sum();
        self.momentum = 0.9 * self.momentum + ids as f64 * 0.1;
        self.weight += rate * self.momentum;
        if let Some((at, Some(stop))) = self.stop_at
            && at == self.rates.len()
        {
            stop.store(true, Ordering::Relaxed);
        }
        let loss = if self.nan_at == Some(self.rates.len()) {
            f64::NAN
        } else {
            10.0 - self.rates.len() as f64 + self.weight.sin() / 100.0
        };
        Ok(StepReport {
            loss,
            grad_norm: 1.0,
            skipped: false,
            tokens: 8,
            metrics: vec![("rewards/accuracies", loss)],
        })
    }

    fn evaluate(&mut self, _batch: &Batch) -> Result<f64, TrainError> {
        Ok(if self.evaluations.is_empty() {
            1.0
        } else {
            self.evaluations.remove(0)
        })
    }

    fn save(&mut self, folder: &Path) -> Result<(), TrainError> {
        if self.fail_save_at == Some(self.rates.len()) {
            return Err(TrainError::NoExamples);
        }
        fs::write(folder.join("weights"), self.weight.to_string()).unwrap();
        fs::write(folder.join("steps"), self.rates.len().to_string()).unwrap();
        Ok(())
    }

    fn save_state(&mut self, folder: &Path) -> Result<(), TrainError> {
        fs::write(folder.join("momentum"), self.momentum.to_string()).unwrap();
        Ok(())
    }

    fn load(&mut self, folder: &Path, state: bool) -> Result<(), TrainError> {
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        self.weight = read("weights").parse().unwrap();
        self.rates = vec![0.0; read("steps").parse().unwrap()];
        if state {
            self.momentum = read("momentum").parse().unwrap();
        }
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

fn examples(count: usize) -> Vec<Item> {
    let example = |id: usize| Example {
        input_ids: vec![id as u32, 2],
        labels: vec![id as i64, 2],
        packed: None,
    };
    (0..count).map(example).map(Item::Single).collect()
}

fn train(job: &Job, count: usize, fake: &mut Fake<'_>) -> Result<Summary, TrainError> {
    let never = AtomicBool::new(false);
    let stop = fake.stop_at.and_then(|(_, stop)| stop).unwrap_or(&never);
    let material = Material {
        items: &examples(count),
        stream: None,
        eval_items: &examples(3),
        eval_parts: &[],
        padding_id: 0,
        threads: 1,
        stop,
        peers: &crate::Alone,
    };
    run(job, &material, fake, &Recorder::default())
}

fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join("out").join(name)).unwrap()
}

fn checkpoints(folder: &Path) -> Vec<u64> {
    checkpoint::steps(&folder.join("out"))
}

#[test]
fn a_run_counts_logs_and_saves_as_the_original() {
    let folder = tempfile::tempdir().unwrap();
    let more = "num_train_epochs: 2\nplot_loss: true\nsave_steps: 2\nsave_total_limit: 2\n";
    let job = job(folder.path(), more);
    let mut fake = Fake::default();
    // 11 examples: 6 micro-batches, the last of one row; 3 steps an epoch.
    let summary = train(&job, 11, &mut fake).unwrap();
    assert_eq!((summary.steps, summary.ending), (6, Ending::Done));
    assert_eq!(fake.micro, [2; 6]);
    let out = folder.path().join("out");
    let log = fs::read_to_string(out.join("trainer_log.jsonl")).unwrap();
    let lines: Vec<Value> = log
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(lines.len(), 4, "{log}");
    assert_eq!(
        (
            lines[0]["loss"].as_f64().unwrap().round() as u64,
            &lines[0]["current_steps"]
        ),
        (9, &json!(2))
    );
    assert_eq!(lines[3].get("loss"), None);
    assert_eq!(lines[2]["epoch"], 2.0);
    assert_eq!(read(folder.path(), "steps"), "6");
    assert_eq!(checkpoints(folder.path()), [4, 6], "2 is over the limit");
    assert_eq!(read(folder.path(), "checkpoint-4/steps"), "4");
    let state: Value = serde_json::from_str(&read(folder.path(), "trainer_state.json")).unwrap();
    assert!(state["log_history"][0]["rewards/accuracies"].is_f64());
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
            "run.json",
            "run.lock",
            "steps",
            "train_results.json",
            "trainer_log.jsonl",
            "trainer_state.json",
            "training_loss.png",
            "training_loss.svg",
            "weights"
        ]
    );
}

#[test]
fn a_folder_of_something_else_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("thesis.txt"), "years of work").unwrap();
    let error = train(&job(folder.path(), ""), 11, &mut Fake::default()).unwrap_err();
    assert!(matches!(error, TrainError::OutputTaken { .. }), "{error}");
    assert_eq!(fs::read_dir(&out).unwrap().count(), 1);
}

#[test]
fn a_run_that_cannot_begin_to_write_is_seen_to_have_failed() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    fs::create_dir_all(out.join("trainer_log.jsonl")).unwrap();
    let job = job(folder.path(), "overwrite_output_dir: true\n");
    let error = train(&job, 11, &mut Fake::default()).unwrap_err();
    assert!(matches!(error, TrainError::Write { .. }), "{error}");
    let record = crate::Record::of(&out).unwrap().unwrap();
    assert_eq!(record.state, crate::State::Failed);
    assert_eq!(record.failure.unwrap().code, "train.write");
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
    assert_eq!((summary.steps, summary.ending), (2, Ending::Stopped));
    assert!(folder.path().join("out/weights").exists());
    assert_eq!(checkpoints(folder.path()), [2]);
    let again = train(&job(folder.path(), ""), 40, &mut Fake::default()).unwrap();
    assert_eq!((again.resumed_at, again.ending), (2, Ending::Done));
}

#[test]
fn no_examples_leave_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    let error = train(&job(folder.path(), ""), 0, &mut Fake::default()).unwrap_err();
    assert!(matches!(error, TrainError::NoExamples), "{error}");
    assert!(!folder.path().join("out").exists());
}

/// Everything of two runs that must not differ.
fn same(one: &Path, other: &Path) {
    for name in ["weights", "checkpoint-20/momentum"] {
        assert_eq!(read(one, name), read(other, name), "{name}");
    }
    let history = |folder| -> Vec<Value> {
        let state: Value = serde_json::from_str(&read(folder, "trainer_state.json")).unwrap();
        let points = state["log_history"].as_array().unwrap().clone();
        points
            .into_iter()
            .filter(|p| p.get("loss").is_some())
            .collect()
    };
    assert_eq!(history(one), history(other));
    let steps = |folder| -> Vec<u64> {
        let log = read(folder, "trainer_log.jsonl");
        let lines = log
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines
            .map(|line| line["current_steps"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(steps(one), steps(other));
}

#[test]
fn a_run_that_was_cut_off_anywhere_ends_as_if_it_had_not_been() {
    let whole = tempfile::tempdir().unwrap();
    let more = "max_steps: 20\nsave_steps: 3\nlearning_rate: 0.1\n";
    let expected = train(&job(whole.path(), more), 11, &mut Fake::default()).unwrap();
    for cut in [1, 2, 3, 7, 12, 13, 19] {
        let folder = tempfile::tempdir().unwrap();
        let job = job(folder.path(), more);
        let mut fake = Fake {
            nan_at: Some(cut + 1),
            ..Fake::default()
        };
        train(&job, 11, &mut fake).unwrap_err();
        let before = cut as u64 / 3 * 3;
        assert_eq!(
            checkpoints(folder.path()).last().copied().unwrap_or(0),
            before
        );
        if before == 0 {
            continue;
        }
        let summary = train(&job, 11, &mut Fake::default()).unwrap();
        assert_eq!((summary.steps, summary.resumed_at), (20, before), "{cut}");
        assert_eq!(summary.losses, expected.losses, "{cut}");
        same(folder.path(), whole.path());
    }
}

#[test]
fn a_checkpoint_that_cannot_be_written_leaves_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let job = job(folder.path(), "max_steps: 9\nsave_steps: 3\n");
    let mut fake = Fake {
        fail_save_at: Some(6),
        ..Fake::default()
    };
    train(&job, 11, &mut fake).unwrap_err();
    assert_eq!(checkpoints(folder.path()), [3]);
    assert_eq!(Point::of(&job).unwrap().unwrap().step(), 3);
    let summary = train(&job, 11, &mut Fake::default()).unwrap();
    assert_eq!((summary.steps, summary.resumed_at), (9, 3));
    let left = fs::read_dir(folder.path().join("out")).unwrap();
    let left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(left.filter(|name| name.starts_with('.')).count(), 0);
}

#[test]
fn going_on_is_refused_where_it_would_not_be_the_same_run() {
    let folder = tempfile::tempdir().unwrap();
    let more = "max_steps: 6\nsave_steps: 3\n";
    train(&job(folder.path(), more), 11, &mut Fake::default()).unwrap();
    let point = folder.path().join("out/checkpoint-3");
    let resume = |extra: &str, count: usize| {
        let text = format!("{more}resume_from_checkpoint: {}\n{extra}", point.display());
        train(&job(folder.path(), &text), count, &mut Fake::default())
    };
    for (extra, count, expected) in [
        ("", 12, "another examples: 11; the job has 12"),
        ("seed: 7\n", 11, "another data_seed: 42; the job has 7"),
        ("disable_shuffling: true\n", 11, "another disable_shuffling"),
    ] {
        let error = resume(extra, count).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    // What may change, such as the rate, is taken from the job.
    let summary = resume("learning_rate: 0.5\n", 11).unwrap();
    assert_eq!((summary.steps, summary.resumed_at), (6, 3));
    fs::write(point.join("weights"), "").unwrap();
    let error = resume("", 11).unwrap_err().to_string();
    assert!(error.contains("found `weights` of 0 bytes"), "{error}");
    let none = tempfile::tempdir().unwrap();
    let job = job(none.path(), "resume_from_checkpoint: true\n");
    let error = train(&job, 11, &mut Fake::default()).unwrap_err();
    assert!(matches!(error, TrainError::NoCheckpoint { .. }), "{error}");
    assert!(!none.path().join("out").exists());
}

#[test]
fn overwriting_starts_anew_and_leaves_no_old_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let long = job(folder.path(), "max_steps: 9\nsave_steps: 3\n");
    train(&long, 11, &mut Fake::default()).unwrap();
    let short = "max_steps: 2\nsave_steps: 2\noverwrite_output_dir: true\nsave_only_model: true\n";
    let summary = train(&job(folder.path(), short), 11, &mut Fake::default()).unwrap();
    assert_eq!((summary.steps, summary.resumed_at), (2, 0));
    assert_eq!(checkpoints(folder.path()), [2]);
    let error = train(&long, 11, &mut Fake::default()).unwrap_err();
    assert!(
        matches!(error, TrainError::BadCheckpoint { .. }),
        "weights only: {error}"
    );
}

#[test]
fn the_best_checkpoint_is_kept_and_waiting_ends() {
    let folder = tempfile::tempdir().unwrap();
    let more = "max_steps: 20\nsave_steps: 2\nsave_total_limit: 1\neval_strategy: steps\neval_steps: 2\n\
                val_size: 3\nload_best_model_at_end: true\nearly_stopping_steps: 2\nplot_loss: true\n";
    let mut fake = Fake {
        evaluations: vec![3.0, 2.0, 2.5, 2.0],
        ..Fake::default()
    };
    let summary = train(&job(folder.path(), more), 40, &mut fake).unwrap();
    assert_eq!((summary.steps, summary.ending), (8, Ending::NoProgress));
    assert_eq!(summary.best_step, Some(4));
    assert_eq!(checkpoints(folder.path()), [4, 8]);
    assert_eq!(
        read(folder.path(), "steps"),
        "4",
        "the best weights are the result"
    );
    assert_eq!(summary.evaluations[..2], [(2, 3.0), (4, 2.0)]);
    assert!(folder.path().join("out/training_eval_loss.svg").exists());
    let results: Value = serde_json::from_str(&read(folder.path(), "eval_results.json")).unwrap();
    assert_eq!(results["eval_loss"], 1.0);
    let log = read(folder.path(), "trainer_log.jsonl");
    assert_eq!(
        log.lines()
            .filter(|line| line.contains("eval_loss"))
            .count(),
        5
    );
}

#[test]
fn the_end_of_a_run_is_evaluated_and_may_be_the_best() {
    for (how, evaluated) in [
        (
            "eval_strategy: steps\neval_steps: 2\nsave_steps: 2\n",
            vec![2, 4, 5],
        ),
        // Five steps are an epoch and a half.
        ("eval_strategy: epoch\nsave_strategy: epoch\n", vec![3, 5]),
        (
            "eval_strategy: steps\neval_steps: 0.3\nsave_steps: 0.6\n",
            vec![2, 4, 5],
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let more = format!("max_steps: 5\nval_size: 3\nload_best_model_at_end: true\n{how}");
        let mut losses = vec![3.0; evaluated.len()];
        *losses.last_mut().unwrap() = 2.0;
        let mut fake = Fake {
            evaluations: losses,
            ..Fake::default()
        };
        let summary = train(&job(folder.path(), &more), 11, &mut fake).unwrap();
        let steps: Vec<u64> = summary.evaluations.iter().map(|(step, _)| *step).collect();
        // And once more when all is done.
        assert_eq!(steps[..evaluated.len()], evaluated, "{how}");
        assert_eq!(
            (summary.best_step, summary.ending),
            (Some(5), Ending::Done),
            "{how}"
        );
        assert_eq!(checkpoints(folder.path()).last(), Some(&5), "{how}");
    }
}

#[test]
fn a_best_checkpoint_that_nobody_asked_for_takes_no_room() {
    let folder = tempfile::tempdir().unwrap();
    let more = "max_steps: 6\nsave_steps: 2\nsave_total_limit: 1\neval_strategy: steps\neval_steps: 2\nval_size: 3\n";
    let mut fake = Fake {
        evaluations: vec![1.0, 2.0, 3.0],
        ..Fake::default()
    };
    train(&job(folder.path(), more), 11, &mut fake).unwrap();
    assert_eq!(checkpoints(folder.path()), [6]);
}

#[test]
fn a_rate_that_waits_for_the_loss_falls_and_is_remembered() {
    let more = "max_steps: 12\nsave_steps: 4\neval_strategy: steps\neval_steps: 2\nval_size: 3\nlearning_rate: 1.0\n\
                lr_scheduler_type: reduce_lr_on_plateau\nlr_scheduler_kwargs: {patience: 0, factor: 0.5}\n";
    let seen = |from: usize| Fake {
        evaluations: [3.0, 4.0, 2.0, 2.0, 1.0, 1.0][from..].to_vec(),
        ..Fake::default()
    };
    let whole = tempfile::tempdir().unwrap();
    let mut fake = seen(0);
    train(&job(whole.path(), more), 11, &mut fake).unwrap();
    assert_eq!(
        fake.rates,
        [
            1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25
        ]
    );
    let cut = tempfile::tempdir().unwrap();
    let mut first = Fake {
        nan_at: Some(9),
        ..seen(0)
    };
    train(&job(cut.path(), more), 11, &mut first).unwrap_err();
    let mut rest = seen(4);
    let summary = train(&job(cut.path(), more), 11, &mut rest).unwrap();
    assert_eq!(
        (summary.resumed_at, &rest.rates[8..]),
        (8, &fake.rates[8..])
    );
}

/// Trains on a stream of `records` records with a buffer of eight.
fn train_streamed(
    job: &Job,
    folder: &Path,
    records: usize,
    fake: &mut Fake<'_>,
) -> Result<Summary, TrainError> {
    let list = r#"{"d": {"file_name": "d.jsonl"}}"#;
    fs::write(folder.join("dataset_info.json"), list).unwrap();
    let lines: Vec<String> = (0..records)
        .map(|number| json!({"instruction": number.to_string(), "output": "a"}).to_string())
        .collect();
    fs::write(folder.join("d.jsonl"), lines.join("\n")).unwrap();
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/model");
    let tokenizer = train_data::Tokenizer::from_folder(Path::new(model)).unwrap();
    let names = ["d".to_owned()];
    let request = train_data::Request {
        folder,
        names: &names,
        eval_names: &[],
        eval_apart: false,
        mix: job.data.mix.clone(),
        max_samples: None,
        stage: job.data.stage,
        packing: job.data.packing,
        chunk: 5,
        workers: 1,
        overlap: None,
        held_out: job.evaluation.held_out,
        text_end: None,
        seed: job.seed,
    };
    let settings = train_data::EncodeSettings {
        template: train_data::Template::named("empty").unwrap(),
        cutoff_len: 64,
        train_on_prompt: false,
        mask_history: false,
        enable_thinking: true,
        tool_date: "",
    };
    let streaming = job.data.streaming.unwrap();
    let stream = Streamed::open(&request, &tokenizer, &settings, streaming)?;
    let never = AtomicBool::new(false);
    let stop = fake.stop_at.and_then(|(_, stop)| stop).unwrap_or(&never);
    let material = Material {
        items: &[],
        stream: Some(&stream),
        eval_items: stream.eval_items(),
        eval_parts: &[],
        padding_id: 0,
        threads: 1,
        stop,
        peers: &crate::Alone,
    };
    run(job, &material, fake, &Recorder::default())
}

#[test]
fn a_stream_goes_on_from_a_checkpoint_over_the_end_of_an_epoch() {
    let more = "streaming: true\nbuffer_size: 8\nval_size: 2\nmax_steps: 11\nsave_steps: 1\n";
    let whole = tempfile::tempdir().unwrap();
    let data = tempfile::tempdir().unwrap();
    let mut fake = Fake::default();
    // Thirteen to train on: three whole steps and one of a single example in every epoch.
    let summary = train_streamed(&job(whole.path(), more), data.path(), 15, &mut fake).unwrap();
    assert_eq!((summary.steps, summary.planned), (11, 11));
    assert_eq!(fake.micro, [2, 2, 2, 1, 2, 2, 2, 1, 2, 2, 2]);
    for cut in [1, 3, 4, 5, 8] {
        let folder = tempfile::tempdir().unwrap();
        let stop = AtomicBool::new(false);
        let mut fake = Fake {
            stop_at: Some((cut, Some(&stop))),
            ..Fake::default()
        };
        let job = job(folder.path(), more);
        let first = train_streamed(&job, data.path(), 15, &mut fake).unwrap();
        assert_eq!((first.steps, first.ending), (cut as u64, Ending::Stopped));
        let rest = train_streamed(&job, data.path(), 15, &mut Fake::default()).unwrap();
        assert_eq!(rest.losses, summary.losses, "{cut}");
        assert_eq!(
            read(folder.path(), "weights"),
            read(whole.path(), "weights")
        );
    }
    // Another file is another run.
    let again = format!("{more}overwrite_output_dir: false\nresume_from_checkpoint: true\n");
    let error = train_streamed(
        &job(whole.path(), &again),
        data.path(),
        16,
        &mut Fake::default(),
    );
    assert!(
        matches!(error, Err(TrainError::ResumeMismatch { .. })),
        "{error:?}"
    );
}

#[test]
fn a_stream_without_examples_ends_with_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let more = "streaming: true\nval_size: 3\nmax_steps: 2\n";
    let job = job(folder.path(), more);
    let error = train_streamed(&job, folder.path(), 3, &mut Fake::default()).unwrap_err();
    assert!(matches!(error, TrainError::NoExamples), "{error}");
    let error = train_streamed(&job, folder.path(), 0, &mut Fake::default()).unwrap_err();
    assert!(matches!(error, TrainError::Data(_)), "{error}");
}

#[test]
fn a_batch_without_labels_does_not_better_the_evaluation_loss() {
    let folder = tempfile::tempdir().unwrap();
    let more =
        "val_size: 3\neval_strategy: epoch\nnum_train_epochs: 1\nper_device_eval_batch_size: 1\n";
    let mut fake = Fake {
        evaluations: vec![4.0, 2.0],
        ..Fake::default()
    };
    let mut eval_items = examples(3);
    eval_items[1] = Item::Single(Example {
        input_ids: vec![1, 2],
        labels: vec![train_data::IGNORED; 2],
        packed: None,
    });
    let never = AtomicBool::new(false);
    let material = Material {
        items: &examples(4),
        stream: None,
        eval_items: &eval_items,
        eval_parts: &[],
        padding_id: 0,
        threads: 1,
        stop: &never,
        peers: &crate::Alone,
    };
    let job = job(folder.path(), more);
    let summary = run(&job, &material, &mut fake, &Recorder::default()).unwrap();
    assert!((summary.evaluations[0].1 - 3.0).abs() < 1e-12);
}

#[test]
fn each_evaluation_dataset_has_a_loss_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let more = "eval_dataset: b,c\neval_on_each_dataset: true\neval_strategy: epoch\nnum_train_epochs: 1\n\
                per_device_eval_batch_size: 2\n";
    let mut fake = Fake {
        evaluations: vec![1.0, 2.0, 4.0, 4.0],
        ..Fake::default()
    };
    let never = AtomicBool::new(false);
    let material = Material {
        items: &examples(4),
        stream: None,
        eval_items: &examples(5),
        eval_parts: &[("b".to_owned(), 3), ("c".to_owned(), 2)],
        padding_id: 0,
        threads: 1,
        stop: &never,
        peers: &crate::Alone,
    };
    let summary = run(
        &job(folder.path(), more),
        &material,
        &mut fake,
        &Recorder::default(),
    )
    .unwrap();
    // Micro-batches of two and one, which weigh the same where answers are learnt, and of two.
    let (b, c) = (f64::midpoint(1.0, 2.0), 4.0);
    assert!((summary.evaluations[0].1 - (b * 3.0 + c * 2.0) / 5.0).abs() < 1e-12);
    let state: Value = serde_json::from_str(&read(folder.path(), "trainer_state.json")).unwrap();
    let history = state["log_history"].as_array().unwrap();
    let loss = |name: &str| {
        history
            .iter()
            .find_map(|point| point[name].as_f64())
            .unwrap()
    };
    assert!((loss("eval_b_loss") - b).abs() < 1e-12);
    assert!((loss("eval_c_loss") - c).abs() < 1e-12);
}
