//! Picks the backend that suits a machine best, or says why none does.

use manifest_schema::chip::Chip;
use manifest_schema::site::Site;
use manifest_schema::{Backend, BackendName};
use report::{Args, Diagnose, Outcome};

use crate::fit::{Check, fit};

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
}

impl Diagnose for SelectError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoneFits { .. } => "host.no-backend",
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::NoneFits { rejected } => vec![("reasons", reasons(rejected))],
        }
    }

    fn outcome(&self) -> Outcome {
        Outcome::HardwareUnfit
    }
}

/// The best backend that nothing stops: the chip of the highest rank, then the newest glibc floor.
/// `overridden` holds codes of checks that a person waived.
pub fn select<'a>(
    site: &Site,
    backends: &'a [Backend],
    overridden: &[String],
) -> Result<Choice<'a>, SelectError> {
    let mut rejected = Vec::new();
    let mut best: Option<Choice<'a>> = None;
    for backend in backends {
        let checks = fit(site, backend);
        if checks.iter().any(|check| check.stops(overridden)) {
            let stops = checks
                .into_iter()
                .filter(|check| check.stops(overridden))
                .collect();
            rejected.push((backend.name.clone(), stops));
        } else if best
            .as_ref()
            .is_none_or(|best| order(backend) > order(best.backend))
        {
            best = Some(Choice { backend, checks });
        }
    }
    best.ok_or(SelectError::NoneFits { rejected })
}

fn order(backend: &Backend) -> impl Ord {
    (
        Chip::named(&backend.chip).map(|chip| chip.rank),
        backend.glibc,
    )
}

fn reasons(rejected: &[(BackendName, Vec<Check>)]) -> String {
    let one = |(name, checks): &(BackendName, Vec<Check>)| {
        let codes: Vec<&str> = checks.iter().map(|check| check.code).collect();
        format!("{name} ({})", codes.join(", "))
    };
    rejected.iter().map(one).collect::<Vec<_>>().join("; ")
}
