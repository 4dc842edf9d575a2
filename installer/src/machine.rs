//! The machine that a command speaks about, and its verdict on a backend.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use console::View;
use host_probe::{Check, Host, RealHost, RecordedHost, Verdict, select_by};
use manifest_schema::site::Site;
use manifest_schema::{Backend, BackendName};
use report::{Args, Diagnose, Outcome, Trouble};

/// There is no recorded machine in a folder.
#[derive(Debug, thiserror::Error)]
#[error("`{folder}` holds no recorded machine: no `proc`, `sys` or `cmd` is in it")]
pub(crate) struct NotRecorded {
    folder: PathBuf,
}

impl Diagnose for NotRecorded {
    fn code(&self) -> &'static str {
        "installer.host-not-recorded"
    }

    fn args(&self) -> Args {
        vec![("folder", self.folder.display().to_string())]
    }

    fn outcome(&self) -> Outcome {
        Outcome::Usage
    }
}

/// This machine, or one recorded in `folder`.
pub(crate) fn host(folder: Option<&Path>) -> Result<Box<dyn Host>, NotRecorded> {
    let Some(folder) = folder else {
        return Ok(Box::new(RealHost::default()));
    };
    let root = folder.to_owned();
    if !["proc", "sys", "cmd"]
        .iter()
        .any(|name| root.join(name).is_dir())
    {
        return Err(NotRecorded { folder: root });
    }
    Ok(Box::new(RecordedHost { root }))
}

/// The machine that the folder `played` plays, or this one.
pub(crate) fn played_or_real(played: Option<&Path>) -> Box<dyn Host> {
    match played {
        Some(root) => Box::new(RecordedHost {
            root: root.to_owned(),
        }),
        None => Box::new(RealHost::default()),
    }
}

/// Why no backend can be installed here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnfitError {
    /// The backend that was asked for is not in the bundle.
    #[error("the bundle has no backend `{wanted}`; it has {known}")]
    Unknown { wanted: BackendName, known: String },
    /// A check stops the backend that was asked for.
    #[error("backend `{backend}` does not fit this machine: {reasons}")]
    Unfit {
        backend: BackendName,
        reasons: String,
    },
}

impl Diagnose for UnfitError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "install.no-backend",
            Self::Unfit { .. } => "installer.unfit",
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::Unknown { wanted, known } => {
                vec![("wanted", wanted.to_string()), ("known", known.clone())]
            }
            Self::Unfit { backend, reasons } => {
                vec![
                    ("backend", backend.to_string()),
                    ("reasons", reasons.clone()),
                ]
            }
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Unknown { .. } => Outcome::Usage,
            Self::Unfit { .. } => Outcome::HardwareUnfit,
        }
    }
}

/// The backend to install on `site`, with its checks: the one asked for, else the best that fits. A bundle
/// without backends needs none.
pub(crate) fn choose(
    site: &Site,
    backends: &[Backend],
    wanted: Option<&BackendName>,
    overridden: &[String],
    judge: impl Fn(&Backend) -> Vec<Check>,
) -> Result<Option<(BackendName, Vec<Check>)>, Trouble> {
    let Some(wanted) = wanted else {
        if backends.is_empty() {
            return Ok(None);
        }
        let choice = select_by(site, backends, overridden, judge)?;
        return Ok(Some((choice.backend.name.clone(), choice.checks)));
    };
    let Some(backend) = backends.iter().find(|backend| backend.name == *wanted) else {
        let known: Vec<&str> = backends.iter().map(|b| b.name.as_str()).collect();
        let known = known.join(", ");
        let wanted = wanted.clone();
        return Err(UnfitError::Unknown { wanted, known }.into());
    };
    Ok(Some((backend.name.clone(), judge(backend))))
}

/// Fails where a check stops the backend.
pub(crate) fn refuse_unfit(
    view: &View,
    backend: &BackendName,
    checks: &[Check],
    overridden: &[String],
) -> Result<(), UnfitError> {
    let stops: Vec<String> = checks
        .iter()
        .filter(|check| check.stops(overridden))
        .map(|check| view.text(check.code, &check.args))
        .collect();
    if stops.is_empty() {
        return Ok(());
    }
    Err(UnfitError::Unfit {
        backend: backend.clone(),
        reasons: stops.join("; "),
    })
}

/// A check as one line; where it did not pass, with its code, the reason and the remedy below.
pub(crate) fn check_line(view: &View, check: &Check) -> String {
    let mark = match check.verdict {
        Verdict::Pass => "✓",
        Verdict::Warn => "!",
        Verdict::Stop => "✗",
    };
    let found = console::text(view.language(), check.code, &check.args);
    let Some(found) = found else {
        return format!("  {mark} {}", check.code);
    };
    if check.verdict == Verdict::Pass {
        return format!("  {mark} {}", found.text);
    }
    let mut lines = format!("  {mark} [{}] {}", check.code, found.text);
    if let Some(why) = found.why {
        let _ = write!(lines, "\n      {why}");
    }
    if let Some(remedy) = found.hint {
        let _ = write!(lines, "\n      → {remedy}");
    }
    lines
}

/// A check for another program.
pub(crate) fn check_json(view: &View, check: &Check) -> serde_json::Value {
    let found = console::text(view.language(), check.code, &check.args);
    let (why, remedy) = found.map_or((None, None), |found| (found.why, found.hint));
    serde_json::json!({
        "code": check.code, "verdict": check.verdict, "found": check.found, "needed": check.needed,
        "overridable": check.overridable, "why": why, "remedy": remedy,
    })
}

/// Where this machine keeps its programs.
pub(crate) fn program_folders() -> Vec<PathBuf> {
    std::env::var_os("PATH").map_or_else(Vec::new, |path| std::env::split_paths(&path).collect())
}
