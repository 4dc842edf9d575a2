//! Examples as the model will see them: its own words, and which of them it learns.

use serde::Serialize;
use train_data::{DataError, Example, IGNORED, Item};

use crate::material::Ready;

/// Bytes of a part that is shown.
const LONGEST: usize = 4000;

/// An example, or one side of it.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Row {
    /// What it is of: an example, or of a comparison the preferred or the rejected side.
    kind: &'static str,
    tokens: usize,
    parts: Vec<Part>,
}

/// A stretch of text that is learnt, or only read.
#[derive(Debug, PartialEq, Serialize)]
struct Part {
    text: String,
    learnt: bool,
    /// It is longer than what is shown.
    cut: bool,
}

impl Row {
    /// For a terminal: what is learnt stands in brackets.
    pub(crate) fn line(&self) -> String {
        let part = |part: &Part| {
            let dots = if part.cut { "…" } else { "" };
            if part.learnt {
                format!("⟦{}{dots}⟧", part.text)
            } else {
                format!("{}{dots}", part.text)
            }
        };
        let parts: String = self.parts.iter().map(part).collect();
        format!("--- {} ({})\n{parts}", self.kind, self.tokens)
    }
}

/// The first examples of a job's data.
pub(crate) fn first(ready: &Ready, count: usize) -> Result<Vec<Row>, DataError> {
    let mut rows = Vec::new();
    for item in ready.prepared.items.iter().take(count) {
        let sides = match item {
            Item::Single(example) => vec![("example", example)],
            Item::Pair { chosen, rejected } => vec![("chosen", chosen), ("rejected", rejected)],
            Item::Judged {
                example, desirable, ..
            } => vec![(if *desirable { "good" } else { "bad" }, example)],
        };
        for (kind, example) in sides {
            rows.push(row(ready, kind, example)?);
        }
    }
    Ok(rows)
}

fn row(ready: &Ready, kind: &'static str, example: &Example) -> Result<Row, DataError> {
    let mut parts = Vec::new();
    let mut begin = 0;
    let learnt = |at: usize| example.labels[at] != IGNORED;
    for at in 1..=example.input_ids.len() {
        if at < example.input_ids.len() && learnt(at) == learnt(begin) {
            continue;
        }
        let mut text = ready
            .tokenizer
            .decode(&example.input_ids[begin..at], false)?;
        let cut = text.len() > LONGEST;
        text.truncate(text.floor_char_boundary(LONGEST));
        parts.push(Part {
            text,
            learnt: learnt(begin),
            cut,
        });
        begin = at;
    }
    Ok(Row {
        kind,
        tokens: example.input_ids.len(),
        parts,
    })
}
