//! `support-bundle`: what somebody who helps needs to know, in one file that a person can read before it leaves.

use std::path::PathBuf;

use console::View;
use host_probe::{Host as _, RealHost, probe};
use install_steps::{Journal, Place, Prefix, ReleaseRecord, unlogged};
use manifest_schema::site::Site;
use report::{Diagnose, Outcome, Trouble};
use serde_json::{Value, json};

use crate::cli::At;
use crate::terms::login;
use crate::write::write_new;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The file to write, which must not be there yet
    #[arg(long, value_name = "FILE", default_value = "ferry-support.json")]
    output: PathBuf,
    #[command(flatten)]
    at: At,
}

impl Args {
    pub(crate) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let prefix = self.at.prefix()?;
        let host = RealHost::default();
        let redact = Redactor::of(&host);
        let site = probe(&host);
        let mut value = json!({
            "format": 1,
            "installer": env!("CARGO_PKG_VERSION"),
            "site": site_of(site),
            "prefix": prefix.path(),
            "place": section(Place::of(&prefix)),
            "log": section(Journal::read(&prefix).map(|journal| {
                json!({ "head": journal.head(), "entries": journal.entries() })
            })),
            "unlogged": Journal::read(&prefix).ok().map(|journal| section(unlogged(&prefix, &journal))),
            "current": section(prefix.current()),
            "releases": section(releases(&prefix)),
        });
        let mut hidden = 0;
        redact.walk(&mut value, &mut hidden);
        let text = serde_json::to_string_pretty(&value).unwrap_or_default() + "\n";
        write_new(&self.output, text.as_bytes())?;
        let args = [
            ("path", self.output.display().to_string()),
            ("hidden", hidden.to_string()),
        ];
        let result = json!({ "path": self.output, "hidden": hidden });
        view.result(&result, &view.text("installer.support-written", &args));
        Ok(Outcome::Done)
    }
}

/// A part of the report, or why there is none: a broken installation is the very thing to report.
fn section<T: serde::Serialize, E: Diagnose>(found: Result<T, E>) -> Value {
    match found {
        Ok(found) => serde_json::to_value(found).unwrap_or_default(),
        Err(error) => json!({ "error": error.code(), "message": error.to_string() }),
    }
}

/// The facts without the person: their name and groups are theirs, but whether they may open the devices is not.
fn site_of(mut site: Site) -> Site {
    if let Some(user) = &mut site.user {
        if user.value.name != "root" {
            "[USER]".clone_into(&mut user.value.name);
        }
        let known = |group: &String| GROUPS.contains(&group.as_str());
        user.value.groups.retain(known);
    }
    site
}

fn releases(prefix: &Prefix) -> Result<Vec<Value>, install_steps::DiskError> {
    let mut releases = Vec::new();
    for name in prefix.installed()? {
        let record = ReleaseRecord::read(prefix, &name);
        let record = section(record.map(|mut record| {
            // Thousands of digests of a Python environment help nobody.
            record.made_on_site.clear();
            record
        }));
        releases.push(json!({ "name": name, "record": record }));
    }
    Ok(releases)
}

/// Replaces what names a machine or a person wherever it stands.
struct Redactor {
    words: Vec<(String, &'static str)>,
}

impl Redactor {
    fn of(host: &RealHost) -> Self {
        let mut words = Vec::new();
        let read = |path: &str| {
            host.read(path)
                .map(|text| text.trim().to_owned())
                .unwrap_or_default()
        };
        words.push((read("/proc/sys/kernel/hostname"), "[HOST]"));
        if let Some(home) = std::env::var_os("HOME") {
            words.push((home.to_string_lossy().into_owned(), "[HOME]"));
        }
        // By `sudo` the person is another than the user.
        let person = host
            .run("id", &["-un"], &[])
            .ok()
            .into_iter()
            .chain(login());
        words.extend(person.map(|name| (name.trim().to_owned(), "[USER]")));
        // `root` and single letters stand in other words too.
        words.retain(|(word, _)| word.len() > 2 && word != "root" && word != "/root");
        // A home names its owner: the longer word first.
        words.sort_by_key(|(word, _)| std::cmp::Reverse(word.len()));
        Self { words }
    }

    fn walk(&self, value: &mut Value, hidden: &mut usize) {
        match value {
            Value::String(text) => self.string(text, hidden),
            Value::Array(items) => items.iter_mut().for_each(|item| self.walk(item, hidden)),
            Value::Object(fields) => {
                for (name, field) in fields.iter_mut() {
                    // Whoever accepted terms is named nowhere else.
                    if name == LOGIN && field.is_string() {
                        *field = "[USER]".into();
                        *hidden += 1;
                    }
                    self.walk(field, hidden);
                }
            }
            _ => {}
        }
    }

    fn string(&self, text: &mut String, hidden: &mut usize) {
        for (word, name) in &self.words {
            if text.contains(word.as_str()) {
                *text = text.replace(word.as_str(), name);
                *hidden += 1;
            }
        }
    }
}

/// Field of the log with the name of a person at a keyboard.
const LOGIN: &str = "login";
/// Groups that open devices; the others of a person are nobody's business.
const GROUPS: [&str; 5] = ["HwHiAiUser", "video", "render", "docker", "root"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_machines_and_people_are_hidden_everywhere() {
        let redact = Redactor {
            words: vec![
                ("node7".to_owned(), "[HOST]"),
                ("/home/li".to_owned(), "[HOME]"),
            ],
        };
        let mut value = json!({ "a": ["on node7", { "b": "/home/li/x" }], "c": 7, "d": "plain" });
        let mut hidden = 0;
        redact.walk(&mut value, &mut hidden);
        assert_eq!(
            value,
            json!({ "a": ["on [HOST]", { "b": "[HOME]/x" }], "c": 7, "d": "plain" })
        );
        assert_eq!(hidden, 2);
    }
}
