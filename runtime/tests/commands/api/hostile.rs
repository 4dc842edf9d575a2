//! Clients that are hostile, slow, too many, or gone; who may come in, and how it ends.

use std::io::Write as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Server, answer_of, asked, with};
use crate::bench::Bench;

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
    let (status, answer) = server.chat(&with(asked("x"), &json!({"n": 99})));
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
