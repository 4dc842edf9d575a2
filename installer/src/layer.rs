//! The machine's own layer on the command line: the switches that ask for it, what is shown, the run.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use bundle_format::Verified;
use console::View;
use host_probe::{Check, Host, Planned, fit_planned};
use install_steps::{
    Guard, HostError, HostPlan, HostStep, HostWork, Prefix, RealDisk, Resume, ShellRunner, Wanted,
    run_host,
};
use manifest_schema::site::Site;
use manifest_schema::{Backend, HostKind};
use report::Trouble;
use serde_json::json;

use crate::machine::{host, played_or_real};

/// What may be done to the machine itself. Without these it is only looked at.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct LayerFlags {
    /// Also install the driver and firmware that the bundle brings, in the vendor's order
    #[arg(long)]
    with_driver: bool,
    /// Also install the vendor's toolkit that the bundle brings
    #[arg(long)]
    with_toolkit: bool,
    /// A folder that plays the machine: facts from it, programs from its `bin`; for tests
    #[arg(long, value_name = "DIR", hide = true)]
    machine: Option<PathBuf>,
}

impl LayerFlags {
    pub(crate) fn wanted(&self) -> Wanted {
        Wanted {
            driver: self.with_driver,
            toolkit: self.with_toolkit,
        }
    }

    /// The machine that is spoken about: this one, one recorded in `recorded`, or one that a folder plays.
    pub(crate) fn host(&self, recorded: Option<&Path>) -> Result<Box<dyn Host>, Trouble> {
        match recorded {
            Some(_) if self.machine.is_none() => Ok(host(recorded)?),
            _ => Ok(played_or_real(self.machine.as_deref())),
        }
    }

    /// Folder of programs of a machine that a folder plays.
    pub(crate) fn programs(&self) -> Option<PathBuf> {
        self.machine.as_ref().map(|root| root.join("bin"))
    }

    /// Root of the machine's own files, such as `/etc`.
    pub(crate) fn root(&self) -> &Path {
        self.machine.as_deref().unwrap_or(Path::new("/"))
    }

    /// What would be done for `backend`, which was chosen.
    pub(crate) fn plan(
        &self,
        backend: &Backend,
        site: &Site,
        host: &dyn Host,
        prefix: &Prefix,
    ) -> Result<HostPlan, HostError> {
        HostPlan::compute(backend, self.wanted(), site, host, prefix)
    }

    /// What would be done for `backend`; nothing where it brings nothing.
    pub(crate) fn plan_if_any(
        &self,
        backend: &Backend,
        site: &Site,
        host: &dyn Host,
        prefix: &Prefix,
    ) -> Result<HostPlan, HostError> {
        match HostPlan::compute(backend, self.wanted(), site, host, prefix) {
            Err(HostError::NothingBrought { .. }) => Ok(HostPlan::default()),
            other => other,
        }
    }

    /// Carries out `plan`. Returns what the machine must be started anew for.
    pub(crate) fn run(
        &self,
        view: &View,
        at: &Place<'_>,
        guard: &Guard,
        plan: &HostPlan,
    ) -> Result<Vec<HostKind>, Trouble> {
        if self.wanted() == Wanted::default() {
            return Ok(Vec::new());
        }
        let words = std::env::args_os().skip(1);
        let words = words.map(|word| word.to_string_lossy().into_owned());
        let words: Vec<String> = words.collect();
        let resumes = words.iter().any(|word| word == "--resume");
        let work = HostWork {
            disk: &RealDisk,
            runner: &ShellRunner {
                machine: self.machine.clone(),
            },
            host: at.host,
            prefix: at.prefix,
            bundle: at.bundle,
            backend: at.backend,
            resume: (!resumes).then(|| Resume {
                words,
                folder: std::env::current_dir().unwrap_or_default(),
            }),
            stop: &|| STOP.load(Ordering::Relaxed),
            sink: view,
        };
        listen_for_ctrl_c();
        RUNNING.store(true, Ordering::Relaxed);
        let result = run_host(&work, guard, plan);
        RUNNING.store(false, Ordering::Relaxed);
        Ok(result?)
    }
}

/// What a run works on.
pub(crate) struct Place<'a> {
    pub(crate) host: &'a dyn Host,
    pub(crate) prefix: &'a Prefix,
    pub(crate) bundle: &'a Verified,
    pub(crate) backend: &'a Backend,
}

/// Every check of a backend, of the machine as `plan` will leave it.
pub(crate) fn judge(site: &Site, backend: &Backend, plan: &HostPlan) -> Vec<Check> {
    let items: Vec<Planned<'_>> = plan.items().collect();
    fit_planned(site, backend, &items)
}

/// The steps as a person reads them, each command word for word.
pub(crate) fn steps(view: &View, plan: &HostPlan) -> String {
    let line = |step: &HostStep| format!("  - {}", view.text(step.code(), &step.args()));
    plan.steps.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Says that the machine must be started anew, and how to go on then.
pub(crate) fn reboot_needed(view: &View, prefix: &Prefix, kinds: &[HostKind]) {
    let names: Vec<&str> = kinds.iter().map(HostKind::as_str).collect();
    let prefix = prefix.path().display().to_string();
    let human = view.text(
        "installer.reboot-needed",
        &[("kinds", names.join(", ")), ("prefix", prefix.clone())],
    );
    let value = json!({ "reboot": kinds, "resume": ["install", "--resume", "--prefix", prefix] });
    view.result(&value, &human);
}

static RUNNING: AtomicBool = AtomicBool::new(false);
static STOP: AtomicBool = AtomicBool::new(false);

/// While a vendor's installer runs, Ctrl-C stops after it: half a driver helps nobody.
fn listen_for_ctrl_c() {
    let _ = ctrlc::set_handler(|| {
        if RUNNING.load(Ordering::Relaxed) {
            STOP.store(true, Ordering::Relaxed);
        } else {
            #[expect(clippy::exit, reason = "as the signal itself would have done")]
            std::process::exit(130);
        }
    });
}
