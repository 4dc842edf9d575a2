//! What Ferry does beside what a user would run instead, on the same input and in one run. `docs/benchmarks.md` holds figures.

mod bundle;
mod noise;
mod tokens;
mod training;
mod watch;

use anyhow::Result;
use clap::Subcommand;

pub(crate) use training::python;

#[derive(Subcommand)]
pub(crate) enum Bench {
    /// Fine-tuning beside LLaMA-Factory
    Training(training::Args),
    /// Tokenizing beside LLaMA-Factory's `datasets.map`
    Tokens(tokens::Args),
    /// Packing, verifying and installing beside cp, tar, zstd and sha256sum
    Bundle(bundle::Args),
}

pub(crate) fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Training(args) => training::run(args),
        Bench::Tokens(args) => tokens::run(args),
        Bench::Bundle(args) => bundle::run(args),
    }
}
