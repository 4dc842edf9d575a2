//! `eval`: a model tried on an exam, or on the loss of datasets.

use console::View;
use report::Trouble;
use train::EvalJob;

use crate::{JobArguments, exam, job_file, perplexity};

pub(crate) fn run(arguments: &JobArguments, view: &View) -> Result<(), Trouble> {
    match job_file::read_eval(&arguments.job, &arguments.settings, view)? {
        EvalJob::Exam(job) => exam::run(&job, view),
        EvalJob::Loss(job) => perplexity::run(&job, view),
    }
}
