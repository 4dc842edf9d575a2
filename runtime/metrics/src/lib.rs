//! How near an answer comes to the wanted one: BLEU and ROUGE as LLaMA-Factory counts them.
//!
//! ```text
//! predicted, wanted --characters--> BLEU-4
//!                   --words-------> ROUGE-1, ROUGE-2, ROUGE-L
//! ```
//!
//! The original cuts words with jieba 0.42.1, counts ROUGE with rouge-chinese 1.0.3 and BLEU with nltk's `sentence_bleu`,
//! smoothed by its third method. `tests/golden/vectors/similarity.json` was made with these, and holds both
//! together number by number.

mod bleu;
mod python;
mod rouge;
mod words;

pub use words::cut;

/// How near one answer comes, in percent with four decimals.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Similarity {
    /// Runs of up to four characters in common.
    pub bleu_4: f64,
    /// Words in common.
    pub rouge_1: f64,
    /// Pairs of words in common.
    pub rouge_2: f64,
    /// The longest sequence of words in common.
    pub rouge_l: f64,
}

impl Similarity {
    /// Compares an answer with the wanted one.
    pub fn of(predicted: &str, wanted: &str) -> Self {
        let [rouge_1, rouge_2, rouge_l] = rouge::scores(&cut(predicted), &cut(wanted));
        let percent = |part: f64| python::rounded(part * 100.0);
        Self {
            bleu_4: percent(bleu::sentence(predicted, wanted)),
            rouge_1: percent(rouge_1),
            rouge_2: percent(rouge_2),
            rouge_l: percent(rouge_l),
        }
    }

    /// The means over many answers under the original's names; of none, no number.
    pub fn means(all: &[Self]) -> [(&'static str, f64); 4] {
        let mean = |part: fn(&Self) -> f64| {
            let values: Vec<f64> = all.iter().map(part).collect();
            python::mean(&values)
        };
        [
            ("bleu-4", mean(|s| s.bleu_4)),
            ("rouge-1", mean(|s| s.rouge_1)),
            ("rouge-2", mean(|s| s.rouge_2)),
            ("rouge-l", mean(|s| s.rouge_l)),
        ]
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "the same bits are wanted")]
mod tests {
    use serde_json::Value;

    use super::*;

    fn vectors() -> Value {
        let text = include_str!("../../../tests/golden/vectors/similarity.json");
        serde_json::from_str(text).unwrap()
    }

    fn text<'a>(case: &'a Value, name: &str) -> &'a str {
        case[name].as_str().unwrap()
    }

    #[test]
    fn words_are_the_originals() {
        let vectors = vectors();
        let cases = vectors["words"].as_array().unwrap();
        assert!(cases.len() > 100);
        for case in cases {
            let wanted: Vec<&str> = case["words"]
                .as_array()
                .unwrap()
                .iter()
                .map(|word| word.as_str().unwrap())
                .collect();
            assert_eq!(cut(text(case, "text")), wanted, "{}", case["text"]);
        }
    }

    #[test]
    fn scores_are_the_originals() {
        let vectors = vectors();
        let cases = vectors["pairs"].as_array().unwrap();
        assert!(cases.len() > 100);
        let mut all = Vec::new();
        for case in cases {
            let found = Similarity::of(text(case, "predict"), text(case, "label"));
            for (name, value) in [
                ("bleu-4", found.bleu_4),
                ("rouge-1", found.rouge_1),
                ("rouge-2", found.rouge_2),
                ("rouge-l", found.rouge_l),
            ] {
                assert_eq!(Some(value), case[name].as_f64(), "{name} of {case}");
            }
            all.push(found);
        }
        for (name, value) in Similarity::means(&all) {
            assert_eq!(Some(value), vectors["means"][name].as_f64(), "{name}");
        }
    }

    #[test]
    fn nothing_and_blanks_come_near_nothing() {
        for (predicted, wanted) in [("", ""), ("", "a"), ("a", ""), (" \n", "\u{1f}")] {
            let found = Similarity::of(predicted, wanted);
            assert_eq!(found.rouge_l, 0.0, "{predicted:?} {wanted:?}");
        }
    }
}
