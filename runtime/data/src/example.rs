//! One conversation as tokens and labels.

use crate::batch::IGNORED;
use crate::error::DataError;
use crate::template::{Template, Turn};
use crate::tokenizer::Tokenizer;

/// One training example: tokens, and which of them the loss counts.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Example {
    /// Token ids, in order.
    pub input_ids: Vec<u32>,
    /// The same ids, or [`crate::IGNORED`] where the loss does not look.
    pub labels: Vec<i64>,
}

/// A system text and turns that end with an answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Conversation {
    /// Empty: the template's own.
    pub system: String,
    /// At least one.
    pub turns: Vec<Turn>,
}

/// What of a conversation becomes tokens and labels.
#[derive(Clone, Debug)]
pub struct EncodeSettings {
    /// The template's name.
    pub template: &'static Template,
    /// System text where an example has none, instead of the template's.
    pub default_system: Option<String>,
    /// Longest example in tokens.
    pub cutoff_len: usize,
    /// Labels on prompts too.
    pub train_on_prompt: bool,
    /// Labels on the last answer only; older turns are the first to be cut.
    pub mask_history: bool,
}

impl Example {
    /// Turns a conversation into tokens, cut to `cutoff_len` as LLaMA-Factory does it.
    pub fn encode(
        conversation: &Conversation,
        tokenizer: &Tokenizer,
        settings: &EncodeSettings,
    ) -> Result<Self, DataError> {
        let system = if conversation.system.is_empty() {
            settings.default_system.as_deref().unwrap_or("")
        } else {
            &conversation.system
        };
        let mut turns = settings
            .template
            .encode(tokenizer, system, &conversation.turns)?;
        if settings.mask_history {
            turns.reverse();
        }
        let mut used = 0;
        let mut pieces = Vec::with_capacity(turns.len());
        for (index, turn) in turns.into_iter().enumerate() {
            if used >= settings.cutoff_len {
                break;
            }
            let left = settings.cutoff_len - used;
            let (source, target) = share(turn.source.len(), turn.target.len(), left);
            used += source + target;
            let masked = settings.mask_history && index != 0;
            let mut piece = Self::default();
            piece.push(&turn.source[..source], settings.train_on_prompt);
            piece.push(&turn.target[..target], !masked);
            pieces.push(piece);
        }
        if settings.mask_history {
            pieces.reverse();
        }
        let mut example = Self::default();
        for piece in pieces {
            example.input_ids.extend(piece.input_ids);
            example.labels.extend(piece.labels);
        }
        Ok(example)
    }

    fn push(&mut self, ids: &[u32], labelled: bool) {
        self.input_ids.extend_from_slice(ids);
        let labels = ids.iter().map(|id| i64::from(*id));
        self.labels
            .extend(labels.map(|id| if labelled { id } else { IGNORED }));
    }
}

/// Shares `limit` tokens between a prompt and its answer; returns how many of each stay.
///
/// The shorter side keeps everything while it is under half of the limit; else both shrink in
/// proportion.
fn share(source: usize, target: usize, limit: usize) -> (usize, usize) {
    let target_limit = if target * 2 < limit {
        limit
    } else if source * 2 < limit {
        limit - source
    } else {
        // The original computes this with a double, and rounds towards zero.
        (limit as f64 * (target as f64 / (source + target) as f64)) as usize
    };
    let target = target.min(target_limit);
    (source.min(limit.saturating_sub(target)), target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::golden_tokenizer;

    #[test]
    fn the_limit_is_shared_as_in_the_original() {
        for ((source, target, limit), expected) in [
            ((10, 10, 100), (10, 10)),
            ((100, 10, 50), (40, 10)),
            ((10, 100, 50), (10, 40)),
            ((100, 100, 50), (25, 25)),
            ((30, 60, 10), (4, 6)),
            ((0, 0, 1), (0, 0)),
        ] {
            let shared = share(source, target, limit);
            assert_eq!(shared, expected, "{source} {target} {limit}");
        }
    }

    fn settings(mask_history: bool, cutoff_len: usize) -> EncodeSettings {
        EncodeSettings {
            template: Template::named("empty").unwrap(),
            default_system: None,
            cutoff_len,
            train_on_prompt: false,
            mask_history,
        }
    }

    fn two_turns() -> Conversation {
        let turn = |user: &str, assistant: &str| Turn {
            user: user.to_owned(),
            assistant: assistant.to_owned(),
        };
        Conversation {
            system: String::new(),
            turns: vec![turn("1", "2"), turn("3", "4")],
        }
    }

    #[test]
    fn masked_history_labels_the_last_answer_and_is_cut_first() {
        let tokenizer = golden_tokenizer();
        let id = |text: &str| i64::from(tokenizer.encode(text).unwrap()[0]);
        let encode = |settings: &EncodeSettings| {
            Example::encode(&two_turns(), &tokenizer, settings).unwrap()
        };
        let whole = encode(&settings(false, 8));
        assert_eq!(whole.labels, [IGNORED, id("2"), IGNORED, id("4")]);
        let masked = encode(&settings(true, 8));
        assert_eq!(masked.input_ids, whole.input_ids);
        assert_eq!(masked.labels, [IGNORED, IGNORED, IGNORED, id("4")]);
        let cut = encode(&settings(true, 2));
        assert_eq!(cut.input_ids, whole.input_ids[2..]);
        let cut = encode(&settings(false, 2));
        assert_eq!(cut.input_ids, whole.input_ids[..2]);
    }
}
