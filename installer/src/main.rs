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
mod vendor;
mod write;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use console::{Language, View};

fn main() -> ExitCode {
    let cli = parse();
    let view = View::from_flags(&cli.flags);
    match cli.command.run(&view) {
        Ok(outcome) => view.done(outcome),
        Err(trouble) => view.fail(&trouble),
    }
}

/// Reads the command line; help and mistakes are shown in the language that it or the locale names.
fn parse() -> cli::Cli {
    let words: Vec<String> = std::env::args_os()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let locale = Language::from_locale(|name| std::env::var(name).ok());
    let mut command = cli::Cli::command();
    if help::language(&words, locale) == Language::Zh {
        command = help::in_chinese(command);
    }
    let matches = command.get_matches();
    cli::Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}
