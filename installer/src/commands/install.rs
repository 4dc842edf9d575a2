//! `install`: verify, check the machine, show the plan, carry it out.

use std::path::PathBuf;
use std::thread::available_parallelism;

use console::View;
use host_probe::probe;
use install_steps::{Choices, Guard, InstallPlan, Prefix, RealDisk, install};
use manifest_schema::BackendName;
use report::{Event, Outcome, Sink, Trouble};
use serde_json::json;

use crate::cli::At;
use crate::machine::{check_line, choose, host, program_folders, refuse_unfit};
use crate::trust::Root;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The bundle
    bundle: PathBuf,
    /// Install this backend instead of the one that fits best
    #[arg(long, value_name = "NAME")]
    backend: Option<BackendName>,
    /// Waive the check with this code, where it may be waived (can be repeated)
    #[arg(long = "override", value_name = "CODE")]
    overridden: Vec<String>,
    /// Let an older release replace a newer one; this is logged
    #[arg(long)]
    allow_downgrade: bool,
    /// Show the steps and write nothing
    #[arg(long)]
    dry_run: bool,
    /// With `--dry-run`: plan for a machine that was recorded in this folder
    #[arg(long, value_name = "DIR", requires = "dry_run")]
    host: Option<PathBuf>,
    /// Read and check the whole bundle before the first byte is written
    ///
    /// Without this, each piece is checked as it is written, and all is taken back when one is damaged. That reads
    /// the medium once, and reads only what this machine needs.
    #[arg(long)]
    verify_first: bool,
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
        let backends = &bundle.profiles.backends;
        let chosen = choose(&site, backends, self.backend.as_ref(), &self.overridden)?;
        if let Some((name, checks)) = &chosen {
            refuse_unfit(view, name, checks, &self.overridden)?;
            let passed = checks.iter().map(|check| check_line(view, check));
            let passed: Vec<String> = passed.collect();
            let args = [("backend", name.to_string()), ("checks", passed.join("\n"))];
            view.note("installer.chosen", &args);
        }
        let choices = Choices {
            backend: chosen.map(|(name, _)| name),
            allow_downgrade: self.allow_downgrade,
            program_folders: program_folders(),
        };
        let preview = InstallPlan::compute(&bundle, &prefix, &choices)?;
        if self.dry_run {
            show(view, &preview, true);
            return Ok(Outcome::Done);
        }
        view.note("installer.plan", &[("steps", steps(view, &preview))]);
        if self.verify_first {
            let threads = available_parallelism().map_or(2, usize::from);
            bundle.verify_all(threads, view)?;
        }
        let args = [("prefix", prefix.path().display().to_string())];
        if !view.confirm("installer.install-question", &args, "--yes")? {
            let none: &[(&str, String)] = &[];
            view.note("installer.nothing-done", none);
            return Ok(Outcome::Failed);
        }
        let guard = Guard::take(&RealDisk, &prefix, "install")?;
        if guard.follows_crash {
            view.emit(&Event::Warned {
                code: "install.after-crash".to_owned(),
                args: Vec::new(),
            });
        }
        // Once more: between the question and the lock another installer may have finished.
        let plan = InstallPlan::compute(&bundle, &prefix, &choices)?;
        install(&RealDisk, &guard, &prefix, &bundle, &plan, view)?;
        finished(view, &prefix, &plan);
        Ok(Outcome::Done)
    }
}

fn steps(view: &View, plan: &InstallPlan) -> String {
    let lines = plan.steps.iter().enumerate();
    let lines: Vec<String> = lines
        .map(|(number, step)| format!("  {}. {}", number + 1, view.text(step.code(), &step.args())))
        .collect();
    lines.join("\n")
}

fn show(view: &View, plan: &InstallPlan, dry_run: bool) {
    let value = json!({
        "release": plan.release, "backend": plan.backend.as_ref().map(|b| &b.name),
        "steps": plan.steps, "needed": plan.needed, "free": plan.free, "dry_run": dry_run,
    });
    view.result(&value, &steps(view, plan));
}

fn finished(view: &View, prefix: &Prefix, plan: &InstallPlan) {
    let path = prefix.current_link();
    let human = view.text(
        "installer.installed",
        &[
            ("release", plan.release.to_string()),
            ("path", path.display().to_string()),
        ],
    );
    let value = json!({ "release": plan.release, "current": path, "steps": plan.steps });
    view.result(&value, &human);
}
