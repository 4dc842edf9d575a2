//! Records that are lists of turns.

use serde_json::Value;

use crate::columns::Role;
use crate::dropped::Fault;
use crate::error::DataError;
use crate::example::Conversation;
use crate::listing::Formatting;
use crate::python_text::dumps;
use crate::record::{Kept, Record};
use crate::stage::Stage;
use crate::template::Turn;

/// One turn of a list.
struct Spoken {
    /// None: no tag of the listing.
    role: Option<Role>,
    tag: String,
    /// Looked at only if the roles fit, as in the original.
    text: Result<String, DataError>,
}

impl Record<'_> {
    /// The conversation of a record in `sharegpt` or `openai` form.
    pub(crate) fn turns(&self, formatting: Formatting) -> Result<Kept, DataError> {
        let column = self.columns.messages.as_deref().unwrap_or("conversations");
        let messages = self.value.get(column).unwrap_or(&Value::Null);
        let Value::Array(messages) = messages else {
            return Err(self.field(column, "a list of turns", messages));
        };
        let opens = messages
            .first()
            .and_then(|first| first.get(&self.tags.role));
        let opens = opens.and_then(Value::as_str);
        let opens = opens.is_some() && opens == self.tags.system.as_deref();
        let (system, messages) = match messages.split_first() {
            Some((first, rest)) if opens => {
                let place = format!("{column}, turn 1, {}", self.tags.content);
                // As in the original, no text is no system text.
                let system = match first.get(&self.tags.content) {
                    Some(Value::Null) => "",
                    _ => self.part(first, &self.tags.content, &place)?,
                };
                (system, rest)
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
            turns: pairs(spoken)?,
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
            let text = self.part(message, &self.tags.content, &place(&self.tags.content));
            Ok(Spoken {
                role: self.tags.of(tag),
                tag: tag.to_owned(),
                text: text.map(str::to_owned),
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
        let mut answers: Vec<Result<&str, DataError>> = Vec::new();
        for (index, message) in messages.iter().enumerate() {
            let place = |tag: &str| format!("{column}, turn {}, {tag}", first + index);
            let tag = self.part(message, &self.tags.role, &place(&self.tags.role))?;
            let role = self.tags.of(tag);
            let content = || self.part(message, &self.tags.content, &place(&self.tags.content));
            if role == Some(Role::Observation) {
                answers.push(content());
                continue;
            }
            if !answers.is_empty() {
                let said: Result<Vec<&str>, DataError> = answers.drain(..).collect();
                turns.push(Spoken {
                    role: Some(Role::Observation),
                    tag: self.tags.observation.clone().unwrap_or_default(),
                    text: said.map(|said| said.join("\n</tool_response>\n<tool_response>\n")),
                });
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
                let functions: Result<Vec<_>, _> = functions.collect();
                let text = functions.map(|functions| dumps(&Value::Array(functions)));
                (Some(Role::Function), text)
            } else {
                (role, content().map(str::to_owned))
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
}

/// Questions with their answers; the last may be open.
fn pairs(spoken: Vec<Spoken>) -> Result<Vec<Turn>, DataError> {
    let mut turns = Vec::with_capacity(spoken.len().div_ceil(2));
    let mut spoken = spoken.into_iter();
    while let Some(question) = spoken.next() {
        let answer = spoken.next();
        turns.push(Turn {
            observed: question.role == Some(Role::Observation),
            called: answer
                .as_ref()
                .is_some_and(|a| a.role == Some(Role::Function)),
            user: question.text?,
            assistant: answer.map_or(Ok(String::new()), |answer| answer.text)?,
        });
    }
    Ok(turns)
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
