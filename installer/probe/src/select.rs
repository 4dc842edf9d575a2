//! Picks the backend that suits a machine best, or says why none does.

use manifest_schema::chip::Chip;
use manifest_schema::site::Site;
use manifest_schema::{Backend, BackendName};
use report::{Args, Diagnose, Outcome};

use crate::fit::{Check, Kinship, fit, kinship};

/// A backend with the checks that it passed, warnings among them.
#[derive(Clone, Debug)]
pub struct Choice<'a> {
    /// The backend.
    pub backend: &'a Backend,
    /// Its checks.
    pub checks: Vec<Check>,
}

/// Why no backend was picked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SelectError {
    /// Each backend has at least one check that stops it.
    #[error("no backend of the bundle fits this machine: {}", reasons(.rejected))]
    NoneFits {
        /// Every backend, with the checks that stop it.
        rejected: Vec<(BackendName, Vec<Check>)>,
    },
    /// Only a backend that leaves the machine's accelerator idle fits, and nobody asked for it.
    #[error(
        "an accelerator of this machine would stay idle: only `{fits}` fits, and {}",
        reasons(.rejected)
    )]
    WouldIdle {
        /// The backend that fits.
        fits: BackendName,
        /// The backends for the accelerator, with the checks that stop them.
        rejected: Vec<(BackendName, Vec<Check>)>,
    },
}

impl Diagnose for SelectError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoneFits { .. } => "host.no-backend",
            Self::WouldIdle { .. } => "host.would-idle",
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::NoneFits { rejected } => vec![("reasons", reasons(rejected))],
            Self::WouldIdle { fits, rejected } => {
                vec![("fits", fits.to_string()), ("reasons", reasons(rejected))]
            }
        }
    }

    fn outcome(&self) -> Outcome {
        Outcome::HardwareUnfit
    }
}

/// The best backend that nothing stops: the chip of the highest rank, then the newest glibc floor.
/// `overridden` holds codes of checks that a person waived.
///
/// # Errors
/// When nothing fits, or when the best that fits would leave an accelerator idle that another backend of the
/// bundle is made for: a broken driver must not turn a training server into a slow one unasked.
pub fn select<'a>(
    site: &Site,
    backends: &'a [Backend],
    overridden: &[String],
) -> Result<Choice<'a>, SelectError> {
    select_by(site, backends, overridden, |backend| fit(site, backend))
}

/// The same as [`select`], each backend judged by `judge`.
///
/// # Errors
/// Those of [`select`].
pub fn select_by<'a>(
    site: &Site,
    backends: &'a [Backend],
    overridden: &[String],
    judge: impl Fn(&Backend) -> Vec<Check>,
) -> Result<Choice<'a>, SelectError> {
    let mut rejected = Vec::new();
    let mut best: Option<Choice<'a>> = None;
    for backend in backends {
        let checks = judge(backend);
        if checks.iter().any(|check| check.stops(overridden)) {
            let stops = checks
                .into_iter()
                .filter(|check| check.stops(overridden))
                .collect();
            rejected.push((backend, stops));
        } else if best
            .as_ref()
            .is_none_or(|best| order(backend) > order(best.backend))
        {
            best = Some(Choice { backend, checks });
        }
    }
    let named = |rejected: Vec<(&Backend, Vec<Check>)>| {
        rejected
            .into_iter()
            .map(|(backend, checks)| (backend.name.clone(), checks))
            .collect()
    };
    let Some(best) = best else {
        return Err(SelectError::NoneFits {
            rejected: named(rejected),
        });
    };
    if kinship(site, best.backend) < Kinship::SameChip {
        rejected.retain(|(backend, _)| {
            site.arch
                .as_ref()
                .is_some_and(|arch| arch.value == backend.arch)
        });
        let nearest = rejected
            .iter()
            .map(|(backend, _)| kinship(site, backend))
            .max();
        if let Some(nearest) = nearest.filter(|nearest| *nearest > Kinship::Stranger) {
            rejected.retain(|(backend, _)| kinship(site, backend) == nearest);
            let fits = best.backend.name.clone();
            return Err(SelectError::WouldIdle {
                fits,
                rejected: named(rejected),
            });
        }
    }
    Ok(best)
}

fn order(backend: &Backend) -> impl Ord {
    (
        Chip::named(&backend.chip).map(|chip| chip.rank),
        backend.glibc,
    )
}

fn reasons(rejected: &[(BackendName, Vec<Check>)]) -> String {
    let one = |(name, checks): &(BackendName, Vec<Check>)| {
        // For another processor all else is idle talk.
        let other = checks.iter().any(|check| check.code == "host.arch");
        let worth_saying = |check: &&Check| !other || check.code == "host.arch";
        let codes: Vec<&str> = checks
            .iter()
            .filter(worth_saying)
            .map(|check| check.code)
            .collect();
        format!("{name} ({})", codes.join(", "))
    };
    rejected.iter().map(one).collect::<Vec<_>>().join("; ")
}
