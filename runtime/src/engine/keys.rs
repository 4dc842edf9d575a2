//! What LLaMA-Factory's training takes, key by key: `keys.txt`, one key a line; and the templates that it has.

use std::sync::LazyLock;

use serde_json::{Number, Value};
use train::{JobError, number_in, switch};
use train_data::similar;

/// What a key takes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Takes {
    /// True or false.
    Switch,
    /// A whole number.
    Whole,
    /// A number.
    Number,
    /// Text; one of these words where there are any.
    Text(Vec<&'static str>),
    /// Lists, tables, or several of the above.
    Any,
}

static KEYS: LazyLock<Vec<(&'static str, Takes)>> = LazyLock::new(|| {
    let lines = include_str!("keys.txt").lines();
    let lines = lines.filter(|line| !line.starts_with('#'));
    lines.filter_map(entry).collect()
});

fn entry(line: &'static str) -> Option<(&'static str, Takes)> {
    let mut words = line.split(' ');
    let key = words.next()?;
    let takes = match words.next()? {
        "switch" => Takes::Switch,
        "whole" => Takes::Whole,
        "number" => Takes::Number,
        "text" => Takes::Text(words.collect()),
        "any" => Takes::Any,
        _ => return None,
    };
    Some((key, takes))
}

/// Whether it has a template of this name.
pub(super) fn has_template(name: &str) -> bool {
    templates().any(|known| known == name)
}

/// The template whose name is most like `name`.
pub(super) fn nearest_template(name: &str) -> &'static str {
    similar(name, templates()).unwrap_or("default")
}

fn templates() -> impl Iterator<Item = &'static str> {
    let lines = include_str!("templates.txt").lines();
    lines.filter(|line| !line.starts_with('#'))
}

/// What `key` takes; none: training does not know it.
pub(super) fn takes(key: &str) -> Option<&'static Takes> {
    let at = KEYS.binary_search_by(|(known, _)| (*known).cmp(key));
    at.ok().map(|at| &KEYS[at].1)
}

/// The value as the key's type has it. LLaMA-Factory does not convert what stands in a file, so a number that is written as
/// text, or a `no` that is meant as false, would be taken for something else there.
pub(super) fn as_taken(
    takes: &Takes,
    key: &str,
    place: &str,
    value: &Value,
) -> Result<Value, JobError> {
    let wrong = |expected: String| JobError::Value {
        place: place.to_owned(),
        key: key.to_owned(),
        expected,
        found: format!("`{value}`"),
    };
    match (takes, value) {
        (Takes::Any, _) | (Takes::Switch, Value::Bool(_)) => Ok(value.clone()),
        (Takes::Switch, value) => match switch(value) {
            Some(flag) => Ok(flag.into()),
            None => Err(wrong("true or false".to_owned())),
        },
        (Takes::Whole, value) => whole(value).ok_or_else(|| wrong("a whole number".to_owned())),
        (Takes::Number, value) => number(value).ok_or_else(|| wrong("a number".to_owned())),
        (Takes::Text(words), Value::String(text)) if !words.is_empty() => {
            let known = words.contains(&text.as_str());
            let expected = || wrong(format!("one of {}", words.join(", ")));
            known.then(|| value.clone()).ok_or_else(expected)
        }
        // A model or dataset may be called `7`.
        (Takes::Text(_), Value::Number(number)) => Ok(number.to_string().into()),
        (Takes::Text(_), value) => Ok(value.clone()),
    }
}

fn whole(value: &Value) -> Option<Value> {
    if value.is_i64() || value.is_u64() {
        return Some(value.clone());
    }
    let number = number_in(value)?;
    let fits = number.fract() == 0.0 && number.abs() < 1e15;
    fits.then(|| (number as i64).into())
}

fn number(value: &Value) -> Option<Value> {
    if value.is_number() {
        return Some(value.clone());
    }
    Number::from_f64(number_in(value)?).map(Value::Number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_line_of_the_list_is_a_key() {
        let lines = include_str!("keys.txt").lines();
        let lines = lines.filter(|line| !line.starts_with('#'));
        assert_eq!(lines.count(), KEYS.len());
        assert!(KEYS.is_sorted_by(|a, b| a.0 < b.0), "sorted, each once");
        assert_eq!(takes("lora_rank"), Some(&Takes::Whole));
        assert_eq!(takes("n_shot"), None);
    }

    #[test]
    fn values_become_what_the_key_takes() {
        for (key, given, taken) in [
            ("learning_rate", json!("1e-4"), Some(json!(1e-4))),
            ("learning_rate", json!("fast"), None),
            ("bf16", json!("yes"), Some(json!(true))),
            ("bf16", json!("no"), Some(json!(false))),
            ("bf16", json!("maybe"), None),
            ("eval_strategy", json!("no"), Some(json!("no"))),
            ("lora_rank", json!(8.0), Some(json!(8))),
            ("lora_rank", json!("1e1"), Some(json!(10))),
            ("lora_rank", json!(8.5), None),
            ("val_size", json!(0.1), Some(json!(0.1))),
            ("dataset", json!(7), Some(json!("7"))),
            ("stage", json!("ppo"), Some(json!("ppo"))),
            ("stage", json!("dop"), None),
            (
                "deepspeed",
                json!({"train_batch_size": "auto"}),
                Some(json!({"train_batch_size": "auto"})),
            ),
        ] {
            let found = as_taken(takes(key).unwrap(), key, "job.yaml", &given).ok();
            assert_eq!(found, taken, "{key}: {given}");
        }
    }
}
