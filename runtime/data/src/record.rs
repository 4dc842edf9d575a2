//! One record of a data file into a conversation; lists of turns are in `record_turns`.

use std::path::Path;

use serde_json::Value;

use crate::columns::{Columns, KnownTags};
use crate::dataset::shape;
use crate::dropped::Fault;
use crate::error::DataError;
use crate::example::Conversation;
use crate::listing::Formatting;
use crate::python_text::dumps;
use crate::stage::Stage;
use crate::template::Turn;

/// A record with what is needed to read and to name it.
pub(crate) struct Record<'a> {
    pub(crate) path: &'a Path,
    /// Counted from one.
    pub(crate) number: usize,
    pub(crate) value: &'a Value,
    pub(crate) columns: &'a Columns,
    pub(crate) tags: &'a KnownTags,
    pub(crate) stage: Stage,
    /// Its answer may be missing.
    pub(crate) open: bool,
}

/// A conversation, or why the record is left out.
pub(crate) type Kept = Result<Conversation, Fault>;

impl Record<'_> {
    pub(crate) fn conversation(&self, formatting: Formatting) -> Result<Kept, DataError> {
        if !self.value.is_object() {
            let place = format!("record {}", self.number);
            return Err(shape(self.path, &place, "an object", self.value));
        }
        self.refuse_what_is_not_text()?;
        match formatting {
            Formatting::Alpaca => self.alpaca(),
            Formatting::Sharegpt | Formatting::Openai => self.turns(formatting),
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
            ..Turn::default()
        });
        let rejected = rejected.map(|answer| Turn {
            assistant: answer,
            ..Turn::default()
        });
        Ok(Ok(Conversation {
            system: system.to_owned(),
            tools: self.tools()?,
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
            // Of an answer that was judged the original makes an empty one, too.
            None if self.open || self.stage == Stage::Feedback => Ok(Ok((String::new(), None))),
            None => Ok(Err(Fault::NoAnswer {
                field: named(&columns.response, "response"),
            })),
        }
    }

    /// Whether the answer was called good; the stage of judgements needs it, others have none.
    pub(crate) fn judgement(&self) -> Result<Option<bool>, DataError> {
        if self.stage != Stage::Feedback {
            return Ok(None);
        }
        let column = self.columns.kto_tag.as_deref().unwrap_or("kto_tag");
        match self.value.get(column) {
            Some(Value::Bool(good)) => Ok(Some(*good)),
            // Cells of a table are texts.
            Some(Value::String(text)) if matches!(text.as_str(), "True" | "TRUE" | "true") => {
                Ok(Some(true))
            }
            Some(Value::String(text)) if matches!(text.as_str(), "False" | "FALSE" | "false") => {
                Ok(Some(false))
            }
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
                ..Turn::default()
            });
        }
        Ok(turns)
    }

    /// The tools that a record describes, as a JSON list; empty: none.
    pub(crate) fn tools(&self) -> Result<String, DataError> {
        let Some(column) = self.columns.tools.as_deref() else {
            return Ok(String::new());
        };
        Ok(match self.value.get(column) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(tools @ (Value::Array(_) | Value::Object(_))) => dumps(tools),
            Some(other) => {
                return Err(self.field(
                    column,
                    "tools as JSON, written as text or as it is",
                    other,
                ));
            }
        })
    }

    /// Pictures would be lost in silence.
    fn refuse_what_is_not_text(&self) -> Result<(), DataError> {
        let columns = self.columns;
        for (column, feature) in [
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
    pub(crate) fn text(&self, column: Option<&str>) -> Result<Option<&str>, DataError> {
        let Some(column) = column else {
            return Ok(None);
        };
        match self.value.get(column) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.field(column, "text", other)),
        }
    }

    pub(crate) fn field(&self, field: &str, expected: &str, found: &Value) -> DataError {
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
