//! Records from a table: `.csv`, or `.tsv` with tabs.
//!
//! The first line names the columns. Cells are texts, but where the original reads them with pandas and finds something
//! else: an empty cell, or one of the words that pandas takes for it, is nothing; a column of nothing but `True` and
//! `False` holds truth values. A column of numbers stays text here, since it ends in a prompt.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::DataError;

/// Reads the records of a table whose cells end at `separator`.
pub(crate) fn records(path: &Path, bytes: &[u8], separator: u8) -> Result<Vec<Value>, DataError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let wrong = |line: u64, expected: String, found: String| DataError::Shape {
        path: path.to_owned(),
        place: format!("line {line}"),
        expected,
        found,
    };
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(separator)
        .has_headers(false)
        .flexible(true)
        .from_reader(bytes);
    let mut columns: Vec<String> = Vec::new();
    let mut rows = Vec::new();
    for row in reader.records() {
        let row = row.map_err(|error| {
            let line = error.position().map_or(1, csv::Position::line);
            match error.kind() {
                csv::ErrorKind::Utf8 { .. } => wrong(
                    line,
                    "UTF-8 text (`iconv -f GB18030 -t UTF-8` converts from GBK)".to_owned(),
                    "bytes of another encoding".to_owned(),
                ),
                _ => wrong(line, "a row of a table".to_owned(), error.to_string()),
            }
        })?;
        let line = row.position().map_or(1, csv::Position::line);
        if columns.is_empty() {
            columns = row.iter().map(str::to_owned).collect();
            let twice = columns.iter().enumerate();
            let twice = twice.filter(|(at, name)| columns[..*at].contains(name));
            if let Some((_, name)) = twice.into_iter().next() {
                let found = format!("the column `{name}` a second time");
                return Err(wrong(line, "each column once".to_owned(), found));
            }
            continue;
        }
        if row.len() != columns.len() {
            let expected = format!("{} cells, as many as the first line has", columns.len());
            return Err(wrong(line, expected, format!("{} cells", row.len())));
        }
        let cells: Vec<Option<String>> = row.iter().map(cell).collect();
        rows.push(cells);
    }
    let truths: Vec<bool> = (0..columns.len())
        .map(|at| {
            let mut cells = rows.iter().map(|row| row[at].as_deref());
            cells.len() > 0 && cells.all(|cell| cell.and_then(truth).is_some())
        })
        .collect();
    let record = |row: Vec<Option<String>>| {
        let fields = columns.iter().zip(row).zip(&truths);
        let fields = fields.map(|((name, cell), is_truth)| {
            let value = match cell {
                None => Value::Null,
                Some(text) => match truth(&text).filter(|_| *is_truth) {
                    Some(truth) => Value::Bool(truth),
                    None => Value::String(text),
                },
            };
            (name.clone(), value)
        });
        Value::Object(fields.collect::<Map<_, _>>())
    };
    Ok(rows.into_iter().map(record).collect())
}

fn cell(text: &str) -> Option<String> {
    (!NOTHING.contains(&text)).then(|| text.to_owned())
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "True" | "TRUE" | "true" => Some(true),
        "False" | "FALSE" | "false" => Some(false),
        _ => None,
    }
}

/// What pandas' `read_csv` takes for a missing value unless told otherwise (`pandas._libs.parsers.STR_NA_VALUES`).
const NOTHING: [&str; 19] = [
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
    "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &[u8]) -> Result<Vec<Value>, DataError> {
        records(Path::new("t.csv"), text, b',')
    }

    #[test]
    fn cells_are_texts_nothing_or_truth_values() {
        let text = "\u{feff}instruction,input,output,kto_tag\n\"问：\"\"a\"\", b\nc\",NA,1,True\nd,,2.50,false\n";
        assert_eq!(
            read(text.as_bytes()).unwrap(),
            [
                json!({"instruction": "问：\"a\", b\nc", "input": null, "output": "1", "kto_tag": true}),
                json!({"instruction": "d", "input": null, "output": "2.50", "kto_tag": false}),
            ]
        );
        let mixed = read(b"a\nTrue\nno\n").unwrap();
        assert_eq!(mixed, [json!({"a": "True"}), json!({"a": "no"})]);
        let tabs = records(Path::new("t.tsv"), b"a\tb\n1,2\t3\n", b'\t').unwrap();
        assert_eq!(tabs, [json!({"a": "1,2", "b": "3"})]);
        assert!(read(b"").unwrap().is_empty());
        assert!(read(b"a,b\n").unwrap().is_empty());
    }

    #[test]
    fn a_broken_table_names_the_line_and_what_to_do() {
        for (text, expected) in [
            (&b"a,b\n1,2\n3\n"[..], "line 3: expected 2 cells"),
            (b"a,b\n1,2,3\n", "line 2: expected 2 cells"),
            (b"a,a\n1,2\n", "the column `a` a second time"),
            (b"a\n\xc4\xe3\xba\xc3\n", "iconv -f GB18030"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
