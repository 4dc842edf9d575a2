//! Reads a job file with its overrides.

use std::fs;
use std::path::Path;

use console::View;
use report::{Event, Sink, Trouble};
use train::{Job, Numeric, Objective};

use crate::error::RuntimeError;

/// Reads the job at `path`. Every key that is unknown or unsupported is shown, not only the first.
pub(crate) fn read(path: &Path, settings: &[String], view: &View) -> Result<Job, Trouble> {
    let text = fs::read_to_string(path).map_err(|source| RuntimeError::JobUnreadable {
        path: path.to_owned(),
        source,
    })?;
    let origin = path.display().to_string();
    let mut faults = Job::key_faults(&origin, &text, settings)?;
    let last = faults.pop();
    for fault in faults {
        let _status = view.fail(&Trouble::from(fault));
    }
    match last {
        Some(fault) => Err(fault.into()),
        None => Ok(Job::parse(&origin, &text, settings)?),
    }
}

/// Warns of what the job asks for and this program does otherwise.
pub(crate) fn warn(job: &Job, view: &View) {
    let warned = |code: &str| {
        view.emit(&Event::Warned {
            code: code.to_owned(),
            args: Vec::new(),
        });
    };
    if job.numeric == Numeric::Float16 {
        warned("runtime.computes-in-float32");
    }
    // Only the loss over tokens goes back through the layers one by one.
    if job.recomputation_asked && job.objective != Objective::Tokens {
        warned("runtime.keeps-activations");
    }
}
