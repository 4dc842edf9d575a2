//! Fine-tunes and chats from the local model repository.

mod check;
mod device;
mod doctor;
mod engine;
mod error;
mod exit;
mod home;
mod job_file;
mod material;
mod model_folder;
mod native;
mod preview;
mod rows;
mod rules;
mod run_log;
mod signals;
mod start;
mod watch;

#[cfg(feature = "native")]
mod api;
#[cfg(feature = "native")]
mod chance;
#[cfg(feature = "native")]
mod chat;
#[cfg(feature = "native")]
mod eval;
#[cfg(feature = "native")]
mod exam;
#[cfg(feature = "native")]
mod export;
#[cfg(feature = "native")]
mod http;
#[cfg(feature = "native")]
mod model;
#[cfg(feature = "native")]
mod perplexity;
mod placed_job;
mod positions;
#[cfg(feature = "native")]
mod predict;
#[cfg(feature = "native")]
mod processes;
#[cfg(feature = "native")]
mod questions;
#[cfg(feature = "native")]
mod speech;
#[cfg(feature = "native")]
mod talk;
#[cfg(feature = "native")]
mod train;
#[cfg(feature = "native")]
mod tuning;
#[cfg(feature = "native")]
mod web;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use console::{Flags, View};
use report::{Outcome, Sink as _, Trouble};

use crate::device::{Chosen, DeviceArguments};
use crate::engine::{Engine, EngineArguments};
use crate::home::Home;
use crate::native::{ApiArguments, ChatArguments, WebArguments};

/// Fine-tunes and chats with models on this machine. Opens no connection.
///
/// Exit status: 0 done, 1 failed, 2 wrong command or job, 5 the machine failed.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
    /// Leave the session of whoever starts this, so that its end ends nothing here
    #[arg(long, global = true, hide = true)]
    own_session: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Tune a model as a job file says
    Train(TrainArguments),
    /// Say what a job will do and need, before anything starts
    Check(CheckArguments),
    /// Show the first examples of a job as the model will read them: tokens, labels and their texts
    Preview(PreviewArguments),
    /// Answer a dataset's questions with a model, and tell how near it comes to the wanted answers
    Predict(PlacedArguments),
    /// Try a model on an exam of multiple choice, or on the loss of datasets
    Eval(PlacedArguments),
    /// Answer questions with a model, and an adapter if there is one
    Chat(ChatArguments),
    /// Serve a model to clients of the OpenAI interface
    Api(ApiArguments),
    /// Serve a page for the browser: choose, check, start, watch, try and export
    #[command(alias = "webui")]
    Web(WebArguments),
    /// Write a model with its adapters added for good, for any program to load
    Export(JobArguments),
    /// Show how the run in an output folder goes, until it ends; watching is no part of the run
    Watch(WatchArguments),
    /// Ask the run in an output folder to end after its step and save
    Stop(StopArguments),
    /// Say what this program computes with, and where it looks for models
    Doctor(DoctorArguments),
}

/// A job with its overrides.
#[derive(clap::Args)]
struct JobArguments {
    /// Job file, in LLaMA-Factory's YAML or JSON
    job: PathBuf,
    /// Settings that replace the file's, such as `learning_rate=1e-4`
    #[arg(value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

/// A job, and where it is computed.
#[derive(clap::Args)]
#[cfg_attr(
    not(feature = "native"),
    allow(dead_code, reason = "read only where libtorch is built in")
)]
struct PlacedArguments {
    #[command(flatten)]
    job: JobArguments,
    #[command(flatten)]
    device: DeviceArguments,
}

/// What `check` needs.
#[derive(clap::Args)]
struct CheckArguments {
    #[command(flatten)]
    job: JobArguments,
    #[command(flatten)]
    device: DeviceArguments,
    #[command(flatten)]
    engine: EngineArguments,
    /// Processes of this machine that would train together
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    processes: u16,
    /// Show the first examples as the model will see them
    #[arg(long, value_name = "COUNT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    rows: u8,
}

/// What `preview` needs.
#[derive(clap::Args)]
struct PreviewArguments {
    #[command(flatten)]
    job: JobArguments,
    /// Examples that are shown
    #[arg(long, value_name = "COUNT", default_value_t = 2)]
    count: usize,
    /// Examples that are passed over before
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    skip: usize,
    /// Show what the job is evaluated on, not what it trains on
    #[arg(long)]
    eval: bool,
}

/// What `train` needs.
#[derive(clap::Args)]
struct TrainArguments {
    #[command(flatten)]
    job: JobArguments,
    #[command(flatten)]
    device: DeviceArguments,
    #[command(flatten)]
    engine: EngineArguments,
    /// Threads that compute. Without it as many as other programs leave idle; the same number gives the same results
    /// to the last bit
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Processes of this machine that train together, each on a device of its own where there are several
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    processes: u16,
    /// Seconds that a run of LLaMA-Factory which is asked to end may take to finish its step and save
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..))]
    grace: u32,
}

/// What `doctor` needs.
#[derive(clap::Args)]
struct DoctorArguments {
    #[command(flatten)]
    device: DeviceArguments,
    /// Processes of this machine that add numbers up together, each on a device of its own, to see whether they can
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    processes: u16,
}

/// What `watch` needs.
#[derive(clap::Args)]
struct WatchArguments {
    /// The run's `output_dir`
    output_dir: PathBuf,
    /// Say how it stands now, and end
    #[arg(long)]
    once: bool,
}

/// What `stop` needs.
#[derive(clap::Args)]
struct StopArguments {
    /// The run's `output_dir`
    output_dir: PathBuf,
}

fn main() -> ExitCode {
    let arguments: Arguments = match console::arguments(|command| command) {
        Ok(arguments) => arguments,
        Err(status) => return status,
    };
    if arguments.own_session {
        // It has one already where the program started itself anew.
        let _had_one = rustix::process::setsid();
    }
    start_as_the_device_needs(&arguments.command);
    let view = View::from_flags(&arguments.flags);
    match run(&arguments.command, &view) {
        Ok(outcome) => view.done(outcome),
        Err(trouble) => fail(&arguments.command, &trouble, &view),
    }
}

/// Says what went wrong, and which other engine may do what this one refuses.
fn fail(command: &Command, trouble: &Trouble, view: &View) -> ExitCode {
    let offer = match command {
        Command::Train(arguments) => engine::offer(&arguments.engine, trouble),
        Command::Check(arguments) => engine::offer(&arguments.engine, trouble),
        _ => None,
    };
    // A program reads the error last.
    if let Some(offer) = offer.as_ref().filter(|_| view.is_json()) {
        view.emit(&offer.event());
    }
    let status = view.fail(trouble);
    if let Some(offer) = offer {
        view.note(offer.code, &[("command", offer.command)]);
    }
    #[cfg(feature = "native")]
    torch_backend::end_where_devices_wait(trouble.diagnose().outcome().status());
    status
}

/// Says what went wrong and ends the program, for a thread that does not wait for the one that computes.
#[cfg(feature = "native")]
fn say_and_end(trouble: &Trouble) -> ! {
    let _status = View::from_flags(&Arguments::parse().flags).fail(trouble);
    torch_backend::end(trouble.diagnose().outcome().status())
}

/// Libraries read some variables as they are loaded, which is before this: the program starts itself anew with them.
fn start_as_the_device_needs(command: &Command) {
    let home = Home::find();
    let own = |engine: &EngineArguments| engine.engine != Engine::LlamaFactory;
    let arguments = match command {
        Command::Train(arguments) => Some(&arguments.device).filter(|_| own(&arguments.engine)),
        Command::Check(arguments) => Some(&arguments.device).filter(|_| own(&arguments.engine)),
        Command::Eval(arguments) | Command::Predict(arguments) => Some(&arguments.device),
        Command::Chat(arguments) => Some(&arguments.talk.device),
        Command::Api(arguments) => Some(&arguments.talk.device),
        Command::Doctor(arguments) => Some(&arguments.device),
        Command::Preview(_)
        | Command::Export(_)
        | Command::Watch(_)
        | Command::Stop(_)
        | Command::Web(_) => None,
    };
    let chosen = arguments.map_or_else(Chosen::processor, |given| Chosen::by(given, &home));
    start::again_where_needed(chosen.policy, &device::folders(&home));
}

fn run(command: &Command, view: &View) -> Result<Outcome, Trouble> {
    match command {
        Command::Watch(arguments) => return watch::run(arguments, view),
        Command::Stop(arguments) => watch::stop(arguments, view)?,
        Command::Doctor(arguments) => doctor::run(arguments, view)?,
        Command::Check(arguments) => engine::check(arguments, view)?,
        Command::Preview(arguments) => preview::run(arguments, view)?,
        Command::Train(arguments) => engine::train(arguments, view)?,
        #[cfg(feature = "native")]
        Command::Predict(arguments) => predict::run(arguments, view)?,
        #[cfg(feature = "native")]
        Command::Eval(arguments) => eval::run(arguments, view)?,
        #[cfg(feature = "native")]
        Command::Chat(arguments) => chat::run(arguments, view)?,
        #[cfg(feature = "native")]
        Command::Api(arguments) => api::run(arguments, view)?,
        #[cfg(feature = "native")]
        Command::Web(arguments) => web::run(arguments, view)?,
        #[cfg(feature = "native")]
        Command::Export(arguments) => export::run(arguments, view)?,
        #[cfg(not(feature = "native"))]
        Command::Predict(_)
        | Command::Eval(_)
        | Command::Chat(_)
        | Command::Api(_)
        | Command::Web(_)
        | Command::Export(_) => return Err(error::RuntimeError::NotNative.into()),
    }
    Ok(Outcome::Done)
}
