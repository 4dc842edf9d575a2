//! What was done, when, by whom, from which bundle: one JSON object a line, each bound to the one before.
//!
//! ```text
//! {"number":1,"previous":"<64 zeros>","time":"2026-01-31T08:00:00Z","user":1000,"action":"install",…}
//! {"number":2,"previous":"<SHA-256 of the line above, without its line end>",…}
//! ```
//!
//! A line without a line end was cut off by a power failure: nothing followed it, so the next entry takes its
//! place. Any other damage breaks the chain and is reported.

use std::collections::BTreeMap;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use manifest_schema::{BackendName, ByteSize, Digest, EulaName, KeyId, PackageSetName};
use report::{Args, Diagnose, Outcome};
use serde::{Deserialize, Serialize};

use crate::disk::{Disk, DiskError, read_small};
use crate::host::shell_words;
use crate::prefix::{Prefix, ReleaseName};

/// The log is not what the installer wrote.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// A line does not follow from the one before.
    #[error("line {line} of `{path}` does not follow from the line before it")]
    Broken {
        /// Counted from 1.
        line: usize,
        /// The log.
        path: std::path::PathBuf,
    },
    /// The log cannot be read or written.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Diagnose for JournalError {
    fn code(&self) -> &'static str {
        match self {
            Self::Broken { .. } => "install.log-broken",
            Self::Disk(error) => error.code(),
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::Broken { line, path } => {
                vec![
                    ("line", line.to_string()),
                    ("path", path.display().to_string()),
                ]
            }
            Self::Disk(error) => error.args(),
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Broken { .. } => Outcome::Untrusted,
            Self::Disk(error) => error.outcome(),
        }
    }
}

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

/// Something that the installer did.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// A root was trusted: a person compared its fingerprint, or a flag named it.
    Trust {
        /// SHA-256 of the root document.
        fingerprint: Digest,
    },
    /// A root was trusted because the one before it is: it names and was signed by it.
    FollowRoot {
        /// SHA-256 of the root document.
        fingerprint: Digest,
        /// Its version.
        version: u32,
    },
    /// A release was installed and made the current one.
    Install {
        /// Its name.
        release: ReleaseName,
        /// SHA-256 of the signed statement.
        statement: Digest,
        /// SHA-256 of its `release.json`.
        record: Digest,
        /// Keys that signed it.
        keys: Vec<KeyId>,
        /// The backend that was chosen.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        backend: Option<BackendName>,
        /// What the release numbers count in.
        channel: String,
        /// Its number in that channel.
        number_in_channel: u64,
        /// A switch let an older release replace a newer one.
        #[serde(default, skip_serializing_if = "is_false")]
        downgrade: bool,
        /// Checks that would have stopped the install and were waived by name.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        waived: Vec<String>,
        /// Facts that were stated instead of measured.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        facts: BTreeMap<String, String>,
    },
    /// An older release was made the current one again.
    Rollback {
        /// The release that is current now.
        release: ReleaseName,
        /// The release that was.
        from: ReleaseName,
    },
    /// A release was removed.
    Remove {
        /// Its name.
        release: ReleaseName,
    },
    /// A root is trusted no more.
    Distrust {
        /// SHA-256 of the root document.
        fingerprint: Digest,
    },
    /// Terms were accepted.
    AcceptTerms {
        /// Their name.
        terms: EulaName,
        /// SHA-256 of the text that was accepted.
        text: Digest,
        /// In which way.
        by: AcceptedBy,
        /// Login name of the person, where the machine knows it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        login: Option<String>,
    },
    /// A command that changes the machine itself is about to run.
    HostRun {
        /// What it is for: a kind of installer, or `account`, `units`.
        what: String,
        /// SHA-256 of the vendor's file, where one is run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<Digest>,
        /// Its words.
        command: Vec<String>,
    },
    /// That command ended.
    HostEnd {
        /// What it was for.
        what: String,
        /// SHA-256 of the vendor's file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<Digest>,
        /// How.
        ended: HostEnded,
        /// The chip whose vendor's installer it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        chip: Option<String>,
        /// The version that it installed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<String>,
        /// Name of the vendor's file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        program: Option<String>,
    },
    /// Units were linked into systemd, or their links removed.
    Units {
        /// Which of the two.
        linked: bool,
        /// The links.
        links: Vec<String>,
    },
    /// The system's package manager was let install packages of the bundle.
    OsPackages {
        /// The set that they are of.
        set: PackageSetName,
        /// The program.
        manager: String,
        /// What it was told to install.
        packages: Vec<String>,
        /// `begun`, then `done` or `failed`.
        result: String,
    },
    /// What nothing needs any more was removed.
    Sweep {
        /// How many files and folders.
        things: usize,
        /// Their bytes.
        bytes: ByteSize,
    },
}

impl Action {
    /// Catalogue code of the line that tells of it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Trust { .. } => "install.action.trust",
            Self::FollowRoot { .. } => "install.action.follow-root",
            Self::Install { .. } => "install.action.install",
            Self::Rollback { .. } => "install.action.rollback",
            Self::Remove { .. } => "install.action.remove",
            Self::Distrust { .. } => "install.action.distrust",
            Self::AcceptTerms { .. } => "install.action.accept-terms",
            Self::HostRun { .. } => "install.action.host-run",
            Self::HostEnd { .. } => "install.action.host-end",
            Self::Units { linked: true, .. } => "install.action.units-linked",
            Self::Units { .. } => "install.action.units-unlinked",
            Self::OsPackages { .. } => "install.action.os-packages",
            Self::Sweep { .. } => "install.action.sweep",
        }
    }

    /// Values of that line.
    pub fn args(&self) -> Args {
        match self {
            Self::Trust { fingerprint } | Self::Distrust { fingerprint } => {
                vec![("fingerprint", fingerprint.hex())]
            }
            Self::FollowRoot {
                fingerprint,
                version,
            } => vec![
                ("fingerprint", fingerprint.hex()),
                ("version", version.to_string()),
            ],
            Self::Install {
                release, statement, ..
            } => {
                vec![
                    ("release", release.to_string()),
                    ("statement", statement.hex()),
                ]
            }
            Self::Rollback { release, from } => {
                vec![("release", release.to_string()), ("from", from.to_string())]
            }
            Self::Remove { release } => vec![("release", release.to_string())],
            Self::AcceptTerms { terms, text, .. } => {
                vec![("terms", terms.to_string()), ("text", text.hex())]
            }
            Self::HostRun { what, command, .. } => {
                vec![("what", what.clone()), ("command", shell_words(command))]
            }
            Self::HostEnd { what, ended, .. } => {
                vec![("what", what.clone()), ("ended", ended.as_str().to_owned())]
            }
            Self::Units { links, .. } => vec![("links", links.join(", "))],
            Self::OsPackages {
                set,
                manager,
                packages,
                result,
            } => vec![
                ("set", set.to_string()),
                ("manager", manager.clone()),
                ("packages", packages.join(" ")),
                ("result", result.clone()),
            ],
            Self::Sweep { things, bytes } => {
                vec![("things", things.to_string()), ("bytes", bytes.to_string())]
            }
        }
    }
}

/// In which way terms were accepted.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AcceptedBy {
    /// A person was shown the text and typed its name.
    Person,
    /// A flag of the command line named them.
    Flag,
}

/// How a command that changes the machine ended.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostEnded {
    /// Well.
    Done,
    /// With an error.
    Failed,
    /// With an error, and what it did was taken back.
    Undone,
}

impl HostEnded {
    /// The word that the log has for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Undone => "undone",
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over a reference"
)]
fn is_false(value: &bool) -> bool {
    !value
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
        let path = prefix.log();
        let text = match read_small(&path, LONGEST_LOG) {
            Ok(text) => text,
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error.into()),
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
                let path = path.clone();
                return Err(JournalError::Broken {
                    line: position + 1,
                    path,
                });
            };
            journal.entries.push(entry);
            journal.last = Digest::of(whole);
            journal.digests.push(journal.last);
            journal.length += line.len() as u64;
        }
        Ok(journal)
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

/// `time` as RFC 3339 in UTC, to the second.
fn utc(time: SystemTime) -> String {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days are counted in years that begin in March, so that the leap day is a year's last (H. Hinnant).
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Far more than a machine's life of installs; a longer file is not our log.
const LONGEST_LOG: u64 = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

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

    #[test]
    fn times_are_utc() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
        ] {
            assert_eq!(utc(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }
}
