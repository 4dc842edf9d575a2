//! `check`: what a job will do and need, before anything starts.

mod outlook;
mod room;

use console::View;
use report::Trouble;
use serde_json::json;
use train::{Job, ModelShape, begin};
use train_data::{Example, Item, Stage};

use crate::device::Chosen;
use crate::home::Home;
use crate::job_file;
use crate::material::{Keep, Ready};
use crate::model_folder;
use crate::placed_job::fitted;
use crate::positions;
use crate::rows::{self, Row};
use crate::{CheckArguments, JobArguments};
use outlook::Report;
use room::Room;

pub(crate) fn run(arguments: &CheckArguments, view: &View) -> Result<(), Trouble> {
    let home = Home::find();
    let mut chosen = Chosen::by(&arguments.device, &home);
    let JobArguments { job, settings } = &arguments.job;
    let read = |settings: &[String]| job_file::read(job, settings, view);
    let (job, applied) = fitted(&mut chosen, settings, view, read)?;
    let folder = model_folder::find(&job.model, &home, view)?;
    let mut shape = ModelShape::read(&folder)?;
    // Devices widen what they are given.
    shape.narrow &= chosen.is_processor();
    if let Some(stretch) = job.stretch {
        let reach = stretch.reach(shape.made_for);
        if reach.factor() > 1 {
            shape.positions = reach.now;
        }
        positions::tell(stretch, reach, view);
    }
    let point = begin(&job)?;
    let mut ready = Ready::gather(&job, &folder, &home, Keep::No, view)?;
    if let Some(streaming) = job.data.streaming {
        // Opening reads what is held out, and shows whether the first records are what the list says.
        ready.prepared.eval_items = ready.stream(&job, streaming, |streamed| {
            streamed.epoch(0, 0)?.next().transpose()?;
            Ok(streamed.eval_items().to_vec())
        })?;
        ready.prepared.items = longest_batch(&job);
    }
    job_file::warn(&job, &chosen, view);
    ready.warn(view);
    if ready.prepared.items.is_empty() {
        return Err(train::TrainError::NoExamples.into());
    }
    let device = Room {
        processes: usize::from(arguments.processes),
        ..Room::of(&chosen, &home, view)
    };
    let report = Report::make(&job, &shape, &ready, point.as_ref(), device)?;
    report.warn(view);
    // What is read while it is trained on is not at hand here.
    let shown = if job.data.streaming.is_none() {
        arguments.rows
    } else {
        0
    };
    let rows = rows::first(&ready, shown.into())?;
    let mut value = report.to_json(&job, &ready, &applied);
    let mut lines = report.lines(view);
    if shown > 0 {
        lines.extend(rows.iter().map(Row::line));
        value["rows"] = json!(rows);
    }
    view.result(&value, &lines.join("\n"));
    Ok(())
}

/// What no micro-batch of the job can be longer than, for data that nobody has counted.
fn longest_batch(job: &Job) -> Vec<Item> {
    let row = || {
        let mut row = Example::default();
        // A packed row has one token more.
        let length = job.data.cutoff_len + 1;
        row.input_ids.resize(length, 0);
        row.labels.resize(length, 0);
        row
    };
    let item = || match job.data.stage {
        Stage::Pretrain | Stage::Supervised => Item::Single(row()),
        Stage::Pairwise => Item::Pair {
            chosen: row(),
            rejected: row(),
        },
        Stage::Feedback => Item::Judged {
            example: row(),
            mismatched: row(),
            desirable: true,
        },
    };
    (0..job.batch_size).map(|_| item()).collect()
}
