//! `uninstall`: one release, or everything that was installed.

use std::path::{Path, PathBuf};

use console::View;
use install_steps::{
    Guard, Journal, OnMachine, Prefix, RealDisk, ReleaseName, on_machine, removable, remove,
    remove_all,
};
use report::{Outcome, Trouble};
use serde_json::json;

use crate::cli::At;
use crate::machine::played_or_real;
use crate::units::unlink_all;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Remove only this release, which must not be the current one
    #[arg(long, value_name = "RELEASE", value_parser = super::rollback::release_name)]
    release: Option<ReleaseName>,
    /// Say what would be removed and change nothing
    #[arg(long)]
    dry_run: bool,
    /// A folder that plays the machine; for tests
    #[arg(long, value_name = "DIR", hide = true)]
    machine: Option<PathBuf>,
    #[command(flatten)]
    at: At,
}

impl Args {
    pub(crate) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let prefix = self.at.prefix()?;
        let gone = match &self.release {
            Some(only) => {
                removable(&prefix, only)?;
                vec![only.clone()]
            }
            None => prefix.installed()?,
        };
        let names: Vec<&str> = gone.iter().map(ReleaseName::as_str).collect();
        let names = if names.is_empty() {
            "-".to_owned()
        } else {
            names.join(", ")
        };
        let args = [
            ("releases", names),
            ("prefix", prefix.path().display().to_string()),
        ];
        let stays = self.stays(&prefix)?;
        let value = json!({ "removed": gone, "dry_run": self.dry_run, "on_machine": stays });
        let there = prefix.is_used();
        if self.dry_run || !there {
            let code = if there {
                "installer.would-uninstall"
            } else {
                "installer.empty"
            };
            view.result(&value, &with_stays(view, view.text(code, &args), &stays));
            return Ok(Outcome::Done);
        }
        if !view.confirm("installer.uninstall-question", &args, "--yes")? {
            let none: &[(&str, String)] = &[];
            view.note("installer.nothing-done", none);
            return Ok(Outcome::Failed);
        }
        let guard = Guard::take(&RealDisk, &prefix, "uninstall")?;
        if let Some(only) = &self.release {
            remove(&RealDisk, &guard, &prefix, only)?;
        } else {
            let root = self.machine.as_deref().unwrap_or(Path::new("/"));
            unlink_all(view, root, &guard, &prefix)?;
            remove_all(&RealDisk, &guard, &prefix)?;
        }
        let human = view.text("installer.uninstalled", &args);
        view.result(&value, &with_stays(view, human, &stays));
        Ok(Outcome::Done)
    }

    /// What `--with-driver` and `--with-toolkit` put on the machine, which other programs may use by now.
    fn stays(&self, prefix: &Prefix) -> Result<Vec<OnMachine>, Trouble> {
        if self.release.is_some() {
            return Ok(Vec::new());
        }
        let machine = played_or_real(self.machine.as_deref());
        Ok(on_machine(&Journal::read(prefix)?, &*machine))
    }
}

/// The result, and below it how a person takes off what stays on the machine.
fn with_stays(view: &View, human: String, stays: &[OnMachine]) -> String {
    if stays.is_empty() {
        return human;
    }
    let line = |one: &OnMachine| format!("  - {}", view.text(one.code(), &one.args()));
    let lines: Vec<String> = stays.iter().map(line).collect();
    let args = [("steps", lines.join("\n"))];
    let stays = view.text("installer.stays-on-machine", &args);
    [human, stays].join("\n")
}
