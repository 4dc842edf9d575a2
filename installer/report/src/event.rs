//! Progress as data. Terminal bars, log lines and `--json` are sinks of the same events.

use std::sync::Mutex;

use serde::{Deserialize, Serialize};

/// Something that happened during long work. Figures are absolute, so a lost event harms nothing.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A step began; `total` is in `unit`s where it is known.
    StepStarted {
        /// Catalogue code of the step, such as `step.fetch`.
        step: String,
        /// What the step works on, for the reader: a file or a model name. May be empty.
        subject: String,
        /// How much there is to do.
        total: Option<u64>,
        /// `bytes`, `files` or `steps`.
        unit: String,
    },
    /// How far a step has come.
    Progress {
        /// Code of the step.
        step: String,
        /// What the step works on.
        subject: String,
        /// Done so far, in the unit that the start named.
        done: u64,
    },
    /// A step ended well.
    StepFinished {
        /// Code of the step.
        step: String,
        /// What the step worked on.
        subject: String,
    },
    /// Something a person should know; work goes on.
    Warned {
        /// Catalogue code.
        code: String,
        /// Values for the text.
        args: Vec<(String, String)>,
    },
    /// One optimizer step of a training run.
    TrainStep {
        /// Optimizer steps done.
        step: u64,
        /// Optimizer steps in all.
        total: u64,
        /// Mean loss per label token.
        loss: f64,
        /// Learning rate used in this step.
        learning_rate: f64,
        /// Tokens a second since the last event.
        tokens_per_second: f64,
    },
    /// From a newer writer.
    #[serde(other)]
    Unknown,
}

/// Where events go. Never fails: a broken pipe must not stop an install.
pub trait Sink: Send + Sync {
    /// Takes one event.
    fn emit(&self, event: &Event);
}

/// Drops every event.
pub struct Silent;

impl Sink for Silent {
    fn emit(&self, _event: &Event) {}
}

/// Keeps every event, for tests.
#[derive(Default)]
pub struct Recorder(Mutex<Vec<Event>>);

impl Recorder {
    /// Everything emitted so far.
    pub fn events(&self) -> Vec<Event> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }
}

impl Sink for Recorder {
    fn emit(&self, event: &Event) {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .push(event.clone());
    }
}

/// A running step: reports its progress, and its end when told to.
pub struct Step<'a> {
    sink: &'a dyn Sink,
    code: &'static str,
    subject: String,
}

impl<'a> Step<'a> {
    /// Starts a step and says so. `unit` is `bytes`, `files` or `steps`.
    pub fn start(
        sink: &'a dyn Sink,
        code: &'static str,
        subject: impl Into<String>,
        total: Option<u64>,
        unit: &str,
    ) -> Self {
        let subject = subject.into();
        sink.emit(&Event::StepStarted {
            step: code.to_owned(),
            subject: subject.clone(),
            total,
            unit: unit.to_owned(),
        });
        Self {
            sink,
            code,
            subject,
        }
    }

    /// Says how far the step has come, in absolute figures.
    pub fn progress(&self, done: u64) {
        self.sink.emit(&Event::Progress {
            step: self.code.to_owned(),
            subject: self.subject.clone(),
            done,
        });
    }

    /// Ends the step well. A step that is dropped instead was cut short.
    pub fn finish(self) {
        self.sink.emit(&Event::StepFinished {
            step: self.code.to_owned(),
            subject: self.subject.clone(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_kind_is_unknown_not_an_error() {
        let event: Event =
            serde_json::from_str(r#"{"event":"teleported","where":"moon"}"#).unwrap();
        assert_eq!(event, Event::Unknown);
    }
}
