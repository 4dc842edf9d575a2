//! What must be carried so that what is wanted can be installed beside what is there.
//!
//! A SAT solver (resolvo) decides. Its rules, and what they are to it:
//!
//! - One version of a name is installed; of kernels and their like several are.
//! - What is installed stays, or a newer version or what obsoletes it takes its place. Nothing is removed.
//! - What is installed keeps what it needs, as far as it has that today.
//! - An installed package is preferred to a carried one, a newer to an older one, a package of the name that is asked
//!   for to one that provides it.
//!
//! Weak dependencies are not followed (what is wanted and recommends something that stays out is named), and conflicts that are rich (`(a unless b)`) are left to the package manager.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use manifest_schema::{PackageFormat, Wanted};
use resolvo::{Problem, Solver, UnsolvableOrCancelled};

use crate::error::PackageError;
use crate::installed::Installed;
use crate::package::Package;
use crate::provider::Provider;
use crate::relation::Relation;

/// Every package that is offered or installed.
pub struct Universe {
    pub(crate) format: PackageFormat,
    pub(crate) packages: Vec<Package>,
    /// Who provides a name, its own among them.
    pub(crate) providers: HashMap<String, Vec<usize>>,
    /// Who has a file.
    pub(crate) owners: HashMap<String, Vec<usize>>,
    by_name: HashMap<String, Vec<usize>>,
    /// Paths that were looked for in the lists of all files.
    looked_up: BTreeSet<String>,
    arch: String,
}

/// The packages to carry.
#[derive(Clone, Debug, Default)]
pub struct Closure {
    /// Each of them, ordered by name and version.
    pub carried: Vec<Package>,
    /// What was wanted and is installed already.
    pub present: Vec<Wanted>,
    /// By the name of a package that was wanted and is carried: what it recommends, is offered, and is neither carried
    /// nor installed.
    pub left_out: BTreeMap<String, Vec<String>>,
}

/// A solution, or the paths that nobody is known to have: look them up and solve again.
pub(crate) enum Solved {
    Closure(Closure),
    Unknown(BTreeSet<String>),
}

impl Universe {
    /// Takes in what repositories offer, and what is installed on a machine of `arch`.
    pub fn new(
        format: PackageFormat,
        arch: &str,
        offered: Vec<Package>,
        installed: Installed,
    ) -> Self {
        let mut packages = installed.completed(&offered, format);
        let mut known: BTreeSet<(String, String, String)> = packages.iter().map(identity).collect();
        // What is there, or in an earlier repository, is not taken from a later one.
        packages.extend(
            offered
                .into_iter()
                .filter(|package| known.insert(identity(package))),
        );
        let mut universe = Self {
            format,
            packages,
            providers: HashMap::new(),
            owners: HashMap::new(),
            by_name: HashMap::new(),
            looked_up: BTreeSet::new(),
            arch: arch.to_owned(),
        };
        for (number, package) in universe.packages.iter().enumerate() {
            let mut add = |name: &str| {
                let providers = universe.providers.entry(name.to_owned()).or_default();
                if providers.last() != Some(&number) {
                    providers.push(number);
                }
            };
            add(&package.name);
            for relation in &package.provides {
                add(&relation.name);
            }
            for path in &package.files {
                universe
                    .owners
                    .entry(path.clone())
                    .or_default()
                    .push(number);
            }
            universe
                .by_name
                .entry(package.name.clone())
                .or_default()
                .push(number);
        }
        universe
    }

    /// Solves for `wanted`. `look_up` is asked who has the paths that nobody is known to have.
    ///
    /// # Errors
    /// When a wanted package is not there, or no set of packages has all that is needed; and those of `look_up`.
    pub fn solve<E: From<PackageError>>(
        &mut self,
        wanted: &[Wanted],
        mut look_up: impl FnMut(&BTreeSet<String>) -> Result<BTreeMap<String, BTreeSet<String>>, E>,
    ) -> Result<Closure, E> {
        loop {
            match self.attempt(wanted)? {
                Solved::Closure(closure) => return Ok(closure),
                Solved::Unknown(paths) => {
                    for (path, names) in look_up(&paths)? {
                        let owners = names.iter().filter_map(|name| self.by_name.get(name));
                        let owners = owners.flatten().copied().collect();
                        self.owners.insert(path, owners);
                    }
                    // Not found is an answer too: each path is asked for once, so this ends.
                    self.looked_up.extend(paths);
                }
            }
        }
    }

    fn attempt(&self, wanted: &[Wanted]) -> Result<Solved, PackageError> {
        let provider = Provider::new(self);
        let mut requirements = Vec::new();
        for one in wanted {
            requirements.push(provider.requirement(&one.to_string(), &self.wanted(one)?));
        }
        for (number, package) in self.packages.iter().enumerate() {
            if package.offer.is_none() && !self.is_alone(package) {
                requirements.push(provider.requirement(&package.name, &self.successors(number)));
            }
        }
        let mut solver = Solver::new(provider);
        let result = solver.solve(Problem::new().requirements(requirements));
        let unknown: BTreeSet<String> = {
            let asked = solver.provider().unknown_paths();
            asked.difference(&self.looked_up).cloned().collect()
        };
        if !unknown.is_empty() {
            return Ok(Solved::Unknown(unknown));
        }
        let chosen = match result {
            Ok(chosen) => chosen,
            Err(UnsolvableOrCancelled::Unsolvable(conflict)) => {
                let problem = conflict.display_user_friendly(&solver).to_string();
                let problem = problem.chars().take(LONGEST_PROBLEM).collect();
                return Err(PackageError::Unsolvable { problem });
            }
            // Nothing here cancels.
            Err(UnsolvableOrCancelled::Cancelled(_)) => Vec::new(),
        };
        let chosen: BTreeSet<usize> = chosen.iter().map(|id| id.into_raw() as usize).collect();
        let mut closure = Closure::default();
        for number in &chosen {
            let package = &self.packages[*number];
            if package.offer.is_some() {
                closure.carried.push(package.clone());
            }
        }
        for one in wanted {
            let candidates = self.wanted(one)?;
            let carried = candidates
                .iter()
                .any(|number| chosen.contains(number) && self.packages[*number].offer.is_some());
            if !carried {
                closure.present.push(one.clone());
            }
            for number in candidates.iter().filter(|number| chosen.contains(number)) {
                let left_out = self.left_out(*number, &chosen);
                if !left_out.is_empty() {
                    let name = self.packages[*number].name.clone();
                    closure.left_out.insert(name, left_out);
                }
            }
        }
        closure.carried.sort_by(|a, b| {
            let versions = crate::version::compare(self.format, &a.version, &b.version);
            a.name
                .cmp(&b.name)
                .then(versions)
                .then_with(|| a.arch.cmp(&b.arch))
        });
        Ok(Solved::Closure(closure))
    }

    /// What a carried package recommends and could have, but has not.
    fn left_out(&self, number: usize, chosen: &BTreeSet<usize>) -> Vec<String> {
        let package = &self.packages[number];
        if package.offer.is_none() {
            return Vec::new();
        }
        let left_out = package.recommends.iter().filter(|formula| {
            let relations = formula.alternatives();
            let who = relations.into_iter().flat_map(|one| self.matching(one));
            let who: Vec<usize> = who.collect();
            let has =
                |number: &usize| chosen.contains(number) || self.packages[*number].offer.is_none();
            !who.is_empty() && !who.iter().any(has)
        });
        left_out.map(ToString::to_string).collect()
    }

    /// Who is meant by a wanted name: packages of that name, else those that provide it.
    fn wanted(&self, one: &Wanted) -> Result<Vec<usize>, PackageError> {
        let name = one.name.as_str();
        let named: Vec<usize> = self.by_name.get(name).cloned().unwrap_or_default();
        let named: Vec<usize> = named
            .into_iter()
            .filter(|number| self.is_native(*number))
            .collect();
        let candidates = match (&one.version, named.is_empty()) {
            (Some(version), _) => {
                let asked = Relation::exact(name, version.as_str());
                let fits = |number: &usize| {
                    let own = Relation::exact(name, &self.packages[*number].version);
                    own.satisfies(&asked, self.format)
                };
                named.iter().copied().filter(fits).collect()
            }
            (None, false) => named.clone(),
            (None, true) => self.matching(&Relation::any(name)),
        };
        if candidates.is_empty() {
            let versions: Vec<&str> = named
                .iter()
                .map(|number| self.packages[*number].version.as_str())
                .collect();
            return Err(PackageError::NoSuchPackage {
                wanted: one.to_string(),
                known: versions.join(", "),
            });
        }
        Ok(candidates)
    }

    /// What an installed package may become: itself, another version, or what obsoletes it.
    fn successors(&self, number: usize) -> Vec<usize> {
        let package = &self.packages[number];
        let own = Relation::exact(&package.name, &package.version);
        let named = self
            .by_name
            .get(&package.name)
            .into_iter()
            .flatten()
            .copied();
        let mut successors: Vec<usize> = named
            .filter(|other| *other == number || self.packages[*other].offer.is_some())
            .filter(|other| {
                // Nothing goes back to an older version.
                let version = &self.packages[*other].version;
                crate::version::compare(self.format, version, &package.version).is_ge()
            })
            .collect();
        let obsoletes = |other: &Package| {
            let meant = |relation: &&Relation| relation.name == package.name;
            let mut meant = other.obsoletes.iter().filter(meant);
            meant.any(|relation| own.satisfies(relation, self.format))
        };
        let obsoleting = self.packages.iter().enumerate();
        successors.extend(
            obsoleting
                .filter(|(_, other)| other.offer.is_some() && obsoletes(other))
                .map(|(other, _)| other),
        );
        successors.sort_unstable();
        successors.dedup();
        successors
    }

    /// Every package that provides what `relation` asks for.
    pub(crate) fn matching(&self, relation: &Relation) -> Vec<usize> {
        let owners = self.owners.get(&relation.name).into_iter().flatten();
        let provides = |number: &usize| {
            let package = &self.packages[*number];
            let own = Relation::exact(&package.name, &package.version);
            let all = package.provides.iter().chain([&own]);
            all.filter(|provided| provided.name == relation.name)
                .any(|provided| provided.satisfies(relation, self.format))
        };
        let named = self.providers.get(&relation.name).into_iter().flatten();
        let mut found: Vec<usize> = named.copied().filter(provides).collect();
        // A path may be one package's file and be provided by another in words.
        for owner in owners {
            if !found.contains(owner) {
                found.push(*owner);
            }
        }
        found.sort_unstable();
        found
    }

    /// Whether a package is for this machine's architecture or for all.
    pub(crate) fn is_native(&self, number: usize) -> bool {
        let arch = self.packages[number].arch.as_str();
        arch.is_empty() || arch == self.arch || ["noarch", "all"].contains(&arch)
    }

    /// Whether nothing can take the place of an installed package: then the solver need not be asked.
    fn is_alone(&self, package: &Package) -> bool {
        package.is_multiple(self.format)
            || ![self.arch.as_str(), "", "noarch", "all"].contains(&package.arch.as_str())
    }
}

fn identity(package: &Package) -> (String, String, String) {
    (
        package.name.clone(),
        package.version.clone(),
        package.arch.clone(),
    )
}

/// A conflict is told in lines; more than these nobody reads.
const LONGEST_PROBLEM: usize = 8000;
