//! Reads a job file with its overrides.

use std::fs;
use std::path::Path;

use console::View;
use report::{Event, Sink, Trouble};
#[cfg(feature = "native")]
use train::{ChatJob, EvalJob, ExportJob, PredictJob};
use train::{Job, JobError, Numeric, Objective};

use crate::device::Chosen;
use crate::engine::Given;
use crate::error::RuntimeError;
#[cfg(feature = "native")]
use crate::rules;

/// Reads the training job at `path`.
pub(crate) fn read(path: &Path, settings: &[String], view: &View) -> Result<Job, Trouble> {
    let (origin, text) = text_of(path)?;
    let job = Job::parse(&origin, &text, settings);
    if let Err(JobError::OtherCommand { .. }) = job {
        return Ok(job?);
    }
    show_all(Job::key_faults(&origin, &text, settings)?, view)?;
    Ok(job?)
}

/// The training job at `path` as it is run on `chosen`, or the first thing that stands in its way; nothing is told.
#[cfg(feature = "native")]
pub(crate) fn try_for(chosen: &Chosen, path: &Path, settings: &[String]) -> Result<Job, Trouble> {
    let (origin, text) = text_of(path)?;
    let job = Job::parse(&origin, &text, settings)?;
    let applied = rules::apply(chosen, &job.settings, true)?;
    let settings = [settings, &applied.settings].concat();
    Ok(Job::parse(&origin, &text, &settings)?)
}

/// Every key of the job at `path` as it is given, and the file's name for messages; a key that nobody knows is an error.
pub(crate) fn given(
    path: &Path,
    settings: &[String],
    view: &View,
) -> Result<(String, Given), Trouble> {
    let (origin, text) = text_of(path)?;
    let mut faults = Job::key_faults(&origin, &text, settings)?;
    faults.retain(|fault| {
        matches!(
            fault,
            JobError::Unknown { .. } | JobError::Foreign { .. } | JobError::OtherFile { .. }
        )
    });
    show_all(faults, view)?;
    let given = Job::given(&origin, &text, settings)?;
    Ok((origin, given))
}

/// Reads the export job at `path`.
#[cfg(feature = "native")]
pub(crate) fn read_export(
    path: &Path,
    settings: &[String],
    view: &View,
) -> Result<ExportJob, Trouble> {
    let (origin, text) = text_of(path)?;
    show_all(ExportJob::key_faults(&origin, &text, settings)?, view)?;
    Ok(ExportJob::parse(&origin, &text, settings)?)
}

/// Reads the prediction job at `path`.
#[cfg(feature = "native")]
pub(crate) fn read_predict(
    path: &Path,
    settings: &[String],
    view: &View,
) -> Result<PredictJob, Trouble> {
    let (origin, text) = text_of(path)?;
    show_all(Job::key_faults(&origin, &text, settings)?, view)?;
    Ok(PredictJob::parse(&origin, &text, settings)?)
}

/// Reads the evaluation job at `path`.
#[cfg(feature = "native")]
pub(crate) fn read_eval(path: &Path, settings: &[String], view: &View) -> Result<EvalJob, Trouble> {
    let (origin, text) = text_of(path)?;
    show_all(Job::key_faults(&origin, &text, settings)?, view)?;
    Ok(EvalJob::parse(&origin, &text, settings)?)
}

/// Reads the job for talking with a model at `path`, or makes one of settings alone. `model` stands in for the job's.
#[cfg(feature = "native")]
pub(crate) fn read_chat(
    path: Option<&Path>,
    settings: &[String],
    model: Option<&str>,
    view: &View,
) -> Result<ChatJob, Trouble> {
    let (origin, text) = match path {
        Some(path) => text_of(path)?,
        None => (String::new(), String::new()),
    };
    show_all(Job::key_faults(&origin, &text, settings)?, view)?;
    Ok(ChatJob::parse(&origin, &text, settings, model)?)
}

/// The file's name for messages, and its text.
fn text_of(path: &Path) -> Result<(String, String), RuntimeError> {
    let text = fs::read_to_string(path).map_err(|source| RuntimeError::JobUnreadable {
        path: path.to_owned(),
        source,
    })?;
    Ok((path.display().to_string(), text))
}

/// Shows every key that is unknown or unsupported, not only the first.
fn show_all(mut faults: Vec<JobError>, view: &View) -> Result<(), Trouble> {
    let last = faults.pop();
    for fault in faults {
        let _status = view.fail(&Trouble::from(fault));
    }
    last.map_or(Ok(()), |fault| Err(fault.into()))
}

/// Warns where a job asks for a number format that is not computed in on `chosen`.
pub(crate) fn warn_of_numbers(chosen: &Chosen, numeric: Numeric, view: &View) {
    if chosen.is_processor() && numeric == Numeric::Float16 {
        view.emit(&Event::Warned {
            code: "runtime.computes-in-float32".to_owned(),
            args: Vec::new(),
        });
    }
}

/// Warns of what the job asks for and this program does otherwise.
pub(crate) fn warn(job: &Job, chosen: &Chosen, view: &View) {
    let warned = |code: &str| {
        view.emit(&Event::Warned {
            code: code.to_owned(),
            args: Vec::new(),
        });
    };
    warn_of_numbers(chosen, job.numeric, view);
    // Only the loss over tokens goes back through the layers one by one.
    if job.recomputation_asked && job.objective != Objective::Tokens {
        warned("runtime.keeps-activations");
    }
}
