//! Questions to a person. Without a terminal a question fails and names the flag to pass.

use report::{Args, Diagnose, Outcome};

/// A question could not be put, or got no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PromptError {
    /// Standard input or standard error is not a terminal.
    #[error("a question needs an answer and there is no terminal: pass `{flag}`")]
    NoTerminal {
        /// The flag that answers the question.
        flag: String,
    },
    /// The terminal went away, or the person pressed Ctrl-C.
    #[error("the question was not answered")]
    Unanswered {
        /// Why.
        source: std::io::Error,
    },
}

impl Diagnose for PromptError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoTerminal { .. } => "console.no-terminal",
            Self::Unanswered { .. } => "console.unanswered",
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::NoTerminal { flag } => vec![("flag", flag.clone())],
            Self::Unanswered { .. } => Args::new(),
        }
    }

    fn outcome(&self) -> Outcome {
        Outcome::Usage
    }
}

impl From<dialoguer::Error> for PromptError {
    fn from(error: dialoguer::Error) -> Self {
        let dialoguer::Error::IO(source) = error;
        Self::Unanswered { source }
    }
}
