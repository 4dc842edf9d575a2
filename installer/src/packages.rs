//! The bundle's packages for this machine's operating system: placed always, installed when asked.
//!
//! Where a driver is installed in the same run they come first, from a repository that is laid out for that alone: a
//! driver is built with them. Else they come last, from the release.

use std::path::PathBuf;

use bundle_format::Verified;
use console::View;
use host_probe::{Host, installed_packages, packages_for, planned_packages, system_of};
use install_steps::{
    Action, Guard, Journal, Manager, Prefix, RealDisk, Resume, stage_packages, unstage_packages,
};
use manifest_schema::site::Site;
use manifest_schema::{ByteSize, OsPackages, PackageSetName};
use report::{Args, Diagnose, Outcome, Step, Trouble};

use crate::machine::program_folders;

/// Whether the package manager is to work.
#[derive(clap::Args, Debug)]
pub(crate) struct PackagesFlag {
    /// Let the system's package manager install the bundle's packages for this system; root only
    ///
    /// What it would do is shown, and asked about, first. With `--with-driver` or `--with-toolkit` they come before
    /// the driver, which is built with them. Without this the packages are placed, and the command that installs them
    /// is shown.
    #[arg(long)]
    pub(crate) with_os_packages: bool,
}

impl PackagesFlag {
    /// The machine as it will be when its packages are installed, where they are to be.
    pub(crate) fn planned(&self, site: &Site, sets: &[OsPackages]) -> Site {
        match packages_for(site, sets).filter(|_| self.with_os_packages) {
            Some(set) => planned_packages(site, set),
            None => site.clone(),
        }
    }
}

/// Why packages cannot be installed here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackagesUnfit {
    /// The bundle has none for this system.
    #[error("the bundle has no packages for this system; it has them for {known}")]
    None { known: String },
    /// Only root may.
    #[error("packages can be installed by root alone")]
    NotRoot,
}

impl Diagnose for PackagesUnfit {
    fn code(&self) -> &'static str {
        match self {
            Self::None { .. } => "installer.packages-none",
            Self::NotRoot => "installer.packages-not-root",
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::None { known } => vec![("known", known.clone())],
            Self::NotRoot => Args::new(),
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::None { .. } => Outcome::HardwareUnfit,
            Self::NotRoot => Outcome::Usage,
        }
    }
}

/// The set for this machine, where the bundle has one.
pub(crate) struct Packages<'a> {
    prefix: &'a Prefix,
    set: Option<OsPackages>,
    manager: Option<Manager>,
    known: String,
}

impl<'a> Packages<'a> {
    /// `own` are folders of programs that are looked in before the usual ones.
    pub(crate) fn of(
        site: &Site,
        bundle: &Verified,
        prefix: &'a Prefix,
        own: Option<PathBuf>,
    ) -> Self {
        let sets = &bundle.profiles.os_packages;
        let set = packages_for(site, sets);
        let known: Vec<String> = sets.iter().map(system_of).collect();
        let folders: Vec<PathBuf> = own.into_iter().chain(program_folders()).collect();
        Self {
            prefix,
            set: set.cloned(),
            manager: set.map(|set| Manager::find(set, prefix, &folders)),
            known: if known.is_empty() {
                "-".to_owned()
            } else {
                known.join(", ")
            },
        }
    }

    /// Name of the set.
    pub(crate) fn set(&self) -> Option<PackageSetName> {
        self.set.as_ref().map(|set| set.name.clone())
    }

    /// For another program: where the packages are, and the command that installs them.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let both = self.manager.as_ref().zip(self.set.as_ref());
        both.map_or(serde_json::Value::Null, |(manager, set)| {
            serde_json::json!({
                "set": set.name, "folder": manager.folder(), "command": manager.command(),
                "wanted": manager.wanted(),
            })
        })
    }

    /// What `--with-os-packages` would install, for a person; nothing where it was not given.
    pub(crate) fn lines(&self, view: &View, machine: &dyn Host, wanted: bool) -> Option<String> {
        let (manager, set) = self.manager.as_ref().zip(self.set.as_ref())?;
        if !wanted {
            return None;
        }
        let missing = missing(set, machine);
        if missing.is_empty() {
            let args = [("set", set.name.to_string())];
            return Some(view.text("installer.packages-there", &args));
        }
        let bytes: u64 = missing.iter().map(|one| one.file.size.0).sum();
        let line = |one: &&manifest_schema::OsPackage| {
            format!("      {} {} {}", one.name, one.version, one.arch)
        };
        let args = [
            ("set", set.name.to_string()),
            ("count", missing.len().to_string()),
            ("bytes", ByteSize(bytes).to_string()),
            (
                "packages",
                missing.iter().map(line).collect::<Vec<_>>().join("\n"),
            ),
            ("command", manager.command()),
        ];
        Some(view.text("installer.packages-would", &args))
    }

    /// Says no before anything is done, where packages are asked for and cannot be installed.
    pub(crate) fn refuse_unable(&self, dry_run: bool) -> Result<(), PackagesUnfit> {
        if self.manager.is_none() {
            let known = self.known.clone();
            return Err(PackagesUnfit::None { known });
        }
        if !dry_run && !Manager::may_install() {
            return Err(PackagesUnfit::NotRoot);
        }
        Ok(())
    }

    /// Before a driver: lets the package manager work on a repository of its own. Returns whether it went on; a person
    /// may say no.
    pub(crate) fn first(
        &self,
        view: &View,
        guard: &Guard,
        bundle: &Verified,
    ) -> Result<bool, Trouble> {
        let (Some(manager), Some(set)) = (&self.manager, &self.set) else {
            return Ok(true);
        };
        if self.were_done(&set.name)? {
            return Ok(true);
        }
        let folder = stage_packages(&RealDisk, guard, self.prefix, bundle, set, view)?;
        let manager = manager.clone().reading(&folder);
        let went_on = self.install(view, guard, &manager, &|| ());
        unstage_packages(&RealDisk, self.prefix, &set.name)?;
        went_on
    }

    /// After the release is in place: lets the package manager work where that was asked for, else says how.
    pub(crate) fn finish(
        &self,
        view: &View,
        guard: &Guard,
        wanted: bool,
    ) -> Result<Outcome, Trouble> {
        let Some(manager) = &self.manager else {
            return Ok(Outcome::Done);
        };
        let placed = || {
            let folder = manager.folder().display().to_string();
            let args = [("folder", folder), ("command", manager.command())];
            view.note("installer.packages-placed", &args);
        };
        if !wanted {
            placed();
            return Ok(Outcome::Done);
        }
        Ok(if self.install(view, guard, manager, &placed)? {
            Outcome::Done
        } else {
            Outcome::Failed
        })
    }

    /// Shows what the package manager would do, asks, and lets it. `otherwise` says how a person does it later.
    fn install(
        &self,
        view: &View,
        guard: &Guard,
        manager: &Manager,
        otherwise: &dyn Fn(),
    ) -> Result<bool, Trouble> {
        let none: &[(&str, String)] = &[];
        let step = Step::start(view, "install.working.packages", "", None, "steps");
        let said = manager.preview(&|| step.progress(0));
        let said = said.inspect_err(|_| otherwise())?;
        step.finish();
        view.note(
            "installer.packages-preview",
            &[("said", said.trim_end().to_owned())],
        );
        if !view.confirm("installer.packages-question", none, "--yes")? {
            otherwise();
            return Ok(false);
        }
        let step = Step::start(view, "install.working.packages", "", None, "steps");
        let installed = manager.install_all(&RealDisk, guard, self.prefix, &|| step.progress(0));
        installed.inspect_err(|_| otherwise())?;
        step.finish();
        let args = [("packages", manager.wanted().join(" "))];
        view.note("installer.packages-done", &args);
        Ok(true)
    }

    /// Whether the work that is taken up again has installed them before the machine was started anew.
    fn were_done(&self, set: &PackageSetName) -> Result<bool, Trouble> {
        if Resume::read(self.prefix).is_err() {
            return Ok(false);
        }
        let journal = Journal::read(self.prefix)?;
        let mut ends = journal.entries().iter().rev();
        let last = ends.find_map(|entry| match &entry.action {
            Action::OsPackages {
                set: of, result, ..
            } if of == set => Some(result == "done"),
            _ => None,
        });
        Ok(last == Some(true))
    }
}

/// The packages of a set that the machine does not have in this version; all where it does not say what it has.
fn missing<'s>(set: &'s OsPackages, machine: &dyn Host) -> Vec<&'s manifest_schema::OsPackage> {
    let there = installed_packages(machine).filter(|list| list.format == Some(set.format));
    let there = there.map_or_else(Vec::new, |list| list.packages);
    let is_there = |one: &manifest_schema::OsPackage| {
        let same = |known: &manifest_schema::InstalledPackage| {
            known.name == one.name.as_str() && known.version == one.version.as_str()
        };
        there.iter().any(same)
    };
    set.packages.iter().filter(|one| !is_there(one)).collect()
}
