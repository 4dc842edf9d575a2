//! Two engines for one job file: libtorch in this program, or LLaMA-Factory in Python, driven from here.
//!
//! ```text
//! job file -> keys -> the chip's rules -> handed: what goes over -> plan: folder, environment, command line
//!     check shows the plan; train does it: run
//! ```
//!
//! What LLaMA-Factory computes is its own affair. Ferry's are the limits of the chip, that nothing goes over the network,
//! that the run can be watched and ended from its folder, and that an end is told in words with a next step.

use std::cell::Cell;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use console::View;
use report::{Event, Trouble};
use rustix::process::Signal;
use train::Record;

use crate::device::DeviceArguments;
use crate::home::Home;
use crate::{CheckArguments, JobArguments, TrainArguments};

mod auto;
mod change;
mod datasets;
mod ending;
mod environment;
mod error;
mod handed;
mod handing;
mod keys;
mod launcher;
mod needs;
mod plan;
mod processes;
mod python;
mod resume;
mod run;
mod show;
mod stopping;

pub(crate) use auto::may_do;
pub(crate) use handed::Given;

use error::EngineError;
use plan::Plan;
use python::Python;

/// What computes a job.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Engine {
    /// libtorch, in this program
    Native,
    /// LLaMA-Factory, in the release's Python
    #[value(name = "llamafactory")]
    LlamaFactory,
    /// The first of these two that can do the job
    Auto,
}

/// What the command line says of engines.
#[derive(Debug, clap::Args)]
pub(crate) struct EngineArguments {
    /// What computes the job
    #[arg(long, value_enum, default_value_t = Engine::Native)]
    pub(crate) engine: Engine,
    /// Python that has LLaMA-Factory, or the folder of its environment. Without it the release's `env/`
    #[arg(long, value_name = "PATH")]
    pub(crate) python: Option<PathBuf>,
    /// Machines that train together, with LLaMA-Factory; the same command is given on each
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) nodes: u16,
    /// The number of this machine, counted from 0
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(crate) node_rank: u16,
    /// Address of the first machine, as the others reach it
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) master_addr: Option<String>,
    /// Port where the machines meet. Without it 29500, or on one machine a free one
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) master_port: Option<u16>,
}

/// A job and what the command line says beside it.
pub(crate) struct Asked<'a> {
    pub(crate) job: &'a JobArguments,
    pub(crate) device: &'a DeviceArguments,
    pub(crate) engine: &'a EngineArguments,
    pub(crate) processes: u16,
    pub(crate) threads: Option<u16>,
}

impl Asked<'_> {
    /// Whether one process does it, and no other program started that.
    fn is_alone(&self) -> bool {
        self.processes == 1 && std::env::var_os("RANK").is_none()
    }
}

/// Tunes a model with the engine that the command line names.
pub(crate) fn train(arguments: &TrainArguments, view: &View) -> Result<(), Trouble> {
    let asked = Asked {
        job: &arguments.job,
        device: &arguments.device,
        engine: &arguments.engine,
        processes: arguments.processes,
        threads: arguments.threads,
    };
    if let Settled::Native = settle(&asked, view)? {
        let began = Cell::new(false);
        match native_train(arguments, &began, view) {
            // What only the data show. Once something is trained, the folder is this engine's.
            Err(trouble) if !began.get() && asked.is_alone() => {
                auto::take_over(&asked, trouble, view)?;
            }
            done => return done,
        }
    }
    let plan = Plan::make(&asked, view)?;
    plan.warn(view);
    run::run(&plan, Duration::from_secs(arguments.grace.into()), view)
}

/// Says what an engine would do with a job.
pub(crate) fn check(arguments: &CheckArguments, view: &View) -> Result<(), Trouble> {
    let asked = Asked {
        job: &arguments.job,
        device: &arguments.device,
        engine: &arguments.engine,
        processes: arguments.processes,
        threads: None,
    };
    if let Settled::Native = settle(&asked, view)? {
        match crate::check::run(arguments, view) {
            // A run would be handed over by its first process alone.
            Err(trouble) if asked.is_alone() => auto::take_over(&asked, trouble, view)?,
            done => return done,
        }
    }
    let plan = Plan::make(&asked, view)?;
    plan.warn(view);
    view.result(&plan.to_json(), &show::lines(&plan, view).join("\n"));
    Ok(())
}

/// The engine that a job goes to.
enum Settled {
    Native,
    LlamaFactory,
}

fn settle(asked: &Asked<'_>, view: &View) -> Result<Settled, Trouble> {
    launcher::warn(asked, view);
    match asked.engine.engine {
        Engine::LlamaFactory => Ok(Settled::LlamaFactory),
        Engine::Native => {
            if let Some(flag) = asked.engine.flag_of_other() {
                return Err(EngineError::FlagOfOther { flag }.into());
            }
            Ok(Settled::Native)
        }
        Engine::Auto => {
            let Some(reason) = auto::refusal(asked, view) else {
                return Ok(Settled::Native);
            };
            auto::take_over(asked, reason, view)?;
            Ok(Settled::LlamaFactory)
        }
    }
}

impl EngineArguments {
    /// A flag that only LLaMA-Factory's runs have.
    fn flag_of_other(&self) -> Option<&'static str> {
        let flags = [
            ("--python", self.python.is_some()),
            ("--nodes", self.nodes > 1),
            ("--node-rank", self.node_rank > 0),
            ("--master-addr", self.master_addr.is_some()),
            ("--master-port", self.master_port.is_some()),
        ];
        let given = flags.iter().find(|(_, given)| *given);
        given.map(|(flag, _)| *flag)
    }
}

/// The command line that hands the job to the other engine, where it may do what this one refuses.
pub(crate) fn offer(arguments: &EngineArguments, trouble: &Trouble) -> Option<Offer> {
    if arguments.engine == Engine::LlamaFactory || !may_do(trouble) {
        return None;
    }
    let words = std::env::args_os().skip(1);
    let words = without_engine(words.collect());
    let mut command = "ferry-runtime".to_owned();
    for word in words {
        command.push(' ');
        command.push_str(&quoted(&word.to_string_lossy()));
    }
    command.push_str(" --engine llamafactory");
    let here = arguments.python.is_some() || python::is_installed(&Home::find());
    if !here {
        command.push_str(" --python PATH");
    }
    let code = if here {
        "engine.offered"
    } else {
        "engine.offered-elsewhere"
    };
    Some(Offer { code, command })
}

/// What else can be typed.
pub(crate) struct Offer {
    /// Code of its text.
    pub(crate) code: &'static str,
    /// The command line.
    pub(crate) command: String,
}

impl Offer {
    /// For a program: an event before the error.
    pub(crate) fn event(&self) -> Event {
        Event::Warned {
            code: self.code.to_owned(),
            args: vec![("command".to_owned(), self.command.clone())],
        }
    }
}

/// A command line's words without the choice of an engine.
fn without_engine(words: Vec<OsString>) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if word == "--engine" {
            words.next();
        } else if !word.to_string_lossy().starts_with("--engine=") {
            kept.push(word);
        }
    }
    kept
}

/// A word as a shell takes it for one.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_=./:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Ends a run of LLaMA-Factory whose ferry-runtime was killed: asked once it may save, asked again it may not.
pub(crate) fn end_orphan(folder: &Path, record: &Record, again: bool) {
    let mark = plan::real(folder);
    if !processes::are_orphaned(&mark, record.pid) {
        return;
    }
    if again {
        processes::end_all(&mark);
    } else {
        processes::ask(&mark, Signal::TERM);
    }
}

/// What of each engine is usable here, for `doctor`.
pub(crate) fn usable(home: &Home) -> serde_json::Value {
    let other = match Python::find(None, home) {
        Ok(python) => {
            let mut found = python.to_json();
            found["usable"] = true.into();
            found["title"] = python.title().into();
            found
        }
        Err(error) => {
            let trouble = Trouble::from(error);
            serde_json::json!({"usable": false, "why": trouble.to_json()})
        }
    };
    serde_json::json!({"native": {"usable": cfg!(feature = "native")}, "llamafactory": other})
}

#[cfg(feature = "native")]
fn native_train(
    arguments: &TrainArguments,
    began: &Cell<bool>,
    view: &View,
) -> Result<(), Trouble> {
    crate::train::run(arguments, began, view)
}

#[cfg(not(feature = "native"))]
fn native_train(
    _arguments: &TrainArguments,
    _began: &Cell<bool>,
    _view: &View,
) -> Result<(), Trouble> {
    Err(crate::error::RuntimeError::NotNative.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_offered_as_a_shell_takes_it() {
        let words = [
            "train",
            "my job.yaml",
            "--engine",
            "native",
            "--engine=auto",
            "a=1",
        ];
        let kept = without_engine(words.iter().map(OsString::from).collect());
        let typed: Vec<String> = kept
            .iter()
            .map(|word| quoted(&word.to_string_lossy()))
            .collect();
        assert_eq!(typed.join(" "), "train 'my job.yaml' a=1");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
