//! Answers in the form of the `OpenAI` interface.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use train_data::ToolFormat;

use super::calls;
use super::engine::Finish;
use crate::chance;

/// What all parts of an answer have in common.
#[derive(Clone, Debug)]
pub(super) struct Head {
    id: String,
    model: String,
    created: u64,
}

impl Head {
    pub(super) fn new(model: String) -> Self {
        Self {
            id: format!("{:016x}", chance::any_seed()),
            model,
            created: now(),
        }
    }

    /// Whole answers to one question.
    pub(super) fn whole(&self, answers: &[(String, Finish)], tools: Option<ToolFormat>) -> Value {
        let choice = |(index, (text, finish)): (usize, &(String, Finish))| {
            let (message, reason) = self.message(text, *finish, tools);
            json!({"index": index, "message": message, "logprobs": null, "finish_reason": reason})
        };
        let choices: Vec<Value> = answers.iter().enumerate().map(choice).collect();
        let finishes = answers.iter().map(|(_, finish)| *finish);
        json!({
            "id": format!("chatcmpl-{}", self.id), "object": "chat.completion", "created": self.created,
            "model": self.model,
            "choices": choices, "usage": usage(finishes),
        })
    }

    /// The message of an answer, with the calls in it where the model was told of tools, and why it ended.
    pub(super) fn message(
        &self,
        text: &str,
        finish: Finish,
        tools: Option<ToolFormat>,
    ) -> (Value, &'static str) {
        let reason = if finish.complete { "stop" } else { "length" };
        if let Some(format) = tools {
            let (content, calls) = calls::parted(text, format, &self.id);
            if !calls.is_empty() {
                let content = Some(content).filter(|content| !content.is_empty());
                let message = json!({"role": "assistant", "content": content, "tool_calls": calls});
                return (message, "tool_calls");
            }
        }
        (json!({"role": "assistant", "content": text}), reason)
    }

    /// A part of an answer that is sent as it is made.
    pub(super) fn part(&self, delta: &Value, reason: Option<&str>) -> Value {
        self.chunk(
            &json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": reason}]),
        )
    }

    /// What an answer took, after its last part.
    pub(super) fn used(&self, finish: Finish) -> Value {
        let mut chunk = self.chunk(&json!([]));
        chunk["usage"] = usage([finish].into_iter());
        chunk
    }

    fn chunk(&self, choices: &Value) -> Value {
        json!({
            "id": format!("chatcmpl-{}", self.id), "object": "chat.completion.chunk", "created": self.created,
            "model": self.model, "choices": choices,
        })
    }
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// What answers to one question took; the question counts once.
fn usage(finishes: impl Iterator<Item = Finish>) -> Value {
    let (prompt, answers) = finishes.fold((0, 0), |(_, sum), finish| {
        (finish.prompt_tokens, sum + finish.answer_tokens)
    });
    json!({
        "prompt_tokens": prompt, "completion_tokens": answers, "total_tokens": prompt + answers,
    })
}
