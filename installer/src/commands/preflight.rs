//! `preflight`: would it work here, and what to do where not.

use std::path::PathBuf;

use bundle_format::Verified;
use console::View;
use host_probe::{
    Check, Kinship, Verdict, fit_packages, installed_packages, kinship, packages_for, probe,
};
use install_steps::{Choices, InstallPlan, Manager, Place, PlanError, Prefix, pending_terms};
use manifest_schema::site::Site;
use manifest_schema::{Backend, BackendName, HostKind, OsPackages};
use report::{Diagnose, Outcome, Trouble};
use serde_json::{Value, json};

use crate::cli::At;
use crate::facts::FactFlags;
use crate::layer::{LayerFlags, judge};
use crate::machine::{check_json, check_line, choose, program_folders};
use crate::packages::PackagesFlag;
use crate::place::strangers;
use crate::trust::{Root, signers};
use crate::vendor::Vendor;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The bundle
    bundle: PathBuf,
    /// Judge only this backend
    #[arg(long, visible_alias = "profile", value_name = "NAME")]
    backend: Option<BackendName>,
    /// Judge a machine that was recorded in this folder
    #[arg(long, value_name = "DIR")]
    host: Option<PathBuf>,
    /// Waive the check with this code, where it may be waived (can be repeated)
    #[arg(long = "override", value_name = "CODE")]
    overridden: Vec<String>,
    #[command(flatten)]
    facts: FactFlags,
    #[command(flatten)]
    layer: LayerFlags,
    #[command(flatten)]
    packages: PackagesFlag,
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    root: Root,
}

impl Args {
    pub(crate) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let prefix = self.at.prefix()?;
        let bundle = self.root.open(view, &self.bundle, &prefix)?;
        let machine = self.layer.host(self.host.as_deref())?;
        let mut site = probe(&*machine);
        self.facts.apply(&mut site)?;
        self.facts.note(view);
        let planned = |backend: &Backend| {
            let plan = self.layer.plan_if_any(backend, &site, &*machine, &prefix);
            plan.unwrap_or_default()
        };
        let with_packages = self.packages.planned(&site, &bundle.profiles.os_packages);
        let judged = |backend: &Backend| judge(&with_packages, backend, &planned(backend));
        let mut report = Report::default();
        report.add(view, "installer.of-bundle", &[], &[trust(&bundle)]);
        let wanted = |name: &BackendName| self.backend.as_ref().is_none_or(|only| only == name);
        let backends = &bundle.profiles.backends;
        for backend in backends.iter().filter(|backend| wanted(&backend.name)) {
            let asked = self.backend.is_some();
            let checks = judged(backend);
            report.backend(view, &site, backend, &checks, &self.overridden, asked);
        }
        let chosen = choose(
            &site,
            backends,
            self.backend.as_ref(),
            &self.overridden,
            judged,
        );
        let chosen = match chosen {
            Ok(chosen) => chosen.map(|(name, _)| name),
            Err(trouble) if trouble.diagnose().outcome() == Outcome::HardwareUnfit => {
                report.lines.push(view.explain(&trouble));
                report.verdict(&trouble);
                None
            }
            Err(trouble) => return Err(trouble),
        };
        let sets = &bundle.profiles.os_packages;
        let set = packages_for(&site, sets);
        if !sets.is_empty() {
            let installed = installed_packages(&*machine);
            let command =
                |set: &OsPackages| Manager::find(set, &prefix, &program_folders()).command();
            let checks = fit_packages(&site, installed.as_ref(), sets, &command);
            let name = set.map_or_else(|| "-".to_owned(), |set| set.name.to_string());
            report.add(view, "installer.of-packages", &[("set", name)], &checks);
        }
        let mut of_chosen = backends
            .iter()
            .filter(|one| Some(&one.name) == chosen.as_ref());
        let kinds = of_chosen.next().map(|one| planned(one).kinds());
        let kinds = kinds.unwrap_or_default();
        let vendor = Vendor::of(view, &bundle, &prefix, chosen.as_ref(), &kinds);
        if !vendor.checks.is_empty() {
            report.add(view, "installer.of-vendor", &[], &vendor.checks);
            report.fits &= !vendor.checks.iter().any(|check| check.stops(&[]));
        }
        // A recorded machine's disk is not here to be measured.
        if self.host.is_none() && report.fits {
            let choices = Choices {
                backend: chosen.clone(),
                arch: site.arch.as_ref().map(|fact| fact.value),
                os_packages: set.map(|set| set.name.clone()),
                allow_downgrade: self
                    .overridden
                    .iter()
                    .any(|code| code == "install.downgrade"),
                program_folders: program_folders(),
                ..Choices::default()
            };
            let mut checks = of_prefix(&bundle, &prefix, &choices)?;
            checks.extend(terms(&bundle, &prefix, chosen.as_ref(), &kinds)?);
            report.add(
                view,
                "installer.of-prefix",
                &[("prefix", at(&prefix))],
                &checks,
            );
            report.fits &= !checks.iter().any(|check| check.stops(&self.overridden));
        }
        let (code, name) = match (&chosen, report.fits) {
            (Some(name), true) => ("installer.would-install", name.to_string()),
            (None, true) => ("installer.would-install-data", String::new()),
            (_, false) => ("installer.would-not-install", String::new()),
        };
        report.lines.push(view.text(code, &[("backend", name)]));
        let value = json!({
            "fits": report.fits, "chosen": chosen.filter(|_| report.fits), "checks": report.checks,
            "backends": report.backends, "error": report.error,
        });
        view.result(&value, &report.lines.join("\n"));
        Ok(if report.fits {
            Outcome::Done
        } else {
            Outcome::HardwareUnfit
        })
    }
}

/// What is shown in the end.
struct Report {
    fits: bool,
    lines: Vec<String>,
    /// Checks of the bundle and of the prefix.
    checks: Vec<Value>,
    backends: Vec<Value>,
    error: Option<Value>,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            fits: true,
            lines: vec![],
            checks: vec![],
            backends: vec![],
            error: None,
        }
    }
}

impl Report {
    fn add(&mut self, view: &View, title: &str, args: &[(&str, String)], checks: &[Check]) {
        self.lines.push(view.text(title, args));
        self.lines
            .extend(checks.iter().map(|check| check_line(view, check)));
        self.checks
            .extend(checks.iter().map(|check| check_json(view, check)));
    }

    /// Every check of a backend; of one for other machines, only why it is.
    fn backend(
        &mut self,
        view: &View,
        site: &Site,
        backend: &Backend,
        checks: &[Check],
        overridden: &[String],
        asked: bool,
    ) {
        let good = !checks.iter().any(|check| check.stops(overridden));
        let other =
            |check: &&Check| check.verdict == Verdict::Stop && ELSEWHERE.contains(&check.code);
        let stranger = kinship(site, backend) < Kinship::SameChip;
        let elsewhere = checks.iter().find(other).filter(|check| {
            !asked && !view.is_verbose() && (stranger || check.code == "host.arch")
        });
        let code = match (good, elsewhere) {
            (true, _) => "installer.fits",
            (false, None) => "installer.fits-not",
            (false, Some(_)) => "installer.fits-elsewhere",
        };
        self.lines
            .push(view.text(code, &[("backend", backend.name.to_string())]));
        match elsewhere {
            Some(check) => self
                .lines
                .push(format!("  - {}", view.text(check.code, &check.args))),
            None => self
                .lines
                .extend(checks.iter().map(|check| check_line(view, check))),
        }
        let checks: Vec<_> = checks.iter().map(|check| check_json(view, check)).collect();
        self.backends
            .push(json!({ "backend": backend.name, "fits": good, "checks": checks }));
    }

    fn verdict(&mut self, trouble: &Trouble) {
        self.fits = false;
        self.error = Some(trouble.to_json());
    }
}

/// What says that a backend is for other machines than this.
const ELSEWHERE: [&str; 3] = ["host.arch", "host.device-other-chip", "host.device-absent"];

fn at(prefix: &Prefix) -> String {
    prefix.path().display().to_string()
}

/// The bundle was opened, so its signatures hold: that is shown with the keys and the root.
fn trust(bundle: &Verified) -> Check {
    Check::new(
        "installer.bundle-trusted",
        Verdict::Pass,
        &signers(bundle),
        &bundle.fingerprint.hex(),
    )
}

/// Terms that somebody will have to accept.
fn terms(
    bundle: &Verified,
    prefix: &Prefix,
    backend: Option<&BackendName>,
    kinds: &[HostKind],
) -> Result<Option<Check>, Trouble> {
    let open = pending_terms(bundle, prefix, backend, kinds)?;
    let names: Vec<&str> = open.iter().map(|term| term.name.as_str()).collect();
    let flags: Vec<String> = names
        .iter()
        .map(|name| format!("--accept-eula {name}"))
        .collect();
    Ok((!names.is_empty()).then(|| {
        let mut check = Check::new("install.terms-open", Verdict::Warn, &names.join(", "), "-");
        check.args.push(("flags", flags.join(" ")));
        check
    }))
}

/// What the prefix lies on. Where nothing can be planned, programs are taken to run.
fn of_place(prefix: &Prefix, plan: Option<&InstallPlan>) -> Result<Check, Trouble> {
    let place = Place::of(prefix)?;
    let obstacle = place.obstacle_to(plan.is_none_or(InstallPlan::runs_programs));
    let (code, verdict) = match obstacle {
        None => ("install.place", Verdict::Pass),
        Some(obstacle) => (obstacle.code(), Verdict::Stop),
    };
    let mut check = Check::new(code, verdict, &place.found(), "-");
    check.args.extend([
        ("mount", place.mount.display().to_string()),
        ("prefix", prefix.path().display().to_string()),
    ]);
    Ok(check)
}

/// The disk below the prefix, the room on it, the log, a Python where one is needed.
fn of_prefix(bundle: &Verified, prefix: &Prefix, choices: &Choices) -> Result<Vec<Check>, Trouble> {
    let plan = InstallPlan::compute(bundle, prefix, choices);
    let mut checks = vec![of_place(prefix, plan.as_ref().ok())?];
    checks.extend(strangers(prefix)?);
    match plan {
        Ok(plan) => {
            let (free, needed) = (plan.free.to_string(), plan.needed.to_string());
            checks.push(Check::new("install.space", Verdict::Pass, &free, &needed));
        }
        Err(PlanError::NoSpace { free, needed, .. }) => {
            let (free, needed) = (free.to_string(), needed.to_string());
            checks.push(Check::new(
                "install.space-missing",
                Verdict::Stop,
                &free,
                &needed,
            ));
        }
        Err(PlanError::NoEntries { free, needed, .. }) => {
            let (free, needed) = (free.to_string(), needed.to_string());
            checks.push(Check::new(
                "install.entries-missing",
                Verdict::Stop,
                &free,
                &needed,
            ));
        }
        Err(error) => {
            let mut check = Check::new(error.code(), Verdict::Stop, &error.to_string(), "-");
            check.args = error.args();
            checks.push(check);
        }
    }
    Ok(checks)
}
