//! A run so far, as its checkpoints keep it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::trainer::StepReport;

/// A run so far.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Progress {
    /// Optimizer steps done.
    pub(crate) step: u64,
    /// Of these, steps in which nothing was learnt because gradients overflowed; the schedule does not count them.
    #[serde(default)]
    pub(crate) skipped: u64,
    /// Epochs done.
    pub(crate) epoch: f64,
    /// Tokens seen, padding included.
    pub(crate) tokens: u64,
    /// Seconds that it took.
    pub(crate) seconds: f64,
    /// Loss of every step.
    pub(crate) losses: Vec<f64>,
    /// Loss of every evaluation with its step.
    pub(crate) evaluations: Vec<(u64, f64)>,
    /// Steps that a log line has covered.
    pub(crate) logged: usize,
    /// Log points as the original keeps them.
    pub(crate) history: Vec<Value>,
    /// The least evaluation loss, and its step.
    pub(crate) best: Option<(u64, f64)>,
    /// Evaluations since then.
    pub(crate) misses: u64,
    /// Sums of the steps' other figures since the last log line, with their counts.
    pub(crate) figures: Vec<(String, f64, u64)>,
    /// Where a stream is: its epoch, and how many items of that were dealt, to all processes together.
    #[serde(default)]
    pub(crate) stream: Option<(u64, usize)>,
}

impl Progress {
    /// Adds a point with the figures of step `step` to the history.
    pub(crate) fn note(&mut self, figures: &Map<String, Value>, step: u64) {
        let mut point = Map::new();
        point.insert("epoch".into(), self.epoch.into());
        point.extend(figures.clone());
        point.insert("step".into(), step.into());
        self.history.push(Value::Object(point));
    }

    /// Adds a step's figures to those of the next log line.
    pub(crate) fn gather(&mut self, report: &StepReport) {
        for (name, value) in &report.metrics {
            match self.figures.iter_mut().find(|(known, _, _)| known == name) {
                Some((_, sum, count)) => {
                    *sum += value;
                    *count += 1;
                }
                None => self.figures.push(((*name).to_owned(), *value, 1)),
            }
        }
    }

    /// Takes note of an evaluation. As in the original the first of equals is the best.
    pub(crate) fn judge(&mut self, loss: f64) {
        if self.best.is_none_or(|(_, least)| loss < least) {
            self.best = Some((self.step, loss));
            self.misses = 0;
        } else {
            self.misses += 1;
        }
    }

    /// The means of the gathered figures; starts over.
    pub(crate) fn means(&mut self) -> Vec<(String, f64)> {
        let gathered = self.figures.drain(..);
        gathered
            .map(|(name, sum, count)| (name, sum / count as f64))
            .collect()
    }
}
