//! Facts about a machine, and whether a backend fits them.
//!
//! ```text
//! Host (real or recorded) --probe--> Site (facts with sources) --fit(backend)--> checks --select--> backend
//! ```
//!
//! Reading, parsing and judging are apart: [`Host`] reads, the parsers take text, the rules are pure
//! functions of a [`Site`](manifest_schema::site::Site). So every accelerator is tested on any laptop.

mod accelerator;
mod child;
mod fit;
mod host;
mod installed;
mod overrides;
mod packages;
mod probe;
mod record;
mod release;
mod select;
mod surroundings;
mod system;
mod tool;
mod versions;

pub use accelerator::accelerators;
pub use child::{Ran, end_with_all, run_within, wait_within};
pub use fit::{
    Check, Kinship, Planned, Verdict, fit, fit_packages, fit_planned, kinship, packages_for,
    system_of,
};
pub use host::{Host, RealHost, RecordedHost};
pub use installed::{installed_release, machine_path, planned, planned_packages};
pub use overrides::{FactError, override_fact};
pub use packages::installed_packages;
pub use probe::{FactLine, facts, probe};
pub use record::record;
pub use select::{Choice, SelectError, select, select_by};
