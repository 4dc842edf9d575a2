//! Plain texts into rows, every token a label.

use rayon::prelude::*;

use crate::batch::IGNORED;
use crate::error::DataError;
use crate::example::Example;
use crate::tokenizer::Tokenizer;
use crate::windows::windows;

/// How texts become rows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TextSettings<'a> {
    /// Longest row in tokens.
    pub(crate) cutoff_len: usize,
    /// Texts follow one another, and rows are cut from the whole; what fills no row is left out.
    pub(crate) joined: bool,
    /// Ends each text; none: the tokenizer's end token.
    pub(crate) end: Option<&'a str>,
    /// Texts that are kept apart and are longer than a row become several, which overlap by so many tokens; none: they
    /// are cut off.
    pub(crate) overlap: Option<usize>,
}

/// Encodes one chunk of texts, as the original encodes a thousand at a time.
pub(crate) fn encode(
    texts: &[&str],
    tokenizer: &Tokenizer,
    settings: TextSettings<'_>,
) -> Result<Vec<Example>, DataError> {
    let end = settings.end.unwrap_or(tokenizer.end_token());
    let begin = tokenizer
        .begin_token()
        .filter(|_| tokenizer.adds_begin() && !settings.joined)
        .unwrap_or("");
    // The end is part of the text, so that it is found as a special token in it.
    let rows = texts
        .par_iter()
        .map(|text| tokenizer.encode(&format!("{begin}{text}{end}")));
    let mut rows = rows.collect::<Result<Vec<_>, _>>()?;
    if settings.joined {
        let whole = rows.concat();
        let blocks = whole.chunks_exact(settings.cutoff_len.max(1));
        rows = blocks.map(<[u32]>::to_vec).collect();
        if let (true, Some(id)) = (tokenizer.adds_begin(), tokenizer.begin_id()) {
            for first in rows.iter_mut().filter_map(|row| row.first_mut()) {
                *first = id;
            }
        }
    }
    if let Some(overlap) = settings.overlap {
        let rows = rows
            .iter()
            .flat_map(|ids| split(ids, settings.cutoff_len, overlap));
        return Ok(rows.collect());
    }
    for row in &mut rows {
        row.truncate(settings.cutoff_len);
    }
    Ok(rows.into_iter().map(Example::of_text).collect())
}

/// A text as windows. Each token is a label in one of them.
fn split(ids: &[u32], width: usize, overlap: usize) -> impl Iterator<Item = Example> {
    windows(ids.len(), width, overlap)
        .enumerate()
        .map(move |(index, window)| {
            let mut example = Example::of_text(ids[window].to_vec());
            let known = if index == 0 { 0 } else { overlap };
            for label in example.labels.iter_mut().take(known) {
                *label = IGNORED;
            }
            example
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::golden_tokenizer;

    #[test]
    fn texts_are_joined_and_cut_or_kept_apart() {
        let tokenizer = golden_tokenizer();
        let texts = ["one two three four", "five"];
        let mut settings = TextSettings {
            cutoff_len: 4,
            joined: true,
            end: None,
            overlap: None,
        };
        let whole: Vec<u32> = texts
            .iter()
            .flat_map(|text| {
                let mut ids = tokenizer.encode(text).unwrap();
                ids.push(tokenizer.end_id());
                ids
            })
            .collect();
        let rows = encode(&texts, &tokenizer, settings).unwrap();
        assert_eq!(rows.len(), whole.len() / 4);
        assert_eq!(rows[1].input_ids, whole[4..8]);
        settings.joined = false;
        let rows = encode(&texts, &tokenizer, settings).unwrap();
        assert_eq!((rows.len(), rows[0].input_ids.len()), (2, 4));
        assert_eq!(rows[1].labels.last(), Some(&i64::from(tokenizer.end_id())));
    }

    #[test]
    fn a_long_text_is_learnt_whole_in_windows() {
        let tokenizer = golden_tokenizer();
        let settings = TextSettings {
            cutoff_len: 6,
            joined: false,
            end: None,
            overlap: Some(2),
        };
        let texts = ["one two three four five six seven eight nine", "ten"];
        let rows = encode(&texts, &tokenizer, settings).unwrap();
        assert!(rows.len() > 3);
        let labels: Vec<i64> = rows.iter().flat_map(|row| row.labels.clone()).collect();
        let learnt: Vec<i64> = labels
            .into_iter()
            .filter(|label| *label != IGNORED)
            .collect();
        let whole = texts.iter().flat_map(|text| {
            let mut ids = tokenizer.encode(text).unwrap();
            ids.push(tokenizer.end_id());
            ids
        });
        assert_eq!(learnt, whole.map(i64::from).collect::<Vec<_>>());
        assert_eq!(rows[1].input_ids[..2], rows[0].input_ids[4..]);
    }
}
