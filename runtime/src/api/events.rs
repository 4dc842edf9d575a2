//! An answer as server-sent events, each sent as the engine makes it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame};
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;
use train_data::ToolFormat;

use super::engine::{Finish, Reply};
use super::refusal::Refusal;
use super::reply::Head;

/// The body of a reply. When it is dropped, because the client has left, nobody listens to the engine any more.
pub(super) struct Events {
    head: Head,
    replies: Option<UnboundedReceiver<Reply>>,
    ready: VecDeque<Bytes>,
    with_usage: bool,
}

impl Events {
    /// An answer that is being made.
    pub(super) fn live(head: Head, replies: UnboundedReceiver<Reply>, with_usage: bool) -> Self {
        let mut events = Self {
            head,
            replies: Some(replies),
            ready: VecDeque::new(),
            with_usage,
        };
        let opening = json!({"role": "assistant", "content": ""});
        events.push(&events.head.part(&opening, None));
        events
    }

    /// An answer that is there already, in one piece: calls of tools are known only in the end.
    pub(super) fn whole(
        head: Head,
        text: &str,
        finish: Finish,
        tools: Option<ToolFormat>,
        with_usage: bool,
    ) -> Self {
        let mut events = Self {
            head,
            replies: None,
            ready: VecDeque::new(),
            with_usage,
        };
        let (mut message, reason) = events.head.message(text, finish, tools);
        if let Some(calls) = message.get_mut("tool_calls").and_then(Value::as_array_mut) {
            for (index, call) in calls.iter_mut().enumerate() {
                call["index"] = index.into();
            }
        }
        events.push(&events.head.part(&message, None));
        events.end(finish, reason);
        events
    }

    fn push(&mut self, value: &Value) {
        self.ready.push_back(format!("data: {value}\n\n").into());
    }

    fn end(&mut self, finish: Finish, reason: &str) {
        self.push(&self.head.part(&json!({}), Some(reason)));
        if self.with_usage {
            self.push(&self.head.used(finish));
        }
        self.ready
            .push_back(Bytes::from_static(b"data: [DONE]\n\n"));
        self.replies = None;
    }

    fn take(&mut self, reply: Option<Reply>) {
        match reply {
            Some(Reply::Piece(text)) => {
                self.push(&self.head.part(&json!({"content": text}), None));
            }
            Some(Reply::End(finish)) => {
                let reason = if finish.complete { "stop" } else { "length" };
                self.end(finish, reason);
            }
            Some(Reply::Fault(reason)) => self.fail(&Refusal::fault(reason)),
            None => self.fail(&Refusal::ending()),
        }
    }

    /// An error in the middle of an answer. There is no `[DONE]` behind it: the answer is not whole.
    fn fail(&mut self, refusal: &Refusal) {
        self.push(&refusal.to_json());
        self.replies = None;
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(event))));
            }
            let Some(replies) = &mut self.replies else {
                return Poll::Ready(None);
            };
            match replies.poll_recv(context) {
                Poll::Ready(reply) => self.take(reply),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
