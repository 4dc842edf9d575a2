//! What the tests of several modules share.

use std::path::PathBuf;

use crate::tokenizer::Tokenizer;

/// Folder of the golden inputs.
pub(crate) fn golden() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden"))
}

/// The tokenizer of the golden model.
pub(crate) fn golden_tokenizer() -> Tokenizer {
    Tokenizer::from_folder(&golden().join("model")).unwrap()
}
