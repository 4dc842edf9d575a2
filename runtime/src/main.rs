//! Fine-tunes and chats from the local model repository.

#[cfg(feature = "native")]
mod chat;
mod check;
mod doctor;
mod error;
#[cfg(feature = "native")]
mod export;
mod home;
mod job_file;
mod material;
#[cfg(feature = "native")]
mod signals;
#[cfg(feature = "native")]
mod speech;
mod start;
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
    Check(JobArguments),
    /// Answer questions with a model, and an adapter if there is one
    Chat(ChatArguments),
    /// Write a model with its adapters added for good, for any program to load
    Export(JobArguments),
    /// Show how the run in an output folder goes, until it ends; watching is no part of the run
    Watch(WatchArguments),
    /// Ask the run in an output folder to end after its step and save
    Stop(StopArguments),
    /// Say what this program computes with, and where it looks for models
    Doctor,
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

/// What `train` needs.
#[derive(clap::Args)]
#[cfg_attr(
    not(feature = "native"),
    allow(dead_code, reason = "read only where libtorch is built in")
)]
struct TrainArguments {
    #[command(flatten)]
    job: JobArguments,
    /// Threads that compute. Without it as many as other programs leave idle; the same number gives the same results
    /// to the last bit
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
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

/// What `chat` needs.
#[derive(clap::Args)]
#[cfg_attr(
    not(feature = "native"),
    allow(dead_code, reason = "read only where libtorch is built in")
)]
struct ChatArguments {
    /// Folder of the model, a GGUF file, or an installed model's name
    #[arg(long)]
    model: String,
    /// Folder of a LoRA adapter
    #[arg(long)]
    adapter: Option<PathBuf>,
    /// Chat template, as in a job file. Without it the model's own is used
    #[arg(long)]
    template: Option<String>,
    /// A question; give several to ask one after another. Without any, questions are read from standard input
    #[arg(long)]
    prompt: Vec<String>,
    /// Longest answer, in tokens
    #[arg(long, default_value_t = 256)]
    max_tokens: usize,
    /// Draw each word by chance: above one wilder, below one tamer. Without it the likeliest word is taken
    #[arg(long)]
    temperature: Option<f64>,
}

fn main() -> ExitCode {
    start::with_sleeping_threads();
    let arguments = Arguments::parse();
    let view = View::from_flags(&arguments.flags);
    match run(arguments.command, &view) {
        Ok(outcome) => view.done(outcome),
        Err(trouble) => view.fail(&trouble),
    }
}

fn run(command: Command, view: &View) -> Result<Outcome, Trouble> {
    match command {
        Command::Watch(arguments) => return watch::run(&arguments, view),
        Command::Stop(arguments) => watch::stop(&arguments, view)?,
        Command::Doctor => doctor::run(view),
        Command::Check(arguments) => check::run(&arguments, view)?,
        #[cfg(feature = "native")]
        Command::Train(arguments) => train::run(&arguments, view)?,
        #[cfg(feature = "native")]
        Command::Chat(arguments) => chat::run(&arguments, view)?,
        #[cfg(feature = "native")]
        Command::Export(arguments) => export::run(&arguments, view)?,
        #[cfg(not(feature = "native"))]
        Command::Train(_) | Command::Chat(_) | Command::Export(_) => {
            return Err(error::RuntimeError::NotNative.into());
        }
    }
    Ok(Outcome::Done)
}
