//! The machine's own layer: driver, firmware, toolkit. Touched only when it is asked for.
//!
//! ```text
//! HostPlan::compute   what is there, in which order the rest comes, every command in full; reads only
//! run_host            stages a file, checks digest and the vendor's signature, logs, runs, logs
//! <prefix>/host/<hex>/NAME     a vendor's file while it is needed, checked while it was written
//! <prefix>/host/state.json     how far the work came; there only while it is unfinished
//! <prefix>/log/host-N-KIND.txt what a command said
//! ```
//!
//! Invariant: no byte of a vendor is run before Ferry's signature, the vendor's own where there is one, and the
//! accepted terms hold. Nothing is run that the plan did not show word for word.

mod command;
mod error;
mod plan;
mod remove;
mod run;
mod runner;
mod stage;
mod state;
mod step;

pub use command::{Command, shell_words};
pub use error::{After, FailedRun, HostError};
pub use plan::{HostPlan, Wanted};
pub use remove::{OnMachine, on_machine};
pub use run::{HostWork, run_host};
pub use runner::{Ended, Places, Runner, ShellRunner};
pub use state::Resume;
pub(crate) use state::is_of_host;
pub use step::HostStep;
