//! How a chat is written for a model: by a named template, or by the model's own.

use std::fs;
use std::path::Path;

use report::Trouble;
use serde_json::{Map, Value, json};
use train::Wording;
use train_data::{ChatTemplate, DataError, Opening, Template, Tokenizer, ToolFormat, Turn};

use crate::error::RuntimeError;

/// A way to write chats.
pub(crate) struct Speech {
    way: Way,
    wording: Wording,
}

enum Way {
    /// A template by its name in a job file.
    Named(Box<Template>),
    /// The program that the model brings.
    Own(ChatTemplate),
}

/// By which words of a model's own template its calls of tools are known, if it has calls that this program reads.
const CALLS: [(&str, ToolFormat); 3] = [
    ("<tool_call>", ToolFormat::Qwen),
    ("[AVAILABLE_TOOLS]", ToolFormat::Mistral),
    (
        "\"parameters\": dictionary of argument name and its value",
        ToolFormat::Llama3,
    ),
];

/// Between what several tools answered one after the other, as the original joins them.
const BETWEEN: &str = "\n</tool_response>\n<tool_response>\n";

impl Speech {
    /// The template that is named, or the one in the model's folder.
    pub(crate) fn settle(
        wording: &Wording,
        folder: &Path,
        tokenizer: &mut Tokenizer,
    ) -> Result<Self, Trouble> {
        let way = if let Some(name) = &wording.template {
            let mut template = Template::named(name)?.clone();
            if let Some(format) = wording.tool_format {
                template = template.with_tools(format);
            }
            if let Some(system) = &wording.default_system {
                template = template.with_default_system(system.clone());
            }
            tokenizer.adapt_to(&template)?;
            Way::Named(Box::new(template))
        } else {
            let own = ChatTemplate::of_model(folder, tokenizer)?;
            Way::Own(own.ok_or_else(|| DataError::NoTemplate {
                path: folder.to_owned(),
                known: Template::names().collect::<Vec<_>>().join(", "),
            })?)
        };
        Ok(Self {
            way,
            wording: wording.clone(),
        })
    }

    /// The form of calls in answers, where the model can be told of tools in a form whose calls are read here.
    pub(crate) fn tool_format(&self) -> Option<ToolFormat> {
        match &self.way {
            Way::Named(template) => Some(template.tool_format()),
            Way::Own(own) if own.mentions("tools") => {
                let found = CALLS.iter().find(|(words, _)| own.mentions(words));
                found.map(|(_, format)| *format)
            }
            Way::Own(_) => None,
        }
    }

    /// The tokens of `messages`, each with its `role` and `content`, up to where the model answers.
    pub(crate) fn tokens(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Value],
        tools: Option<&Value>,
    ) -> Result<Vec<u32>, Trouble> {
        match &self.way {
            Way::Named(template) => {
                let (system, turns) = turns(messages)?;
                let tools = tools.map(functions).unwrap_or_default();
                let opening = Opening {
                    system: system.unwrap_or(""),
                    tools: &tools,
                    date: &self.wording.tool_date,
                };
                let thinking = self.wording.thinking;
                Ok(template.open_prompt(tokenizer, opening, &turns, thinking)?)
            }
            Way::Own(own) => {
                let mut messages = messages.to_vec();
                let opens = messages
                    .first()
                    .is_some_and(|first| first["role"] == "system");
                if let (false, Some(system)) = (opens, &self.wording.default_system) {
                    messages.insert(0, json!({"role": "system", "content": system}));
                }
                let mut more = Map::new();
                more.extend(tools.map(|tools| ("tools".to_owned(), tools.clone())));
                if !self.wording.thinking {
                    more.insert("enable_thinking".to_owned(), false.into());
                }
                let text = own.render_chat(&messages, &more, true)?;
                Ok(tokenizer.encode(&text)?)
            }
        }
    }

    /// Tokens at which an answer ends; `of_model` are those that the model's configuration names.
    pub(crate) fn ends(&self, tokenizer: &Tokenizer, folder: &Path, of_model: &[i64]) -> Vec<i64> {
        match &self.way {
            Way::Named(template) => {
                let ids = template.stop_ids(tokenizer).into_iter();
                ids.map(i64::from).collect()
            }
            Way::Own(_) => {
                let mut ends = generation_ends(&folder.join("generation_config.json"));
                ends.extend_from_slice(of_model);
                ends.push(tokenizer.end_id().into());
                ends.sort_unstable();
                ends.dedup();
                ends
            }
        }
    }
}

/// Tools of a request as the original hands them to a template: what it knows of a function, and nothing else.
fn functions(tools: &Value) -> String {
    let tools = tools.as_array().into_iter().flatten().map(|tool| {
        let function = &tool["function"];
        let known = ["name", "description", "parameters"].into_iter();
        let known = known.filter_map(|name| Some((name.to_owned(), function.get(name)?.clone())));
        Value::Object(known.collect())
    });
    Value::Array(tools.collect()).to_string()
}

/// The system text, and the turns, the last of which is open. A named template has no place for another order.
fn turns(messages: &[Value]) -> Result<(Option<&str>, Vec<Turn>), RuntimeError> {
    let text = |message: &'_ Value, key: &str| message[key].as_str().unwrap_or("").to_owned();
    let (system, rest) = match messages.split_first() {
        Some((first, rest)) if first["role"] == "system" => (first["content"].as_str(), rest),
        _ => (None, messages),
    };
    let before = messages.len() - rest.len();
    let mut turns: Vec<Turn> = Vec::new();
    let mut open = false;
    for (index, message) in rest.iter().enumerate() {
        match (message["role"].as_str().unwrap_or(""), turns.last_mut()) {
            (role @ ("user" | "tool"), _) if !open => {
                turns.push(Turn {
                    user: text(message, "content"),
                    observed: role == "tool",
                    ..Turn::default()
                });
                open = true;
            }
            ("tool", Some(last)) if last.observed => {
                last.user.push_str(BETWEEN);
                last.user.push_str(&text(message, "content"));
            }
            ("assistant", Some(last)) if open => {
                (last.assistant, last.called) = match message["tool_calls"].as_array() {
                    Some(calls) => (calls_of(calls), true),
                    None => (text(message, "content"), false),
                };
                open = false;
            }
            _ => {
                return Err(RuntimeError::Order {
                    number: before + index + 1,
                    found: text(message, "role"),
                    expected: if open { "assistant" } else { "user" },
                });
            }
        }
    }
    if !open {
        return Err(RuntimeError::Order {
            number: messages.len() + 1,
            found: "nothing".to_owned(),
            expected: "user",
        });
    }
    Ok((system, turns))
}

/// Calls that a message holds, as JSON that a template writes in its own words.
fn calls_of(calls: &[Value]) -> String {
    let calls = calls.iter().map(|call| {
        let function = &call["function"];
        json!({"name": function["name"], "arguments": function["arguments"]})
    });
    Value::Array(calls.collect()).to_string()
}

/// The end tokens in a `generation_config.json`. It is not needed, so a broken one is no fault.
fn generation_ends(path: &Path) -> Vec<i64> {
    let text = fs::read(path).unwrap_or_default();
    let settings: Value = serde_json::from_slice(&text).unwrap_or_default();
    match &settings["eos_token_id"] {
        Value::Array(many) => many.iter().filter_map(Value::as_i64).collect(),
        one => one.as_i64().into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_become_turns_in_one_order_only() {
        let message = |role: &str, content: &str| json!({"role": role, "content": content});
        let chat = [
            message("system", "s"),
            message("user", "a"),
            message("assistant", "b"),
            message("user", "c"),
        ];
        let (system, found) = turns(&chat).unwrap();
        assert_eq!(system, Some("s"));
        let texts: Vec<_> = found.iter().map(|t| (&*t.user, &*t.assistant)).collect();
        assert_eq!(texts, [("a", "b"), ("c", "")]);
        for (chat, number, expected) in [
            (&chat[..3], 4, "user"),
            (&chat[2..], 1, "user"),
            (&[chat[1].clone(), chat[3].clone()][..], 2, "assistant"),
            (&chat[..1], 2, "user"),
            (&[], 1, "user"),
        ] {
            match turns(chat).unwrap_err() {
                RuntimeError::Order {
                    number: n,
                    expected: e,
                    ..
                } => assert_eq!((n, e), (number, expected)),
                other => panic!("{other}"),
            }
        }
    }

    #[test]
    fn calls_and_what_tools_answered_become_turns() {
        let call = json!({"id": "1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}});
        let chat = [
            json!({"role": "user", "content": "a"}),
            json!({"role": "assistant", "content": "", "tool_calls": [call, call]}),
            json!({"role": "tool", "content": "x"}),
            json!({"role": "tool", "content": "y"}),
        ];
        let (_, found) = turns(&chat).unwrap();
        assert_eq!(found.len(), 2);
        assert!(found[0].called && found[1].observed && !found[0].observed);
        let one = r#"{"name":"f","arguments":{"a":1}}"#;
        assert_eq!(found[0].assistant, format!("[{one},{one}]"));
        assert_eq!(found[1].user, format!("x{BETWEEN}y"));
        let late = [chat[0].clone(), chat[2].clone()];
        assert!(turns(&late).is_err(), "nothing was called");
        let tools = json!([{"type": "function", "function": {
            "strict": true, "parameters": {}, "name": "f", "description": "d",
        }}]);
        let wanted = r#"[{"name":"f","description":"d","parameters":{}}]"#;
        assert_eq!(functions(&tools), wanted);
    }

    #[test]
    fn end_tokens_are_one_or_several_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("generation_config.json");
        for (text, expected) in [
            (r#"{"eos_token_id": 2}"#, vec![2]),
            (r#"{"eos_token_id": [2, 3]}"#, vec![2, 3]),
            ("{}", vec![]),
            ("not JSON", vec![]),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(generation_ends(&path), expected, "{text}");
        }
        assert!(generation_ends(&folder.path().join("none")).is_empty());
    }
}
