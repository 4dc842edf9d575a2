//! Thoughts in the answers of reasoning models.

use std::borrow::Cow;

/// What a reasoning template puts around a thought, and so what an empty one looks like.
pub(crate) const THOUGHT: [&str; 2] = ["<think>\n", "\n</think>\n\n"];

pub(crate) fn has_thought(answer: &str) -> bool {
    THOUGHT.iter().any(|word| answer.contains(word.trim()))
}

/// An answer without its thoughts, and without the line ends that stood before what is left.
pub(crate) fn without_thought(answer: &str) -> Cow<'_, str> {
    let [open, close] = THOUGHT;
    let mut kept = String::new();
    let mut rest = answer;
    while let Some((before, after)) = rest.split_once(open) {
        let Some((_, behind)) = after.split_once(close) else {
            break;
        };
        kept.push_str(before);
        rest = behind;
    }
    kept.push_str(rest);
    Cow::Owned(kept.trim_start_matches('\n').to_owned())
}
