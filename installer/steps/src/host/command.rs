//! A command that changes the machine: words, made of a template of the chip's data.

use serde::Serialize;

/// Words that are run, never a line for a shell.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Command(Vec<String>);

impl Command {
    /// A command of these words.
    pub fn of(words: Vec<String>) -> Self {
        Self(words)
    }

    /// Its words; the first is the program.
    pub fn words(&self) -> &[String] {
        &self.0
    }

    /// Fills each `{name}` into a template's words, in one pass: what a value brings in is not filled again.
    pub(super) fn fill(template: &[String], values: &[(&str, &str)]) -> Self {
        Self(template.iter().map(|word| fill(word, values)).collect())
    }
}

/// A text with each `{name}` of `values` filled in, in one pass.
pub(super) fn fill(text: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        filled.push_str(&rest[..at]);
        rest = &rest[at..];
        let known = values.iter().find(|(name, _)| rest.starts_with(name));
        let (name, value) = known.copied().unwrap_or(("{", "{"));
        filled.push_str(value);
        rest = &rest[name.len()..];
    }
    filled + rest
}

impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&shell_words(&self.0))
    }
}

/// Words as a person would type them.
pub fn shell_words(words: &[String]) -> String {
    let quoted = |word: &String| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./=:,+@%".contains(&b);
        if !word.is_empty() && word.bytes().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_one_word_whatever_is_in_it() {
        let template = ["bash", "{file}", "--full"].map(str::to_owned);
        let path = "/o pt/{file}; rm -rf $(x)'y";
        let command = Command::fill(&template, &[("{file}", path)]);
        assert_eq!(command.words(), ["bash", path, "--full"]);
        assert_eq!(
            command.to_string(),
            r"bash '/o pt/{file}; rm -rf $(x)'\''y' --full"
        );
    }

    #[test]
    fn several_names_in_one_word_are_filled_and_no_value_is_filled_again() {
        let values = [("{root}", "/r/{version}"), ("{version}", "8.0")];
        for (text, expected) in [
            ("{root}/cann-{version}/x", "/r/{version}/cann-8.0/x"),
            ("{other}{version", "{other}{version"),
            ("", ""),
        ] {
            assert_eq!(fill(text, &values), expected, "{text}");
        }
    }
}
