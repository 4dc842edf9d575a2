//! Where the questions of an exam lie.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;
use zip::ZipArchive;
use zip::result::ZipError;

use super::{CATEGORIES, ExamQuestion, Split, Subject, shape, table};
use crate::error::DataError;
use crate::source::small;

/// The largest table that is read; real ones have up to two megabytes.
const LARGEST: u64 = 64 << 20;

const MAPPING: &str = "mapping.json";

/// A folder with an exam.
#[derive(Debug)]
pub struct Exam {
    folder: PathBuf,
    subjects: Vec<Subject>,
    archive: Option<(PathBuf, ZipArchive<File>)>,
}

impl Exam {
    /// Opens the exam in `folder`, such as `evaluation/ceval`.
    ///
    /// # Errors
    ///
    /// Where `mapping.json` is missing or broken, or the archive beside it is none.
    pub fn open(folder: &Path) -> Result<Self, DataError> {
        let path = folder.join(MAPPING);
        let subjects = subjects(&path)?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let path = folder.join(format!("{name}.zip"));
        let archive = match File::open(&path) {
            Ok(file) => {
                let archive = ZipArchive::new(file).map_err(|error| not_zip(&path, error))?;
                Some((path, archive))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(DataError::Read { path, source }),
        };
        Ok(Self {
            folder: folder.to_owned(),
            subjects,
            archive,
        })
    }

    /// The subjects in the order of `mapping.json`.
    pub fn subjects(&self) -> &[Subject] {
        &self.subjects
    }

    /// The questions of a subject.
    ///
    /// # Errors
    ///
    /// Where there is no such table, or it is broken.
    pub fn questions(
        &mut self,
        subject: &Subject,
        split: Split,
    ) -> Result<Vec<ExamQuestion>, DataError> {
        let (key, part) = (&subject.key, split.folder());
        let names = [
            format!("{part}/{key}_{part}.csv"),
            format!("{part}/{key}.csv"),
            format!("data/{part}/{key}_{part}.csv"),
        ];
        for name in &names {
            let path = self.folder.join(name);
            match File::open(&path) {
                Ok(file) => return table::questions(&path, &bounded(&path, file)?),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(DataError::Read { path, source }),
            }
            if let Some((archive_path, archive)) = &mut self.archive {
                let path = archive_path.join(name);
                match archive.by_name(name) {
                    Ok(file) => return table::questions(&path, &bounded(&path, file)?),
                    Err(ZipError::FileNotFound) => {}
                    Err(error) => return Err(not_zip(archive_path, error)),
                }
            }
        }
        let found = format!("none of {}", names.join(", "));
        let place = format!("subject {key}");
        let expected = "a table of its questions, beside the list or in the archive";
        Err(shape(&self.folder.join(MAPPING), &place, expected, found))
    }
}

fn subjects(path: &Path) -> Result<Vec<Subject>, DataError> {
    let bytes = small(path, LARGEST)?;
    let list: Value = serde_json::from_slice(&bytes).map_err(|source| DataError::Json {
        path: path.to_owned(),
        line: source.line(),
        column: source.column(),
        source,
    })?;
    let Value::Object(list) = list else {
        return Err(shape(path, "top level", "an object", "something else"));
    };
    let mut subjects = Vec::with_capacity(list.len());
    for (key, value) in list {
        let place = format!("subject {key}");
        let text = |field: &str| {
            let text = value[field].as_str().map(str::to_owned);
            text.ok_or_else(|| shape(path, &place, &format!("a text `{field}`"), "none"))
        };
        let (name, category) = (text("name")?, text("category")?);
        // The key becomes a part of paths.
        if key.is_empty() || key.contains(['/', '\\']) || key.starts_with('.') {
            return Err(shape(
                path,
                &place,
                "a plain name",
                "one with `/`, `\\` or a dot before it",
            ));
        }
        if !CATEGORIES[1..].contains(&category.as_str()) {
            let expected = format!("one of the categories {}", CATEGORIES[1..].join(", "));
            return Err(shape(path, &place, &expected, format!("`{category}`")));
        }
        subjects.push(Subject {
            key,
            name,
            category,
        });
    }
    Ok(subjects)
}

/// A whole file, if it is not too large; archives tell lies about sizes.
fn bounded(path: &Path, file: impl Read) -> Result<Vec<u8>, DataError> {
    let mut bytes = Vec::new();
    let read = file.take(LARGEST + 1).read_to_end(&mut bytes);
    read.map_err(|source| DataError::Read {
        path: path.to_owned(),
        source,
    })?;
    if bytes.len() as u64 > LARGEST {
        let expected = format!("at most {LARGEST} bytes");
        return Err(shape(path, "size", &expected, "more"));
    }
    Ok(bytes)
}

fn not_zip(path: &Path, error: ZipError) -> DataError {
    match error {
        ZipError::Io(source) => DataError::Read {
            path: path.to_owned(),
            source,
        },
        other => shape(path, "archive", "a whole zip file", other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    const LIST: &str = r#"{"b": {"name": "Beta", "category": "STEM"}, "a": {"name": "Alpha", "category": "Other"}}"#;

    fn zipped(names: &[&str]) -> Vec<u8> {
        let mut writer = ZipWriter::new(io::Cursor::new(Vec::new()));
        for name in names {
            writer
                .start_file(*name, SimpleFileOptions::default())
                .unwrap();
            writer
                .write_all(format!("{name},1,2,3,4,A\n").as_bytes())
                .unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn questions_are_found_in_folders_and_archives() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("exam");
        fs::create_dir_all(folder.join("dev")).unwrap();
        fs::write(folder.join(MAPPING), LIST).unwrap();
        fs::write(folder.join("dev/a.csv"), "plain,1,2,3,4,D\n").unwrap();
        let names = ["data/test/a_test.csv", "val/b_val.csv"];
        fs::write(folder.join("exam.zip"), zipped(&names)).unwrap();
        let mut exam = Exam::open(&folder).unwrap();
        let [b, a] = exam.subjects().to_vec().try_into().unwrap();
        assert_eq!((b.name.as_str(), a.name.as_str()), ("Beta", "Alpha"));
        for (subject, split, wanted) in [
            (&a, Split::Train, Some("plain")),
            (&a, Split::Test, Some(names[0])),
            (&b, Split::Validation, Some(names[1])),
            (&b, Split::Test, None),
        ] {
            let found = exam.questions(subject, split);
            let found = found.map(|questions| questions[0].question.clone());
            assert_eq!(found.ok().as_deref(), wanted, "{} {split:?}", subject.key);
        }
    }

    #[test]
    fn a_hostile_exam_says_what_is_wrong() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("exam");
        fs::create_dir(&folder).unwrap();
        let opened = |list: &str, archive: Option<&[u8]>| {
            fs::write(folder.join(MAPPING), list).unwrap();
            let path = folder.join("exam.zip");
            let _absent = fs::remove_file(&path);
            if let Some(bytes) = archive {
                fs::write(path, bytes).unwrap();
            }
            Exam::open(&folder).unwrap_err().to_string()
        };
        let whole = zipped(&["test/a.csv"]);
        for (list, archive, expected) in [
            ("[]", None, "expected an object"),
            ("{", None, "not valid JSON"),
            (r#"{"a": {"name": "x"}}"#, None, "a text `category`"),
            (
                r#"{"../a": {"name": "x", "category": "STEM"}}"#,
                None,
                "a plain name",
            ),
            (
                r#"{"a": {"name": "x", "category": "Magic"}}"#,
                None,
                "found `Magic`",
            ),
            (LIST, Some(&whole[..whole.len() / 2]), "a whole zip file"),
            (LIST, Some(b"".as_slice()), "a whole zip file"),
        ] {
            let error = opened(list, archive);
            assert!(error.contains(expected), "{list}: {error}");
        }
    }
}
