//! `log`: what was done, and whether the log tells all of it.

use console::View;
use install_steps::{Journal, Prefix, Unlogged, unlogged};
use manifest_schema::Digest;
use report::{Diagnose, Outcome, Trouble};
use serde_json::json;

use crate::cli::At;
use crate::trust::fingerprint;
use crate::unread::Unread;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    at: At,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Check the chain, and that nothing is installed that no entry tells of
    Verify(Verify),
}

#[derive(clap::Args, Debug)]
struct Verify {
    /// A head that somebody noted earlier: the log must have gone through it
    #[arg(long, value_name = "SHA256", value_parser = fingerprint)]
    head: Option<Digest>,
    #[command(flatten)]
    at: At,
}

/// The log is whole in itself, and yet not the log that it should be.
#[derive(Debug, thiserror::Error)]
#[error("the log never went through the head {head}")]
struct OtherLog {
    head: Digest,
}

impl Diagnose for OtherLog {
    fn code(&self) -> &'static str {
        "installer.log-other"
    }

    fn args(&self) -> report::Args {
        vec![("head", self.head.hex())]
    }

    fn outcome(&self) -> Outcome {
        Outcome::Untrusted
    }
}

impl Args {
    pub(crate) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        match self.command {
            Some(Command::Verify(args)) => args.run(view),
            None => show(view, &self.at.prefix()?),
        }
    }
}

fn show(view: &View, prefix: &Prefix) -> Result<Outcome, Trouble> {
    let (journal, broken) = Journal::read_as_far(prefix)?;
    let mut unread = Unread::default();
    unread.extend(broken);
    let mut lines: Vec<String> = journal
        .entries()
        .iter()
        .map(|entry| {
            let said = view.text(entry.action.code(), &entry.action.args());
            format!(
                "{}  {}  uid {}  {said}",
                entry.number, entry.time, entry.user
            )
        })
        .collect();
    if journal.entries().is_empty() && unread.is_empty() {
        let args = [("prefix", prefix.path().display().to_string())];
        lines.push(view.text("installer.log-empty", &args));
    } else if unread.is_empty() {
        lines.push(view.text("installer.log-head", &[("head", journal.head().hex())]));
    }
    let value = json!({
        "entries": journal.entries(), "head": journal.head(), "unread": unread.to_json(),
    });
    view.result(&value, &lines.join("\n"));
    Ok(unread.end(view, Outcome::Done))
}

impl Verify {
    fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let prefix = self.at.prefix()?;
        let journal = Journal::read(&prefix)?;
        if let Some(head) = self.head.filter(|head| !journal.went_through(head)) {
            return Err(OtherLog { head }.into());
        }
        let found = unlogged(&prefix, &journal)?;
        let mut lines: Vec<String> = found.iter().map(|found| line(view, found)).collect();
        // A power cut between entry and switch leaves the link behind: not a forgery.
        let wrong = found
            .iter()
            .filter(|found| !matches!(found, Unlogged::Current { .. }))
            .count();
        let args = [
            ("entries", journal.entries().len().to_string()),
            ("head", journal.head().hex()),
            ("wrong", wrong.to_string()),
        ];
        let code = if wrong == 0 {
            "installer.log-good"
        } else {
            "installer.log-bad"
        };
        lines.push(view.text(code, &args));
        let value = json!({
            "good": wrong == 0, "entries": journal.entries().len(), "head": journal.head(),
            "unlogged": found,
        });
        view.result(&value, &lines.join("\n"));
        Ok(if wrong == 0 {
            Outcome::Done
        } else {
            Outcome::Untrusted
        })
    }
}

/// What the log does not account for, in words.
pub(crate) fn line(view: &View, found: &Unlogged) -> String {
    let name = |name: &Option<install_steps::ReleaseName>| {
        name.as_ref().map_or("-".to_owned(), ToString::to_string)
    };
    match found {
        Unlogged::Release { name } => {
            format!(
                "✗ {}",
                view.text("installer.unlogged.release", &[("name", name.to_string())])
            )
        }
        Unlogged::Record { name } => {
            format!(
                "✗ {}",
                view.text("installer.unlogged.record", &[("name", name.to_string())])
            )
        }
        Unlogged::Root { name } => {
            format!(
                "✗ {}",
                view.text("installer.unlogged.root", &[("name", name.clone())])
            )
        }
        Unlogged::Current { found, logged } => {
            let args = [("found", name(found)), ("logged", name(logged))];
            format!("! {}", view.text("installer.unlogged.current", &args))
        }
    }
}
