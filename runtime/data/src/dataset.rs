//! A dataset's records, one at a time.
//!
//! A record that breaks the order of turns is dropped and named, as in the original; a record of
//! another shape than its format is an error, since then the listing is likely wrong.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::columns::{Columns, KnownTags};
use crate::dropped::{Fault, Origin};
use crate::error::DataError;
use crate::example::Conversation;
use crate::listing::Formatting;
use crate::record::Record;
use crate::source::Source;
use crate::stage::Stage;

/// A listed dataset, ready to be read as often as is needed.
#[derive(Debug)]
pub(crate) struct Dataset {
    pub(crate) name: String,
    /// Where it is listed.
    pub(crate) list: PathBuf,
    pub(crate) source: Source,
    pub(crate) formatting: Formatting,
    pub(crate) columns: Columns,
    pub(crate) tags: KnownTags,
    /// How many records are drawn of it by chance; none: it is taken as it is.
    pub(crate) samples: Option<usize>,
    pub(crate) stage: Stage,
    /// A record may lack its answer.
    pub(crate) open: bool,
    /// Its entry, as it is listed.
    pub(crate) entry: String,
}

/// A record of a dataset. One that is left out keeps its place, since the original splits and mixes before it looks.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) origin: Origin,
    pub(crate) content: Result<Conversation, Fault>,
}

impl Dataset {
    /// Its records, file after file.
    pub(crate) fn slots(&self) -> Slots<'_> {
        Slots {
            dataset: self,
            files: self.source.files().iter(),
            now: None,
            unseen: self
                .columns
                .essential(self.formatting, self.stage, self.open),
            first_keys: Vec::new(),
            count: 0,
            most: usize::MAX,
            patience: usize::MAX,
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
    /// Records that are read.
    most: usize,
    /// Records among which every listed column must have been seen.
    patience: usize,
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
    /// The first `most` of them.
    pub(crate) fn up_to(mut self, most: usize) -> Self {
        self.most = most;
        self
    }

    /// The same where nobody may come to their end: a listed column must show among the first.
    pub(crate) fn early(mut self) -> Self {
        self.patience = EARLY;
        self
    }

    fn advance(&mut self) -> Result<Option<Slot>, DataError> {
        if self.count >= self.most {
            return self.judge().map(|()| None);
        }
        if self.count >= self.patience {
            self.judge()?;
        }
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
            open: dataset.open,
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
            found: if self.count < self.most.min(self.patience) {
                format!("`{column}`, which no record has")
            } else {
                format!(
                    "`{column}`, which none of the first {} records has",
                    self.count
                )
            },
        })
    }
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
pub(crate) fn describe(value: &Value) -> String {
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

/// Records of a stream among which every listed column is looked for.
const EARLY: usize = 1000;

/// Characters of a text that a message shows.
const SHOWN: usize = 40;

/// Fields of a record that a message shows.
const SHOWN_KEYS: usize = 10;
