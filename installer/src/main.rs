//! Verifies a bundle, checks the machine, installs and proves it.

mod cli;
mod commands;
mod discs;
mod facts;
mod help;
mod layer;
mod machine;
mod mistake;
mod packages;
mod place;
mod resume;
mod site_code;
mod terms;
mod trust;
mod units;
mod vendor;
mod write;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use console::{Language, View};

fn main() -> ExitCode {
    let cli = match parse() {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    let view = View::from_flags(&cli.flags);
    match cli.command.run(&view) {
        Ok(outcome) => view.done(outcome),
        Err(trouble) => view.fail(&trouble),
    }
}

/// Reads the command line; help and mistakes are shown in the language that it or the locale names.
fn parse() -> Result<cli::Cli, ExitCode> {
    let words: Vec<String> = std::env::args_os()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let locale = Language::from_locale(|name| std::env::var(name).ok());
    let mut command = cli::Cli::command();
    let language = help::language(&words, locale);
    if language == Language::Zh {
        command = help::in_chinese(command);
    }
    let matches = command.try_get_matches();
    matches
        .and_then(|matches| cli::Cli::from_arg_matches(&matches))
        .map_err(|error| show(&error, language))
}

/// Shows the help that was asked for, or what is wrong with the command line. Returns what the program ends with.
fn show(error: &clap::Error, language: Language) -> ExitCode {
    let chinese = (language == Language::Zh).then(|| mistake::in_chinese(error));
    // Where nobody listens nobody is told; the status tells it.
    let _ = match chinese.flatten() {
        Some(text) => std::io::stderr().write_all(text.as_bytes()),
        None => error.print(),
    };
    let status = u8::try_from(error.exit_code());
    status.map_or(ExitCode::FAILURE, ExitCode::from)
}
