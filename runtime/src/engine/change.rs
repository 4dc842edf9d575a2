//! What LLaMA-Factory's job has otherwise than the user's file.

use serde_json::{Value, json};

/// One thing that differs from the user's file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Change {
    pub(crate) key: String,
    /// What the file has, if it has the key.
    pub(crate) from: Option<Value>,
    /// What is handed over; none: the key is left out.
    pub(crate) to: Option<Value>,
    /// Why.
    pub(crate) because: &'static str,
    /// The user asked for what is not done, so it is told also where nobody asks.
    pub(crate) told: bool,
}

impl Change {
    /// The code of its text.
    pub(crate) fn code(&self) -> &'static str {
        match (&self.from, &self.to) {
            (Some(_), None) => "engine.leaves-out",
            (None, _) => "engine.adds",
            (Some(_), Some(_)) => "engine.replaces",
        }
    }

    pub(crate) fn args(&self) -> Vec<(&'static str, String)> {
        let shown = |value: &Option<Value>| value.as_ref().map_or_else(String::new, plain);
        vec![
            ("key", self.key.clone()),
            ("value", shown(&self.from)),
            ("with", shown(&self.to)),
            ("cause", self.because.to_owned()),
        ]
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({"key": self.key, "from": self.from, "to": self.to, "because": self.because})
    }
}

/// A value as its author wrote it.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
