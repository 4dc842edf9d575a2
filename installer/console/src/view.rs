//! What a program shows: results, notes, errors, progress and questions, in one language.

use std::fmt::Write as _;
use std::io::{BufRead as _, IsTerminal, Write as _, stderr, stdin, stdout};
use std::process::ExitCode;
use std::sync::Mutex;

use report::{Event, Outcome, Sink, Trouble};

use crate::catalog::text;
use crate::phrase::said;
use crate::progress::Progress;
use crate::{ColorChoice, Flags, Language, PromptError};

/// The one place where a program meets a person or a pipe.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one switch of the command line"
)]
pub struct View {
    language: Language,
    json: bool,
    quiet: bool,
    verbose: bool,
    yes: bool,
    color: bool,
    plain: bool,
    progress: Mutex<Progress>,
}

impl View {
    /// Settles the flags, the locale variables and the kind of terminal into one view.
    pub fn from_flags(flags: &Flags) -> Self {
        let read = |name: &str| std::env::var(name).ok();
        let language = flags.lang.unwrap_or_else(|| Language::from_locale(read));
        let terminal = stderr().is_terminal();
        let color = match flags.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => terminal && read("NO_COLOR").is_none_or(|value| value.is_empty()),
        };
        let bars = terminal && !flags.no_progress && !flags.quiet && !flags.json;
        Self {
            language,
            json: flags.json,
            quiet: flags.quiet,
            verbose: flags.verbose,
            yes: flags.yes,
            color,
            plain: matches!(flags.color, ColorChoice::Never),
            progress: Mutex::new(if bars {
                Progress::bars()
            } else {
                Progress::lines()
            }),
        }
    }

    /// The language that texts are in.
    pub fn language(&self) -> Language {
        self.language
    }

    /// Whether standard output carries JSON lines.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether `--verbose` was given.
    pub fn is_verbose(&self) -> bool {
        self.verbose
    }

    /// Whether `--color never` was given: then also pictures leave colours to the terminal.
    pub fn is_plain(&self) -> bool {
        self.plain
    }

    /// Whether `--yes` was given.
    pub fn assumes_yes(&self) -> bool {
        self.yes
    }

    /// Writes data for another program or the reader: standard output, as it is, with a line end.
    pub fn data(&self, line: &str) {
        to_output(line);
    }

    /// Writes `chunk` without a line end, at once: for text that is still being made. On a terminal it can move no cursor.
    /// Returns whether anybody reads on.
    pub fn stream(&self, chunk: &str) -> bool {
        let mut output = stdout().lock();
        let shown = if output.is_terminal() {
            harmless(chunk)
        } else {
            chunk.to_owned()
        };
        let written = output
            .write_all(shown.as_bytes())
            .and_then(|()| output.flush());
        written.is_ok()
    }

    /// Writes the result of a command: one JSON line, or `human` when `--json` was not given.
    pub fn result(&self, value: &serde_json::Value, human: &str) {
        if self.json {
            to_output(&value.to_string());
        } else if !human.is_empty() {
            to_output(&harmless(human));
        }
    }

    /// Tells a person something: a catalogue text on standard error. Silent with `--quiet` or `--json`.
    pub fn note<N: AsRef<str>>(&self, code: &str, args: &[(N, String)]) {
        if self.quiet || self.json {
            return;
        }
        let line = self.text(code, args);
        self.with_progress(|progress| progress.line(&line));
    }

    /// The catalogue text of `code` in this view's language, or the code itself where none has it.
    pub fn text<N: AsRef<str>>(&self, code: &str, args: &[(N, String)]) -> String {
        text(self.language, code, args).map_or_else(|| code.to_owned(), |found| found.text)
    }

    /// Shows an error with its causes and the next step, and returns the exit status.
    pub fn fail(&self, trouble: &Trouble) -> ExitCode {
        let error = trouble.diagnose();
        if self.json {
            let line = serde_json::json!({ "error": trouble.to_json() });
            to_output(&line.to_string());
        } else {
            let line = self.explain(trouble);
            self.with_progress(|progress| progress.line(&line));
        }
        ExitCode::from(error.outcome().status())
    }

    /// Shows an error that did not end the command: the rest was done, and a program finds it in the result.
    pub fn complain(&self, trouble: &Trouble) {
        if !self.json {
            let text = self.explain(trouble);
            self.with_progress(|progress| progress.line(&text));
        }
    }

    /// The whole text of an error: what happened, because of what, what to do.
    pub fn explain(&self, trouble: &Trouble) -> String {
        let error = trouble.diagnose();
        let found = text(self.language, error.code(), &error.args());
        let (head, because, hint) = match self.language {
            Language::Zh => ("错误", "原因", "建议"),
            Language::En => ("error", "because", "hint"),
        };
        let message = found
            .as_ref()
            .map_or_else(|| harmless(&error.to_string()), |t| t.text.clone());
        let mut shown = format!(
            "{}: {message}",
            self.red(&format!("{head}[{}]", error.code()))
        );
        for cause in trouble.causes() {
            let cause = harmless(&said(self.language, &cause));
            let _ = write!(shown, "\n  {because}: {cause}");
        }
        if let Some(next) = found.and_then(|t| t.hint) {
            let _ = write!(shown, "\n\n{hint}: {next}");
        }
        shown
    }

    /// Ends a command that did its work.
    pub fn done(&self, outcome: Outcome) -> ExitCode {
        ExitCode::from(outcome.status())
    }

    /// Asks yes or no. `--yes` answers yes; without a terminal the error names `flag`.
    pub fn confirm<N: AsRef<str>>(
        &self,
        code: &str,
        args: &[(N, String)],
        flag: &str,
    ) -> Result<bool, PromptError> {
        if self.yes {
            return Ok(true);
        }
        self.needs_terminal(flag)?;
        Ok(dialoguer::Confirm::new()
            .with_prompt(self.text(code, args))
            .default(false)
            .interact()?)
    }

    /// Asks for a line of text.
    pub fn ask<N: AsRef<str>>(
        &self,
        code: &str,
        args: &[(N, String)],
        default: Option<&str>,
        flag: &str,
    ) -> Result<String, PromptError> {
        self.needs_terminal(flag)?;
        let mut input = dialoguer::Input::<String>::new().with_prompt(self.text(code, args));
        if let Some(default) = default {
            input = input.default(default.to_owned());
        }
        Ok(input.interact_text()?)
    }

    /// Whether a person can be asked at all.
    pub fn can_ask(&self) -> bool {
        self.needs_terminal("").is_ok()
    }

    /// Asks which of `items` to take; those at `taken` are marked beforehand. Returns their places, in order.
    pub fn choose<N: AsRef<str>>(
        &self,
        code: &str,
        args: &[(N, String)],
        items: &[String],
        taken: &[usize],
        flag: &str,
    ) -> Result<Vec<usize>, PromptError> {
        self.needs_terminal(flag)?;
        let marks: Vec<bool> = (0..items.len()).map(|at| taken.contains(&at)).collect();
        Ok(dialoguer::MultiSelect::new()
            .with_prompt(self.text(code, args))
            .items(items)
            .defaults(&marks)
            .interact()?)
    }

    /// Asks for a secret without showing it; `twice` asks again to catch a slip.
    pub fn password(&self, code: &str, twice: bool, flag: &str) -> Result<String, PromptError> {
        self.needs_terminal(flag)?;
        let none: &[(&str, String)] = &[];
        let mut input = dialoguer::Password::new().with_prompt(self.text(code, none));
        if twice {
            input = input.with_confirmation(
                self.text("console.repeat", none),
                self.text("console.repeat-differs", none),
            );
        }
        Ok(input.interact()?)
    }

    /// Waits for Enter where a person sits at a terminal, so that nothing scrolls away unread.
    pub fn pause(&self, code: &str) {
        let none: &[(&str, String)] = &[];
        if !self.json && !self.yes && stdin().is_terminal() && stdout().is_terminal() {
            self.with_progress(|progress| progress.line(&self.text(code, none)));
            let _ = stdin().lock().read_line(&mut String::new());
        }
    }

    fn needs_terminal(&self, flag: &str) -> Result<(), PromptError> {
        if !self.json && stdin().is_terminal() && stderr().is_terminal() {
            Ok(())
        } else {
            Err(PromptError::NoTerminal {
                flag: flag.to_owned(),
            })
        }
    }

    fn red(&self, label: &str) -> String {
        if self.color {
            format!("\u{1b}[1;31m{label}\u{1b}[0m")
        } else {
            label.to_owned()
        }
    }

    fn with_progress<T>(&self, act: impl FnOnce(&mut Progress) -> T) -> T {
        act(&mut self
            .progress
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl Sink for View {
    fn emit(&self, event: &Event) {
        if self.json {
            if let Ok(line) = serde_json::to_string(event) {
                to_output(&line);
            }
        } else if !self.quiet || matches!(event, Event::Warned { .. }) {
            self.with_progress(|progress| progress.show(self.language, event, self.verbose));
        }
    }
}

/// Foreign text may hold control characters that would move the cursor or hide a line.
pub(crate) fn harmless(text: &str) -> String {
    let plain = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    text.chars()
        .map(|c| if plain(c) { c } else { '\u{fffd}' })
        .collect()
}

/// Standard output. A closed pipe ends the talk, not the work.
fn to_output(line: &str) {
    let _ = writeln!(stdout().lock(), "{line}");
}

/// Standard error, for the lines between bars.
pub(crate) fn to_people(line: &str) {
    let _ = writeln!(stderr().lock(), "{line}");
}
