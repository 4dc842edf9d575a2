//! Requests that are read, and those that are refused.

use super::*;

fn parse(body: &str) -> Result<ChatRequest, Refusal> {
    ChatRequest::parse(body.as_bytes(), &Generation::default(), true)
}

fn with(more: &str) -> Result<ChatRequest, Refusal> {
    parse(&format!(
        r#"{{"messages": [{{"role": "user", "content": "hi"}}]{more}}}"#
    ))
}

#[test]
fn what_clients_send_is_read() {
    let found = parse(
        r#"{"model": "m", "stream": true, "stream_options": {"include_usage": true}, "max_tokens": 7,
            "temperature": 0.5, "top_p": 0.9, "seed": -1, "stop": "END", "n": 1, "user": "u", "store": false,
            "presence_penalty": 0.5, "frequency_penalty": 0, "logprobs": false, "top_k": -1, "metadata": null,
            "messages": [{"role": "developer", "content": "be brief"},
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]}"#,
    )
    .unwrap();
    assert_eq!(found.model.as_deref(), Some("m"));
    assert!(found.streams && found.with_usage);
    assert_eq!(
        (found.limit, found.stops),
        (Some(7), vec!["END".to_owned()])
    );
    assert_eq!(found.messages[0]["role"], "system");
    assert_eq!(found.messages[1]["content"], "ab");
    let sampling = found.sampling;
    assert!(sampling.draws);
    assert_eq!(
        (sampling.temperature, sampling.top_p, sampling.top_k),
        (0.5, 0.9, 0)
    );
    assert_eq!((sampling.seed, sampling.presence_penalty), (u64::MAX, 0.5));
    let usual = with("").unwrap().sampling;
    assert_eq!(
        (usual.temperature, usual.top_p, usual.top_k),
        (0.95, 0.7, 50)
    );
    assert!(!with(r#", "temperature": 0"#).unwrap().sampling.draws);
    assert!(
        !with(r#", "temperature": 1, "do_sample": false"#)
            .unwrap()
            .sampling
            .draws
    );
    let both = with(r#", "max_tokens": 5, "max_completion_tokens": 6"#).unwrap();
    assert_eq!(both.limit, Some(6));
}

#[test]
fn tools_and_their_calls_are_read() {
    let tools = r#", "tools": [{"type": "function", "function": {"name": "f"}}]"#;
    assert!(with(tools).unwrap().tools.is_some());
    assert!(
        with(&format!(r#"{tools}, "tool_choice": "none""#))
            .unwrap()
            .tools
            .is_none()
    );
    assert!(with(r#", "tools": []"#).unwrap().tools.is_none());
    let body = format!(r#"{{"messages": [{{"role": "user", "content": "x"}}]{tools}}}"#);
    let refused = ChatRequest::parse(body.as_bytes(), &Generation::default(), false).unwrap_err();
    assert_eq!(refused.param.as_deref(), Some("tools"));
    let found = parse(
        r#"{"messages": [{"role": "user", "content": "x"},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}}]},
            {"role": "tool", "tool_call_id": "1", "content": "2"}]}"#,
    )
    .unwrap();
    assert_eq!(
        found.messages[1]["tool_calls"][0]["function"]["arguments"]["a"],
        1
    );
    assert_eq!(found.messages[2]["tool_call_id"], "1");
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    for (more, param) in [
        (r#", "temperature": 3"#, "temperature"),
        (r#", "temperature": "hot""#, "temperature"),
        (r#", "top_p": -1"#, "top_p"),
        (r#", "max_tokens": 0"#, "max_tokens"),
        (r#", "max_tokens": 1.5"#, "max_tokens"),
        (r#", "seed": 1.5"#, "seed"),
        (r#", "stop": [""]"#, "stop"),
        (r#", "stop": 7"#, "stop"),
        (r#", "stream": "yes""#, "stream"),
        (r#", "model": 7"#, "model"),
        (r#", "n": 17"#, "n"),
        (r#", "n": 2, "stream": true"#, "n"),
        (
            r#", "chat_template_kwargs": {"enable_thinking": false}"#,
            "chat_template_kwargs",
        ),
        (r#", "min_p": 0.1"#, "min_p"),
        (r#", "logprobs": true"#, "logprobs"),
        (r#", "logit_bias": {"1": 5}"#, "logit_bias"),
        (r#", "functions": [{}]"#, "functions"),
        (
            r#", "response_format": {"type": "json_object"}"#,
            "response_format",
        ),
        (r#", "tools": {}"#, "tools"),
        (r#", "tools": [{}]"#, "tools[0]"),
        (
            r#", "tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "required""#,
            "tool_choice",
        ),
    ] {
        let refused = with(more).unwrap_err();
        assert_eq!(refused.param.as_deref(), Some(param), "{more}");
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    }
    for (body, param) in [
        ("{}", "messages"),
        (r#"{"messages": []}"#, "messages"),
        (r#"{"messages": "hi"}"#, "messages"),
        (r#"{"messages": [7]}"#, "messages[0].role"),
        (
            r#"{"messages": [{"role": "boss", "content": "x"}]}"#,
            "messages[0].role",
        ),
        (r#"{"messages": [{"role": "user"}]}"#, "messages[0].content"),
        (
            r#"{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]}"#,
            "messages[0].content[0]",
        ),
        (
            r#"{"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]}"#,
            "messages[0].tool_calls",
        ),
        ("[]", "body"),
    ] {
        let refused = parse(body).unwrap_err();
        assert_eq!(refused.param.as_deref(), Some(param), "{body}");
    }
    let deep = "[".repeat(100_000);
    for body in ["", "{", "{\"messages\": [", "nonsense", deep.as_str()] {
        assert_eq!(parse(body).unwrap_err().code, "invalid_json");
    }
}
