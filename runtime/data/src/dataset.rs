//! Datasets as LLaMA-Factory lists them.
//!
//! ```text
//! <dataset_dir>/dataset_info.json   {"name": {"file_name", "formatting", "columns", "tags"}}
//! <dataset_dir>/<file_name>         .json: a list of records; .jsonl: one record a line; .csv, .tsv: a table
//! ```
//!
//! A record that breaks the order of turns is dropped and named, as in the original; a record of
//! another shape than its format is an error, since then the listing is likely wrong.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::dropped::{Dropped, Origin};
use crate::error::DataError;
use crate::example::Conversation;
use crate::record::{Columns, Record, Tags};
use crate::stage::Stage;
use crate::table;

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

/// What one dataset holds.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Conversations with their places, in the order of the file.
    pub conversations: Vec<(Origin, Conversation)>,
    /// Records left out.
    pub dropped: Vec<Dropped>,
}

impl Datasets {
    /// Reads the list of a dataset folder.
    pub fn open(folder: &Path) -> Result<Self, DataError> {
        let path = folder.join(LIST);
        let list = match parse(&path, &read(&path)?)? {
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

    /// Loads a dataset for training of the kind `stage`, at most `limit` records of it.
    pub fn load(
        &self,
        name: &str,
        stage: Stage,
        limit: Option<usize>,
    ) -> Result<Loaded, DataError> {
        let entry = self.entry(name, stage)?;
        let path = self.folder.join(entry.file_name.unwrap_or_default());
        let mut records = records(&path)?;
        records.truncate(limit.unwrap_or(usize::MAX));
        let columns = entry
            .columns
            .unwrap_or_else(|| Columns::usual(entry.formatting));
        let tags = entry.tags.unwrap_or_default();
        let tags = tags.or_usual(entry.formatting);
        let mut loaded = Loaded::default();
        for (index, value) in records.into_iter().enumerate() {
            let record = Record {
                path: &path,
                number: index + 1,
                value: &value,
                columns: &columns,
                tags: &tags,
                stage,
            };
            let origin = Origin {
                path: path.clone(),
                record: index + 1,
            };
            match record.conversation(entry.formatting)? {
                Ok(conversation) => loaded.conversations.push((origin, conversation)),
                Err(fault) => loaded.dropped.push(Dropped { origin, fault }),
            }
        }
        Ok(loaded)
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
        let entry: Entry = serde_json::from_value(value.clone()).map_err(|source| {
            let expected = format!("a dataset entry ({source})");
            DataError::Shape {
                path: path.clone(),
                place: place.clone(),
                expected,
                found: describe(value),
            }
        })?;
        let refused = |feature: &str| DataError::Unsupported {
            path: path.clone(),
            place: place.clone(),
            feature: feature.to_owned(),
        };
        let judged = entry.columns.as_ref().is_some_and(|c| c.kto_tag.is_some());
        let (holds, found) = match (entry.ranking, judged) {
            (true, _) => (Stage::Pairwise, "comparisons (`ranking: true`)"),
            (false, true) => (Stage::Feedback, "judgements (a `kto_tag` column)"),
            (false, false) => (Stage::Supervised, "texts or conversations"),
        };
        let plain = holds == Stage::Supervised && stage == Stage::Pretrain;
        if holds != stage && !plain {
            return Err(DataError::WrongStage {
                name: name.to_owned(),
                path,
                found,
                stage: stage.name(),
                expected: stage.data(),
            });
        }
        for key in REFUSED {
            if entry.rest.get(key).is_some_and(|value| !value.is_null()) {
                return Err(refused(&format!("`{key}`")));
            }
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

/// The list's file name.
const LIST: &str = "dataset_info.json";

/// Keys of an entry that change what is trained on, and that this program does not follow.
const REFUSED: [&str; 7] = [
    "hf_hub_url",
    "ms_hub_url",
    "om_hub_url",
    "script_url",
    "cloud_file_name",
    "num_samples",
    "folder",
];

/// Reads the records of a `.json`, `.jsonl`, `.csv` or `.tsv` file.
fn records(path: &Path) -> Result<Vec<Value>, DataError> {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
    let lines = match extension {
        "jsonl" => true,
        "json" => false,
        "csv" => return table::records(path, &read(path)?, b','),
        "tsv" => return table::records(path, &read(path)?, b'\t'),
        other => {
            return Err(DataError::Unsupported {
                path: path.to_owned(),
                place: "file name".to_owned(),
                feature: format!("a data file of kind `{other}` (only json, jsonl, csv and tsv)"),
            });
        }
    };
    let bytes = read(path)?;
    // A `.json` file may hold lines of objects too; the original reads it either way.
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if !lines && first != Some(&b'{') {
        return match parse(path, &bytes)? {
            Value::Array(records) => Ok(records),
            other => Err(shape(path, "top level", "a list of records", &other)),
        };
    }
    let mut records = Vec::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let record = serde_json::from_slice(line).map_err(|source| DataError::Json {
            path: path.to_owned(),
            line: index + 1,
            column: source.column(),
            source,
        })?;
        records.push(record);
    }
    Ok(records)
}

fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    fs::read(path).map_err(|source| DataError::Read {
        path: path.to_owned(),
        source,
    })
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Value, DataError> {
    serde_json::from_slice(bytes).map_err(|source| DataError::Json {
        path: path.to_owned(),
        line: source.line(),
        column: source.column(),
        source,
    })
}

/// An error about a value of the wrong kind.
pub(crate) fn shape(path: &Path, place: &str, expected: &str, found: &Value) -> DataError {
    DataError::Shape {
        path: path.to_owned(),
        place: place.to_owned(),
        expected: expected.to_owned(),
        found: describe(found),
    }
}

/// Names the kind of a value, for messages.
fn describe(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(value) => format!("`{value}`"),
        Value::Number(value) => format!("the number {value}"),
        Value::String(text) => {
            let start: String = text.chars().take(SHOWN).collect();
            format!("the text `{start}`")
        }
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(fields) => {
            let keys: Vec<&str> = fields.keys().take(SHOWN / 4).map(String::as_str).collect();
            format!("an object with the keys {}", keys.join(", "))
        }
    }
}

/// Characters of a text that a message shows.
const SHOWN: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn load(info: &str, file: &str, data: &str) -> Result<Loaded, DataError> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(LIST), info).unwrap();
        fs::write(folder.path().join(file), data).unwrap();
        Datasets::open(folder.path())?.load("d", Stage::Supervised, None)
    }

    const ALPACA: &str = r#"{"d": {"file_name": "d.json"}}"#;

    #[test]
    fn usual_columns_need_no_listing() {
        let data = r#"[{"instruction": "a", "input": "b", "output": "c"}, {"instruction": "a"}]"#;
        let loaded = load(ALPACA, "d.json", data).unwrap();
        assert_eq!(loaded.conversations[0].1.turns[0].user, "a\nb");
        assert_eq!(loaded.dropped[0].origin.record, 2);
        let info = r#"{"d": {"file_name": "d.jsonl", "formatting": "openai"}}"#;
        let line = r#"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}]}"#;
        let loaded = load(info, "d.jsonl", &format!("{line}\n\n{line}\n")).unwrap();
        assert_eq!(loaded.conversations.len(), 2);
    }

    #[test]
    fn a_table_is_read_like_a_list() {
        let info = r#"{"d": {"file_name": "d.csv"}}"#;
        let loaded = load(info, "d.csv", "instruction,input,output\na,b,c\nd,,e\n").unwrap();
        let conversations = loaded.conversations.iter();
        let asked: Vec<_> = conversations
            .map(|(_, c)| c.turns[0].user.as_str())
            .collect();
        assert_eq!(asked, ["a\nb", "d"]);
    }

    #[test]
    fn turns_that_do_not_alternate_are_dropped_and_named() {
        let info = r#"{"d": {"file_name": "d.json", "formatting": "sharegpt"}}"#;
        let data = r#"[{"conversations": [{"from": "gpt", "value": "a"}]},
            {"conversations": [{"from": "human", "value": "a"}]},
            {"conversations": []},
            {"conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}]"#;
        let loaded = load(info, "d.json", data).unwrap();
        let dropped: Vec<usize> = loaded.dropped.iter().map(|d| d.origin.record).collect();
        assert_eq!(dropped, [1, 2, 3]);
        assert_eq!(loaded.conversations[0].1.system, "s");
    }

    #[test]
    fn wrong_shapes_name_file_place_expected_and_found() {
        for (info, file, data, expected) in [
            (
                "[]",
                "d.json",
                "[]",
                "top level: expected an object, found a list of 0",
            ),
            ("{\n\"d\": oops}", "d.json", "[]", "line 2"),
            (r#"{"e": {}}"#, "d.json", "[]", "listed: e"),
            (r#"{"d": {"file_name": 3}}"#, "d.json", "[]", "dataset d"),
            (
                r#"{"d": {}}"#,
                "d.json",
                "[]",
                "file_name: expected a file name",
            ),
            (
                r#"{"d": {"hf_hub_url": "a/b"}}"#,
                "d.json",
                "[]",
                "`hf_hub_url` is not supported",
            ),
            (
                r#"{"d": {"file_name": "d.json", "ranking": true}}"#,
                "d.json",
                "[]",
                "is made for comparisons (`ranking: true`); this job's stage is `sft`",
            ),
            (
                r#"{"d": {"file_name": "d.parquet"}}"#,
                "d.parquet",
                "a,b",
                "kind `parquet`",
            ),
            (
                ALPACA,
                "d.json",
                r#""text""#,
                "top level: expected a list of records",
            ),
            (
                ALPACA,
                "d.json",
                "[1]",
                "record 1: expected an object, found the number 1",
            ),
            (
                ALPACA,
                "d.json",
                r#"[{"instruction": 7, "output": "a"}]"#,
                "record 1, field instruction: expected text",
            ),
            (ALPACA, "d.json", "[{}\n,]", "line 2"),
            (
                r#"{"d": {"file_name": "d.json", "columns": {"prompt": "p", "history": "h"}}}"#,
                "d.json",
                r#"[{"p": "a", "h": [["only one"]]}]"#,
                "record 1, field h",
            ),
            (
                r#"{"d": {"file_name": "d.json", "formatting": "sharegpt"}}"#,
                "d.json",
                r#"[{"conversations": "x"}]"#,
                "field conversations: expected a list of turns",
            ),
            (
                r#"{"d": {"file_name": "d.json", "formatting": "sharegpt"}}"#,
                "d.json",
                r#"[{"conversations": [{"from": "observation", "value": "x"}]}]"#,
                "not supported",
            ),
        ] {
            let error = load(info, file, data).unwrap_err().to_string();
            assert!(error.contains(expected), "{error} / {expected}");
        }
    }
}
