//! How far unfinished work on the machine itself came: `<prefix>/host/state.json`.
//!
//! The file is there from the first command until the last. Power may go at any moment: it is written beside and
//! renamed, and what it does not say is done again.

use std::path::PathBuf;

use manifest_schema::{Digest, HostKind};
use serde::{Deserialize, Serialize};

use crate::disk::{Disk, DiskError, read_small, write_new};
use crate::prefix::Prefix;

/// How to take an unfinished install up again.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Resume {
    /// The words of the command line after `install`.
    pub words: Vec<String>,
    /// The folder that it was given in.
    pub folder: PathBuf,
}

impl Resume {
    /// What an unfinished install below `prefix` was asked.
    ///
    /// # Errors
    /// When nothing is unfinished, or the note cannot be read.
    pub fn read(prefix: &Prefix) -> Result<Self, super::HostError> {
        let state = State::read(prefix)?;
        state.map(|state| state.resume).ok_or_else(|| {
            let prefix = prefix.path().to_owned();
            super::HostError::NothingToResume { prefix }
        })
    }
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct State {
    pub(super) format: u32,
    pub(super) resume: Resume,
    /// It began on a machine without the vendor's software.
    pub(super) first: bool,
    /// Digests of the vendors' files that ran and ended well.
    pub(super) done: Vec<Digest>,
    /// Name of the start during which the last of them ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) boot: Option<String>,
    /// The machine must be started anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reboot: Option<Waits>,
}

/// What a start of the machine is waited for with.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Waits {
    /// Name of the start that was running then.
    pub(super) boot: Option<String>,
    /// What counts after the next.
    pub(super) after: Vec<HostKind>,
}

impl State {
    /// The state of unfinished work; `None` where there is none.
    pub(super) fn read(prefix: &Prefix) -> Result<Option<Self>, DiskError> {
        let path = prefix.host().join(STATE);
        let bytes = match read_small(&path, 1024 * 1024) {
            Ok(bytes) => bytes,
            Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let state: Self = serde_json::from_slice(&bytes)
            .map_err(|error| DiskError::of("parse", &path)(error.into()))?;
        Ok(Some(state))
    }

    pub(super) fn write(&self, disk: &dyn Disk, prefix: &Prefix) -> Result<(), DiskError> {
        let folder = prefix.host();
        let (next, path) = (folder.join(NEXT), folder.join(STATE));
        disk.create_dir(&folder)?;
        disk.remove_file(&next)?;
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        write_new(disk, &next, &bytes, 0o600)?;
        disk.rename(&next, &path)?;
        disk.sync_dir(&folder)
    }
}

/// Whether a name in `<prefix>/host` is one of this work's: the note, a vendor's file, where an installer works.
pub(crate) fn is_of_host(name: &str) -> bool {
    [STATE, NEXT, "work", "tmp"].contains(&name) || Digest::parse_hex(name).is_ok()
}

/// Name of the note in `<prefix>/host`.
const STATE: &str = "state.json";
const NEXT: &str = ".state.next";
