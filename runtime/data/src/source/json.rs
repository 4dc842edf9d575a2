//! Records of a JSON file, each found by its brackets before it is parsed.
//!
//! So a record takes memory, and a file does not; and an error names the line of the file.

use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::{EXPECTED_UTF8, Read1};
use crate::error::DataError;

/// How records stand in the file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Form {
    /// Not looked at yet.
    Unknown,
    /// In a list.
    List,
    /// One after another.
    Row,
    /// At the end of the list, or after an error.
    Over,
}

struct JsonRecords<R> {
    reader: R,
    path: Arc<Path>,
    most: usize,
    form: Form,
    place: Place,
    number: usize,
    /// A comma in the list asks for another record.
    owed: bool,
    record: Vec<u8>,
}

/// Where a reader stands.
#[derive(Clone, Copy)]
struct Place {
    /// Counted from one.
    line: usize,
    /// Bytes of that line before it.
    column: usize,
}

impl Place {
    fn pass(&mut self, bytes: &[u8]) {
        self.line += bytes.split(|byte| *byte == b'\n').count() - 1;
        self.column = match bytes.iter().rposition(|byte| *byte == b'\n') {
            Some(at) => bytes.len() - at - 1,
            None => self.column + bytes.len(),
        };
    }
}

/// Reads the records behind `reader`, none longer than `most` bytes.
pub(super) fn records<R: BufRead>(
    reader: R,
    path: Arc<Path>,
    most: usize,
) -> impl Iterator<Item = Read1> + use<R> {
    JsonRecords {
        reader,
        path,
        most,
        form: Form::Unknown,
        place: Place { line: 1, column: 0 },
        number: 0,
        owed: false,
        record: Vec::new(),
    }
}

impl<R: BufRead> Iterator for JsonRecords<R> {
    type Item = Read1;

    fn next(&mut self) -> Option<Read1> {
        let next = self.advance().transpose();
        if !matches!(next, Some(Ok(_))) {
            self.form = Form::Over;
        }
        next
    }
}

impl<R: BufRead> JsonRecords<R> {
    fn advance(&mut self) -> Result<Option<(usize, Value)>, DataError> {
        if self.form == Form::Over {
            return Ok(None);
        }
        let mut next = self.skip_blanks()?;
        if self.form == Form::Unknown {
            self.form = match next {
                Some(b'[') => {
                    self.take();
                    next = self.skip_blanks()?;
                    Form::List
                }
                Some(b'{') => Form::Row,
                None => return Ok(None),
                Some(_) => {
                    self.find_end()?;
                    let found = format!(
                        "`{}`",
                        String::from_utf8_lossy(&self.record[..self.record.len().min(SHOWN)])
                    );
                    return Err(self.shape("a list of records, or one record a line", &found));
                }
            };
        }
        match (self.form, next) {
            (Form::List, Some(b']')) if !self.owed => {
                self.take();
                return match self.skip_blanks()? {
                    None => Ok(None),
                    Some(byte) => {
                        Err(self.shape("the end of the file after the list", &shown(byte)))
                    }
                };
            }
            (Form::List, None) => {
                return Err(self.shape("`]` at the end of the list", "the end of the file"));
            }
            (_, None) => return Ok(None),
            (..) => {}
        }
        let start = self.place;
        self.find_end()?;
        let record = self.parse(start)?;
        self.number += 1;
        if self.form == Form::List {
            self.owed = match self.skip_blanks()? {
                Some(b',') => {
                    self.take();
                    true
                }
                Some(b']') => false,
                None => return Err(self.shape("`]` at the end of the list", "the end of the file")),
                Some(byte) => return Err(self.shape("a comma or `]` after a record", &shown(byte))),
            };
        }
        Ok(Some((self.number, record)))
    }

    /// The next byte that is not blank; it stays.
    fn skip_blanks(&mut self) -> Result<Option<u8>, DataError> {
        loop {
            let bytes = fill(&mut self.reader, &self.path)?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
            let blanks = bytes.iter().position(|byte| !blank(byte));
            let next = blanks.map(|at| bytes[at]);
            let blanks = blanks.unwrap_or(bytes.len());
            self.place.pass(&bytes[..blanks]);
            self.reader.consume(blanks);
            if next.is_some() {
                return Ok(next);
            }
        }
    }

    /// Passes the byte that the reader stands at.
    fn take(&mut self) {
        self.place.column += 1;
        self.reader.consume(1);
    }

    /// Copies one value into `record`: up to the bracket that closes it, or what cannot belong to it.
    fn find_end(&mut self) -> Result<(), DataError> {
        self.record.clear();
        let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
        loop {
            let bytes = fill(&mut self.reader, &self.path)?;
            let mut ended = bytes.is_empty();
            let mut used = 0;
            for byte in bytes {
                if quoted {
                    // A line cannot end inside a text: the parser will say so.
                    if *byte == b'\n' {
                        ended = true;
                        break;
                    }
                    match byte {
                        _ if escaped => escaped = false,
                        b'\\' => escaped = true,
                        b'"' => quoted = false,
                        _ => {}
                    }
                    ended = !quoted && depth == 0;
                } else {
                    match byte {
                        b'"' => quoted = true,
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' if depth <= 1 => {
                            // A bracket that nothing opened belongs to the list around.
                            used += depth;
                            ended = true;
                            break;
                        }
                        b'}' | b']' => depth -= 1,
                        b',' | b'\n' | b' ' | b'\t' | b'\r' if depth == 0 => {
                            ended = true;
                            break;
                        }
                        _ => {}
                    }
                }
                used += 1;
                if ended {
                    break;
                }
            }
            self.record.extend_from_slice(&bytes[..used]);
            self.place.pass(&bytes[..used]);
            self.reader.consume(used);
            if self.record.len() > self.most {
                return Err(DataError::RecordTooLarge {
                    path: self.path.to_path_buf(),
                    record: self.number + 1,
                    most: self.most >> 20,
                });
            }
            if ended {
                return Ok(());
            }
        }
    }

    fn parse(&self, start: Place) -> Result<Value, DataError> {
        serde_json::from_slice(&self.record).map_err(|source| {
            if let Some((expected, found)) = expectation(&self.record, &source) {
                let line = start.line + source.line().max(1) - 1;
                return DataError::Shape {
                    path: self.path.to_path_buf(),
                    place: format!("line {line}, record {}", self.number + 1),
                    expected: expected.to_owned(),
                    found: found.to_owned(),
                };
            }
            let before = if source.line() > 1 { 0 } else { start.column };
            DataError::Json {
                path: self.path.to_path_buf(),
                line: start.line + source.line().max(1) - 1,
                column: before + source.column(),
                source: self.placed(start).unwrap_or(source),
            }
        })
    }

    /// The parser's error, told of the record at its place in the file; none where that is too far in to be imitated.
    fn placed(&self, start: Place) -> Option<serde_json::Error> {
        if start.line.saturating_add(start.column) > MOST_PADDING {
            return None;
        }
        let mut padded = vec![b'\n'; start.line - 1];
        padded.resize(padded.len() + start.column, b' ');
        padded.extend_from_slice(&self.record);
        serde_json::from_slice::<Value>(&padded).err()
    }

    fn shape(&self, expected: &str, found: &str) -> DataError {
        DataError::Shape {
            path: self.path.to_path_buf(),
            place: format!("line {}", self.place.line),
            expected: expected.to_owned(),
            found: found.to_owned(),
        }
    }
}

/// Bytes of a value that a message shows.
const SHOWN: usize = 40;

/// Bytes that are put before a record so that the parser tells its place.
const MOST_PADDING: usize = 1 << 20;

fn shown(byte: u8) -> String {
    format!("`{}`", byte.escape_ascii())
}

fn fill<'r>(reader: &'r mut impl BufRead, path: &Path) -> Result<&'r [u8], DataError> {
    reader.fill_buf().map_err(|source| DataError::Read {
        path: path.to_owned(),
        source,
    })
}

/// What to write instead, for mistakes that other programs make and take.
fn expectation(record: &[u8], error: &serde_json::Error) -> Option<(&'static str, &'static str)> {
    if std::str::from_utf8(record).is_err() {
        return Some((EXPECTED_UTF8, "bytes of another encoding"));
    }
    let text = error.to_string();
    if text.starts_with("recursion limit exceeded") {
        return Some(("lists and objects at most 127 deep", "deeper ones"));
    }
    if text.starts_with("lone leading surrogate")
        || text.starts_with("unexpected end of hex escape")
    {
        return Some((
            "an escape that is a whole character (two `\\u` for one beyond `\\uffff`)",
            "half of a surrogate pair",
        ));
    }
    let line = record
        .split(|byte| *byte == b'\n')
        .nth(error.line().max(1) - 1)?;
    // The parser stops at the letter that cannot be; the word may have begun before it.
    let end = error.column().min(line.len());
    let start = line[..end]
        .iter()
        .rposition(|byte| !byte.is_ascii_alphabetic() && *byte != b'-');
    let word = line[start.map_or(0, |at| at + 1).min(end.saturating_sub(1))..].trim_ascii_start();
    ["NaN", "Infinity", "-Infinity"]
        .into_iter()
        .find(|name| word.starts_with(name.as_bytes()))
        .map(|name| ("a number, a text or null", name))
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read, repeat};

    use super::*;

    fn read(text: &[u8]) -> Result<Vec<String>, DataError> {
        // A buffer of one byte, so that every record spans several.
        let reader = BufReader::with_capacity(1, text);
        let all = records(reader, Path::new("d.json").into(), 1 << 16);
        all.map(|record| Ok(record?.1.to_string())).collect()
    }

    #[test]
    fn records_are_found_in_lists_and_in_rows() {
        for (text, expected) in [
            (&b"[]"[..], &[][..]),
            (b" [ ] \n", &[]),
            (b"", &[]),
            (b"\n \n", &[]),
            (b"[{\"a\":1},{\"b\":[{}]}]", &["{\"a\":1}", "{\"b\":[{}]}"]),
            (
                b"[ 1 , \"],\\\"\" ,null,[2]\r\n]",
                &["1", "\"],\\\"\"", "null", "[2]"],
            ),
            (
                b"{\"a\":\"}{\"}\n\n{\"b\":\n2}\r\n{}",
                &["{\"a\":\"}{\"}", "{\"b\":2}", "{}"],
            ),
            (b"{\"a\":1}{\"b\":2}", &["{\"a\":1}", "{\"b\":2}"]),
        ] {
            assert_eq!(read(text).unwrap(), expected, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn mistakes_name_their_line_and_what_belongs_there() {
        for (text, expected) in [
            (
                &b"[{\"a\": 1},\n {\"a\": oops}]"[..],
                "line 2, column 8: not valid JSON",
            ),
            (b"{\"a\": 1}\n{\"a\": \"b}\n{\"a\": 3}\n", "line 2, column"),
            (
                b"[{\"a\": 1}\n",
                "line 2: expected `]` at the end of the list, found the end of the file",
            ),
            (
                b"[{\"a\": 1} {}]",
                "line 1: expected a comma or `]` after a record, found `{`",
            ),
            (b"[{},]", "line 1, column"),
            (b"[,{}]", "line 1, column"),
            (
                b"[{}]\n[]",
                "line 2: expected the end of the file after the list, found `[`",
            ),
            (
                b"\"text\"",
                "expected a list of records, or one record a line, found `\"text\"`",
            ),
            (
                b"{\"a\": NaN}",
                "line 1, record 1: expected a number, a text or null, found NaN",
            ),
            (
                b"{}\n{\"a\":\n-Infinity}",
                "line 3, record 2: expected a number, a text or null, found -Infinity",
            ),
            (b"{\"a\": \"\\ud800\"}", "found half of a surrogate pair"),
            (b"{\"a\": \"\\udc00\"}", "found half of a surrogate pair"),
            (b"{\"a\": \"\xc4\xe3\"}", "iconv -f GB18030"),
            (b"{\"a\": 1e999}", "line 1, column"),
            (b"}", "line 1"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{}: {error}", text.escape_ascii());
        }
        let deep = [b"{\"a\":".as_slice(), &[b'['; 200], &[b']'; 200], b"}"].concat();
        let error = read(&deep).unwrap_err().to_string();
        assert!(error.contains("at most 127 deep"), "{error}");
    }

    #[test]
    fn a_mistake_far_into_a_line_takes_no_memory_and_has_its_place() {
        let records = JsonRecords {
            reader: &b""[..],
            path: Path::new("d.json").into(),
            most: 1 << 16,
            form: Form::List,
            place: Place { line: 1, column: 0 },
            number: 0,
            owed: false,
            record: b"{\"a\": oops}".to_vec(),
        };
        for (line, column) in [(1, 1 << 50), (1 << 50, 3), (7, 2)] {
            let error = records.parse(Place { line, column }).unwrap_err();
            let expected = format!("line {line}, column {}: not valid JSON", column + 7);
            assert!(error.to_string().contains(&expected), "{error}");
        }
    }

    #[test]
    fn a_record_without_an_end_takes_no_more_memory_than_is_allowed() {
        let reader = BufReader::new(b"{\"a\": \"".chain(repeat(b'x')));
        let mut all = records(reader, Path::new("d.jsonl").into(), 1 << 20);
        let error = all.next().unwrap().unwrap_err();
        assert!(
            matches!(
                error,
                DataError::RecordTooLarge {
                    record: 1,
                    most: 1,
                    ..
                }
            ),
            "{error}"
        );
        assert!(all.next().is_none());
        let reader = BufReader::new(b"[".chain(repeat(b'[')));
        let mut all = records(reader, Path::new("d.json").into(), 1 << 20);
        assert!(matches!(
            all.next(),
            Some(Err(DataError::RecordTooLarge { .. }))
        ));
    }
}
