//! What servers of this program share: a place to listen, connections in bounds, bodies in bounds, a door.
//!
//! ```text
//! client --connection, Patient--> hyper --> handler --> Answer
//! ```
//!
//! Everything that a client decides is bounded: how many connect, how long a head or a body takes to come, how long an
//! answer waits to be taken, and how large all of it is.

mod door;
mod listener;
mod patient;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

pub(crate) use door::{Door, Shut, is_this_machine};
pub(crate) use listener::{Address, Listener};

use listener::{Accepting, Stream};
use patient::Patient;

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
/// Threads that wait for the disk or compute beside the one that serves.
const THREADS: usize = 8;

/// What a client gets.
pub(crate) type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Serves until `closed` is told; `look` is called many times a second. A client has `patience` for a request's head, and
/// twice as long to take something of its answer.
pub(crate) fn serve<H, F>(
    listener: Listener,
    patience: Duration,
    look: impl Fn(),
    mut closed: watch::Receiver<bool>,
    handler: H,
) -> io::Result<()>
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(THREADS)
        .build()?;
    runtime.block_on(async {
        let listener = Accepting::of(listener)?;
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
                    let (Ok(place), Ok(stream)) = next else {
                        // Out of files, or the client is gone already: others may fare better in a moment.
                        sleep(LOOK_TIME).await;
                        continue;
                    };
                    (place, stream)
                }
                _ = looks.tick() => {
                    look();
                    continue;
                }
                _ = closed.changed() => break,
            };
            while open.try_join_next().is_some() {}
            let (handler, closed) = (handler.clone(), closed.clone());
            open.spawn(async move {
                connection(stream, patience, handler, closed).await;
                drop(place);
            });
        }
        let ended = async { while open.join_next().await.is_some() {} };
        let _cut = timeout(END_TIME, ended).await;
        Ok(())
    })
}

async fn connection<H, F>(
    stream: Box<dyn Stream>,
    patience: Duration,
    handler: H,
    mut closed: watch::Receiver<bool>,
) where
    H: Fn(Request<Incoming>) -> F + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = handler(request);
        async move { Ok::<_, Infallible>(answer.await) }
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

/// Why a body is not taken.
#[derive(Debug)]
pub(crate) enum BodyFault {
    TooLarge,
    Cut(hyper::Error),
    TooSlow,
}

/// A whole body of at most `largest` bytes; it may take twice the `patience`.
pub(crate) async fn whole(
    body: Incoming,
    largest: usize,
    patience: Duration,
) -> Result<Vec<u8>, BodyFault> {
    if body.size_hint().lower() > (PASSED_OVER * largest) as u64 {
        return Err(BodyFault::TooLarge);
    }
    match timeout(2 * patience, read(body, largest)).await {
        Ok(Ok(Some(body))) => Ok(body),
        Ok(Ok(None)) => Err(BodyFault::TooLarge),
        Ok(Err(error)) => Err(BodyFault::Cut(error)),
        Err(_) => Err(BodyFault::TooSlow),
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

/// An answer in JSON.
pub(crate) fn json_answer(status: StatusCode, value: &Value) -> Answer {
    let body = Full::new(Bytes::from(value.to_string())).boxed_unsync();
    with_type(status, "application/json", body)
}

/// An answer of any kind.
pub(crate) fn with_type(
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
