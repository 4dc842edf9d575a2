//! The only crate that prints, prompts or draws bars, and the only one that knows a language.
//!
//! Standard output is for data, standard error for people. With `--json` every event is one line on
//! standard output and the last line is the result or the error.

mod arguments;
mod catalog;
mod flags;
mod form;
mod han;
mod mistake;
mod pages;
mod phrase;
mod progress;
mod prompt;
mod qr;
mod view;

pub use arguments::arguments;
pub use catalog::{Language, Text, display_width, text, texts};
pub use flags::{ColorChoice, Flags};
pub use mistake::mistake_in_chinese;
pub use prompt::PromptError;
pub use qr::{LEAST_COLUMNS, LEAST_LINES, QrSize, TooSmall};
pub use view::View;
