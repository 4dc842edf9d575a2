//! The questions in one table of an exam.
//!
//! Cells are taken as they stand. The original reads them with pandas, which turns a column of numbers into numbers and
//! some words, such as `None`, into `nan`; a model should not be asked about those.

use std::path::Path;

use csv::StringRecord;

use super::{CHOICES, ExamQuestion, shape};
use crate::error::DataError;

/// Where a table has what.
struct Columns {
    question: usize,
    choices: [usize; 4],
    answer: Option<usize>,
}

/// A table without a line of column names.
const UNNAMED: Columns = Columns {
    question: 0,
    choices: [1, 2, 3, 4],
    answer: Some(5),
};

/// Reads a table; `path` is for messages.
pub(super) fn questions(path: &Path, bytes: &[u8]) -> Result<Vec<ExamQuestion>, DataError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(bytes);
    let mut columns = None;
    let mut questions = Vec::new();
    for row in reader.records() {
        let row = row.map_err(|error| {
            let line = error.position().map_or(1, csv::Position::line);
            let place = format!("line {line}");
            shape(path, &place, "a row of a table in UTF-8", error.to_string())
        })?;
        let line = row.position().map_or(1, csv::Position::line);
        let Some(known) = &columns else {
            let named = Columns::named(&row);
            if named.is_none() {
                questions.push(UNNAMED.question(path, line, &row)?);
            }
            columns = Some(named.unwrap_or(UNNAMED));
            continue;
        };
        questions.push(known.question(path, line, &row)?);
    }
    Ok(questions)
}

impl Columns {
    /// The columns that the first line of a table names, if it does.
    fn named(first: &StringRecord) -> Option<Self> {
        let find = |name: &str| {
            let mut cells = first.iter();
            cells.position(|cell| cell.trim().eq_ignore_ascii_case(name))
        };
        let [a, b, c, d] = CHOICES.map(find);
        Some(Self {
            question: find("question")?,
            choices: [a?, b?, c?, d?],
            answer: find("answer"),
        })
    }

    fn question(
        &self,
        path: &Path,
        line: u64,
        row: &StringRecord,
    ) -> Result<ExamQuestion, DataError> {
        let cell = |at: usize| {
            let found = row.get(at).map(str::to_owned);
            found.ok_or_else(|| {
                let place = format!("line {line}");
                let expected = "a question, four answers to choose from, and the right one";
                shape(path, &place, expected, format!("{} cells", row.len()))
            })
        };
        let [a, b, c, d] = self.choices.map(cell);
        Ok(ExamQuestion {
            question: cell(self.question)?,
            choices: [a?, b?, c?, d?],
            answer: self.answer.map(cell).transpose()?.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_with_and_without_names_hold_the_same() {
        let wanted = ExamQuestion {
            question: "which, \"so\"?".to_owned(),
            choices: ["None", "2.0", "", "x\ny"].map(str::to_owned),
            answer: "C".to_owned(),
        };
        let cells = "\"which, \"\"so\"\"?\",None,2.0,,\"x\ny\",C";
        for table in [
            format!("{cells}\n"),
            format!("\u{feff},Question,A,B,C,D,Answer\n0,{cells}\n"),
            format!("id,question,A,B,C,D,answer,explanation\r\n0,{cells},why\r\n"),
        ] {
            let found = questions(Path::new("t.csv"), table.as_bytes()).unwrap();
            assert_eq!(found, std::slice::from_ref(&wanted), "{table}");
        }
        let untold = questions(Path::new("t.csv"), b"id,question,A,B,C,D\n0,q,1,2,3,4\n");
        assert_eq!(untold.unwrap()[0].answer, "");
        assert!(questions(Path::new("t.csv"), b"").unwrap().is_empty());
    }

    #[test]
    fn broken_tables_name_the_line() {
        for (table, expected) in [
            (&b"q,1,2,3,4,A\nq,1\n"[..], "line 2"),
            (b"question,A,B,C,D\nq,1,2,3\n", "found 4 cells"),
            (b"q,1,2,3,4,A\n\xff\xfe,1,2,3,4,A\n", "line 2"),
        ] {
            let error = questions(Path::new("t.csv"), table).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
