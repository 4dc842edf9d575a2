//! Calls of tools in an answer: JSON between `<tool_call>` and `</tool_call>`, as Qwen's and Hermes' templates have it.

use serde_json::{Value, json};

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

/// Parts an answer into its text and its calls, in the form of the interface. Where one call is broken, all of it is text.
pub(super) fn parted(answer: &str, id: &str) -> (String, Vec<Value>) {
    let whole = || (answer.to_owned(), Vec::new());
    let mut calls = Vec::new();
    let mut text = String::new();
    let mut rest = answer;
    while let Some((before, behind)) = rest.split_once(OPEN) {
        text.push_str(before);
        let Some((inner, after)) = behind.split_once(CLOSE) else {
            return whole();
        };
        let call: Value = serde_json::from_str(inner.trim()).unwrap_or_default();
        let Some(name) = call["name"].as_str() else {
            return whole();
        };
        let arguments = match &call["arguments"] {
            Value::String(text) => text.clone(),
            Value::Null => "{}".to_owned(),
            other => other.to_string(),
        };
        calls.push(json!({
            "id": format!("call_{id}_{}", calls.len()), "type": "function",
            "function": {"name": name, "arguments": arguments},
        }));
        rest = after;
    }
    text.push_str(rest);
    if calls.is_empty() {
        return whole();
    }
    (text.trim().to_owned(), calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_taken_out_of_the_text() {
        let answer = "Let me see.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"北京\"}}\n</tool_call>\n\
                      <tool_call>{\"name\": \"time\"}</tool_call>";
        let (text, calls) = parted(answer, "x");
        assert_eq!(text, "Let me see.");
        assert_eq!(calls.len(), 2);
        assert_eq!(calls[0]["function"]["name"], "weather");
        assert_eq!(calls[0]["function"]["arguments"], r#"{"city":"北京"}"#);
        assert_eq!(calls[1]["function"]["arguments"], "{}");
        assert_ne!(calls[0]["id"], calls[1]["id"]);
        for broken in [
            "plain",
            "<tool_call>{",
            "<tool_call>x</tool_call>",
            "a <tool_call>[]</tool_call>",
        ] {
            assert_eq!(parted(broken, "x"), (broken.to_owned(), vec![]));
        }
    }
}
