//! `audit`: every installed file, and by what right it is there.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use console::View;
use install_steps::{AuditError, AuditedFile, ReleaseName, Standing, audit};
use manifest_schema::KeyId;
use report::{Outcome, Trouble};
use serde_json::json;

use crate::cli::At;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Audit this release instead of the current one
    #[arg(long, value_name = "RELEASE", value_parser = super::rollback::release_name)]
    release: Option<ReleaseName>,
    #[command(flatten)]
    at: At,
}

impl Args {
    pub(crate) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let prefix = self.at.prefix()?;
        let name = match self.release {
            Some(name) => name,
            None => prefix
                .current()?
                .ok_or_else(|| AuditError::NothingInstalled {
                    prefix: prefix.path().to_owned(),
                })?,
        };
        let report = audit(&prefix, &name, view)?;
        let mut lines = lines(view, &report.files);
        let wrong = report.problems().count();
        let keys: Vec<&str> = report.keys.iter().map(KeyId::as_str).collect();
        let args = [
            ("release", name.to_string()),
            ("files", report.files.len().to_string()),
            ("wrong", wrong.to_string()),
            ("keys", keys.join(", ")),
            ("root", report.root.hex()),
            ("entries", report.log_entries.to_string()),
        ];
        let code = if wrong == 0 {
            "installer.audit-good"
        } else {
            "installer.audit-bad"
        };
        lines.push(view.text(code, &args));
        let value = json!({ "good": wrong == 0, "wrong": wrong, "audit": report });
        view.result(&value, &lines.join("\n"));
        Ok(if wrong == 0 {
            Outcome::Done
        } else {
            Outcome::Untrusted
        })
    }
}

/// A line for each file; unless `--verbose` is given, one for all good files of a wheel, which can be thousands.
fn lines(view: &View, files: &[AuditedFile]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut wheels: BTreeMap<&str, usize> = BTreeMap::new();
    for file in files {
        match &file.made_from {
            Some(wheel) if file.standing == Standing::FromWheel && !view.is_verbose() => {
                *wheels.entry(wheel).or_default() += 1;
            }
            _ => lines.push(line(view, file)),
        }
    }
    lines.extend(wheels.into_iter().map(|(wheel, files)| {
        let args = [("files", files.to_string()), ("wheel", wheel.to_owned())];
        format!("✓ {}", view.text("installer.audit-wheel", &args))
    }));
    lines
}

/// A file as one line: mark, path, standing, origin, licence.
fn line(view: &View, file: &AuditedFile) -> String {
    let none: &[(&str, String)] = &[];
    let mark = if file.standing.is_wrong() {
        '✗'
    } else {
        '✓'
    };
    let mut line = format!(
        "{mark} {}  {}",
        file.path,
        view.text(standing(file.standing), none)
    );
    if let Some(origin) = &file.origin {
        let _ = write!(line, "  {}", origin.line());
        if let (Some(project), Some(version)) = (&origin.project, &origin.version) {
            let _ = write!(line, "  {project} {version}");
        }
    }
    if let Some(made_from) = &file.made_from {
        let _ = write!(line, "  ← {made_from}");
    }
    if let Some(license) = &file.license {
        let _ = write!(line, "  [{license}]");
    }
    line
}

fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Signed => "installer.standing.signed",
        Standing::Derived => "installer.standing.derived",
        Standing::FromWheel => "installer.standing.from-wheel",
        Standing::MadeOnSite => "installer.standing.made-on-site",
        Standing::Missing => "installer.standing.missing",
        Standing::Changed => "installer.standing.changed",
        Standing::NotExecutable => "installer.standing.not-executable",
        Standing::Unsigned => "installer.standing.unsigned",
    }
}
