//! Data files into records, one at a time, so that a file may be larger than memory.
//!
//! ```text
//! .json          a list of records, or one record after another
//! .jsonl         one record a line
//! .csv, .tsv     a table whose first line names the columns
//! .parquet       a table with columns of texts, lists and groups
//! .arrow         the same as `datasets` keeps it
//! .txt           one record a line, in the column `text`
//! <folder>       files of one kind, by name
//! ```

mod arrow;
mod columns;
mod flat;
mod guard;
mod json;
mod parquet;
mod schema;
mod table;
mod text;

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::DataError;

/// Most bytes of one record: more than any model reads at once, and little enough to hold.
const MOST_BYTES: usize = 64 << 20;

/// A record with its number in its file, counted from one.
pub(crate) type Read1 = Result<(usize, Value), DataError>;

/// What a data file is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Json,
    Csv,
    Tsv,
    Parquet,
    Arrow,
    Text,
}

impl Kind {
    fn of(path: &Path) -> Result<Self, DataError> {
        match path.extension().and_then(|e| e.to_str()).unwrap_or("") {
            "json" | "jsonl" => Ok(Self::Json),
            "csv" => Ok(Self::Csv),
            "tsv" => Ok(Self::Tsv),
            "parquet" => Ok(Self::Parquet),
            "arrow" => Ok(Self::Arrow),
            "txt" => Ok(Self::Text),
            other => Err(DataError::Unsupported {
                path: path.to_owned(),
                place: "file name".to_owned(),
                feature: format!(
                    "a data file of kind `{other}` (only json, jsonl, csv, tsv, parquet, arrow and txt)"
                ),
            }),
        }
    }
}

/// The files of one dataset, all of one kind.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    kind: Kind,
    files: Vec<Arc<Path>>,
}

impl Source {
    /// The file at `path`, or the files of the folder there, by name.
    pub(crate) fn at(path: &Path) -> Result<Self, DataError> {
        let unreadable = |source| DataError::Read {
            path: path.to_owned(),
            source,
        };
        let kind = Kind::of(path);
        let found = match fs::metadata(path) {
            // What is no data file anyway is said to be that.
            Err(source) => return kind.and(Err(unreadable(source))),
            Ok(found) => found,
        };
        if !found.is_dir() {
            if !found.is_file() {
                return Err(not_a_file(path));
            }
            return Ok(Self {
                kind: kind?,
                files: vec![path.into()],
            });
        }
        let mut files = Vec::new();
        for entry in fs::read_dir(path).map_err(unreadable)? {
            files.push(entry.map_err(unreadable)?.path());
        }
        // The original takes them in the order in which the file system lists them, which no copy of the folder keeps.
        files.sort();
        let Some(first) = files.first() else {
            return Err(DataError::Empty {
                path: path.to_owned(),
            });
        };
        let kind = Kind::of(first)?;
        for file in &files {
            let metadata = fs::metadata(file).map_err(|source| DataError::Read {
                path: file.clone(),
                source,
            })?;
            let found = if metadata.is_dir() {
                format!("the folder `{}`", file.display())
            } else if Kind::of(file).ok() == Some(kind) {
                if !metadata.is_file() {
                    return Err(not_a_file(file));
                }
                continue;
            } else {
                let name = |path: &PathBuf| {
                    path.file_name()
                        .unwrap_or_default()
                        .to_string_lossy()
                        .into_owned()
                };
                format!("`{}` beside `{}`", name(file), name(first))
            };
            return Err(DataError::Shape {
                path: path.to_owned(),
                place: "folder".to_owned(),
                expected: "data files of one kind and nothing else".to_owned(),
                found,
            });
        }
        Ok(Self {
            kind,
            files: files.into_iter().map(Arc::from).collect(),
        })
    }

    /// The files, in the order in which they are read.
    pub(crate) fn files(&self) -> &[Arc<Path>] {
        &self.files
    }

    /// Every record of one of the files.
    pub(crate) fn records(
        &self,
        file: &Arc<Path>,
    ) -> Result<Box<dyn Iterator<Item = Read1> + Send>, DataError> {
        Ok(match self.kind {
            Kind::Json => Box::new(json::records(open(file)?, file.clone(), MOST_BYTES)),
            Kind::Csv => Box::new(table::records(open(file)?, file, b',', MOST_BYTES)?),
            Kind::Tsv => Box::new(table::records(open(file)?, file, b'\t', MOST_BYTES)?),
            Kind::Parquet => Box::new(parquet::records(file)?),
            Kind::Arrow => Box::new(arrow::records(file)?),
            Kind::Text => Box::new(text::records(open(file)?, file.clone(), MOST_BYTES)),
        })
    }

    /// A digest of the files' content, in order. Names are left out: a moved file holds the same.
    pub(crate) fn digest(&self) -> Result<[u8; 32], DataError> {
        let mut all = Sha256::new();
        for file in &self.files {
            let unreadable = |source| DataError::Read {
                path: file.to_path_buf(),
                source,
            };
            let mut reader = File::open(file).map_err(unreadable)?;
            let mut one = Sha256::new();
            let mut piece = vec![0; 1 << 20];
            loop {
                let read = reader.read(&mut piece).map_err(unreadable)?;
                if read == 0 {
                    break;
                }
                one.update(&piece[..read]);
            }
            all.update(one.finalize());
        }
        Ok(all.finalize().into())
    }
}

/// The whole of a file that has at most `most` bytes.
pub(crate) fn small(path: &Path, most: u64) -> Result<Vec<u8>, DataError> {
    let unreadable = |source| DataError::Read {
        path: path.to_owned(),
        source,
    };
    let found = fs::metadata(path).map_err(unreadable)?;
    if !found.is_file() && !found.is_dir() {
        return Err(not_a_file(path));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > most {
        return Err(DataError::Shape {
            path: path.to_owned(),
            place: "size".to_owned(),
            expected: format!("at most {most} bytes"),
            found: "more".to_owned(),
        });
    }
    Ok(bytes)
}

/// A pipe or a device may have no end, and cannot be read twice.
fn not_a_file(path: &Path) -> DataError {
    DataError::Shape {
        path: path.to_owned(),
        place: "file".to_owned(),
        expected: "a file, or a link to one".to_owned(),
        found: "a pipe, a socket or a device".to_owned(),
    }
}

/// Opens a file of text behind its byte order mark; text that is not UTF-8 by its first bytes is refused.
fn open(path: &Path) -> Result<BufReader<File>, DataError> {
    let unreadable = |source: io::Error| DataError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.is_dir() {
        return Err(unreadable(io::ErrorKind::IsADirectory.into()));
    }
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let start = reader.fill_buf().map_err(unreadable)?;
    let wide = match start {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Some("UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16"),
        // Without a mark: a bracket or a letter beside a zero.
        [0, 1..=0x7f, 0, 1..=0x7f, ..] => Some("UTF-16BE"),
        [1..=0x7f, 0, 1..=0x7f, 0, ..] => Some("UTF-16LE"),
        _ => None,
    };
    if let Some(encoding) = wide {
        return Err(DataError::Shape {
            path: path.to_owned(),
            place: "line 1".to_owned(),
            expected: format!("UTF-8 text (`iconv -f {encoding} -t UTF-8` converts it)"),
            found: format!("{encoding} text"),
        });
    }
    if start.starts_with(b"\xef\xbb\xbf") {
        reader.seek(SeekFrom::Start(3)).map_err(unreadable)?;
    }
    Ok(reader)
}

/// What a message says about bytes that are not UTF-8.
const EXPECTED_UTF8: &str = "UTF-8 text (`iconv -f GB18030 -t UTF-8` converts from GBK)";

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(path: &Path) -> Result<Vec<i64>, DataError> {
        let source = Source::at(path)?;
        let mut all = Vec::new();
        for file in source.files() {
            for record in source.records(file)? {
                all.push(record?.1["a"].as_i64().unwrap_or(-1));
            }
        }
        Ok(all)
    }

    #[test]
    fn a_folder_is_read_by_name_and_holds_one_kind() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("2.json", "[{\"a\": 3}]");
        write("1.jsonl", "{\"a\": 1}\n{\"a\": 2}\n");
        assert_eq!(numbers(folder.path()).unwrap(), [1, 2, 3]);
        let before = Source::at(folder.path()).unwrap().digest().unwrap();
        write("2.json", "[{\"a\": 4}]");
        assert_ne!(Source::at(folder.path()).unwrap().digest().unwrap(), before);
        write("3.csv", "a\n1\n");
        let error = numbers(folder.path()).unwrap_err().to_string();
        assert!(error.contains("`3.csv` beside `1.jsonl`"), "{error}");
        fs::remove_file(folder.path().join("3.csv")).unwrap();
        fs::create_dir(folder.path().join("4")).unwrap();
        let error = numbers(folder.path()).unwrap_err().to_string();
        assert!(error.contains("found the folder"), "{error}");
    }

    #[test]
    fn a_pipe_or_a_device_is_refused_before_it_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d.json");
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        for place in [path.as_path(), folder.path()] {
            let error = Source::at(place).unwrap_err().to_string();
            assert!(
                error.contains("found a pipe, a socket or a device"),
                "{error}"
            );
        }
        let file = folder.path().join("other.json");
        fs::write(&file, "[{\"a\": 1}]").unwrap();
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&file, &path).unwrap();
        assert_eq!(numbers(&path).unwrap(), [1]);
        let error = Source::at(&folder.path().join("none.json")).unwrap_err();
        assert!(matches!(error, DataError::Read { .. }), "{error}");
    }

    #[test]
    fn an_empty_folder_and_other_encodings_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = Source::at(folder.path()).unwrap_err();
        assert!(matches!(error, DataError::Empty { .. }), "{error}");
        let path = folder.path().join("d.json");
        for (bytes, encoding) in [
            (&b"\xff\xfe[\0]\0"[..], "UTF-16"),
            (b"\xfe\xff\0[\0]", "UTF-16"),
            (b"[\0]\0", "UTF-16LE"),
            (b"\0[\0]", "UTF-16BE"),
            (b"\xff\xfe\0\0[\0\0\0", "UTF-32"),
        ] {
            fs::write(&path, bytes).unwrap();
            let error = numbers(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("iconv -f {encoding} ")), "{error}");
        }
        fs::write(&path, "\u{feff}[{\"a\": 1},\r\n {\"a\": 2}]\r\n").unwrap();
        assert_eq!(numbers(&path).unwrap(), [1, 2]);
    }
}
