//! A long text, shown page by page: what a person is asked about must have been on their screen, all of it.

use std::io::{Write as _, stderr, stdin};

use dialoguer::console::Term;
use unicode_width::UnicodeWidthChar as _;

use crate::view::harmless;
use crate::{PromptError, View};

impl View {
    /// Shows `text` page by page, each but the last until Enter is pressed. Without a terminal the error names `flag`.
    ///
    /// # Errors
    /// When there is no terminal, or it went away.
    pub fn pages(&self, text: &str, flag: &str) -> Result<(), PromptError> {
        if !self.can_ask() {
            let flag = flag.to_owned();
            return Err(PromptError::NoTerminal { flag });
        }
        let term = Term::stderr();
        let (rows, columns) = term.size();
        let rows = usize::from(rows).saturating_sub(2).max(MIN_ROWS);
        let lines = wrap(&harmless(text), usize::from(columns).max(MIN_COLUMNS));
        let pages = lines.chunks(rows);
        let count = pages.len();
        for (number, page) in pages.enumerate() {
            let unanswered = |source| PromptError::Unanswered { source };
            let mut err = stderr().lock();
            for line in page {
                writeln!(err, "{line}").map_err(unanswered)?;
            }
            if number + 1 < count {
                let args = [
                    ("page", (number + 1).to_string()),
                    ("pages", count.to_string()),
                ];
                write!(err, "{} ", self.text("console.next-page", &args)).map_err(unanswered)?;
                err.flush().map_err(unanswered)?;
                drop(err);
                let mut answer = String::new();
                let read = stdin().read_line(&mut answer).map_err(unanswered)?;
                if read == 0 {
                    return Err(unanswered(std::io::ErrorKind::UnexpectedEof.into()));
                }
            }
        }
        Ok(())
    }
}

/// Cuts lines that are wider than the terminal; a Han character takes two columns.
fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.lines() {
        let (mut now, mut width) = (String::new(), 0);
        for c in line.chars() {
            let wide = c.width().unwrap_or(0);
            if width + wide > columns {
                lines.push(std::mem::take(&mut now));
                width = 0;
            }
            now.push(c);
            width += wide;
        }
        lines.push(now);
    }
    lines
}

const MIN_ROWS: usize = 5;
const MIN_COLUMNS: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_character_of_a_text_is_lost_between_lines() {
        for (text, columns, lines) in [
            ("abcdef", 4, &["abcd", "ef"][..]),
            ("许可条款", 5, &["许可", "条款"]),
            ("a\n\nb", 4, &["a", "", "b"]),
        ] {
            assert_eq!(wrap(text, columns), lines, "{text}");
        }
    }
}
