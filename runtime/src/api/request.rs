//! What a client asks for: `POST /v1/chat/completions`.
//!
//! What would change an answer and is not done here is refused; what is only about the service is passed over.

use hyper::StatusCode;
use serde_json::{Map, Value, json};
use torch_backend::Sampling;
use train::Generation;

use super::refusal::Refusal;
use crate::chance::any_seed;

/// A question with its settings.
#[derive(Debug, PartialEq)]
pub(super) struct ChatRequest {
    /// The model as the client calls it.
    pub(super) model: Option<String>,
    /// Each with `role` and `content`.
    pub(super) messages: Vec<Value>,
    pub(super) tools: Option<Value>,
    /// The answer is sent as it is made.
    pub(super) streams: bool,
    /// What it took is sent behind it.
    pub(super) with_usage: bool,
    /// How many answers.
    pub(super) count: usize,
    /// The most tokens of an answer.
    pub(super) limit: Option<usize>,
    /// Words that end it.
    pub(super) stops: Vec<String>,
    pub(super) sampling: Sampling,
}

/// Stop words of a request, and their longest.
const STOPS: usize = 16;
const LONGEST_STOP: usize = 1024;

/// Answers to one request.
const MOST_ANSWERS: i64 = 16;

/// Fields that ask for something that is not done here, unless they hold this.
const REFUSED: [(&str, &[&str], &str); 15] = [
    ("best_of", &["1"], "one answer is made for a request"),
    ("logprobs", &["false"], "likelihoods are not told"),
    ("top_logprobs", &["0"], "likelihoods are not told"),
    (
        "logit_bias",
        &["{}"],
        "tokens are weighed by the model alone",
    ),
    ("functions", &["[]"], "use `tools`"),
    ("function_call", &["\"none\"", "\"auto\""], "use `tools`"),
    ("modalities", &["[\"text\"]"], "answers are text"),
    ("audio", &[], "answers are text"),
    ("prediction", &[], "answers are made by the model alone"),
    ("web_search_options", &[], "no connection is opened"),
    // Of other servers.
    (
        "chat_template_kwargs",
        &["{}"],
        "set `enable_thinking` where the server is started",
    ),
    ("guided_json", &[], "answers are free text"),
    ("guided_choice", &[], "answers are free text"),
    ("guided_regex", &[], "answers are free text"),
    ("min_p", &["0", "0.0"], "use `top_p` and `top_k`"),
];

impl ChatRequest {
    /// Reads a request. `usual` holds for what it does not say.
    pub(super) fn parse(
        body: &[u8],
        usual: &Generation,
        knows_tools: bool,
    ) -> Result<Self, Refusal> {
        let value: Value = serde_json::from_slice(body).map_err(|error| {
            let message = format!("the body is not JSON: {error}");
            Refusal::new(StatusCode::BAD_REQUEST, "invalid_json", message)
        })?;
        let Value::Object(fields) = value else {
            return Err(Refusal::field("body", "an object"));
        };
        let fields = Fields(fields);
        for (name, neutral, reason) in REFUSED {
            let asked = fields.get(name).map(ToString::to_string);
            if asked.is_some_and(|asked| !neutral.contains(&asked.as_str())) {
                return Err(Refusal::unsupported(name, reason));
            }
        }
        if fields
            .get("response_format")
            .is_some_and(|format| format["type"] != "text")
        {
            return Err(Refusal::unsupported(
                "response_format",
                "answers are free text",
            ));
        }
        let most = |name| fields.whole(name, 1, 1 << 30);
        let limit = match most("max_completion_tokens")? {
            Some(limit) => Some(limit),
            None => most("max_tokens")?,
        };
        let streams = fields.flag("stream")?.unwrap_or(false);
        let count = fields.whole("n", 1, MOST_ANSWERS)?.unwrap_or(1);
        if streams && count > 1 {
            return Err(Refusal::unsupported(
                "n",
                "one answer is streamed at a time",
            ));
        }
        Ok(Self {
            model: fields.text("model")?,
            messages: messages(fields.get("messages"))?,
            tools: fields.tools(knows_tools)?,
            streams,
            count: count as usize,
            with_usage: match fields.get("stream_options") {
                Some(options) => options["include_usage"] == true,
                None => false,
            },
            limit: limit.map(|limit| limit as usize),
            stops: fields.stops()?,
            sampling: fields.sampling(usual)?,
        })
    }
}

/// The fields of a request; null is as good as nothing.
struct Fields(Map<String, Value>);

impl Fields {
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Result<Option<String>, Refusal> {
        let text = self
            .get(name)
            .map(|value| value.as_str().map(str::to_owned));
        text.map(|text| text.ok_or_else(|| Refusal::field(name, "a text")))
            .transpose()
    }

    fn flag(&self, name: &str) -> Result<Option<bool>, Refusal> {
        let flag = self.get(name).map(Value::as_bool);
        flag.map(|flag| flag.ok_or_else(|| Refusal::field(name, "true or false")))
            .transpose()
    }

    fn number(&self, name: &str, least: f64, most: f64) -> Result<Option<f64>, Refusal> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let number = value
            .as_f64()
            .filter(|number| (least..=most).contains(number));
        let expected = format!("a number from {least} to {most}");
        number
            .map(Some)
            .ok_or_else(|| Refusal::field(name, &expected))
    }

    fn whole(&self, name: &str, least: i64, most: i64) -> Result<Option<i64>, Refusal> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let number = value
            .as_i64()
            .filter(|number| (least..=most).contains(number));
        let expected = format!("a whole number from {least} to {most}");
        number
            .map(Some)
            .ok_or_else(|| Refusal::field(name, &expected))
    }

    fn sampling(&self, usual: &Generation) -> Result<Sampling, Refusal> {
        let seed = match self.get("seed") {
            // Clients use whatever whole numbers they have; a negative one is a seed like any other.
            Some(value) => {
                let whole = value
                    .as_u64()
                    .or_else(|| value.as_i64().map(|seed| seed as u64));
                whole.ok_or_else(|| Refusal::field("seed", "a whole number"))?
            }
            None => any_seed(),
        };
        let mut sampling = Sampling::of_job(usual, seed, 0);
        if let Some(temperature) = self.number("temperature", 0.0, 2.0)? {
            sampling.temperature = temperature;
            sampling.draws = temperature > 0.0;
        }
        if let Some(draws) = self.flag("do_sample")? {
            sampling.draws = draws;
        }
        if let Some(top_p) = self.number("top_p", 0.0, 1.0)? {
            sampling.top_p = top_p;
        }
        if let Some(top_k) = self.whole("top_k", -1, 1 << 30)? {
            sampling.top_k = usize::try_from(top_k).unwrap_or(0);
        }
        if let Some(penalty) = self.number("repetition_penalty", 1e-3, 1e3)? {
            sampling.repetition_penalty = penalty;
        }
        if let Some(penalty) = self.number("presence_penalty", -2.0, 2.0)? {
            sampling.presence_penalty = penalty;
        }
        if let Some(penalty) = self.number("frequency_penalty", -2.0, 2.0)? {
            sampling.frequency_penalty = penalty;
        }
        Ok(sampling)
    }

    fn stops(&self) -> Result<Vec<String>, Refusal> {
        let expected = "a text or up to 16 texts, none of them empty or longer than 1024 bytes";
        let words = match self.get("stop") {
            None => return Ok(Vec::new()),
            Some(Value::Array(words)) => words.clone(),
            Some(word) => vec![word.clone()],
        };
        let fits = |word: &Value| {
            let word = word.as_str()?;
            (1..=LONGEST_STOP)
                .contains(&word.len())
                .then(|| word.to_owned())
        };
        let words: Option<Vec<String>> = words.iter().map(fits).collect();
        let words = words.filter(|words| words.len() <= STOPS);
        words.ok_or_else(|| Refusal::field("stop", expected))
    }

    fn tools(&self, known: bool) -> Result<Option<Value>, Refusal> {
        let choice = self.get("tool_choice");
        let tools = match self.get("tools") {
            None => return Ok(None),
            Some(Value::Array(tools)) if tools.is_empty() => return Ok(None),
            Some(_) if choice.is_some_and(|choice| choice == "none") => return Ok(None),
            Some(Value::Array(tools)) => tools,
            Some(_) => return Err(Refusal::field("tools", "a list")),
        };
        if choice.is_some_and(|choice| choice != "auto") {
            let reason = "the model chooses whether it calls a tool (`auto`), or is not told of them (`none`)";
            return Err(Refusal::unsupported("tool_choice", reason));
        }
        if !known {
            let reason =
                "the chat template of this model has no calls of tools that this program reads";
            return Err(Refusal::unsupported("tools", reason));
        }
        for (index, tool) in tools.iter().enumerate() {
            if tool["type"] != "function" || !tool["function"]["name"].is_string() {
                let param = format!("tools[{index}]");
                return Err(Refusal::field(param, "a function with a name"));
            }
        }
        Ok(Some(Value::Array(tools.clone())))
    }
}

/// The messages, each with its text in one piece.
fn messages(value: Option<&Value>) -> Result<Vec<Value>, Refusal> {
    let list = value
        .and_then(Value::as_array)
        .filter(|list| !list.is_empty());
    let list =
        list.ok_or_else(|| Refusal::field("messages", "a list with at least one message"))?;
    let each = list.iter().enumerate();
    each.map(|(index, value)| message(index, value)).collect()
}

fn message(index: usize, value: &Value) -> Result<Value, Refusal> {
    let param = |rest: &str| format!("messages[{index}].{rest}");
    let role = match value["role"].as_str() {
        Some("developer") => "system",
        Some(role @ ("system" | "user" | "assistant" | "tool")) => role,
        _ => {
            let expected = "system, user, assistant or tool";
            return Err(Refusal::field(param("role"), expected));
        }
    };
    let calls = value["tool_calls"]
        .as_array()
        .filter(|calls| !calls.is_empty());
    let content = match &value["content"] {
        Value::String(text) => text.clone(),
        Value::Null if calls.is_some() => String::new(),
        Value::Array(parts) => {
            let mut text = String::new();
            for (at, part) in parts.iter().enumerate() {
                let (Some("text"), Some(piece)) = (part["type"].as_str(), part["text"].as_str())
                else {
                    let part = param(&format!("content[{at}]"));
                    return Err(Refusal::unsupported(part, "messages are text"));
                };
                text.push_str(piece);
            }
            text
        }
        _ => {
            return Err(Refusal::field(
                param("content"),
                "a text, or a list of texts",
            ));
        }
    };
    let mut message = json!({"role": role, "content": content});
    if let (Some(calls), "assistant") = (calls, role) {
        let calls: Option<Vec<Value>> = calls.iter().map(call).collect();
        let calls = calls.ok_or_else(|| {
            Refusal::field(
                param("tool_calls"),
                "calls of functions, with arguments in JSON",
            )
        })?;
        message["tool_calls"] = Value::Array(calls);
    }
    for name in ["name", "tool_call_id"] {
        if let Some(text) = value[name].as_str() {
            message[name] = text.into();
        }
    }
    Ok(message)
}

/// A call of a tool as chat templates expect it: with its arguments as an object, which come as JSON in a text.
fn call(call: &Value) -> Option<Value> {
    let name = call["function"]["name"].as_str()?;
    let arguments = match &call["function"]["arguments"] {
        Value::String(text) => serde_json::from_str(text).ok()?,
        other => other.clone(),
    };
    Some(json!({
        "id": call["id"], "type": "function", "function": {"name": name, "arguments": arguments},
    }))
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
