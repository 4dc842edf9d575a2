//! Chat templates: the text around each message.
//!
//! ```text
//! turn 0   prefix + system + user 0 | assistant 0
//! turn n                     user n | assistant n
//! ```
//!
//! Each piece of a turn is tokenized alone, as LLaMA-Factory does, so that no token spans two pieces.

use std::borrow::Cow;

use crate::error::DataError;
use crate::similar::similar;
use crate::templates::TEMPLATES;
use crate::thought::{THOUGHT, has_thought, without_thought};
use crate::tokenizer::Tokenizer;
use crate::tools::{Marks, ToolFormat};

/// Marks where a message's text goes.
pub(crate) const CONTENT: &str = "{{content}}";

/// One piece of a message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Slot {
    /// Text, with [`CONTENT`] where the message goes.
    Text(Cow<'static, str>),
    /// The tokenizer's end token.
    End,
    /// The tokenizer's begin token, where it has one.
    Begin,
}

/// How one family of models writes a conversation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Template {
    /// Its name in a job file, or where it was read.
    pub name: Cow<'static, str>,
    /// The system text where an example has none; empty: no system part.
    pub default_system: Cow<'static, str>,
    /// Words that end an answer; the first replaces the tokenizer's end token if `replaces_end`.
    pub stop_words: &'static [&'static str],
    /// The first stop word becomes the end token.
    pub replaces_end: bool,
    /// Answers begin with a thought, which is left out of all but the last.
    pub reasons: bool,
    pub(crate) prefix: Cow<'static, [Slot]>,
    pub(crate) system: Cow<'static, [Slot]>,
    pub(crate) user: Cow<'static, [Slot]>,
    pub(crate) assistant: Cow<'static, [Slot]>,
    /// Around what a tool answered.
    pub(crate) observation: Cow<'static, [Slot]>,
    /// Around tool calls.
    pub(crate) function: Cow<'static, [Slot]>,
    pub(crate) tools: ToolFormat,
    /// The system text stands inside of the first question.
    pub(crate) system_in_user: bool,
}

/// One question and its answer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Turn {
    /// What the user says, or what a tool answered.
    pub user: String,
    /// What the model shall say, or the tool calls that it shall make, as JSON.
    pub assistant: String,
    /// `user` is what a tool answered.
    pub observed: bool,
    /// `assistant` is tool calls.
    pub called: bool,
}

/// What stands before the first turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Opening<'a> {
    /// Empty: the template's own.
    pub system: &'a str,
    /// Tools as a JSON list; empty: none.
    pub tools: &'a str,
    /// The day that a description of tools names.
    pub date: &'a str,
}

impl<'a> Opening<'a> {
    /// A system text without tools.
    pub fn system(system: &'a str) -> Self {
        Self {
            system,
            ..Self::default()
        }
    }
}

/// The tokens of one turn.
pub(crate) struct TurnTokens {
    pub(crate) source: Vec<u32>,
    pub(crate) target: Vec<u32>,
}

impl Template {
    /// Finds a template by its name in a job file.
    pub fn named(name: &str) -> Result<&'static Self, DataError> {
        let found = TEMPLATES.iter().find(|template| template.name == name);
        found.ok_or_else(|| {
            let names = TEMPLATES.iter().map(|template| template.name.as_ref());
            let known = names.clone().collect::<Vec<_>>().join(", ");
            match similar(name, names) {
                Some(nearest) => DataError::MistypedTemplate {
                    name: name.to_owned(),
                    nearest: nearest.to_owned(),
                    known,
                },
                None => DataError::UnknownTemplate {
                    name: name.to_owned(),
                    known,
                },
            }
        })
    }

    /// The names that [`Self::named`] finds.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TEMPLATES.iter().map(|template| template.name.as_ref())
    }

    /// Tokens of a chat up to where the model answers: `turns` are answered, `question` is open.
    pub fn prompt(
        &self,
        tokenizer: &Tokenizer,
        system: &str,
        turns: &[Turn],
        question: &str,
    ) -> Result<Vec<u32>, DataError> {
        let mut turns = turns.to_vec();
        turns.push(Turn {
            user: question.to_owned(),
            ..Turn::default()
        });
        self.open_prompt(tokenizer, Opening::system(system), &turns, true)
    }

    /// Tokens of a chat up to the answer of its last turn. Unless `thinking`, a reasoning template puts an empty thought
    /// before that.
    pub fn open_prompt(
        &self,
        tokenizer: &Tokenizer,
        opening: Opening<'_>,
        turns: &[Turn],
        thinking: bool,
    ) -> Result<Vec<u32>, DataError> {
        let (source, _) = self.encode_last(tokenizer, opening, turns, thinking)?;
        Ok(source)
    }

    /// Tokens at which an answer ends: the end token and the stop words the tokenizer knows.
    pub fn stop_ids(&self, tokenizer: &Tokenizer) -> Vec<u32> {
        let words = self.stop_words.iter();
        let mut ids: Vec<u32> = words.filter_map(|word| tokenizer.id_of(word)).collect();
        ids.push(tokenizer.end_id());
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// The words for tools.
    pub fn tool_format(&self) -> ToolFormat {
        self.tools
    }

    /// The same template with another family's words for tools, as the original's `tool_format` has it.
    #[must_use]
    pub fn with_tools(mut self, format: ToolFormat) -> Self {
        self.tools = format;
        self.function = Cow::Borrowed(ENDED);
        self
    }

    /// The same template with `system` where an example has no system text; empty: no system part.
    #[must_use]
    pub fn with_default_system(mut self, system: String) -> Self {
        self.default_system = Cow::Owned(system);
        self
    }

    /// The tokens of every turn.
    ///
    /// A reasoning template leaves thoughts out of all answers unless `thinking`, and of all but the last if
    /// `last_only`; an answer without a thought gets an empty one, to be learnt if `thinking`.
    pub(crate) fn encode(
        &self,
        tokenizer: &Tokenizer,
        opening: Opening<'_>,
        turns: &[Turn],
        thinking: bool,
        last_only: bool,
    ) -> Result<Vec<TurnTokens>, DataError> {
        let mut encoded = Vec::with_capacity(turns.len());
        for (index, turn) in turns.iter().enumerate() {
            let is_last = index + 1 == turns.len();
            let opening = (index == 0).then_some(opening);
            let mut source = self.source(tokenizer, opening, turn)?;
            let bare = self.reasons && (!thinking || (last_only && !is_last));
            let answer = if bare {
                without_thought(&turn.assistant)
            } else {
                Cow::Borrowed(turn.assistant.as_str())
            };
            let mut target = Vec::new();
            if turn.called {
                append(
                    &mut target,
                    tokenizer,
                    &self.function,
                    &self.calls(&answer)?,
                )?;
            } else {
                append(&mut target, tokenizer, &self.assistant, &answer)?;
            }
            if self.reasons && (is_last || !last_only) && !has_thought(&answer) {
                let thought = tokenizer.encode(&THOUGHT.concat())?;
                if thinking {
                    target.splice(0..0, thought);
                } else {
                    source.extend(thought);
                }
            }
            encoded.push(TurnTokens { source, target });
        }
        Ok(encoded)
    }

    /// The tokens of everything before the last answer, and of that answer.
    pub(crate) fn encode_last(
        &self,
        tokenizer: &Tokenizer,
        opening: Opening<'_>,
        turns: &[Turn],
        thinking: bool,
    ) -> Result<(Vec<u32>, Vec<u32>), DataError> {
        let mut encoded = self.encode(tokenizer, opening, turns, thinking, true)?;
        let mut prompt = Vec::new();
        let mut answer = Vec::new();
        for (index, turn) in encoded.drain(..).enumerate() {
            prompt.extend(turn.source);
            if index + 1 == turns.len() {
                answer = turn.target;
            } else {
                prompt.extend(turn.target);
            }
        }
        Ok((prompt, answer))
    }

    /// Whether tools and calls are what this template can write: all that may be wrong with a conversation.
    pub(crate) fn judge<'t>(
        &self,
        opening: Opening<'_>,
        turns: impl Iterator<Item = &'t Turn>,
    ) -> Result<(), DataError> {
        if !opening.tools.is_empty() {
            self.tools.describe(opening.tools, opening.date)?;
        }
        for turn in turns.filter(|turn| turn.called) {
            self.calls(&turn.assistant)?;
        }
        Ok(())
    }

    /// Calls in the words of this family.
    fn calls(&self, answer: &str) -> Result<String, DataError> {
        // Where the system text stands in the question, the original looks for no marks.
        let marks = (!self.system_in_user).then_some(&MARKS);
        self.tools.calls(answer, marks)
    }

    fn source(
        &self,
        tokenizer: &Tokenizer,
        opening: Option<Opening<'_>>,
        turn: &Turn,
    ) -> Result<Vec<u32>, DataError> {
        let mut source = Vec::new();
        let mut text = Cow::Borrowed(turn.user.as_str());
        if let Some(opening) = opening {
            append(&mut source, tokenizer, &self.prefix, "")?;
            let system = if opening.system.is_empty() {
                &self.default_system
            } else {
                opening.system
            };
            if !(system.is_empty() && opening.tools.is_empty()) {
                let mut system = system.to_owned();
                if !opening.tools.is_empty() {
                    system.push_str(&self.tools.describe(opening.tools, opening.date)?);
                }
                match self.system.first() {
                    // As in the original, what a tool answered has no room for it.
                    Some(Slot::Text(_)) if self.system_in_user && turn.observed => {}
                    Some(Slot::Text(slot)) if self.system_in_user => {
                        text = Cow::Owned(slot.replace(CONTENT, &system) + &text);
                    }
                    _ => append(&mut source, tokenizer, &self.system, &system)?,
                }
            }
        }
        let slots = if turn.observed {
            &self.observation
        } else {
            &self.user
        };
        append(&mut source, tokenizer, slots, &text)?;
        Ok(source)
    }
}

/// An answer and the end token.
pub(crate) const ENDED: &[Slot] = &[Slot::Text(Cow::Borrowed(CONTENT)), Slot::End];

/// What the original looks for in an answer that calls tools.
const MARKS: Marks = Marks {
    thought: THOUGHT,
    call: ["<tool_call>", "</tool_call>"],
};

fn append(
    tokens: &mut Vec<u32>,
    tokenizer: &Tokenizer,
    slots: &[Slot],
    content: &str,
) -> Result<(), DataError> {
    for slot in slots {
        match slot {
            Slot::Text(text) => {
                let text = text.replace(CONTENT, content);
                // A tokenizer may have a token for nothing, too.
                if !text.is_empty() {
                    tokens.extend(tokenizer.encode(&text)?);
                }
            }
            Slot::End => tokens.push(tokenizer.end_id()),
            Slot::Begin => tokens.extend(tokenizer.begin_id()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::golden_tokenizer;

    #[test]
    fn an_unknown_template_lists_the_known() {
        let error = Template::named("qwenn").unwrap_err().to_string();
        assert!(error.contains("did you mean `qwen`"), "{error}");
        assert!(error.contains("smollm2"), "{error}");
        let error = Template::named("something else").unwrap_err().to_string();
        assert!(!error.contains("did you mean"), "{error}");
    }

    #[test]
    fn reasoning_templates_keep_the_last_thought_and_add_empty_ones() {
        let tokenizer = golden_tokenizer();
        let template = Template::named("qwen3").unwrap();
        let turn = |assistant: &str| Turn {
            user: "a".to_owned(),
            assistant: assistant.to_owned(),
            ..Turn::default()
        };
        let turns = [turn("<think>\nlong\n</think>\n\nb"), turn("c")];
        let texts = |thinking, last_only| -> Vec<(String, String)> {
            let encoded =
                template.encode(&tokenizer, Opening::default(), &turns, thinking, last_only);
            let text = |ids: &[u32]| tokenizer.decode(ids, false).unwrap();
            let pairs = encoded.unwrap().into_iter();
            pairs.map(|t| (text(&t.source), text(&t.target))).collect()
        };
        let empty = THOUGHT.concat();
        let thinking = texts(true, false);
        assert!(thinking[0].1.contains("long"));
        assert!(thinking[1].1.starts_with(&empty), "{thinking:?}");
        let last_only = texts(true, true);
        assert_eq!(last_only[0].1, "b<|im_end|>\n");
        let silent = texts(false, false);
        assert!(silent[1].0.ends_with(&empty) && silent[0].0.ends_with(&empty));
        assert_eq!(silent[0].1, "b<|im_end|>\n");
    }

    #[test]
    fn an_own_system_text_takes_the_place_of_the_templates_also_where_it_is_empty() {
        let tokenizer = golden_tokenizer();
        let turns = [Turn {
            user: "a".to_owned(),
            ..Turn::default()
        }];
        for (own, wanted) in [
            ("", ""),
            ("Be brief.", "<|im_start|>system\nBe brief.<|im_end|>\n"),
        ] {
            let template = Template::named("qwen").unwrap().clone();
            let template = template.with_default_system(own.to_owned());
            let ids = template.open_prompt(&tokenizer, Opening::default(), &turns, true);
            let text = tokenizer.decode(&ids.unwrap(), false).unwrap();
            let asked = "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n";
            assert_eq!(text, format!("{wanted}{asked}"));
        }
    }

    #[test]
    fn what_a_tool_answered_first_has_no_room_for_a_system_text() {
        let tokenizer = golden_tokenizer();
        let turns = [Turn {
            user: "a".to_owned(),
            observed: true,
            ..Turn::default()
        }];
        let template = Template::named("mistral").unwrap();
        let ids = template.open_prompt(&tokenizer, Opening::system("s"), &turns, true);
        let text = tokenizer.decode(&ids.unwrap(), false).unwrap();
        assert_eq!(text, "[TOOL_RESULTS] {\"content\": a}[/TOOL_RESULTS]");
    }

    #[test]
    fn a_prompt_is_what_the_original_generated_from() {
        let text = include_str!("../../../tests/golden/vectors/generate.json");
        let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
        let tokenizer = golden_tokenizer();
        let cases = vectors["base"].as_array().unwrap();
        assert!(!cases.is_empty());
        for case in cases {
            let prompt = case["prompt"].as_str().unwrap();
            let (_, rest) = prompt.split_once("<|im_start|>user\n").unwrap();
            let (question, _) = rest.split_once("<|im_end|>").unwrap();
            let template = Template::named("qwen").unwrap();
            let ids = template.prompt(&tokenizer, "", &[], question).unwrap();
            let expected: Vec<u32> = serde_json::from_value(case["prompt_ids"].clone()).unwrap();
            assert_eq!(ids, expected, "{question}");
        }
    }

    #[test]
    fn the_default_template_puts_end_tokens() {
        let tokenizer = golden_tokenizer();
        let turn = Turn {
            user: "a".to_owned(),
            assistant: "b".to_owned(),
            ..Turn::default()
        };
        let template = Template::named("default").unwrap();
        let encoded = template.encode(&tokenizer, Opening::system("c"), &[turn], true, false);
        let encoded = encoded.unwrap();
        let text = tokenizer.decode(&encoded[0].source, false).unwrap();
        assert_eq!(text, "System: c<|im_end|>\nHuman: a<|im_end|>\nAssistant:");
        let text = tokenizer.decode(&encoded[0].target, false).unwrap();
        assert_eq!(text, "b<|im_end|>\n");
    }
}
