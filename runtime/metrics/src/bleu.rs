//! BLEU of one answer: runs of one to four characters in common.

use std::collections::HashMap;

use crate::python;

/// Longest runs that are counted.
const LONGEST: usize = 4;

/// Part of the runs of `predicted` that `wanted` has too, from zero to one. A length of which none is found counts as
/// half of one run, the next as a quarter, and so on; short answers are marked down.
pub(crate) fn sentence(predicted: &str, wanted: &str) -> f64 {
    let predicted: Vec<char> = predicted.chars().collect();
    let wanted: Vec<char> = wanted.chars().collect();
    let mut logarithms = [0.0; LONGEST];
    let mut missed = 0;
    for (length, logarithm) in (1..).zip(&mut logarithms) {
        let (found, all) = common(&predicted, &wanted, length);
        let all = all.max(1);
        if found == 0 && length == 1 {
            return 0.0;
        }
        let part = if found == 0 {
            missed += 1;
            1.0 / (2_u64.pow(missed) * all as u64) as f64
        } else {
            found as f64 / all as f64
        };
        *logarithm = 0.25 * part.ln();
    }
    brevity(predicted.len(), wanted.len()) * python::exact_sum(&logarithms).exp()
}

/// Runs of `predicted` that `wanted` has, each as often as there at most; and how many runs there are.
fn common(predicted: &[char], wanted: &[char], length: usize) -> (usize, usize) {
    let count = |text| {
        let mut counts: HashMap<&[char], usize> = HashMap::new();
        for run in <[char]>::windows(text, length) {
            *counts.entry(run).or_default() += 1;
        }
        counts
    };
    let (predicted, wanted) = (count(predicted), count(wanted));
    let found = predicted.iter().map(|(run, count)| {
        let most = wanted.get(run).copied().unwrap_or(0);
        most.min(*count)
    });
    (found.sum(), predicted.values().sum())
}

fn brevity(predicted: usize, wanted: usize) -> f64 {
    if predicted > wanted {
        1.0
    } else if predicted == 0 {
        0.0
    } else {
        (1.0 - wanted as f64 / predicted as f64).exp()
    }
}
