//! Which keys of LLaMA-Factory a job may use.
//!
//! The list is `keys.txt`, one key a line.

use std::sync::LazyLock;

use train_data::similar;

use super::tuning;

/// What this program does with a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Usage {
    /// It is read.
    Read,
    /// It is about the original's Python, or refines what is refused: nothing here depends on it.
    Idle,
    /// It changes what is computed in a way that is not there, unless it is off. Why.
    Refused(&'static str),
}

static KEYS: LazyLock<Vec<(&'static str, Usage)>> = LazyLock::new(|| {
    let lines = include_str!("keys.txt").lines();
    let lines = lines.filter(|line| !line.starts_with('#'));
    lines.filter_map(entry).collect()
});

fn entry(line: &'static str) -> Option<(&'static str, Usage)> {
    let mut words = line.splitn(3, ' ');
    let key = words.next().filter(|key| !key.is_empty())?;
    let usage = match (words.next()?, words.next()) {
        ("read", None) => Usage::Read,
        ("idle", None) => Usage::Idle,
        ("refused", Some(reason)) => Usage::Refused(reason),
        _ => return None,
    };
    Some((key, usage))
}

/// What is done with `key`; none: neither this program nor the original knows it.
pub(super) fn usage(key: &str) -> Option<Usage> {
    if tuning::KEYS.contains(&key) {
        return Some(Usage::Read);
    }
    let found = KEYS.iter().find(|(known, _)| *known == key);
    found.map(|(_, usage)| *usage)
}

/// Returns the known key that is most like `key`, if one is near.
pub(super) fn nearest(key: &str) -> Option<&'static str> {
    let listed = KEYS.iter().map(|(known, _)| *known);
    similar(key, listed.chain(tuning::KEYS))
}

#[cfg(test)]
#[path = "original_tests.rs"]
mod original;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_its_key() {
        for (typed, meant) in [
            ("lora_rnak", Some("lora_rank")),
            ("learning_rates", Some("learning_rate")),
            ("cutof_len", Some("cutoff_len")),
            ("my_own_little_switch_here", None),
        ] {
            assert_eq!(nearest(typed), meant);
        }
    }

    #[test]
    fn every_line_of_the_list_is_a_key() {
        let lines = include_str!("keys.txt").lines();
        let lines = lines.filter(|line| !line.starts_with('#') && !line.is_empty());
        assert_eq!(lines.count(), KEYS.len());
        assert!(KEYS.is_sorted_by(|a, b| a.0 < b.0), "sorted, each once");
        for (key, known) in [
            ("lora_rank", true),
            ("deepspeed", true),
            ("ppo_epochs", true),
            ("vllm_maxlen", true),
            ("lora_rnak", false),
        ] {
            assert_eq!(usage(key).is_some(), known, "{key}");
        }
    }
}
