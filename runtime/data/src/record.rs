//! One record of a data file into a conversation.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::dataset::{Formatting, shape};
use crate::error::DataError;
use crate::example::Conversation;
use crate::template::Turn;

/// Which field of a record holds what. An entry that names columns names all it uses.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Columns {
    prompt: Option<String>,
    query: Option<String>,
    response: Option<String>,
    history: Option<String>,
    messages: Option<String>,
    system: Option<String>,
    tools: Option<String>,
    images: Option<String>,
    videos: Option<String>,
    audios: Option<String>,
    chosen: Option<String>,
    rejected: Option<String>,
    kto_tag: Option<String>,
}

impl Columns {
    /// The columns of an entry that names none.
    pub(crate) fn usual(formatting: Formatting) -> Self {
        let messages = match formatting {
            Formatting::Openai => "messages",
            Formatting::Alpaca | Formatting::Sharegpt => "conversations",
        };
        Self {
            prompt: Some("instruction".to_owned()),
            query: Some("input".to_owned()),
            response: Some("output".to_owned()),
            messages: Some(messages.to_owned()),
            ..Self::default()
        }
    }
}

/// How a list of turns names its parts.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Tags {
    #[serde(rename = "role_tag")]
    role: Option<String>,
    #[serde(rename = "content_tag")]
    content: Option<String>,
    #[serde(rename = "user_tag")]
    user: Option<String>,
    #[serde(rename = "assistant_tag")]
    assistant: Option<String>,
    #[serde(rename = "observation_tag")]
    observation: Option<String>,
    #[serde(rename = "function_tag")]
    function: Option<String>,
    #[serde(rename = "system_tag")]
    system: Option<String>,
}

/// [`Tags`] with every name known.
pub(crate) struct KnownTags {
    role: String,
    content: String,
    user: String,
    assistant: String,
    tools: [String; 2],
    system: String,
}

impl Tags {
    /// Fills up what the entry leaves out.
    pub(crate) fn or_usual(self, formatting: Formatting) -> KnownTags {
        let names = match formatting {
            Formatting::Openai => ["role", "content", "user", "assistant", "tool", "function"],
            Formatting::Alpaca | Formatting::Sharegpt => [
                "from",
                "value",
                "human",
                "gpt",
                "observation",
                "function_call",
            ],
        };
        let or = |tag: Option<String>, index: usize| tag.unwrap_or_else(|| names[index].to_owned());
        KnownTags {
            role: or(self.role, 0),
            content: or(self.content, 1),
            user: or(self.user, 2),
            assistant: or(self.assistant, 3),
            tools: [or(self.observation, 4), or(self.function, 5)],
            system: self.system.unwrap_or_else(|| "system".to_owned()),
        }
    }
}

/// A record with what is needed to read and to name it.
pub(crate) struct Record<'a> {
    pub(crate) path: &'a Path,
    /// Counted from one.
    pub(crate) number: usize,
    pub(crate) value: &'a Value,
    pub(crate) columns: &'a Columns,
    pub(crate) tags: &'a KnownTags,
}

/// A conversation, or why the record is left out.
type Kept = Result<Conversation, String>;

impl Record<'_> {
    pub(crate) fn conversation(&self, formatting: Formatting) -> Result<Kept, DataError> {
        if !self.value.is_object() {
            let place = format!("record {}", self.number);
            return Err(shape(self.path, &place, "an object", self.value));
        }
        self.refuse_what_is_not_text()?;
        match formatting {
            Formatting::Alpaca => self.alpaca(),
            Formatting::Sharegpt | Formatting::Openai => self.turns(),
        }
    }

    fn alpaca(&self) -> Result<Kept, DataError> {
        let mut turns = self.history()?;
        let prompt = self.text(self.columns.prompt.as_deref())?;
        let query = self.text(self.columns.query.as_deref())?;
        let parts = [prompt, query];
        let parts: Vec<&str> = parts
            .into_iter()
            .flatten()
            .filter(|p| !p.is_empty())
            .collect();
        let Some(response) = self.text(self.columns.response.as_deref())? else {
            let name = self.columns.response.as_deref().unwrap_or("response");
            return Ok(Err(format!("no answer in field {name}")));
        };
        turns.push(Turn {
            user: parts.join("\n"),
            assistant: response.to_owned(),
        });
        let system = self.text(self.columns.system.as_deref())?.unwrap_or("");
        Ok(Ok(Conversation {
            system: system.to_owned(),
            turns,
        }))
    }

    fn history(&self) -> Result<Vec<Turn>, DataError> {
        let Some(column) = self.columns.history.as_deref() else {
            return Ok(Vec::new());
        };
        // As in the original, a history that is no list is no history.
        let Some(Value::Array(pairs)) = self.value.get(column) else {
            return Ok(Vec::new());
        };
        let mut turns = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let texts = pair.as_array().map(Vec::as_slice);
            let Some([Value::String(user), Value::String(assistant)]) = texts else {
                return Err(self.field(column, "pairs of question and answer", pair));
            };
            turns.push(Turn {
                user: user.clone(),
                assistant: assistant.clone(),
            });
        }
        Ok(turns)
    }

    fn turns(&self) -> Result<Kept, DataError> {
        let column = self.columns.messages.as_deref().unwrap_or("conversations");
        let messages = self.value.get(column).unwrap_or(&Value::Null);
        let Value::Array(messages) = messages else {
            return Err(self.field(column, "a list of turns", messages));
        };
        let mut texts = Vec::with_capacity(messages.len());
        for (index, message) in messages.iter().enumerate() {
            let part = |tag: &str| {
                let value = message.get(tag).unwrap_or(&Value::Null);
                let place = format!("{column}, turn {}, {tag}", index + 1);
                value
                    .as_str()
                    .ok_or_else(|| self.field(&place, "text", value))
            };
            texts.push((part(&self.tags.role)?, part(&self.tags.content)?));
        }
        let mut system = self.text(self.columns.system.as_deref())?.unwrap_or("");
        if let Some((role, content)) = texts.first()
            && *role == self.tags.system
        {
            system = content;
            texts.remove(0);
        }
        for (index, (role, _)) in texts.iter().enumerate() {
            if self.tags.tools.iter().any(|tag| tag == role) {
                return Err(self.unsupported(column, &format!("a tool turn (`{role}`)")));
            }
            let expected = [&self.tags.user, &self.tags.assistant][index % 2];
            if role != expected {
                let turn = index + 1;
                return Ok(Err(format!(
                    "turn {turn} is `{role}`, expected `{expected}`"
                )));
            }
        }
        if texts.is_empty() || texts.len() % 2 != 0 {
            return Ok(Err(format!("{} turns, expected pairs", texts.len())));
        }
        let turns = texts.chunks_exact(2).map(|pair| Turn {
            user: pair[0].1.to_owned(),
            assistant: pair[1].1.to_owned(),
        });
        Ok(Ok(Conversation {
            system: system.to_owned(),
            turns: turns.collect(),
        }))
    }

    /// Pictures, tools and preferences would be lost in silence.
    fn refuse_what_is_not_text(&self) -> Result<(), DataError> {
        let columns = self.columns;
        for (column, feature) in [
            (&columns.tools, "tool descriptions"),
            (&columns.images, "images"),
            (&columns.videos, "videos"),
            (&columns.audios, "audio"),
            (&columns.chosen, "preference data"),
            (&columns.rejected, "preference data"),
            (&columns.kto_tag, "preference data"),
        ] {
            let Some(column) = column.as_deref() else {
                continue;
            };
            let empty = match self.value.get(column) {
                None | Some(Value::Null) => true,
                Some(Value::String(text)) => text.is_empty(),
                Some(Value::Array(items)) => items.is_empty(),
                Some(_) => false,
            };
            if !empty {
                return Err(self.unsupported(column, feature));
            }
        }
        Ok(())
    }

    /// The text of a column; none where the column, the field or its value is missing.
    fn text(&self, column: Option<&str>) -> Result<Option<&str>, DataError> {
        let Some(column) = column else {
            return Ok(None);
        };
        match self.value.get(column) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.field(column, "text", other)),
        }
    }

    fn field(&self, field: &str, expected: &str, found: &Value) -> DataError {
        let place = format!("record {}, field {field}", self.number);
        shape(self.path, &place, expected, found)
    }

    fn unsupported(&self, field: &str, feature: &str) -> DataError {
        DataError::Unsupported {
            path: self.path.to_owned(),
            place: format!("record {}, field {field}", self.number),
            feature: feature.to_owned(),
        }
    }
}
