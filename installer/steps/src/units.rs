//! systemd's view of an install: links from its folder to the units of whatever release is current.
//!
//! ```text
//! /etc/systemd/system/ferry-train@.service -> <prefix>/current/systemd/ferry-train@.service
//! ```
//!
//! A unit names `<prefix>/current/…` and lies there itself, so switching stays one step: nothing in systemd's folder
//! changes with a release.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use report::{Args, Diagnose, Outcome};

use crate::disk::{Disk, DiskError};
use crate::guard::Guard;
use crate::journal::{Action, Journal, JournalError};
use crate::prefix::Prefix;

/// Units could not be linked or unlinked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnitsError {
    /// Something else has the unit's name.
    #[error("`{}` is there and is not a link to this install", path.display())]
    Taken {
        /// Where.
        path: PathBuf,
    },
    /// The log could not be continued.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Diagnose for UnitsError {
    fn code(&self) -> &'static str {
        match self {
            Self::Taken { .. } => "install.unit-taken",
            Self::Journal(error) => error.code(),
            Self::Disk(error) => error.code(),
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::Taken { path } => vec![("path", path.display().to_string())],
            Self::Journal(error) => error.args(),
            Self::Disk(error) => error.args(),
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Taken { .. } => Outcome::HostFault,
            Self::Journal(error) => error.outcome(),
            Self::Disk(error) => error.outcome(),
        }
    }
}

/// A folder that systemd reads units from.
#[derive(Clone, Debug)]
pub struct UnitFolder(PathBuf);

impl UnitFolder {
    /// The system's own, below `root`.
    pub fn system(root: &Path) -> Self {
        Self(root.join("etc/systemd/system"))
    }

    /// A user's, below their folder of settings.
    pub fn user(settings: &Path) -> Self {
        Self(settings.join("systemd/user"))
    }

    /// The links that units of these names would be, each with what it leads to.
    pub fn links(&self, prefix: &Prefix, names: &[String]) -> Vec<(PathBuf, PathBuf)> {
        let units = prefix.current_link().join(UNITS);
        let link = |name: &String| (self.0.join(name), units.join(name));
        names.iter().map(link).collect()
    }

    /// Links units to the current release's; those that are linked already stay. Returns how many are new.
    ///
    /// # Errors
    /// When another file has a unit's name, or the disk fails.
    pub fn link(
        &self,
        disk: &dyn Disk,
        _guard: &Guard,
        prefix: &Prefix,
        names: &[String],
    ) -> Result<usize, UnitsError> {
        let mut missing = Vec::new();
        for (link, target) in self.links(prefix, names) {
            match fs::read_link(&link) {
                Ok(found) if found == target => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    missing.push((link, target));
                }
                _ => return Err(UnitsError::Taken { path: link }),
            }
        }
        if missing.is_empty() {
            return Ok(0);
        }
        Self::log(disk, prefix, true, missing.iter().map(|(link, _)| link))?;
        disk.create_dir(&self.0)?;
        for (link, target) in &missing {
            disk.symlink(target, link)?;
        }
        disk.sync_dir(&self.0)?;
        Ok(missing.len())
    }

    /// The links in this folder that lead to this install.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn linked(&self, prefix: &Prefix) -> Result<Vec<PathBuf>, DiskError> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(DiskError::of("list", &self.0)(error)),
        };
        let units = prefix.current_link().join(UNITS);
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(DiskError::of("list", &self.0))?.path();
            if fs::read_link(&path).is_ok_and(|target| target.starts_with(&units)) {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }

    /// Removes the links that lead to this install. Returns how many.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn unlink(
        &self,
        disk: &dyn Disk,
        _guard: &Guard,
        prefix: &Prefix,
    ) -> Result<usize, UnitsError> {
        let linked = self.linked(prefix)?;
        if linked.is_empty() {
            return Ok(0);
        }
        Self::log(disk, prefix, false, linked.iter())?;
        for link in &linked {
            disk.remove_file(link)?;
        }
        disk.sync_dir(&self.0)?;
        Ok(linked.len())
    }

    fn log<'a>(
        disk: &dyn Disk,
        prefix: &Prefix,
        linked: bool,
        links: impl Iterator<Item = &'a PathBuf>,
    ) -> Result<(), JournalError> {
        let links = links.map(|link| link.display().to_string()).collect();
        Journal::read(prefix)?.add(disk, prefix, Action::Units { linked, links })
    }
}

/// What a release with a runtime brings for systemd: names and texts.
pub(crate) fn units(prefix: &Path) -> Vec<(&'static str, String)> {
    let text = TRAIN_UNIT.replace("{prefix}", &quoted(prefix, "$$"));
    vec![(TRAIN, text.replace("{value}", &quoted(prefix, "$")))]
}

/// A path inside double quotes of a unit: `%` begins a specifier there, and in a command, but not in `Environment=`,
/// `$` a variable; `dollar` stands for it.
fn quoted(path: &Path, dollar: &str) -> String {
    let mut text = String::new();
    for c in path.display().to_string().chars() {
        match c {
            '%' => text.push_str("%%"),
            '$' => text.push_str(dollar),
            '"' | '\\' => text.extend(['\\', c]),
            '\n' => text.push_str("\\n"),
            _ => text.push(c),
        }
    }
    text
}

/// Folder of the units below a release.
pub(crate) const UNITS: &str = "systemd";
const TRAIN: &str = "ferry-train@.service";

/// The job's own folder is where it works, as if somebody had started it there. `SIGINT` lets it save and end.
const TRAIN_UNIT: &str = r#"# Trains a job file, whether or not anybody is logged in:
#     systemctl start "ferry-train@$(systemd-escape --path /data/job.yaml).service"
#     journalctl -fu "ferry-train@$(systemd-escape --path /data/job.yaml).service"
[Unit]
Description=Ferry: train %f
ConditionPathExists=%f

[Service]
Type=simple
Environment="FERRY_CACHE={value}/cache"
ExecStart=/bin/sh -c 'cd -- "$${1%%/*}/" && exec "$$0" train "$$1"' "{prefix}/current/bin/ferry-runtime" "%f"
KillSignal=SIGINT
KillMode=mixed
TimeoutStopSec=15min

[Install]
WantedBy=multi-user.target
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    #[test]
    fn a_prefix_stays_one_word_of_a_unit() {
        for (path, expected) in [
            ("/opt/ferry", "/opt/ferry"),
            ("/o 100% \"x\"/$HOME", "/o 100%% \\\"x\\\"/$$HOME"),
        ] {
            assert_eq!(quoted(Path::new(path), "$$"), expected);
        }
    }

    #[test]
    fn only_our_own_links_are_made_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let prefix = Prefix::at(&folder.path().join("prefix")).unwrap();
        let guard = Guard::take(&RealDisk, &prefix, "test").unwrap();
        let units = UnitFolder::system(folder.path());
        let names = ["ferry-a.service", "ferry-b.service"].map(str::to_owned);
        assert_eq!(units.link(&RealDisk, &guard, &prefix, &names).unwrap(), 2);
        assert_eq!(units.link(&RealDisk, &guard, &prefix, &names).unwrap(), 0);
        assert_eq!(units.linked(&prefix).unwrap().len(), 2);
        let theirs = folder.path().join("etc/systemd/system/ferry-c.service");
        std::os::unix::fs::symlink("/elsewhere/current/systemd/ferry-c.service", &theirs).unwrap();
        let name = ["ferry-c.service".to_owned()];
        let taken = units.link(&RealDisk, &guard, &prefix, &name).unwrap_err();
        assert_eq!(taken.code(), "install.unit-taken");
        assert_eq!(units.unlink(&RealDisk, &guard, &prefix).unwrap(), 2);
        assert!(theirs.is_symlink());
        assert_eq!(Journal::read(&prefix).unwrap().entries().len(), 2);
    }
}
