//! A web server that misbehaves on demand.

#![allow(dead_code, reason = "each test takes what it needs of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bundle_mirror::Patience;

/// Tries little and waits little.
pub const QUICK: Patience = Patience {
    attempts: 3,
    first_pause: Duration::from_millis(1),
    longest_pause: Duration::from_secs(3),
    silence: Duration::from_secs(30),
    slowest: 1024,
};

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// First byte that a `Range` header asks for.
    pub fn from(&self) -> Option<usize> {
        let range = self.header("range")?.strip_prefix("bytes=")?;
        range.split('-').next()?.parse().ok()
    }
}

/// An answer: status, headers, body, how many bytes of the body really go out, and how long the line then hangs.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub cut: Option<usize>,
    pub hang: Duration,
    pub silent: bool,
}

impl Answer {
    pub fn new(status: u16, body: &[u8]) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.to_vec(),
            cut: None,
            hang: Duration::ZERO,
            silent: false,
        }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Is not answered for a long time.
    pub fn never() -> Self {
        let answer = Self::new(504, b"");
        Self {
            hang: Duration::from_secs(60),
            silent: true,
            ..answer
        }
    }

    /// Sends that many bytes, and then nothing more for a long time.
    pub fn hang_after(mut self, bytes: usize) -> Self {
        self.hang = Duration::from_secs(60);
        self.cut_after(bytes)
    }

    pub fn cut_after(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self
    }
}

/// What an honest server answers, `Range` included.
pub fn honest(asked: &Asked, body: &[u8]) -> Answer {
    match asked.from() {
        Some(from) if from >= body.len() => Answer::new(416, b""),
        Some(from) => Answer::new(206, &body[from..]).with(
            "Content-Range",
            &format!("bytes {from}-{}/{}", body.len() - 1, body.len()),
        ),
        None => Answer::new(200, body),
    }
}

pub struct Server {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// Answers each request by `reply`, which is given the number of requests before it.
    pub fn new(reply: impl Fn(usize, &Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, reply) = (Arc::clone(&asked), Arc::new(reply));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, log, reply) = (stream.unwrap(), Arc::clone(&log), Arc::clone(&reply));
                thread::spawn(move || answer(stream, &log, &*reply));
            }
        });
        Self { url, asked }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn answer(
    mut stream: TcpStream,
    log: &Mutex<Vec<Asked>>,
    reply: &(impl Fn(usize, &Asked) -> Answer + ?Sized),
) {
    let Some(request) = read(&stream) else {
        return;
    };
    let number = {
        let mut log = log.lock().unwrap();
        log.push(request.clone());
        log.len() - 1
    };
    let answer = reply(number, &request);
    if answer.silent {
        thread::sleep(answer.hang);
        return;
    }
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", answer.status);
    head += &format!("Content-Length: {}\r\n", answer.body.len());
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    let body = match request.method.as_str() {
        "HEAD" => &[],
        _ => &answer.body[..answer.cut.unwrap_or(answer.body.len())],
    };
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(body);
    thread::sleep(answer.hang);
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        Some(line.trim_end().to_owned())
    };
    let first = line()?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = Vec::new();
    while let Some((name, value)) = line()?.split_once(':') {
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut asked = Asked {
        method,
        path,
        headers,
        body: String::new(),
    };
    let length = asked
        .header("content-length")
        .and_then(|text| text.parse().ok());
    let mut body = vec![0; length.unwrap_or_default()];
    reader.read_exact(&mut body).ok()?;
    asked.body = String::from_utf8(body).ok()?;
    Some(asked)
}
