//! `eval`: a model tried on an exam, or on the loss of datasets.

use console::View;
use report::Trouble;
use train::EvalJob;

use crate::placed_job::{Desk, UsingJob as _};
use crate::{JobArguments, PlacedArguments, exam, job_file, perplexity};

pub(crate) fn run(arguments: &PlacedArguments, view: &View) -> Result<(), Trouble> {
    let JobArguments { job, settings } = &arguments.job;
    let read = |settings: &[String]| job_file::read_eval(job, settings, view);
    let (job, desk) = Desk::open(&arguments.device, settings, view, read)?;
    let tried = match &job {
        EvalJob::Exam(job) => exam::run(job, &desk, view),
        EvalJob::Loss(job) => perplexity::run(job, &desk, view),
    };
    tried.map_err(|trouble| desk.explained(job.used(), trouble))
}
