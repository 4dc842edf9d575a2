//! Verifies a bundle, checks the machine, installs and proves it.

mod cli;
mod commands;
mod discs;
mod facts;
mod help;
mod layer;
mod machine;
mod packages;
mod place;
mod resume;
mod site_code;
mod terms;
mod trust;
mod units;
mod unread;
mod vendor;
mod write;

use std::process::ExitCode;

use console::{View, arguments};

fn main() -> ExitCode {
    let cli: cli::Cli = match arguments(help::in_chinese) {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    let view = View::from_flags(&cli.flags);
    match cli.command.run(&view) {
        Ok(outcome) => view.done(outcome),
        Err(trouble) => view.fail(&trouble),
    }
}
