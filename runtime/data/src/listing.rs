//! `dataset_info.json`: which datasets there are, as LLaMA-Factory lists them.
//!
//! ```text
//! <dataset_dir>/dataset_info.json   {"name": {"file_name", "formatting", "columns", "tags", "num_samples"}}
//! <dataset_dir>/<file_name>         a data file, or a folder of them: see `source`
//! ```

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::columns::{Columns, KnownTags, Tags};
use crate::dataset::{Dataset, describe, shape};
use crate::error::DataError;
use crate::similar::similar;
use crate::source::{Source, small};
use crate::stage::Stage;

/// One dataset's entry in `dataset_info.json`.
#[derive(Debug, Default, Deserialize)]
struct Entry {
    file_name: Option<String>,
    #[serde(default)]
    formatting: Formatting,
    #[serde(default)]
    ranking: bool,
    columns: Option<Columns>,
    tags: Option<Tags>,
    split: Option<String>,
    num_samples: Option<Value>,
    /// The same as a number.
    #[serde(skip)]
    samples: Option<usize>,
    /// What this program refuses by name, or has no use for.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// The shape of a record.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Formatting {
    /// Instruction, input and output as fields.
    #[default]
    Alpaca,
    /// A list of turns.
    Sharegpt,
    /// A list of turns, named as in the `OpenAI` interface.
    Openai,
}

/// A folder of datasets and its list.
#[derive(Debug)]
pub struct Datasets {
    folder: PathBuf,
    list: Map<String, Value>,
}

impl Datasets {
    /// Reads the list of a dataset folder.
    pub fn open(folder: &Path) -> Result<Self, DataError> {
        if let Some(kind) = ["ONLINE", "REMOTE:"]
            .iter()
            .find(|kind| folder.to_string_lossy().starts_with(**kind))
        {
            return Err(DataError::NotLocal {
                path: folder.to_owned(),
                dataset: String::new(),
                what: format!("a `dataset_dir` that begins with `{kind}`"),
            });
        }
        let path = folder.join(LIST);
        let bytes = small(&path, MOST_LIST)?;
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        let list = serde_json::from_slice(bytes).map_err(|source| DataError::Json {
            path: path.clone(),
            line: source.line(),
            column: source.column(),
            source,
        })?;
        let list = match list {
            Value::Object(list) => list,
            other => return Err(shape(&path, "top level", "an object", &other)),
        };
        Ok(Self {
            folder: folder.to_owned(),
            list,
        })
    }

    /// Names of the listed datasets.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.list.keys().map(String::as_str)
    }

    /// Finds a dataset for training of the kind `stage`.
    pub(crate) fn find(&self, name: &str, stage: Stage) -> Result<Dataset, DataError> {
        let entry = self.entry(name, stage)?;
        let path = self.folder.join(entry.file_name.unwrap_or_default());
        let columns = entry
            .columns
            .unwrap_or_else(|| Columns::usual(entry.formatting));
        Ok(Dataset {
            name: name.to_owned(),
            list: self.folder.join(LIST),
            source: Source::at(&path)?,
            formatting: entry.formatting,
            columns,
            tags: KnownTags::of_entry(entry.tags, entry.formatting),
            samples: entry.samples,
            stage,
            open: false,
            entry: self.list[name].to_string(),
        })
    }

    fn entry(&self, name: &str, stage: Stage) -> Result<Entry, DataError> {
        let path = self.folder.join(LIST);
        let Some(value) = self.list.get(name) else {
            return Err(DataError::UnknownDataset {
                name: name.to_owned(),
                path,
                listed: self.names().collect::<Vec<_>>().join(", "),
            });
        };
        let place = format!("dataset {name}");
        self.refuse_mistyped(&place, value)?;
        let mut entry: Entry = serde_json::from_value(value.clone()).map_err(|source| {
            let expected = format!("a dataset entry ({source})");
            DataError::Shape {
                path: path.clone(),
                place: place.clone(),
                expected,
                found: describe(value),
            }
        })?;
        entry.columns = entry.columns.map(Columns::named);
        let given = |key: &&&str| entry.rest.get(**key).is_some_and(|value| !value.is_null());
        // As in the original these come before `file_name`.
        if let Some(key) = NOT_LOCAL.iter().find(given) {
            return Err(DataError::NotLocal {
                path,
                dataset: name.to_owned(),
                what: format!("`{key}`"),
            });
        }
        if let Some(split) = entry.split.as_deref().filter(|split| *split != WHOLE) {
            return Err(DataError::Unsupported {
                path,
                place,
                feature: format!("`split`: `{split}`"),
            });
        }
        if let Some(asked) = &entry.num_samples {
            let count = asked.as_u64().filter(|n| (1..=MOST_SAMPLES).contains(n));
            entry.samples = count.map(|count| count as usize);
            if count.is_none() {
                let expected = format!("a whole number from 1 to {MOST_SAMPLES}");
                let place = format!("{place}, num_samples");
                return Err(shape(&path, &place, &expected, asked));
            }
        }
        let judged = entry.columns.as_ref().is_some_and(Columns::is_judged);
        let (holds, found) = match (entry.ranking, judged) {
            (true, _) => (Stage::Pairwise, "comparisons (`ranking: true`)"),
            (false, true) => (Stage::Feedback, "judgements (a `kto_tag` column)"),
            (false, false) => (Stage::Supervised, "texts or conversations"),
        };
        let plain = holds != Stage::Pairwise && stage == Stage::Pretrain;
        if holds != stage && !plain {
            return Err(DataError::WrongStage {
                name: name.to_owned(),
                path,
                found,
                stage: stage.name(),
                expected: stage.data(),
            });
        }
        if entry.file_name.as_deref().is_none_or(str::is_empty) {
            return Err(shape(
                &path,
                &format!("{place}, file_name"),
                "a file name",
                &Value::Null,
            ));
        }
        Ok(entry)
    }
}

impl Datasets {
    /// The original passes over keys that it does not know. One that is nearly a known one was meant to be it, and without
    /// it the wrong columns would be learnt.
    fn refuse_mistyped(&self, place: &str, entry: &Value) -> Result<(), DataError> {
        let parts: [(&str, &Value, &[&str]); 3] = [
            ("", entry, &KEYS),
            (", columns", &entry["columns"], &Columns::ROLES),
            (", tags", &entry["tags"], &Tags::ROLES),
        ];
        for (part, fields, known) in parts {
            let given = fields.as_object().into_iter().flat_map(Map::keys);
            for key in given.filter(|key| !known.contains(&key.as_str())) {
                if let Some(meant) = similar(key, known.iter().copied()) {
                    return Err(DataError::Shape {
                        path: self.folder.join(LIST),
                        place: format!("{place}{part}"),
                        expected: format!("`{meant}`"),
                        found: format!("`{key}`"),
                    });
                }
            }
        }
        Ok(())
    }
}

/// The list's file name.
const LIST: &str = "dataset_info.json";

/// Keys of an entry that the original reads.
const KEYS: [&str; 14] = [
    "file_name",
    "formatting",
    "ranking",
    "subset",
    "split",
    "folder",
    "num_samples",
    "columns",
    "tags",
    "hf_hub_url",
    "ms_hub_url",
    "om_hub_url",
    "script_url",
    "cloud_file_name",
];

/// Bytes of the list; one with ten thousand datasets has a few million.
const MOST_LIST: u64 = 64 << 20;

/// Keys of an entry that name data elsewhere, in the order in which the original looks at them.
const NOT_LOCAL: [&str; 5] = [
    "hf_hub_url",
    "ms_hub_url",
    "om_hub_url",
    "script_url",
    "cloud_file_name",
];

/// The part of a file that there is: all of it.
const WHOLE: &str = "train";

/// Records that an entry may ask for, each of which is in memory.
const MOST_SAMPLES: u64 = 1 << 24;

#[cfg(test)]
#[path = "listing_tests.rs"]
mod tests;
