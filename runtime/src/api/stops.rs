//! Words that end an answer, in a text that comes piece by piece.

/// Holds back what may be the begin of a stop word.
#[derive(Debug, Default)]
pub(super) struct Stops {
    words: Vec<String>,
    held: String,
}

impl Stops {
    pub(super) fn new(words: Vec<String>) -> Self {
        Self {
            words,
            held: String::new(),
        }
    }

    /// Takes a piece, and returns what may be shown, and whether a stop word came. It is not shown, nor what follows.
    pub(super) fn push(&mut self, piece: &str) -> (String, bool) {
        self.held.push_str(piece);
        let found = self.words.iter().filter_map(|word| self.held.find(word));
        if let Some(at) = found.min() {
            self.held.truncate(at);
            return (std::mem::take(&mut self.held), true);
        }
        let kept = self.words.iter().map(|word| overlap(&self.held, word));
        let kept = kept.max().unwrap_or(0);
        let behind = self.held.split_off(self.held.len() - kept);
        (std::mem::replace(&mut self.held, behind), false)
    }

    /// What was held back: the text has ended.
    pub(super) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Bytes at the end of `text` that `word` begins with.
fn overlap(text: &str, word: &str) -> usize {
    let starts = word.char_indices().map(|(at, _)| at).filter(|at| *at > 0);
    let fits = starts.filter(|length| text.ends_with(&word[..*length]));
    fits.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_words_are_found_across_pieces_and_never_shown() {
        for (words, pieces, shown, hit) in [
            (&["END"][..], &["a E", "N", "D b"][..], "a ", true),
            (&["END"], &["a E", "N", "E b"], "a ENE b", false),
            (&["。", "bc"], &["ab", "d。e"], "abd", true),
            (&["bc", "abcd"], &["xab", "cd"], "x", true),
            (&["aab"], &["aaab"], "a", true),
            (&["aab"], &["aa", "ab"], "a", true),
            (&["你好"], &["你", "们"], "你们", false),
            (&["x"], &["EN"], "EN", false),
            (&[], &["a", "b"], "ab", false),
            (&["END"], &["EN"], "EN", false),
        ] {
            let words = words.iter().map(|word| (*word).to_owned());
            let mut stops = Stops::new(words.collect());
            let mut text = String::new();
            let mut ended = false;
            for piece in pieces {
                let (ready, stopped) = stops.push(piece);
                text.push_str(&ready);
                if stopped {
                    ended = true;
                    break;
                }
            }
            if !ended {
                text.push_str(&stops.finish());
            }
            assert_eq!((text.as_str(), ended), (shown, hit), "{pieces:?}");
        }
    }
}
