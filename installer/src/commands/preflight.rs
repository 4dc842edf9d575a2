//! `preflight`: would it work here, and what to do where not.

use std::path::PathBuf;

use console::View;
use host_probe::{fit, probe};
use install_steps::{Choices, InstallPlan};
use manifest_schema::BackendName;
use report::{Outcome, Trouble};
use serde_json::json;

use crate::cli::At;
use crate::machine::{check_json, check_line, host, program_folders};
use crate::trust::Root;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The bundle
    bundle: PathBuf,
    /// Judge only this backend
    #[arg(long, value_name = "NAME")]
    backend: Option<BackendName>,
    /// Judge a machine that was recorded in this folder
    #[arg(long, value_name = "DIR")]
    host: Option<PathBuf>,
    /// Waive the check with this code, where it may be waived (can be repeated)
    #[arg(long = "override", value_name = "CODE")]
    overridden: Vec<String>,
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    root: Root,
}

impl Args {
    pub(crate) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let prefix = self.at.prefix()?;
        let bundle = self.root.open(view, &self.bundle, &prefix)?;
        let site = probe(&*host(self.host.as_deref())?);
        let mut lines = Vec::new();
        let mut verdicts = Vec::new();
        let mut fits = bundle.profiles.backends.is_empty();
        let wanted = |name: &BackendName| self.backend.as_ref().is_none_or(|only| only == name);
        for backend in bundle.profiles.backends.iter().filter(|b| wanted(&b.name)) {
            let checks = fit(&site, backend);
            let good = !checks.iter().any(|check| check.stops(&self.overridden));
            fits |= good;
            let code = if good {
                "installer.fits"
            } else {
                "installer.fits-not"
            };
            lines.push(view.text(code, &[("backend", backend.name.to_string())]));
            lines.extend(checks.iter().map(|check| check_line(view, check)));
            let checks: Vec<_> = checks.iter().map(check_json).collect();
            verdicts.push(json!({ "backend": backend.name, "fits": good, "checks": checks }));
        }
        let chosen = crate::machine::choose(
            &site,
            &bundle.profiles.backends,
            self.backend.as_ref(),
            &self.overridden,
        );
        // A recorded machine's disk is not here to be measured.
        if let (true, None, Ok(chosen)) = (fits, &self.host, chosen) {
            let choices = Choices {
                backend: chosen.map(|(name, _)| name),
                allow_downgrade: true,
                program_folders: program_folders(),
            };
            let plan = InstallPlan::compute(&bundle, &prefix, &choices)?;
            let args = [
                ("needed", plan.needed.to_string()),
                ("free", plan.free.to_string()),
            ];
            lines.push(view.text("installer.space", &args));
        }
        let value = json!({ "fits": fits, "backends": verdicts });
        view.result(&value, &lines.join("\n"));
        Ok(if fits {
            Outcome::Done
        } else {
            Outcome::HardwareUnfit
        })
    }
}
