//! A job that is ready to be handed over, and what of it differs from the user's file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use report::{Event, Sink};
use serde_json::{Map, Value};

use super::change::Change;

/// Keys with the place where each stands, and its value.
pub(crate) type Given = BTreeMap<String, (String, Value)>;

/// A job that is ready to be handed over.
#[derive(Clone, Debug)]
pub(crate) struct Handed {
    /// The job, key by key.
    pub(crate) job: Map<String, Value>,
    /// What differs from the user's file.
    pub(crate) changes: Vec<Change>,
    /// Name and folder of the model.
    pub(crate) model: (String, PathBuf),
    /// Names and files of the datasets.
    pub(crate) data: Vec<(String, PathBuf)>,
}

impl Handed {
    /// The file that is handed over. Each value is JSON on a line of its own, which every YAML reads alike.
    pub(crate) fn to_yaml(&self) -> String {
        let mut text = String::new();
        for (key, value) in &self.job {
            text.push_str(key);
            text.push_str(": ");
            text.push_str(&value.to_string());
            text.push('\n');
        }
        text
    }

    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.job.get(key)?.as_str()
    }

    /// Names the checkpoint to go on from, where LLaMA-Factory would take another.
    pub(crate) fn go_on_from(&mut self, checkpoint: &Path) {
        const KEY: &str = "resume_from_checkpoint";
        let to = Some(Value::from(checkpoint.to_string_lossy()));
        self.changes.push(Change {
            key: KEY.to_owned(),
            from: self
                .job
                .insert(KEY.to_owned(), to.clone().unwrap_or_default()),
            to,
            because: "a newer checkpoint was cut off while it was written",
            told: false,
        });
    }

    /// Warns of what the user asked for and does not get.
    pub(crate) fn warn(&self, sink: &dyn Sink) {
        for change in self.changes.iter().filter(|change| change.told) {
            let args = change.args().into_iter();
            sink.emit(&Event::Warned {
                code: change.code().to_owned(),
                args: args.map(|(name, value)| (name.to_owned(), value)).collect(),
            });
        }
    }
}
