//! Chat templates: the text around each message.
//!
//! ```text
//! turn 0   prefix + system + user 0 | assistant 0
//! turn n                     user n | assistant n
//! ```
//!
//! Each piece of a turn is tokenized alone, as LLaMA-Factory does, so that no token spans two pieces.

use crate::error::DataError;
use crate::tokenizer::Tokenizer;

/// Marks where a message's text goes.
const CONTENT: &str = "{{content}}";

/// One piece of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Slot {
    /// Text, with [`CONTENT`] where the message goes.
    Text(&'static str),
    /// The tokenizer's end token.
    End,
    /// The tokenizer's begin token, where it has one.
    Begin,
}

/// How one family of models writes a conversation.
#[derive(Debug, Eq, PartialEq)]
pub struct Template {
    /// Its name in a job file.
    pub name: &'static str,
    /// The system text where an example has none; empty: no system part.
    pub default_system: &'static str,
    /// Words that end an answer; the first replaces the tokenizer's end token if `replaces_end`.
    pub stop_words: &'static [&'static str],
    /// The first stop word becomes the end token.
    pub replaces_end: bool,
    prefix: &'static [Slot],
    system: &'static [Slot],
    user: &'static [Slot],
    assistant: &'static [Slot],
}

/// One question and its answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Turn {
    /// What the user says.
    pub user: String,
    /// What the model shall say.
    pub assistant: String,
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
        found.ok_or_else(|| DataError::UnknownTemplate {
            name: name.to_owned(),
            known: TEMPLATES.map(|template| template.name).join(", "),
        })
    }

    /// Tokens of a chat up to where the model answers: `turns` are answered, `question` is open.
    pub fn prompt(
        &self,
        tokenizer: &Tokenizer,
        system: &str,
        turns: &[Turn],
        question: &str,
    ) -> Result<Vec<u32>, DataError> {
        let mut tokens = Vec::new();
        for turn in self.encode(tokenizer, system, turns)? {
            tokens.extend(turn.source);
            tokens.extend(turn.target);
        }
        tokens.extend(self.source(tokenizer, system, turns.is_empty(), question)?);
        Ok(tokens)
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

    /// The tokens of every turn. An empty `system` means the template's own.
    pub(crate) fn encode(
        &self,
        tokenizer: &Tokenizer,
        system: &str,
        turns: &[Turn],
    ) -> Result<Vec<TurnTokens>, DataError> {
        let mut encoded = Vec::with_capacity(turns.len());
        for (index, turn) in turns.iter().enumerate() {
            let source = self.source(tokenizer, system, index == 0, &turn.user)?;
            let mut target = Vec::new();
            append(&mut target, tokenizer, self.assistant, &turn.assistant)?;
            encoded.push(TurnTokens { source, target });
        }
        Ok(encoded)
    }

    fn source(
        &self,
        tokenizer: &Tokenizer,
        system: &str,
        opens: bool,
        user: &str,
    ) -> Result<Vec<u32>, DataError> {
        let mut source = Vec::new();
        if opens {
            append(&mut source, tokenizer, self.prefix, "")?;
            let system = if system.is_empty() {
                self.default_system
            } else {
                system
            };
            if !system.is_empty() {
                append(&mut source, tokenizer, self.system, system)?;
            }
        }
        append(&mut source, tokenizer, self.user, user)?;
        Ok(source)
    }
}

fn append(
    tokens: &mut Vec<u32>,
    tokenizer: &Tokenizer,
    slots: &[Slot],
    content: &str,
) -> Result<(), DataError> {
    for slot in slots {
        match slot {
            Slot::Text(text) => {
                tokens.extend(tokenizer.encode(&text.replace(CONTENT, content))?);
            }
            Slot::End => tokens.push(tokenizer.end_id()),
            Slot::Begin => tokens.extend(tokenizer.begin_id()),
        }
    }
    Ok(())
}

const CHATML_SYSTEM: &[Slot] = &[Slot::Text("<|im_start|>system\n{{content}}<|im_end|>\n")];
const CHATML_USER: &[Slot] = &[Slot::Text(
    "<|im_start|>user\n{{content}}<|im_end|>\n<|im_start|>assistant\n",
)];
const CHATML_ASSISTANT: &[Slot] = &[Slot::Text("{{content}}<|im_end|>\n")];
const PLAIN: &[Slot] = &[Slot::Text(CONTENT)];

const TEMPLATES: [Template; 6] = [
    Template {
        name: "qwen",
        default_system: "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
        stop_words: &["<|im_end|>"],
        replaces_end: true,
        prefix: &[],
        system: CHATML_SYSTEM,
        user: CHATML_USER,
        assistant: CHATML_ASSISTANT,
    },
    Template {
        name: "smollm2",
        default_system: "You are a helpful AI assistant named SmolLM, trained by Hugging Face.",
        stop_words: &["<|im_end|>"],
        replaces_end: false,
        prefix: &[],
        system: CHATML_SYSTEM,
        user: CHATML_USER,
        assistant: CHATML_ASSISTANT,
    },
    Template {
        name: "chatml",
        default_system: "",
        stop_words: &["<|im_end|>", "<|im_start|>"],
        replaces_end: true,
        prefix: &[],
        system: CHATML_SYSTEM,
        user: CHATML_USER,
        assistant: CHATML_ASSISTANT,
    },
    Template {
        name: "llama3",
        default_system: "",
        stop_words: &["<|eot_id|>", "<|eom_id|>"],
        replaces_end: true,
        prefix: &[Slot::Begin],
        system: &[Slot::Text(
            "<|start_header_id|>system<|end_header_id|>\n\n{{content}}<|eot_id|>",
        )],
        user: &[Slot::Text(
            "<|start_header_id|>user<|end_header_id|>\n\n{{content}}<|eot_id|>\
             <|start_header_id|>assistant<|end_header_id|>\n\n",
        )],
        assistant: &[Slot::Text("{{content}}<|eot_id|>")],
    },
    Template {
        name: "default",
        default_system: "",
        stop_words: &[],
        replaces_end: false,
        prefix: &[],
        system: &[
            Slot::Text("System: {{content}}"),
            Slot::End,
            Slot::Text("\n"),
        ],
        user: &[
            Slot::Text("Human: {{content}}"),
            Slot::End,
            Slot::Text("\nAssistant:"),
        ],
        assistant: &[Slot::Text(CONTENT), Slot::End, Slot::Text("\n")],
    },
    Template {
        name: "empty",
        default_system: "",
        stop_words: &[],
        replaces_end: false,
        prefix: &[],
        system: PLAIN,
        user: PLAIN,
        assistant: PLAIN,
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::golden_tokenizer;

    #[test]
    fn an_unknown_template_lists_the_known() {
        let error = Template::named("qwenn").unwrap_err();
        assert!(error.to_string().contains("qwen, smollm2"), "{error}");
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
        };
        let template = Template::named("default").unwrap();
        let encoded = template.encode(&tokenizer, "c", &[turn]).unwrap();
        let text = tokenizer.decode(&encoded[0].source, false).unwrap();
        assert_eq!(text, "System: c<|im_end|>\nHuman: a<|im_end|>\nAssistant:");
        let text = tokenizer.decode(&encoded[0].target, false).unwrap();
        assert_eq!(text, "b<|im_end|>\n");
    }
}
