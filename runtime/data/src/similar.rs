//! The known word that a mistyped one most likely meant.

/// Characters of a foreign word that are compared.
const LIMIT: usize = 64;

/// Returns the known word that is most like `word`, if one is near enough to be meant.
pub fn similar<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let ranked = known
        .into_iter()
        .map(|other| (distance(word, other), other));
    let (edits, nearest) = ranked.min_by_key(|(edits, _)| *edits)?;
    // As many edits as half of its letters make another word, not a slip.
    let letters = nearest.chars().count().max(word.chars().count());
    (edits * 2 < letters).then_some(nearest)
}

/// Edits between two words, two swapped neighbours counted as one (optimal string alignment).
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().take(LIMIT).collect();
    let right: Vec<char> = right.chars().collect();
    let mut older = Vec::new();
    let mut old: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let replaced = old[j] + usize::from(a != b);
            let mut best = replaced.min(old[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                let before: usize = older[j - 1];
                best = best.min(before + 1);
            }
            row.push(best);
        }
        older = std::mem::replace(&mut old, row);
    }
    old[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_its_word_and_noise_finds_none() {
        let known = ["qwen", "llama3", "chatml"];
        for (typed, meant) in [
            ("qwne", Some("qwen")),
            ("lama3", Some("llama3")),
            ("chat_ml", Some("chatml")),
            ("mistral-nemo", None),
            ("own", None),
            ("", None),
        ] {
            assert_eq!(similar(typed, known), meant, "{typed}");
        }
        assert_eq!((distance("", "abc"), distance("kitten", "sitting")), (3, 3));
        assert_eq!(distance("qwne", "qwen"), 1);
        assert_eq!(similar("a", []), None);
    }
}
