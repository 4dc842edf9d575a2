//! Verifies a bundle, checks the machine, installs and proves it.

mod cli;
mod commands;
mod machine;
mod trust;
mod write;

use std::process::ExitCode;

use clap::Parser;
use console::View;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let view = View::from_flags(&cli.flags);
    match cli.command.run(&view) {
        Ok(outcome) => view.done(outcome),
        Err(trouble) => view.fail(&trouble),
    }
}
