//! The keys and values of a job file, each with its place.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::error::JobError;

/// Keys and values, overrides applied.
pub(super) struct Fields {
    origin: String,
    values: BTreeMap<String, (String, Value)>,
}

impl Fields {
    /// Reads a job's text and puts `key=value` overrides over it.
    pub(super) fn read(origin: &str, text: &str, overrides: &[String]) -> Result<Self, JobError> {
        let syntax = |line: usize, reason: String| JobError::Syntax {
            place: format!("{origin}, line {line}"),
            reason,
        };
        let value: serde_yaml_ng::Value = serde_yaml_ng::from_str(text).map_err(|error| {
            let reason = error.to_string();
            match (twice(origin, text, &reason), error.location()) {
                (Some(error), _) => error,
                (None, Some(location)) => syntax(location.line(), reason),
                (None, None) => JobError::Syntax {
                    place: origin.to_owned(),
                    reason,
                },
            }
        })?;
        let map = match value {
            serde_yaml_ng::Value::Mapping(map) => map,
            serde_yaml_ng::Value::Null => serde_yaml_ng::Mapping::new(),
            _ => return Err(syntax(1, "expected `key: value` lines".to_owned())),
        };
        let mut values = BTreeMap::new();
        for (key, value) in map {
            let Some(key) = key.as_str().map(str::to_owned) else {
                return Err(syntax(1, "a key is not text".to_owned()));
            };
            let place = match line_of(text, &key) {
                Some(line) => format!("{origin}, line {line}"),
                None => origin.to_owned(),
            };
            let value = finite(&place, &key, value)?;
            values.insert(key, (place, value));
        }
        for argument in overrides {
            let bad = || JobError::Override {
                argument: argument.clone(),
            };
            let (key, text) = argument.split_once('=').ok_or_else(bad)?;
            let key = key.trim_start_matches('-').trim();
            let value: serde_yaml_ng::Value = serde_yaml_ng::from_str(text).map_err(|_| bad())?;
            if key.is_empty() {
                return Err(bad());
            }
            let place = format!("argument `{argument}`");
            let value = finite(&place, key, value)?;
            values.insert(key.to_owned(), (place, value));
        }
        Ok(Self {
            origin: origin.to_owned(),
            values,
        })
    }

    /// The file's name for messages.
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    /// Sets a key that another way than the file or an override gave; `place` says which.
    pub(super) fn put(&mut self, key: &str, place: &str, text: &str) {
        let value = (place.to_owned(), Value::String(text.to_owned()));
        self.values.insert(key.to_owned(), value);
    }

    /// Lets `key`, where it is missing, have the value of `other`.
    pub(super) fn stand_in(&mut self, key: &str, other: &str) {
        if self.value(key).is_none()
            && let Some(value) = self.values.get(other)
        {
            self.values.insert(key.to_owned(), value.clone());
        }
    }

    /// Every key with its place and value.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &String, &Value)> {
        self.values
            .iter()
            .map(|(key, (place, value))| (key, place, value))
    }

    /// All keys and values as one JSON object.
    pub(super) fn to_json(&self) -> Value {
        let pairs = self
            .iter()
            .map(|(key, _, value)| (key.clone(), value.clone()));
        Value::Object(pairs.collect())
    }

    /// The value of a key; none where it is missing or null.
    pub(super) fn value(&self, key: &str) -> Option<&Value> {
        let (_, value) = self.values.get(key)?;
        (!value.is_null()).then_some(value)
    }

    pub(super) fn wrong(&self, key: &str, expected: &str) -> JobError {
        let (place, found) = match self.values.get(key) {
            Some((place, value)) => (place.clone(), format!("`{value}`")),
            None => (self.origin.clone(), "nothing".to_owned()),
        };
        JobError::Value {
            place,
            key: key.to_owned(),
            expected: expected.to_owned(),
            found,
        }
    }

    pub(super) fn unsupported(&self, key: &str, reason: &str) -> JobError {
        let (place, value) = match self.values.get(key) {
            Some((place, value)) => (place.clone(), plain(value)),
            None => (self.origin.clone(), String::new()),
        };
        JobError::Unsupported {
            place,
            key: key.to_owned(),
            value,
            reason: reason.to_owned(),
        }
    }

    pub(super) fn conflict(&self, key: &str, other: &str) -> JobError {
        let place = self.values.get(key).map(|(place, _)| place.clone());
        JobError::Conflict {
            place: place.unwrap_or_else(|| self.origin.clone()),
            key: key.to_owned(),
            other: other.to_owned(),
        }
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<String>, JobError> {
        match self.value(key) {
            None => Ok(None),
            // A model or dataset may be called `7`, which YAML reads as a number.
            Some(value @ (Value::String(_) | Value::Number(_))) => Ok(Some(plain(value))),
            Some(_) => Err(self.wrong(key, "text")),
        }
    }

    pub(super) fn required(&self, key: &str) -> Result<String, JobError> {
        let text = self.text(key)?.filter(|text| !text.trim().is_empty());
        text.ok_or_else(|| JobError::Missing {
            origin: self.origin.clone(),
            key: key.to_owned(),
        })
    }

    /// A list: YAML's own, or words between commas.
    pub(super) fn words(&self, key: &str) -> Result<Vec<String>, JobError> {
        let text = match self.value(key) {
            None => return Ok(Vec::new()),
            Some(Value::Array(items)) if items.iter().all(Value::is_string) => {
                items.iter().map(plain).collect::<Vec<_>>().join(",")
            }
            Some(Value::String(text)) => text.clone(),
            Some(_) => return Err(self.wrong(key, "names between commas")),
        };
        let words = text
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty());
        Ok(words.map(str::to_owned).collect())
    }

    /// Settings by name: a mapping, or the text of one.
    pub(super) fn map(&self, key: &str) -> Result<Map<String, Value>, JobError> {
        let map = match self.value(key) {
            None => Some(Map::new()),
            Some(Value::Object(map)) => Some(map.clone()),
            Some(Value::String(text)) => serde_json::from_str(text).ok(),
            Some(_) => None,
        };
        map.ok_or_else(|| self.wrong(key, "settings by name"))
    }

    pub(super) fn flag(&self, key: &str) -> Result<bool, JobError> {
        match self.value(key) {
            None => Ok(false),
            Some(value) => switch(value).ok_or_else(|| self.wrong(key, "true or false")),
        }
    }

    pub(super) fn whole(&self, key: &str, least: u64) -> Result<Option<u64>, JobError> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let expected = format!("a whole number from {least} to {MOST_WHOLE}");
        let number = value.as_u64().or_else(|| {
            let number = number_in(value)?;
            (number >= 0.0 && number.fract() == 0.0 && number < 1e15).then_some(number as u64)
        });
        let fits = number.filter(|number| (least..=MOST_WHOLE).contains(number));
        fits.map(Some).ok_or_else(|| self.wrong(key, &expected))
    }

    pub(super) fn number(&self, key: &str, usual: f64, most: f64) -> Result<f64, JobError> {
        let number = match self.value(key) {
            None => return Ok(usual),
            Some(value) => number_in(value),
        };
        let fits = number.filter(|number| (0.0..=most).contains(number));
        fits.ok_or_else(|| self.wrong(key, &format!("a number from 0 to {most}")))
    }
}

/// No count in a job is greater.
const MOST_WHOLE: u64 = 1 << 40;

/// A YAML value as JSON, which has no infinities and would turn them into null.
fn finite(place: &str, key: &str, value: serde_yaml_ng::Value) -> Result<Value, JobError> {
    let wrong = |found: String| JobError::Value {
        place: place.to_owned(),
        key: key.to_owned(),
        expected: "a number, a text, true, false or a list".to_owned(),
        found,
    };
    match value.as_f64() {
        Some(number) if !number.is_finite() => Err(wrong(number.to_string())),
        _ => serde_json::to_value(value).map_err(|error| wrong(error.to_string())),
    }
}

/// The words that YAML has for true and false in its older version, which the original reads.
pub fn switch(value: &Value) -> Option<bool> {
    match plain(value).to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// A number, also as a text: YAML 1.2 reads `1e-4` and `1_000` as such, the original as numbers.
pub fn number_in(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().replace('_', "").parse().ok(),
        _ => None,
    }
}

/// A value as its author wrote it.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The line that sets a key, counted from one.
fn line_of(text: &str, key: &str) -> Option<usize> {
    lines_of(text, key).next()
}

/// The lines that set a key, counted from one.
fn lines_of<'t>(text: &'t str, key: &'t str) -> impl Iterator<Item = usize> + 't {
    let sets = move |line: &str| {
        let line = line.trim_start_matches([' ', '{', '\t']);
        let line = line.trim_start_matches(['"', '\'']);
        let rest = line.strip_prefix(key);
        rest.is_some_and(|rest| rest.trim_start_matches(['"', '\'', ' ']).starts_with(':'))
    };
    let lines = text.lines().enumerate();
    lines.filter_map(move |(index, line)| sets(line).then_some(index + 1))
}

/// The key that stands in the file twice, where that is what the parser says.
fn twice(origin: &str, text: &str, reason: &str) -> Option<JobError> {
    let (_, rest) = reason.split_once("duplicate entry with key \"")?;
    let (key, _) = rest.split_once('"')?;
    let line = lines_of(text, key).nth(1)?;
    Some(JobError::Twice {
        place: format!("{origin}, line {line}"),
        key: key.to_owned(),
    })
}
