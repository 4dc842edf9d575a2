//! The page's files, embedded: nothing of it is ever asked for elsewhere.

use http_body_util::{BodyExt as _, Full};
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::{CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue};

use crate::http::{Answer, with_type};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

macro_rules! files {
    ($($path:literal, $file:literal, $kind:expr;)*) => {
        [$(($path, $kind, include_str!(concat!("page/", $file)))),*]
    };
}

/// Path, type and content.
const FILES: [(&str, &str, &str); 15] = files! {
    "/", "index.html", HTML;
    "/style.css", "style.css", CSS;
    "/icon.svg", "icon.svg", PICTURE;
    "/main.js", "main.js", SCRIPT;
    "/api.js", "api.js", SCRIPT;
    "/chart.js", "chart.js", SCRIPT;
    "/chat.js", "chat.js", SCRIPT;
    "/dom.js", "dom.js", SCRIPT;
    "/exports.js", "exports.js", SCRIPT;
    "/job.js", "job.js", SCRIPT;
    "/new.js", "new.js", SCRIPT;
    "/plan.js", "plan.js", SCRIPT;
    "/run.js", "run.js", SCRIPT;
    "/runs.js", "runs.js", SCRIPT;
    "/words.js", "words.js", SCRIPT;
};

/// The file at a path.
pub(super) fn file(path: &str) -> Option<Answer> {
    let (_, kind, content) = FILES.iter().find(|(known, _, _)| *known == path)?;
    let body = Full::new(Bytes::from_static(content.as_bytes()));
    let mut answer = with_type(StatusCode::OK, kind, body.boxed_unsync());
    let headers = answer.headers_mut();
    // A newer program brings newer files.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Some(answer)
}

/// What every answer says to browsers: ask nobody else for anything, show this in no other page, guess no types.
pub(super) fn guard(headers: &mut HeaderMap) {
    for (name, value) in [
        (
            "content-security-policy",
            "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'",
        ),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    let private = HeaderValue::from_static("no-store");
    headers.entry(CACHE_CONTROL).or_insert(private);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use console::Language;

    use super::*;
    use crate::web::words;

    /// Codes that the files name: `t("code"`, `why("code"`, `hint("code"`.
    fn named() -> BTreeSet<String> {
        let mut named = BTreeSet::new();
        for (_, _, content) in FILES {
            for begin in ["t(\"", "why(\"", "hint(\""] {
                let mut before = "";
                for part in content.split(begin) {
                    // `get("` and `.t("` are other functions.
                    let own = |c: char| c.is_alphanumeric() || c == '.';
                    if !before.is_empty() && !before.ends_with(own) {
                        named.insert(part.split('"').next().unwrap().to_owned());
                    }
                    before = part;
                }
            }
        }
        named
    }

    /// Codes that are put together of a beginning and what the server says.
    const MADE: [(&str, &str); 8] = [
        (
            "state",
            "starting running ending done stopped no_progress failed cut_off unreadable",
        ),
        ("method", "lora qlora freeze full"),
        (
            "field",
            "num_train_epochs learning_rate cutoff_len per_device_train_batch_size \
             gradient_accumulation_steps lora_rank freeze_trainable_layers val_size",
        ),
        (
            "memory",
            "weights reference adapter gradients optimizer activations logits program",
        ),
        ("row", "example chosen rejected good bad"),
        ("data", "stage-sft stage-dpo stage-kto"),
        ("export", "auto bfloat16 float16 float32"),
        (
            "export",
            "state-running state-done state-failed state-cut_off",
        ),
    ];

    #[test]
    fn every_word_of_the_page_is_in_both_languages() {
        let mut named = named();
        assert!(named.len() > 80, "{named:?}");
        for (begin, rest) in MADE {
            named.extend(rest.split_whitespace().map(|end| format!("{begin}.{end}")));
        }
        for language in [Language::Zh, Language::En] {
            let table = words::table(language);
            let missing: Vec<&String> = named
                .iter()
                .filter(|code| table.get(code.as_str()).is_none())
                .collect();
            assert!(missing.is_empty(), "{language:?}: {missing:?}");
        }
    }

    #[test]
    fn the_page_asks_nobody_else_and_writes_no_html() {
        for (path, _, content) in FILES {
            for word in [
                "http://",
                "https://",
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                " style=\"",
                " onclick=",
            ] {
                let own =
                    path == "/icon.svg" || word == "http://" && content.contains("www.w3.org");
                assert!(own || !content.contains(word), "{path}: {word}");
            }
        }
    }
}
