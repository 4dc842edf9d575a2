//! `watch` and `stop`: a run seen, and ended, from anywhere that sees its folder.

use std::fs;
use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use console::View;
use report::{Outcome, Trouble};
use serde_json::{Value, json};
use train::{Record, State, ask_to_stop, is_asked_to_stop};

use crate::engine;
use crate::error::RuntimeError;
use crate::run_log::Log;
use crate::{StopArguments, WatchArguments};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// Shows the lines of a run's log as they come, until the run ends, and then how it ended.
pub(crate) fn run(arguments: &WatchArguments, view: &View) -> Result<Outcome, Trouble> {
    let folder = &arguments.output_dir;
    let mut log = Log::of(folder);
    loop {
        // Before its lines: what a run that has ended wrote last is then there.
        let record = record(folder)?;
        for line in log.lines().map_err(|source| unreadable(folder, source))? {
            show(&line, view);
        }
        if record.state != State::Running || arguments.once {
            return Ok(tell(folder, &record, log.step, view));
        }
        sleep(PAUSE);
    }
}

/// Asks the run in a folder to end, if it works.
pub(crate) fn ask_to_end(folder: &Path) -> Result<bool, RuntimeError> {
    let record = record(folder)?;
    let running = record.state == State::Running;
    if running {
        let again = is_asked_to_stop(folder);
        ask_to_stop(folder).map_err(|source| RuntimeError::CannotAsk {
            path: folder.to_owned(),
            source,
        })?;
        // The file is looked at by the program that started the run; where that was killed, nobody does.
        engine::end_orphan(folder, &record, again);
    }
    Ok(running)
}

/// Asks a run to end.
pub(crate) fn stop(arguments: &StopArguments, view: &View) -> Result<(), Trouble> {
    let folder = &arguments.output_dir;
    let running = ask_to_end(folder)?;
    let path = folder.display().to_string();
    let code = if running {
        "runtime.stop-asked"
    } else {
        "runtime.stop-idle"
    };
    let said = view.text(code, &[("path", path.clone())]);
    view.result(&json!({ "output_dir": path, "asked": running }), &said);
    Ok(())
}

fn record(folder: &Path) -> Result<Record, RuntimeError> {
    let record = Record::of(folder).map_err(|source| unreadable(folder, source))?;
    record.ok_or_else(|| RuntimeError::NoRun {
        path: folder.to_owned(),
    })
}

fn unreadable(folder: &Path, source: io::Error) -> RuntimeError {
    RuntimeError::RunUnreadable {
        path: folder.to_owned(),
        source,
    }
}

/// Shows one line of a log.
fn show(line: &Value, view: &View) {
    let text = |name: &str| line[name].as_str().unwrap_or("-").to_owned();
    let number = |name: &str| line[name].as_f64().map(|value| format!("{value:.4}"));
    let loss = number("loss").map(|loss| format!("  loss {loss}"));
    let eval = number("eval_loss").map(|loss| format!("  eval_loss {loss}"));
    let rate = line["lr"].as_f64().map(|rate| format!("  lr {rate:.2e}"));
    let human = format!(
        "{}/{}{}{}{}  {} < {}",
        line["current_steps"],
        line["total_steps"],
        loss.unwrap_or_default(),
        eval.unwrap_or_default(),
        rate.unwrap_or_default(),
        text("elapsed_time"),
        text("remaining_time"),
    );
    view.result(line, &human);
}

/// Whether there is anything to go on from.
fn has_checkpoint(folder: &Path) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name());
    names.any(|name| {
        let name = name.to_string_lossy();
        let step = name.strip_prefix("checkpoint-");
        step.is_some_and(|step| step.parse::<u64>().is_ok())
    })
}

/// Says how a run stands.
fn tell(folder: &Path, record: &Record, step: u64, view: &View) -> Outcome {
    let (code, outcome) = match record.state {
        State::Running => ("runtime.run-works", Outcome::Done),
        State::Done => ("runtime.run-done", Outcome::Done),
        State::Stopped => ("runtime.run-stopped", Outcome::Done),
        State::NoProgress => ("runtime.run-no-progress", Outcome::Done),
        State::CutOff if has_checkpoint(folder) => ("runtime.run-cut-off", Outcome::Failed),
        State::CutOff => ("runtime.run-cut-off-bare", Outcome::Failed),
        State::Failed => ("runtime.run-failed", Outcome::Failed),
    };
    let failure = record.failure.as_ref();
    let path = folder.display().to_string();
    let said = view.text(
        code,
        &[
            ("path", path.clone()),
            ("step", step.to_string()),
            ("steps", record.total_steps.to_string()),
            ("pid", record.pid.to_string()),
            (
                "failure",
                failure.map_or_else(String::new, |failure| {
                    view.text(&failure.code, &failure.args)
                }),
            ),
        ],
    );
    view.result(
        &json!({ "output_dir": path, "step": step, "run": record }),
        &said,
    );
    outcome
}
