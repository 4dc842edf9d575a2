//! Terms: shown whole and accepted by a person, or accepted by a flag that names them. `--yes` answers nothing here.

use console::View;
use install_steps::{AcceptedBy, Term};
use manifest_schema::EulaName;
use report::{Args, Diagnose, Trouble};

/// A person did not accept.
#[derive(Debug, thiserror::Error)]
#[error("the terms `{name}` were not accepted")]
pub(crate) struct NotAccepted {
    name: EulaName,
}

impl Diagnose for NotAccepted {
    fn code(&self) -> &'static str {
        "installer.terms-not-accepted"
    }

    fn args(&self) -> Args {
        vec![("name", self.name.to_string())]
    }
}

/// Terms named on the command line.
#[derive(clap::Args, Debug)]
pub(crate) struct AcceptFlags {
    /// Accept the terms of this name, which a person has read (can be repeated)
    #[arg(long = "accept-eula", value_name = "NAME")]
    accepted: Vec<EulaName>,
}

impl AcceptFlags {
    /// Settles every term of `open`: those that a flag names, and those that a person accepts now.
    pub(crate) fn settle(
        &self,
        view: &View,
        open: Vec<Term>,
    ) -> Result<Vec<(Term, AcceptedBy)>, Trouble> {
        let by_hand: Vec<&Term> = open
            .iter()
            .filter(|term| !self.accepted.contains(&term.name))
            .collect();
        let flags: Vec<String> = by_hand
            .iter()
            .map(|term| format!("--accept-eula {}", term.name))
            .collect();
        let flags = flags.join(" ");
        for term in by_hand {
            ask(view, term, &flags)?;
        }
        let settled = open.into_iter().map(|term| {
            let by = if self.accepted.contains(&term.name) {
                AcceptedBy::Flag
            } else {
                AcceptedBy::Person
            };
            (term, by)
        });
        let settled: Vec<(Term, AcceptedBy)> = settled.collect();
        for (term, by) in &settled {
            let code = match by {
                AcceptedBy::Flag => "installer.terms-by-flag",
                AcceptedBy::Person => "installer.terms-by-person",
            };
            view.note(code, &named(term));
        }
        Ok(settled)
    }
}

/// Shows all of the text; only its name, typed, accepts it.
fn ask(view: &View, term: &Term, flags: &str) -> Result<(), Trouble> {
    view.note("installer.terms-shown", &named(term));
    view.pages(&term.text, flags)?;
    let args = [("name", term.name.to_string())];
    let answer = view.ask("installer.terms-question", &args, None, flags)?;
    if answer.trim() == term.name.as_str() {
        return Ok(());
    }
    let name = term.name.clone();
    Err(NotAccepted { name }.into())
}

fn named(term: &Term) -> [(&'static str, String); 2] {
    [
        ("name", term.name.to_string()),
        ("digest", term.digest.hex()),
    ]
}

/// Who sits at the keyboard: root by `sudo` is still somebody.
pub(crate) fn login() -> Option<String> {
    let read = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    read("SUDO_USER")
        .or_else(|| read("LOGNAME"))
        .or_else(|| read("USER"))
}
