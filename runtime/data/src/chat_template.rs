//! The chat template that a model brings: a Jinja program, so foreign input that must be kept on a leash.
//!
//! It is looked for in `chat_template.jinja`, then in `tokenizer_config.json`. Its recursion, its steps and the text
//! that it writes are bounded; it can open no file and call nothing but what stands here.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, Error, ErrorKind};
use serde::Serialize;
use serde_json::Map;

use crate::error::DataError;
use crate::jinja;
use crate::source::small;
use crate::tokenizer::Tokenizer;

/// The longest template that is read; real ones have a few kilobytes.
const LONGEST: u64 = 1 << 20;

/// Bytes of the settings, which may name every special token.
const LARGEST_SETTINGS: u64 = 64 << 20;

/// Steps of a rendering; a conversation of a thousand turns takes a hundred thousand.
const FUEL: u64 = 10_000_000;

/// Calls within calls.
const DEPTH: usize = 64;

/// The longest text that a rendering may write.
const LONGEST_TEXT: usize = 16 << 20;

/// A model's own chat template.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ChatTemplate {
    origin: PathBuf,
    source: String,
    begin: String,
    end: String,
}

/// One message of a chat.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Message<'a> {
    /// `system`, `user` or `assistant`.
    pub role: &'a str,
    /// What it says.
    pub content: &'a str,
}

impl ChatTemplate {
    /// Reads the template in a model's folder, if it has one.
    pub fn of_model(folder: &Path, tokenizer: &Tokenizer) -> Result<Option<Self>, DataError> {
        let file = folder.join("chat_template.jinja");
        let (origin, source) = if file.is_file() {
            (file.clone(), Some(read(&file)?))
        } else {
            let file = folder.join("tokenizer_config.json");
            let source = in_settings(&file)?;
            (file, source)
        };
        let Some(source) = source else {
            return Ok(None);
        };
        Ok(Some(Self {
            origin,
            source,
            begin: tokenizer.begin_token().unwrap_or("").to_owned(),
            end: tokenizer.end_token().to_owned(),
        }))
    }

    /// Where it was read.
    pub fn origin(&self) -> &Path {
        &self.origin
    }

    /// Writes `messages` as the model reads them; `answer`: up to where the model answers.
    pub fn render(&self, messages: &[Message<'_>], answer: bool) -> Result<String, DataError> {
        self.render_chat(&messages, &Map::new(), answer)
    }

    /// The same for messages of any form, with `more` for the template to look at, such as `tools`.
    pub fn render_chat(
        &self,
        messages: &impl Serialize,
        more: &Map<String, serde_json::Value>,
        answer: bool,
    ) -> Result<String, DataError> {
        self.try_render(messages, more, answer)
            .map_err(|source| DataError::ChatTemplate {
                path: self.origin.clone(),
                line: source.line().unwrap_or(0),
                reason: reason(&source),
            })
    }

    /// Whether the template's program has this word.
    pub fn mentions(&self, word: &str) -> bool {
        self.source.contains(word)
    }

    fn try_render(
        &self,
        messages: &impl Serialize,
        more: &Map<String, serde_json::Value>,
        answer: bool,
    ) -> Result<String, Error> {
        let mut environment = Environment::new();
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(DEPTH);
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_unknown_method_callback(jinja::method);
        environment.add_function("raise_exception", |text: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, text))
        });
        environment.add_function("strftime_now", |format: String| jinja::now(&format));
        environment.add_filter("tojson", |value: Value, options: Kwargs| {
            jinja::json(&value, &options)
        });
        let source = jinja::without_generation_marks(&self.source);
        let template = environment.template_from_str(&source)?;
        let mut text = Bounded::default();
        let context = minijinja::context! {
            messages, add_generation_prompt => answer, bos_token => self.begin, eos_token => self.end,
            ..Value::from_serialize(more)
        };
        template.render_captured_to(context, &mut text)?;
        String::from_utf8(text.0)
            .map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))
    }
}

/// The whole reason, the causes after it.
fn reason(error: &Error) -> String {
    let mut text = error.detail().map_or_else(
        || error.kind().to_string(),
        |detail| format!("{}: {detail}", error.kind()),
    );
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Takes text up to a limit.
#[derive(Default)]
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > LONGEST_TEXT {
            return Err(io::Error::other(format!(
                "more than {LONGEST_TEXT} bytes of text"
            )));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn read(path: &Path) -> Result<String, DataError> {
    String::from_utf8(small(path, LONGEST)?).map_err(|source| DataError::Read {
        path: path.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidData, source),
    })
}

/// The template in `tokenizer_config.json`: a text, or a list of named ones of which `default` counts.
fn in_settings(path: &Path) -> Result<Option<String>, DataError> {
    let text = small(path, LARGEST_SETTINGS)?;
    let settings: serde_json::Value =
        serde_json::from_slice(&text).map_err(|source| DataError::Json {
            path: path.to_owned(),
            line: source.line(),
            column: source.column(),
            source,
        })?;
    let found = match &settings["chat_template"] {
        serde_json::Value::Array(named) => {
            let default = named.iter().find(|entry| entry["name"] == "default");
            default.and_then(|entry| entry["template"].as_str())
        }
        other => other.as_str(),
    };
    Ok(found.map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::testing::golden_tokenizer;

    fn template(source: &str) -> ChatTemplate {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("chat_template.jinja"), source).unwrap();
        let found = ChatTemplate::of_model(folder.path(), &golden_tokenizer());
        found.unwrap().unwrap()
    }

    const ASKED: [Message<'_>; 1] = [Message {
        role: "user",
        content: "hi",
    }];

    #[test]
    fn what_model_templates_use_is_there() {
        for (source, expected) in [
            (
                "{% for m in messages %}<{{ m['role'] }}>{{ m.content.strip() }}{{ eos_token }}\n{% endfor %}{% if add_generation_prompt %}<bot>{% endif %}",
                "<user>hi<|im_end|>\n<bot>",
            ),
            (
                "{{ messages[0].role | tojson }}{{ {'a': [1, 'é']} | tojson }}",
                "\"user\"{\"a\": [1, \"é\"]}",
            ),
            (
                "{{ 'a</think>b'.split('</think>')[-1] }}{{ 'xay'.replace('a', '-') }}",
                "bx-y",
            ),
            (
                "{% generation %}{{ messages | length }}{%- endgeneration -%} ",
                "1",
            ),
            (
                "{% set ns = namespace(n=0) %}{% for m in messages[::-1] %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
                "1",
            ),
            (
                "{% for m in messages %}{% if true %}{% continue %}{% endif %}x{% endfor %}",
                "",
            ),
            (
                "{{ tools is defined }}{{ messages[0].tool_calls is defined }}{% if tools %}x{% endif %}",
                "FalseFalse",
            ),
            (
                "{% if messages[0]['content'] is string %}s{% endif %}{{ 'Hi'.upper() ~ 'Yo'.lower() }}",
                "sHIyo",
            ),
        ] {
            assert_eq!(
                template(source).render(&ASKED, true).unwrap(),
                expected,
                "{source}"
            );
        }
        let year = template("{{ strftime_now('%Y') }}")
            .render(&ASKED, true)
            .unwrap();
        assert!(year.parse::<u32>().unwrap() > 2023, "{year}");
    }

    #[test]
    fn a_template_sees_tools_and_other_settings() {
        let source = "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}{{ m.role }}:\
            {% for call in m.tool_calls %}{{ call.function.arguments.city }}{% endfor %}{% endfor %}{{ enable_thinking }}";
        let calls = serde_json::json!([
            {"role": "user", "content": "x"},
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"city": "Paris"}}}]},
        ]);
        let more = serde_json::json!({"tools": [{"name": "f"}], "enable_thinking": false});
        let more = more.as_object().unwrap();
        let text = template(source).render_chat(&calls, more, true).unwrap();
        assert_eq!(text, "[{\"name\": \"f\"}]user:assistant:ParisFalse");
        assert!(template(source).mentions("tools"));
    }

    #[test]
    fn a_hostile_template_ends_with_a_reason() {
        for (source, expected) in [
            ("{{ raise_exception('no system role') }}", "no system role"),
            (
                "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
                "fuel",
            ),
            (
                "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
                "recursion",
            ),
            (
                "{% for a in range(50000) %}{{ 'xxxxxxxxxxxxxxxx' * 100 }}{% endfor %}",
                "",
            ),
            ("{% if %}", "line 1"),
            ("{{ open('/etc/passwd') }}", "unknown function"),
            ("{% include '/etc/passwd' %}", "not found"),
        ] {
            let error = template(source)
                .render(&ASKED, true)
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{source}: {error}");
        }
    }

    #[test]
    fn settings_hold_one_or_several() {
        let tokenizer = golden_tokenizer();
        for (settings, expected) in [
            (r#"{"chat_template": "a"}"#, Some("a")),
            (
                r#"{"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]}"#,
                Some("d"),
            ),
            (r#"{"chat_template": null}"#, None),
            ("{}", None),
        ] {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("tokenizer_config.json"), settings).unwrap();
            let found = ChatTemplate::of_model(folder.path(), &tokenizer).unwrap();
            let source = found.map(|template| template.source);
            assert_eq!(source.as_deref(), expected, "{settings}");
        }
    }
}
