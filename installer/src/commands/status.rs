//! `status`: what is installed.

use console::View;
use install_steps::{Journal, ReleaseName, ReleaseRecord};
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
            let is_current = current.as_ref() == Some(&name);
            lines.push(line(view, &name, &record, is_current));
            releases.push(json!({ "name": name, "current": is_current, "record": record }));
        }
        if lines.is_empty() {
            let args = [("prefix", prefix.path().display().to_string())];
            lines.push(view.text("installer.empty", &args));
        }
        if let Some(last) = journal.entries().last() {
            let said = view.text(last.action.code(), &last.action.args());
            let args = [
                ("entries", journal.entries().len().to_string()),
                ("last", format!("{}, {said}", last.time)),
            ];
            lines.push(view.text("installer.status-log", &args));
        }
        let value = json!({
            "prefix": prefix.path(), "current": current, "releases": releases, "log": journal.entries(),
            "head": journal.head(),
        });
        view.result(&value, &lines.join("\n"));
        Ok(Outcome::Done)
    }
}

fn line(view: &View, name: &ReleaseName, record: &ReleaseRecord, is_current: bool) -> String {
    let mark = if is_current { "*" } else { " " };
    let backend = record
        .backend
        .as_ref()
        .map_or("-".to_owned(), ToString::to_string);
    let args = [
        ("mark", mark.to_owned()),
        ("release", name.to_string()),
        ("backend", backend),
        ("number", record.release.to_string()),
        ("channel", record.channel.clone()),
        ("root", record.root.hex()),
    ];
    view.text("installer.status-release", &args)
}
