//! `audit`: every installed file, and by what right it is there.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::ValueEnum;
use console::View;
use install_steps::{
    Audit, AuditError, AuditedFile, Journal, Loose, Prefix, ReleaseName, Standing, Unlogged, audit,
    loose, unlogged,
};
use manifest_schema::{CodeOnLoad, KeyId};
use report::{Outcome, Trouble};
use serde::Serialize;
use serde_json::json;

use super::{audit_report, log};
use crate::cli::At;
use crate::unread::Unread;
use crate::write::write_new;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Audit this release instead of the current one
    #[arg(long, value_name = "RELEASE", value_parser = super::rollback::release_name)]
    release: Option<ReleaseName>,
    /// Audit every release, the log against what is there, and who else could change it
    #[arg(long, conflicts_with = "release")]
    deep: bool,
    /// Also write the whole audit as a document
    #[arg(long, value_name = "FORM")]
    report: Option<Form>,
    /// Where to write the document [default: ferry-audit.html or ferry-audit.json]
    #[arg(long, value_name = "FILE", requires = "report")]
    output: Option<PathBuf>,
    #[command(flatten)]
    at: At,
}

/// Form of a document.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    /// A page that needs nothing but a browser.
    Html,
    /// For other programs.
    Json,
}

/// All that was found.
#[derive(Default, Serialize)]
pub(super) struct Findings {
    pub(super) audits: Vec<Audit>,
    pub(super) unlogged: Vec<Unlogged>,
    pub(super) loose: Vec<Loose>,
    /// What could not be looked at.
    #[serde(serialize_with = "as_errors")]
    pub(super) unread: Unread,
}

fn as_errors<S: serde::Serializer>(unread: &Unread, to: S) -> Result<S::Ok, S::Error> {
    unread.to_json().serialize(to)
}

impl Findings {
    /// How many things are not as they should be. A `current` that lags behind the log is a power cut's doing.
    pub(super) fn wrong(&self) -> usize {
        let files: usize = self
            .audits
            .iter()
            .map(|audit| audit.problems().count())
            .sum();
        let forged = |found: &&Unlogged| !matches!(found, Unlogged::Current { .. });
        files + self.loose.len() + self.unlogged.iter().filter(forged).count()
    }
}

impl Args {
    pub(crate) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let prefix = self.at.prefix()?;
        let names = self.names(&prefix)?;
        let mut findings = Findings::default();
        let unread = &mut findings.unread;
        let journal = unread.take(Journal::read(&prefix));
        for name in &names {
            let found = audit(&prefix, name, journal.as_ref(), view);
            if self.deep {
                findings.audits.extend(unread.take(found));
            } else {
                findings.audits.push(found?);
            }
        }
        if self.deep {
            if let Some(journal) = &journal {
                let found = unread.take(unlogged(&prefix, journal));
                findings.unlogged = found.unwrap_or_default();
            }
            findings.loose = unread.take(loose(&prefix)).unwrap_or_default();
        }
        let mut shown = Vec::new();
        for audit in &findings.audits {
            shown.extend(lines(view, &audit.files));
            shown.push(summary(view, audit));
        }
        shown.extend(findings.unlogged.iter().map(|found| log::line(view, found)));
        let none: &[(&str, String)] = &[];
        shown.extend(
            findings
                .loose
                .iter()
                .map(|loose| format!("✗ {}  {}", loose.path, view.text(loose.how.code(), none))),
        );
        let written = self.write(view, &findings)?;
        if let Some(path) = &written {
            shown.push(view.text(
                "installer.audit-written",
                &[("path", path.display().to_string())],
            ));
        }
        let wrong = findings.wrong();
        let value = json!({
            "good": wrong == 0 && findings.unread.is_empty(), "wrong": wrong, "audit": findings.audits.first(),
            "audits": if self.deep { json!(findings.audits) } else { json!(null) },
            "unlogged": findings.unlogged, "loose": findings.loose, "report": written,
            "unread": findings.unread.to_json(),
        });
        view.result(&value, &shown.join("\n"));
        let outcome = if wrong == 0 {
            Outcome::Done
        } else {
            Outcome::Untrusted
        };
        Ok(findings.unread.end(view, outcome))
    }

    fn names(&self, prefix: &Prefix) -> Result<Vec<ReleaseName>, Trouble> {
        let nothing = || AuditError::NothingInstalled {
            prefix: prefix.path().to_owned(),
        };
        let names = match &self.release {
            Some(name) => vec![name.clone()],
            None if self.deep => prefix.installed()?,
            None => prefix.current()?.into_iter().collect(),
        };
        if names.is_empty() {
            Err(nothing().into())
        } else {
            Ok(names)
        }
    }

    fn write(&self, view: &View, findings: &Findings) -> Result<Option<PathBuf>, Trouble> {
        let Some(form) = self.report else {
            return Ok(None);
        };
        let (name, text) = match form {
            Form::Html => ("ferry-audit.html", audit_report::page(view, findings)),
            Form::Json => {
                let text = serde_json::to_string_pretty(findings).unwrap_or_default();
                ("ferry-audit.json", text + "\n")
            }
        };
        let path = self.output.clone().unwrap_or_else(|| PathBuf::from(name));
        write_new(&path, text.as_bytes())?;
        Ok(Some(path))
    }
}

/// How one release stands as a whole.
pub(super) fn summary(view: &View, audit: &Audit) -> String {
    let wrong = audit.problems().count();
    let keys: Vec<&str> = audit.keys.iter().map(KeyId::as_str).collect();
    let args = [
        ("release", audit.release.to_string()),
        ("files", audit.files.len().to_string()),
        ("wrong", wrong.to_string()),
        ("keys", keys.join(", ")),
        ("root", audit.root.hex()),
    ];
    let code = if wrong == 0 {
        "installer.audit-good"
    } else {
        "installer.audit-bad"
    };
    let said = view.text(code, &args);
    let Some(entries) = audit.log_entries else {
        return said;
    };
    let log = view.text("installer.audit-log", &[("entries", entries.to_string())]);
    format!("{said}\n  {log}")
}

/// A line for each file; unless `--verbose` is given, one for all good files of a wheel, which can be thousands,
/// and one for all that uv made around them.
fn lines(view: &View, files: &[AuditedFile]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut many: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for file in files {
        let code = match (file.standing, file.made_from.as_deref()) {
            (Standing::FromWheel, _) => "installer.audit-wheel",
            (Standing::MadeOnSite, Some("uv")) => "installer.audit-uv",
            _ => "",
        };
        match &file.made_from {
            Some(made_from) if !code.is_empty() && !view.is_verbose() => {
                *many.entry((code, made_from)).or_default() += 1;
            }
            _ => lines.push(line(view, file)),
        }
    }
    lines.extend(many.into_iter().map(|((code, made_from), files)| {
        let args = [("files", files.to_string()), ("from", made_from.to_owned())];
        format!("✓ {}", view.text(code, &args))
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
    if let Some(code) = &file.code_on_load {
        let _ = write!(line, "  ⚠ {}", code_on_load(view, code));
    }
    line
}

/// What a file does when it is loaded, and what allows it.
pub(super) fn code_on_load(view: &View, code: &CodeOnLoad) -> String {
    let text = if code.form.runs_unasked() {
        "installer.audit-runs-code"
    } else {
        "installer.audit-brings-program"
    };
    let args = [
        ("form", code.form.as_str().to_owned()),
        ("pattern", code.allowed_by.clone().unwrap_or_default()),
    ];
    view.text(text, &args)
}

pub(super) fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Signed => "installer.standing.signed",
        Standing::Derived => "installer.standing.derived",
        Standing::FromWheel => "installer.standing.from-wheel",
        Standing::MadeOnSite => "installer.standing.made-on-site",
        Standing::Missing => "installer.standing.missing",
        Standing::Changed => "installer.standing.changed",
        Standing::NotExecutable => "installer.standing.not-executable",
        Standing::Unreadable => "installer.standing.unreadable",
        Standing::Unsigned => "installer.standing.unsigned",
    }
}
