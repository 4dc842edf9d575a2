//! The server, and clients that are sockets, so that they can break every rule.

mod answers;
mod hostile;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bench::Bench;

/// A server that is ended with the test.
struct Server {
    bench: Bench,
    child: Child,
    output: BufReader<ChildStdout>,
    address: SocketAddr,
    /// What it said when it was ready.
    said: Value,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        Self::start_in(Bench::new(), arguments, &[])
    }

    fn start_in(bench: Bench, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut all = vec!["--json", "api", "--model", "model"];
        if !arguments.contains(&"--listen") {
            all.extend(["--listen", "127.0.0.1:0"]);
        }
        if !arguments.contains(&"--template") {
            all.extend(["--template", "qwen"]);
        }
        all.extend(arguments);
        let mut command = bench.command(&all);
        command.envs(variables.iter().copied());
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
        let url = said["listening"]
            .as_str()
            .unwrap_or_else(|| panic!("{line}"));
        let address: SocketAddr = url
            .trim_start_matches("http://")
            .trim_end_matches("/v1")
            .replace("0.0.0.0", "127.0.0.1")
            .parse()
            .unwrap();
        Self {
            bench,
            child,
            output,
            address,
            said,
        }
    }

    /// A server whose answers go on until the model can read no more: the token that ends them never comes.
    fn endless(arguments: &[&str]) -> Self {
        let bench = Bench::new();
        let path = bench.path("model/tokenizer_config.json");
        let settings = fs::read_to_string(&path).unwrap();
        let settings = settings.replace(
            r#""eos_token": "<|im_end|>""#,
            r#""eos_token": "<|endoftext|>""#,
        );
        bench.write("model/tokenizer_config.json", settings);
        let mut all = vec!["--template", "empty"];
        all.extend(arguments);
        all.push("max_new_tokens=1000000");
        Self::start_in(bench, &all, &[])
    }

    /// Asks, and does not wait for the answer.
    fn ask(&self, body: &Value) -> TcpStream {
        let body = body.to_string();
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        let patience = Some(Duration::from_secs(120));
        stream.set_read_timeout(patience).unwrap();
        stream
    }

    /// Sends bytes, and returns status and text of all that comes back.
    fn raw(&self, bytes: &[u8]) -> (u16, String) {
        let mut stream = self.connect();
        let _refused_half_way = stream.write_all(bytes);
        answer_of(stream)
    }

    fn request(&self, head: &str, body: &str) -> (u16, String) {
        let request = format!(
            "{head} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.raw(request.as_bytes())
    }

    fn chat(&self, body: &Value) -> (u16, Value) {
        let (status, text) = self.request("POST /v1/chat/completions", &body.to_string());
        (
            status,
            serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}")),
        )
    }

    fn health(&self) -> Value {
        let (status, text) = self.request("GET /health", "");
        assert_eq!(status, 200);
        serde_json::from_str(&text).unwrap()
    }

    /// Waits until `right` holds of its health.
    fn until(&self, right: impl Fn(&Value) -> bool) {
        let began = Instant::now();
        loop {
            let health = self.health();
            if right(&health) {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "{health}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Presses Ctrl-C, and returns how it ended and what it said last.
    fn interrupt(mut self) -> (Option<i32>, String) {
        let id = self.child.id().to_string();
        let sent = self.bench.tool("kill").args(["-INT", &id]).status();
        assert!(sent.unwrap().success());
        let status = self.child.wait().unwrap();
        let mut said = String::new();
        self.output.read_to_string(&mut said).unwrap();
        (status.code(), said)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Status and body of an answer; zero where the connection was closed without one.
pub fn answer_of(mut stream: TcpStream) -> (u16, String) {
    let mut bytes = Vec::new();
    let _reset_at_the_end = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return (0, text);
    };
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    if head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked")
    {
        return (status, unchunked(body));
    }
    (status, body.to_owned())
}

fn unchunked(mut body: &str) -> String {
    let mut text = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            break;
        }
        text.push_str(&rest[..size]);
        body = &rest[size + 2..];
    }
    text
}

fn asked(question: &str) -> Value {
    json!({"model": "any", "temperature": 0, "messages": [{"role": "user", "content": question}]})
}

fn with(mut body: Value, more: &Value) -> Value {
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    body
}
