//! A run so far, as its checkpoints keep it.

use serde::{Deserialize, Deserializer, Serialize};
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
    #[serde(deserialize_with = "losses")]
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
    #[serde(deserialize_with = "figures")]
    pub(crate) figures: Vec<(String, f64, u64)>,
    /// Where a stream is: its epoch, and how many items of that were dealt, to all processes together.
    #[serde(default)]
    pub(crate) stream: Option<(u64, usize)>,
}

/// JSON has no word for what is no number, and writes null.
fn losses<'a, D: Deserializer<'a>>(from: D) -> Result<Vec<(u64, f64)>, D::Error> {
    let pairs = Vec::<(u64, Option<f64>)>::deserialize(from)?.into_iter();
    Ok(pairs
        .map(|(step, loss)| (step, loss.unwrap_or(f64::NAN)))
        .collect())
}

/// The same of other figures.
fn figures<'a, D: Deserializer<'a>>(from: D) -> Result<Vec<(String, f64, u64)>, D::Error> {
    let all = Vec::<(String, Option<f64>, u64)>::deserialize(from)?.into_iter();
    Ok(all
        .map(|(name, sum, count)| (name, sum.unwrap_or(f64::NAN), count))
        .collect())
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

    /// Takes note of an evaluation. As in the original the first of equals is the best, and what is no number never is.
    pub(crate) fn judge(&mut self, loss: f64) {
        if loss.is_finite() && self.best.is_none_or(|(_, least)| loss < least) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_that_is_no_number_is_never_the_best_and_can_be_read_back() {
        let mut progress = Progress::default();
        for loss in [f64::NAN, f64::INFINITY, 2.0, f64::NAN, 3.0] {
            progress.step += 1;
            progress.evaluations.push((progress.step, loss));
            progress.judge(loss);
        }
        progress.figures.push(("kl".to_owned(), f64::NAN, 1));
        assert_eq!((progress.best, progress.misses), (Some((3, 2.0)), 2));
        let text = serde_json::to_string(&progress).unwrap();
        let back: Progress = serde_json::from_str(&text).unwrap();
        assert_eq!(back.best, progress.best);
        assert!(back.evaluations[0].1.is_nan() && back.figures[0].1.is_nan());
        assert_eq!(back.evaluations[2], (3, 2.0));
    }
}
