//! Connections and paths.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{interval, sleep, timeout};

use super::door::Door;
use super::engine::{Ask, Order, Reply};
use super::events::Events;
use super::patient::Patient;
use super::refusal::Refusal;
use super::reply::{Head, now};
use super::request::ChatRequest;
use crate::talk::Voice;

/// Connections at a time; more wait to be accepted.
const CONNECTIONS: usize = 128;
/// How often a wish to end is looked for.
const LOOK_TIME: Duration = Duration::from_millis(50);
/// How long connections may go on when the program ends.
const END_TIME: Duration = Duration::from_secs(2);
/// The longest head of a request, in bytes and in fields.
const HEAD_SIZE: usize = 16 << 10;
const HEAD_FIELDS: usize = 64;
/// How many times the size of the largest body is read before a client is cut off.
const PASSED_OVER: usize = 8;

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

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Serves until `closed` is told. Where `stop` is set, as a signal does, the engine is told.
pub(super) fn serve(
    listener: TcpListener,
    app: &Arc<App>,
    stop: &AtomicBool,
    mut closed: watch::Receiver<bool>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(2)
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let mut open = JoinSet::new();
        let mut looks = interval(LOOK_TIME);
        loop {
            let next = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, listener.accept().await)
            };
            let (place, stream) = tokio::select! {
                next = next => {
                    let (Ok(place), Ok((stream, _))) = next else {
                        // Out of files, or the client is gone already: others may fare better in a moment.
                        sleep(LOOK_TIME).await;
                        continue;
                    };
                    (place, stream)
                }
                _ = looks.tick() => {
                    if stop.load(Ordering::Relaxed) {
                        // Where the queue is full the engine is not asleep, and sees the flag itself.
                        let _full = app.orders.try_send(Order::Stop);
                    }
                    continue;
                }
                _ = closed.changed() => break,
            };
            while open.try_join_next().is_some() {}
            let (app, closed) = (Arc::clone(app), closed.clone());
            open.spawn(async move {
                connection(stream, app, closed).await;
                drop(place);
            });
        }
        let ended = async { while open.join_next().await.is_some() {} };
        let _cut = timeout(END_TIME, ended).await;
        Ok(())
    })
}

async fn connection(stream: TcpStream, app: Arc<App>, mut closed: watch::Receiver<bool>) {
    let _slower = stream.set_nodelay(true);
    let patience = app.patience;
    let service = service_fn(move |request| {
        let app = Arc::clone(&app);
        async move { Ok::<_, Infallible>(answer(&app, request).await) }
    });
    let io = TokioIo::new(Patient::new(stream, 2 * patience));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_headers(HEAD_FIELDS)
        .max_header_size(HEAD_SIZE)
        .serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // A client that breaks the rules or leaves concerns nobody else.
        _ended = connection.as_mut() => return,
        _ = closed.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ended = connection.await;
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
    app.door.check(request.headers())?;
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
        (_, Some(rest)) if rest.strip_prefix('/') == Some(app.name.as_str()) => {
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
    let Prepared {
        request,
        ask,
        mut replies,
    } = prepared;
    app.orders
        .try_send(Order::Answer(ask))
        .map_err(|error| match error {
            TrySendError::Full(_) => {
                let message = "too many requests wait already";
                Refusal::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", message)
            }
            TrySendError::Closed(_) => Refusal::ending(),
        })?;
    let head = Head::new(request.model.unwrap_or_else(|| app.name.clone()));
    let tools = app.voice.speech.tool_format();
    let tools = tools.filter(|_| request.tools.is_some());
    if request.streams && tools.is_none() {
        let events = Events::live(head, replies, request.with_usage);
        return Ok(event_answer(events));
    }
    let mut text = String::new();
    let finish = loop {
        match replies.recv().await {
            Some(Reply::Piece(piece)) => text.push_str(&piece),
            Some(Reply::End(finish)) => break finish,
            Some(Reply::Fault(reason)) => return Err(Refusal::fault(reason)),
            None => return Err(Refusal::ending()),
        }
    };
    if request.streams {
        let events = Events::whole(head, &text, finish, tools, request.with_usage);
        return Ok(event_answer(events));
    }
    Ok(json_answer(
        StatusCode::OK,
        &head.whole(&text, finish, tools),
    ))
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
    let too_large = || {
        let message = format!("a request may have {} bytes", app.largest);
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    };
    if request.body().size_hint().lower() > (PASSED_OVER * app.largest) as u64 {
        return Err(too_large());
    }
    match timeout(2 * app.patience, read(request.into_body(), app.largest)).await {
        Ok(Ok(Some(body))) => Ok(body),
        Ok(Ok(None)) => Err(too_large()),
        Ok(Err(error)) => {
            let message = format!("the body was cut off: {error}");
            Err(Refusal::new(StatusCode::BAD_REQUEST, "body_cut", message))
        }
        Err(_) => {
            let message = "the body took too long to come";
            Err(Refusal::new(
                StatusCode::REQUEST_TIMEOUT,
                "too_slow",
                message,
            ))
        }
    }
}

/// A whole body, if it is not too large. What is somewhat larger is read all the same and forgotten: a client that is cut
/// off while it sends does not see why.
async fn read(mut body: Incoming, largest: usize) -> Result<Option<Vec<u8>>, hyper::Error> {
    let mut bytes = Vec::new();
    let mut size = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        size += data.len();
        if size <= largest {
            bytes.extend_from_slice(&data);
        } else if size > PASSED_OVER * largest {
            break;
        }
    }
    Ok((size <= largest).then_some(bytes))
}

/// A question that can be answered.
struct Prepared {
    request: ChatRequest,
    ask: Ask,
    replies: mpsc::UnboundedReceiver<Reply>,
}

impl App {
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
        let (sender, replies) = mpsc::unbounded_channel();
        let usual = voice.generation.limit(prompt.len());
        let ask = Ask {
            prompt,
            limit: request.limit.unwrap_or(usual),
            sampling: request.sampling,
            stops: request.stops.clone(),
            replies: sender,
        };
        Ok(Prepared {
            request,
            ask,
            replies,
        })
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

fn json_answer(status: StatusCode, value: &Value) -> Answer {
    let body = Full::new(Bytes::from(value.to_string())).boxed_unsync();
    with_type(status, "application/json", body)
}

fn event_answer(events: Events) -> Answer {
    let mut answer = with_type(StatusCode::OK, "text/event-stream", events.boxed_unsync());
    answer
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer
}

fn with_type(
    status: StatusCode,
    kind: &'static str,
    body: UnsyncBoxBody<Bytes, Infallible>,
) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}
