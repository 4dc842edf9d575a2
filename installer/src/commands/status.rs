//! `status`: what is installed.

use console::View;
use install_steps::{Journal, ReleaseName, ReleaseRecord};
use report::{Outcome, Trouble};
use serde_json::json;

use crate::cli::At;
use crate::unread::Unread;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    at: At,
}

impl Args {
    pub(crate) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let prefix = self.at.prefix()?;
        let mut unread = Unread::default();
        let current = unread.take(prefix.current()).flatten();
        let journal = unread.take(Journal::read(&prefix));
        let names = unread.take(prefix.installed()).unwrap_or_default();
        let mut lines = Vec::new();
        let mut releases = Vec::new();
        for name in names {
            let record = unread.take(ReleaseRecord::read(&prefix, &name));
            let is_current = current.as_ref() == Some(&name);
            lines.push(line(view, &name, record.as_ref(), is_current));
            releases.push(json!({ "name": name, "current": is_current, "record": record }));
        }
        if lines.is_empty() && unread.is_empty() {
            let args = [("prefix", prefix.path().display().to_string())];
            lines.push(view.text("installer.empty", &args));
        }
        if let Some(journal) = &journal
            && let Some(last) = journal.entries().last()
        {
            let said = view.text(last.action.code(), &last.action.args());
            let args = [
                ("entries", journal.entries().len().to_string()),
                ("last", format!("{}, {said}", last.time)),
            ];
            lines.push(view.text("installer.status-log", &args));
        }
        let value = json!({
            "prefix": prefix.path(), "current": current, "releases": releases,
            "log": journal.as_ref().map(Journal::entries), "head": journal.as_ref().map(Journal::head),
            "unread": unread.to_json(),
        });
        view.result(&value, &lines.join("\n"));
        Ok(unread.end(view, Outcome::Done))
    }
}

fn line(
    view: &View,
    name: &ReleaseName,
    record: Option<&ReleaseRecord>,
    is_current: bool,
) -> String {
    let mark = if is_current { "*" } else { " " };
    let Some(record) = record else {
        let args = [("mark", mark.to_owned()), ("release", name.to_string())];
        return view.text("installer.status-release-unread", &args);
    };
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
