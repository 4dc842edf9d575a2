//! Records of an Arrow file, batch by batch, as `datasets` keeps them.
//!
//! ```text
//! [ARROW1\0\0]  message…  0xffffffff 0
//! message:  0xffffffff  u32 length  a table (`flat`)  body
//! ```
//!
//! The first message says what columns there are; each of the others brings a batch of rows, whose numbers, texts and lists
//! lie in its body as buffers. One batch is in memory at a time.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use super::Read1;
use super::columns::{Batch, Column};
use super::flat::Table;
use super::schema::Schema;
use crate::error::DataError;

/// Bytes of what a message says, of which one with a thousand columns has some hundred thousand.
const MOST_METADATA: u64 = 16 << 20;

/// Bytes of a batch. `datasets` puts a thousand records in one.
const MOST_BODY: u64 = 2 << 30;

/// Kinds of messages.
const SCHEMA: u8 = 1;
const BATCH: u8 = 3;

/// What begins every message but those of the oldest writers.
const MARK: u32 = u32::MAX;

/// Reads the records of the file at `path`.
pub(super) fn records(
    path: &Arc<Path>,
) -> Result<impl Iterator<Item = Read1> + Send + use<>, DataError> {
    let mut messages = Messages::open(path)?;
    let first = messages.next()?;
    let schema = first.as_ref().and_then(|message| {
        let table = message.header(SCHEMA)?;
        Some(Schema::read(&table))
    });
    let schema = match schema {
        Some(schema) => schema.map_err(|reason| messages.fault(&reason))?,
        None => return Err(messages.fault("it does not begin with its columns")),
    };
    let (mut batch, mut row, mut number, mut over) = (None::<Batch>, 0, 0, false);
    Ok(std::iter::from_fn(move || {
        if over {
            return None;
        }
        let mut next = || -> Result<Option<(usize, serde_json::Value)>, DataError> {
            loop {
                if let Some(current) = batch.as_ref().filter(|batch| row < batch.rows()) {
                    number += 1;
                    let value = current
                        .record(row)
                        .map_err(|fault| fault.at(&messages.path, number))?;
                    row += 1;
                    return Ok(Some((number, value)));
                }
                let Some(message) = messages.next()? else {
                    return Ok(None);
                };
                batch = Some(
                    message
                        .batch(&schema)
                        .map_err(|reason| messages.fault(&reason))?,
                );
                row = 0;
            }
        };
        let next = next().transpose();
        over = !matches!(next, Some(Ok(_)));
        next
    }))
}

/// The messages of a file.
struct Messages {
    path: Arc<Path>,
    file: BufReader<File>,
    /// Bytes that are left.
    left: u64,
}

/// A message with its body.
struct Message {
    metadata: Vec<u8>,
    body: Vec<u8>,
}

impl Messages {
    fn open(path: &Arc<Path>) -> Result<Self, DataError> {
        let unreadable = |source| DataError::Read {
            path: path.to_path_buf(),
            source,
        };
        let file = File::open(path).map_err(unreadable)?;
        let left = file.metadata().map_err(unreadable)?.len();
        let mut messages = Self {
            path: Arc::clone(path),
            file: BufReader::with_capacity(1 << 16, file),
            left,
        };
        // The form with an index at its end has the same messages behind eight bytes.
        if messages.peek()?.starts_with(b"ARROW1") {
            messages.bytes(8)?;
        }
        Ok(messages)
    }

    fn fault(&self, reason: &str) -> DataError {
        DataError::Arrow {
            path: self.path.to_path_buf(),
            reason: reason.to_owned(),
        }
    }

    fn unreadable(&self, source: io::Error) -> DataError {
        DataError::Read {
            path: self.path.to_path_buf(),
            source,
        }
    }

    fn peek(&mut self) -> Result<Vec<u8>, DataError> {
        use std::io::BufRead as _;
        let start = self.file.fill_buf().map(<[u8]>::to_vec);
        start.map_err(|source| self.unreadable(source))
    }

    fn bytes(&mut self, count: u64) -> Result<Vec<u8>, DataError> {
        if count > self.left {
            return Err(self.fault("it is cut off, or is still being written"));
        }
        self.left -= count;
        let mut bytes = Vec::new();
        let read = (&mut self.file).take(count).read_to_end(&mut bytes);
        let read = read.map_err(|source| self.unreadable(source))?;
        if read as u64 != count {
            return Err(self.fault("it is cut off, or is still being written"));
        }
        Ok(bytes)
    }

    fn word(&mut self) -> Result<u32, DataError> {
        let bytes = self.bytes(4)?;
        Ok(bytes.try_into().map_or(0, u32::from_le_bytes))
    }

    /// The next message; none: that was all.
    fn next(&mut self) -> Result<Option<Message>, DataError> {
        // Old writers end without a mark.
        if self.left == 0 {
            return Ok(None);
        }
        let mut length = self.word()?;
        if length == MARK {
            length = self.word()?;
        }
        let length = u64::from(length);
        if length == 0 {
            return Ok(None);
        }
        if length > MOST_METADATA {
            return Err(self.fault("it does not begin with its columns"));
        }
        let metadata = self.bytes(length)?;
        let body = Table::root(&metadata).map(|table| table.long(3));
        let body = body.and_then(|length| u64::try_from(length).ok());
        let Some(body) = body else {
            return Err(self.fault("a message of it is damaged"));
        };
        if body > MOST_BODY {
            let reason = format!("a batch of it has {body} bytes, more than {MOST_BODY}");
            return Err(self.fault(&reason));
        }
        let body = self.bytes(body)?;
        Ok(Some(Message { metadata, body }))
    }
}

impl Message {
    fn header(&self, kind: u8) -> Option<Table<'_>> {
        let table = Table::root(&self.metadata)?;
        (table.byte(1) == kind).then(|| table.table(2)).flatten()
    }

    fn batch(self, schema: &Schema) -> Result<Batch, String> {
        let Some(table) = self.header(BATCH) else {
            return Err("it has messages of another kind than batches of rows".to_owned());
        };
        if table.table(3).is_some() {
            return Err("its batches are compressed".to_owned());
        }
        let rows = usize::try_from(table.long(0)).ok();
        let (nodes, buffers) = (table.pairs(1), table.pairs(2));
        let all = rows.zip(nodes.zip(buffers));
        let Some((rows, (nodes, buffers))) = all else {
            return Err("a message of it is damaged".to_owned());
        };
        let columns = Column::read_all(schema, &nodes, &buffers, &self.body, rows);
        let columns = columns.ok_or("a message of it is damaged")?;
        Ok(Batch::new(rows, columns, self.body))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use serde_json::Value;

    use super::*;
    use crate::testing::golden;

    fn read(path: &Path) -> Result<Vec<Value>, DataError> {
        records(&path.into())?.map(|record| Ok(record?.1)).collect()
    }

    fn samples() -> Vec<PathBuf> {
        let folder = golden().join("vectors/arrow");
        let files = fs::read_dir(folder).unwrap();
        files.map(|file| file.unwrap().path()).collect()
    }

    #[test]
    fn files_of_datasets_are_read_as_it_reads_them() {
        let text = fs::read_to_string(golden().join("vectors/arrow.json")).unwrap();
        let expected: Value = serde_json::from_str(&text).unwrap();
        assert!(samples().len() > 3);
        for path in samples() {
            let name = path.file_stem().unwrap().to_str().unwrap();
            let rows = Value::Array(read(&path).unwrap());
            assert_eq!(rows, expected[name], "{name}");
        }
    }

    #[test]
    fn a_file_that_was_cut_off_or_is_something_else_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cut.arrow");
        for sample in samples() {
            let whole = fs::read(&sample).unwrap();
            // Where a batch ends, one that was cut off looks whole: its writer may end without a mark.
            let mut whole_looking = 0;
            for length in (0..whole.len() - 8).step_by(5) {
                fs::write(&path, &whole[..length]).unwrap();
                whole_looking += usize::from(read(&path).is_ok());
            }
            // The index behind the batches is not read.
            let indexed = whole.starts_with(b"ARROW1");
            assert!(indexed || whole_looking < 4, "{}", sample.display());
        }
        for other in [&b""[..], b"PAR1aaaaaaaaaaaa", b"{\"a\": 1}", b"ARROW1\0\0"] {
            fs::write(&path, other).unwrap();
            let error = read(&path).unwrap_err();
            assert!(matches!(error, DataError::Arrow { .. }), "{error}");
        }
    }

    /// No byte may make the reader panic, hang or take memory without end.
    #[test]
    fn a_file_that_lies_is_an_error_or_other_data() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lies.arrow");
        let mut errors = 0;
        for sample in samples() {
            let whole = fs::read(sample).unwrap();
            let changes = [0xff, 0x80, 0x01].into_iter().cycle();
            for (at, change) in (0..whole.len()).step_by(7).zip(changes) {
                let mut bytes = whole.clone();
                bytes[at] ^= change;
                fs::write(&path, bytes).unwrap();
                errors += usize::from(read(&path).is_err());
            }
        }
        assert!(errors > 100, "{errors}");
    }
}
