//! The command line.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use console::{Flags, View};
use install_steps::{DiskError, Prefix};
use report::{Outcome, Trouble};

use crate::commands::{
    audit, gc, install, inventory, log, preflight, probe, rollback, status, support_bundle, trust,
    uninstall, verify,
};

/// Verifies a bundle, checks the machine, installs and proves it
#[derive(Debug, Parser)]
#[command(name = "ferry-installer", version, after_help = EXIT_STATUS, max_term_width = 80)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) flags: Flags,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Say what this machine is: processor, system, chips, driver
    Probe(probe::Args),
    /// Check a bundle's signature and every byte of it
    Verify(verify::Args),
    /// Say whether a bundle can be installed on this machine, and what to do where not
    Preflight(preflight::Args),
    /// Install a bundle and make it the current release
    Install(install::Args),
    /// Say what is installed
    Status(status::Args),
    /// Go back to the release that was current before
    Rollback(rollback::Args),
    /// Remove a release, or everything that was installed
    Uninstall(uninstall::Args),
    /// Check every installed file: is it what was signed, by whom, where did it come from
    Audit(audit::Args),
    /// Remove what nothing needs any more
    Gc(gc::Args),
    /// Say what was done here, when, by whom, from which bundle
    Log(log::Args),
    /// Say which trust roots count here, add one or remove one
    Trust(trust::Args),
    /// List what is here already, for a bundle that carries only the rest
    Inventory(inventory::Args),
    /// Write one readable file for somebody who helps
    SupportBundle(support_bundle::Args),
}

impl Command {
    pub(crate) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        match self {
            Self::Probe(args) => args.run(view),
            Self::Verify(args) => args.run(view),
            Self::Preflight(args) => args.run(view),
            Self::Install(args) => args.run(view),
            Self::Status(args) => args.run(view),
            Self::Rollback(args) => args.run(view),
            Self::Uninstall(args) => args.run(view),
            Self::Audit(args) => args.run(view),
            Self::Gc(args) => args.run(view),
            Self::Log(args) => args.run(view),
            Self::Trust(args) => args.run(view),
            Self::Inventory(args) => args.run(view),
            Self::SupportBundle(args) => args.run(view),
        }
    }
}

/// Where things are installed.
#[derive(Args, Debug)]
pub(crate) struct At {
    /// Folder that everything is installed below
    #[arg(long, value_name = "DIR", default_value = "/opt/ferry")]
    prefix: PathBuf,
}

impl At {
    pub(crate) fn prefix(&self) -> Result<Prefix, DiskError> {
        let prefix = Prefix::at(&self.prefix)?;
        Ok(match std::env::var_os("FERRY_TRUST_DIR") {
            Some(folder) if !folder.is_empty() => prefix.with_system_trust(Path::new(&folder)),
            _ => prefix,
        })
    }
}

const EXIT_STATUS: &str = "Exit status: 0 done, 1 failed, 2 wrong usage, 3 the machine does not fit, \
4 not trusted, 5 the machine failed, 6 go on after a start of the machine";
