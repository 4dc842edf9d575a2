//! What was done, when, by whom, from which bundle: one JSON object a line, each bound to the one before.
//!
//! ```text
//! {"number":1,"previous":"<64 zeros>","time":"2026-01-31T08:00:00Z","user":1000,"action":"install",…}
//! {"number":2,"previous":"<SHA-256 of the line above, without its line end>",…}
//! ```
//!
//! A line without a line end was cut off by a power failure: nothing followed it, so the next entry takes its
//! place. Any other damage breaks the chain and is reported.

mod action;
mod clock;
mod error;

use std::io;
use std::time::SystemTime;

use manifest_schema::Digest;
use serde::{Deserialize, Serialize};

pub use action::{AcceptedBy, Action, HostEnded};
use clock::utc;
pub use error::JournalError;

use crate::disk::{Disk, DiskError, read_small};
use crate::prefix::{Prefix, ReleaseName};

/// One line of the log.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Entry {
    /// Counted from 1.
    pub number: u64,
    /// SHA-256 of the line before; zeros for the first.
    pub previous: Digest,
    /// UTC, to the second, by the machine's own clock.
    pub time: String,
    /// Number of the user who ran the installer.
    pub user: u32,
    /// What was done.
    #[serde(flatten)]
    pub action: Action,
}

/// The log, read and checked.
#[derive(Debug)]
pub struct Journal {
    entries: Vec<Entry>,
    /// Digest of each entry's line.
    digests: Vec<Digest>,
    last: Digest,
    /// Bytes of the whole lines; what follows was cut off.
    length: u64,
}

impl Journal {
    /// Reads the log below `prefix` and checks its chain; a log that is not there is empty.
    ///
    /// # Errors
    /// When a line is missing, changed or out of place.
    pub fn read(prefix: &Prefix) -> Result<Self, JournalError> {
        match Self::read_as_far(prefix)? {
            (journal, None) => Ok(journal),
            (_, Some(broken)) => Err(broken),
        }
    }

    /// Reads the log as far as its chain holds, for a person to read; where it breaks, that error as well. Nothing may be
    /// decided by what stands before a break.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read_as_far(prefix: &Prefix) -> Result<(Self, Option<JournalError>), DiskError> {
        let path = prefix.log();
        let text = match read_small(&path, LONGEST_LOG) {
            Ok(text) => text,
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut journal = Self {
            entries: Vec::new(),
            digests: Vec::new(),
            last: Digest::from_bytes([0; 32]),
            length: 0,
        };
        for (position, line) in text.split_inclusive(|&byte| byte == b'\n').enumerate() {
            let Some(whole) = line.strip_suffix(b"\n") else {
                break;
            };
            let entry = serde_json::from_slice::<Entry>(whole).ok().filter(|entry| {
                entry.previous == journal.last && entry.number == position as u64 + 1
            });
            let Some(entry) = entry else {
                let line = position + 1;
                return Ok((journal, Some(JournalError::Broken { line, path })));
            };
            journal.entries.push(entry);
            journal.last = Digest::of(whole);
            journal.digests.push(journal.last);
            journal.length += line.len() as u64;
        }
        Ok((journal, None))
    }

    /// Every entry, oldest first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Digest of the last line: whoever notes it can tell later that nothing before it was changed or lost.
    pub fn head(&self) -> Digest {
        self.last
    }

    /// Whether the log went through a head that somebody noted.
    pub fn went_through(&self, head: &Digest) -> bool {
        self.digests.contains(head)
    }

    /// Adds an entry and waits until it is on the disk.
    pub(crate) fn add(
        &mut self,
        disk: &dyn Disk,
        prefix: &Prefix,
        action: Action,
    ) -> Result<(), JournalError> {
        let path = prefix.log();
        let entry = Entry {
            number: self.entries.len() as u64 + 1,
            previous: self.last,
            time: utc(SystemTime::now()),
            user: rustix::process::getuid().as_raw(),
            action,
        };
        let mut line = serde_json::to_string(&entry)
            .map_err(|error| DiskError::of("write", &path)(error.into()))?;
        let digest = Digest::of(line.as_bytes());
        line.push('\n');
        let folder = path.parent().unwrap_or(prefix.path());
        disk.create_dir(folder)?;
        disk.append(&path, self.length, line.as_bytes())?;
        if self.length == 0 {
            // The file is on the disk; so must be its name, and that of its folder.
            disk.sync_dir(folder)?;
            disk.sync_dir(prefix.path())?;
        }
        self.length += line.len() as u64;
        self.last = digest;
        self.digests.push(digest);
        self.entries.push(entry);
        Ok(())
    }

    /// The highest release number that was ever installed from `channel`.
    pub fn highest(&self, wanted: &str) -> Option<u64> {
        self.entries
            .iter()
            .filter_map(|entry| match &entry.action {
                Action::Install {
                    channel,
                    number_in_channel,
                    ..
                } if channel == wanted => Some(*number_in_channel),
                _ => None,
            })
            .max()
    }

    /// Whether a text of terms was accepted before.
    pub fn accepted(&self, wanted: &Digest) -> bool {
        self.entries.iter().any(
            |entry| matches!(&entry.action, Action::AcceptTerms { text, .. } if text == wanted),
        )
    }

    /// How the last run of a vendor's file ended; `None` where it never ran, or was cut off.
    pub(crate) fn host_ended(&self, wanted: &Digest) -> Option<HostEnded> {
        let mut last = None;
        for entry in &self.entries {
            match &entry.action {
                Action::HostRun { file, .. } if file.as_ref() == Some(wanted) => last = None,
                Action::HostEnd { file, ended, .. } if file.as_ref() == Some(wanted) => {
                    last = Some(*ended);
                }
                _ => {}
            }
        }
        last
    }

    /// SHA-256 of the `release.json` that the last install of `name` wrote.
    pub(crate) fn record_of(&self, name: &ReleaseName) -> Option<Digest> {
        self.entries
            .iter()
            .rev()
            .find_map(|entry| match &entry.action {
                Action::Install {
                    release, record, ..
                } if release == name => Some(*record),
                _ => None,
            })
    }

    /// The releases that were current, the latest first, each once.
    pub(crate) fn was_current(&self) -> Vec<&ReleaseName> {
        let mut names: Vec<&ReleaseName> = Vec::new();
        for entry in self.entries.iter().rev() {
            if let Action::Install { release, .. } | Action::Rollback { release, .. } =
                &entry.action
                && !names.contains(&release)
            {
                names.push(release);
            }
        }
        names
    }
}

/// Far more than a machine's life of installs; a longer file is not our log.
const LONGEST_LOG: u64 = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::disk::RealDisk;

    fn log_of(count: u8) -> (tempfile::TempDir, Prefix) {
        let folder = tempfile::tempdir().unwrap();
        let prefix = Prefix::at(folder.path()).unwrap();
        let mut journal = Journal::read(&prefix).unwrap();
        for number in 0..count {
            let action = Action::Trust {
                fingerprint: Digest::of(&[number]),
            };
            journal.add(&RealDisk, &prefix, action).unwrap();
        }
        (folder, prefix)
    }

    #[test]
    fn a_changed_or_missing_line_breaks_the_chain() {
        let (_folder, prefix) = log_of(3);
        let good = fs::read_to_string(prefix.log()).unwrap();
        let lines: Vec<&str> = good.lines().collect();
        let changed = good.replacen("\"user\":", "\"user\":1", 1);
        let without_second = format!("{}\n{}\n", lines[0], lines[2]);
        for (text, broken_at) in [(changed, 2), (without_second, 2), ("{}\n".to_owned(), 1)] {
            fs::write(prefix.log(), &text).unwrap();
            match Journal::read(&prefix) {
                Err(JournalError::Broken { line, .. }) => assert_eq!(line, broken_at, "{text}"),
                other => panic!("{other:?}"),
            }
            let (before, broken) = Journal::read_as_far(&prefix).unwrap();
            assert!(broken.is_some(), "{text}");
            assert_eq!(before.entries().len(), broken_at - 1, "{text}");
        }
    }

    #[test]
    fn a_line_that_power_cut_off_is_replaced_by_the_next() {
        let (_folder, prefix) = log_of(2);
        let mut text = fs::read(prefix.log()).unwrap();
        text.extend(b"{\"number\":3,\"prev");
        fs::write(prefix.log(), &text).unwrap();
        let mut journal = Journal::read(&prefix).unwrap();
        assert_eq!(journal.entries().len(), 2);
        let fingerprint = Digest::of(b"x");
        journal
            .add(&RealDisk, &prefix, Action::Trust { fingerprint })
            .unwrap();
        assert_eq!(Journal::read(&prefix).unwrap().entries().len(), 3);
    }
}
