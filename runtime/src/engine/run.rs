//! A run of LLaMA-Factory: started, followed, ended.
//!
//! ```text
//! ferry-runtime --starts--> python -m llamafactory.cli train <folder>/llamafactory.yaml
//!     its output -> <folder>/llamafactory.log, a file: nobody has to read it
//!     its progress <- <folder>/trainer_log.jsonl
//!     `stop`, Ctrl-C, kill -> TERM to who trains -> INT -> TERM to all -> KILL
//! ```
//!
//! The process has a group of its own, so that a terminal's signals reach this program alone. It holds the run's lock with
//! this program, and holds it on if this one is killed: a second run in the folder is refused as long as either lives.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use console::View;
use report::{Event, Sink, Trouble, relayed};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::Signal;
use serde_json::{Value, json};
use train::{HANDED_JOB, HANDED_LOG, RunFolder, State, TrainError, save_file};

use super::ending::judge;
use super::error::EngineError;
use super::plan::Plan;
use super::processes;
use super::stopping::{Ladder, Rung};
use crate::run_log::Log;
use crate::signals;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// How much of what was said is looked through for why it ended.
const TAIL: u64 = 512 << 10;

/// Does it, and says what came of it. `grace` is how long a run that is asked to end may take for its step.
pub(crate) fn run(plan: &Plan, grace: Duration, view: &View) -> Result<(), Trouble> {
    let folder = &plan.folder;
    let left = processes::living(&plan.mark());
    if !left.is_empty() {
        let pids: Vec<String> = left.iter().map(ToString::to_string).collect();
        return Err(EngineError::StillRunning {
            path: folder.clone(),
            pids: pids.join(", "),
        }
        .into());
    }
    let resumed_at = plan.from.as_ref().map_or(0, |from| from.step);
    let program = format!("LLaMA-Factory {}", plan.python.llamafactory());
    let mut taken = RunFolder::take_for(&program, folder, resumed_at, 0)?;
    let started = Instant::now();
    let done = start(plan, &taken, view).and_then(|running| {
        // A terminal or a pipe that nobody reads must not hold up the run.
        relayed(view, |sink| running.follow(plan, &mut taken, grace, sink))
    });
    // Nothing of it outlives it, however it ended.
    processes::end_all(&plan.mark());
    let state = match &done {
        Ok(done) => done.state(folder),
        Err(_) => State::Failed,
    };
    let error = done.as_ref().err().map(Trouble::diagnose);
    taken.end(state, error)?;
    let done = done?;
    if done.asked && !done.saved {
        view.emit(&Event::Warned {
            code: "engine.stopped-unsaved".to_owned(),
            args: vec![("path".to_owned(), folder.display().to_string())],
        });
    }
    let output = folder.display().to_string();
    view.result(&result(plan, &done, state, started), &output);
    Ok(())
}

/// A run that ended well, or because it was asked to.
struct Done {
    /// Somebody asked it to end.
    asked: bool,
    /// It ended by itself, after it had saved.
    saved: bool,
}

impl Done {
    fn state(&self, folder: &Path) -> State {
        let figures = Figures::of(folder);
        match (self.asked, figures.steps < figures.planned) {
            (true, true) => State::Stopped,
            (true, false) if !self.saved => State::Stopped,
            (false, true) => State::NoProgress,
            _ => State::Done,
        }
    }
}

/// The run under way.
struct Running {
    child: Child,
    /// What it says, from `said_from` on.
    said: File,
    said_from: u64,
    log: Log,
    signalled: Arc<AtomicBool>,
}

/// Writes the job and starts the program.
fn start(plan: &Plan, taken: &RunFolder, view: &View) -> Result<Running, Trouble> {
    let folder = &plan.folder;
    save_file(folder, HANDED_JOB, plan.handed.to_yaml().as_bytes())?;
    let path = folder.join(HANDED_LOG);
    let fault = |source| TrainError::Write {
        path: path.clone(),
        source,
    };
    let options = OpenOptions::new()
        .create(true)
        .append(true)
        .read(true)
        .open(&path);
    let said = options.map_err(fault)?;
    let said_from = said.metadata().map_err(fault)?.len();
    let log = Log::from_here(folder);
    let signalled = signals::told();
    view.note(
        "engine.starts",
        &[
            ("version", plan.python.llamafactory().to_owned()),
            ("log", path.display().to_string()),
        ],
    );
    let mut words = plan.command().into_iter();
    let program = words.next().unwrap_or_default();
    let child = spawn(plan, &program, words, &said, taken);
    let child = child.map_err(|source| EngineError::NotStarted {
        program: program.into(),
        source,
    })?;
    Ok(Running {
        child,
        said,
        said_from,
        log,
        signalled,
    })
}

fn spawn(
    plan: &Plan,
    program: &OsString,
    words: impl Iterator<Item = OsString>,
    said: &File,
    taken: &RunFolder,
) -> io::Result<Child> {
    let mut command = Command::new(program);
    command
        .args(words)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(said.try_clone()?)
        .stderr(said.try_clone()?);
    plan.variables.give(&mut command);
    fcntl_setfd(taken.lock(), FdFlags::empty())?;
    let child = command.spawn();
    fcntl_setfd(taken.lock(), FdFlags::CLOEXEC)?;
    child
}

impl Running {
    /// Follows it to its end.
    fn follow(
        mut self,
        plan: &Plan,
        taken: &mut RunFolder,
        grace: Duration,
        sink: &dyn Sink,
    ) -> Result<Done, Trouble> {
        let mark = plan.mark();
        let mut ladder = Ladder::new(plan.python.saves_on_request(), grace);
        let mut asked_by_file = false;
        let status = loop {
            if let Some(status) = self.ended(plan)? {
                break status;
            }
            self.tell(taken, sink);
            let by_signal = self.signalled.swap(false, Ordering::Relaxed);
            let by_file = !asked_by_file && taken.is_asked_to_stop();
            asked_by_file |= by_file;
            if let Some(rung) = ladder.next(by_signal || by_file, Instant::now()) {
                match rung {
                    Rung::Ask => processes::ask(&mark, Signal::TERM),
                    Rung::Interrupt => processes::ask(&mark, Signal::INT),
                    Rung::Terminate => processes::tell_all(&mark, Signal::TERM),
                    Rung::Kill => {
                        processes::end_all(&mark);
                        // One that has taken its mark off is still a child.
                        let _gone = self.child.kill();
                    }
                }
            }
            sleep(PAUSE);
        };
        self.tell(taken, sink);
        let asked = ladder.has_begun();
        if status.success() || asked {
            return Ok(Done {
                asked,
                saved: status.success(),
            });
        }
        let said = self.tail().unwrap_or_default();
        Err(EngineError::Ended {
            ended: judge(status, &said),
            log: plan.folder.join(HANDED_LOG),
        }
        .into())
    }

    fn ended(&mut self, plan: &Plan) -> Result<Option<ExitStatus>, EngineError> {
        self.child
            .try_wait()
            .map_err(|source| EngineError::NotStarted {
                program: plan.python.program.clone(),
                source,
            })
    }

    /// Passes on the log's new lines.
    fn tell(&mut self, taken: &mut RunFolder, sink: &dyn Sink) {
        // A log that cannot be read now is read at the next look.
        for line in self.log.lines().unwrap_or_default() {
            let number = |name: &str| line[name].as_f64();
            let (step, total) = (self.log.step, line["total_steps"].as_u64().unwrap_or(0));
            // Only who watches would miss it: a full disk is the run's own affair.
            let _later = taken.plan(total);
            if let Some(loss) = number("loss") {
                sink.emit(&Event::TrainStep {
                    step: line["current_steps"].as_u64().unwrap_or(step),
                    total,
                    loss,
                    learning_rate: number("lr").unwrap_or(0.0),
                    tokens_per_second: number("throughput").unwrap_or(0.0),
                });
            }
        }
    }

    /// The last of what was said.
    fn tail(&mut self) -> io::Result<String> {
        let end = self.said.metadata()?.len();
        let from = self.said_from.max(end.saturating_sub(TAIL));
        self.said.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        (&self.said).take(TAIL).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// What LLaMA-Factory wrote of its run.
#[derive(Debug, Default)]
struct Figures {
    steps: u64,
    planned: u64,
    results: Value,
}

impl Figures {
    fn of(folder: &Path) -> Self {
        let read = |name: &str| -> Value {
            let mut bytes = Vec::new();
            let file = File::open(folder.join(name)).ok();
            let read = file.and_then(|file| file.take(LARGEST).read_to_end(&mut bytes).ok());
            let value = read.and_then(|_| serde_json::from_slice(&bytes).ok());
            value.unwrap_or_default()
        };
        let state = read("trainer_state.json");
        Self {
            steps: state["global_step"].as_u64().unwrap_or(0),
            planned: state["max_steps"].as_u64().unwrap_or(0),
            results: read("all_results.json"),
        }
    }
}

/// More than any file of figures takes; those of long runs hold every log line.
const LARGEST: u64 = 256 << 20;

/// For a program to read; the names are those of the native engine's result.
fn result(plan: &Plan, done: &Done, state: State, started: Instant) -> Value {
    let figures = Figures::of(&plan.folder);
    let ending = match state {
        State::Stopped => "stopped",
        State::NoProgress => "no-progress",
        _ => "done",
    };
    json!({
        "engine": "llamafactory", "llamafactory": plan.python.llamafactory(),
        "output_dir": plan.folder, "steps": figures.steps, "planned_steps": figures.planned,
        "resumed_at": plan.from.as_ref().map_or(0, |from| from.step), "ending": ending, "saved": done.saved,
        "train_loss": figures.results["train_loss"], "eval_loss": figures.results["eval_loss"],
        "seconds": started.elapsed().as_secs_f64(), "device": plan.chosen.label(),
        "processes": plan.team.processes, "nodes": plan.team.nodes, "log": plan.folder.join(HANDED_LOG),
    })
}
