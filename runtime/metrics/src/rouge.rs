//! ROUGE of one answer: words, pairs of words, and the longest sequence of words in common.

use std::collections::HashSet;

use crate::python::is_space;

/// ROUGE-1, ROUGE-2 and ROUGE-L of an answer, from zero to one.
pub(crate) fn scores(predicted: &[&str], wanted: &[&str]) -> [f64; 3] {
    let (predicted, wanted) = (predicted.join(" "), wanted.join(" "));
    if predicted.chars().all(is_space) || wanted.chars().all(is_space) {
        return [0.0; 3];
    }
    let (predicted, wanted) = (words(&predicted), words(&wanted));
    let runs = |length| {
        let count = |text| <[String]>::windows(text, length).collect::<HashSet<_>>();
        let (predicted, wanted) = (count(predicted.as_slice()), count(wanted.as_slice()));
        let common = predicted.intersection(&wanted).count();
        balanced(common, predicted.len(), wanted.len())
    };
    let longest = balanced(longest(&predicted, &wanted), predicted.len(), wanted.len());
    [runs(1), runs(2), longest]
}

/// The harmonic mean of the parts that `common` is of both.
fn balanced(common: usize, predicted: usize, wanted: usize) -> f64 {
    let part = |all: usize| {
        if all == 0 {
            0.0
        } else {
            common as f64 / all as f64
        }
    };
    let (precision, recall) = (part(predicted), part(wanted));
    2.0 * ((precision * recall) / (precision + recall + 1e-8))
}

/// Length of the longest sequence of words that both have in the same order, with anything between.
fn longest(one: &[String], other: &[String]) -> usize {
    let mut above = vec![0; other.len() + 1];
    for word in one {
        let mut row = vec![0; other.len() + 1];
        for (at, counterpart) in other.iter().enumerate() {
            row[at + 1] = if word == counterpart {
                above[at] + 1
            } else {
                above[at + 1].max(row[at])
            };
        }
        above = row;
    }
    above[other.len()]
}

/// The words of a text with blanks between them. The original splits it into sentences first: a sentence of blanks alone
/// counts as one empty word.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for sentence in sentences(text).split('\n').filter(|s| !s.is_empty()) {
        let before = words.len();
        let parts = sentence.split(is_space).filter(|word| !word.is_empty());
        words.extend(parts.map(str::to_owned));
        if words.len() == before {
            words.push(String::new());
        }
    }
    words
}

const CLOSING: [char; 2] = ['”', '’'];

/// The text with a line end behind each sentence.
fn sentences(text: &str) -> String {
    let ends = |c: char| matches!(c, '。' | '！' | '？' | '?');
    let closes = |c: char| CLOSING.contains(&c);
    let text: Vec<char> = text.chars().collect();
    let text = broken(&text, 1, |head, next| ends(head[0]) && !closes(next));
    let all = |head: &[char], sign| head.iter().all(|c| *c == sign);
    let text = broken(&text, 6, |head, next| all(head, '.') && !closes(next));
    let text = broken(&text, 2, |head, next| all(head, '…') && !closes(next));
    let text = broken(&text, 2, |head, next| {
        ends(head[0]) && closes(head[1]) && next != '，' && !ends(next)
    });
    let text: String = text.into_iter().collect();
    text.trim_end_matches(is_space).to_owned()
}

/// The text with a line end between `length` characters and the next one wherever these fit; what is between two such
/// places belongs to one of them only.
fn broken(text: &[char], length: usize, fits: impl Fn(&[char], char) -> bool) -> Vec<char> {
    let mut broken = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let head = &text[at..(at + length).min(text.len())];
        match text.get(at + length) {
            Some(next) if fits(head, *next) => {
                broken.extend_from_slice(head);
                broken.extend(['\n', *next]);
                at += length + 1;
            }
            _ => {
                broken.push(text[at]);
                at += 1;
            }
        }
    }
    broken
}
