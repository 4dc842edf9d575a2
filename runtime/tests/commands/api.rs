//! The server and its clients, the hostile ones too. Clients are sockets, so that they can break every rule.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bench::{Bench, golden};

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

/// The questions that the original was asked, with its answers without their end.
fn cases() -> Vec<(String, String, usize)> {
    let cases = fs::read(golden("vectors/generate.json")).unwrap();
    let cases: Value = serde_json::from_slice(&cases).unwrap();
    let case = |case: &Value| {
        let (_, rest) = case["prompt"]
            .as_str()
            .unwrap()
            .split_once("<|im_start|>user\n")
            .unwrap();
        let (question, _) = rest.split_once("<|im_end|>").unwrap();
        let text = case["text"]
            .as_str()
            .unwrap()
            .trim_end_matches("<|im_end|>");
        let count = case["new_ids"].as_array().unwrap().len();
        (question.to_owned(), text.to_owned(), count)
    };
    cases["base"].as_array().unwrap().iter().map(case).collect()
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

/// The events of a stream.
fn events(text: &str) -> Vec<Value> {
    let data = text
        .split("\n\n")
        .filter_map(|event| event.strip_prefix("data: "));
    data.filter(|data| *data != "[DONE]")
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

#[test]
fn clients_get_the_models_answers() {
    let server = Server::start(&[]);
    for (question, wanted, count) in cases() {
        let body = with(asked(&question), &json!({"max_tokens": count}));
        let (status, answer) = server.chat(&body);
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["object"], "chat.completion");
        let choice = &answer["choices"][0];
        assert_eq!(choice["message"]["content"], wanted, "{question}");
        assert_eq!(answer["usage"]["completion_tokens"], count);
        let total = answer["usage"]["prompt_tokens"].as_u64().unwrap() + count as u64;
        assert_eq!(answer["usage"]["total_tokens"], total);

        let more = json!({"stream": true, "stream_options": {"include_usage": true}});
        let (status, text) =
            server.request("POST /v1/chat/completions", &with(body, &more).to_string());
        assert_eq!(status, 200);
        assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
        let events = events(&text);
        let parts = events
            .iter()
            .filter_map(|e| e["choices"][0]["delta"]["content"].as_str());
        assert_eq!(parts.collect::<String>(), wanted, "streamed");
        assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
        let reasons = events
            .iter()
            .filter_map(|e| e["choices"][0]["finish_reason"].as_str());
        let reasons: Vec<&str> = reasons.collect();
        assert_eq!(reasons, [choice["finish_reason"].as_str().unwrap()]);
        assert_eq!(events.last().unwrap()["usage"], answer["usage"]);
    }
    let (status, text) = server.request("GET /v1/models", "");
    assert_eq!(status, 200);
    let list: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(list["data"][0]["id"], "model");
    assert_eq!(server.request("GET /v1/models/model", "").0, 200);
    assert_eq!(server.request("GET /v1/models/other", "").0, 404);
}

#[test]
fn answers_end_where_they_are_told_to() {
    let server = Server::start(&[]);
    let (question, whole, count) = cases()
        .into_iter()
        .find(|(_, text, _)| text.is_ascii())
        .unwrap();
    let chat = |more: Value| {
        let (status, answer) = server.chat(&with(asked(&question), &more));
        assert_eq!(status, 200, "{answer}");
        let choice = answer["choices"][0].clone();
        let text = choice["message"]["content"].as_str().unwrap().to_owned();
        (text, choice["finish_reason"].as_str().unwrap().to_owned())
    };
    let (text, reason) = chat(json!({"max_tokens": 2}));
    assert!(whole.starts_with(&text) && text != whole, "{text}");
    assert_eq!(reason, "length");
    let word = whole.split(' ').nth(2).unwrap();
    let (before, _) = whole.split_once(word).unwrap();
    let (text, reason) = chat(json!({"stop": [word, "never"], "max_tokens": count}));
    assert_eq!((text.as_str(), reason.as_str()), (before, "stop"));
    // The same seed draws the same; another, or none, is free to draw another.
    let drawn = |seed: u64| {
        chat(json!({"temperature": 2, "top_p": 1, "top_k": 0, "seed": seed, "max_tokens": 12})).0
    };
    assert_eq!(drawn(5), drawn(5));
    let texts: Vec<String> = (0..6).map(drawn).collect();
    assert!(texts.iter().any(|text| *text != texts[0]), "{texts:?}");
}

#[test]
fn several_clients_are_answered_at_once() {
    let server = Server::start(&["--concurrent", "3"]);
    let cases = cases();
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..3)
            .flat_map(|_| &cases)
            .map(|(question, wanted, count)| {
                let server = &server;
                scope.spawn(move || {
                    let body = with(asked(question), &json!({"max_tokens": count}));
                    let (status, answer) = server.chat(&body);
                    assert_eq!(status, 200, "{answer}");
                    assert_eq!(&answer["choices"][0]["message"]["content"], wanted);
                })
            })
            .collect();
        for asked in asked {
            asked.join().unwrap();
        }
    });
    assert_eq!(server.health()["answered"], 3 * cases.len());
}

#[test]
fn hostile_requests_are_refused_and_hurt_nobody() {
    let server = Server::start(&["--largest-request", "1"]);
    let post = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    let json_head = format!("{post}Content-Type: application/json\r\n");
    let huge = "x".repeat(3 << 20);
    let chunked = format!(
        "{json_head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{huge}\r\n0\r\n\r\n",
        huge.len()
    );
    let long_head = format!(
        "GET /health HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
        "y".repeat(64 << 10)
    );
    for (what, bytes, status, code) in [
        (
            "a huge length",
            format!("{json_head}Content-Length: 9999999999999\r\n\r\n"),
            413,
            "too_large",
        ),
        ("a huge body in chunks", chunked, 413, "too_large"),
        (
            "no JSON",
            format!("{json_head}Content-Length: 1\r\n\r\n{{"),
            400,
            "invalid_json",
        ),
        (
            "another type",
            format!("{post}Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{{}}"),
            415,
            "not_json",
        ),
        (
            "no type",
            format!("{post}Content-Length: 2\r\n\r\n{{}}"),
            415,
            "not_json",
        ),
        ("no body", format!("{json_head}\r\n"), 400, "invalid_json"),
        (
            "a wrong method",
            "PUT /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                .to_owned(),
            405,
            "use_post",
        ),
        (
            "a wrong path",
            "GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                .to_owned(),
            404,
            "unknown_url",
        ),
        (
            "another host",
            "GET /v1/models HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n".to_owned(),
            403,
            "foreign_host",
        ),
        ("a broken head", "nonsense\r\n\r\n".to_owned(), 400, ""),
        ("a head too long", long_head, 431, ""),
    ] {
        let (found, text) = server.raw(bytes.as_bytes());
        assert_eq!(found, status, "{what}: {text}");
        if !code.is_empty() {
            let error: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(error["error"]["code"], code, "{what}");
            assert!(error["error"]["message"].is_string() && error["error"]["type"].is_string());
        }
    }
    // A body that is cut off.
    let stream = server.connect();
    (&stream)
        .write_all(format!("{json_head}Content-Length: 100\r\n\r\n{{").as_bytes())
        .unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let (status, _) = answer_of(stream);
    assert!(matches!(status, 0 | 400), "{status}");
    // A field that does not fit is named.
    let (status, answer) = server.chat(&with(asked("x"), &json!({"n": 2})));
    assert_eq!((status, &answer["error"]["param"]), (400, &json!("n")));
    let order = json!({"messages": [{"role": "assistant", "content": "x"}]});
    let (status, answer) = server.chat(&order);
    assert_eq!(
        (status, &answer["error"]["code"]),
        (400, &json!("invalid_messages"))
    );
    let (status, answer) = server.chat(&asked(&"long ".repeat(6000)));
    assert_eq!(
        (status, &answer["error"]["code"]),
        (400, &json!("context_length_exceeded"))
    );
    let (status, answer) = server.chat(&with(
        asked("x"),
        &json!({"tools": [{"type": "function", "function": {}}]}),
    ));
    let param = &answer["error"]["param"];
    assert_eq!((status, param), (400, &json!("tools[0]")));
    assert_eq!(
        server.chat(&with(asked("x"), &json!({"max_tokens": 1}))).0,
        200,
        "it lives"
    );
}

#[test]
fn calls_of_tools_go_to_the_client_and_their_answers_come_back() {
    let tool = json!({"name": "weather", "parameters": {"type": "object", "properties": {}}});
    let call = json!({"name": "weather", "arguments": {"city": "Paris"}}).to_string();
    let question = "How is the weather in Paris?";
    // A model that knows one answer by heart.
    let bench = Bench::new();
    let list = json!({"weather": {
        "file_name": "weather.json", "formatting": "sharegpt",
        "columns": {"messages": "conversations", "tools": "tools"},
    }});
    bench.write("data/dataset_info.json", list.to_string());
    let data = json!([{"tools": json!([tool]).to_string(), "conversations": [
        {"from": "human", "value": question}, {"from": "function_call", "value": call},
    ]}]);
    bench.write("data/weather.json", data.to_string());
    let words = "tool_format=mistral";
    let course = "learning_rate=3e-3 max_steps=150 save_strategy=no";
    let mut train = vec![
        "train",
        "job.yaml",
        "dataset=weather",
        "finetuning_type=full",
        words,
    ];
    train.extend(course.split(' '));
    let output = bench.run(&train);
    assert!(output.status.success(), "{output:?}");
    let learnt = fs::read(bench.path("out/model.safetensors")).unwrap();
    bench.write("model/model.safetensors", learnt);

    let server = Server::start_in(bench, &["do_sample=false", words], &[]);
    let tools = json!({"tools": [{"type": "function", "function": tool}], "max_tokens": 64});
    let (status, answer) = server.chat(&with(asked(question), &tools));
    assert_eq!(status, 200, "{answer}");
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls", "{answer}");
    let made = &choice["message"]["tool_calls"][0];
    assert_eq!(made["function"]["name"], "weather");
    assert_eq!(made["function"]["arguments"], r#"{"city": "Paris"}"#);
    // The same as events.
    let streamed = with(with(asked(question), &tools), &json!({"stream": true}));
    let (status, text) = answer_of(server.ask(&streamed));
    assert_eq!(status, 200, "{text}");
    let events = events(&text);
    let called = events.iter().find_map(|event| {
        let delta = &event["choices"][0]["delta"];
        delta["tool_calls"].as_array().map(|calls| calls[0].clone())
    });
    let called = called.unwrap();
    let wanted = (&json!(0), &made["function"]);
    assert_eq!((&called["index"], &called["function"]), wanted);
    // What the tool says goes back.
    let messages = json!({"messages": [
        {"role": "user", "content": question}, choice["message"],
        {"role": "tool", "tool_call_id": made["id"], "content": "rain"},
    ]});
    let (status, answer) = server.chat(&with(messages, &tools));
    assert_eq!(status, 200, "{answer}");
}

#[test]
fn tools_that_a_template_cannot_describe_are_named() {
    let server = Server::start(&["--template", "vicuna"]);
    let bare = json!({"tools": [{"type": "function", "function": {"name": "f"}}]});
    let (status, answer) = server.chat(&with(asked("x"), &bare));
    assert_eq!((status, &answer["error"]["param"]), (400, &json!("tools")));
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("parameters.properties"), "{message}");
}

#[test]
fn slow_clients_are_left() {
    let server = Server::start(&["--patience", "1"]);
    let began = Instant::now();
    let mut head = server.connect();
    head.write_all(b"GET /health HTTP/1.1\r\nHost:").unwrap();
    let mut body = server.connect();
    body.write_all(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
          Content-Length: 100\r\n\r\n{",
    )
    .unwrap();
    let silent = server.connect();
    // Meanwhile others are served.
    assert_eq!(server.health()["status"], "ok");
    for (stream, what) in [(head, "head"), (silent, "nothing"), (body, "body")] {
        let (status, text) = answer_of(stream);
        assert!(matches!(status, 0 | 408), "{what}: {status} {text}");
    }
    assert!(
        began.elapsed() < Duration::from_secs(60),
        "they were waited for"
    );
}

#[test]
fn a_client_that_leaves_ends_its_answer() {
    let server = Server::endless(&[]);
    for streams in [true, false] {
        let stream = server.ask(&with(asked("tell"), &json!({"stream": streams})));
        server.until(|health| health["active"] == 1);
        let answered = server.health()["answered"].clone();
        drop(stream);
        server.until(|health| health["active"] == 0);
        assert_eq!(
            server.health()["answered"],
            answered,
            "it did not end by itself"
        );
    }
}

#[test]
fn a_full_queue_says_so() {
    let server = Server::endless(&["--concurrent", "1", "--queue", "1"]);
    let _first = server.ask(&asked("tell"));
    server.until(|health| health["active"] == 1);
    let _second = server.ask(&asked("tell"));
    server.until(|health| health["waiting"] == 1);
    let (status, answer) = server.chat(&asked("x"));
    assert_eq!(
        (status, &answer["error"]["code"]),
        (429, &json!("queue_full"))
    );
}

#[test]
fn a_token_is_asked_for() {
    let bench = Bench::new();
    bench.write("token", "secret-one\n");
    let file = Server::start_in(bench, &["--token-file", "token"], &[("API_KEY", "other")]);
    let key = Server::start_in(Bench::new(), &[], &[("API_KEY", "secret-one")]);
    for server in [&file, &key] {
        assert_eq!(server.said["token"], Value::Null);
        assert_eq!(server.health()["status"], "ok", "health is no secret");
        for (token, status) in [("", 401), ("Bearer other", 401), ("Bearer secret-one", 200)] {
            let request = format!(
                "GET /v1/models HTTP/1.1\r\nHost: far.example\r\nConnection: close\r\nAuthorization: {token}\r\n\r\n"
            );
            let (found, text) = server.raw(request.as_bytes());
            assert_eq!(found, status, "{token}: {text}");
        }
        let (status, answer) = server.chat(&asked("x"));
        assert_eq!(
            (status, &answer["error"]["code"]),
            (401, &json!("invalid_api_key"))
        );
    }
    // For others than this machine one is made, and said once.
    let open = Server::start(&["--listen", "0.0.0.0:0"]);
    let token = open.said["token"].as_str().unwrap();
    assert_eq!(token.len(), 64);
    assert_eq!(open.request("GET /v1/models", "").0, 401);
    let request = format!(
        "GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    assert_eq!(open.raw(request.as_bytes()).0, 200);
}

#[test]
fn interrupting_ends_it_at_once_and_cleanly() {
    let server = Server::endless(&[]);
    let stream = server.ask(&with(asked("tell"), &json!({"stream": true})));
    server.until(|health| health["active"] == 1);
    let (status, said) = server.interrupt();
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains(r#""ended":true"#), "{said}");
    let (_, text) = answer_of(stream);
    assert!(
        text.contains("stopping") && !text.contains("[DONE]"),
        "{text}"
    );
}

#[test]
fn what_cannot_be_served_is_said() {
    let bench = Bench::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    bench.write("empty", "");
    for (arguments, code) in [
        (&["api"][..], "runtime.nothing-named"),
        (&["api", "--model", "none"], "runtime.no-such-model"),
        (
            &["api", "--model", "model", "--listen", "example.org:80"],
            "runtime.listen",
        ),
        (
            &["api", "--model", "model", "--listen", &taken],
            "runtime.listen",
        ),
        (
            &["api", "--model", "model", "--token-file", "empty"],
            "runtime.token-file",
        ),
        (
            &["api", "--model", "model", "--listen", "127.0.0.1:0"],
            "data.no-template",
        ),
        (&["api", "job.yaml", "top_p=7"], "job.value"),
    ] {
        let mut all = vec!["--json"];
        all.extend(arguments);
        let output = bench.run(&all);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(
            !output.status.success() && said.contains(code),
            "{arguments:?}: {said}"
        );
    }
    drop(listener);
}
