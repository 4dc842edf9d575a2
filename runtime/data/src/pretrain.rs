//! Plain texts into rows, every token a label.

use crate::error::DataError;
use crate::example::Example;
use crate::tokenizer::Tokenizer;

/// How texts become rows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TextSettings<'a> {
    /// Longest row in tokens.
    pub(crate) cutoff_len: usize,
    /// Texts follow one another, and rows are cut from the whole; what fills no row is left out.
    pub(crate) joined: bool,
    /// Ends each text; none: the tokenizer's end token.
    pub(crate) end: Option<&'a str>,
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
    let mut rows = Vec::with_capacity(texts.len());
    for text in texts {
        // The end is part of the text, so that it is found as a special token in it.
        rows.push(tokenizer.encode(&format!("{begin}{text}{end}"))?);
    }
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
    for row in &mut rows {
        row.truncate(settings.cutoff_len);
    }
    Ok(rows.into_iter().map(Example::of_text).collect())
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
}
