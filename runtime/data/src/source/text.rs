//! Records of a plain text: each line in the column `text`, as the original reads it. A line ends as Unix, Windows or old
//! Macs end it.

use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{EXPECTED_UTF8, Read1};
use crate::error::DataError;

struct Lines<R> {
    reader: R,
    path: Arc<Path>,
    most: usize,
    number: usize,
}

/// Reads the lines behind `reader`, none longer than `most` bytes.
pub(super) fn records<R: BufRead>(
    reader: R,
    path: Arc<Path>,
    most: usize,
) -> impl Iterator<Item = Read1> + use<R> {
    let mut lines = Lines {
        reader,
        path,
        most,
        number: 0,
    };
    std::iter::from_fn(move || lines.advance().transpose())
}

impl<R: BufRead> Lines<R> {
    fn advance(&mut self) -> Result<Option<(usize, Value)>, DataError> {
        let mut line = Vec::new();
        let unreadable = |source| DataError::Read {
            path: self.path.to_path_buf(),
            source,
        };
        let mut begun = false;
        loop {
            let bytes = self.reader.fill_buf().map_err(unreadable)?;
            if bytes.is_empty() {
                break;
            }
            begun = true;
            let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            line.extend_from_slice(&bytes[..end.unwrap_or(bytes.len())]);
            let ended = end.map(|at| bytes[at]);
            let used = end.map_or(bytes.len(), |at| at + 1);
            self.reader.consume(used);
            if line.len() > self.most {
                return Err(DataError::RecordTooLarge {
                    path: self.path.to_path_buf(),
                    record: self.number + 1,
                    most: self.most >> 20,
                });
            }
            if ended == Some(b'\r')
                && self
                    .reader
                    .fill_buf()
                    .map_err(unreadable)?
                    .starts_with(b"\n")
            {
                self.reader.consume(1);
            }
            if ended.is_some() {
                break;
            }
        }
        if !begun {
            return Ok(None);
        }
        self.number += 1;
        match String::from_utf8(line) {
            Ok(text) => Ok(Some((self.number, json!({"text": text})))),
            Err(_) => Err(DataError::Shape {
                path: self.path.to_path_buf(),
                place: format!("line {}", self.number),
                expected: EXPECTED_UTF8.to_owned(),
                found: "bytes of another encoding".to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::repeat;

    use super::*;

    #[test]
    fn a_line_is_a_record() {
        let path: Arc<Path> = Path::new("d.txt").into();
        for (text, wanted) in [
            (&b"a b\r\n\n\xe4\xbd\xa0"[..], &["a b", "", "你"][..]),
            (b"a\rb\r\r\nc\n", &["a", "b", "", "c"]),
            (b"\r", &[""]),
            (b"", &[]),
        ] {
            // A buffer of one byte, so that a line's end spans two.
            let reader = std::io::BufReader::with_capacity(1, text);
            let all = records(reader, path.clone(), 10);
            let texts: Vec<Value> = all
                .map(|record| record.unwrap().1["text"].clone())
                .collect();
            assert_eq!(texts, wanted);
        }
        let error = records(&b"ok\n\xc4\xe3\n"[..], path.clone(), 10)
            .nth(1)
            .unwrap();
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("line 2: expected UTF-8")
        );
        let long = std::io::BufReader::new(repeat(b'a'));
        let error = records(long, path, 1 << 20).next().unwrap().unwrap_err();
        assert!(matches!(error, DataError::RecordTooLarge { .. }), "{error}");
    }
}
