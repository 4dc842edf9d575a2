//! `install`: verify, check the machine, show the plan, carry it out.

use std::cell::RefCell;
use std::path::PathBuf;
use std::thread::available_parallelism;

use bundle_format::Verified;
use console::View;
use host_probe::{Check, Host, probe};
use install_steps::{
    Choices, Guard, HostPlan, InstallPlan, Prefix, RealDisk, accept_terms, install, pending_terms,
};
use manifest_schema::site::Site;
use manifest_schema::{Backend, BackendName};
use report::{Event, Outcome, Sink, Trouble};

use super::install_shown::{Shown, finished, steps};
use crate::cli::At;
use crate::discs;
use crate::facts::FactFlags;
use crate::layer::{self, LayerFlags, Place, judge};
use crate::machine::{check_line, choose, program_folders, refuse_unfit};
use crate::packages::{Packages, PackagesFlag};
use crate::place::{note_strangers, refuse_place};
use crate::resume::resume;
use crate::terms::{AcceptFlags, login};
use crate::trust::Root;
use crate::units::UnitFlags;
use crate::vendor::Vendor;

#[derive(clap::Args, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one switch of the command line"
)]
pub(crate) struct Args {
    /// The bundle; of one in volumes any of them, or the folders and discs that they are on
    #[arg(required_unless_present = "resume")]
    bundle: Vec<PathBuf>,
    /// Install this backend instead of the one that fits best
    #[arg(long, visible_alias = "profile", value_name = "NAME")]
    backend: Option<BackendName>,
    /// Waive the check with this code, where it may be waived (can be repeated)
    #[arg(long = "override", value_name = "CODE")]
    overridden: Vec<String>,
    /// Let an older release replace a newer one; this is logged
    #[arg(long)]
    allow_downgrade: bool,
    /// Show the steps and every command, and change nothing
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
    /// Go on with an install that waited for a start of the machine
    #[arg(long, conflicts_with_all = ["bundle", "dry_run"])]
    pub(crate) resume: bool,
    #[command(flatten)]
    facts: FactFlags,
    #[command(flatten)]
    layer: LayerFlags,
    #[command(flatten)]
    units: UnitFlags,
    #[command(flatten)]
    terms: AcceptFlags,
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
        if self.resume {
            return resume(view, &prefix);
        }
        let mut bundle = self.root.open_at_hand(view, &self.bundle, &prefix)?;
        let place = self.bundle.first().cloned().unwrap_or_default();
        let machine = self.layer.host(self.host.as_deref())?;
        let site = self.site(&*machine)?;
        let packages = Packages::of(&site, &bundle, &prefix, self.layer.programs());
        if self.packages.with_os_packages {
            packages.refuse_unable(self.dry_run)?;
        }
        let judged = self.packages.planned(&site, &bundle.profiles.os_packages);
        let choice = self.choose(view, &bundle, &prefix, &judged, &*machine)?;
        let choices = Choices {
            backend: choice.backend.clone(),
            arch: site.arch.as_ref().map(|fact| fact.value),
            os_packages: packages.set(),
            allow_downgrade: self.allow_downgrade,
            program_folders: program_folders(),
            waived: choice.waived.clone(),
            facts: self.facts.to_map(),
        };
        let preview = InstallPlan::compute(&bundle, &prefix, &choices)?;
        preview.room_for(&prefix, choice.host.needed)?;
        // A recorded machine's disk is not here.
        if self.host.is_none() {
            let runs_programs = preview.runs_programs() || !choice.host.is_empty();
            refuse_place(&prefix, runs_programs, self.dry_run)?;
            note_strangers(view, &prefix)?;
        }
        let kinds = choice.host.kinds();
        if !self.dry_run {
            discs::refuse_unattended(view, &bundle, &prefix, (&preview, &choice.host))?;
        }
        let backend = choice.backend.as_ref();
        let open = discs::for_terms(view, &mut bundle, &place, |bundle| {
            pending_terms(bundle, &prefix, backend, &kinds)
        })?;
        let packages_first = self.packages.with_os_packages && !kinds.is_empty();
        let of_packages = packages.lines(view, &*machine, self.packages.with_os_packages);
        if self.dry_run {
            let vendor = Vendor::of(view, &bundle, &prefix, backend, &kinds);
            let units = self.units.lines(view, self.layer.root(), &prefix, &preview);
            Shown {
                plan: &preview,
                host: &choice.host,
                terms: &open,
                units: &units,
                vendor: &vendor,
                packages: &packages,
                of_packages: of_packages.as_deref(),
            }
            .show(view);
            vendor.refuse()?;
            return Ok(Outcome::Done);
        }
        let mut lines = vec![steps(view, &preview)];
        lines.extend(self.units.lines(view, self.layer.root(), &prefix, &preview));
        lines.extend(of_packages);
        view.note("installer.plan", &[("steps", lines.join("\n"))]);
        if self.verify_first {
            verify_wholly(view, &bundle)?;
        }
        let accepted = self.terms.settle(view, open)?;
        if !confirm(view, &prefix, &choice.host)? {
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
        accept_terms(&RealDisk, &guard, &prefix, &accepted, login().as_deref())?;
        let plans = (&preview, &choice.host);
        discs::take_in(view, &guard, &prefix, &mut bundle, plans, &place)?;
        if packages_first {
            if !packages.first(view, &guard, &bundle)? {
                return Ok(Outcome::Failed);
            }
            self.judge_again(view, &bundle, &choice, &*machine)?;
        }
        let waits = self.layer(view, &bundle, &prefix, &guard, &choice, &*machine)?;
        if let Some(outcome) = waits {
            return Ok(outcome);
        }
        // Once more: between the question and the lock another installer may have finished.
        let plan = InstallPlan::compute(&bundle, &prefix, &choices)?;
        install(&RealDisk, &guard, &prefix, &bundle, &plan, view)?;
        let root = self.layer.root();
        self.units.settle(view, root, &guard, &prefix, &plan)?;
        let done = if packages_first {
            Outcome::Done
        } else {
            packages.finish(view, &guard, self.packages.with_os_packages)?
        };
        finished(view, &prefix, &plan, &packages);
        Ok(done)
    }

    /// What the probe finds, with the facts that a person stated in their place.
    fn site(&self, machine: &dyn Host) -> Result<Site, Trouble> {
        let mut site = probe(machine);
        self.facts.apply(&mut site)?;
        Ok(site)
    }

    /// The backend, judged on the machine as it will be when its installers have run.
    fn choose(
        &self,
        view: &View,
        bundle: &Verified,
        prefix: &Prefix,
        site: &Site,
        machine: &dyn Host,
    ) -> Result<Choice, Trouble> {
        let backends = &bundle.profiles.backends;
        let plan_of = |backend: &Backend| self.layer.plan_if_any(backend, site, machine, prefix);
        // A plan that cannot be made is an error where it keeps its backend from being chosen.
        let failed = RefCell::new(None);
        let judged = |backend: &Backend| {
            let plan = plan_of(backend).unwrap_or_else(|error| {
                failed.borrow_mut().get_or_insert(error);
                HostPlan::default()
            });
            judge(site, backend, &plan)
        };
        let wanted = self.backend.as_ref();
        let chosen = choose(site, backends, wanted, &self.overridden, judged);
        if let (Err(_), Some(error)) = (&chosen, failed.take()) {
            return Err(error.into());
        }
        let chosen = chosen?;
        let Some((name, checks)) = chosen else {
            return Ok(Choice::default());
        };
        let found = backends.iter().find(|backend| backend.name == name);
        let host = match found {
            Some(backend) => self.layer.plan(backend, site, machine, prefix)?,
            None => HostPlan::default(),
        };
        refuse_unfit(view, &name, &checks, &self.overridden)?;
        let lines: Vec<String> = checks.iter().map(|check| check_line(view, check)).collect();
        let args = [("backend", name.to_string()), ("checks", lines.join("\n"))];
        view.note("installer.chosen", &args);
        self.facts.note(view);
        Ok(Choice {
            backend: Some(name),
            waived: waived(view, &checks, &self.overridden),
            host,
        })
    }

    /// The checks once more, on the machine with its new packages: whether they are what was hoped for.
    fn judge_again(
        &self,
        view: &View,
        bundle: &Verified,
        choice: &Choice,
        machine: &dyn Host,
    ) -> Result<(), Trouble> {
        let mut backends = bundle.profiles.backends.iter();
        let chosen = backends.find(|one| Some(&one.name) == choice.backend.as_ref());
        if let Some(backend) = chosen {
            let checks = judge(&self.site(machine)?, backend, &choice.host);
            refuse_unfit(view, &backend.name, &checks, &self.overridden)?;
        }
        Ok(())
    }

    /// Does what was asked for to the machine itself. `Some` where the install cannot go on before a start.
    fn layer(
        &self,
        view: &View,
        bundle: &Verified,
        prefix: &Prefix,
        guard: &Guard,
        choice: &Choice,
        machine: &dyn Host,
    ) -> Result<Option<Outcome>, Trouble> {
        let backends = &bundle.profiles.backends;
        let backend = backends
            .iter()
            .find(|one| Some(&one.name) == choice.backend.as_ref());
        let Some(backend) = backend else {
            return Ok(None);
        };
        let place = Place {
            host: machine,
            prefix,
            bundle,
            backend,
        };
        let waits = self.layer.run(view, &place, guard, &choice.host)?;
        if !waits.is_empty() {
            layer::reboot_needed(view, prefix, &waits);
            return Ok(Some(Outcome::Unfinished));
        }
        if !choice.host.is_empty() {
            // What the new files say of each other is known only now.
            let checks = judge(&self.site(machine)?, backend, &HostPlan::default());
            refuse_unfit(view, &backend.name, &checks, &self.overridden)?;
        }
        Ok(None)
    }
}

/// What was settled about the machine.
#[derive(Default)]
struct Choice {
    backend: Option<BackendName>,
    /// Codes of checks that would stop and were waived.
    waived: Vec<String>,
    host: HostPlan,
}

/// The checks that a person waived, each said once more.
fn waived(view: &View, checks: &[Check], overridden: &[String]) -> Vec<String> {
    let waived = checks
        .iter()
        .filter(|check| check.stops(&[]) && !check.stops(overridden));
    let codes: Vec<String> = waived.map(|check| check.code.to_owned()).collect();
    for code in &codes {
        view.note("installer.waived", &[("code", code.clone())]);
    }
    codes
}

/// First what changes the machine itself, then the rest.
fn confirm(view: &View, prefix: &Prefix, host: &HostPlan) -> Result<bool, Trouble> {
    if !host.is_empty() {
        view.note(
            "installer.host-plan",
            &[("steps", layer::steps(view, host))],
        );
        let none: &[(&str, String)] = &[];
        if !view.confirm("installer.host-question", none, "--yes")? {
            return Ok(false);
        }
    }
    let args = [("prefix", prefix.path().display().to_string())];
    Ok(view.confirm("installer.install-question", &args, "--yes")?)
}

/// Reads the whole bundle, before anything of it is installed.
fn verify_wholly(view: &View, bundle: &Verified) -> Result<(), Trouble> {
    if !bundle.is_complete() {
        return Err(bundle.without(&bundle.missing()).into());
    }
    let threads = available_parallelism().map_or(2, usize::from);
    Ok(bundle.verify_all(threads, view)?)
}
