//! Conversations as tokens and labels.

use crate::batch::IGNORED;
use crate::error::DataError;
use crate::template::{Opening, Template, Turn};
use crate::tokenizer::Tokenizer;
use crate::windows::windows;

/// One row of tokens, and which of them the loss counts.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Example {
    /// Token ids, in order.
    pub input_ids: Vec<u32>,
    /// The same ids, or [`crate::IGNORED`] where the loss does not look.
    pub labels: Vec<i64>,
    /// Present where several examples share the row.
    pub packed: Option<Packed>,
}

/// How the examples of a packed row lie, one number a token.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Packed {
    /// Which tokens see each other: those of one number. Zero: padding.
    pub segments: Vec<i64>,
    /// Place of each token in its own example.
    pub positions: Vec<i64>,
}

/// What one place in a micro-batch holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Item {
    /// A text or a conversation.
    Single(Example),
    /// One question with a preferred and a rejected answer.
    Pair {
        /// With the preferred answer.
        chosen: Example,
        /// With the rejected answer.
        rejected: Example,
    },
    /// One question with an answer that was called good or bad.
    Judged {
        /// With its answer.
        example: Example,
        /// With another question's answer.
        mismatched: Example,
        /// The answer was called good.
        desirable: bool,
    },
}

impl Item {
    /// Tokens of the longest row that this item makes.
    pub fn length(&self) -> usize {
        match self {
            Self::Single(example) => example.input_ids.len(),
            Self::Pair { chosen, rejected } => chosen.input_ids.len().max(rejected.input_ids.len()),
            Self::Judged {
                example,
                mismatched,
                ..
            } => example.input_ids.len().max(mismatched.input_ids.len()),
        }
    }

    /// Tokens of all rows that this item makes.
    pub fn tokens(&self) -> usize {
        match self {
            Self::Single(example) => example.input_ids.len(),
            Self::Pair { chosen, rejected } => chosen.input_ids.len() + rejected.input_ids.len(),
            Self::Judged {
                example,
                mismatched,
                ..
            } => example.input_ids.len() + mismatched.input_ids.len(),
        }
    }

    /// Labels that the loss counts.
    pub fn labels(&self) -> usize {
        let count = |e: &Example| e.labels.iter().filter(|label| **label != IGNORED).count();
        match self {
            Self::Single(example) | Self::Judged { example, .. } => count(example),
            Self::Pair { chosen, rejected } => count(chosen) + count(rejected),
        }
    }
}

/// A system text and turns that end with an answer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Conversation {
    /// Empty: the template's own.
    pub system: String,
    /// Tools that the model may call, as a JSON list; empty: none.
    pub tools: String,
    /// At least one. The last answer is the preferred one where there are two.
    pub turns: Vec<Turn>,
    /// The last turn with a worse answer; its question is not looked at.
    pub rejected: Option<Turn>,
    /// Whether the last answer was called good.
    pub desirable: Option<bool>,
}

/// What of a conversation becomes tokens and labels.
#[derive(Clone, Debug)]
pub struct EncodeSettings<'a> {
    /// How turns are written.
    pub template: &'a Template,
    /// Longest example in tokens.
    pub cutoff_len: usize,
    /// Labels on prompts too.
    pub train_on_prompt: bool,
    /// Labels on the last answer only; older turns are the first to be cut.
    pub mask_history: bool,
    /// Whether answers of a reasoning template begin with a thought, if only an empty one.
    pub enable_thinking: bool,
    /// The day that a description of tools names, where a template's does.
    pub tool_date: &'a str,
}

impl<'a> EncodeSettings<'a> {
    /// The original's defaults.
    pub fn of(template: &'a Template, cutoff_len: usize) -> Self {
        Self {
            template,
            cutoff_len,
            train_on_prompt: false,
            mask_history: false,
            enable_thinking: true,
            tool_date: "",
        }
    }

    /// Whether a conversation can be encoded, without doing it.
    pub(crate) fn judge(&self, conversation: &Conversation) -> Result<(), DataError> {
        let rejected = conversation.rejected.iter();
        let turns = conversation.turns.iter().chain(rejected);
        self.template.judge(self.opening(conversation), turns)
    }

    fn opening<'c>(&'c self, conversation: &'c Conversation) -> Opening<'c> {
        Opening {
            system: &conversation.system,
            tools: &conversation.tools,
            date: self.tool_date,
        }
    }
}

impl Example {
    /// Turns a conversation into tokens, cut to `cutoff_len` as LLaMA-Factory does it.
    pub fn encode(
        conversation: &Conversation,
        tokenizer: &Tokenizer,
        settings: &EncodeSettings<'_>,
    ) -> Result<Self, DataError> {
        let mut turns = settings.template.encode(
            tokenizer,
            settings.opening(conversation),
            &conversation.turns,
            settings.enable_thinking,
            settings.mask_history,
        )?;
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

    /// Turns a conversation whose last answer is too long for one example into several, each with everything before the
    /// answer, and with a stretch of it that begins `overlap` tokens into the stretch before.
    ///
    /// None: it is short enough, or what stands before the answer takes more than half of an example; the tokens of that
    /// are returned in the second case.
    pub(crate) fn encode_windows(
        conversation: &Conversation,
        tokenizer: &Tokenizer,
        settings: &EncodeSettings<'_>,
        overlap: usize,
    ) -> Result<Result<Vec<Self>, Option<usize>>, DataError> {
        let mut turns = settings.template.encode(
            tokenizer,
            settings.opening(conversation),
            &conversation.turns,
            settings.enable_thinking,
            settings.mask_history,
        )?;
        let Some(last) = turns.pop() else {
            return Ok(Err(None));
        };
        let mut head = Self::default();
        for turn in &turns {
            head.push(&turn.source, false);
            head.push(&turn.target, !settings.mask_history);
        }
        head.push(&last.source, false);
        let before = head.input_ids.len();
        if before + last.target.len() <= settings.cutoff_len {
            return Ok(Err(None));
        }
        if before * 2 > settings.cutoff_len {
            return Ok(Err(Some(before)));
        }
        let mut examples = Vec::new();
        for window in windows(last.target.len(), settings.cutoff_len - before, overlap) {
            let mut example = head.clone();
            let first = examples.is_empty();
            if !first {
                example.labels.fill(IGNORED);
            }
            let known = if first { 0 } else { overlap };
            let stretch = &last.target[window];
            let (known, new) = stretch.split_at(known.min(stretch.len()));
            example.push(known, false);
            example.push(new, true);
            examples.push(example);
        }
        Ok(Ok(examples))
    }

    /// Turns a question and each of `answers` into tokens; only the answers are labelled.
    ///
    /// Question and answers are cut together, by the longest answer, so that the question stays the same.
    pub(crate) fn encode_answers(
        conversation: &Conversation,
        answers: &[&Turn],
        tokenizer: &Tokenizer,
        settings: &EncodeSettings<'_>,
    ) -> Result<Vec<Self>, DataError> {
        let opening = settings.opening(conversation);
        let thinking = settings.enable_thinking;
        let mut turns = conversation.turns.clone();
        let mut prompt = None;
        let mut targets = Vec::with_capacity(answers.len());
        for answer in answers {
            if let Some(last) = turns.last_mut() {
                answer.assistant.clone_into(&mut last.assistant);
                last.called = answer.called;
            }
            let (source, target) = settings
                .template
                .encode_last(tokenizer, opening, &turns, thinking)?;
            // A thought that only one of them has may stand in its question; the original keeps the first one's.
            prompt.get_or_insert(source);
            targets.push(target);
        }
        let prompt = prompt.unwrap_or_default();
        let longest = targets.iter().map(Vec::len).max().unwrap_or(0);
        let (source, target) = share(prompt.len(), longest, settings.cutoff_len);
        let examples = targets.iter().map(|ids| {
            let mut example = Self::default();
            example.push(&prompt[..source], false);
            example.push(&ids[..target.min(ids.len())], true);
            example
        });
        Ok(examples.collect())
    }

    /// Every token a label.
    pub(crate) fn of_text(ids: Vec<u32>) -> Self {
        Self {
            labels: ids.iter().map(|id| i64::from(*id)).collect(),
            input_ids: ids,
            packed: None,
        }
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

    fn settings(mask_history: bool, cutoff_len: usize) -> EncodeSettings<'static> {
        EncodeSettings {
            mask_history,
            ..EncodeSettings::of(Template::named("empty").unwrap(), cutoff_len)
        }
    }

    fn two_turns() -> Conversation {
        let turn = |user: &str, assistant: &str| Turn {
            user: user.to_owned(),
            assistant: assistant.to_owned(),
            ..Turn::default()
        };
        Conversation {
            turns: vec![turn("1", "2"), turn("3", "4")],
            ..Conversation::default()
        }
    }

    #[test]
    fn masked_history_labels_the_last_answer_and_is_cut_first() {
        let tokenizer = golden_tokenizer();
        let id = |text: &str| i64::from(tokenizer.encode(text).unwrap()[0]);
        let encode = |settings: &EncodeSettings<'_>| {
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

    #[test]
    fn a_long_answer_is_learnt_whole_in_windows() {
        let tokenizer = golden_tokenizer();
        let mut conversation = two_turns();
        conversation.turns[1].assistant = "a 1 b 2 c 3 d 4 e 5 f 6".to_owned();
        let answer = tokenizer.encode(&conversation.turns[1].assistant).unwrap();
        let encode = |limit| {
            let settings = settings(false, limit);
            Example::encode_windows(&conversation, &tokenizer, &settings, 2).unwrap()
        };
        let windows = encode(8).unwrap();
        assert!(windows.len() > 3);
        let question = &windows[0].input_ids[..3];
        let mut learnt: Vec<i64> = Vec::new();
        for window in &windows {
            assert_eq!(&window.input_ids[..3], question);
            assert!(window.input_ids.len() <= 8);
            learnt.extend(window.labels[3..].iter().filter(|label| **label != IGNORED));
        }
        let answer: Vec<i64> = answer.into_iter().map(i64::from).collect();
        assert_eq!(learnt, answer);
        // The first answer is learnt once, too.
        let again = windows.iter().filter(|window| window.labels[1] != IGNORED);
        assert_eq!(again.count(), 1);
        assert_eq!(encode(4), Err(Some(3)));
        assert_eq!(encode(100), Err(None));
    }

    /// A thought without its line ends is not taken out, and is none that the answer lacks: the question of the preferred
    /// answer counts, as in the original.
    #[test]
    fn a_thought_in_one_of_two_answers_leaves_the_first_ones_question() {
        let tokenizer = golden_tokenizer();
        let mut settings = EncodeSettings::of(Template::named("qwen3").unwrap(), 100);
        settings.enable_thinking = false;
        let answer = |text: &str| Turn {
            assistant: text.to_owned(),
            ..Turn::default()
        };
        let (thought, plain) = (answer("<think>1</think>2"), answer("2"));
        let encode = |answers: &[&Turn]| {
            Example::encode_answers(&two_turns(), answers, &tokenizer, &settings).unwrap()
        };
        let alone = encode(&[&thought]);
        let pair = encode(&[&thought, &plain]);
        assert_eq!(pair[0], alone[0]);
        let prompt = |e: &Example| e.labels.iter().filter(|l| **l == IGNORED).count();
        assert_eq!(prompt(&pair[1]), prompt(&alone[0]));
        let pair = encode(&[&plain, &thought]);
        assert!(prompt(&pair[0]) > prompt(&alone[0]));
        assert_eq!(prompt(&pair[0]), prompt(&pair[1]));
    }

    #[test]
    fn two_answers_are_cut_to_one_question() {
        let tokenizer = golden_tokenizer();
        let settings = settings(false, 6);
        let answer = |text: &str| Turn {
            assistant: text.to_owned(),
            ..Turn::default()
        };
        let (long, short) = (answer("1 1 1 1 1 1 1"), answer("2"));
        let answers = [&long, &short];
        let pair = Example::encode_answers(&two_turns(), &answers, &tokenizer, &settings).unwrap();
        let prompt = |e: &Example| e.labels.iter().filter(|l| **l == IGNORED).count();
        assert_eq!(pair[0].input_ids.len(), 6);
        assert_eq!(prompt(&pair[0]), prompt(&pair[1]));
        let same = prompt(&pair[0]);
        assert_eq!(pair[0].input_ids[..same], pair[1].input_ids[..same]);
    }
}
