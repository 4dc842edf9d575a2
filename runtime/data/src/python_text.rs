//! Values as Python writes them: `json.dumps(value, ensure_ascii=False)` and `str(value)`.
//!
//! Tool descriptions and calls are read and written again before they become tokens, so blanks, line ends and the digits
//! of a number must be Python's.

use std::fmt::Write as _;

use serde_json::{Number, Value};

/// `json.dumps(value, ensure_ascii=False)`.
pub(crate) fn dumps(value: &Value) -> String {
    let mut text = String::new();
    json(&mut text, value, None, 0);
    text
}

/// `json.dumps(value, indent=4, ensure_ascii=False)`.
pub(crate) fn dumps_indented(value: &Value) -> String {
    let mut text = String::new();
    json(&mut text, value, Some(4), 0);
    text
}

fn json(text: &mut String, value: &Value, indent: Option<usize>, depth: usize) {
    let (open, close, count) = match value {
        Value::Null => return text.push_str("null"),
        Value::Bool(true) => return text.push_str("true"),
        Value::Bool(false) => return text.push_str("false"),
        Value::Number(number) => return text.push_str(&digits(number)),
        Value::String(content) => return quoted(text, content),
        Value::Array(items) => ('[', ']', items.len()),
        Value::Object(fields) => ('{', '}', fields.len()),
    };
    text.push(open);
    let line = |text: &mut String, depth: usize| {
        if let Some(indent) = indent {
            text.push('\n');
            text.extend(std::iter::repeat_n(' ', indent * depth));
        }
    };
    let next = |text: &mut String, index: usize| {
        if index > 0 {
            text.push_str(if indent.is_some() { "," } else { ", " });
        }
        line(text, depth + 1);
    };
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                next(text, index);
                json(text, item, indent, depth + 1);
            }
        }
        Value::Object(fields) => {
            for (index, (key, item)) in fields.iter().enumerate() {
                next(text, index);
                quoted(text, key);
                text.push_str(": ");
                json(text, item, indent, depth + 1);
            }
        }
        _ => {}
    }
    if count > 0 {
        line(text, depth);
    }
    text.push(close);
}

fn quoted(text: &mut String, content: &str) {
    text.push('"');
    for letter in content.chars() {
        match letter {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            control if control < ' ' => {
                let _infallible = write!(text, "\\u{:04x}", u32::from(control));
            }
            other => text.push(other),
        }
    }
    text.push('"');
}

/// A number as Python's `repr` has it.
fn digits(number: &Number) -> String {
    match number.as_f64() {
        Some(value) if number.is_f64() => float(value),
        _ => number.to_string(),
    }
}

/// The fewest digits that give the number back, with an exponent below 1e-4 and from 1e16 on.
fn float(value: f64) -> String {
    let short = format!("{value:e}");
    let (mantissa, exponent) = short.split_once('e').unwrap_or((&short, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value == 0.0 || (-4..16).contains(&exponent) {
        let plain = format!("{value}");
        return if plain.contains('.') {
            plain
        } else {
            format!("{plain}.0")
        };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

/// `str(value)`.
pub(crate) fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => repr(other),
    }
}

fn repr(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => digits(number),
        Value::String(text) => {
            let mark = if text.contains('\'') && !text.contains('"') {
                '"'
            } else {
                '\''
            };
            let mut quoted = String::from(mark);
            for letter in text.chars() {
                match letter {
                    '\\' => quoted.push_str("\\\\"),
                    '\n' => quoted.push_str("\\n"),
                    '\r' => quoted.push_str("\\r"),
                    '\t' => quoted.push_str("\\t"),
                    same if same == mark => quoted.extend(['\\', mark]),
                    control if control < ' ' || control == '\u{7f}' => {
                        let _infallible = write!(quoted, "\\x{:02x}", u32::from(control));
                    }
                    other => quoted.push(other),
                }
            }
            quoted.push(mark);
            quoted
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(repr).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(fields) => {
            let fields = fields.iter();
            let fields: Vec<String> = fields
                .map(|(key, item)| format!("{}: {}", repr(&key.as_str().into()), repr(item)))
                .collect();
            format!("{{{}}}", fields.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What Python 3.11 printed for the same values.
    #[test]
    fn values_are_written_as_python_does() {
        for (value, text) in [
            (json!([]), "[]"),
            (json!({}), "{}"),
            (
                json!({"a": [1, -2, true, null], "b": "é\u{7f}"}),
                "{\"a\": [1, -2, true, null], \"b\": \"é\u{7f}\"}",
            ),
            (
                json!("\"\\/\n\r\t\u{8}\u{c}\u{1}"),
                "\"\\\"\\\\/\\n\\r\\t\\b\\f\\u0001\"",
            ),
            (
                json!([1.0, -0.0, 0.1, 1e15, 1e16, 1.5e300, 1e-4, 1.25e-5]),
                "[1.0, -0.0, 0.1, 1000000000000000.0, 1e+16, 1.5e+300, 0.0001, 1.25e-05]",
            ),
            (
                json!([123_456_789.125, 1e22, u64::MAX]),
                "[123456789.125, 1e+22, 18446744073709551615]",
            ),
        ] {
            assert_eq!(dumps(&value), text);
        }
        let indented = "{\n    \"a\": [\n        1\n    ],\n    \"b\": {},\n    \"c\": []\n}";
        assert_eq!(
            dumps_indented(&json!({"a": [1], "b": {}, "c": []})),
            indented
        );
    }

    #[test]
    fn texts_of_values_are_pythons() {
        for (value, text) in [
            (json!("a'b"), "a'b"),
            (json!(["string", "null"]), "['string', 'null']"),
            (
                json!({"a": [true, null, 1.0], "b'": "\"\n"}),
                "{'a': [True, None, 1.0], \"b'\": '\"\\n'}",
            ),
        ] {
            assert_eq!(text_of(&value), text);
        }
    }
}
