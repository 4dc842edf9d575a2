//! `train`: a job file into a tuned model.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use console::View;
use report::Trouble;
use torch_backend::{LibtorchTrainer, Threads, open, use_threads};
use train::{Ending, Material, TrainError, begin};

use crate::TrainArguments;
use crate::error::RuntimeError;
use crate::home::Home;
use crate::job_file;
use crate::material::Ready;
use crate::tuning::{adam, tuning};

pub(crate) fn run(arguments: &TrainArguments, view: &View) -> Result<(), Trouble> {
    let job = job_file::read(&arguments.job.job, &arguments.job.settings, view)?;
    job_file::warn(&job, view);
    let home = Home::find();
    let model = home
        .model(&job.model)
        .ok_or_else(|| RuntimeError::NoSuchModel {
            name: job.model.clone(),
        })?;
    // Before the model is loaded: a folder that may not be taken is found out at once.
    let point = begin(&job)?;
    let asked = arguments.threads.map(usize::from);
    let threads = asked.or(point.map(|point| point.threads));
    let threads = use_threads(threads.map_or(Threads::Idle, Threads::Exactly));
    let files = open(&model, &home.cache, view)?;
    let ready = Ready::gather(&job, files.folder(), &home, view)?;
    ready.warn(view);
    if ready.prepared.items.is_empty() {
        return Err(TrainError::NoExamples.into());
    }
    let mut trainer = LibtorchTrainer::new(files, &job.model, tuning(&job), adam(&job), job.seed)?
        .with_objective(job.objective)?;
    let stop = stop_on_interrupt();
    let material = Material {
        items: &ready.prepared.items,
        eval_items: &ready.prepared.eval_items,
        padding_id: ready.padding_id,
        threads,
        stop: &stop,
    };
    let summary = train::run(&job, &material, &mut trainer, view)?;
    let output = job.output_dir.display().to_string();
    let value = serde_json::json!({
        "output_dir": output, "steps": summary.steps, "planned_steps": summary.planned,
        "resumed_at": summary.resumed_at, "ending": ending(summary.ending),
        "train_loss": summary.train_loss, "eval_loss": summary.evaluations.last().map(|(_, loss)| loss),
        "best_step": summary.best_step, "tokens": summary.tokens, "seconds": summary.seconds,
        "threads": threads, "dropped": ready.dropped(),
    });
    view.result(&value, &output);
    Ok(())
}

fn ending(ending: Ending) -> &'static str {
    match ending {
        Ending::Done => "done",
        Ending::Stopped => "stopped",
        Ending::NoProgress => "no-progress",
    }
}

/// A flag that Ctrl-C sets: the loop ends after the step and saves. Where no handler can be set, Ctrl-C ends the
/// program as it always did.
fn stop_on_interrupt() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let _unset = ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed));
    stop
}
