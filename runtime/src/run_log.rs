//! The log of a run, `trainer_log.jsonl`, read while it grows.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The most that one look takes from a log.
const LARGEST: u64 = 4 << 20;

/// The log of a run, read on from where the last look ended.
pub(crate) struct Log {
    path: PathBuf,
    /// Which file was read: a run that goes on from a checkpoint puts another in its place.
    inode: u64,
    offset: u64,
    /// The last step that was shown.
    pub(crate) step: u64,
}

impl Log {
    pub(crate) fn of(folder: &Path) -> Self {
        Self {
            path: folder.join("trainer_log.jsonl"),
            inode: 0,
            offset: 0,
            step: 0,
        }
    }

    /// The log of which only what comes from now on is read.
    pub(crate) fn from_here(folder: &Path) -> Self {
        let mut log = Self::of(folder);
        if let Ok(found) = log.path.metadata() {
            (log.inode, log.offset) = (found.ino(), found.len());
        }
        log
    }

    /// The whole lines that were added since the last look.
    pub(crate) fn lines(&mut self) -> io::Result<Vec<Value>> {
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened?,
        };
        let found = file.metadata()?;
        // A new file may get the number of the one that it replaces, and one may be emptied; both are shorter.
        if found.ino() != self.inode || found.len() < self.offset {
            (self.inode, self.offset) = (found.ino(), 0);
        }
        let mut lines = Vec::new();
        loop {
            file.seek(SeekFrom::Start(self.offset))?;
            let mut bytes = Vec::new();
            Read::by_ref(&mut file)
                .take(LARGEST)
                .read_to_end(&mut bytes)?;
            // A line without its end is still being written; one that fills all that is read is none of ours.
            let whole = match bytes.iter().rposition(|byte| *byte == b'\n') {
                Some(end) => end + 1,
                None if bytes.len() as u64 == LARGEST => bytes.len(),
                None => return Ok(lines),
            };
            self.offset += whole as u64;
            let text = String::from_utf8_lossy(&bytes[..whole]);
            for line in text.lines() {
                let value: Value = serde_json::from_str(line).unwrap_or_default();
                let Some(step) = value["current_steps"].as_u64() else {
                    continue;
                };
                // The closing line has no figures; what was shown before a checkpoint was gone back to comes again.
                if value.get("loss").is_some() || value.get("eval_loss").is_some() {
                    self.step = step;
                    lines.push(value);
                }
            }
        }
    }
}
