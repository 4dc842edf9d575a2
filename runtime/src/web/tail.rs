//! A file that grows, read line by line from a place that a reader remembers.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use serde_json::Value;

/// The most that one look takes.
const LARGEST: u64 = 1 << 20;

/// A file, and how far it was read.
#[derive(Clone, Debug)]
pub(super) struct Tail {
    path: PathBuf,
    /// Which file was read: one that is put in its place begins anew.
    pub(super) inode: u64,
    pub(super) offset: u64,
}

/// What a look found.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Found {
    /// The file is another one than before.
    pub(super) again: bool,
    pub(super) lines: Vec<Value>,
}

impl Tail {
    pub(super) fn at(path: PathBuf, inode: u64, offset: u64) -> Self {
        Self {
            path,
            inode,
            offset,
        }
    }

    /// The whole lines behind what was read, as many as fit one look.
    pub(super) fn look(&mut self) -> io::Result<Found> {
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::default()),
            opened => opened?,
        };
        let found = file.metadata()?;
        let again = found.ino() != self.inode || found.len() < self.offset;
        let known = self.inode != 0;
        if again {
            (self.inode, self.offset) = (found.ino(), 0);
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = Vec::new();
        file.take(LARGEST).read_to_end(&mut bytes)?;
        // A line without its end is still being written; one that fills all that is read is none of ours.
        let whole = match bytes.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => end + 1,
            None if bytes.len() as u64 == LARGEST => bytes.len(),
            None => 0,
        };
        self.offset += whole as u64;
        let text = String::from_utf8_lossy(&bytes[..whole]);
        let lines = text.lines();
        let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| line.into());
        Ok(Found {
            again: again && known,
            lines: lines.map(line).collect(),
        })
    }

    /// Passes over what lies between the beginning and the end of a large file: `kept` bytes of the end stay.
    pub(super) fn skip_to_end(&mut self, kept: u64) -> io::Result<()> {
        let size = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened?.metadata()?.len(),
        };
        if size > self.offset + kept {
            self.offset = size - kept;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn lines_come_once_and_a_new_file_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut tail = Tail::at(path.clone(), 0, 0);
        assert_eq!(tail.look().unwrap(), Found::default());
        fs::write(&path, "{\"a\":1}\nplain\n{\"b\"").unwrap();
        let found = tail.look().unwrap();
        assert!(!found.again);
        assert_eq!(found.lines, [serde_json::json!({"a": 1}), "plain".into()]);
        fs::write(&path, "{\"a\":1}\nplain\n{\"b\":2}\n").unwrap();
        // Who comes back with the place goes on from there.
        let mut other = Tail::at(path.clone(), tail.inode, tail.offset);
        assert_eq!(other.look().unwrap().lines.len(), 1);
        assert_eq!(tail.look().unwrap().lines, [serde_json::json!({"b": 2})]);
        assert_eq!(tail.look().unwrap().lines, Vec::<Value>::new());
        let beside = folder.path().join("new");
        fs::write(&beside, "{\"c\":3}\n").unwrap();
        fs::rename(&beside, &path).unwrap();
        let found = tail.look().unwrap();
        assert!(found.again);
        assert_eq!(found.lines.len(), 1);
    }
}
