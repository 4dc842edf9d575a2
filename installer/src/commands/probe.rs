//! `probe`: what this machine is.

use std::path::PathBuf;

use console::View;
use host_probe::{FactLine, Host, RealHost, facts, probe, record};
use report::{Diagnose, Outcome, Trouble};

use crate::machine::host;
use crate::site_code;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Look at the system mounted below this folder instead
    #[arg(long, value_name = "DIR", default_value = "/")]
    sysroot: PathBuf,
    /// Keep everything that was read in this folder, to try rules elsewhere
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    /// Look at a machine that was recorded in this folder
    #[arg(long, value_name = "DIR", conflicts_with_all = ["record", "sysroot"])]
    host: Option<PathBuf>,
    /// Show what the builder of a bundle needs as QR codes, to be photographed
    #[arg(long, conflicts_with = "letters")]
    qr: bool,
    /// Show the same in letters, to be copied by hand
    #[arg(long)]
    letters: bool,
}

/// The recording cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot record this machine in `{path}`")]
struct RecordError {
    path: PathBuf,
    source: std::io::Error,
}

impl Diagnose for RecordError {
    fn code(&self) -> &'static str {
        "installer.record-failed"
    }

    fn args(&self) -> report::Args {
        vec![("path", self.path.display().to_string())]
    }

    fn outcome(&self) -> Outcome {
        Outcome::HostFault
    }
}

/// What a fact is called, with the name that `--fact` takes.
fn name_of(view: &View, fact: &FactLine) -> String {
    let none: &[(&str, String)] = &[];
    view.text(&format!("fact.{}", fact.name), none)
}

/// What was found, and where.
fn line_of(view: &View, fact: &FactLine) -> String {
    let args = [
        ("fact", fact.value.clone()),
        ("source", fact.source.clone()),
    ];
    view.text("installer.fact", &args)
}

impl Args {
    pub(crate) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let host: Box<dyn Host> = match self.host {
            Some(folder) => host(Some(&folder))?,
            None => Box::new(RealHost::at(self.sysroot)),
        };
        let site = match self.record {
            None => probe(&*host),
            Some(path) => record(&*host, &path).map_err(|source| RecordError { path, source })?,
        };
        if self.qr {
            return site_code::pictures(view, &site);
        }
        if self.letters {
            return site_code::letters(view, &site);
        }
        let named: Vec<(String, String)> = facts(&site)
            .iter()
            .map(|fact| (name_of(view, fact), line_of(view, fact)))
            .collect();
        let widths = named.iter().map(|(name, _)| console::display_width(name));
        let width = widths.max().unwrap_or(0);
        let line = |(name, line): &(String, String)| {
            let gap = " ".repeat(width - console::display_width(name));
            format!("{name}{gap}  {line}")
        };
        let lines: Vec<String> = named.iter().map(line).collect();
        let value = serde_json::to_value(&site).unwrap_or_default();
        view.result(&value, &lines.join("\n"));
        Ok(Outcome::Done)
    }
}
