//! Tokens that a model is calibrated with: windows of texts, drawn as LLaMA-Factory draws them for `export`.
//!
//! Which text and where in it is drawn by Python's `random`. The original gives it no seed, so that no two exports are
//! alike; here it is `random.seed(seed)`, and the same job gives the same bytes.

use std::path::Path;

use rand_mt::Mt;
use serde_json::Value;

use crate::dataset::shape;
use crate::error::DataError;
use crate::source::Source;
use crate::tokenizer::Tokenizer;

/// How often a text is drawn that turns out too short, before the original gives up.
const TRIES: usize = 101;
/// Most bytes of all texts together: they are held at once, since any may be drawn.
const MOST_BYTES: usize = 4 << 30;

/// Draws `count` windows of `length` tokens each from the texts in the file or folder at `path`: its records' `text`.
/// Only a text that is longer is taken.
pub fn calibration(
    path: &Path,
    tokenizer: &Tokenizer,
    (count, length): (usize, usize),
    seed: u64,
) -> Result<Vec<Vec<u32>>, DataError> {
    let texts = texts(path)?;
    let mut chance = Chance::new(seed);
    let mut windows = Vec::with_capacity(count);
    while windows.len() < count {
        let mut drawn =
            (0..TRIES).map(|_| tokenizer.encode_alone(&texts[chance.below(texts.len())]));
        let long = drawn.find(|ids| ids.as_ref().map_or(true, |ids| ids.len() > length));
        let ids = long.ok_or_else(|| DataError::NoLongText {
            path: path.to_owned(),
            tokens: length,
        })??;
        let start = chance.below(ids.len() - length);
        windows.push(ids[start..start + length].to_vec());
    }
    Ok(windows)
}

fn texts(path: &Path) -> Result<Vec<String>, DataError> {
    let source = Source::at(path)?;
    let (mut texts, mut bytes) = (Vec::new(), 0);
    for file in source.files() {
        for record in source.records(file)? {
            let (number, record) = record?;
            let Value::String(text) = &record["text"] else {
                let place = format!("record {number}, field text");
                return Err(shape(file, &place, "a text", &record["text"]));
            };
            bytes += text.len();
            if bytes > MOST_BYTES {
                return Err(DataError::TooMuchText {
                    path: path.to_owned(),
                    most: MOST_BYTES >> 30,
                });
            }
            texts.push(text.clone());
        }
    }
    if texts.is_empty() {
        return Err(DataError::Empty {
            path: path.to_owned(),
        });
    }
    Ok(texts)
}

/// Python's `random`.
struct Chance(Mt);

impl Chance {
    /// After `random.seed(seed)`.
    fn new(seed: u64) -> Self {
        let key = [seed as u32, (seed >> 32) as u32];
        let words = if key[1] == 0 { 1 } else { 2 };
        Self(Mt::new_with_key(key[..words].iter().copied()))
    }

    /// `randint(0, below - 1)`: so many bits as it takes, again and again until they are below. No list of texts in
    /// memory is longer than 32 bits count.
    fn below(&mut self, below: usize) -> usize {
        let bits = usize::BITS - below.leading_zeros();
        loop {
            let drawn = (self.0.next_u32() >> 32_u32.saturating_sub(bits)) as usize;
            if drawn < below {
                return drawn;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::testing::golden_tokenizer;

    #[test]
    fn numbers_are_those_of_python() {
        // random.seed(s); [random.randint(0, n - 1) for n in (300, 7, 1, 1000000, 2, 4096)]
        for (seed, expected) in [
            (42, [57, 0, 0, 256_787, 0, 1143]),
            (0, [197, 6, 0, 42450, 1, 3980]),
            (5_000_000_000, [44, 4, 0, 503_322, 1, 3776]),
        ] {
            let mut chance = Chance::new(seed);
            let drawn = [300, 7, 1, 1_000_000, 2, 4096].map(|n| chance.below(n));
            assert_eq!(drawn, expected, "{seed}");
        }
    }

    #[test]
    fn windows_lie_in_texts_that_are_longer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("texts.jsonl");
        let long = "The quick brown fox jumps over the lazy dog. ".repeat(9);
        let lines =
            ["too short", &long, &long[9..]].map(|text| format!("{{\"text\": {text:?}}}\n"));
        fs::write(&path, lines.concat()).unwrap();
        let tokenizer = golden_tokenizer();
        let drawn = calibration(&path, &tokenizer, (6, 20), 42).unwrap();
        let whole = [&long, &long[9..]].map(|text| tokenizer.encode_alone(text).unwrap());
        for window in &drawn {
            assert_eq!(window.len(), 20);
            assert!(
                whole
                    .iter()
                    .any(|ids| ids.windows(20).any(|part| part == window))
            );
        }
        assert!(drawn.windows(2).any(|pair| pair[0] != pair[1]));
        assert_eq!(drawn, calibration(&path, &tokenizer, (6, 20), 42).unwrap());
        assert_ne!(drawn, calibration(&path, &tokenizer, (6, 20), 43).unwrap());
        let error = calibration(&path, &tokenizer, (1, 5000), 42).unwrap_err();
        assert!(
            matches!(error, DataError::NoLongText { tokens: 5000, .. }),
            "{error}"
        );
    }

    #[test]
    fn what_holds_no_texts_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("texts.json");
        let tokenizer = golden_tokenizer();
        for (content, expected) in [
            ("[]", "holds no records"),
            (
                "[{\"text\": \"a\"}, {\"content\": \"b\"}]",
                "record 2, field text",
            ),
            ("[{\"text\": 5}]", "record 1, field text"),
            ("[{\"text\"", "not valid JSON"),
        ] {
            fs::write(&path, content).unwrap();
            let error = calibration(&path, &tokenizer, (1, 4), 42)
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{content}: {error}");
        }
        let error = calibration(&folder.path().join("no.json"), &tokenizer, (1, 4), 42);
        assert!(matches!(error, Err(DataError::Read { .. })));
    }
}
