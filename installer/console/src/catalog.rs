//! Chinese and English texts, both embedded: no file to lose on an offline machine.
//!
//! An entry is a code with a `text` and, for errors and checks, a `hint`; a check also says `why`. All may name
//! arguments in braces:
//!
//! ```toml
//! ["bundle.unreadable"]
//! text = "cannot read `{path}`"
//! hint = "check that the medium is still mounted, then run the command again"
//! ```

use std::collections::BTreeMap;
use std::sync::LazyLock;

use unicode_width::UnicodeWidthStr;

use crate::han;
use crate::phrase::value;

/// A language that every text exists in.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Language {
    /// Simplified Chinese.
    Zh,
    /// English.
    En,
}

impl Language {
    /// The language that the locale variables name, as a program reads them in its `main`: the first of
    /// `LC_ALL`, `LC_MESSAGES` and `LANG` that is set and not empty decides. Anything but Chinese is English.
    pub fn from_locale(read: impl Fn(&str) -> Option<String>) -> Self {
        let locale = ["LC_ALL", "LC_MESSAGES", "LANG"]
            .into_iter()
            .find_map(|name| read(name).filter(|value| !value.is_empty()));
        match locale {
            Some(value) if value.to_ascii_lowercase().starts_with("zh") => Self::Zh,
            _ => Self::En,
        }
    }
}

/// What the catalogue says for one code.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Text {
    /// What happened, with found and needed values.
    pub text: String,
    /// Why it matters.
    pub why: Option<String>,
    /// What to do next.
    pub hint: Option<String>,
}

/// Looks `code` up in `language`, English where the language lacks it, and fills in `args`.
///
/// Returns `None` for a code that no catalogue has.
pub fn text<N: AsRef<str>>(language: Language, code: &str, args: &[(N, String)]) -> Option<Text> {
    let entry = match language {
        Language::Zh => ZH.get(code).or_else(|| EN.get(code)),
        Language::En => EN.get(code),
    }?;
    let args: Vec<(&str, String)> = args
        .iter()
        .map(|(name, text)| {
            (
                name.as_ref(),
                value(language, name.as_ref(), text).into_owned(),
            )
        })
        .collect();
    Some(Text {
        text: fill(&entry.text, &args),
        why: entry.why.as_ref().map(|why| fill(why, &args)),
        hint: entry.hint.as_ref().map(|hint| fill(hint, &args)),
    })
}

/// Every text of `language` whose code begins with `prefix`, its gaps open: for a front end that fills them itself.
pub fn texts(language: Language, prefix: &str) -> Vec<(&'static str, &'static Text)> {
    let all = catalog(language).range(prefix.to_owned()..);
    let own = all.take_while(|(code, _)| code.starts_with(prefix));
    own.map(|(code, entry)| (code.as_str(), entry)).collect()
}

/// Columns that `text` takes on a terminal: a Han character takes two.
pub fn display_width(text: &str) -> usize {
    text.width()
}

fn fill<N: AsRef<str>>(template: &str, args: &[(N, String)]) -> String {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    // One pass, so that a value with braces in it is never filled again.
    while let Some(open) = rest.find('{') {
        han::push(&mut filled, &rest[..open]);
        let after = &rest[open + 1..];
        let Some(close) = after.find('}') else {
            rest = &rest[open..];
            break;
        };
        let name = &after[..close];
        match args.iter().find(|(known, _)| known.as_ref() == name) {
            Some((_, value)) => han::push(&mut filled, &printable(value)),
            None => filled.push_str(&rest[open..=open + 1 + close]),
        }
        rest = &after[close + 1..];
    }
    han::push(&mut filled, rest);
    filled
}

/// Foreign text may hold control characters that would move the cursor or hide a line.
fn printable(value: &str) -> String {
    value
        .chars()
        .map(|c| {
            if c.is_control() && c != '\n' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

pub(crate) type Catalog = BTreeMap<String, Text>;

/// All texts of a language.
pub(crate) fn catalog(language: Language) -> &'static Catalog {
    match language {
        Language::Zh => &ZH,
        Language::En => &EN,
    }
}

static EN: LazyLock<Catalog> =
    LazyLock::new(|| parse(include_str!(concat!(env!("OUT_DIR"), "/en.toml"))));
static ZH: LazyLock<Catalog> =
    LazyLock::new(|| parse(include_str!(concat!(env!("OUT_DIR"), "/zh.toml"))));

/// A catalogue that does not parse is empty here, and a failed test in `tests`.
fn parse(source: &str) -> Catalog {
    let Ok(table) = source.parse::<toml::Table>() else {
        return Catalog::new();
    };
    let string = |entry: &toml::Value, key: &str| Some(entry.get(key)?.as_str()?.to_owned());
    table
        .into_iter()
        .filter_map(|(code, entry)| {
            let text = string(&entry, "text")?;
            Some((
                code,
                Text {
                    text,
                    why: string(&entry, "why"),
                    hint: string(&entry, "hint"),
                },
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EN_SOURCE: &str = include_str!(concat!(env!("OUT_DIR"), "/en.toml"));
    const ZH_SOURCE: &str = include_str!(concat!(env!("OUT_DIR"), "/zh.toml"));

    #[test]
    fn both_catalogues_are_toml_with_a_text_for_every_code() {
        for (language, source) in [("en", EN_SOURCE), ("zh", ZH_SOURCE)] {
            let table = source
                .parse::<toml::Table>()
                .unwrap_or_else(|e| panic!("{language}: {e}"));
            for (code, entry) in table {
                assert!(
                    entry.get("text").is_some(),
                    "{language}: `{code}` has no text"
                );
            }
        }
    }

    #[test]
    fn both_languages_have_the_same_codes_and_names() {
        let codes = |catalog: &Catalog| catalog.keys().cloned().collect::<Vec<_>>();
        assert_eq!(codes(&EN), codes(&ZH));
        for (code, english) in EN.iter() {
            let chinese = &ZH[code];
            assert_eq!(
                names(&english.text),
                names(&chinese.text),
                "text of `{code}`"
            );
            assert_eq!(
                english.why.is_some(),
                chinese.why.is_some(),
                "why of `{code}`"
            );
            assert_eq!(
                english.hint.is_some(),
                chinese.hint.is_some(),
                "hint of `{code}`"
            );
        }
    }

    #[test]
    fn values_are_filled_once_and_cannot_move_the_cursor() {
        let args = [("path", "{path}\u{1b}[2J".to_owned())];
        assert_eq!(
            fill("read {path}, {other}", &args),
            "read {path}\u{fffd}[2J, {other}"
        );
    }

    #[test]
    fn the_first_locale_variable_that_is_set_decides() {
        for (all, lang, expected) in [
            (Some("zh_CN.UTF-8"), None, Language::Zh),
            (Some("C"), Some("zh_CN"), Language::En),
            (Some(""), Some("zh_CN"), Language::Zh),
            (None, None, Language::En),
        ] {
            let read = |name: &str| match name {
                "LC_ALL" => all.map(str::to_owned),
                "LANG" => lang.map(str::to_owned),
                _ => None,
            };
            assert_eq!(Language::from_locale(read), expected, "{all:?} {lang:?}");
        }
    }

    fn names(text: &str) -> Vec<String> {
        let mut names: Vec<String> = text
            .split('{')
            .skip(1)
            .filter_map(|part| part.split_once('}').map(|(name, _)| name.to_owned()))
            .collect();
        names.sort();
        names.dedup();
        names
    }
}
