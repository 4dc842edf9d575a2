//! What the installer may have done, as the log has it and as a person reads it.

use std::collections::BTreeMap;

use manifest_schema::{BackendName, ByteSize, Digest, EulaName, KeyId, PackageSetName};
use report::Args;
use serde::{Deserialize, Serialize};

use crate::host::shell_words;
use crate::prefix::ReleaseName;

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
