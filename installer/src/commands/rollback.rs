//! `rollback`: back to the release that was current before.

use console::View;
use install_steps::{Guard, RealDisk, ReleaseName, rollback, rollback_target};
use report::{Outcome, Trouble};
use serde_json::json;

use crate::cli::At;
use crate::units;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Go to this release instead of the one before
    #[arg(long, value_name = "RELEASE", value_parser = release_name)]
    to: Option<ReleaseName>,
    /// Say where it would go and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    at: At,
}

pub(super) fn release_name(text: &str) -> Result<ReleaseName, String> {
    ReleaseName::try_from(text.to_owned())
}

impl Args {
    pub(crate) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let prefix = self.at.prefix()?;
        let to = rollback_target(&prefix, self.to)?;
        if !self.dry_run {
            let guard = Guard::take(&RealDisk, &prefix, "rollback")?;
            rollback(&RealDisk, &guard, &prefix, &to, view)?;
            units::reread(view, std::path::Path::new("/"), &prefix)?;
        }
        let code = if self.dry_run {
            "installer.would-roll-back"
        } else {
            "installer.rolled-back"
        };
        let human = view.text(code, &[("release", to.to_string())]);
        view.result(&json!({ "current": to, "dry_run": self.dry_run }), &human);
        Ok(Outcome::Done)
    }
}
