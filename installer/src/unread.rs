//! What of a prefix could not be read, while the rest was shown: told at the end, and in how the command ends.

use console::View;
use report::{Diagnose, Outcome, Trouble};
use serde_json::Value;

/// Why parts of an answer are missing.
#[derive(Default)]
pub(crate) struct Unread(Vec<Trouble>);

impl Unread {
    /// What was found; where it could not be, that is kept to be told.
    pub(crate) fn take<T, E: Diagnose + 'static>(&mut self, found: Result<T, E>) -> Option<T> {
        match found {
            Ok(found) => Some(found),
            Err(error) => {
                self.0.push(error.into());
                None
            }
        }
    }

    /// Keeps several to be told.
    pub(crate) fn extend<E: Diagnose + 'static>(&mut self, errors: impl IntoIterator<Item = E>) {
        self.0.extend(errors.into_iter().map(Trouble::from));
    }

    /// Whether all could be read.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// For another program: each as an error has it.
    pub(crate) fn to_json(&self) -> Vec<Value> {
        self.0.iter().map(Trouble::to_json).collect()
    }

    /// Each on a line, for a page.
    pub(crate) fn lines(&self, view: &View) -> Vec<String> {
        let line = |trouble: &Trouble| {
            let error = trouble.diagnose();
            format!(
                "✗ [{}] {}",
                error.code(),
                view.text(error.code(), &error.args())
            )
        };
        self.0.iter().map(line).collect()
    }

    /// Tells a person, and says how a command ends whose other work ended with `outcome`: what may be forged comes before
    /// what a disk does not give.
    pub(crate) fn end(&self, view: &View, outcome: Outcome) -> Outcome {
        for trouble in &self.0 {
            view.complain(trouble);
        }
        let told = self.0.iter().map(|trouble| trouble.diagnose().outcome());
        let all: Vec<Outcome> = told.chain([outcome]).collect();
        if all.contains(&Outcome::Untrusted) {
            return Outcome::Untrusted;
        }
        let bad = all.into_iter().find(|one| *one != Outcome::Done);
        bad.unwrap_or(Outcome::Done)
    }
}
