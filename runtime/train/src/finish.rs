//! The end of a run: its last evaluation, its weights, results and curves.

use report::Sink;
use serde_json::{Map, Value, json};

use crate::job::When;
use crate::plot;
use crate::run::{Course, Ending, Material, Summary, mean};
use crate::trainer::{TrainError, Trainer};

impl Course<'_> {
    pub(crate) fn finish(
        mut self,
        material: &Material<'_>,
        trainer: &mut dyn Trainer,
        sink: &dyn Sink,
        ending: Ending,
    ) -> Result<Summary, TrainError> {
        let step = self.progress.step;
        // So that the same job, started again, goes on from here.
        if ending == Ending::Stopped
            && self.job.saving.when != When::Never
            && !self.output.has(step)
        {
            self.save(trainer)?;
        }
        // A checkpoint that the others are to read was placed before the first process came here.
        material.peers.meet()?;
        let best_step = self.take_best(trainer)?;
        let seconds = self.progress.seconds + self.started.elapsed().as_secs_f64();
        self.output.weights(trainer)?;
        let results = self.train_results(seconds);
        let mut last = results.clone();
        last.insert("step".into(), step.into());
        self.progress.history.push(Value::Object(last));
        let mut all = results.clone();
        let evaluates = self.job.evaluation.at_end && !material.eval_items.is_empty();
        if evaluates && ending != Ending::Stopped {
            let (_, figures) = self.evaluate(material, trainer, sink)?;
            self.output
                .json("eval_results.json", &Value::Object(figures.clone()), 4)?;
            all.extend(figures);
        }
        let line = self.line(Vec::new());
        self.output.log(&line)?;
        let state = self.state();
        self.output.json("trainer_state.json", &state, 2)?;
        self.output
            .json("train_results.json", &Value::Object(results), 4)?;
        self.output
            .json("all_results.json", &Value::Object(all), 4)?;
        if self.job.plot_loss && material.peers.writes() {
            self.plots()?;
        }
        Ok(Summary {
            steps: step,
            planned: self.steps.total,
            resumed_at: self.resumed_at,
            train_loss: mean(&self.progress.losses),
            losses: self.progress.losses,
            evaluations: self.progress.evaluations,
            best_step,
            tokens: self.progress.tokens,
            seconds,
            ending,
        })
    }

    /// The step with the least evaluation loss, where the job asks for its weights.
    pub(crate) fn kept_best(&self) -> Option<(u64, f64)> {
        self.progress.best.filter(|_| self.job.evaluation.keep_best)
    }

    /// Goes back to the best checkpoint's weights where the job asks for that. Returns its step.
    fn take_best(&mut self, trainer: &mut dyn Trainer) -> Result<Option<u64>, TrainError> {
        let best = self.kept_best().map(|(step, _)| step);
        let best = best.filter(|step| self.output.has(*step));
        if let Some(step) = best {
            trainer.load(&self.output.path_of(step), false)?;
        }
        Ok(best)
    }

    fn train_results(&self, seconds: f64) -> Map<String, Value> {
        let done = self.progress.step;
        let per_step = self.job.batch_size * self.job.gradient_accumulation_steps;
        let samples = done as f64 * (per_step * self.processes) as f64;
        let mut results = Map::new();
        results.insert("epoch".into(), self.progress.epoch.into());
        if self.job.include_num_input_tokens_seen {
            results.insert("num_input_tokens_seen".into(), self.progress.tokens.into());
        }
        let mut rounded = |name: &str, value: f64, scale: f64| {
            results.insert(name.into(), ((value * scale).round() / scale).into());
        };
        rounded("train_loss", mean(&self.progress.losses), 1e15);
        rounded("train_runtime", seconds, 1e4);
        rounded("train_samples_per_second", samples / seconds.max(1e-9), 1e3);
        rounded(
            "train_steps_per_second",
            done as f64 / seconds.max(1e-9),
            1e3,
        );
        results
    }

    fn plots(&self) -> Result<(), TrainError> {
        let losses = self.progress.losses.iter().copied();
        let points: Vec<(u64, f64)> = (1..).zip(losses).collect();
        self.plot("training_loss", &points)?;
        let evaluations = self.progress.evaluations.iter().copied();
        let points: Vec<(u64, f64)> = evaluations.filter(|(_, loss)| loss.is_finite()).collect();
        if points.is_empty() {
            return Ok(());
        }
        self.plot("training_eval_loss", &points)
    }

    fn plot(&self, name: &str, points: &[(u64, f64)]) -> Result<(), TrainError> {
        self.output
            .file(&format!("{name}.svg"), plot::svg(points).as_bytes())?;
        let picture = plot::png(points).map_err(|source| TrainError::Write {
            path: self.job.output_dir.join(format!("{name}.png")),
            source,
        })?;
        self.output.file(&format!("{name}.png"), &picture)
    }

    /// A line of `trainer_log.jsonl`; the closing one has no loss.
    pub(crate) fn line(&self, figures: Vec<(&str, Value)>) -> Value {
        let (done, total) = (self.progress.step, self.steps.total);
        let elapsed = self.started.elapsed().as_secs_f64();
        let left = total.saturating_sub(done) as f64;
        let remaining = left * elapsed / (done - self.resumed_at).max(1) as f64;
        let percentage = done as f64 / total.max(1) as f64 * 100.0;
        let mut line = Map::new();
        line.insert("current_steps".into(), done.into());
        line.insert("total_steps".into(), total.into());
        for (name, value) in figures {
            line.insert(name.to_owned(), value);
        }
        line.insert("epoch".into(), self.progress.epoch.into());
        line.insert("percentage".into(), hundredths(percentage).into());
        line.insert("elapsed_time".into(), clock(elapsed).into());
        line.insert("remaining_time".into(), clock(remaining).into());
        if self.job.include_num_input_tokens_seen {
            let throughput = self.progress.tokens as f64 / elapsed.max(1e-9);
            line.insert("throughput".into(), hundredths(throughput).into());
            line.insert("total_tokens".into(), self.progress.tokens.into());
        }
        Value::Object(line)
    }

    /// The content of `trainer_state.json`.
    pub(crate) fn state(&self) -> Value {
        let steps = |when: When| match when {
            When::Steps(every) => Some(every.of(self.steps.total)),
            When::Never | When::Epochs => None,
        };
        let kept = self.kept_best();
        json!({
            "best_global_step": kept.map(|(step, _)| step),
            "best_metric": kept.map(|(_, loss)| loss),
            "best_model_checkpoint": kept.map(|(step, _)| self.output.path_of(step)),
            "epoch": self.progress.epoch,
            "eval_steps": steps(self.job.evaluation.when),
            "global_step": self.progress.step,
            "is_hyper_param_search": false,
            "is_local_process_zero": true,
            "is_world_process_zero": true,
            "log_history": self.progress.history,
            "logging_steps": self.job.logging_steps.of(self.steps.total),
            "max_steps": self.steps.total,
            "num_input_tokens_seen": self.progress.tokens,
            "num_train_epochs": self.steps.total.div_ceil(self.steps.in_epoch),
            "save_steps": steps(self.job.saving.when),
            "train_batch_size": self.job.batch_size,
        })
    }
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
mod tests {
    use super::*;

    #[test]
    fn times_read_as_in_the_original() {
        for (seconds, text) in [(62.9, "0:01:02"), (90_000.0, "1 day, 1:00:00")] {
            assert_eq!(clock(seconds), text);
        }
    }
}
