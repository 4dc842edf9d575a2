//! Several datasets into one, in the order in which `datasets` of LLaMA-Factory 0.9.5 has them.

use crate::error::DataError;
use crate::numpy::{Choice, Generator};

/// How several datasets become one.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Mix {
    /// One after another (`concat`).
    #[default]
    Concat,
    /// By turns, until the first has been read whole (`interleave_under`).
    Under(Shares),
    /// By turns, until the last has been read whole; shorter ones begin again (`interleave_over`).
    Over(Shares),
}

/// How likely each dataset is to come next, which adds up to one; none: they come in turn.
pub type Shares = Option<Vec<f64>>;

/// A mix draws at most so many records for each there is: with a small share a dataset would be waited for without end.
const MOST_DRAWN: usize = 100;

impl Mix {
    /// The order of the records of datasets of these `lengths`, as positions in their concatenation.
    pub(crate) fn order(&self, lengths: &[usize], seed: u64) -> Result<Vec<usize>, DataError> {
        let all: usize = lengths.iter().sum();
        let (over, shares) = match self {
            _ if lengths.len() < 2 => return Ok((0..all).collect()),
            Self::Concat => return Ok((0..all).collect()),
            Self::Under(shares) => (false, shares),
            Self::Over(shares) => (true, shares),
        };
        let starts = lengths.iter().scan(0, |next, length| {
            let start = *next;
            *next += length;
            Some(start)
        });
        let starts: Vec<usize> = starts.collect();
        if shares.is_none() {
            // In turn, and in whole rounds.
            let least = lengths.iter().min().copied().unwrap_or(0);
            let most = lengths.iter().max().copied().unwrap_or(0);
            let rounds = if over && least > 0 { most } else { least };
            let round = |at: usize| {
                let each = starts.iter().zip(lengths);
                each.map(move |(start, length)| start + at % length)
            };
            return Ok((0..rounds).flat_map(round).collect());
        }
        let most = all.saturating_mul(MOST_DRAWN).max(1 << 20);
        let mut turns = Turns::new(self, lengths.len(), Generator::new(seed));
        let mut next = vec![0; lengths.len()];
        let mut order = Vec::new();
        while let Some(source) = turns.next() {
            if order.len() == most {
                return Err(DataError::EndlessMix { drawn: most });
            }
            order.push(starts[source] + next[source]);
            next[source] += 1;
            if next[source] >= lengths[source] {
                next[source] = 0;
                turns.ran_out(source);
            }
        }
        Ok(order)
    }
}

/// Whose turn it is, for datasets whose lengths show only in the end.
pub(crate) struct Turns {
    over: bool,
    choice: Option<Choice>,
    last: Option<usize>,
    ended: Vec<bool>,
}

impl Turns {
    pub(crate) fn new(mix: &Mix, count: usize, generator: Generator) -> Self {
        let (over, shares) = match mix {
            Mix::Concat => (false, None),
            Mix::Under(shares) => (false, shares.as_deref()),
            Mix::Over(shares) => (true, shares.as_deref()),
        };
        Self {
            over,
            choice: shares.map(|shares| Choice::new(generator, shares)),
            last: None,
            ended: vec![false; count],
        }
    }

    /// The dataset whose turn it is; none: that was all.
    pub(crate) fn next(&mut self) -> Option<usize> {
        let over = if self.over {
            self.ended.iter().all(|ended| *ended)
        } else {
            self.ended.iter().any(|ended| *ended)
        };
        if over {
            return None;
        }
        let source = match &mut self.choice {
            Some(choice) => choice.draw(),
            None => self.last.map_or(0, |last| (last + 1) % self.ended.len()),
        };
        self.last = Some(source);
        Some(source)
    }

    /// The last record of `source` was read; its next is its first again.
    pub(crate) fn ran_out(&mut self, source: usize) {
        if let Some(ended) = self.ended.get_mut(source) {
            *ended = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn mixes_are_those_of_the_original() {
        let text = include_str!("../../../tests/golden/vectors/numpy.json");
        let vectors: Value = serde_json::from_str(text).unwrap();
        let cases = vectors["mixes"].as_array().unwrap();
        assert!(cases.len() > 5);
        for case in cases {
            let lengths: Vec<usize> = serde_json::from_value(case["lengths"].clone()).unwrap();
            let shares: Shares = serde_json::from_value(case["probabilities"].clone()).unwrap();
            let mix = match case["strategy"].as_str().unwrap() {
                "first_exhausted" => Mix::Under(shares),
                "all_exhausted" => Mix::Over(shares),
                other => panic!("{other}"),
            };
            let expected: Vec<usize> = serde_json::from_value(case["order"].clone()).unwrap();
            let seed = case["seed"].as_u64().unwrap();
            assert_eq!(mix.order(&lengths, seed).unwrap(), expected, "{case}");
        }
    }

    #[test]
    fn a_mix_that_waits_without_end_is_an_error() {
        let mix = Mix::Over(Some(vec![1.0 - 1e-12, 1e-12]));
        assert!(matches!(
            mix.order(&[2, 2], 1),
            Err(DataError::EndlessMix { .. })
        ));
        let mix = Mix::Over(None);
        assert_eq!(mix.order(&[2, 0], 1).unwrap(), [0; 0]);
    }
}
