//! `install --resume`: the command line of an install that waited for a start of the machine.

use std::path::PathBuf;

use clap::{CommandFactory as _, FromArgMatches as _};
use console::View;
use install_steps::{HostError, Prefix, Resume};
use report::{Args, Diagnose, Outcome, Trouble};

use crate::cli::{Cli, Command};

/// Runs the command line of an install that waited, in the folder that it was given in.
pub(crate) fn resume(view: &View, prefix: &Prefix) -> Result<Outcome, Trouble> {
    let resume = Resume::read(prefix)?;
    let folder = resume.folder.clone();
    std::env::set_current_dir(&folder).map_err(|source| NotResumed { folder, source })?;
    let words = std::iter::once("ferry-installer".to_owned()).chain(resume.words);
    let matches = Cli::command().try_get_matches_from(words);
    let cli = matches.and_then(|matches| Cli::from_arg_matches(&matches));
    match cli.map(|cli| cli.command) {
        Ok(Command::Install(args)) if !args.resume => args.run(view),
        _ => {
            let prefix = prefix.path().to_owned();
            Err(HostError::NothingToResume { prefix }.into())
        }
    }
}

/// The folder that an install was begun in is gone.
#[derive(Debug, thiserror::Error)]
#[error("cannot go back to `{}`, where the install was begun", folder.display())]
struct NotResumed {
    folder: PathBuf,
    source: std::io::Error,
}

impl Diagnose for NotResumed {
    fn code(&self) -> &'static str {
        "installer.not-resumed"
    }

    fn args(&self) -> Args {
        vec![("folder", self.folder.display().to_string())]
    }

    fn outcome(&self) -> Outcome {
        Outcome::HostFault
    }
}
