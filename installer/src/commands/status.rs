//! `status`: what is installed.

use console::View;
use install_steps::{Journal, ReleaseRecord};
use report::{Outcome, Trouble};
use serde_json::json;

use crate::cli::At;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    at: At,
}

impl Args {
    pub(crate) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let prefix = self.at.prefix()?;
        let current = prefix.current()?;
        let journal = Journal::read(&prefix)?;
        let mut lines = Vec::new();
        let mut releases = Vec::new();
        for name in prefix.installed()? {
            let record = ReleaseRecord::read(&prefix, &name)?;
            let mark = if current.as_ref() == Some(&name) {
                '*'
            } else {
                ' '
            };
            lines.push(format!("{mark} {name}"));
            releases.push(json!({ "name": name, "current": mark == '*', "record": record }));
        }
        if lines.is_empty() {
            let args = [("prefix", prefix.path().display().to_string())];
            lines.push(view.text("installer.empty", &args));
        }
        let value = json!({
            "prefix": prefix.path(), "current": current, "releases": releases, "log": journal.entries(),
        });
        view.result(&value, &lines.join("\n"));
        Ok(Outcome::Done)
    }
}
