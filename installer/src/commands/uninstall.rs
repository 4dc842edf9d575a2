//! `uninstall`: one release, or everything that was installed.

use std::path::{Path, PathBuf};

use console::View;
use install_steps::{Guard, RealDisk, ReleaseName, remove, remove_all};
use report::{Outcome, Trouble};
use serde_json::json;

use crate::cli::At;
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
            Some(only) => vec![only.clone()],
            None => prefix.installed()?,
        };
        let names: Vec<&str> = gone.iter().map(ReleaseName::as_str).collect();
        let args = [
            ("releases", names.join(", ")),
            ("prefix", prefix.path().display().to_string()),
        ];
        let value = json!({ "removed": gone, "dry_run": self.dry_run });
        if self.dry_run || !prefix.path().exists() {
            view.result(&value, &names.join("\n"));
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
        view.result(&value, &view.text("installer.uninstalled", &args));
        Ok(Outcome::Done)
    }
}
