//! Mirrors models, datasets and runtimes into one signed bundle.

#![expect(
    clippy::doc_markdown,
    reason = "the help texts name environment variables, and backticks would show"
)]

mod assembly;
mod changes;
mod chip_rules;
mod commands;
mod error;
mod exporting;
mod gate;
mod key_folder;
mod licenses;
mod locking;
mod model_signatures;
mod output;
mod packing;
mod settings;
mod since;
mod vendor;
mod wizard;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use console::{Flags, View, arguments};
use report::{Outcome, Trouble};

/// Pack models, datasets and backends into one signed bundle for machines without a network
///
/// Exit status: 0 done; 1 failed; 2 the command line, plan or lock is wrong; 4 a signature or
/// digest does not hold; 5 this machine failed (disk, permission, network).
#[derive(Parser)]
#[command(name = "ferry-bundler", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Subcommand)]
enum Command {
    Init(Box<commands::init::Args>),
    Schema(commands::schema::Args),
    Plan(commands::plan::Args),
    Lock(commands::lock::Args),
    Build(commands::build::Args),
    Verify(commands::verify::Args),
    Inspect(commands::inspect::Args),
    Diff(commands::diff::Args),
    Export(commands::export::Args),
    Split(commands::split::Args),
    Parity(commands::parity::Args),
    Repair(commands::parity::Repair),
    Cache(commands::cache::Args),
    Keygen(commands::keygen::Args),
    Key(commands::key::Args),
    Sign(commands::sign::Args),
}

fn main() -> ExitCode {
    let cli: Cli = match arguments(|command| command) {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    let view = View::from_flags(&cli.flags);
    let result: Result<Outcome, Trouble> = match cli.command {
        Command::Init(args) => args.run(&view),
        Command::Schema(args) => args.run(&view),
        Command::Plan(args) => args.run(&view),
        Command::Lock(args) => args.run(&view),
        Command::Build(args) => args.run(&view),
        Command::Verify(args) => args.run(&view),
        Command::Inspect(args) => args.run(&view),
        Command::Diff(args) => args.run(&view),
        Command::Export(args) => args.run(&view),
        Command::Split(args) => args.run(&view),
        Command::Parity(args) => args.run(&view),
        Command::Repair(args) => args.run(&view),
        Command::Cache(args) => args.run(&view),
        Command::Keygen(args) => args.run(&view),
        Command::Key(args) => args.run(&view),
        Command::Sign(args) => args.run(&view),
    };
    match result {
        Ok(outcome) => view.done(outcome),
        Err(trouble) => view.fail(&trouble),
    }
}
