//! What clients are answered: texts, events, calls of tools.

use std::fs;

use serde_json::{Value, json};

use super::{Server, answer_of, asked, with};
use crate::bench::{Bench, golden};

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
    assert_eq!(server.request("GET /v1/models/mod%65l", "").0, 200);
    assert_eq!(server.request("GET /v1/models/other", "").0, 404);
}

#[test]
fn one_question_may_have_several_answers() {
    let server = Server::start(&["--concurrent", "2"]);
    let more =
        json!({"n": 3, "temperature": 2, "top_p": 1, "top_k": 0, "seed": 5, "max_tokens": 8});
    let ask = || {
        let (status, answer) = server.chat(&with(asked("What is this?"), &more));
        assert_eq!(status, 200, "{answer}");
        answer
    };
    let answer = ask();
    let choices = answer["choices"].as_array().unwrap();
    let indices: Vec<_> = choices
        .iter()
        .map(|choice| choice["index"].as_u64().unwrap())
        .collect();
    assert_eq!(indices, [0, 1, 2]);
    let texts: Vec<_> = choices
        .iter()
        .map(|choice| &choice["message"]["content"])
        .collect();
    assert!(
        texts.iter().any(|text| *text != texts[0]),
        "each is drawn by itself: {texts:?}"
    );
    let usage = &answer["usage"];
    let (prompt, made) = (
        usage["prompt_tokens"].as_u64().unwrap(),
        usage["completion_tokens"].as_u64().unwrap(),
    );
    assert!((3..=24).contains(&made), "{usage}");
    assert_eq!(usage["total_tokens"], prompt + made);
    let (status, answer) = server.chat(&with(asked("x"), &json!({"n": 2, "stream": true})));
    assert_eq!((status, &answer["error"]["param"]), (400, &json!("n")));
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
