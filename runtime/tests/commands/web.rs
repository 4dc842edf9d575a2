//! The page's server, asked as a browser asks: whole runs, and hostile requests.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::api::answer_of;
use crate::bench::{Bench, wait};

/// A server over a bench: its model, its data, and a folder `runs`.
struct Page {
    bench: Bench,
    child: Child,
    address: SocketAddr,
    said: Value,
}

impl Page {
    fn start() -> Self {
        Self::over(Bench::new(), &[])
    }

    fn over(bench: Bench, more: &[&str]) -> Self {
        let mut all = vec!["--json", "web", "--port", "0", "--models", "."];
        all.extend(more);
        let mut child = bench
            .command(&all)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
        let url = said["listening"]
            .as_str()
            .unwrap_or_else(|| panic!("{line}"));
        let address = url.trim_start_matches("http://").trim_end_matches('/');
        let address = address.replace("0.0.0.0", "127.0.0.1").parse().unwrap();
        Self {
            bench,
            child,
            address,
            said,
        }
    }

    /// The server dies at once, and another takes its place.
    fn again(mut self) -> Self {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let bench = std::mem::replace(&mut self.bench, Bench::new());
        Self::over(bench, &[])
    }

    fn send(&self, head: &str, headers: &str, body: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let patience = Some(Duration::from_secs(120));
        stream.set_read_timeout(patience).unwrap();
        let request = format!(
            "{head} HTTP/1.1\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
            body.len()
        );
        let _refused_half_way = stream.write_all(request.as_bytes());
        let _refused_half_way = stream.write_all(body);
        stream
    }

    fn raw(&self, head: &str, headers: &str, body: &[u8]) -> (u16, Value) {
        let (status, text) = answer_of(self.send(head, headers, body));
        (status, serde_json::from_str(&text).unwrap_or(text.into()))
    }

    fn get(&self, path: &str) -> Value {
        let (status, value) = self.raw(&format!("GET /api/{path}"), &self.host(), b"");
        assert_eq!(status, 200, "{path}: {value}");
        value
    }

    fn post(&self, path: &str, body: &str) -> (u16, Value) {
        let headers = format!("{}X-Ferry: 1\r\n", self.host());
        self.raw(&format!("POST /api/{path}"), &headers, body.as_bytes())
    }

    fn done(&self, path: &str, body: &str) -> Value {
        let (status, value) = self.post(path, body);
        assert_eq!(status, 200, "{path}: {value}");
        value
    }

    fn host(&self) -> String {
        format!("Host: {}\r\n", self.address)
    }

    fn folder(&self, name: &str) -> String {
        let path = self.bench.path(name).canonicalize();
        path.unwrap().display().to_string()
    }

    /// A job of the page for the run `name`.
    fn job(&self, name: &str, more: &str) -> String {
        let (model, data, runs) = (
            self.folder("model"),
            self.folder("data"),
            self.folder("runs"),
        );
        format!(
            "model_name_or_path: {model}\ndataset: capitals\ndataset_dir: {data}\ntemplate: qwen\nlora_rank: 4\n\
             output_dir: {runs}/{name}\nper_device_train_batch_size: 1\nlogging_steps: 1\nreport_to: none\n{more}"
        )
    }

    fn state(&self, run: &str) -> String {
        let run = self.get(&format!("runs/{run}"));
        run["state"].as_str().unwrap().to_owned()
    }

    fn until(&self, run: &str, wanted: &str) {
        let what = format!("run that is {wanted}");
        wait(&what, || (self.state(run) == wanted).then_some(()));
    }

    /// Follows a run until an event of the kind `kind` comes; returns its id and its data.
    fn event(&self, path: &str, kind: &str) -> (String, Value) {
        let stream = self.send(&format!("GET /api/{path}"), &self.host(), b"");
        let mut id = String::new();
        let mut right = false;
        for line in BufReader::new(stream).lines() {
            let line = line.unwrap();
            if let Some(found) = line.strip_prefix("id: ") {
                found.clone_into(&mut id);
            } else if let Some(found) = line.strip_prefix("event: ") {
                right = found == kind;
            } else if let Some(data) = line.strip_prefix("data: ")
                && right
            {
                return (id, serde_json::from_str(data).unwrap());
            }
        }
        panic!("no event `{kind}`");
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

fn steps(lines: &Value) -> Vec<u64> {
    let lines = lines.as_array().unwrap().iter();
    lines
        .map(|line| line["current_steps"].as_u64().unwrap())
        .collect()
}

#[test]
fn a_run_outlives_page_and_server_and_is_found_again() {
    let page = Page::start();
    let models = page.get("models");
    assert_eq!(models[0]["name"], "model");
    assert_eq!(models[0]["native"], true);
    assert_eq!(models[0]["parameters"], 246_848);
    assert_eq!(page.get("datasets")[0]["name"], "capitals");

    let job = page.job("first", "max_steps: 100000\nsave_steps: 50000\n");
    let (status, started) = page.post("runs/first", &job);
    assert_eq!(status, 200, "{started}");
    assert_eq!(page.post("runs/first", &job).0, 409, "a name is taken once");
    // Two pages watch; both go.
    let (id, lines) = page.event("runs/first/events", "log");
    let seen = *steps(&lines).last().unwrap();
    page.event("runs/first/events", "log");

    let page = page.again();
    let log = page.bench.path("runs/first/trainer_log.jsonl");
    let before = fs::metadata(&log).unwrap().len();
    wait("more lines of the log", || {
        (fs::metadata(&log).unwrap().len() > before).then_some(())
    });
    assert_eq!(page.state("first"), "running");
    // Who comes back goes on behind what it has seen.
    let (_, lines) = page.event(&format!("runs/first/events?since={id}"), "log");
    assert_eq!(steps(&lines)[0], seen + 1);
    let (_, state) = page.event("runs/first/events", "state");
    assert!(
        state["process"]["memory"].as_u64() > Some(1 << 20),
        "{state}"
    );

    let (status, refused) = page.post("runs/first/delete", r#"{"name": "first"}"#);
    assert_eq!(
        (status, &refused["error"]["code"]),
        (409, &json!("web.works"))
    );
    assert_eq!(page.done("runs/first/stop", "")["asked"], true);
    page.until("first", "stopped");
    let run = page.get("runs/first");
    let step = run["checkpoints"][0].as_u64().unwrap();
    assert!(
        run["said"]["text"]
            .as_str()
            .unwrap()
            .contains(&step.to_string())
    );
    assert_eq!(run["job"], job);

    page.done(
        "runs/first/resume",
        &json!({"checkpoint": step}).to_string(),
    );
    wait("run that goes on", || {
        let run = page.get("runs/first");
        let on = run["last"]["current_steps"].as_u64() > Some(step);
        (run["resumed_at"] == step && on).then_some(())
    });
    page.done("runs/first/stop", "");
    page.until("first", "stopped");
    let (status, refused) = page.post("runs/first/delete", r#"{"name": "other"}"#);
    assert_eq!(
        (status, &refused["error"]["code"]),
        (400, &json!("web.not-confirmed"))
    );
    page.done("runs/first/delete", r#"{"name": "first"}"#);
    assert_eq!(page.get("runs"), json!([]));
    assert_eq!(fs::read_dir(page.bench.path("runs")).unwrap().count(), 0);
}

#[test]
fn a_check_tells_the_plan_and_what_is_wrong_in_both_languages() {
    let page = Page::start();
    fs::create_dir_all(page.bench.path("runs")).unwrap();
    let right = page.done("check", &page.job("one", "num_train_epochs: 2\n"));
    assert_eq!(right["errors"], json!([]), "{right}");
    assert_eq!(right["result"]["steps"], 4, "{right}");
    let rows = right["result"]["rows"].as_array().unwrap();
    let learnt: String = rows[0]["parts"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|part| part["learnt"] == true)
        .map(|part| part["text"].as_str().unwrap())
        .collect();
    assert!(learnt.starts_with("Paris."), "{learnt}");

    let wrong = page.job("one", "lora_rnk: 3\n");
    for (language, word) in [("en", "unknown key"), ("zh", "未知")] {
        let found = page.done(&format!("check?lang={language}"), &wrong);
        let error = &found["errors"][0];
        assert_eq!(error["args"]["key"], "lora_rnk");
        assert!(error["text"].as_str().unwrap().contains(word), "{error}");
        assert!(found["result"].is_null());
        let shown = found.to_string();
        assert!(!shown.contains(".check-"), "{shown}");
    }
    let data =
        "[{\"instruction\": \"a\", \"output\": \"b\"},\n{\"instruction\": 7, \"output\": \"c\"}]";
    page.bench.write("data/capitals.json", data);
    let found = page.done("check", &page.job("one", ""));
    let text = found["errors"][0]["text"].as_str().unwrap();
    assert!(text.contains('2') && text.contains("instruction"), "{text}");
    let left = fs::read_dir(page.bench.path("runs")).unwrap().count();
    assert_eq!(left, 0, "a check leaves nothing");
}

#[test]
fn a_run_that_cannot_start_says_why() {
    let page = Page::start();
    let job = page.job("broken", "learning_rate: fast\n");
    page.done("runs/broken", &job);
    page.until("broken", "failed");
    let run = page.get("runs/broken?lang=en");
    assert_eq!(run["error"]["args"]["key"], "learning_rate", "{run}");
    assert!(run["error"]["text"].as_str().unwrap().contains("fast"));
}

#[test]
fn a_file_is_uploaded_and_trained_on() {
    let page = Page::start();
    let table = "问题,回答\n你好,您好。\n再见,再会。\n";
    let added = page.done("datasets/%E5%AE%A2%E6%9C%8D/greetings.csv", table);
    assert_eq!(added["name"], "客服");
    let job = page.job("mine", "num_train_epochs: 1\n");
    let job = job.replace("dataset: capitals", "dataset: 客服");
    let found = page.done("check", &job);
    assert_eq!(found["result"]["examples"], 2, "{found}");
    page.done("runs/mine", &job);
    page.until("mine", "done");

    let wish = json!({"name": "whole", "numbers": "float32", "shard": 5, "four_bit": false});
    page.done("runs/mine/export", &wish.to_string());
    let made = wait("export", || {
        let run = page.get("runs/mine");
        let made = run["exports"][0].clone();
        (made["state"] != "running").then_some(made)
    });
    assert_eq!(made["state"], "done", "{made}");
    let path = std::path::Path::new(made["path"].as_str().unwrap()).join("config.json");
    assert!(path.is_file());
    let (status, refused) = page.post("runs/mine/export", &wish.to_string());
    assert_eq!(
        (status, &refused["error"]["code"]),
        (409, &json!("web.name-taken"))
    );

    // The result and the model that it began with, one after the other.
    let model = page.folder("model");
    let mut answers = Vec::new();
    for run in [Some("mine"), None] {
        page.done(
            "chat/load",
            &json!({"model": model, "run": run, "template": "qwen"}).to_string(),
        );
        wait("model", || {
            let chat = page.get("chat");
            assert_ne!(chat["state"], "failed", "{chat}");
            (chat["state"] == "ready").then_some(())
        });
        let question = json!({
            "messages": [{"role": "user", "content": "你好"}], "temperature": 0, "max_tokens": 8,
        });
        let headers = format!("{}X-Ferry: 1\r\n", page.host());
        let body = question.to_string();
        let stream = page.send("POST /api/chat/say", &headers, body.as_bytes());
        let (status, text) = answer_of(stream);
        assert_eq!(status, 200, "{text}");
        assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
        answers.push(text);
    }
    assert_eq!(answers.len(), 2);
    let (status, refused) = page.post("chat/say", r#"{"messages": []}"#);
    assert_eq!(
        (status, &refused["error"]["code"]),
        (500, &json!("web.chat-failed"))
    );
    page.done("chat/unload", "");
    assert_eq!(page.get("chat")["state"], "none");
    assert_eq!(page.post("chat/say", r#"{"messages": []}"#).0, 409);
}

#[test]
fn a_model_goes_with_the_server_even_if_that_is_killed() {
    let mut page = Page::start();
    let wish = json!({"model": page.folder("model"), "run": null, "template": "qwen"});
    page.done("chat/load", &wish.to_string());
    wait("model", || {
        (page.get("chat")["state"] == "ready").then_some(())
    });
    let children = |id: u32| -> Vec<String> {
        let threads = fs::read_dir(format!("/proc/{id}/task")).unwrap().flatten();
        let texts = threads.map(|thread| fs::read_to_string(thread.path().join("children")));
        let all = texts.map(Result::unwrap_or_default).collect::<String>();
        all.split_whitespace().map(str::to_owned).collect()
    };
    let model = children(page.child.id());
    assert_eq!(model.len(), 1, "{model:?}");
    page.child.kill().unwrap();
    page.child.wait().unwrap();
    wait("end of the model", || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", model[0]));
        stat.map_or(true, |stat| stat.contains(") Z "))
            .then_some(())
    });
}

#[test]
fn hostile_requests_are_refused_and_change_nothing() {
    let page = Page::over(Bench::new(), &["--largest-upload", "1"]);
    page.bench.write("secret/config.json", "{}");
    page.bench.write("runs/mine/notes.txt", "not a run");
    let secret = page.folder("secret");
    let own = page.host();
    let marked = format!("{own}X-Ferry: 1\r\n");
    let foreign = format!("{marked}Origin: http://evil.org\r\n");
    let job = page.job("one", "");
    let data = r#"[{"instruction": "q", "output": "a"}]"#;
    let huge = vec![b' '; 3 << 20];
    let climbing = job.replace("runs/one", "runs/../elsewhere");
    let reading = job.replace(&page.folder("data"), "/etc");
    let chat = json!({"model": "/etc", "run": null, "template": null}).to_string();
    let option = json!({"model": "--help", "run": null, "template": null}).to_string();
    for (what, head, headers, body, status, code) in [
        (
            "another name",
            "GET /api/runs",
            "Host: evil.org\r\n",
            "",
            403,
            "web.foreign-host",
        ),
        ("no name", "GET /api/runs", "", "", 403, "web.foreign-host"),
        (
            "another name for the page",
            "GET /",
            "Host: evil.org:80\r\n",
            "",
            403,
            "web.foreign-host",
        ),
        (
            "an unmarked change",
            "POST /api/runs/one",
            &own,
            &job,
            403,
            "web.foreign-page",
        ),
        (
            "another page",
            "POST /api/runs/one",
            &foreign,
            &job,
            403,
            "web.foreign-page",
        ),
        (
            "a wrong path",
            "GET /api/../../etc/passwd",
            &own,
            "",
            404,
            "web.not-found",
        ),
        (
            "a wrong file",
            "GET /../Cargo.toml",
            &own,
            "",
            404,
            "web.not-found",
        ),
        (
            "a wrong method",
            "PUT /api/runs/one",
            &marked,
            "",
            404,
            "web.not-found",
        ),
        (
            "a run elsewhere",
            "GET /api/runs/..%2Fsecret",
            &own,
            "",
            400,
            "web.bad-name",
        ),
        (
            "a run of no text",
            "GET /api/runs/%ff",
            &own,
            "",
            400,
            "web.bad-name",
        ),
        (
            "a run with a zero",
            "GET /api/runs/a%00",
            &own,
            "",
            400,
            "web.bad-name",
        ),
        ("no run", "GET /api/runs/none", &own, "", 404, "web.no-run"),
        (
            "a new run elsewhere",
            "POST /api/runs/..",
            &marked,
            &job,
            400,
            "web.bad-name",
        ),
        (
            "a job that writes elsewhere",
            "POST /api/runs/one",
            &marked,
            &climbing,
            403,
            "web.outside",
        ),
        (
            "a job that reads elsewhere",
            "POST /api/runs/one",
            &marked,
            &reading,
            403,
            "web.outside",
        ),
        (
            "a check that reads elsewhere",
            "POST /api/check",
            &marked,
            &reading,
            403,
            "web.outside",
        ),
        (
            "another run's folder",
            "POST /api/runs/two",
            &marked,
            &job,
            400,
            "web.output-elsewhere",
        ),
        (
            "no job",
            "POST /api/runs/one",
            &marked,
            "]",
            400,
            "job.syntax",
        ),
        (
            "what is no run",
            "POST /api/runs/mine/delete",
            &marked,
            r#"{"name": "mine"}"#,
            404,
            "web.no-run",
        ),
        (
            "a file elsewhere",
            "POST /api/datasets/a/..%2Fa.json",
            &marked,
            data,
            400,
            "web.bad-name",
        ),
        (
            "the list itself",
            "POST /api/datasets/a/dataset_info.json",
            &marked,
            data,
            409,
            "web.name-taken",
        ),
        (
            "a program",
            "POST /api/datasets/a/a.py",
            &marked,
            data,
            400,
            "web.unknown-kind",
        ),
        (
            "a model elsewhere",
            "POST /api/chat/load",
            &marked,
            &chat,
            403,
            "web.outside",
        ),
        (
            "an option",
            "POST /api/chat/load",
            &marked,
            &option,
            403,
            "web.outside",
        ),
        (
            "no question",
            "POST /api/chat/say",
            &marked,
            "[]",
            400,
            "web.malformed",
        ),
    ] {
        let (found, value) = page.raw(head, headers, body.as_bytes());
        let shown = value["error"]["code"].as_str().unwrap_or_default();
        assert_eq!((found, shown), (status, code), "{what}: {value}");
    }
    let (status, value) = page.raw("POST /api/datasets/big/big.json", &marked, &huge);
    assert_eq!(status, 413, "{value}");
    assert!(!page.bench.path("data/big.json").exists());
    assert!(page.bench.path("runs/mine/notes.txt").exists());
    assert!(!page.bench.path("runs/one").exists());
    std::os::unix::fs::symlink(&secret, page.bench.path("runs/link")).unwrap();
    assert_eq!(page.raw("GET /api/runs/link", &own, b"").0, 404);
    let (status, _) = page.raw(
        "POST /api/runs/link/delete",
        &marked,
        br#"{"name": "link"}"#,
    );
    assert_ne!(status, 200);
    assert!(page.bench.path("secret/config.json").exists());

    // What comes of it all is said in the page's own headers.
    let mut stream = page.send("GET /", &own, b"");
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    for header in [
        "content-security-policy: default-src 'self'",
        "x-frame-options: DENY",
    ] {
        assert!(text.contains(header), "{header}");
    }
}

#[test]
fn beyond_this_machine_a_token_is_asked_for() {
    let page = Page::over(Bench::new(), &["--host", "0.0.0.0"]);
    let token = page.said["token"].as_str().unwrap().to_owned();
    let open = page.said["open"].as_str().unwrap();
    assert!(open.ends_with(&format!("/#token={token}")), "{open}");
    let host = page.host();
    let (status, refused) = page.raw("GET /api/runs", &host, b"");
    assert_eq!(
        (status, &refused["error"]["code"]),
        (401, &json!("web.no-token"))
    );
    // The page itself is no secret: it asks for the token.
    assert_eq!(page.raw("GET /", &host, b"").0, 200);
    assert_eq!(page.post("enter", r#"{"token": "wrong"}"#).0, 401);
    let body = json!({"token": token}).to_string();
    let headers = format!("{host}X-Ferry: 1\r\n");
    let mut stream = page.send("POST /api/enter", &headers, body.as_bytes());
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let cookie = text
        .lines()
        .find_map(|line| line.strip_prefix("set-cookie: "))
        .unwrap();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );
    let pair = cookie.split(';').next().unwrap();
    let with = format!("{host}Cookie: {pair}\r\n");
    assert_eq!(page.raw("GET /api/runs", &with, b"").0, 200);
    assert_eq!(page.raw("POST /api/chat/unload", &with, b"").0, 403);
    let script = format!("{host}Authorization: Bearer {token}\r\n");
    assert_eq!(page.raw("POST /api/chat/unload", &script, b"").0, 200);
    let listening = page.raw(
        "GET /api/runs",
        &with.replace(&host, "Host: evil.org\r\n"),
        b"",
    );
    assert_eq!(listening.0, 403);
}

#[test]
fn slow_clients_hold_up_nobody() {
    let page = Page::over(Bench::new(), &["--patience", "1"]);
    let mut stuck: Vec<TcpStream> = (0..20)
        .map(|_| TcpStream::connect(page.address).unwrap())
        .collect();
    for stream in &mut stuck {
        stream.write_all(b"POST /api/check HTTP/1.1\r\n").unwrap();
    }
    assert_eq!(page.get("runs"), json!([]));
    let mut rest = Vec::new();
    // The server hangs up.
    let patience = Some(Duration::from_secs(60));
    stuck[0].set_read_timeout(patience).unwrap();
    let _reset = stuck[0].read_to_end(&mut rest);
    // Half an upload leaves nothing.
    let mut half = TcpStream::connect(page.address).unwrap();
    let head = format!(
        "POST /api/datasets/half/half.json HTTP/1.1\r\n{}X-Ferry: 1\r\nContent-Length: 1000\r\n\r\n[{{",
        page.host()
    );
    half.write_all(head.as_bytes()).unwrap();
    drop(half);
    wait("half an upload that is gone", || {
        let mut entries = fs::read_dir(page.bench.path("data")).unwrap().flatten();
        let left = entries.any(|entry| entry.file_name().to_string_lossy().contains("half"));
        (!left).then_some(())
    });
    assert_eq!(page.get("datasets").as_array().unwrap().len(), 1);
}

#[test]
fn it_ends_on_request_and_its_runs_go_on() {
    let mut page = Page::start();
    let job = page.job("long", "max_steps: 100000\nsave_steps: 50000\n");
    page.done("runs/long", &job);
    page.until("long", "running");
    let id = page.child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &id])
            .status()
            .unwrap()
            .success()
    );
    assert!(page.child.wait().unwrap().success());
    let watched = page.bench.run(&["--json", "watch", "--once", "runs/long"]);
    let watched: Value = serde_json::from_slice(&watched.stdout)
        .or_else(|_| {
            let text = String::from_utf8_lossy(&watched.stdout).into_owned();
            serde_json::from_str(text.lines().last().unwrap())
        })
        .unwrap();
    assert_eq!(watched["run"]["state"], "running");
    page.bench.run(&["--json", "stop", "runs/long"]);
    wait("end of the run", || {
        let seen = page.bench.run(&["--json", "watch", "--once", "runs/long"]);
        let text = String::from_utf8_lossy(&seen.stdout).into_owned();
        text.contains("\"state\":\"stopped\"").then_some(())
    });
}
