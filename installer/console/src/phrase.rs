//! Values that are words rather than names: what was tried, how something ended, what the system said.
//!
//! Errors and checks carry them in English, since JSON and logs must not change with the locale. Where a person reads
//! Chinese, a value of an argument in [`WORDY`] is looked up as a whole (`value.create`), or as a form with names in
//! braces (`form.more than {n} bytes`, in `form`), or its known parts are replaced (`phrase.board not listed`). Values
//! that are names, paths or commands are never touched.

use std::borrow::Cow;
use std::cmp::Reverse;

use crate::Language;
use crate::catalog::{Catalog, Text, catalog};
use crate::form;

/// The value of the argument `name` as a reader of `language` reads it.
pub(crate) fn value<'v>(language: Language, name: &str, value: &'v str) -> Cow<'v, str> {
    if language == Language::En || !is_wordy(name) {
        return Cow::Borrowed(value);
    }
    if name == KINDS && value.contains(", ") {
        let parts: Vec<_> = value.split(", ").map(|part| said(language, part)).collect();
        return Cow::Owned(parts.join("、"));
    }
    said(language, value)
}

/// Whether the argument `name` is words.
pub(crate) fn is_wordy(name: &str) -> bool {
    WORDY.contains(&name)
}

/// A text of words as a reader of `language` reads it: known as a whole, or by its form, or in parts.
pub(crate) fn said(language: Language, text: &str) -> Cow<'_, str> {
    if language == Language::En {
        return Cow::Borrowed(text);
    }
    let known = catalog(language);
    if let Some(whole) = whole(known, text) {
        return whole;
    }
    if !text.contains(BETWEEN) {
        return phrases(language, text);
    }
    let parts = text.split(BETWEEN);
    let parts = parts.map(|part| whole(known, part).unwrap_or_else(|| phrases(language, part)));
    Cow::Owned(parts.collect::<Vec<_>>().join("；"))
}

fn whole<'t>(known: &'static Catalog, text: &str) -> Option<Cow<'t, str>> {
    match known.get(&format!("{VALUE}{text}")) {
        Some(entry) => Some(Cow::Borrowed(entry.text.as_str())),
        None => form::filled(known, text).map(Cow::Owned),
    }
}

/// A text of the system or of another program with its known parts in `language`.
fn phrases(language: Language, text: &str) -> Cow<'_, str> {
    if language == Language::En {
        return Cow::Borrowed(text);
    }
    let mut text = Cow::Borrowed(text);
    // The longest first: a short one may be a part of a longer one.
    let mut parts: Vec<_> = known(catalog(language)).collect();
    parts.sort_by_key(|(english, _)| Reverse(english.len()));
    for (english, entry) in parts {
        if text.contains(english) {
            text = Cow::Owned(text.replace(english, &entry.text));
        }
    }
    match text
        .split_once(" (os error ")
        .and_then(|(said, rest)| Some((said, rest.split_once(')')?)))
    {
        Some((said, (number, rest))) => Cow::Owned(format!("{said}（系统错误 {number}）{rest}")),
        None => text,
    }
}

fn known(catalog: &'static Catalog) -> impl Iterator<Item = (&'static str, &'static Text)> {
    let of_phrases = catalog.range(PHRASE.to_owned()..);
    of_phrases.map_while(|(code, entry)| Some((code.strip_prefix(PHRASE)?, entry)))
}

const VALUE: &str = "value.";
const PHRASE: &str = "phrase.";
/// What stands between several things that are said in one value.
pub(crate) const BETWEEN: &str = "; ";
/// Arguments whose values are words.
const WORDY: [&str; 23] = [
    "action", "after", "at", "cause", "ended", "expected", "fact", "failures", "family", "found",
    "instead", "kind", KINDS, "needed", "next", "place", "problem", "reason", "reasons", "result",
    "status", "wanted", "what",
];
/// A list of words.
const KINDS: &str = "kinds";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_translated_and_names_are_not() {
        for (name, english, chinese) in [
            ("action", "create", "创建"),
            ("path", "create", "create"),
            ("what", "driver", "驱动"),
            ("kinds", "driver, firmware", "驱动、固件"),
            ("result", "begun", "开始"),
            (
                "fact",
                "19e5:d802 ascend-910b Atlas 800T A2 or 900 A2: driver-broken",
                "19e5:d802 ascend-910b Atlas 800T A2 或 900 A2：驱动异常",
            ),
            ("ended", "undone", "已撤回"),
            (
                "found",
                "Ascend 910B, Atlas A2, board not listed",
                "Ascend 910B, Atlas A2（板卡不在表中）",
            ),
            ("status", "exit status: 1", "退出码 1"),
            (
                "expected",
                "the digest of one of `artifacts`",
                "`artifacts` 中某一项的摘要",
            ),
            ("command", "driver", "driver"),
            ("found", "nobody knows this", "nobody knows this"),
            ("problem", "more than 7 bytes", "超过 7 字节"),
            ("problem", "more than a few bytes", "more than a few bytes"),
            ("path", "more than 7 bytes", "more than 7 bytes"),
            (
                "reason",
                "its metadata claims 9 bytes, the file has 3",
                "元数据自称有 9 字节，而文件只有 3 字节",
            ),
            ("reason", "record 7: it is damaged", "第 7 条记录：已损坏"),
            (
                "problem",
                "https://a/b answered 500; the connection to https://b failed: operation timed out",
                "https://a/b 返回 500；与 https://b 的连接失败：超时",
            ),
            (
                "reason",
                "EOF while parsing a string at line 3 column 30",
                "在字符串的中间结束（第 3 行第 30 列）",
            ),
            (
                "cause",
                "expected `,` or `}` at line 3 column 22",
                "此处应为 `,` 或 `}`（第 3 行第 22 列）",
            ),
            (
                "cause",
                "Model missing. at line 1 column 2",
                "Model missing.（第 1 行第 2 列）",
            ),
            (
                "cause",
                "unknown field `x`, expected one of `a`, `b` at line 1 column 4",
                "未知字段 `x`，应为下列之一：`a`, `b`（第 1 行第 4 列）",
            ),
            (
                "cause",
                "cannot parse `/opt/ferry/releases/a/release.json`",
                "无法解析 `/opt/ferry/releases/a/release.json`",
            ),
            (
                "problem",
                "unknown field `driver`, expected one of `a`, `b`",
                "未知字段 `driver`，应为下列之一：`a`, `b`",
            ),
        ] {
            assert_eq!(value(Language::Zh, name, english), chinese, "{name}");
            assert_eq!(value(Language::En, name, english), english, "{name}");
        }
        let said = "No such file or directory (os error 2)";
        assert_eq!(
            phrases(Language::Zh, said),
            "文件或目录不存在（系统错误 2）"
        );
    }
}
