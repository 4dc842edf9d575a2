//! Kinds of training, by what they read.

/// What a kind of training reads of its datasets.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Stage {
    /// Plain texts (`pt`).
    Pretrain,
    /// Conversations with answers to learn (`sft`).
    #[default]
    Supervised,
    /// Two answers to a question, one better (`rm`, `dpo`).
    Pairwise,
    /// Answers that were called good or bad (`kto`).
    Feedback,
}

impl Stage {
    /// The stage in a job file, for messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pretrain => "pt",
            Self::Supervised => "sft",
            Self::Pairwise => "rm` or `dpo",
            Self::Feedback => "kto",
        }
    }

    /// What its datasets must hold, for messages.
    pub(crate) fn data(self) -> &'static str {
        match self {
            Self::Pretrain | Self::Supervised => "texts or conversations",
            Self::Pairwise => "comparisons (`ranking: true`)",
            Self::Feedback => "judgements (a `kto_tag` column)",
        }
    }
}
