//! Text as its tokens come, never half a character.

use crate::error::DataError;
use crate::tokenizer::Tokenizer;

/// What a byte-level decoder puts in place of half a character.
const BROKEN: char = '\u{fffd}';

/// More tokens than any character takes: a text that is still broken after these really is.
const LONGEST_CHARACTER: usize = 8;

/// Turns tokens into text one by one.
///
/// A token may hold a part of a character, and a decoder may treat the first token of a text differently; so each
/// piece is the difference between the text of a few tokens with and without the new one.
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    tokens: Vec<u32>,
    /// Tokens from here on are decoded together.
    context: usize,
    /// Tokens before here have been shown.
    shown: usize,
    skips_special: bool,
}

impl<'a> TextStream<'a> {
    /// Starts an empty text. Special tokens will not appear in it.
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        Self {
            tokenizer,
            tokens: Vec::new(),
            context: 0,
            shown: 0,
            skips_special: true,
        }
    }

    /// The same; unless it `skips`, special tokens appear in the text, too.
    #[must_use]
    pub fn skipping_special(mut self, skips: bool) -> Self {
        self.skips_special = skips;
        self
    }

    /// Takes one token and returns the text that it completes; often nothing.
    pub fn push(&mut self, token: u32) -> Result<String, DataError> {
        self.tokens.push(token);
        let patience = self.tokens.len() - self.shown < LONGEST_CHARACTER;
        self.take(patience)
    }

    /// Returns what was held back, however broken.
    pub fn finish(&mut self) -> Result<String, DataError> {
        self.take(false)
    }

    fn take(&mut self, patient: bool) -> Result<String, DataError> {
        let decode = |tokens: &[u32]| self.tokenizer.decode(tokens, self.skips_special);
        let before = decode(&self.tokens[self.context..self.shown])?;
        let now = decode(&self.tokens[self.context..])?;
        if patient && now.ends_with(BROKEN) {
            return Ok(String::new());
        }
        let piece = match now.strip_prefix(before.as_str()) {
            Some(piece) => piece.to_owned(),
            // What was shown broken is whole by now; it stays as it was shown.
            None => decode(&self.tokens[self.shown..])?,
        };
        self.context = self.shown;
        self.shown = self.tokens.len();
        Ok(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::golden_tokenizer;

    #[test]
    fn pieces_add_up_and_hold_no_half_character() {
        let tokenizer = golden_tokenizer();
        for text in [
            "Hello there",
            "你好，世界！",
            "龘𠮷 👩‍👩‍👧 é",
            " leading  and   spaces\n\n",
            "",
        ] {
            let ids = tokenizer.encode(text).unwrap();
            let mut stream = TextStream::new(&tokenizer);
            let mut whole = String::new();
            for id in &ids {
                let piece = stream.push(*id).unwrap();
                assert!(!piece.contains(BROKEN), "{text}: {piece}");
                whole.push_str(&piece);
            }
            whole.push_str(&stream.finish().unwrap());
            assert_eq!(whole, tokenizer.decode(&ids, true).unwrap());
        }
    }

    #[test]
    fn special_tokens_appear_where_that_is_asked_for() {
        let tokenizer = golden_tokenizer();
        let ids = tokenizer.encode("a<|im_end|>b").unwrap();
        for (skips, wanted) in [(true, "ab"), (false, "a<|im_end|>b")] {
            let mut stream = TextStream::new(&tokenizer).skipping_special(skips);
            let pieces = ids.iter().map(|id| stream.push(*id).unwrap());
            assert_eq!(pieces.collect::<String>(), wanted);
        }
    }

    #[test]
    fn text_that_stays_broken_is_shown_in_the_end() {
        let tokenizer = golden_tokenizer();
        let ids = tokenizer.encode("龘").unwrap();
        assert!(
            ids.len() > 1,
            "the test needs a character of several tokens"
        );
        let mut stream = TextStream::new(&tokenizer);
        for id in &ids[..ids.len() - 1] {
            assert_eq!(stream.push(*id).unwrap(), "");
        }
        assert!(stream.finish().unwrap().contains(BROKEN));
        assert_eq!(stream.finish().unwrap(), "");
    }
}
