//! One record of a data file into a conversation.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::dataset::{Formatting, shape};
use crate::dropped::Fault;
use crate::error::DataError;
use crate::example::Conversation;
use crate::stage::Stage;
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
    pub(crate) kto_tag: Option<String>,
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
    pub(crate) stage: Stage,
}

/// A conversation, or why the record is left out.
type Kept = Result<Conversation, Fault>;

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
        let system = self.text(self.columns.system.as_deref())?.unwrap_or("");
        let (answer, rejected) = match self.answers()? {
            Ok(answers) => answers,
            Err(fault) => return Ok(Err(fault)),
        };
        turns.push(Turn {
            user: parts.join("\n"),
            assistant: answer,
        });
        Ok(Ok(Conversation {
            system: system.to_owned(),
            turns,
            rejected,
            desirable: self.judgement()?,
        }))
    }

    /// The answer of an alpaca record, and the worse one where the stage compares two.
    fn answers(&self) -> Result<Result<(String, Option<String>), Fault>, DataError> {
        let columns = self.columns;
        let named = |column: &Option<String>, usual: &str| {
            column.clone().unwrap_or_else(|| usual.to_owned())
        };
        if self.stage == Stage::Pretrain {
            return Ok(Ok((String::new(), None)));
        }
        if self.stage == Stage::Pairwise {
            let (chosen, rejected) = (
                named(&columns.chosen, "chosen"),
                named(&columns.rejected, "rejected"),
            );
            for field in [&chosen, &rejected] {
                if self.text(Some(field))?.is_none() {
                    return Ok(Err(Fault::NoAnswer {
                        field: field.clone(),
                    }));
                }
            }
            let text = |field: &str| -> Result<String, DataError> {
                Ok(self.text(Some(field))?.unwrap_or("").to_owned())
            };
            return Ok(Ok((text(&chosen)?, Some(text(&rejected)?))));
        }
        match self.text(columns.response.as_deref())? {
            Some(response) => Ok(Ok((response.to_owned(), None))),
            None => Ok(Err(Fault::NoAnswer {
                field: named(&columns.response, "response"),
            })),
        }
    }

    /// Whether the answer was called good; the stage of judgements needs it, others have none.
    fn judgement(&self) -> Result<Option<bool>, DataError> {
        if self.stage != Stage::Feedback {
            return Ok(None);
        }
        let column = self.columns.kto_tag.as_deref().unwrap_or("kto_tag");
        match self.value.get(column) {
            Some(Value::Bool(good)) => Ok(Some(*good)),
            other => Err(self.field(column, "true or false", other.unwrap_or(&Value::Null))),
        }
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
                return Ok(Err(Fault::Role {
                    turn: index + 1,
                    found: (*role).to_owned(),
                    expected: expected.clone(),
                }));
            }
        }
        let open = self.stage == Stage::Pairwise;
        if texts.is_empty() || (texts.len() % 2 != 0) != open {
            return Ok(Err(Fault::Count { turns: texts.len() }));
        }
        let turns = texts.chunks(2).map(|pair| Turn {
            user: pair[0].1.to_owned(),
            assistant: pair.get(1).map_or("", |turn| turn.1).to_owned(),
        });
        let mut conversation = Conversation {
            system: system.to_owned(),
            turns: turns.collect(),
            rejected: None,
            desirable: self.judgement()?,
        };
        if open {
            let chosen = self.columns.chosen.as_deref().unwrap_or("chosen");
            let rejected = self.columns.rejected.as_deref().unwrap_or("rejected");
            match (self.preferred(chosen)?, self.preferred(rejected)?) {
                (Ok(better), Ok(worse)) => {
                    if let Some(last) = conversation.turns.last_mut() {
                        last.assistant = better;
                    }
                    conversation.rejected = Some(worse);
                }
                (Err(fault), _) | (_, Err(fault)) => return Ok(Err(fault)),
            }
        }
        Ok(Ok(conversation))
    }

    /// One of the two answers that turn records compare: a turn of its own.
    fn preferred(&self, column: &str) -> Result<Result<String, Fault>, DataError> {
        let Some(turn @ Value::Object(_)) = self.value.get(column) else {
            return Ok(Err(Fault::NoAnswer {
                field: column.to_owned(),
            }));
        };
        let part = |tag: &str| {
            let value = turn.get(tag).unwrap_or(&Value::Null);
            let place = format!("{column}, {tag}");
            value
                .as_str()
                .ok_or_else(|| self.field(&place, "text", value))
        };
        let role = part(&self.tags.role)?;
        if role != self.tags.assistant {
            return Ok(Err(Fault::Role {
                turn: 0,
                found: role.to_owned(),
                expected: self.tags.assistant.clone(),
            }));
        }
        Ok(Ok(part(&self.tags.content)?.to_owned()))
    }

    /// Pictures and tools would be lost in silence.
    fn refuse_what_is_not_text(&self) -> Result<(), DataError> {
        let columns = self.columns;
        for (column, feature) in [
            (&columns.tools, "tool descriptions"),
            (&columns.images, "images"),
            (&columns.videos, "videos"),
            (&columns.audios, "audio"),
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
