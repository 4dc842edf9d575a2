//! What the page says, in its language: its own words, and those of the commands.

use console::{Language, text, texts};
use report::Trouble;
use serde_json::{Map, Value, json};

/// Begins the codes of the page's own words.
const OWN: &str = "web.";

/// The language that a page asks for, else `usual`.
pub(super) fn language(query: &str, usual: Language) -> Language {
    let mut parts = query.split('&');
    match parts.find_map(|part| part.strip_prefix("lang=")) {
        Some("en") => Language::En,
        Some("zh") => Language::Zh,
        _ => usual,
    }
}

/// All of the page's words: `{code: {text, why, hint}}`, with gaps in braces.
pub(super) fn table(language: Language) -> Value {
    let entries = texts(language, OWN).into_iter().map(|(code, entry)| {
        let code = code.trim_start_matches(OWN).to_owned();
        let value = json!({"text": entry.text, "why": entry.why, "hint": entry.hint});
        (code, value)
    });
    Value::Object(entries.collect())
}

/// An error, as `--json` prints it, with its text and its hint.
pub(super) fn trouble(language: Language, trouble: &Trouble) -> Value {
    explained(language, trouble.to_json())
}

/// The same of an error that a command printed.
pub(super) fn explained(language: Language, mut error: Value) -> Value {
    let args = pairs(&error["args"]);
    let code = error["code"].as_str().unwrap_or_default();
    let found = text(language, code, &args);
    let said = error["message"].as_str().unwrap_or(code).to_owned();
    error["text"] = found.as_ref().map_or(said, |f| f.text.clone()).into();
    error["hint"] = found.and_then(|found| found.hint).into();
    error
}

/// The arguments of an error, an object, or of an event, a list of pairs.
fn pairs(args: &Value) -> Vec<(String, String)> {
    let word = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match args {
        Value::Object(args) => args.iter().map(|(k, v)| (k.clone(), word(v))).collect(),
        Value::Array(args) => {
            let pairs = args.iter().filter_map(|pair| {
                let (name, value) = (pair.get(0)?.as_str()?, pair.get(1)?);
                Some((name.to_owned(), word(value)))
            });
            pairs.collect()
        }
        _ => Vec::new(),
    }
}

/// An event of a command as the page shows it; nothing for those that it does not show.
pub(super) fn event(language: Language, line: &Value) -> Option<Value> {
    if let Some(error) = line.get("error") {
        return Some(json!({"kind": "error", "error": explained(language, error.clone())}));
    }
    match line["event"].as_str()? {
        "warned" => {
            let told = explained(language, line.clone());
            Some(json!({
                "kind": "warned", "code": told["code"], "args": told["args"], "text": told["text"],
                "hint": told["hint"],
            }))
        }
        kind @ ("step_started" | "step_finished" | "progress") => {
            let code = line["step"].as_str().unwrap_or_default();
            let args = [(
                "subject",
                line["subject"].as_str().unwrap_or_default().to_owned(),
            )];
            let said = text(language, code, &args).map_or(code.to_owned(), |found| found.text);
            Some(json!({
                "kind": kind, "text": said, "subject": line["subject"], "total": line["total"],
                "done": line["done"], "unit": line["unit"],
            }))
        }
        "train_step" => Some(json!({
            "kind": "speed", "step": line["step"], "tokens_per_second": line["tokens_per_second"],
        })),
        _ => None,
    }
}

/// How a run stands, in a sentence.
pub(super) fn standing(language: Language, record: &train::Record, step: u64, path: &str) -> Value {
    use train::State;
    let code = match record.state {
        State::Running => "runtime.run-works",
        State::Done => "runtime.run-done",
        State::Stopped => "runtime.run-stopped",
        State::NoProgress => "runtime.run-no-progress",
        State::CutOff => "runtime.run-cut-off",
        State::Failed => "runtime.run-failed",
    };
    let failure = record.failure.as_ref();
    let failure = failure.and_then(|failure| text(language, &failure.code, &failure.args));
    let args = [
        ("path", path.to_owned()),
        ("step", step.to_string()),
        ("steps", record.total_steps.to_string()),
        ("pid", record.pid.to_string()),
        (
            "failure",
            failure
                .as_ref()
                .map_or_else(String::new, |f| f.text.clone()),
        ),
    ];
    let mut said = Map::new();
    let found = text(language, code, &args);
    said.insert("text".into(), found.map_or(Value::Null, |f| f.text.into()));
    said.insert("hint".into(), failure.and_then(|f| f.hint).into());
    Value::Object(said)
}
