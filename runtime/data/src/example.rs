//! One conversation as tokens and labels.

/// One training example: tokens, and which of them the loss counts.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Example {
    /// Token ids, in order.
    pub input_ids: Vec<u32>,
    /// The same ids, or [`crate::IGNORED`] where the loss does not look.
    pub labels: Vec<i64>,
}
