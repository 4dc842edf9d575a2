//! The training loop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use report::{Event, Sink};
use serde_json::{Map, Value, json};
use train_data::{Batch, Example, file_order, shuffled};

use crate::job::Job;
use crate::output::Output;
use crate::plot;
use crate::steps::Steps;
use crate::trainer::{TrainError, Trainer};

/// What a run needs beside its job and its trainer.
pub struct Material<'a> {
    /// Examples, in the order of the files.
    pub examples: &'a [Example],
    /// Token that fills up short rows.
    pub padding_id: u32,
    /// Set from outside, such as by Ctrl-C: the run stops after its step and saves.
    pub stop: &'a AtomicBool,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Optimizer steps done.
    pub steps: u64,
    /// Optimizer steps planned.
    pub planned: u64,
    /// Mean of the steps' losses.
    pub train_loss: f64,
    /// Loss of every step.
    pub losses: Vec<f64>,
    /// Tokens seen, padding included.
    pub tokens: u64,
    /// Seconds.
    pub seconds: f64,
    /// It was stopped from outside.
    pub stopped: bool,
}

/// Trains `job` and writes its results. The weights are saved even if the run is stopped.
pub fn run(
    job: &Job,
    material: &Material<'_>,
    trainer: &mut dyn Trainer,
    sink: &dyn Sink,
) -> Result<Summary, TrainError> {
    if material.examples.is_empty() {
        return Err(TrainError::NoExamples);
    }
    let output = Output::open(&job.output_dir, job.overwrite_output_dir)?;
    output.json("job.json", &job.settings, 2)?;
    let mut course = Course {
        job,
        output,
        steps: Steps::of(job, material.examples.len()),
        started: Instant::now(),
        done: 0,
        tokens: 0,
        epoch: 0.0,
        losses: Vec::new(),
        logged: 0,
        history: Vec::new(),
    };
    let stopped = course.train(material, trainer, sink)?;
    course.finish(trainer, stopped)
}

/// A run under way.
struct Course<'a> {
    job: &'a Job,
    output: Output,
    steps: Steps,
    started: Instant,
    done: u64,
    tokens: u64,
    epoch: f64,
    losses: Vec<f64>,
    /// Steps that a log line has covered.
    logged: usize,
    history: Vec<Value>,
}

impl Course<'_> {
    /// Returns whether it was stopped from outside.
    fn train(
        &mut self,
        material: &Material<'_>,
        trainer: &mut dyn Trainer,
        sink: &dyn Sink,
    ) -> Result<bool, TrainError> {
        let job = self.job;
        let in_step = job.batch_size * job.gradient_accumulation_steps;
        for epoch in 0_u64.. {
            let order = if job.disable_shuffling {
                file_order(material.examples.len())
            } else {
                shuffled(material.examples.len(), job.data_seed, epoch)
            };
            let mut micro_done = 0;
            for chosen in order.chunks(in_step) {
                if self.done >= self.steps.total {
                    return Ok(false);
                }
                if material.stop.load(Ordering::Relaxed) {
                    return Ok(true);
                }
                let collate = |rows: &[usize]| {
                    let rows: Vec<&Example> = rows.iter().map(|i| &material.examples[*i]).collect();
                    Batch::collate(&rows, material.padding_id)
                };
                let batches: Vec<Batch> = chosen.chunks(job.batch_size).map(collate).collect();
                micro_done += batches.len();
                self.epoch = epoch as f64 + micro_done as f64 / self.steps.micro_in_epoch as f64;
                self.step(&batches, trainer, sink)?;
            }
        }
        Ok(false)
    }

    fn step(
        &mut self,
        batches: &[Batch],
        trainer: &mut dyn Trainer,
        sink: &dyn Sink,
    ) -> Result<(), TrainError> {
        let job = self.job;
        let Steps { warmup, total, .. } = self.steps;
        let rate = job
            .scheduler
            .rate(job.learning_rate, warmup, total, self.done);
        let began = Instant::now();
        let report = trainer.step(batches, rate)?;
        self.done += 1;
        if !(report.loss.is_finite() && report.grad_norm.is_finite()) {
            return Err(TrainError::Diverged {
                step: self.done,
                loss: report.loss,
                grad_norm: report.grad_norm,
            });
        }
        self.tokens += report.tokens;
        self.losses.push(report.loss);
        sink.emit(&Event::TrainStep {
            step: self.done,
            total,
            loss: report.loss,
            learning_rate: rate,
            tokens_per_second: report.tokens as f64 / began.elapsed().as_secs_f64().max(1e-9),
        });
        if self.done.is_multiple_of(job.logging_steps) {
            let loss = mean(&self.losses[self.logged..]);
            self.logged = self.losses.len();
            self.history.push(json!({
                "epoch": self.epoch,
                "grad_norm": report.grad_norm,
                "learning_rate": rate,
                "loss": loss,
                "step": self.done,
            }));
            let line = self.line(Some((loss, rate)));
            self.output.log(&line)?;
        }
        if job
            .save_steps
            .is_some_and(|every| self.done.is_multiple_of(every))
        {
            let limit = job.save_total_limit;
            let state = self.state();
            self.output.checkpoint(trainer, self.done, limit, &state)?;
        }
        Ok(())
    }

    fn finish(mut self, trainer: &mut dyn Trainer, stopped: bool) -> Result<Summary, TrainError> {
        self.output.weights(trainer)?;
        let seconds = self.started.elapsed().as_secs_f64();
        let per_step = self.job.batch_size * self.job.gradient_accumulation_steps;
        let samples = self.done as f64 * per_step as f64;
        let train_loss = mean(&self.losses);
        let mut results = Map::new();
        results.insert("epoch".into(), self.epoch.into());
        if self.job.include_num_input_tokens_seen {
            results.insert("num_input_tokens_seen".into(), self.tokens.into());
        }
        let mut rounded = |name: &str, value: f64, scale: f64| {
            results.insert(name.into(), ((value * scale).round() / scale).into());
        };
        rounded("train_loss", train_loss, 1e15);
        rounded("train_runtime", seconds, 1e4);
        rounded("train_samples_per_second", samples / seconds.max(1e-9), 1e3);
        rounded(
            "train_steps_per_second",
            self.done as f64 / seconds.max(1e-9),
            1e3,
        );
        let results = Value::Object(results);
        let mut last = results.clone();
        last["step"] = self.done.into();
        self.history.push(last);
        let line = self.line(None);
        self.output.log(&line)?;
        self.output.json("trainer_state.json", &self.state(), 2)?;
        self.output.json("train_results.json", &results, 4)?;
        self.output.json("all_results.json", &results, 4)?;
        if self.job.plot_loss {
            self.plot()?;
        }
        Ok(Summary {
            steps: self.done,
            planned: self.steps.total,
            train_loss,
            losses: self.losses,
            tokens: self.tokens,
            seconds,
            stopped,
        })
    }

    fn plot(&self) -> Result<(), TrainError> {
        let points: Vec<(u64, f64)> = (1..).zip(self.losses.iter().copied()).collect();
        self.output
            .file("training_loss.svg", plot::svg(&points).as_bytes())?;
        let picture = plot::png(&points).map_err(|source| TrainError::Write {
            path: self.job.output_dir.join("training_loss.png"),
            source,
        })?;
        self.output.file("training_loss.png", &picture)
    }

    /// A line of `trainer_log.jsonl`; the closing one has neither loss nor rate.
    fn line(&self, loss_and_rate: Option<(f64, f64)>) -> Value {
        let elapsed = self.started.elapsed().as_secs_f64();
        let left = self.steps.total.saturating_sub(self.done) as f64;
        let remaining = left * elapsed / self.done.max(1) as f64;
        let percentage = self.done as f64 / self.steps.total.max(1) as f64 * 100.0;
        let mut line = Map::new();
        line.insert("current_steps".into(), self.done.into());
        line.insert("total_steps".into(), self.steps.total.into());
        if let Some((loss, rate)) = loss_and_rate {
            line.insert("loss".into(), loss.into());
            line.insert("lr".into(), rate.into());
        }
        line.insert("epoch".into(), self.epoch.into());
        line.insert("percentage".into(), hundredths(percentage).into());
        line.insert("elapsed_time".into(), clock(elapsed).into());
        line.insert("remaining_time".into(), clock(remaining).into());
        if self.job.include_num_input_tokens_seen {
            let throughput = self.tokens as f64 / elapsed.max(1e-9);
            line.insert("throughput".into(), hundredths(throughput).into());
            line.insert("total_tokens".into(), self.tokens.into());
        }
        Value::Object(line)
    }

    /// The content of `trainer_state.json`.
    fn state(&self) -> Value {
        json!({
            "best_global_step": null,
            "best_metric": null,
            "best_model_checkpoint": null,
            "epoch": self.epoch,
            "global_step": self.done,
            "is_hyper_param_search": false,
            "is_local_process_zero": true,
            "is_world_process_zero": true,
            "log_history": self.history,
            "logging_steps": self.job.logging_steps,
            "max_steps": self.steps.total,
            "num_input_tokens_seen": self.tokens,
            "num_train_epochs": self.steps.total.div_ceil(self.steps.in_epoch),
            "save_steps": self.job.save_steps,
            "train_batch_size": self.job.batch_size,
        })
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// Seconds as Python prints a time span: `0:01:02`, `1 day, 0:00:00`.
fn clock(seconds: f64) -> String {
    let seconds = seconds as u64;
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let time = format!("{}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
    match days {
        0 => time,
        1 => format!("1 day, {time}"),
        _ => format!("{days} days, {time}"),
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
