//! The training loop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use report::{Event, Sink, Step};
use serde_json::{Map, Value};
use train_data::{Batch, Item, Streamed};

use crate::checkpoint::{self, Point};
use crate::deal::Deal;
use crate::job::Job;
use crate::order::Order;
use crate::output::{Output, Start};
use crate::peers::Peers;
use crate::progress::Progress;
use crate::run_folder::{RunFolder, State};
use crate::steps::Steps;
use crate::trainer::{StepReport, TrainError, Trainer};

/// What a run needs beside its job and its trainer.
pub struct Material<'a> {
    /// Items to learn, in the order of the files.
    pub items: &'a [Item],
    /// Or items that are made while they are learnt; `items` is empty then.
    pub stream: Option<&'a Streamed<'a>>,
    /// Items to evaluate on.
    pub eval_items: &'a [Item],
    /// Where several datasets are evaluated one by one: the name of each, and how many of `eval_items` are its, in order.
    pub eval_parts: &'a [(String, usize)],
    /// Token that fills up short rows.
    pub padding_id: u32,
    /// Threads that compute, to be used again when the run goes on.
    pub threads: usize,
    /// Set from outside, such as by Ctrl-C: the run stops after its step and saves.
    pub stop: &'a AtomicBool,
    /// The processes that compute together; [`Alone`](crate::Alone) where this is the only one.
    pub peers: &'a dyn Peers,
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
    if material.items.is_empty() && material.stream.is_none() {
        return Err(TrainError::NoExamples);
    }
    let peers = material.peers;
    let order = match material.stream {
        Some(stream) => Order::streamed(job, stream.digest()?, peers.count()),
        None => Order::of(job, material.items, peers.count()),
    };
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
    let steps = match material.stream {
        Some(_) => Steps::streamed(job),
        None => Steps::over(job, material.items.len(), peers.count()),
    };
    // The first process changes the folder when all have seen it as it was; the others look when it has done so.
    peers.meet()?;
    let (folder, output) = if peers.writes() {
        let folder = RunFolder::take(&job.output_dir, progress.step, steps.total)?;
        let opened = Output::open(&job.output_dir, start);
        let opened = opened.and_then(|output| {
            output.json("job.json", &job.settings, 2)?;
            Ok(output)
        });
        let output = match opened {
            Ok(output) => output,
            Err(error) => {
                // Whoever watches would take it for a run that was cut off. The first error is the one to tell.
                let _untold = folder.end(State::Failed, Some(&error));
                return Err(error);
            }
        };
        peers.meet()?;
        (Some(folder), output)
    } else {
        peers.meet()?;
        (None, Output::of_other(&job.output_dir, start))
    };
    let mut course = Course {
        job,
        output,
        order,
        steps,
        processes: peers.count(),
        started: Instant::now(),
        resumed_at: progress.step,
        progress,
        threads: material.threads,
    };
    let ended = course
        .train(material, trainer, sink, folder.as_ref())
        .and_then(|ending| course.finish(material, trainer, sink, ending));
    let left = folder.map_or(Ok(()), |folder| folder.leave(&ended));
    ended.and_then(|summary| left.map(|()| summary))
}

/// By how much chosen answers are rewarded more, as the original logs it.
const MARGINS: &str = "rewards/margins";

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
    pub(crate) processes: usize,
}

impl Course<'_> {
    fn train(
        &mut self,
        material: &Material<'_>,
        trainer: &mut dyn Trainer,
        sink: &dyn Sink,
        folder: Option<&RunFolder>,
    ) -> Result<Ending, TrainError> {
        let job = self.job;
        let peers = material.peers;
        let (first, mut skip) = self.place(material);
        for epoch in first.. {
            let processes = material.stream.map_or(1, |_| peers.count());
            let mut micro_done = skip.div_ceil(job.batch_size * processes);
            let mut deal = Deal::of(job, material, epoch, skip)?;
            loop {
                if self.progress.step >= self.steps.total {
                    return Ok(Ending::Done);
                }
                let asked = folder.is_some_and(RunFolder::is_asked_to_stop);
                if peers.any(material.stop.load(Ordering::Relaxed) || asked)? {
                    return Ok(Ending::Stopped);
                }
                let Some(dealt) = deal.next()? else {
                    break;
                };
                micro_done += dealt.batches.len();
                skip += dealt.items;
                self.progress.epoch =
                    epoch as f64 + micro_done as f64 / self.steps.micro_in_epoch as f64;
                self.step(&dealt.batches, trainer, sink)?;
                self.progress.stream = material.stream.map(|_| (epoch, skip));
                if self.after_step(material, trainer, sink, dealt.last)? {
                    return Ok(Ending::NoProgress);
                }
            }
            if skip == 0 {
                return Err(TrainError::NoExamples);
            }
            skip = 0;
        }
        Ok(Ending::Done)
    }

    /// Where the run goes on: the epoch, and how many of its items were dealt.
    fn place(&self, material: &Material<'_>) -> (u64, usize) {
        if material.stream.is_some() {
            return self.progress.stream.unwrap_or_default();
        }
        let (step, in_epoch) = (self.progress.step, self.steps.in_epoch);
        let in_step = self.job.batch_size * self.job.gradient_accumulation_steps;
        (step / in_epoch, (step % in_epoch) as usize * in_step)
    }

    fn step(
        &mut self,
        batches: &[Batch],
        trainer: &mut dyn Trainer,
        sink: &dyn Sink,
    ) -> Result<(), TrainError> {
        let job = self.job;
        let Steps { warmup, total, .. } = self.steps;
        let scheduled = self.progress.step - self.progress.skipped;
        let seen = &self.progress.evaluations;
        let rate = job
            .scheduler
            .rate(job.learning_rate, warmup, total, scheduled, seen);
        let began = Instant::now();
        let report = trainer.step(batches, rate)?;
        let progress = &mut self.progress;
        progress.step += 1;
        progress.skipped += u64::from(report.skipped);
        let learnt = report.skipped || report.grad_norm.is_finite();
        if !(report.loss.is_finite() && learnt) {
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
        if first || progress.step.is_multiple_of(job.logging_steps.of(total)) {
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
        let of = |name: &str| point.get(name).and_then(Value::as_f64);
        if !point.contains_key(MARGINS)
            && let (Some(chosen), Some(rejected)) = (of("rewards/chosen"), of("rewards/rejected"))
        {
            // Judgements are no pairs: the margin is that of the means.
            point.insert(MARGINS.into(), (chosen - rejected).into());
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
        let evaluates = job.evaluation.when.is_now(step, total, ends_epoch);
        if evaluates && !material.eval_items.is_empty() {
            let (loss, _) = self.evaluate(material, trainer, sink)?;
            self.progress.judge(loss);
            ends = job
                .evaluation
                .patience
                .is_some_and(|patience| self.progress.misses >= patience);
        }
        if job.saving.when.is_now(step, total, ends_epoch) {
            self.save(trainer)?;
        }
        Ok(ends && step < total)
    }

    /// Computes the loss over the evaluation items: the mean of the micro-batches, weighed as in the original.
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
        let peers = material.peers;
        let (mut sum, mut done) = (0.0, 0);
        let mut results = Map::new();
        results.insert("epoch".into(), self.progress.epoch.into());
        let whole = [(String::new(), items.len())];
        let parts = if material.eval_parts.is_empty() {
            &whole[..]
        } else {
            material.eval_parts
        };
        for (name, count) in parts {
            let started = Instant::now();
            let (mut part, mut weights) = ([0.0], 0);
            // The micro-batches are those of one process, dealt round; so their mean is the same.
            for (number, rows) in items[done..done + count].chunks(size).enumerate() {
                // Where every answer was cut off nothing can be told; in the original the loss is no number then.
                let says = rows.iter().any(|item| item.labels() > 0);
                let weight = self.job.data.batch_weight(rows.len(), size) * usize::from(says);
                weights += weight;
                if says && number % peers.count() == peers.rank() {
                    let rows: Vec<&Item> = rows.iter().collect();
                    let batch = Batch::of(&rows, material.padding_id);
                    part[0] += trainer.evaluate(&batch)? * weight as f64;
                }
                done += rows.len();
                shown.progress(done as u64);
            }
            peers.sum(&mut part)?;
            let loss = part[0] / weights.max(1) as f64;
            sum += loss * *count as f64;
            if !name.is_empty() {
                let figures = figures(&format!("eval_{name}"), loss, *count, size, started);
                self.progress.note(&figures, self.progress.step);
                results.extend(figures);
            }
        }
        shown.finish();
        let loss = sum / done.max(1) as f64;
        self.progress.evaluations.push((step, loss));
        let figures = figures("eval", loss, done, size, began);
        self.progress.note(&figures, step);
        results.extend(figures);
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
        let best = self.kept_best().map(|(step, _)| step);
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

/// What an evaluation of `count` items in micro-batches of `size` gave, by the names of the original.
fn figures(
    prefix: &str,
    loss: f64,
    count: usize,
    size: usize,
    began: Instant,
) -> Map<String, Value> {
    let seconds = began.elapsed().as_secs_f64().max(1e-9);
    let mut figures = Map::new();
    figures.insert(format!("{prefix}_loss"), loss.into());
    for (name, value, scale) in [
        ("runtime", seconds, 1e4),
        ("samples_per_second", count as f64 / seconds, 1e3),
        (
            "steps_per_second",
            count.div_ceil(size) as f64 / seconds,
            1e3,
        ),
    ] {
        let rounded = (value * scale).round() / scale;
        figures.insert(format!("{prefix}_{name}"), rounded.into());
    }
    figures
}

pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
