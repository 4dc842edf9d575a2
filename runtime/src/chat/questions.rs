//! What a person or a program asks, line by line.

use std::io::{self, BufRead, IsTerminal as _, Read as _, stdin, stdout};

use console::View;
use report::Trouble;
use torch_backend::BackendError;

/// Begins and ends a question of several lines.
const FENCE: &str = "\"\"\"";

/// More than any question takes.
const LONGEST: u64 = 16 << 20;

/// A terminal hands over no more of a line, and says nothing of what it keeps back.
const TERMINAL_LINE: usize = 4095;

/// What was said.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Said {
    /// A question.
    Question(String),
    /// `clear`: what was said before shall be forgotten.
    Clear,
    /// `exit`, or the end of the input.
    End,
}

/// Standard input as questions.
pub(super) struct Questions<'a> {
    view: &'a View,
    /// Somebody types them, and sees what is asked.
    typed: bool,
}

impl<'a> Questions<'a> {
    pub(super) fn new(view: &'a View) -> Self {
        let typed = stdin().is_terminal() && stdout().is_terminal() && !view.is_json();
        if typed {
            view.note::<&str>("runtime.chat-begins", &[]);
        }
        Self { view, typed }
    }

    pub(super) fn are_typed(&self) -> bool {
        self.typed
    }

    /// The next one.
    pub(super) fn next(&mut self) -> Result<Said, Trouble> {
        if self.typed {
            self.view.stream("> ");
        }
        let mut cut = false;
        let said = read(&mut stdin().lock(), |line| {
            cut |= line.len() >= TERMINAL_LINE;
        });
        if cut && self.typed {
            let most = ("bytes", TERMINAL_LINE.to_string());
            self.view.note("runtime.chat-line-cut", &[most]);
        }
        said.map_err(|source| {
            let path = "-".into();
            BackendError::Unreadable { path, source }.into()
        })
    }
}

/// Reads up to the end of a question; `each` sees its lines.
fn read(input: &mut impl BufRead, mut each: impl FnMut(&str)) -> io::Result<Said> {
    let mut left = LONGEST;
    let mut line = || -> io::Result<Option<String>> {
        let mut line = String::new();
        let read = input.by_ref().take(left).read_line(&mut line)? as u64;
        left -= read;
        if left == 0 && !line.ends_with('\n') {
            let reason = format!("a question has more than {} MiB", LONGEST >> 20);
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        each(&line);
        Ok((read > 0).then_some(line))
    };
    let first = loop {
        match line()? {
            None => return Ok(Said::End),
            Some(text) if text.trim().is_empty() => {}
            Some(text) => break text,
        }
    };
    let first = match first.trim() {
        "clear" => return Ok(Said::Clear),
        "exit" => return Ok(Said::End),
        first => first,
    };
    let Some(opened) = first.strip_prefix(FENCE) else {
        return Ok(Said::Question(first.to_owned()));
    };
    let mut text = opened.to_owned();
    while !text.trim_end().ends_with(FENCE) {
        match line()? {
            Some(more) => {
                text.push_str(if text.is_empty() || text.ends_with('\n') {
                    ""
                } else {
                    "\n"
                });
                text.push_str(&more);
            }
            // What was begun is asked, also where its end is missing.
            None => break,
        }
    }
    let text = text.trim_end();
    let text = text.strip_suffix(FENCE).unwrap_or(text).trim();
    Ok(Said::Question(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut input: &[u8]) -> Vec<Said> {
        let mut found = Vec::new();
        loop {
            match read(&mut input, |_| {}).unwrap() {
                Said::End => return found,
                said => found.push(said),
            }
        }
    }

    #[test]
    fn a_line_is_a_question_and_a_fence_holds_several() {
        let question = |text: &str| Said::Question(text.to_owned());
        for (input, expected) in [
            ("a\n\n  b c \r\n", vec![question("a"), question("b c")]),
            (
                "a\nclear\nb",
                vec![question("a"), Said::Clear, question("b")],
            ),
            ("a\n exit \nb\n", vec![question("a")]),
            ("clear the table\n", vec![question("clear the table")]),
            (
                "\"\"\"\n合同\n\n第一条\n\"\"\"\nb\n",
                vec![question("合同\n\n第一条"), question("b")],
            ),
            ("\"\"\"a\nb\"\"\"\n", vec![question("a\nb")]),
            ("\"\"\"a\"\"\"\n", vec![question("a")]),
            ("\"\"\"\nexit\nb", vec![question("exit\nb")]),
            ("", vec![]),
        ] {
            assert_eq!(all(input.as_bytes()), expected, "{input:?}");
        }
    }

    #[test]
    fn a_line_without_end_is_not_read_for_ever() {
        let mut endless = io::BufReader::new(io::repeat(b'x'));
        let error = read(&mut endless, |_| {}).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
