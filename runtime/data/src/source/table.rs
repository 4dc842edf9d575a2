//! Records from a table: `.csv`, or `.tsv` with tabs.
//!
//! The first line names the columns. Cells are texts, but where the original reads them with pandas and finds something
//! else: an empty cell, or one of the words that pandas takes for it, is nothing. A column of numbers stays text here, since
//! it ends in a prompt; truth values are read where a judgement is wanted.

use std::collections::HashSet;
use std::io::{self, BufRead, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Map, Value};

use super::{EXPECTED_UTF8, Read1};
use crate::error::DataError;

/// Columns of a table, each of whose names every record has.
const MOST_COLUMNS: usize = 10_000;

/// Reads the records of a table whose cells end at `separator`, none longer than `most` bytes.
pub(super) fn records<R: BufRead + Send>(
    reader: R,
    path: &Arc<Path>,
    separator: u8,
    most: usize,
) -> Result<impl Iterator<Item = Read1> + Send + use<R>, DataError> {
    let read = Arc::new(AtomicUsize::new(0));
    let watched = Watched {
        inner: reader,
        read: Arc::clone(&read),
        most,
    };
    let mut rows = csv::ReaderBuilder::new()
        .delimiter(separator)
        .has_headers(false)
        .flexible(true)
        .from_reader(watched)
        .into_records();
    let mut table = Table {
        path: Arc::clone(path),
        columns: Vec::new(),
        number: 0,
        most,
    };
    if let Some(first) = rows.next() {
        let first = first.map_err(|error| table.unreadable(&error))?;
        table.name_columns(&first)?;
    }
    let mut over = false;
    Ok(std::iter::from_fn(move || {
        if over {
            return None;
        }
        read.store(0, Ordering::Relaxed);
        let record = match rows.next()? {
            Ok(row) => table.record(&row),
            Err(error) => Err(table.unreadable(&error)),
        };
        over = record.is_err();
        Some(record)
    }))
}

struct Table {
    path: Arc<Path>,
    columns: Vec<String>,
    number: usize,
    most: usize,
}

impl Table {
    fn name_columns(&mut self, row: &csv::StringRecord) -> Result<(), DataError> {
        if row.len() > MOST_COLUMNS {
            let found = format!("{} cells", row.len());
            return Err(self.wrong(1, format!("at most {MOST_COLUMNS} columns"), found));
        }
        self.columns = row.iter().map(str::to_owned).collect();
        let mut seen = HashSet::new();
        let twice = self.columns.iter().find(|name| !seen.insert(*name));
        twice.map_or(Ok(()), |name| {
            let found = format!("the column `{name}` a second time");
            Err(self.wrong(1, "each column once".to_owned(), found))
        })
    }

    fn record(&mut self, row: &csv::StringRecord) -> Read1 {
        self.number += 1;
        if row.len() != self.columns.len() {
            let line = row.position().map_or(1, csv::Position::line);
            let expected = format!(
                "{} cells, as many as the first line has",
                self.columns.len()
            );
            return Err(self.wrong(line, expected, format!("{} cells", row.len())));
        }
        let fields = self.columns.iter().zip(row.iter());
        let fields = fields.map(|(name, cell)| (name.clone(), value(cell)));
        let fields: Map<String, Value> = fields.collect();
        Ok((self.number, Value::Object(fields)))
    }

    fn wrong(&self, line: u64, expected: String, found: String) -> DataError {
        DataError::Shape {
            path: self.path.to_path_buf(),
            place: format!("line {line}"),
            expected,
            found,
        }
    }

    fn unreadable(&self, error: &csv::Error) -> DataError {
        let line = error.position().map_or(1, csv::Position::line);
        match error.kind() {
            csv::ErrorKind::Utf8 { .. } => {
                let found = "bytes of another encoding".to_owned();
                self.wrong(line, EXPECTED_UTF8.to_owned(), found)
            }
            csv::ErrorKind::Io(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                DataError::RecordTooLarge {
                    path: self.path.to_path_buf(),
                    record: self.number + 1,
                    most: self.most >> 20,
                }
            }
            csv::ErrorKind::Io(error) => DataError::Read {
                path: self.path.to_path_buf(),
                source: io::Error::new(error.kind(), error.to_string()),
            },
            _ => self.wrong(line, "a row of a table".to_owned(), error.to_string()),
        }
    }
}

/// Stops where one record has taken too much, such as behind a quote that nothing closes.
struct Watched<R> {
    inner: R,
    read: Arc<AtomicUsize>,
    most: usize,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if self.read.fetch_add(read, Ordering::Relaxed) > self.most {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(read)
    }
}

fn value(cell: &str) -> Value {
    if NOTHING.contains(&cell) {
        Value::Null
    } else {
        Value::String(cell.to_owned())
    }
}

/// What pandas' `read_csv` takes for a missing value unless told otherwise (`pandas._libs.parsers.STR_NA_VALUES`).
const NOTHING: [&str; 19] = [
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
    "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
];

#[cfg(test)]
mod tests {
    use std::io::{BufReader, repeat};

    use serde_json::json;

    use super::*;

    fn read(text: &'static [u8], separator: u8) -> Result<Vec<Value>, DataError> {
        let all = records(text, &Path::new("t.csv").into(), separator, 1 << 20)?;
        all.map(|record| Ok(record?.1)).collect()
    }

    #[test]
    fn cells_are_texts_or_nothing() {
        let text = "instruction,input,output\n\"问：\"\"a\"\", b\nc\",NA,1\nd,,2.50\r\n";
        assert_eq!(
            read(text.as_bytes(), b',').unwrap(),
            [
                json!({"instruction": "问：\"a\", b\nc", "input": null, "output": "1"}),
                json!({"instruction": "d", "input": null, "output": "2.50"}),
            ]
        );
        let tabs = read(b"a\tb\n1,2\t3\n", b'\t').unwrap();
        assert_eq!(tabs, [json!({"a": "1,2", "b": "3"})]);
        assert!(read(b"", b',').unwrap().is_empty());
        assert!(read(b"a,b\n", b',').unwrap().is_empty());
    }

    #[test]
    fn a_broken_table_names_the_line_and_what_to_do() {
        for (text, expected) in [
            (&b"a,b\n1,2\n3\n"[..], "line 3: expected 2 cells"),
            (b"a,b\n1,2,3\n", "line 2: expected 2 cells"),
            (b"a,a\n1,2\n", "the column `a` a second time"),
            (b"a\n\xc4\xe3\xba\xc3\n", "iconv -f GB18030"),
        ] {
            let error = read(text, b',').unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let wide: Vec<String> = (0..200_000).map(|number| number.to_string()).collect();
        let wide = wide.join(",");
        let error = records(wide.as_bytes(), &Path::new("t.csv").into(), b',', 1 << 22);
        let error = error.err().unwrap().to_string();
        assert!(
            error.contains("expected at most 10000 columns, found 200000 cells"),
            "{error}"
        );
    }

    #[test]
    fn a_quote_that_nothing_closes_takes_no_more_memory_than_is_allowed() {
        let reader = BufReader::new(b"a\n1\n\"".chain(repeat(b'x')));
        let mut all = records(reader, &Path::new("t.csv").into(), b',', 1 << 20).unwrap();
        assert!(all.next().unwrap().is_ok());
        let error = all.next().unwrap().unwrap_err();
        assert!(
            matches!(error, DataError::RecordTooLarge { record: 2, .. }),
            "{error}"
        );
        assert!(all.next().is_none());
    }
}
