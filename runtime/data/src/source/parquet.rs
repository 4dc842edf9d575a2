//! Records of a parquet file, page by page.
//!
//! The reader of the Arrow project is used without Arrow: it gives rows, and a page of each column is what is in memory.
//! It trusts what a file says of itself more than a foreign file may be trusted, so [`guard`](super::guard) looks first,
//! dictionaries are looked at before they are unfolded, and a panic becomes an error.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use parquet::bloom_filter::Sbbf;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use serde_json::{Map, Number, Value};

use super::{Read1, guard};
use crate::error::DataError;

/// Reads the records of the file at `path`.
pub(super) fn records(
    path: &Arc<Path>,
) -> Result<impl Iterator<Item = Read1> + Send + use<>, DataError> {
    let path = Arc::clone(path);
    let unreadable = |source| DataError::Read {
        path: path.to_path_buf(),
        source,
    };
    let mut file = File::open(&path).map_err(unreadable)?;
    if let Some(reason) = guard::fault(&mut file).map_err(unreadable)? {
        return Err(DataError::Parquet {
            path: path.to_path_buf(),
            reason,
        });
    }
    let opened =
        caught(|| SerializedFileReader::new(file)).map_err(|reason| damaged(&path, 0, &reason))?;
    let mut rows = RowIter::from_file_into(Box::new(Careful(opened)));
    let (mut number, mut over) = (0, false);
    Ok(std::iter::from_fn(move || {
        if over {
            return None;
        }
        number += 1;
        let record = match caught(|| rows.next().transpose()) {
            Ok(None) => return None,
            Ok(Some(row)) => value_of_row(row)
                .map(|value| (number, value))
                .map_err(|column| not_text(&path, number, &column)),
            Err(reason) => Err(damaged(&path, number, &reason)),
        };
        over = record.is_err();
        Some(record)
    }))
}

/// Calls the reader; what it panics with is a reason like any other.
fn caught<T>(read: impl FnOnce() -> ParquetResult<T>) -> Result<T, String> {
    // A reader that panicked is not used again.
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied());
            Err(text.unwrap_or("its reader gave up").to_owned())
        }
    }
}

fn damaged(path: &Path, record: usize, reason: &str) -> DataError {
    let place = match record {
        0 => String::new(),
        record => format!("record {record}: "),
    };
    DataError::Parquet {
        path: path.to_owned(),
        reason: format!("{place}{reason}"),
    }
}

fn not_text(path: &Path, record: usize, column: &str) -> DataError {
    DataError::Shape {
        path: path.to_owned(),
        place: format!("record {record}, column {column}"),
        expected: "UTF-8 text, numbers, lists or groups".to_owned(),
        found: "bytes".to_owned(),
    }
}

/// A row as an object; else the column that holds bytes.
fn value_of_row(row: Row) -> Result<Value, String> {
    let columns = row.into_columns().into_iter();
    let fields = columns.map(|(name, field)| {
        let value = value_of(&field).ok_or_else(|| name.clone())?;
        Ok((name, value))
    });
    Ok(Value::Object(
        fields.collect::<Result<Map<_, _>, String>>()?,
    ))
}

/// A field as JSON; none: it holds bytes that are no text.
fn value_of(field: &Field) -> Option<Value> {
    Some(match field {
        Field::Null => Value::Null,
        Field::Bool(truth) => Value::Bool(*truth),
        Field::Byte(number) => (*number).into(),
        Field::Short(number) => (*number).into(),
        Field::Int(number) => (*number).into(),
        Field::Long(number) => (*number).into(),
        Field::UByte(number) => (*number).into(),
        Field::UShort(number) => (*number).into(),
        Field::UInt(number) => (*number).into(),
        Field::ULong(number) => (*number).into(),
        // Writers put NaN where nothing is known, which JSON calls null.
        Field::Float16(number) => real(f64::from(f32::from(*number))),
        Field::Float(number) => real(f64::from(*number)),
        Field::Double(number) => real(*number),
        Field::Str(text) => Value::String(text.clone()),
        Field::Bytes(bytes) => Value::String(std::str::from_utf8(bytes.data()).ok()?.to_owned()),
        Field::Group(group) => {
            let fields = group.get_column_iter();
            let fields = fields.map(|(name, field)| Some((name.clone(), value_of(field)?)));
            Value::Object(fields.collect::<Option<Map<_, _>>>()?)
        }
        Field::ListInternal(list) => {
            let items = list.elements().iter().map(value_of);
            Value::Array(items.collect::<Option<Vec<_>>>()?)
        }
        Field::MapInternal(map) => {
            let entries = map.entries().iter();
            let entries = entries.map(|(key, item)| {
                let key = match value_of(key)? {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                Some((key, value_of(item)?))
            });
            Value::Object(entries.collect::<Option<Map<_, _>>>()?)
        }
        Field::Decimal(_)
        | Field::Date(_)
        | Field::TimeMillis(_)
        | Field::TimeMicros(_)
        | Field::TimestampMillis(_)
        | Field::TimestampMicros(_) => Value::String(field.to_string()),
    })
}

fn real(number: f64) -> Value {
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

/// The reader with a look at each dictionary.
struct Careful<R>(R);

impl FileReader for Careful<SerializedFileReader<File>> {
    fn metadata(&self) -> &ParquetMetaData {
        self.0.metadata()
    }

    fn num_row_groups(&self) -> usize {
        self.0.num_row_groups()
    }

    fn get_row_group(&self, index: usize) -> ParquetResult<Box<dyn RowGroupReader + '_>> {
        Ok(Box::new(Careful(self.0.get_row_group(index)?)))
    }

    fn get_row_iter(&self, projection: Option<Type>) -> ParquetResult<RowIter<'_>> {
        RowIter::from_file(projection, self)
    }
}

impl RowGroupReader for Careful<Box<dyn RowGroupReader + '_>> {
    fn metadata(&self) -> &RowGroupMetaData {
        self.0.metadata()
    }

    fn num_columns(&self) -> usize {
        self.0.num_columns()
    }

    fn get_column_page_reader(&self, index: usize) -> ParquetResult<Box<dyn PageReader>> {
        Ok(Box::new(Careful(self.0.get_column_page_reader(index)?)))
    }

    fn get_column_bloom_filter(&self, index: usize) -> Option<&Sbbf> {
        self.0.get_column_bloom_filter(index)
    }

    fn get_row_iter(&self, projection: Option<Type>) -> ParquetResult<RowIter<'_>> {
        RowIter::from_row_group(projection, self)
    }
}

impl PageReader for Careful<Box<dyn PageReader>> {
    fn get_next_page(&mut self) -> ParquetResult<Option<Page>> {
        let page = self.0.get_next_page()?;
        if let Some(Page::DictionaryPage {
            buf, num_values, ..
        }) = &page
        {
            // Room is made for as many values as are claimed, and each takes a byte at least.
            if *num_values as usize > buf.len() {
                let claim = format!(
                    "a dictionary of {} bytes claims {num_values} values",
                    buf.len()
                );
                return Err(ParquetError::General(claim));
            }
        }
        Ok(page)
    }

    fn peek_next_page(&mut self) -> ParquetResult<Option<PageMetadata>> {
        self.0.peek_next_page()
    }

    fn skip_next_page(&mut self) -> ParquetResult<()> {
        self.0.skip_next_page()
    }
}

impl Iterator for Careful<Box<dyn PageReader>> {
    type Item = ParquetResult<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::testing::golden;

    fn read(path: &Path) -> Result<Vec<Value>, DataError> {
        records(&path.into())?.map(|record| Ok(record?.1)).collect()
    }

    fn samples() -> Vec<PathBuf> {
        let folder = golden().join("vectors/parquet");
        let files = fs::read_dir(folder).unwrap();
        files.map(|file| file.unwrap().path()).collect()
    }

    #[test]
    fn files_of_pyarrow_are_read_as_it_reads_them() {
        let text = fs::read_to_string(golden().join("vectors/parquet.json")).unwrap();
        let expected: Value = serde_json::from_str(&text).unwrap();
        assert!(samples().len() > 5);
        for path in samples() {
            let name = path.file_stem().unwrap().to_str().unwrap();
            let rows = Value::Array(read(&path).unwrap());
            assert_eq!(rows, expected[name], "{name}");
        }
    }

    #[test]
    fn a_file_that_was_cut_off_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cut.parquet");
        for sample in samples() {
            let whole = fs::read(sample).unwrap();
            for length in (0..whole.len()).step_by(7) {
                fs::write(&path, &whole[..length]).unwrap();
                let error = read(&path).unwrap_err();
                assert!(
                    matches!(error, DataError::Parquet { .. }),
                    "{length}: {error}"
                );
            }
        }
    }

    /// No byte may make the reader abort, hang or take memory without end; what it makes of a changed text is the file's.
    #[test]
    fn a_file_that_lies_is_an_error_or_other_data() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lies.parquet");
        let mut errors = 0;
        for sample in samples() {
            let whole = fs::read(sample).unwrap();
            for at in (4..whole.len() - 4).step_by(3) {
                let mut bytes = whole.clone();
                bytes[at] ^= 0xff;
                fs::write(&path, bytes).unwrap();
                errors += usize::from(read(&path).is_err());
            }
        }
        assert!(errors > 100, "{errors}");
    }
}
