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
mod discs;
mod disk;
mod environment;
mod fill;
mod guard;
mod host;
mod install;
mod journal;
mod lay_out;
mod loose;
mod manage;
mod packages;
mod place;
mod plan;
mod prefix;
mod program;
mod python;
mod release;
mod repository;
mod roots;
mod site_key;
mod store;
mod sweep;
mod terms;
mod tree;
mod units;
mod vendor;

pub use audit::{Audit, AuditError, AuditedFile, Standing, audit};
pub use discs::{DiscsError, Need, Next, collect, needed_volumes};
pub use disk::{Disk, DiskError, NewFile, RealDisk};
pub use guard::{Guard, LockError};
pub use host::{
    After, Command, Ended, FailedRun, HostError, HostPlan, HostStep, HostWork, OnMachine, Places,
    Resume, Runner, ShellRunner, Wanted, on_machine, run_host, shell_words,
};
pub use install::{InstallError, install};
pub use journal::{AcceptedBy, Action, Entry, HostEnded, Journal, JournalError};
pub use loose::{Loose, Looseness, Unlogged, loose, unlogged};
pub use manage::{ManageError, removable, remove, remove_all, rollback, rollback_target};
pub use packages::{Manager, PackagesError};
pub use place::{Obstacle, Place, PlaceError};
pub use plan::{Choices, InstallPlan, PlanError, Step};
pub use prefix::{Prefix, ReleaseName};
pub use program::ProgramError;
pub use python::find_python;
pub use release::{RecordError, ReleaseRecord};
pub use repository::{stage_packages, unstage_packages};
pub use roots::{
    Acceptance, RootError, RootList, TrustedRoot, add_chain, add_root, expect_root, removable_root,
    remove_root, roots, trusted_roots,
};
pub use site_key::{SiteKeyError, site_key};
pub use store::{Stored, stored_blobs};
pub use sweep::Garbage;
pub use terms::{Term, TermsError, accept_terms, pending_terms};
pub use units::{UnitFolder, UnitsError};
pub use vendor::{VendorFile, vendor_files};
