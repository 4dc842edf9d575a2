//! Discs on the command line: which volumes are needed, and a person who puts them in.

use std::path::{Path, PathBuf};

use bundle_format::{Fault, Verified};
use console::View;
use install_steps::{
    Guard, HostPlan, InstallPlan, Need, Prefix, RealDisk, TermsError, collect, needed_volumes,
};
use report::{Diagnose, Trouble};

/// Fails where something is needed that is not at hand and nobody can be asked for it.
pub(crate) fn refuse_unattended(
    view: &View,
    bundle: &Verified,
    prefix: &Prefix,
    (plan, host): (&InstallPlan, &HostPlan),
) -> Result<(), Trouble> {
    let needed = needed_volumes(bundle, prefix, plan, host)?;
    if needed.is_empty() || view.can_ask() {
        return Ok(());
    }
    Err(bundle.without(&needed).into())
}

/// Takes what is needed from one disc after the other. Nothing is asked where all is at hand.
pub(crate) fn take_in(
    view: &View,
    guard: &Guard,
    prefix: &Prefix,
    bundle: &mut Verified,
    plans: (&InstallPlan, &HostPlan),
    place: &Path,
) -> Result<(), Trouble> {
    if bundle.is_complete() || needed_volumes(bundle, prefix, plans.0, plans.1)?.is_empty() {
        return Ok(());
    }
    let mut next = |need: &Need<'_>| ask(view, need, place);
    collect(&RealDisk, guard, prefix, bundle, plans, view, &mut next)?;
    Ok(())
}

/// Puts the disc in that holds a text which a person has to read before anything else.
pub(crate) fn for_terms<T>(
    view: &View,
    bundle: &mut Verified,
    place: &Path,
    mut read: impl FnMut(&Verified) -> Result<T, TermsError>,
) -> Result<T, Trouble> {
    loop {
        let error = match read(bundle) {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let missing = match &error {
            TermsError::Bundle(error) => match &error.fault {
                Fault::VolumesMissing { missing, .. } if view.can_ask() => missing.parse().ok(),
                _ => None,
            },
            _ => None,
        };
        let Some(number) = missing else {
            return Err(error.into());
        };
        let mut wrong = None;
        loop {
            bundle.let_go()?;
            let need = Need {
                volumes: [number].into(),
                of: bundle.volumes(),
                wrong: wrong.as_ref(),
                idle: Vec::new(),
            };
            let place = ask(view, &need, place).map_err(Asked)?;
            match bundle.take(&place) {
                Ok(_) => break,
                Err(error) => wrong = Some(error),
            }
        }
    }
}

/// Says what did not help, then asks. An empty answer stands for the place that was named first.
fn ask(view: &View, need: &Need<'_>, place: &Path) -> Result<PathBuf, Box<dyn Diagnose>> {
    if let Some(error) = need.wrong {
        let found = console::text(view.language(), error.code(), &error.args());
        let why = found.map_or_else(|| error.to_string(), |found| found.text);
        view.note("installer.disc-wrong", &[("why", why)]);
    }
    if !need.idle.is_empty() {
        let numbers = list(need.idle.iter());
        view.note("installer.disc-idle", &[("numbers", numbers)]);
    }
    let args = [
        ("missing", list(need.volumes.iter())),
        ("of", need.of.to_string()),
    ];
    let here = place.display().to_string();
    let answer = view
        .ask("installer.disc-question", &args, Some(&here), "DIR")
        .map_err(|error| Box::new(error) as Box<dyn Diagnose>)?;
    Ok(PathBuf::from(answer.trim()))
}

fn list<'a>(numbers: impl Iterator<Item = &'a u32>) -> String {
    numbers.map(u32::to_string).collect::<Vec<_>>().join(", ")
}

/// The question could not be put.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Asked(Box<dyn Diagnose>);

impl Diagnose for Asked {
    fn code(&self) -> &'static str {
        self.0.code()
    }

    fn args(&self) -> report::Args {
        self.0.args()
    }

    fn outcome(&self) -> report::Outcome {
        self.0.outcome()
    }
}
