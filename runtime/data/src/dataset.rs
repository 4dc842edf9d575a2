//! Datasets as LLaMA-Factory lists them.
//!
//! ```text
//! <dataset_dir>/dataset_info.json   {"name": {"file_name", "formatting", "columns", "tags"}}
//! <dataset_dir>/<file_name>         a data file, or a folder of them: see `source`
//! ```
//!
//! A record that breaks the order of turns is dropped and named, as in the original; a record of
//! another shape than its format is an error, since then the listing is likely wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::columns::{Columns, KnownTags, Tags};
use crate::dropped::{Fault, Origin};
use crate::error::DataError;
use crate::example::Conversation;
use crate::record::Record;
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

/// A listed dataset, ready to be read as often as is needed.
#[derive(Debug)]
pub(crate) struct Dataset {
    name: String,
    list: PathBuf,
    source: Source,
    formatting: Formatting,
    columns: Columns,
    tags: KnownTags,
    stage: Stage,
    /// Its entry, as it is listed.
    entry: String,
}

/// A record of a dataset. One that is left out keeps its place, since the original splits and mixes before it looks.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) origin: Origin,
    pub(crate) content: Result<Conversation, Fault>,
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
        let entry: Entry = serde_json::from_value(value.clone()).map_err(|source| {
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
        if let Some(key) = REFUSED.iter().find(given) {
            return Err(DataError::Unsupported {
                path,
                place,
                feature: format!("`{key}`"),
            });
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

impl Dataset {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// How the dataset is listed.
    pub(crate) fn entry(&self) -> &str {
        &self.entry
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// Its records, file after file.
    pub(crate) fn slots(&self) -> Slots<'_> {
        Slots {
            dataset: self,
            files: self.source.files().iter(),
            now: None,
            unseen: self.columns.essential(self.formatting, self.stage),
            first_keys: Vec::new(),
            count: 0,
            over: false,
        }
    }
}

/// The records of a dataset, one at a time.
pub(crate) struct Slots<'a> {
    dataset: &'a Dataset,
    files: std::slice::Iter<'a, Arc<Path>>,
    now: Option<(
        Arc<Path>,
        Box<dyn Iterator<Item = crate::source::Read1> + Send>,
    )>,
    /// Listed columns that no record has had yet.
    unseen: Vec<(&'static str, String)>,
    /// Names of the first record's fields.
    first_keys: Vec<String>,
    count: usize,
    over: bool,
}

impl Iterator for Slots<'_> {
    type Item = Result<Slot, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let next = self.advance().transpose();
        self.over = !matches!(next, Some(Ok(_)));
        next
    }
}

impl Slots<'_> {
    fn advance(&mut self) -> Result<Option<Slot>, DataError> {
        loop {
            if let Some((path, records)) = &mut self.now
                && let Some(record) = records.next()
            {
                let (number, value) = record?;
                let path = Arc::clone(path);
                return self.slot(path, number, &value).map(Some);
            }
            let Some(file) = self.files.next() else {
                return self.judge().map(|()| None);
            };
            let records = self.dataset.source.records(file)?;
            self.now = Some((Arc::clone(file), records));
        }
    }

    fn slot(&mut self, path: Arc<Path>, number: usize, value: &Value) -> Result<Slot, DataError> {
        let dataset = self.dataset;
        if self.count == 0 {
            let keys = value.as_object().into_iter().flat_map(Map::keys);
            self.first_keys = keys.take(SHOWN_KEYS).cloned().collect();
        }
        self.count += 1;
        self.unseen
            .retain(|(_, column)| value.get(column).is_none());
        let record = Record {
            path: &path,
            number,
            value,
            columns: &dataset.columns,
            tags: &dataset.tags,
            stage: dataset.stage,
        };
        let content = record.conversation(dataset.formatting)?;
        Ok(Slot {
            content,
            origin: Origin {
                path,
                record: number,
            },
        })
    }

    /// At the end: whether there was anything, and all that the listing names.
    fn judge(&self) -> Result<(), DataError> {
        let dataset = self.dataset;
        let files = dataset.source.files();
        if self.count == 0 {
            return Err(DataError::Empty {
                path: files
                    .first()
                    .map(|file| file.to_path_buf())
                    .unwrap_or_default(),
            });
        }
        let Some((role, column)) = self.unseen.first() else {
            return Ok(());
        };
        let file = files.first().map(|file| file.display().to_string());
        Err(DataError::Shape {
            path: dataset.list.clone(),
            place: format!("dataset {}, columns, {role}", dataset.name),
            expected: format!(
                "a column of `{}`, whose first record has {}",
                file.unwrap_or_default(),
                self.first_keys.join(", ")
            ),
            found: format!("`{column}`, which no record has"),
        })
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

/// Keys of an entry that change what is trained on, and that this program does not follow.
const REFUSED: [&str; 2] = ["num_samples", "folder"];

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
            let keys: Vec<&str> = fields.keys().take(SHOWN_KEYS).map(String::as_str).collect();
            format!("an object with the keys {}", keys.join(", "))
        }
    }
}

/// Characters of a text that a message shows.
const SHOWN: usize = 40;

/// Fields of a record that a message shows.
const SHOWN_KEYS: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

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
                "kind `arrow`",
            ),
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
