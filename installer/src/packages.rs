//! The bundle's packages for this machine's operating system: placed always, installed when asked.

use bundle_format::Verified;
use console::View;
use host_probe::{packages_for, system_of};
use install_steps::{Guard, Manager, Prefix, RealDisk};
use manifest_schema::PackageSetName;
use manifest_schema::site::Site;
use report::{Args, Diagnose, Outcome, Step, Trouble};

use crate::machine::program_folders;

/// Whether the package manager is to work.
#[derive(clap::Args, Debug)]
pub(crate) struct PackagesFlag {
    /// Afterwards let the system's package manager install the bundle's packages for this system; root only
    ///
    /// What it would do is shown, and asked about, first. Without this the packages are placed, and the command
    /// that installs them is shown.
    #[arg(long)]
    pub(crate) with_os_packages: bool,
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
    set: Option<PackageSetName>,
    manager: Option<Manager>,
    known: String,
}

impl<'a> Packages<'a> {
    pub(crate) fn of(site: &Site, bundle: &Verified, prefix: &'a Prefix) -> Self {
        let sets = &bundle.profiles.os_packages;
        let set = packages_for(site, sets);
        let known: Vec<String> = sets.iter().map(system_of).collect();
        Self {
            prefix,
            set: set.map(|set| set.name.clone()),
            manager: set.map(|set| Manager::find(set, prefix, &program_folders())),
            known: if known.is_empty() {
                "-".to_owned()
            } else {
                known.join(", ")
            },
        }
    }

    /// Name of the set.
    pub(crate) fn set(&self) -> Option<PackageSetName> {
        self.set.clone()
    }

    /// For another program: where the packages are, and the command that installs them.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        self.manager
            .as_ref()
            .map_or(serde_json::Value::Null, |manager| {
                serde_json::json!({
                    "set": self.set, "folder": manager.folder(), "command": manager.command(),
                    "wanted": manager.wanted(),
                })
            })
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
        let none: &[(&str, String)] = &[];
        let placed = || {
            let folder = manager.folder().display().to_string();
            let args = [("folder", folder), ("command", manager.command())];
            view.note("installer.packages-placed", &args);
        };
        if !wanted {
            placed();
            return Ok(Outcome::Done);
        }
        let said = manager.preview().inspect_err(|_| placed())?;
        view.note(
            "installer.packages-preview",
            &[("said", said.trim_end().to_owned())],
        );
        if !view.confirm("installer.packages-question", none, "--yes")? {
            placed();
            return Ok(Outcome::Failed);
        }
        let step = Step::start(view, "install.working.packages", "", None, "steps");
        let installed = manager.install_all(&RealDisk, guard, self.prefix);
        installed.inspect_err(|_| placed())?;
        step.finish();
        let args = [("packages", manager.wanted().join(" "))];
        view.note("installer.packages-done", &args);
        Ok(Outcome::Done)
    }
}
