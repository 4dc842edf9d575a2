//! One installer at a time, and a trace of one that was cut off.
//!
//! The kernel holds the lock and lets go of it when the process dies, so a stale lock cannot exist. The file's
//! text says who holds it and whether the last holder came to an end.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use bundle_format::plain;
use report::{Args, Diagnose, Outcome};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::disk::{Disk, DiskError};
use crate::prefix::Prefix;

/// The lock could not be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another installer works below this prefix.
    #[error("another installer (process {pid}, `{action}`) works below `{prefix}`")]
    Held {
        /// Its process id, as it wrote it; `?` where it wrote none.
        pid: String,
        /// What it does.
        action: String,
        /// Where.
        prefix: PathBuf,
    },
    /// The lock file cannot be used.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Diagnose for LockError {
    fn code(&self) -> &'static str {
        match self {
            Self::Held { .. } => "install.lock-held",
            Self::Disk(error) => error.code(),
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::Held {
                pid,
                action,
                prefix,
            } => vec![
                ("pid", pid.clone()),
                ("action", action.clone()),
                ("prefix", prefix.display().to_string()),
            ],
            Self::Disk(error) => error.args(),
        }
    }

    fn outcome(&self) -> Outcome {
        Outcome::HostFault
    }
}

/// The right to change what lies below a prefix, until it is dropped.
#[derive(Debug)]
pub struct Guard {
    file: File,
    /// The last holder did not come to an end: a crash or a power cut.
    pub follows_crash: bool,
    /// This guard made the prefix.
    pub(crate) made_prefix: bool,
}

#[derive(Deserialize, Serialize)]
struct Holder {
    pid: u32,
    action: String,
    state: State,
}

#[derive(Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Working,
    Ready,
}

impl Guard {
    /// Takes the lock of `prefix` for `action`, making the prefix where it is not there.
    ///
    /// # Errors
    /// When another installer holds it, or the prefix cannot be written.
    pub fn take(disk: &dyn Disk, prefix: &Prefix, action: &str) -> Result<Self, LockError> {
        let made_prefix = !prefix.path().exists();
        disk.create_dir(prefix.path())?;
        let path = prefix.lock();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            // A link would have another file written, and a pipe would keep whoever reads it.
            .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
            .open(&path)
            .and_then(plain)
            .map_err(DiskError::of("open", &path))?;
        let locked = file.try_lock();
        let mut text = String::new();
        // What the last holder wrote is for people; a damaged text says nothing and harms nothing.
        let _ = (&mut file).take(4096).read_to_string(&mut text);
        let last: Option<Holder> = serde_json::from_str(&text).ok();
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let (pid, action) = last.map_or_else(
                    || ("?".to_owned(), "?".to_owned()),
                    |holder| (holder.pid.to_string(), holder.action),
                );
                let prefix = prefix.path().to_owned();
                return Err(LockError::Held {
                    pid,
                    action,
                    prefix,
                });
            }
            Err(TryLockError::Error(source)) => {
                return Err(DiskError::of("lock", &path)(source).into());
            }
        }
        let follows_crash = last.is_some_and(|holder| holder.state == State::Working);
        let mut guard = Self {
            file,
            follows_crash,
            made_prefix,
        };
        guard
            .say(action, State::Working)
            .map_err(DiskError::of("write", &path))?;
        Ok(guard)
    }

    fn say(&mut self, action: &str, state: State) -> std::io::Result<()> {
        let holder = Holder {
            pid: std::process::id(),
            action: action.to_owned(),
            state,
        };
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file
            .write_all(serde_json::to_string(&holder)?.as_bytes())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // The text is a courtesy: closing the file is what lets go of the lock.
        let _ = self.say("", State::Ready);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    #[test]
    fn a_second_installer_is_told_who_holds_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let prefix = Prefix::at(folder.path()).unwrap();
        let first = Guard::take(&RealDisk, &prefix, "install").unwrap();
        let second = Guard::take(&RealDisk, &prefix, "rollback").unwrap_err();
        let LockError::Held { pid, action, .. } = second else {
            panic!("{second}");
        };
        assert_eq!(
            (pid, action.as_str()),
            (std::process::id().to_string(), "install")
        );
        drop(first);
        assert!(
            !Guard::take(&RealDisk, &prefix, "install")
                .unwrap()
                .follows_crash
        );
    }

    #[test]
    fn a_holder_that_was_cut_off_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let prefix = Prefix::at(folder.path()).unwrap();
        std::fs::write(
            prefix.lock(),
            r#"{"pid":1,"action":"install","state":"working"}"#,
        )
        .unwrap();
        assert!(
            Guard::take(&RealDisk, &prefix, "install")
                .unwrap()
                .follows_crash
        );
    }
}
