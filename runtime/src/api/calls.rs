//! Calls of tools in the form of the `OpenAI` interface.

use serde_json::{Value, json};
use train_data::ToolFormat;

/// Letters and digits of an id that Mistral's template takes; it takes no other.
const SHORT: usize = 9;

/// Parts an answer into what it says and its calls. Where a call is broken, all of it is text.
pub(super) fn parted(answer: &str, format: ToolFormat, id: &str) -> (String, Vec<Value>) {
    let Some(found) = format.read(answer) else {
        return (answer.to_owned(), Vec::new());
    };
    let calls = found.calls.into_iter().enumerate().map(|(number, call)| {
        let id = match format {
            ToolFormat::Mistral => {
                let number = format!("{number:03}");
                let start = id.len().min(SHORT.saturating_sub(number.len()));
                format!("{}{number}", &id[..start])
            }
            ToolFormat::Default | ToolFormat::Qwen | ToolFormat::Llama3 => {
                format!("call_{id}_{number}")
            }
        };
        json!({
            "id": id, "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        })
    });
    (found.said, calls.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_taken_out_of_the_text() {
        let answer = "Let me see.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"北京\"}}\n</tool_call>\n\
                      <tool_call>{\"name\": \"time\", \"arguments\": {}}</tool_call>";
        let (text, calls) = parted(answer, ToolFormat::Qwen, "x");
        assert_eq!(text, "Let me see.");
        assert_eq!(calls.len(), 2);
        assert_eq!(calls[0]["function"]["name"], "weather");
        assert_eq!(calls[0]["function"]["arguments"], r#"{"city": "北京"}"#);
        assert_eq!(calls[1]["function"]["arguments"], "{}");
        assert_ne!(calls[0]["id"], calls[1]["id"]);
        for broken in [
            "plain",
            "<tool_call>{",
            "<tool_call>x</tool_call>",
            "a <tool_call>[]</tool_call>",
        ] {
            let found = parted(broken, ToolFormat::Qwen, "x");
            assert_eq!(found, (broken.to_owned(), vec![]));
        }
    }

    #[test]
    fn mistral_gets_ids_that_its_template_takes() {
        let answer = r#"[{"name": "a", "arguments": {}}, {"name": "b", "arguments": {}}]"#;
        let (_, calls) = parted(answer, ToolFormat::Mistral, "0123456789abcdef");
        let ids: Vec<&str> = calls
            .iter()
            .map(|call| call["id"].as_str().unwrap())
            .collect();
        assert_eq!(ids, ["012345000", "012345001"]);
    }
}
