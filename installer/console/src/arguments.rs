//! Reading a command line: help and mistakes come in the language that it, or else the locale, names.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Command, CommandFactory, FromArgMatches};

use crate::Language;
use crate::mistake::mistake_in_chinese;

/// Reads the command line of a program; `in_chinese` puts Chinese texts into its help, where a reader wants them.
///
/// # Errors
/// The status to end with, where help was asked for or the command line is wrong: all is said then.
pub fn arguments<C: CommandFactory + FromArgMatches>(
    in_chinese: impl FnOnce(Command) -> Command,
) -> Result<C, ExitCode> {
    let words: Vec<String> = std::env::args_os()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let locale = Language::from_locale(|name| std::env::var(name).ok());
    let language = named(&words, locale);
    let mut command = C::command();
    if language == Language::Zh {
        command = in_chinese(command);
    }
    command
        .try_get_matches()
        .and_then(|matches| C::from_arg_matches(&matches))
        .map_err(|error| show(&error, language))
}

/// Shows the help that was asked for, or what is wrong with the command line. Returns what the program ends with.
fn show(error: &clap::Error, language: Language) -> ExitCode {
    let chinese = (language == Language::Zh).then(|| mistake_in_chinese(error));
    // Where nobody listens nobody is told; the status tells it.
    let _ = match chinese.flatten() {
        Some(text) => std::io::stderr().write_all(text.as_bytes()),
        None => error.print(),
    };
    let status = u8::try_from(error.exit_code());
    status.map_or(ExitCode::FAILURE, ExitCode::from)
}

/// The language that help is shown in: `--lang` where it stands among the words, else the locale's. The words are
/// looked at before they are parsed, since a mistake in them is explained in that language too.
fn named(words: &[String], locale: Language) -> Language {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let named = match word.strip_prefix("--lang") {
            Some("") => words.next().map(String::as_str),
            Some(rest) => rest.strip_prefix('='),
            None => continue,
        };
        match named {
            Some("zh") => return Language::Zh,
            Some("en") => return Language::En,
            _ => {}
        }
    }
    locale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_decides_before_the_locale() {
        for (words, expected) in [
            (&["install", "--lang", "zh"][..], Language::Zh),
            (&["--lang=zh", "install"], Language::Zh),
            (&["--lang", "en"], Language::En),
            (&["--lang"], Language::Zh),
            (&["--language", "en"], Language::Zh),
            (&[], Language::Zh),
        ] {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(named(&words, Language::Zh), expected, "{words:?}");
        }
    }
}
