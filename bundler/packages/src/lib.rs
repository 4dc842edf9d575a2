//! Packages of operating systems: metadata, closure, repositories; no files, no network.
//!
//! ```text
//! repomd.xml, primary, filelists ─┐
//! Release, Packages ──────────────┼─▶ Package ─▶ Universe ──solve──▶ what to carry
//! what is installed ──────────────┘
//! .rpm, .deb ──▶ repodata/, Packages, Release    (of the packages that are carried)
//! ```
//!
//! Nothing here is believed: who calls has compared digests and signatures, and every size is bounded all the same.

mod closure;
mod error;
mod formula;
mod installed;
mod package;
mod provider;
mod relation;
mod unpacked;
mod version;

pub mod deb;
pub mod rpm;

pub use closure::{Closure, Universe};
pub use error::PackageError;
pub use formula::Formula;
pub use installed::{Installed, from_inventory, from_list};
pub use package::{Offer, Package};
pub use relation::{Op, Relation};
pub use version::compare;
