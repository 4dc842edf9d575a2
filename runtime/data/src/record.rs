//! One record of a data file into a conversation.

use std::path::Path;

use serde_json::Value;

use crate::columns::{Columns, KnownTags, Role};
use crate::dataset::shape;
use crate::dropped::Fault;
use crate::error::DataError;
use crate::example::Conversation;
use crate::listing::Formatting;
use crate::python_text::dumps;
use crate::stage::Stage;
use crate::template::Turn;

/// One turn of a list.
struct Spoken {
    /// None: no tag of the listing.
    role: Option<Role>,
    tag: String,
    text: String,
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

/// Questions with their answers; the last may be open.
fn pairs(spoken: Vec<Spoken>) -> Vec<Turn> {
    let mut turns = Vec::with_capacity(spoken.len().div_ceil(2));
    let mut spoken = spoken.into_iter();
    while let Some(question) = spoken.next() {
        let answer = spoken.next();
        turns.push(Turn {
            observed: question.role == Some(Role::Observation),
            called: answer
                .as_ref()
                .is_some_and(|a| a.role == Some(Role::Function)),
            user: question.text,
            assistant: answer.map(|a| a.text).unwrap_or_default(),
        });
    }
    turns
}

/// What LLaMA-Factory 0.9.5 makes of the system text of every record in the `OpenAI` format, whatever the model.
fn without_thinking(system: &str, tools: &str) -> String {
    const OFF: &str = "detailed thinking off";
    match (system.is_empty(), tools.is_empty()) {
        (true, true) => OFF.to_owned(),
        (true, false) => String::new(),
        (false, true) if system.contains("detailed thinking on") || system.contains(OFF) => {
            system.to_owned()
        }
        (false, true) => format!("{system}\n{OFF}"),
        (false, false) => format!("{system}\n"),
    }
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

    fn turns(&self, formatting: Formatting) -> Result<Kept, DataError> {
        let column = self.columns.messages.as_deref().unwrap_or("conversations");
        let messages = self.value.get(column).unwrap_or(&Value::Null);
        let Value::Array(messages) = messages else {
            return Err(self.field(column, "a list of turns", messages));
        };
        let opens = messages
            .first()
            .and_then(|first| first.get(&self.tags.role));
        let opens = opens.and_then(Value::as_str) == Some(&self.tags.system);
        let (system, messages) = match messages.split_first() {
            Some((first, rest)) if opens => {
                let place = format!("{column}, turn 1, {}", self.tags.content);
                (self.part(first, &self.tags.content, &place)?, rest)
            }
            _ => {
                let system = self.text(self.columns.system.as_deref())?;
                (system.unwrap_or(""), messages.as_slice())
            }
        };
        let first = usize::from(opens) + 1;
        let spoken = match formatting {
            Formatting::Openai => self.openai(column, messages, first)?,
            Formatting::Alpaca | Formatting::Sharegpt => self.spoken(column, messages, first)?,
        };
        let tools = self.tools()?;
        let system = match formatting {
            Formatting::Openai => without_thinking(system, &tools),
            Formatting::Alpaca | Formatting::Sharegpt => system.to_owned(),
        };
        for (index, turn) in spoken.iter().enumerate() {
            let fits = match turn.role {
                Some(Role::User | Role::Observation) => index % 2 == 0,
                Some(Role::Assistant | Role::Function) => index % 2 == 1,
                None => false,
            };
            if !fits {
                let expected = [&self.tags.user, &self.tags.assistant][index % 2];
                return Ok(Err(Fault::Role {
                    turn: index + 1,
                    found: turn.tag.clone(),
                    expected: expected.clone(),
                }));
            }
        }
        let open = self.stage == Stage::Pairwise;
        if spoken.is_empty() || (spoken.len() % 2 != 0) != open {
            return Ok(Err(Fault::Count {
                turns: spoken.len(),
            }));
        }
        let mut conversation = Conversation {
            system,
            tools,
            turns: pairs(spoken),
            rejected: None,
            desirable: self.judgement()?,
        };
        if open {
            let chosen = self.columns.chosen.as_deref().unwrap_or("chosen");
            let rejected = self.columns.rejected.as_deref().unwrap_or("rejected");
            match (self.preferred(chosen)?, self.preferred(rejected)?) {
                (Ok(better), Ok(worse)) => {
                    if let Some(last) = conversation.turns.last_mut() {
                        last.assistant = better.assistant;
                        last.called = better.called;
                    }
                    conversation.rejected = Some(worse);
                }
                (Err(fault), _) | (_, Err(fault)) => return Ok(Err(fault)),
            }
        }
        Ok(Ok(conversation))
    }

    /// Turns as they stand in the list.
    fn spoken(
        &self,
        column: &str,
        messages: &[Value],
        first: usize,
    ) -> Result<Vec<Spoken>, DataError> {
        let turns = messages.iter().enumerate().map(|(index, message)| {
            let place = |tag: &str| format!("{column}, turn {}, {tag}", first + index);
            let tag = self.part(message, &self.tags.role, &place(&self.tags.role))?;
            let text = self.part(message, &self.tags.content, &place(&self.tags.content))?;
            Ok(Spoken {
                role: self.tags.of(tag),
                tag: tag.to_owned(),
                text: text.to_owned(),
            })
        });
        turns.collect()
    }

    /// Turns of the `OpenAI` interface: calls stand beside a turn's text, and what several tools answered is one turn.
    fn openai(
        &self,
        column: &str,
        messages: &[Value],
        first: usize,
    ) -> Result<Vec<Spoken>, DataError> {
        let mut turns = Vec::with_capacity(messages.len());
        let mut answers: Vec<&str> = Vec::new();
        for (index, message) in messages.iter().enumerate() {
            let place = |tag: &str| format!("{column}, turn {}, {tag}", first + index);
            let tag = self.part(message, &self.tags.role, &place(&self.tags.role))?;
            let role = self.tags.of(tag);
            let content = || self.part(message, &self.tags.content, &place(&self.tags.content));
            if role == Some(Role::Observation) {
                answers.push(content()?);
                continue;
            }
            if !answers.is_empty() {
                turns.push(Spoken {
                    role: Some(Role::Observation),
                    tag: self.tags.observation.clone(),
                    text: answers.join("\n</tool_response>\n<tool_response>\n"),
                });
                answers.clear();
            }
            let calls = match message.get("tool_calls") {
                Some(Value::Array(calls)) if !calls.is_empty() => calls.as_slice(),
                _ => &[],
            };
            let answers_here = matches!(role, Some(Role::Assistant | Role::Function));
            let (role, text) = if answers_here && !calls.is_empty() {
                let functions = calls.iter().map(|call| {
                    let function = call.get("function");
                    function.cloned().ok_or_else(|| {
                        self.field(&place("tool_calls"), "calls with `function`", call)
                    })
                });
                let functions = functions.collect::<Result<Vec<_>, _>>()?;
                (Some(Role::Function), dumps(&Value::Array(functions)))
            } else {
                (role, content()?.to_owned())
            };
            turns.push(Spoken {
                role,
                tag: tag.to_owned(),
                text,
            });
        }
        Ok(turns)
    }

    /// One of the two answers that turn records compare: a turn of its own.
    fn preferred(&self, column: &str) -> Result<Result<Turn, Fault>, DataError> {
        let Some(turn @ Value::Object(_)) = self.value.get(column) else {
            return Ok(Err(Fault::NoAnswer {
                field: column.to_owned(),
            }));
        };
        let part = |tag: &str| self.part(turn, tag, &format!("{column}, {tag}"));
        let tag = part(&self.tags.role)?;
        let called = match self.tags.of(tag) {
            Some(Role::Assistant) => false,
            Some(Role::Function) => true,
            _ => {
                return Ok(Err(Fault::Role {
                    turn: 0,
                    found: tag.to_owned(),
                    expected: self.tags.assistant.clone(),
                }));
            }
        };
        Ok(Ok(Turn {
            assistant: part(&self.tags.content)?.to_owned(),
            called,
            ..Turn::default()
        }))
    }

    /// The text of one field of a turn.
    fn part<'m>(&self, message: &'m Value, tag: &str, place: &str) -> Result<&'m str, DataError> {
        let value = message.get(tag).unwrap_or(&Value::Null);
        value
            .as_str()
            .ok_or_else(|| self.field(place, "text", value))
    }

    /// The tools that a record describes, as a JSON list; empty: none.
    fn tools(&self) -> Result<String, DataError> {
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
