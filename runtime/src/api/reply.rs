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

    /// A whole answer.
    pub(super) fn whole(&self, text: &str, finish: Finish, tools: Option<ToolFormat>) -> Value {
        let (message, reason) = self.message(text, finish, tools);
        json!({
            "id": format!("chatcmpl-{}", self.id), "object": "chat.completion", "created": self.created,
            "model": self.model,
            "choices": [{
                "index": 0, "message": message, "logprobs": null, "finish_reason": reason,
            }],
            "usage": usage(finish),
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
        chunk["usage"] = usage(finish);
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

fn usage(finish: Finish) -> Value {
    json!({
        "prompt_tokens": finish.prompt_tokens, "completion_tokens": finish.answer_tokens,
        "total_tokens": finish.prompt_tokens + finish.answer_tokens,
    })
}
