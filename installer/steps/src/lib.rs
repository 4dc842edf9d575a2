//! Install plan, its steps, the switch and the way back.
//!
//! ```text
//! Verified bundle ──InstallPlan::compute──▶ steps ──install──▶ releases/<name> ──switch──▶ current
//!                                             │                      ▲                        │
//!                                         --dry-run                audit                  rollback
//! ```
//!
//! Invariant: `current` is absent or names a release whose every file matched its digest. Everything that
//! changes the disk goes through [`Disk`], and a test lets the power fail at each of its operations.

mod audit;
mod check;
mod converted;
mod disk;
mod environment;
mod guard;
mod install;
mod journal;
mod manage;
mod plan;
mod prefix;
mod python;
mod release;
mod store;
mod tree;

pub use audit::{Audit, AuditError, AuditedFile, Standing, audit};
pub use disk::{Disk, DiskError, NewFile, RealDisk};
pub use guard::{Guard, LockError};
pub use install::{InstallError, install};
pub use journal::{Action, Entry, Journal, JournalError};
pub use manage::{ManageError, remove, remove_all, rollback, rollback_target};
pub use plan::{Choices, InstallPlan, PlanError, Step};
pub use prefix::{Prefix, ReleaseName};
pub use python::{ProgramError, find_python};
pub use release::ReleaseRecord;
