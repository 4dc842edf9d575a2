//! `train`: a job file into a tuned model.

use std::cell::Cell;
use std::path::Path;

use console::View;
use report::{Trouble, relayed};
use serde_json::{Map, Value, json};
use torch_backend::{LibtorchTrainer, Peers, Place, Threads, use_threads};
use train::{Alone, Asked, Ending, FineTuning, Job, Material, Summary, TrainError, begin};
use train_data::Streamed;

use crate::device::Chosen;
use crate::error::RuntimeError;
use crate::home::Home;
use crate::material::{Keep, Ready, warn};
use crate::placed_job::fitted;
use crate::predict::Prediction;
use crate::processes::Processes;
use crate::questions::Questions;
use crate::signals::stop_on_request;
use crate::tuning::{adam, tuning};
use crate::{JobArguments, TrainArguments, job_file, model};

/// `began` is set as soon as the run takes its folder; before that nothing is written that another engine would mind.
pub(crate) fn run(
    arguments: &TrainArguments,
    began: &Cell<bool>,
    view: &View,
) -> Result<(), Trouble> {
    let home = Home::find();
    let mut chosen = Chosen::by(&arguments.device, &home);
    let JobArguments { job, settings } = &arguments.job;
    let read = |settings: &[String]| job_file::read(job, settings, view);
    let (job, _applied) = fitted(&mut chosen, settings, view, read)?;
    job_file::warn(&job, &chosen, view);
    let model = home
        .model(&job.model)
        .ok_or_else(|| RuntimeError::NoSuchModel {
            name: job.model.clone(),
        })?;
    // Before the model is loaded: a folder that may not be taken is found out at once.
    let point = begin(&job)?;
    let asked = usize::from(arguments.processes);
    let count = Processes::count(asked)?;
    let threads = arguments.threads.map(usize::from);
    let threads = threads.or(point.map(|point| point.threads));
    let threads = use_threads(threads.map_or(Threads::Part(count), Threads::Exactly));
    let mut processes = Processes::gather(asked, threads)?;
    if !chosen.is_processor() {
        chosen.index += processes.rank();
    }
    // Before anything else asks libtorch for a device: it remembers the answer.
    let place = chosen.open(&home, view)?;
    let bridge = match count {
        1 => None,
        _ => chosen.bridge(&home, place, processes.rank() == 0, view)?,
    };
    let collective = (count > 1).then(|| chosen.collective(bridge.as_ref()));
    let peers = processes.join(bridge, place)?.map(Peers::of);
    let run = Run {
        job: &job,
        model: &model,
        home: &home,
        place,
        threads,
        peers,
        began,
    };
    let packs = matches!(&job.fine_tuning, FineTuning::Lora(lora) if lora.quantization.is_none());
    let (summary, dropped, prediction) = run
        .train(view)
        .map_err(|trouble| processes.explained(chosen.explained(packs, trouble)))?;
    // A vendor's library may take a group down together only.
    drop(run);
    processes.finish();
    let output = job.output_dir.display().to_string();
    let value = json!({
        "output_dir": output, "steps": summary.steps, "planned_steps": summary.planned,
        "resumed_at": summary.resumed_at, "ending": ending(summary.ending),
        "train_loss": summary.train_loss, "eval_loss": summary.evaluations.last().map(|(_, loss)| loss),
        "best_step": summary.best_step, "tokens": summary.tokens, "seconds": summary.seconds,
        "device": chosen.label(), "device_peak": place.memory().map(|memory| memory.peak),
        "processes": count, "collective": collective, "threads": threads, "dropped": dropped,
        "prediction": prediction,
    });
    view.result(&value, &output);
    Ok(())
}

/// The evaluation data as questions, to be answered in the end.
fn questions(job: &Job, folder: &Path, home: &Home, view: &View) -> Result<Questions, Trouble> {
    let evaluation = &job.evaluation;
    let names = if evaluation.names.is_empty() {
        &job.data.names
    } else {
        &evaluation.names
    };
    let asked = Asked {
        names: names.clone(),
        held_out: evaluation.held_out,
    };
    Questions::gather(&job.data, &asked, job.seed, folder, home, view)
}

/// What came of a run, what was left out of its data, and the figures of what the model answers in the end.
type Trained = (Summary, Value, Option<Map<String, Value>>);

/// A job with all that it runs on.
struct Run<'a> {
    job: &'a Job,
    model: &'a Path,
    home: &'a Home,
    place: Place,
    threads: usize,
    peers: Option<Peers>,
    began: &'a Cell<bool>,
}

impl Run<'_> {
    /// Reads model and data, and trains.
    fn train(&self, view: &View) -> Result<Trained, Trouble> {
        let job = self.job;
        let peers: &dyn train::Peers = match &self.peers {
            Some(peers) => peers,
            None => &Alone,
        };
        // The first process converts and prepares what is kept for later; the others find it made.
        if !peers.writes() {
            peers.meet()?;
        }
        let files = model::open(self.model, job.stretch, self.home, view)?;
        let ready = Ready::gather(job, files.folder(), self.home, Keep::Yes, view)?;
        if peers.writes() {
            peers.meet()?;
        }
        ready.warn(view);
        if ready.prepared.items.is_empty() && job.data.streaming.is_none() {
            return Err(TrainError::NoExamples.into());
        }
        let questions = match job.prediction {
            Some(_) if peers.writes() => Some(questions(job, files.folder(), self.home, view)?),
            _ => None,
        };
        let tuning = tuning(job, self.place);
        let mut trainer = LibtorchTrainer::new(files, &job.model, tuning, adam(job), job.seed)?
            .with_objective(job.objective)?
            .with_router_loss(job.router_loss);
        if let Some(peers) = &self.peers {
            trainer = trainer.with_peers(peers.clone())?;
        }
        let stop = stop_on_request();
        let mut run = |stream: Option<&Streamed<'_>>| {
            let listed = &ready.prepared.eval_items;
            let material = Material {
                items: &ready.prepared.items,
                stream,
                eval_items: stream.map_or(listed, |stream| stream.eval_items()),
                eval_parts: &ready.prepared.eval_parts,
                padding_id: ready.padding_id,
                threads: self.threads,
                stop: &stop,
                peers,
            };
            self.began.set(true);
            // A terminal or a pipe that nobody reads must not hold up the steps.
            relayed(view, |sink| train::run(job, &material, &mut trainer, sink))
        };
        let (summary, dropped): (Summary, Value) = match job.data.streaming {
            None => (run(None)?, ready.dropped()),
            Some(streaming) => ready.stream(job, streaming, |streamed| {
                let summary = run(Some(streamed))?;
                // What is left out shows only when it is read.
                let dropped = streamed.tallies();
                let value = json!(dropped);
                warn(dropped, view);
                Ok((summary, value))
            })?,
        };
        let prediction = match (&questions, &job.prediction) {
            // Who stopped the run does not wait for answers.
            (Some(questions), Some(generation)) if summary.ending != Ending::Stopped => {
                let prediction = Prediction {
                    questions,
                    generation,
                    batch_size: job.evaluation.batch_size,
                    seed: job.seed,
                    folder: &job.output_dir,
                };
                relayed(view, |sink| prediction.make(trainer.model(), &stop, sink))?
            }
            _ => None,
        };
        Ok((summary, dropped, prediction))
    }
}

fn ending(ending: Ending) -> &'static str {
    match ending {
        Ending::Done => "done",
        Ending::Stopped => "stopped",
        Ending::NoProgress => "no-progress",
    }
}
