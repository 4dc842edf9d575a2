//! Developer tasks. `cargo xtask demo` and `cargo xtask test` need Debian's gcc, Python 3 with pip, and nothing else.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a developer's tool talks to its terminal"
)]

mod arm64;
mod arrows;
mod ascend;
mod bench;
mod bridges;
mod cross;
mod demo;
mod fuzz;
mod libtorch;
mod npu;
mod oracle;
mod paths;
mod programs;
mod shell;
mod test;
mod torches;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Build, show and check Ferry")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Pack, carry, install, fine-tune, chat and audit, on this machine and on real input
    Demo(demo::Args),
    /// Measure Ferry beside what a user would run instead
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Let PEFT read an adapter that Ferry trained, and transformers a model that it installed
    Oracle(oracle::Args),
    /// Lock and build the environment of an Ascend 910B on aarch64 from `PyPI` (0.5 GB), twice, and compare the bytes
    Ascend(ascend::Args),
    /// Run everything that must hold: formatting, arrows, lints, tests, the static installer
    Test,
    /// Check that only the allowed crates link reqwest, tch and the terminal crates
    Arrows,
    /// Build the static aarch64 installer and run it under qemu
    Cross,
    /// Run the end-to-end tests as an aarch64 machine does, in an arm64 Debian under qemu; needs root
    Arm64(arm64::Args),
    /// Feed every reader of foreign bytes what libFuzzer makes up
    Fuzz(fuzz::Args),
    /// Build the bridges to nccl and hccl against the real packages (0.6 GB from `PyPI`)
    Bridges(bridges::Args),
    /// Load the real device library of Ascend chips over a stand-in for the vendor's runtime (0.6 GB from `PyPI`)
    Npu(npu::Args),
    /// Build against each libtorch that a vendor pins, and replay the golden traces
    Torches(torches::Args),
    /// Obtain libtorch and print the environment to build with
    Env,
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Demo(args) => demo::run(&args),
        Task::Bench(bench) => bench::run(&bench),
        Task::Oracle(args) => oracle::run(&args),
        Task::Ascend(args) => ascend::run(&args),
        Task::Test => test::run(),
        Task::Arrows => arrows::check(),
        Task::Cross => cross::run(),
        Task::Arm64(args) => arm64::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Bridges(args) => bridges::run(&args),
        Task::Npu(args) => npu::run(&args),
        Task::Torches(args) => torches::run(&args),
        Task::Env => libtorch::obtain().map(|libtorch| {
            for (name, value) in libtorch.environment() {
                println!("export {name}='{value}'");
            }
        }),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
