//! Tools in conversations: how a family describes them to the model, and how the model calls them.
//!
//! Descriptions and calls come as JSON. They are read, and written in the family's own words, byte for byte as
//! LLaMA-Factory writes them; `tests/golden/vectors/tools.json` holds what it writes.

use serde_json::{Map, Value, json};

use crate::error::DataError;
use crate::python_text::{dumps, dumps_indented, text_of};

/// A family's words for tools.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ToolFormat {
    /// `Action:` and `Action Input:`.
    #[default]
    Default,
    /// JSON in `<tool_call>`, as Qwen 2.5 and 3 have it.
    Qwen,
    /// One JSON object, as Llama 3.1 has it.
    Llama3,
    /// A JSON list, as Mistral's version 3 has it.
    Mistral,
}

impl ToolFormat {
    /// Every format with its name in a job file.
    pub const NAMES: [(&str, Self); 4] = [
        ("default", Self::Default),
        ("qwen", Self::Qwen),
        ("llama3", Self::Llama3),
        ("mistral", Self::Mistral),
    ];

    /// What the system text says about the tools that `tools`, a JSON list, describes.
    pub(crate) fn describe(self, tools: &str, date: &str) -> Result<String, DataError> {
        let tools = parse(tools, "a JSON list of tools")?;
        let tools = match &tools {
            Value::Array(tools) => tools,
            Value::Object(fields) if fields.is_empty() => return Ok(String::new()),
            other => return Err(misshapen("a JSON list of tools", other)),
        };
        if tools.is_empty() {
            return Ok(String::new());
        }
        if let Some(other) = tools.iter().find(|tool| !tool.is_object()) {
            return Err(misshapen("a tool as a JSON object", other));
        }
        match self {
            Self::Default => plain(tools),
            Self::Qwen => {
                let lines: Vec<String> = tools.iter().map(|tool| dumps(&wrapped(tool))).collect();
                let lines = lines.join("\n");
                Ok(format!("{QWEN_BEFORE}\n{lines}{QWEN_AFTER}"))
            }
            Self::Llama3 => {
                let mut text = format!("{LLAMA3_BEFORE}{date}{LLAMA3_AFTER}");
                for tool in tools {
                    text.push_str(&dumps_indented(&wrapped(tool)));
                    text.push_str("\n\n");
                }
                Ok(text)
            }
            Self::Mistral => {
                let tools = tools.iter().map(wrapped).collect();
                let tools = dumps(&Value::Array(tools));
                Ok(format!("[AVAILABLE_TOOLS] {tools}[/AVAILABLE_TOOLS]"))
            }
        }
    }

    /// What the model writes to make `calls`: JSON, one call or a list, maybe after a thought.
    ///
    /// `marked` names the marks of thoughts and calls, where the family's template looks for them.
    pub(crate) fn calls(self, calls: &str, marked: Option<&Marks>) -> Result<String, DataError> {
        let Some(marks) = marked else {
            return self.written(calls);
        };
        if let Some((whole, inner)) = between(calls, marks.call) {
            let around = calls.replace(whole, "");
            return Ok(around + &self.written(inner)?);
        }
        if let Some((whole, _)) = between(calls, marks.thought) {
            let bare = calls.replace(whole, "");
            return Ok(whole.to_owned() + &self.written(&bare)?);
        }
        self.written(calls)
    }

    fn written(self, calls: &str) -> Result<String, DataError> {
        let expected = "a tool call as JSON with `name` and `arguments`";
        let calls = match parse(calls, expected)? {
            Value::Array(calls) => calls,
            call => vec![call],
        };
        let mut pairs = Vec::with_capacity(calls.len());
        for call in &calls {
            match (call.get("name"), call.get("arguments")) {
                (Some(name), Some(arguments)) => pairs.push((name, arguments)),
                _ => return Err(misshapen(expected, call)),
            }
        }
        let as_json = |key: &str| -> Vec<Value> {
            let pairs = pairs.iter();
            let object = |(name, arguments): &(&Value, &Value)| {
                let mut call = Map::new();
                call.insert("name".to_owned(), (*name).clone());
                call.insert(key.to_owned(), (*arguments).clone());
                Value::Object(call)
            };
            pairs.map(object).collect()
        };
        Ok(match self {
            Self::Default => {
                let lines = pairs.iter().map(|(name, arguments)| {
                    let (name, arguments) = (text_of(name), dumps(arguments));
                    format!("Action: {name}\nAction Input: {arguments}")
                });
                lines.collect::<Vec<_>>().join("\n")
            }
            Self::Qwen => {
                let calls = as_json("arguments");
                let calls = calls
                    .iter()
                    .map(|call| format!("<tool_call>\n{}\n</tool_call>", dumps(call)));
                calls.collect::<Vec<_>>().join("\n")
            }
            Self::Llama3 => {
                let mut calls = as_json("parameters");
                match (calls.len(), calls.pop()) {
                    (1, Some(call)) => dumps(&call),
                    (_, last) => dumps(&Value::Array(calls.into_iter().chain(last).collect())),
                }
            }
            Self::Mistral => dumps(&Value::Array(as_json("arguments"))),
        })
    }
}

/// What stands around a thought, and around calls, in an answer that mixes them with text.
pub(crate) struct Marks {
    pub(crate) thought: [&'static str; 2],
    pub(crate) call: [&'static str; 2],
}

/// The first stretch between two marks: with them, and without.
fn between<'a>(text: &'a str, [open, close]: [&str; 2]) -> Option<(&'a str, &'a str)> {
    let start = text.find(open)?;
    let inner = start + open.len();
    let end = inner + text[inner..].find(close)?;
    Some((&text[start..end + close.len()], &text[inner..end]))
}

fn parse(text: &str, expected: &str) -> Result<Value, DataError> {
    serde_json::from_str(text).map_err(|source| {
        let start: String = text.chars().take(SHOWN).collect();
        DataError::ToolJson {
            expected: expected.to_owned(),
            found: format!("`{start}`, which is not valid JSON ({source})"),
        }
    })
}

/// Characters of a text that a message shows.
const SHOWN: usize = 60;

fn misshapen(expected: &str, found: &Value) -> DataError {
    let found: String = dumps(found).chars().take(SHOWN).collect();
    DataError::ToolJson {
        expected: expected.to_owned(),
        found: format!("`{found}`"),
    }
}

/// A bare function as a tool.
fn wrapped(tool: &Value) -> Value {
    if is_wrapped(tool) {
        return tool.clone();
    }
    json!({"type": "function", "function": tool})
}

fn is_wrapped(tool: &Value) -> bool {
    tool.get("type").and_then(Value::as_str) == Some("function")
}

/// The default format: names, descriptions and parameters in plain words.
fn plain(tools: &[Value]) -> Result<String, DataError> {
    let mut text = String::new();
    let mut names = Vec::with_capacity(tools.len());
    for tool in tools {
        let function = if is_wrapped(tool) {
            tool.get("function")
        } else {
            Some(tool)
        };
        let function = function.unwrap_or(&Value::Null);
        let described = |path: &str| misshapen(&format!("a tool with `{path}`"), tool);
        let name = text_of(function.get("name").ok_or_else(|| described("name"))?);
        let parameters = function.get("parameters");
        let properties = parameters.and_then(|p| p.get("properties"));
        let properties = properties.and_then(Value::as_object);
        let properties = properties.ok_or_else(|| described("parameters.properties"))?;
        let required = match parameters.and_then(|p| p.get("required")) {
            None => &[],
            Some(Value::Array(names)) => names.as_slice(),
            Some(other) => return Err(misshapen("`required` as a list of names", other)),
        };
        let description = said(function, "description");
        text.push_str("> Tool Name: ");
        text.push_str(&name);
        text.push_str("\nTool Description: ");
        text.push_str(&description);
        text.push_str("\nTool Args:\n");
        for (name, parameter) in properties {
            let is_required = required.iter().any(|other| other.as_str() == Some(name));
            text.push_str(&parameter_line(name, parameter, is_required)?);
        }
        text.push('\n');
        names.push(name);
    }
    let names = names.join(", ");
    Ok(format!(
        "{PLAIN_BEFORE}{text}{PLAIN_FORMAT}{names}{PLAIN_AFTER}"
    ))
}

fn parameter_line(name: &str, parameter: &Value, is_required: bool) -> Result<String, DataError> {
    if !parameter.is_object() {
        return Err(misshapen("a parameter as a JSON object", parameter));
    }
    let required = if is_required { ", required" } else { "" };
    let choices = match parameter.get("enum") {
        Some(Value::Array(choices)) if !choices.is_empty() => {
            let texts = choices
                .iter()
                .map(Value::as_str)
                .collect::<Option<Vec<_>>>();
            let texts = texts.ok_or_else(|| misshapen("`enum` as a list of texts", parameter))?;
            format!(", should be one of [{}]", texts.join(", "))
        }
        None | Some(Value::Null | Value::Array(_)) => String::new(),
        Some(other) => return Err(misshapen("`enum` as a list of texts", other)),
    };
    let items = match parameter.get("items") {
        Some(Value::Object(item)) if !item.is_empty() => {
            let kind = item.get("type").map(text_of).unwrap_or_default();
            format!(", where each item should be {kind}")
        }
        None | Some(Value::Null | Value::Object(_)) => String::new(),
        Some(other) => return Err(misshapen("`items` as a JSON object", other)),
    };
    let (kind, description) = (said(parameter, "type"), said(parameter, "description"));
    Ok(format!(
        "  - {name} ({kind}{required}): {description}{choices}{items}\n"
    ))
}

/// A field's text, or none.
fn said(object: &Value, field: &str) -> String {
    object.get(field).map(text_of).unwrap_or_default()
}

const PLAIN_BEFORE: &str = "You have access to the following tools:\n";
const PLAIN_FORMAT: &str =
    "Use the following format if using a tool:\n```\nAction: tool name (one of [";
const PLAIN_AFTER: &str = "])\nAction Input: the input to the tool, in a JSON format representing the kwargs \
     (e.g. ```{\"input\": \"hello world\", \"num_beams\": 5}```)\n```\n";
const QWEN_BEFORE: &str = "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n\
     You are provided with function signatures within <tools></tools> XML tags:\n<tools>";
const QWEN_AFTER: &str = "\n</tools>\n\nFor each function call, return a json object with function name and arguments within \
     <tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call>";
const LLAMA3_BEFORE: &str = "Cutting Knowledge Date: December 2023\nToday Date: ";
const LLAMA3_AFTER: &str = "\n\nYou have access to the following functions. To call a function, please respond with JSON for a function call. \
     Respond in the format {\"name\": function name, \"parameters\": dictionary of argument name and its value}. \
     Do not use variables.\n\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_tool_is_an_error_that_says_so() {
        for (tools, expected) in [
            ("oops", "not valid JSON"),
            ("{\"a\": 1}", "a JSON list of tools"),
            ("[1]", "a tool as a JSON object"),
            ("[{}]", "a tool with `name`"),
            ("[{\"name\": \"a\"}]", "a tool with `parameters.properties`"),
            (
                "[{\"name\": \"a\", \"parameters\": {\"properties\": {\"b\": {\"enum\": [1]}}}}]",
                "`enum` as a list of texts",
            ),
        ] {
            let error = ToolFormat::Default.describe(tools, "").unwrap_err();
            assert!(error.to_string().contains(expected), "{tools}: {error}");
        }
        for calls in ["oops", "{\"name\": \"a\"}", "[{\"arguments\": {}}]", "3"] {
            assert!(ToolFormat::Qwen.calls(calls, None).is_err(), "{calls}");
        }
    }

    #[test]
    fn no_tools_say_nothing() {
        for tools in ["[]", "{}"] {
            assert_eq!(ToolFormat::Llama3.describe(tools, "today").unwrap(), "");
        }
    }
}
