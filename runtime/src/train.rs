//! `train`: a job file into a tuned model.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use console::View;
use report::{Event, Sink, Trouble};
use torch_backend::{BackendError, LibtorchTrainer, Threads, open, use_threads};
use train::{Job, Material, Numeric};
use train_data::{EncodeSettings, Template, Tokenizer, prepare};

use crate::TrainArguments;
use crate::error::RuntimeError;
use crate::home::Home;
use crate::tuning::{adam, tuning};

pub(crate) fn run(arguments: &TrainArguments, view: &View) -> Result<(), Trouble> {
    let path = &arguments.job;
    let text = fs::read_to_string(path).map_err(|source| BackendError::Unreadable {
        path: path.clone(),
        source,
    })?;
    let job = Job::parse(&path.display().to_string(), &text, &arguments.settings)?;
    if job.numeric != Numeric::Float32 {
        view.emit(&Event::Warned {
            code: "runtime.computes-in-float32".to_owned(),
            args: Vec::new(),
        });
    }
    let home = Home::find();
    let template = Template::named(&job.template)?;
    let model = home
        .model(&job.model)
        .ok_or_else(|| RuntimeError::NoSuchModel {
            name: job.model.clone(),
        })?;
    use_threads(Threads::Idle);
    let files = open(&model, &home.cache, view)?;
    let mut tokenizer = Tokenizer::from_folder(files.folder())?;
    tokenizer.adapt_to(template)?;
    let settings = EncodeSettings {
        template,
        default_system: job.default_system.clone(),
        cutoff_len: job.cutoff_len,
        train_on_prompt: job.train_on_prompt,
        mask_history: job.mask_history,
    };
    let prepared = prepare(
        &datasets(&job, &home),
        &job.datasets,
        job.max_samples,
        &tokenizer,
        &settings,
    )?;
    let mut trainer = LibtorchTrainer::new(files, &job.model, tuning(&job), adam(&job), job.seed)?;
    let stop = stop_on_interrupt();
    let material = Material {
        examples: &prepared.examples,
        padding_id: tokenizer.padding_id(),
        stop: &stop,
    };
    let summary = train::run(&job, &material, &mut trainer, view)?;
    let output = job.output_dir.display().to_string();
    let value = serde_json::json!({
        "output_dir": output, "steps": summary.steps, "train_loss": summary.train_loss,
        "tokens": summary.tokens, "seconds": summary.seconds,
    });
    view.result(&value, &output);
    Ok(())
}

/// A flag that Ctrl-C sets: the loop ends after the step and saves. Where no handler can be set, Ctrl-C ends the
/// program as it always did.
fn stop_on_interrupt() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let _unset = ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed));
    stop
}

/// The job's folder of datasets, or the release's where that does not exist.
fn datasets(job: &Job, home: &Home) -> PathBuf {
    let installed = home.release.as_ref().map(|r| r.join("datasets"));
    match installed {
        Some(installed) if !job.dataset_dir.exists() => installed,
        _ => job.dataset_dir.clone(),
    }
}
