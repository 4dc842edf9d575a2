//! The switches that all three programs share, word for word.

use crate::Language;

/// Global switches. Flatten this into a program's arguments.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Output")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one switch of the command line"
)]
pub struct Flags {
    /// Print one JSON object a line on standard output, the result last
    #[arg(long, global = true)]
    pub json: bool,
    /// Print nothing but errors and the result
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Print more: every step, also the quick ones
    #[arg(long, short, global = true)]
    pub verbose: bool,
    /// When to colour messages
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub color: ColorChoice,
    /// Draw no progress bars; print a line as a step starts and ends
    #[arg(long, global = true)]
    pub no_progress: bool,
    /// Language of messages; taken from the locale when not given
    #[arg(long, global = true, value_enum)]
    pub lang: Option<Language>,
    /// Answer yes to every question that a flag may answer
    #[arg(long, short = 'y', global = true)]
    pub yes: bool,
}

/// When to colour messages.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}
