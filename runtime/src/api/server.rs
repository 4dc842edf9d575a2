//! Connections and paths.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use hyper::{Method, Request, StatusCode};
use serde_json::{Value, json};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use torch_backend::Sampling;

use super::engine::{Ask, Finish, Order, Reply};
use super::events::Events;
use super::refusal::Refusal;
use super::reply::{Head, now};
use super::request::ChatRequest;
use crate::http::{self, Answer, BodyFault, Door, Listener, json_answer, with_type};
use crate::talk::Voice;

/// What all connections share.
pub(super) struct App {
    /// The model's name.
    pub(super) name: String,
    pub(super) voice: Arc<Voice>,
    pub(super) door: Door,
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) counts: Counts,
    /// Bytes of the largest body.
    pub(super) largest: usize,
    /// How long a client may take to send a request's head, or to come back on an open connection. It may take twice as
    /// long for a body, and to take something of what it is sent.
    pub(super) patience: Duration,
}

/// What is going on.
#[derive(Default)]
pub(super) struct Counts {
    /// Answers that are being made.
    pub(super) active: AtomicUsize,
    /// Answers that ended.
    pub(super) answered: AtomicU64,
}

/// Serves until `closed` is told. Where `stop` is set, as a signal does, the engine is told.
pub(super) fn serve(
    listener: Listener,
    app: &Arc<App>,
    stop: &AtomicBool,
    closed: watch::Receiver<bool>,
) -> io::Result<()> {
    let look = || {
        if stop.load(Ordering::Relaxed) {
            // Where the queue is full the engine is not asleep, and sees the flag itself.
            let _full = app.orders.try_send(Order::Stop);
        }
    };
    let answering = Arc::clone(app);
    let handler = move |request| {
        let app = Arc::clone(&answering);
        async move { answer(&app, request).await }
    };
    http::serve(listener, app.patience, look, closed, handler)
}

/// Answers a request, whatever it is.
async fn answer(app: &Arc<App>, request: Request<Incoming>) -> Answer {
    match route(app, request).await {
        Ok(answer) => answer,
        Err(refusal) => {
            let mut answer = json_answer(refusal.status, &refusal.to_json());
            let headers = answer.headers_mut();
            match refusal.status {
                StatusCode::UNAUTHORIZED => {
                    headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                }
                StatusCode::TOO_MANY_REQUESTS => {
                    headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
                }
                StatusCode::METHOD_NOT_ALLOWED => {
                    let allowed = if refusal.code == "use_post" {
                        "POST"
                    } else {
                        "GET"
                    };
                    headers.insert(ALLOW, HeaderValue::from_static(allowed));
                }
                _ => {}
            }
            answer
        }
    }
}

async fn route(app: &Arc<App>, request: Request<Incoming>) -> Result<Answer, Refusal> {
    let path = request.uri().path().trim_end_matches('/').to_owned();
    let wrong_method = |code, method: &str| {
        let message = format!("use {method} on this path");
        Refusal::new(StatusCode::METHOD_NOT_ALLOWED, code, message)
    };
    // Whether it is well is no secret.
    if path == "/health" {
        return match *request.method() {
            Method::GET => Ok(json_answer(StatusCode::OK, &app.health())),
            _ => Err(wrong_method("use_get", "GET")),
        };
    }
    app.door.check(request.headers()).map_err(Refusal::shut)?;
    let model = path.strip_prefix("/v1/models");
    match (path.as_str(), model) {
        ("/v1/chat/completions", _) if request.method() == Method::POST => {
            complete(app, request).await
        }
        ("/v1/chat/completions", _) => Err(wrong_method("use_post", "POST")),
        (_, Some(_)) if request.method() != Method::GET => Err(wrong_method("use_get", "GET")),
        (_, Some("")) => {
            let list = json!({"object": "list", "data": [app.card()]});
            Ok(json_answer(StatusCode::OK, &list))
        }
        (_, Some(rest))
            if rest
                .strip_prefix('/')
                .is_some_and(|name| app.is_named(name)) =>
        {
            Ok(json_answer(StatusCode::OK, &app.card()))
        }
        (_, Some(rest)) if rest.starts_with('/') => {
            let message = format!("there is one model here, `{}`", app.name);
            Err(Refusal::new(
                StatusCode::NOT_FOUND,
                "model_not_found",
                message,
            ))
        }
        _ => {
            let message = "there are /v1/chat/completions, /v1/models and /health here";
            Err(Refusal::new(StatusCode::NOT_FOUND, "unknown_url", message))
        }
    }
}

/// Reads a question, hands it to the engine, and passes the answer on.
async fn complete(app: &Arc<App>, request: Request<Incoming>) -> Result<Answer, Refusal> {
    let body = body(app, request).await?;
    // Templates and tokens take a while for long texts; other connections go on meanwhile.
    let prepared = {
        let app = Arc::clone(app);
        spawn_blocking(move || app.prepare(&body)).await
    };
    let prepared = prepared.map_err(|_| Refusal::fault("the request could not be prepared"))??;
    let Prepared { request, asks } = prepared;
    let mut answers = Vec::new();
    for (ask, replies) in asks {
        app.order(ask)?;
        answers.push(replies);
    }
    let head = Head::new(request.model.unwrap_or_else(|| app.name.clone()));
    let tools = app.voice.speech.tool_format();
    let tools = tools.filter(|_| request.tools.is_some());
    if request.streams
        && tools.is_none()
        && let Some(replies) = answers.pop()
    {
        let events = Events::live(head, replies, request.with_usage);
        return Ok(event_answer(events));
    }
    let mut whole = Vec::new();
    for replies in answers {
        whole.push(text_of(replies).await?);
    }
    match &whole[..] {
        [(text, finish)] if request.streams => {
            let events = Events::whole(head, text, *finish, tools, request.with_usage);
            Ok(event_answer(events))
        }
        whole => Ok(json_answer(StatusCode::OK, &head.whole(whole, tools))),
    }
}

/// A whole answer.
async fn text_of(mut replies: mpsc::UnboundedReceiver<Reply>) -> Result<(String, Finish), Refusal> {
    let mut text = String::new();
    loop {
        match replies.recv().await {
            Some(Reply::Piece(piece)) => text.push_str(&piece),
            Some(Reply::End(finish)) => return Ok((text, finish)),
            Some(Reply::Fault(reason)) => return Err(Refusal::fault(reason)),
            None => return Err(Refusal::ending()),
        }
    }
}

async fn body(app: &App, request: Request<Incoming>) -> Result<Vec<u8>, Refusal> {
    let kind = request.headers().get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
    if !kind.is_some_and(|kind| kind.eq_ignore_ascii_case("application/json")) {
        let message = "send JSON, with `Content-Type: application/json`";
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err(Refusal::new(status, "not_json", message));
    }
    match http::whole(request.into_body(), app.largest, app.patience).await {
        Ok(body) => Ok(body),
        Err(BodyFault::TooLarge) => {
            let message = format!("a request may have {} bytes", app.largest);
            let status = StatusCode::PAYLOAD_TOO_LARGE;
            Err(Refusal::new(status, "too_large", message))
        }
        Err(BodyFault::Cut(error)) => {
            let message = format!("the body was cut off: {error}");
            Err(Refusal::new(StatusCode::BAD_REQUEST, "body_cut", message))
        }
        Err(BodyFault::TooSlow) => {
            let message = "the body took too long to come";
            let status = StatusCode::REQUEST_TIMEOUT;
            Err(Refusal::new(status, "too_slow", message))
        }
    }
}

/// A question that can be answered.
struct Prepared {
    request: ChatRequest,
    /// For each answer that is wanted, and where it comes from.
    asks: Vec<(Ask, mpsc::UnboundedReceiver<Reply>)>,
}

impl App {
    /// Has the engine answer.
    fn order(&self, ask: Ask) -> Result<(), Refusal> {
        let ordered = self.orders.try_send(Order::Answer(ask));
        ordered.map_err(|error| match error {
            TrySendError::Full(_) => {
                let message = "too many requests wait already";
                Refusal::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", message)
            }
            TrySendError::Closed(_) => Refusal::ending(),
        })
    }

    fn prepare(&self, body: &[u8]) -> Result<Prepared, Refusal> {
        let voice = &self.voice;
        let knows_tools = voice.speech.tool_format().is_some();
        let request = ChatRequest::parse(body, &voice.generation, knows_tools)?;
        let tools = request.tools.as_ref();
        let prompt = voice
            .speech
            .tokens(&voice.tokenizer, &request.messages, tools);
        let prompt = prompt.map_err(|trouble| Refusal {
            param: Some(match trouble.diagnose().code() {
                "data.tool-json" => "tools".to_owned(),
                _ => "messages".to_owned(),
            }),
            ..Refusal::new(
                StatusCode::BAD_REQUEST,
                "invalid_messages",
                trouble.diagnose().to_string(),
            )
        })?;
        let positions = voice.positions;
        if prompt.is_empty() || prompt.len() >= positions {
            let message = format!(
                "the messages have {} tokens; with the answer, the model reads {positions}",
                prompt.len()
            );
            return Err(Refusal {
                param: Some("messages".to_owned()),
                ..Refusal::new(StatusCode::BAD_REQUEST, "context_length_exceeded", message)
            });
        }
        let usual = voice.generation.limit(prompt.len());
        let asks = (0..request.count).map(|number| {
            let (sender, replies) = mpsc::unbounded_channel();
            let ask = Ask {
                prompt: prompt.clone(),
                limit: request.limit.unwrap_or(usual),
                sampling: Sampling {
                    stream: number as u64,
                    ..request.sampling
                },
                stops: request.stops.clone(),
                replies: sender,
            };
            (ask, replies)
        });
        let asks = asks.collect();
        Ok(Prepared { request, asks })
    }

    /// Whether a part of a path names the model. Clients write what is no letter of a path, such as `/`, as `%2F`.
    fn is_named(&self, part: &str) -> bool {
        part == self.name || plain(part) == self.name.as_bytes()
    }

    fn health(&self) -> Value {
        let waiting = self.orders.max_capacity() - self.orders.capacity();
        json!({
            "status": "ok", "active": self.counts.active.load(Ordering::Relaxed), "waiting": waiting,
            "answered": self.counts.answered.load(Ordering::Relaxed),
        })
    }

    fn card(&self) -> Value {
        json!({"id": self.name, "object": "model", "created": now(), "owned_by": "ferry"})
    }
}

/// A part of a path without its `%` signs.
fn plain(part: &str) -> Vec<u8> {
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
    let bytes = part.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let pair = (digit(bytes.get(at + 1)), digit(bytes.get(at + 2)));
        if let (b'%', (Some(high), Some(low))) = (byte, pair) {
            plain.push((high << 4 | low) as u8);
            at += 3;
        } else {
            plain.push(*byte);
            at += 1;
        }
    }
    plain
}

fn event_answer(events: Events) -> Answer {
    let mut answer = with_type(StatusCode::OK, "text/event-stream", events.boxed_unsync());
    answer
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_paths_are_read_as_clients_write_them() {
        for (part, name) in [
            ("a-b", "a-b"),
            ("Qwen%2FQwen3%2f8B", "Qwen/Qwen3/8B"),
            ("%E4%B8%AD", "中"),
            ("100%", "100%"),
            ("%zz%4", "%zz%4"),
        ] {
            assert_eq!(plain(part), name.as_bytes(), "{part}");
        }
    }
}
