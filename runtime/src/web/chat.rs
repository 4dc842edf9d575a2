//! Talking with a model: one at a time, in a process of its own that ends with this one.
//!
//! ```text
//! page --> here --HTTP over a socket in a folder of ours--> `ferry-runtime api`
//! ```

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use console::Language;
use hyper::body::Bytes;
use report::Trouble;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::error::WebError;
use super::{command, live, runs, words};
use crate::chance;
use crate::http::Answer;

/// Bytes of the head of an answer.
const LONGEST_HEAD: usize = 16 << 10;
/// Bytes of an error.
const LONGEST_ERROR: usize = 64 << 10;
/// Bytes of a piece of an answer.
const PIECE: usize = 8 << 10;
/// Pieces of an answer that wait for a slow client.
const WAITING: usize = 16;

/// What the page wants to talk with.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    /// Folder of the model.
    pub(super) model: String,
    /// A run whose adapter is added.
    pub(super) run: Option<String>,
    /// A chat template, where it is not the model's own.
    pub(super) template: Option<String>,
}

/// The model that is talked with, if there is one.
pub(super) struct Chat {
    /// For the socket, and what the process says.
    folder: PathBuf,
    loaded: Mutex<Option<Loaded>>,
    idle: Duration,
}

struct Loaded {
    wish: Wish,
    process: Child,
    /// As long as it is open the process goes on.
    _input: Option<ChildStdin>,
    token: String,
    used: Instant,
    /// Answers that are being made.
    answering: Arc<()>,
}

impl Chat {
    /// Makes the folder. Nobody else may look into it.
    pub(super) fn open(idle: Duration) -> Result<Self, WebError> {
        let token = chance::token().unwrap_or_default();
        let short = token.get(..12).unwrap_or_default();
        let folder = std::env::temp_dir().join(format!("ferry-web-{short}"));
        let made = DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(|source| WebError::Write {
            path: folder.clone(),
            source,
        })?;
        Ok(Self {
            folder,
            loaded: Mutex::default(),
            idle,
        })
    }

    /// Begins to load a model; one that is loaded goes first.
    pub(super) fn load(&self, wish: Wish, adapter: Option<&Path>) -> Result<(), WebError> {
        // Held until the new one is there: two pages that load at once get one after the other.
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = loaded.take() {
            end(before);
        }
        let not_started = |source| WebError::NotStarted {
            command: "api".to_owned(),
            source,
        };
        let said = self.said();
        let output =
            File::create(&said).map_err(|source| WebError::Write { path: said, source })?;
        let token = chance::token().map_err(not_started)?;
        let mut command = command::program().map_err(not_started)?;
        command
            .args(["api", "--until-input-ends", "--model", &wish.model])
            .args(["--listen", &format!("unix:{}", self.socket().display())])
            .env("API_KEY", &token)
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(Stdio::null())
            .current_dir(&self.folder);
        if let Some(adapter) = adapter {
            command.arg("--adapter").arg(adapter);
        }
        if let Some(template) = &wish.template {
            command.args(["--template", template]);
        }
        let mut process = command.spawn().map_err(not_started)?;
        *loaded = Some(Loaded {
            wish,
            _input: process.stdin.take(),
            process,
            token,
            used: Instant::now(),
            answering: Arc::new(()),
        });
        Ok(())
    }

    /// Ends the model's process.
    pub(super) fn unload(&self) {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = loaded.take() {
            end(before);
        }
    }

    /// Ends the model's process where nobody has used it for a while. Waits for nothing.
    pub(super) fn rest(&self) {
        let Ok(mut loaded) = self.loaded.try_lock() else {
            return;
        };
        let idle = loaded.as_mut().is_some_and(|loaded| {
            if Arc::strong_count(&loaded.answering) > 1 {
                loaded.used = Instant::now();
            }
            loaded.used.elapsed() > self.idle
        });
        if idle && let Some(before) = loaded.take() {
            end(before);
        }
    }

    /// What is loaded, and how that stands.
    pub(super) fn status(&self, language: Language) -> Value {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(loaded) = loaded.as_mut() else {
            return json!({"state": "none"});
        };
        let lines = runs::last_lines(&self.said());
        let ended = !matches!(loaded.process.try_wait(), Ok(None));
        let state = if ended {
            "failed"
        } else if lines.iter().any(|line| line["listening"].is_string()) {
            "ready"
        } else {
            "loading"
        };
        let error = lines.iter().rev().find_map(|line| line.get("error"));
        let error = error.filter(|_| ended).cloned();
        json!({
            "state": state, "model": loaded.wish.model, "run": loaded.wish.run,
            "template": loaded.wish.template,
            "error": error.map(|error| words::explained(language, error)),
        })
    }

    /// Passes a question on, and the answer back as it comes.
    pub(super) async fn say(&self, body: &[u8]) -> Result<Answer, WebError> {
        let (token, answering) = {
            let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
            let loaded = loaded.as_mut().ok_or(WebError::NoModel)?;
            loaded.used = Instant::now();
            (loaded.token.clone(), Arc::clone(&loaded.answering))
        };
        let failed = |error: io::Error| WebError::ChatFailed {
            reason: error.to_string(),
        };
        let connected = UnixStream::connect(self.socket()).await;
        let stream = connected.map_err(|_| WebError::NoModel)?;
        // In this older form an answer ends with its connection, and its body comes as it is.
        let head = format!(
            "POST /v1/chat/completions HTTP/1.0\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        write(&stream, head.as_bytes()).await.map_err(failed)?;
        write(&stream, body).await.map_err(failed)?;
        let (status, first) = answer_head(&stream).await.map_err(failed)?;
        if status != 200 {
            let mut rest = first;
            loop {
                let piece = read(&stream).await.map_err(failed)?;
                if piece.is_empty() || rest.len() > LONGEST_ERROR {
                    break;
                }
                rest.extend(piece);
            }
            let error: Value = serde_json::from_slice(&rest).unwrap_or_default();
            let reason = error["error"]["message"].as_str().unwrap_or("no reason");
            return Err(WebError::ChatFailed {
                reason: reason.to_owned(),
            });
        }
        let (sender, receiver) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            // Held as long as the answer lasts: a model that answers is not ended.
            let kept = answering;
            let mut piece = first;
            loop {
                // Who leaves ends the answer: the connection to the model is closed with this task.
                if !piece.is_empty() && sender.send(Bytes::from(piece)).await.is_err() {
                    break;
                }
                let next = tokio::select! {
                    next = read(&stream) => next,
                    () = sender.closed() => break,
                };
                piece = match next {
                    Ok(next) if !next.is_empty() => next,
                    _ => break,
                };
            }
            drop(kept);
        });
        Ok(live::stream(receiver))
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("model")
    }

    fn said(&self) -> PathBuf {
        self.folder.join("said.jsonl")
    }
}

impl Drop for Chat {
    fn drop(&mut self) {
        self.unload();
        let _gone = fs::remove_dir_all(&self.folder);
    }
}

/// Ends it at once: it has nothing that could be lost. Nobody waits until its memory is given back.
fn end(mut loaded: Loaded) {
    let _ended = loaded.process.kill();
    thread::spawn(move || loaded.process.wait());
}

/// Status of an answer, and what came behind its head.
async fn answer_head(stream: &UnixStream) -> io::Result<(u16, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
            let status = status.ok_or(io::ErrorKind::InvalidData)?;
            return Ok((status, bytes.split_off(end + 4)));
        }
        if bytes.len() > LONGEST_HEAD {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let piece = read(stream).await?;
        if piece.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend(piece);
    }
}

/// What comes next; nothing at the end.
async fn read(stream: &UnixStream) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; PIECE];
    loop {
        stream.readable().await?;
        match stream.try_read(&mut buffer) {
            Ok(size) => {
                buffer.truncate(size);
                return Ok(buffer);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn write(stream: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(size) => bytes = &bytes[size..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A question in the form that the page sends.
pub(super) fn question(body: &[u8]) -> Result<Vec<u8>, Trouble> {
    let mut question: Value =
        serde_json::from_slice(body).map_err(|error| WebError::Malformed {
            reason: error.to_string(),
        })?;
    let Some(fields) = question.as_object_mut() else {
        return Err(WebError::Malformed {
            reason: "not an object".to_owned(),
        }
        .into());
    };
    fields.insert("stream".to_owned(), true.into());
    fields.insert("stream_options".to_owned(), json!({"include_usage": true}));
    Ok(question.to_string().into_bytes())
}
