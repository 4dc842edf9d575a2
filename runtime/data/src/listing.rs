//! `dataset_info.json`: which datasets there are, as LLaMA-Factory lists them.
//!
//! ```text
//! <dataset_dir>/dataset_info.json   {"name": {"file_name", "formatting", "columns", "tags", "num_samples"}}
//! <dataset_dir>/<file_name>         a data file, or a folder of them: see `source`
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::columns::{Columns, Tags};
use crate::dataset::{Dataset, describe, shape};
use crate::error::DataError;
use crate::source::Source;
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
        let bytes = fs::read(&path).map_err(|source| DataError::Read {
            path: path.clone(),
            source,
        })?;
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
        let tags = entry.tags.unwrap_or_default();
        Ok(Dataset {
            name: name.to_owned(),
            list: self.folder.join(LIST),
            source: Source::at(&path)?,
            formatting: entry.formatting,
            columns,
            tags: tags.or_usual(entry.formatting),
            samples: entry.samples,
            stage,
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
        let mut entry: Entry = serde_json::from_value(value.clone()).map_err(|source| {
            let expected = format!("a dataset entry ({source})");
            DataError::Shape {
                path: path.clone(),
                place: place.clone(),
                expected,
                found: describe(value),
            }
        })?;
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
mod tests {
    use super::*;
    use crate::dataset::Slot;
    use crate::example::Conversation;

    fn load(info: &str, file: &str, data: &str) -> Result<Vec<Slot>, DataError> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(LIST), info).unwrap();
        fs::write(folder.path().join(file), data).unwrap();
        let dataset = Datasets::open(folder.path())?.find("d", Stage::Supervised)?;
        dataset.slots().collect()
    }

    /// The conversations of slots, and the numbers of those that have none.
    fn sorted(slots: Vec<Slot>) -> (Vec<Conversation>, Vec<usize>) {
        let (mut kept, mut dropped) = (Vec::new(), Vec::new());
        for slot in slots {
            match slot.content {
                Ok(conversation) => kept.push(conversation),
                Err(_) => dropped.push(slot.origin.record),
            }
        }
        (kept, dropped)
    }

    const ALPACA: &str = r#"{"d": {"file_name": "d.json"}}"#;

    #[test]
    fn usual_columns_need_no_listing() {
        let data = r#"[{"instruction": "a", "input": "b", "output": "c"}, {"instruction": "a"}]"#;
        let (kept, dropped) = sorted(load(ALPACA, "d.json", data).unwrap());
        assert_eq!(kept[0].turns[0].user, "a\nb");
        assert_eq!(dropped, [2]);
        let info = r#"{"d": {"file_name": "d.jsonl", "formatting": "openai"}}"#;
        let line = r#"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}]}"#;
        let (kept, _) = sorted(load(info, "d.jsonl", &format!("{line}\n\n{line}\n")).unwrap());
        assert_eq!(kept.len(), 2);
    }

    #[test]
    fn a_table_is_read_like_a_list() {
        let info = r#"{"d": {"file_name": "d.csv"}}"#;
        let loaded = load(info, "d.csv", "instruction,input,output\na,b,c\nd,,e\n").unwrap();
        let (kept, _) = sorted(loaded);
        let asked: Vec<_> = kept.iter().map(|c| c.turns[0].user.as_str()).collect();
        assert_eq!(asked, ["a\nb", "d"]);
    }

    #[test]
    fn turns_that_do_not_alternate_are_dropped_and_named() {
        let info = r#"{"d": {"file_name": "d.json", "formatting": "sharegpt"}}"#;
        let data = r#"[{"conversations": [{"from": "gpt", "value": "a"}]},
            {"conversations": [{"from": "human", "value": "a"}]},
            {"conversations": []},
            {"conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}]"#;
        let (kept, dropped) = sorted(load(info, "d.json", data).unwrap());
        assert_eq!(dropped, [1, 2, 3]);
        assert_eq!(kept[0].system, "s");
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
                "dataset d: `hf_hub_url` is not on this machine",
            ),
            (
                r#"{"d": {"file_name": "d.json", "script_url": "s.py"}}"#,
                "d.json",
                "[]",
                "dataset d: `script_url` is not on this machine",
            ),
            (ALPACA, "d.json", "[]", "d.json` holds no records"),
            (ALPACA, "d.json", "", "d.json` holds no records"),
            (
                r#"{"d": {"file_name": "d.json", "columns": {"prompt": "question", "response": "output"}}}"#,
                "d.json",
                r#"[{"instruction": "a", "output": "b"}]"#,
                "dataset d, columns, prompt: expected a column of",
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
                "is not a parquet file that can be read: it does not begin",
            ),
            (
                r#"{"d": {"file_name": "d.arrow"}}"#,
                "d.arrow",
                "a,b",
                "is not an Arrow file that can be read: it is cut off",
            ),
            (
                r#"{"d": {"file_name": "d.json", "num_samples": 0}}"#,
                "d.json",
                "[]",
                "dataset d, num_samples: expected a whole number from 1",
            ),
            (
                r#"{"d": {"file_name": "d.json", "split": "train[:5]"}}"#,
                "d.json",
                "[]",
                "`split`: `train[:5]`",
            ),
            (
                r#"{"d": {"file_name": "d.xlsx"}}"#,
                "d.xlsx",
                "a,b",
                "kind `xlsx`",
            ),
        ] {
            let error = load(info, file, data).unwrap_err().to_string();
            assert!(error.contains(expected), "{error} / {expected}");
        }
    }

    #[test]
    fn records_of_another_shape_name_record_and_field() {
        for (info, file, data, expected) in [
            (
                ALPACA,
                "d.json",
                r#""text""#,
                "line 1: expected a list of records",
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
                r#"[{"conversations": [{"from": "human", "value": ["x"]}]}]"#,
                "conversations, turn 1, value: expected text",
            ),
        ] {
            let error = load(info, file, data).unwrap_err().to_string();
            assert!(error.contains(expected), "{error} / {expected}");
        }
    }
}
