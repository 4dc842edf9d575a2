//! How a chat is written for a model: by a named template, or by the model's own.

use std::fs;
use std::path::Path;

use report::Trouble;
use serde_json::Value;
use train_data::{ChatTemplate, DataError, Message, Template, Tokenizer, Turn};

/// A way to write chats.
pub(crate) enum Speech {
    /// A template by its name in a job file.
    Named(&'static Template),
    /// The program that the model brings.
    Own(ChatTemplate),
}

impl Speech {
    /// The template called `name`, or the one in the model's folder.
    pub(crate) fn settle(
        name: Option<&str>,
        folder: &Path,
        tokenizer: &mut Tokenizer,
    ) -> Result<Self, Trouble> {
        if let Some(name) = name {
            let template = Template::named(name)?;
            tokenizer.adapt_to(template)?;
            return Ok(Self::Named(template));
        }
        match ChatTemplate::of_model(folder, tokenizer)? {
            Some(own) => Ok(Self::Own(own)),
            None => Err(DataError::NoTemplate {
                path: folder.to_owned(),
                known: Template::names().collect::<Vec<_>>().join(", "),
            }
            .into()),
        }
    }

    /// The tokens up to where the model answers.
    pub(crate) fn prompt(
        &self,
        tokenizer: &Tokenizer,
        turns: &[Turn],
        question: &str,
    ) -> Result<Vec<u32>, Trouble> {
        let own = match self {
            Self::Named(template) => return Ok(template.prompt(tokenizer, "", turns, question)?),
            Self::Own(own) => own,
        };
        let message = |role, content| Message { role, content };
        let mut messages = Vec::with_capacity(2 * turns.len() + 1);
        for turn in turns {
            messages.push(message("user", turn.user.as_str()));
            messages.push(message("assistant", turn.assistant.as_str()));
        }
        messages.push(message("user", question));
        Ok(tokenizer.encode(&own.render(&messages, true)?)?)
    }

    /// Tokens at which an answer ends; `of_model` are those that the model's configuration names.
    pub(crate) fn ends(&self, tokenizer: &Tokenizer, folder: &Path, of_model: &[i64]) -> Vec<i64> {
        match self {
            Self::Named(template) => {
                let ids = template.stop_ids(tokenizer).into_iter();
                ids.map(i64::from).collect()
            }
            Self::Own(_) => {
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
