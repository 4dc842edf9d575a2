//! Calls of tools in an answer: what a family's model writes to call a tool, read back as LLaMA-Factory reads it.
//!
//! An answer that is not wholly in the family's form is a text. `tests/golden/vectors/calls.json` holds what the original
//! makes of answers.

use serde_json::{Map, Value};

use crate::python_text::dumps;
use crate::tools::ToolFormat;

/// A tool that a model calls.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ToolCall {
    /// Its name.
    pub name: String,
    /// What it is given, as JSON.
    pub arguments: String,
}

/// An answer that calls tools.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Calls {
    /// What the model says before.
    pub said: String,
    /// At least one.
    pub calls: Vec<ToolCall>,
}

impl ToolFormat {
    /// The calls in an answer; none: it is a text.
    pub fn read(self, answer: &str) -> Option<Calls> {
        let (said, calls) = match self {
            Self::Default => actions(answer)?,
            Self::Qwen => marked(answer)?,
            Self::Llama3 => ("", listed(answer, "parameters")?),
            Self::Mistral => {
                // The mark is a special token, which is left out of texts where the tokenizer knows it as such.
                let bare = answer.trim_start();
                let bare = bare.strip_prefix("[TOOL_CALLS]").unwrap_or(bare);
                ("", listed(bare, "arguments")?)
            }
        };
        (!calls.is_empty()).then(|| Calls {
            said: said.trim().to_owned(),
            calls,
        })
    }
}

/// One JSON object, or a list of them.
fn listed(answer: &str, arguments: &str) -> Option<Vec<ToolCall>> {
    let calls = match serde_json::from_str(answer.trim()).ok()? {
        Value::Array(calls) => calls,
        call => vec![call],
    };
    calls
        .iter()
        .map(|call| of_object(call, arguments))
        .collect()
}

fn of_object(call: &Value, arguments: &str) -> Option<ToolCall> {
    let name = call.get("name")?.as_str()?.to_owned();
    let arguments = match call.get(arguments)? {
        // Who learnt from calls whose arguments are JSON in a text writes them so.
        Value::String(text) if serde_json::from_str::<Map<String, Value>>(text).is_ok() => {
            text.clone()
        }
        other => dumps(other),
    };
    Some(ToolCall { name, arguments })
}

/// JSON between `<tool_call>` and `</tool_call>`, one after the other up to the answer's end.
fn marked(answer: &str) -> Option<(&str, Vec<ToolCall>)> {
    const OPEN: &str = "<tool_call>";
    const CLOSE: &str = "</tool_call>";
    let (said, mut rest) = answer.split_once(OPEN)?;
    let mut calls = Vec::new();
    loop {
        // A mark that something else follows is a part of the call's text.
        let mut ends = rest.match_indices(CLOSE).filter(|(at, _)| *at > 0);
        let (at, behind) = ends.find_map(|(at, _)| {
            let behind = rest[at + CLOSE.len()..].trim_start();
            (behind.is_empty() || behind.starts_with(OPEN)).then_some((at, behind))
        })?;
        let call: Value = serde_json::from_str(rest[..at].trim()).ok()?;
        calls.push(of_object(&call, "arguments")?);
        match behind.strip_prefix(OPEN) {
            Some(next) => rest = next,
            None => return Some((said, calls)),
        }
    }
}

/// `Action: name` and `Action Input: arguments`, as often as they come.
fn actions(answer: &str) -> Option<(&str, Vec<ToolCall>)> {
    const ACTION: &str = "Action:";
    const INPUT: &str = "Action Input:";
    let mut calls = Vec::new();
    let mut said = answer;
    let mut rest = answer;
    while let Some(at) = rest.find(ACTION) {
        let behind = rest[at + ACTION.len()..].trim_start();
        let is_of_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let length = behind.find(|c| !is_of_name(c)).unwrap_or(behind.len());
        // A name may run into the word that follows it.
        let (mut name, mut input) = behind.split_at(length);
        if let (Some(short), true) = (name.strip_suffix("Action"), input.starts_with(" Input:")) {
            (name, input) = (short, &behind[short.len()..]);
        }
        let input = input.trim_start().strip_prefix(INPUT);
        let Some(input) = input.filter(|_| !name.is_empty()) else {
            rest = &rest[at + ACTION.len()..];
            continue;
        };
        if calls.is_empty() {
            said = &answer[..answer.len() - rest.len() + at];
        }
        // Up to the next call, which takes a character at least.
        let input = input.trim_start();
        let first = input.chars().next().map_or(0, char::len_utf8);
        let end = input[first..]
            .find(ACTION)
            .map_or(input.len(), |at| at + first);
        let json = input[..end].trim().trim_matches('"').trim_matches('`');
        let arguments: Value = serde_json::from_str(json).ok()?;
        calls.push(ToolCall {
            name: name.to_owned(),
            arguments: dumps(&arguments),
        });
        rest = &input[end..];
    }
    Some((said, calls))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_the_original_reads_them() {
        let text = include_str!("../../../tests/golden/vectors/calls.json");
        let vectors: Value = serde_json::from_str(text).unwrap();
        let cases = vectors["answers"].as_array().unwrap();
        assert!(cases.len() > 60);
        let (mut texts, mut called) = (0, 0);
        for case in cases {
            let format = ToolFormat::NAMES.iter();
            let format = format
                .clone()
                .find(|(name, _)| case["format"] == *name)
                .unwrap()
                .1;
            let found = format.read(case["answer"].as_str().unwrap());
            let found = found.map(|found| found.calls).unwrap_or_default();
            let pairs: Vec<_> = found.iter().map(|c| [&*c.name, &*c.arguments]).collect();
            assert_eq!(serde_json::json!(pairs), case["calls"], "{case}");
            if pairs.is_empty() {
                texts += 1;
            } else {
                called += 1;
            }
        }
        assert!(texts > 10 && called > 20);
    }

    #[test]
    fn what_is_said_before_a_call_is_kept() {
        let call = ToolCall {
            name: "a".to_owned(),
            arguments: "{\"b\": 1}".to_owned(),
        };
        for (format, answer) in [
            (
                ToolFormat::Qwen,
                "Let me see.\n<tool_call>\n{\"name\": \"a\", \"arguments\": {\"b\": 1}}\n</tool_call>",
            ),
            (
                ToolFormat::Default,
                "Let me see.\nAction: a\nAction Input: {\"b\":1}",
            ),
        ] {
            let found = format.read(answer).unwrap();
            assert_eq!(
                (found.said.as_str(), &found.calls[..]),
                ("Let me see.", &[call.clone()][..])
            );
        }
        let found =
            ToolFormat::Mistral.read("[TOOL_CALLS] [{\"name\": \"a\", \"arguments\": {\"b\": 1}}]");
        assert_eq!(found.unwrap().calls, [call]);
    }
}
