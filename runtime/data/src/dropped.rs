//! Records that are left out of training, and why: nothing is dropped in silence.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Why a record is left out, or teaches nothing.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub enum Fault {
    /// A turn has another role than its place asks for.
    Role {
        /// The turn, counted from one.
        turn: usize,
        /// Its role.
        found: String,
        /// The role that belongs there.
        expected: String,
    },
    /// The turns are not pairs of question and answer.
    Count {
        /// How many there are.
        turns: usize,
    },
    /// A field that holds an answer is not there, or holds no text.
    NoAnswer {
        /// The field.
        field: String,
    },
    /// It does not fit into a packed row.
    TooLong {
        /// Its tokens.
        tokens: usize,
        /// Tokens of a row.
        limit: usize,
    },
    /// It stays in its batch, but `cutoff_len` left no token of an answer.
    NoLabels,
    /// It was to be split into windows, but what stands before the answer takes more than half of one; so it is cut.
    NotSplit {
        /// Tokens before the answer.
        tokens: usize,
        /// Tokens of a window.
        limit: usize,
    },
}

impl Fault {
    /// Catalogue code of the warning.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Role { .. } => "data.dropped-role",
            Self::Count { .. } => "data.dropped-count",
            Self::NoAnswer { .. } => "data.dropped-no-answer",
            Self::TooLong { .. } => "data.dropped-too-long",
            Self::NoLabels => "data.no-labels",
            Self::NotSplit { .. } => "data.not-split",
        }
    }

    /// Whether the record is left out; else it stays, but teaches nothing.
    pub fn leaves_out(&self) -> bool {
        !matches!(self, Self::NoLabels | Self::NotSplit { .. })
    }

    fn args(&self) -> Vec<(String, String)> {
        let pairs = match self {
            Self::Role {
                turn,
                found,
                expected,
            } => vec![
                ("turn", turn.to_string()),
                ("found", found.clone()),
                ("expected", expected.clone()),
            ],
            Self::Count { turns } => vec![("turns", turns.to_string())],
            Self::NoAnswer { field } => vec![("field", field.clone())],
            Self::TooLong { tokens, limit } | Self::NotSplit { tokens, limit } => {
                vec![("tokens", tokens.to_string()), ("limit", limit.to_string())]
            }
            Self::NoLabels => Vec::new(),
        };
        pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
    }
}

/// Where a conversation came from.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Origin {
    /// The file.
    pub path: Arc<Path>,
    /// The record in it, counted from one.
    pub record: usize,
}

/// A record left out, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Dropped {
    /// Where it was.
    pub origin: Origin,
    /// Why.
    pub fault: Fault,
}

/// Records of one file that are left out for one kind of reason.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Tally {
    /// Catalogue code of the warning, such as `data.dropped-count`.
    pub code: &'static str,
    /// The file.
    pub path: PathBuf,
    /// How many.
    pub count: usize,
    /// The first few of them, counted from one.
    pub records: Vec<usize>,
    /// Values for the warning's text, those of the first record.
    #[serde(skip)]
    pub args: Vec<(String, String)>,
}

/// Records that a [`Tally`] names.
const NAMED: usize = 10;

/// Counts `dropped` by file and kind of reason, in the order of their first records.
pub fn tally(dropped: &[Dropped]) -> Vec<Tally> {
    let mut tallies = Tallies::default();
    for one in dropped {
        tallies.add(one);
    }
    tallies.all()
}

/// A count under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tallies(Vec<Tally>);

impl Tallies {
    pub(crate) fn add(&mut self, Dropped { origin, fault }: &Dropped) {
        let same = |tally: &&mut Tally| tally.code == fault.code() && *tally.path == *origin.path;
        if let Some(tally) = self.0.iter_mut().find(same) {
            tally.count += 1;
            if tally.records.len() < NAMED {
                tally.records.push(origin.record);
            }
            return;
        }
        let mut args = fault.args();
        args.push(("path".to_owned(), origin.path.display().to_string()));
        args.push(("record".to_owned(), origin.record.to_string()));
        self.0.push(Tally {
            code: fault.code(),
            path: origin.path.to_path_buf(),
            count: 1,
            records: vec![origin.record],
            args,
        });
    }

    pub(crate) fn all(&self) -> Vec<Tally> {
        let mut tallies = self.0.clone();
        for tally in &mut tallies {
            tally
                .args
                .push(("count".to_owned(), tally.count.to_string()));
        }
        tallies
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_for_each_file_and_reason() {
        let dropped = |path: &str, record, fault: Fault| Dropped {
            origin: Origin {
                path: Path::new(path).into(),
                record,
            },
            fault,
        };
        let count = |turns| Fault::Count { turns };
        let all = [
            dropped("a", 1, count(3)),
            dropped("a", 2, Fault::NoLabels),
            dropped("a", 5, count(1)),
            dropped("b", 1, count(1)),
        ];
        let tallies = tally(&all);
        let counts: Vec<_> = tallies.iter().map(|t| (t.code, t.count)).collect();
        assert_eq!(
            counts,
            [
                ("data.dropped-count", 2),
                ("data.no-labels", 1),
                ("data.dropped-count", 1)
            ]
        );
        assert_eq!(tallies[0].records, [1, 5]);
        assert!(
            tallies[0]
                .args
                .contains(&("turns".to_owned(), "3".to_owned()))
        );
    }
}
