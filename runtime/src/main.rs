//! Fine-tunes and chats from the local model repository.

#[cfg(feature = "native")]
mod api;
#[cfg(feature = "native")]
mod chance;
#[cfg(feature = "native")]
mod chat;
mod check;
mod device;
mod doctor;
mod error;
#[cfg(feature = "native")]
mod eval;
#[cfg(feature = "native")]
mod exam;
#[cfg(feature = "native")]
mod export;
mod home;
mod job_file;
mod material;
#[cfg(feature = "native")]
mod model;
#[cfg(feature = "native")]
mod perplexity;
mod positions;
#[cfg(feature = "native")]
mod predict;
#[cfg(feature = "native")]
mod processes;
#[cfg(feature = "native")]
mod questions;
mod rules;
#[cfg(feature = "native")]
mod signals;
#[cfg(feature = "native")]
mod speech;
mod start;
#[cfg(feature = "native")]
mod talk;
#[cfg(feature = "native")]
mod train;
#[cfg(feature = "native")]
mod tuning;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use console::{Flags, View};
use report::{Outcome, Trouble};

use crate::device::{Chosen, DeviceArguments};
use crate::home::Home;

/// Fine-tunes and chats with models on this machine. Opens no connection.
///
/// Exit status: 0 done, 1 failed, 2 wrong command or job, 5 the machine failed.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Tune a model as a job file says
    Train(TrainArguments),
    /// Say what a job will do and need, before anything starts
    Check(CheckArguments),
    /// Answer a dataset's questions with a model, and tell how near it comes to the wanted answers
    Predict(JobArguments),
    /// Try a model on an exam of multiple choice, or on the loss of datasets
    Eval(JobArguments),
    /// Answer questions with a model, and an adapter if there is one
    Chat(ChatArguments),
    /// Serve a model to clients of the OpenAI interface
    Api(ApiArguments),
    /// Write a model with its adapters added for good, for any program to load
    Export(JobArguments),
    /// Show how the run in an output folder goes, until it ends; watching is no part of the run
    Watch(WatchArguments),
    /// Ask the run in an output folder to end after its step and save
    Stop(StopArguments),
    /// Say what this program computes with, and where it looks for models
    Doctor(DeviceArguments),
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

/// What `check` needs.
#[derive(clap::Args)]
struct CheckArguments {
    #[command(flatten)]
    job: JobArguments,
    #[command(flatten)]
    device: DeviceArguments,
}

/// What `train` needs.
#[derive(clap::Args)]
#[cfg_attr(
    not(feature = "native"),
    allow(dead_code, reason = "read only where libtorch is built in")
)]
struct TrainArguments {
    #[command(flatten)]
    job: JobArguments,
    #[command(flatten)]
    device: DeviceArguments,
    /// Threads that compute. Without it as many as other programs leave idle; the same number gives the same results
    /// to the last bit
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Processes of this machine that train together, each on a device of its own where there are several
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

/// What `chat` and `api` talk with.
#[derive(clap::Args)]
#[cfg_attr(
    not(feature = "native"),
    allow(dead_code, reason = "read only where libtorch is built in")
)]
struct TalkArguments {
    /// Job file, in LLaMA-Factory's YAML or JSON. Where `--model` is given none is needed
    job: Option<PathBuf>,
    /// Settings that replace the file's, such as `top_p=0.8`
    #[arg(value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Folder of the model, a GGUF file, or an installed model's name; instead of the job's
    #[arg(long)]
    model: Option<String>,
    /// Folder of a LoRA adapter, instead of the job's (can be repeated)
    #[arg(long)]
    adapter: Vec<PathBuf>,
    /// Chat template, as in a job file. Without it the model's own is used
    #[arg(long)]
    template: Option<String>,
    #[command(flatten)]
    device: DeviceArguments,
}

/// What `chat` needs.
#[derive(clap::Args)]
#[cfg_attr(
    not(feature = "native"),
    allow(dead_code, reason = "read only where libtorch is built in")
)]
struct ChatArguments {
    #[command(flatten)]
    talk: TalkArguments,
    /// A question; give several to ask one after another. Without any, questions are read from standard input
    #[arg(long)]
    prompt: Vec<String>,
    /// What the model is told before the first question
    #[arg(long)]
    system: Option<String>,
    /// Longest answer, in tokens. Without it the job's; without a job and settings 256
    #[arg(long)]
    max_tokens: Option<usize>,
    /// Draw each word by chance: above one wilder, below one tamer. Without it the job decides; without a job and
    /// settings the likeliest word is taken
    #[arg(long)]
    temperature: Option<f64>,
    /// Decides what is drawn: the same seed draws the same. Without it each run draws anew
    #[arg(long)]
    seed: Option<u64>,
}

/// What `api` needs.
#[derive(clap::Args)]
#[cfg_attr(
    not(feature = "native"),
    allow(dead_code, reason = "read only where libtorch is built in")
)]
struct ApiArguments {
    #[command(flatten)]
    talk: TalkArguments,
    /// Address and port to listen on. Without it 127.0.0.1:8000, or what `API_HOST` and `API_PORT` say
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// File with the token that clients must show. Without it `API_KEY` is the token; without both none is needed on this
    /// machine, and one is made and shown where others can reach the server
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Answers that are made at a time
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrent: u16,
    /// Requests that may wait for their turn; more are refused
    #[arg(long, value_name = "COUNT", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=4096))]
    queue: u16,
    /// Seconds that a client may take to send a request's head; twice as long for a body, and to take what it is sent
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..=3600))]
    patience: u16,
    /// Largest request, in megabytes
    #[arg(long, value_name = "MB", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    largest_request: u16,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_as_the_device_needs(&arguments.command);
    let view = View::from_flags(&arguments.flags);
    match run(arguments.command, &view) {
        Ok(outcome) => view.done(outcome),
        Err(trouble) => view.fail(&trouble),
    }
}

/// Libraries read some variables as they are loaded, which is before this: the program starts itself anew with them.
fn start_as_the_device_needs(command: &Command) {
    let home = Home::find();
    let arguments = match command {
        Command::Train(arguments) => Some(&arguments.device),
        Command::Check(arguments) => Some(&arguments.device),
        Command::Chat(arguments) => Some(&arguments.talk.device),
        Command::Api(arguments) => Some(&arguments.talk.device),
        Command::Doctor(arguments) => Some(arguments),
        Command::Export(_)
        | Command::Eval(_)
        | Command::Predict(_)
        | Command::Watch(_)
        | Command::Stop(_) => None,
    };
    let chosen = arguments.map_or_else(Chosen::processor, |given| Chosen::by(given, &home));
    start::again_where_needed(chosen.policy, &device::folders(&home));
}

fn run(command: Command, view: &View) -> Result<Outcome, Trouble> {
    match command {
        Command::Watch(arguments) => return watch::run(&arguments, view),
        Command::Stop(arguments) => watch::stop(&arguments, view)?,
        Command::Doctor(arguments) => doctor::run(&arguments, view)?,
        Command::Check(arguments) => check::run(&arguments, view)?,
        #[cfg(feature = "native")]
        Command::Train(arguments) => train::run(&arguments, view)?,
        #[cfg(feature = "native")]
        Command::Predict(arguments) => predict::run(&arguments, view)?,
        #[cfg(feature = "native")]
        Command::Eval(arguments) => eval::run(&arguments, view)?,
        #[cfg(feature = "native")]
        Command::Chat(arguments) => chat::run(&arguments, view)?,
        #[cfg(feature = "native")]
        Command::Api(arguments) => api::run(&arguments, view)?,
        #[cfg(feature = "native")]
        Command::Export(arguments) => export::run(&arguments, view)?,
        #[cfg(not(feature = "native"))]
        Command::Train(_)
        | Command::Predict(_)
        | Command::Eval(_)
        | Command::Chat(_)
        | Command::Api(_)
        | Command::Export(_) => return Err(error::RuntimeError::NotNative.into()),
    }
    Ok(Outcome::Done)
}
