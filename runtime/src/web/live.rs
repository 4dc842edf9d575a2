//! A run as it goes on: server-sent events made of its files.
//!
//! ```text
//! trainer_log.jsonl --> event: log     [lines]            id: where both files were read to
//! said.jsonl        --> event: said    [warnings, errors, stages, speed]
//! run.json, /proc   --> event: state   {how it stands, what the process takes}
//! ```
//!
//! Nothing is remembered here: whoever comes back names the place, and as many as want to may watch.

use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use console::Language;
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use hyper::body::{Body, Bytes, Frame};
use hyper::header::{CACHE_CONTROL, HeaderValue};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::routes::Follower;
use super::tail::Tail;
use super::{runs, words};
use crate::http::{Answer, with_type};

/// Between two looks at a run that works, and at one that does not.
const SOON: Duration = Duration::from_millis(500);
const LATER: Duration = Duration::from_secs(3);
/// Looks after which something is sent even if there is nothing to say: who is gone is found out.
const QUIET: u32 = 10;
/// Events that wait for a slow client.
const WAITING: usize = 4;
/// In which Linux counts processor time for programs, a second.
const TICKS: f64 = 100.0;
/// Bytes at the end of what a command said that everybody gets.
const SAID_END: u64 = 256 << 10;

/// An answer that goes on as long as somebody listens.
pub(super) fn follow(
    name: String,
    folder: PathBuf,
    since: &str,
    language: Language,
    follower: Follower,
) -> Answer {
    let (sender, receiver) = mpsc::channel(WAITING);
    let mut watched = Watched::from(name, folder, since, language);
    tokio::spawn(async move {
        let _counted = follower;
        loop {
            let looked = spawn_blocking(move || {
                let events = watched.look();
                (watched, events)
            });
            let Ok((next, events)) = looked.await else {
                return;
            };
            watched = next;
            let more = watched.more;
            for event in events {
                if sender.send(event).await.is_err() {
                    return;
                }
            }
            if more {
                continue;
            }
            let pause = if watched.works { SOON } else { LATER };
            tokio::select! {
                () = sleep(pause) => {}
                () = sender.closed() => return,
            }
        }
    });
    stream(receiver)
}

/// An answer of events that come through a channel.
pub(super) fn stream(receiver: mpsc::Receiver<Bytes>) -> Answer {
    let body = Received(receiver).boxed_unsync();
    let mut answer = with_type(StatusCode::OK, "text/event-stream", body);
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer
}

/// One event in the form that browsers read.
pub(super) fn event(kind: &str, id: Option<&str>, data: &Value) -> Bytes {
    let id = id.map_or_else(String::new, |id| format!("id: {id}\n"));
    format!("{id}event: {kind}\ndata: {data}\n\n").into()
}

/// A channel as a body.
struct Received(mpsc::Receiver<Bytes>);

impl Body for Received {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.0.poll_recv(context);
        next.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// A run, and how far one client has seen it.
struct Watched {
    name: String,
    folder: PathBuf,
    language: Language,
    log: Tail,
    said: Tail,
    /// The last state that was sent.
    state: Value,
    works: bool,
    /// There is more to read at once.
    more: bool,
    fresh: bool,
    quiet: u32,
}

impl Watched {
    /// `since` is the id of the last event that the client got.
    fn from(name: String, folder: PathBuf, since: &str, language: Language) -> Self {
        let mut places = since.split('.').map(|place| place.parse().unwrap_or(0));
        let mut next = || places.next().unwrap_or(0);
        let log = Tail::at(folder.join("trainer_log.jsonl"), next(), next());
        let said = Tail::at(folder.join(train::FRONT_SAID), next(), next());
        Self {
            fresh: said.offset == 0,
            name,
            folder,
            language,
            log,
            said,
            state: Value::Null,
            works: false,
            more: false,
            quiet: 0,
        }
    }

    fn look(&mut self) -> Vec<Bytes> {
        let mut events = Vec::new();
        // Before the logs: what a run that has ended wrote last is then there.
        let mut state = runs::summary(&self.name, &self.folder, self.language);
        self.works = matches!(
            state["state"].as_str(),
            Some("running" | "starting" | "ending")
        );
        let log = self.log.look().unwrap_or_default();
        let said = self.said.look().unwrap_or_default();
        if self.fresh {
            // Warnings come first, and the end tells how things are; a long run has much in between.
            self.fresh = false;
            let _unread = self.said.skip_to_end(SAID_END);
        }
        self.more = !log.lines.is_empty() || !said.lines.is_empty();
        if log.again {
            events.push(event("again", None, &json!({})));
        }
        let shown = self.shown(&said.lines);
        if !shown.is_empty() {
            events.push(event("said", Some(&self.place()), &json!(shown)));
        }
        if !log.lines.is_empty() {
            events.push(event("log", Some(&self.place()), &json!(log.lines)));
        }
        if self.works {
            state["process"] = state["pid"].as_u64().map_or(Value::Null, process);
            state["machine"] = machine();
        }
        self.quiet += 1;
        if state != self.state || !events.is_empty() {
            events.push(event("state", None, &state));
            self.state = state;
        } else if self.quiet >= QUIET {
            events.push(Bytes::from_static(b": still here\n\n"));
        }
        if !events.is_empty() {
            self.quiet = 0;
        }
        events
    }

    /// What of a command's lines the page shows. Of speeds and progress the last is enough.
    fn shown(&self, lines: &[Value]) -> Vec<Value> {
        let mut shown: Vec<Value> = Vec::new();
        for line in lines {
            let next = match line {
                Value::String(text) => Some(json!({"kind": "text", "text": text})),
                line => words::event(self.language, line),
            };
            let Some(next) = next else {
                continue;
            };
            let passes = |one: &Value| matches!(one["kind"].as_str(), Some("speed" | "progress"));
            if shown.last().is_some_and(passes) && passes(&next) {
                shown.pop();
            }
            shown.push(next);
        }
        shown
    }

    fn place(&self) -> String {
        let (log, said) = (&self.log, &self.said);
        format!(
            "{}.{}.{}.{}",
            log.inode, log.offset, said.inode, said.offset
        )
    }
}

/// What a process takes: memory now and at its peak, and seconds of processors.
fn process(pid: u64) -> Value {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let (now, peak) = (kibibytes(&status, "VmRSS:"), kibibytes(&status, "VmHWM:"));
    // The name, in brackets, may hold anything; times are the twelfth and thirteenth word behind it.
    let behind = stat.rsplit_once(')').map_or("", |(_, behind)| behind);
    let words: Vec<&str> = behind.split_whitespace().collect();
    let ticks = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
    let busy = ticks(11).zip(ticks(12));
    let busy = busy.map(|(user, system)| (user + system) as f64 / TICKS);
    json!({"memory": now, "peak": peak, "busy_seconds": busy})
}

/// What the machine has and has left.
fn machine() -> Value {
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Option<f64> = load.split(' ').next().and_then(|load| load.parse().ok());
    json!({
        "memory": kibibytes(&memory, "MemTotal:"), "available": kibibytes(&memory, "MemAvailable:"),
        "load": load, "cores": std::thread::available_parallelism().map_or(0, usize::from),
    })
}

/// Bytes of a line such as `VmRSS:  12 kB`.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(number << 10)
}

/// How the machine stands, for a page that shows no run.
pub(super) fn now(folder: &Path) -> Value {
    let mut now = machine();
    let free = rustix::fs::statvfs(folder).ok();
    now["disk_free"] = free.map(|free| free.f_bavail * free.f_frsize).into();
    now
}
