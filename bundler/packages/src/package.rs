//! One package as the closure sees it.

use manifest_schema::{Digest, PackageFormat};

use crate::formula::Formula;
use crate::relation::Relation;

/// A package that is installed, or that a repository has.
#[derive(Clone, Debug, Default)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// `epoch:version-release`, the epoch only where it is not 0.
    pub version: String,
    /// Its architecture.
    pub arch: String,
    /// What it provides beside its own name.
    pub provides: Vec<Relation>,
    /// What it needs.
    pub requires: Vec<Formula>,
    /// What it is better with. Nothing is carried for it; who wanted the package is told.
    pub recommends: Vec<Formula>,
    /// What it cannot be beside.
    pub conflicts: Vec<Relation>,
    /// Packages that it takes the place of, by their names.
    pub obsoletes: Vec<Relation>,
    /// Files that others may need it for.
    pub files: Vec<String>,
    /// Licence, in the packager's own words.
    pub license: Option<String>,
    /// Whether its repository asks to be taken from only where no other has the package, as backports do.
    pub reluctant: bool,
    /// Where it is; `None` for an installed one.
    pub offer: Option<Offer>,
}

/// A package's file in a repository.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Offer {
    /// Position of the repository among those that were read.
    pub repository: usize,
    /// The file, below the repository's address.
    pub location: String,
    /// Its bytes.
    pub size: u64,
    /// Its SHA-256.
    pub digest: Digest,
}

impl Package {
    /// Whether several versions of it may be installed side by side, as kernels are.
    pub(crate) fn is_multiple(&self, format: PackageFormat) -> bool {
        let marked = |relation: &Relation| {
            ["installonlypkg(", "multiversion("]
                .iter()
                .any(|mark| relation.name.starts_with(mark))
        };
        format == PackageFormat::Rpm
            && (SIDE_BY_SIDE.contains(&self.name.as_str()) || self.provides.iter().any(marked))
    }

    /// Name, version and architecture, for people.
    pub fn label(&self) -> String {
        let there = if self.offer.is_none() {
            " (installed)"
        } else {
            ""
        };
        format!("{} {} {}{there}", self.name, self.version, self.arch)
    }
}

/// What yum and dnf never replace by a newer one.
const SIDE_BY_SIDE: [&str; 7] = [
    "kernel",
    "kernel-core",
    "kernel-devel",
    "kernel-modules",
    "kernel-modules-core",
    "kernel-modules-extra",
    "kernel-source",
];
