//! `gc`: what nothing needs any more.

use console::View;
use install_steps::{Garbage, Guard, RealDisk};
use report::{Outcome, Trouble};
use serde_json::json;

use crate::cli::At;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Say what would be removed and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    at: At,
}

impl Args {
    pub(crate) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let prefix = self.at.prefix()?;
        let mut garbage = Garbage::find(&prefix)?;
        if !self.dry_run && garbage.count() > 0 {
            let guard = Guard::take(&RealDisk, &prefix, "gc")?;
            // Once more: before the lock was taken an install may have made use of it.
            garbage = Garbage::find(&prefix)?;
            garbage.remove(&RealDisk, &guard, &prefix)?;
        }
        let args = [
            ("leftovers", garbage.leftovers.len().to_string()),
            ("blobs", garbage.blobs.len().to_string()),
            ("converted", garbage.converted.len().to_string()),
            ("bytes", garbage.bytes.to_string()),
        ];
        let code = match (garbage.count(), self.dry_run) {
            (0, _) => "installer.gc-nothing",
            (_, true) => "installer.gc-would",
            (_, false) => "installer.gc-done",
        };
        let value = json!({ "garbage": garbage, "dry_run": self.dry_run });
        view.result(&value, &view.text(code, &args));
        Ok(Outcome::Done)
    }
}
