//! The training loop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use report::{Event, Sink, Step};
use serde_json::{Map, Value};
use train_data::{Batch, Item, file_order, shuffled};

use crate::checkpoint::{self, Order, Point, Progress};
use crate::job::{Job, When};
use crate::output::{Output, Start};
use crate::run_folder::RunFolder;
use crate::steps::Steps;
use crate::trainer::{StepReport, TrainError, Trainer};

/// What a run needs beside its job and its trainer.
pub struct Material<'a> {
    /// Items to learn, in the order of the files.
    pub items: &'a [Item],
    /// Items to evaluate on.
    pub eval_items: &'a [Item],
    /// Token that fills up short rows.
    pub padding_id: u32,
    /// Threads that compute, to be used again when the run goes on.
    pub threads: usize,
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
    /// Steps of these that an earlier run had done.
    pub resumed_at: u64,
    /// Mean of the steps' losses.
    pub train_loss: f64,
    /// Loss of every step.
    pub losses: Vec<f64>,
    /// Loss of every evaluation with its step.
    pub evaluations: Vec<(u64, f64)>,
    /// The step of the checkpoint whose weights were kept as the best.
    pub best_step: Option<u64>,
    /// Tokens seen, padding included.
    pub tokens: u64,
    /// Seconds.
    pub seconds: f64,
    /// Why it ended.
    pub ending: Ending,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    /// All steps are done.
    Done,
    /// It was stopped from outside.
    Stopped,
    /// The evaluation loss had not fallen for as long as the job waits.
    NoProgress,
}

/// Where `job` begins: at a checkpoint, or at the start of an output folder that it may take. Writes nothing.
pub fn begin(job: &Job) -> Result<Option<Point>, TrainError> {
    if RunFolder::is_in_use(&job.output_dir) {
        return Err(TrainError::InUse {
            path: job.output_dir.clone(),
        });
    }
    let point = Point::of(job)?;
    let within = point
        .as_ref()
        .is_some_and(|point| point.is_in(&job.output_dir));
    if !within && !job.overwrite_output_dir && crate::output::is_taken(&job.output_dir) {
        return Err(TrainError::OutputTaken {
            path: job.output_dir.clone(),
        });
    }
    Ok(point)
}

/// Trains `job` and writes its results. The weights are saved even if the run is stopped.
///
/// It goes on from a checkpoint where the job says so or the output folder holds one. Nothing is written before
/// everything that can be checked was checked.
pub fn run(
    job: &Job,
    material: &Material<'_>,
    trainer: &mut dyn Trainer,
    sink: &dyn Sink,
) -> Result<Summary, TrainError> {
    if material.items.is_empty() {
        return Err(TrainError::NoExamples);
    }
    let order = Order::of(job, material.items);
    let point = begin(job)?;
    let mut progress = Progress::default();
    let mut within = false;
    if let Some(point) = point {
        point.check(&order)?;
        trainer.load(&point.path, true)?;
        sink.emit(&Event::Warned {
            code: "train.resumes".to_owned(),
            args: vec![("path".to_owned(), point.path.display().to_string())],
        });
        within = point.is_in(&job.output_dir);
        progress = point.progress;
    }
    let start = match job.overwrite_output_dir {
        _ if within => Start::After(progress.step),
        true => Start::Over,
        false => Start::Fresh,
    };
    let steps = Steps::of(job, material.items.len());
    let folder = RunFolder::take(&job.output_dir, progress.step, steps.total)?;
    let output = Output::open(&job.output_dir, start)?;
    output.json("job.json", &job.settings, 2)?;
    let mut course = Course {
        job,
        output,
        order,
        steps,
        started: Instant::now(),
        resumed_at: progress.step,
        progress,
        threads: material.threads,
    };
    let ended = course
        .train(material, trainer, sink, &folder)
        .and_then(|ending| course.finish(material, trainer, sink, ending));
    let left = folder.leave(&ended);
    ended.and_then(|summary| left.map(|()| summary))
}

/// A run under way.
pub(crate) struct Course<'a> {
    pub(crate) job: &'a Job,
    pub(crate) output: Output,
    order: Order,
    pub(crate) steps: Steps,
    pub(crate) started: Instant,
    pub(crate) resumed_at: u64,
    pub(crate) progress: Progress,
    threads: usize,
}

impl Course<'_> {
    fn train(
        &mut self,
        material: &Material<'_>,
        trainer: &mut dyn Trainer,
        sink: &dyn Sink,
        folder: &RunFolder,
    ) -> Result<Ending, TrainError> {
        let job = self.job;
        let in_step = job.batch_size * job.gradient_accumulation_steps;
        let (first, mut skip) = (
            self.progress.step / self.steps.in_epoch,
            self.progress.step % self.steps.in_epoch,
        );
        for epoch in first.. {
            let order = if job.disable_shuffling {
                file_order(material.items.len())
            } else {
                shuffled(material.items.len(), job.data_seed, epoch)
            };
            let mut micro_done = skip as usize * job.gradient_accumulation_steps;
            for chosen in order.chunks(in_step).skip(skip as usize) {
                if self.progress.step >= self.steps.total {
                    return Ok(Ending::Done);
                }
                if material.stop.load(Ordering::Relaxed) || folder.is_asked_to_stop() {
                    return Ok(Ending::Stopped);
                }
                let batches = batches(chosen, job.batch_size, material.items, material.padding_id);
                micro_done += batches.len();
                self.progress.epoch =
                    epoch as f64 + micro_done as f64 / self.steps.micro_in_epoch as f64;
                self.step(&batches, trainer, sink)?;
                let ends_epoch = micro_done == self.steps.micro_in_epoch;
                if self.after_step(material, trainer, sink, ends_epoch)? {
                    return Ok(Ending::NoProgress);
                }
            }
            skip = 0;
        }
        Ok(Ending::Done)
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
            .rate(job.learning_rate, warmup, total, self.progress.step);
        let began = Instant::now();
        let report = trainer.step(batches, rate)?;
        let progress = &mut self.progress;
        progress.step += 1;
        if !(report.loss.is_finite() && report.grad_norm.is_finite()) {
            return Err(TrainError::Diverged {
                step: progress.step,
                loss: report.loss,
                grad_norm: report.grad_norm,
            });
        }
        progress.tokens += report.tokens;
        progress.losses.push(report.loss);
        sink.emit(&Event::TrainStep {
            step: progress.step,
            total,
            loss: report.loss,
            learning_rate: rate,
            tokens_per_second: report.tokens as f64 / began.elapsed().as_secs_f64().max(1e-9),
        });
        progress.gather(&report);
        let first = progress.step == 1 && job.logging_first_step;
        if first || progress.step.is_multiple_of(job.logging_steps) {
            self.log_point(&report, rate)?;
        }
        Ok(())
    }

    /// Adds a log point: the mean loss since the last one.
    fn log_point(&mut self, report: &StepReport, rate: f64) -> Result<(), TrainError> {
        let progress = &mut self.progress;
        let loss = mean(&progress.losses[progress.logged..]);
        progress.logged = progress.losses.len();
        let metrics = progress.means();
        let mut point = Map::new();
        point.insert("epoch".into(), progress.epoch.into());
        point.insert("grad_norm".into(), report.grad_norm.into());
        point.insert("learning_rate".into(), rate.into());
        point.insert("loss".into(), loss.into());
        let mut line = vec![("loss", loss.into()), ("lr", rate.into())];
        for (name, value) in metrics {
            if name == "rewards/accuracies" {
                line.push(("accuracy", value.into()));
            }
            point.insert(name, value.into());
        }
        point.insert("step".into(), progress.step.into());
        progress.history.push(Value::Object(point));
        let line = self.line(line);
        self.output.log(&line)
    }

    /// Evaluates and saves where it is time to. Returns whether the run shall end early.
    fn after_step(
        &mut self,
        material: &Material<'_>,
        trainer: &mut dyn Trainer,
        sink: &dyn Sink,
        ends_epoch: bool,
    ) -> Result<bool, TrainError> {
        let job = self.job;
        let (step, total) = (self.progress.step, self.steps.total);
        let mut ends = false;
        if job.evaluation.when.is_now(step, ends_epoch) && !material.eval_items.is_empty() {
            let (loss, _) = self.evaluate(material, trainer, sink)?;
            self.progress.judge(loss);
            ends = job
                .evaluation
                .patience
                .is_some_and(|patience| self.progress.misses >= patience);
        }
        let last = step == total && job.saving.when != When::Never;
        if last || job.saving.when.is_now(step, ends_epoch) {
            self.save(trainer)?;
        }
        Ok(ends)
    }

    /// Computes the loss over the evaluation items: the mean of the micro-batches, weighed by their examples.
    /// Returns it, and what `eval_results.json` says.
    pub(crate) fn evaluate(
        &mut self,
        material: &Material<'_>,
        trainer: &mut dyn Trainer,
        sink: &dyn Sink,
    ) -> Result<(f64, Map<String, Value>), TrainError> {
        let (items, size) = (material.eval_items, self.job.evaluation.batch_size);
        let step = self.progress.step;
        let shown = Step::start(
            sink,
            "step.evaluate",
            step.to_string(),
            Some(items.len() as u64),
            "steps",
        );
        let began = Instant::now();
        let (mut sum, mut done) = (0.0, 0);
        for chosen in file_order(items.len()).chunks(size) {
            let batch = &batches(chosen, size, items, material.padding_id)[0];
            sum += trainer.evaluate(batch)? * chosen.len() as f64;
            done += chosen.len();
            shown.progress(done as u64);
        }
        shown.finish();
        let loss = sum / done.max(1) as f64;
        let seconds = began.elapsed().as_secs_f64().max(1e-9);
        let progress = &mut self.progress;
        progress.evaluations.push((step, loss));
        let mut results = Map::new();
        results.insert("epoch".into(), progress.epoch.into());
        results.insert("eval_loss".into(), loss.into());
        for (name, value, scale) in [
            ("eval_runtime", seconds, 1e4),
            ("eval_samples_per_second", done as f64 / seconds, 1e3),
            (
                "eval_steps_per_second",
                items.len().div_ceil(size) as f64 / seconds,
                1e3,
            ),
        ] {
            results.insert(name.into(), ((value * scale).round() / scale).into());
        }
        let mut point = results.clone();
        point.insert("step".into(), step.into());
        progress.history.push(Value::Object(point));
        let line = self.line(vec![("eval_loss", loss.into())]);
        self.output.log(&line)?;
        Ok((loss, results))
    }

    /// Writes a checkpoint of this step.
    pub(crate) fn save(&mut self, trainer: &mut dyn Trainer) -> Result<(), TrainError> {
        let saving = self.job.saving;
        let mut progress = self.progress.clone();
        progress.seconds += self.started.elapsed().as_secs_f64();
        let state = self.state();
        let (order, threads) = (&self.order, self.threads);
        let best = progress.best.map(|(step, _)| step);
        self.output
            .checkpoint(progress.step, saving.limit, best, |folder| {
                trainer.save(folder)?;
                let write = |source| TrainError::Write {
                    path: folder.to_owned(),
                    source,
                };
                let text = crate::output::indented(&state, 2).map_err(write)?;
                std::fs::write(folder.join("trainer_state.json"), text).map_err(write)?;
                if saving.only_model {
                    return Ok(());
                }
                trainer.save_state(folder)?;
                checkpoint::write_state(folder, &progress, order, threads).map_err(write)
            })
    }
}

/// The micro-batches of `chosen` items.
fn batches(chosen: &[usize], size: usize, items: &[Item], padding_id: u32) -> Vec<Batch> {
    let collate = |rows: &[usize]| {
        let rows: Vec<&Item> = rows.iter().map(|index| &items[*index]).collect();
        Batch::of(&rows, padding_id)
    };
    chosen.chunks(size).map(collate).collect()
}

pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
