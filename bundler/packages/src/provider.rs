//! Packages as the solver asks for them: names, candidates, version sets.
//!
//! A version set here is a list of packages of one name. So whatever a package manager means by providing, by files
//! and by virtual names is worked out before the solver sees it.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Display;

use resolvo::{
    Candidates, Condition, ConditionId, ConditionalRequirement, Dependencies, DependencyProvider,
    HintDependenciesAvailable, Interner, KnownDependencies, LogicalOperator, NameId, Requirement,
    SolvableId, SolverCache, StringId, VersionSetId, VersionSetUnionId,
};

use crate::closure::Universe;
use crate::formula::Formula;
use crate::package::Package;
use crate::relation::Relation;

/// What the solver may ask.
pub(crate) struct Provider<'a> {
    universe: &'a Universe,
    /// The name that each package competes under.
    names: Vec<NameId>,
    /// Packages of each name, best first.
    candidates: Vec<Vec<SolvableId>>,
    made: RefCell<Made>,
}

/// What was made while the solver asked.
#[derive(Default)]
struct Made {
    labels: Vec<String>,
    name_of: HashMap<String, NameId>,
    sets: Vec<Set>,
    set_of: HashMap<(NameId, Vec<usize>), VersionSetId>,
    unions: Vec<Vec<VersionSetId>>,
    conditions: Vec<Condition>,
    unknown_paths: BTreeSet<String>,
}

struct Set {
    name: NameId,
    members: Vec<usize>,
    label: String,
}

/// One of these packages, or: not one of those.
#[derive(Clone, Debug, Default)]
struct Clause {
    /// In order of preference.
    any_of: Vec<usize>,
    unless: Vec<Vec<usize>>,
}

impl<'a> Provider<'a> {
    pub(crate) fn new(universe: &'a Universe) -> Self {
        let mut made = Made::default();
        let mut names = Vec::new();
        let mut candidates: Vec<Vec<usize>> = Vec::new();
        for (number, package) in universe.packages.iter().enumerate() {
            let name = made.name(&if universe.is_native(number) {
                package.name.clone()
            } else {
                format!("{}:{}", package.name, package.arch)
            });
            names.push(name);
            candidates.resize(made.labels.len(), Vec::new());
            candidates[name.into_raw() as usize].push(number);
        }
        for list in &mut candidates {
            list.sort_by(|a, b| better(universe, *a, *b));
        }
        let ids = |list: Vec<usize>| list.into_iter().map(id).collect();
        Self {
            universe,
            names,
            candidates: candidates.into_iter().map(ids).collect(),
            made: RefCell::new(made),
        }
    }

    /// Paths that something needs and nobody is known to have.
    pub(crate) fn unknown_paths(&self) -> BTreeSet<String> {
        self.made.borrow().unknown_paths.clone()
    }

    /// One of `packages`.
    pub(crate) fn requirement(&self, label: &str, packages: &[usize]) -> ConditionalRequirement {
        let clause = Clause {
            any_of: packages.to_vec(),
            unless: Vec::new(),
        };
        self.demand(label, &clause)
    }

    fn package(&self, solvable: SolvableId) -> &'a Package {
        &self.universe.packages[solvable.into_raw() as usize]
    }

    /// A clause as the solver takes it: `unless` become its condition.
    fn demand(&self, label: &str, clause: &Clause) -> ConditionalRequirement {
        let sets = self.sets(label, &clause.any_of);
        let mut made = self.made.borrow_mut();
        let requirement = match sets.as_slice() {
            [] => {
                // A name without candidates: the solver says who needed it.
                let name = made.name(label);
                Requirement::Single(made.set(name, Vec::new(), ""))
            }
            [only] => Requirement::Single(*only),
            _ => {
                made.unions.push(sets);
                Requirement::Union(VersionSetUnionId(made.unions.len() as u32 - 1))
            }
        };
        drop(made);
        let conditions = clause.unless.iter().filter_map(|unless| {
            let any = self.sets(label, unless).into_iter();
            let mut made = self.made.borrow_mut();
            let single = any
                .map(|set| made.condition(Condition::Requirement(set)))
                .collect::<Vec<_>>();
            single
                .into_iter()
                .reduce(|a, b| made.condition(Condition::Binary(LogicalOperator::Or, a, b)))
        });
        let conditions: Vec<ConditionId> = conditions.collect();
        let mut made = self.made.borrow_mut();
        ConditionalRequirement {
            condition: conditions
                .into_iter()
                .reduce(|a, b| made.condition(Condition::Binary(LogicalOperator::And, a, b))),
            requirement,
        }
    }

    /// `packages` by the names that they compete under, in the order of their first.
    fn sets(&self, label: &str, packages: &[usize]) -> Vec<VersionSetId> {
        let mut order: Vec<NameId> = Vec::new();
        let mut groups: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for number in packages {
            let name = self.names[*number];
            if !order.contains(&name) {
                order.push(name);
            }
            groups.entry(name.into_raw()).or_default().push(*number);
        }
        let mut made = self.made.borrow_mut();
        let sets = order.into_iter().map(|name| {
            let mut members = groups.remove(&name.into_raw()).unwrap_or_default();
            members.sort_unstable();
            members.dedup();
            made.set(name, members, label)
        });
        sets.collect()
    }

    /// Who provides what a relation asks for; those preferred come first.
    fn preferred(&self, relation: &Relation) -> Vec<usize> {
        let universe = self.universe;
        let mut found = universe.matching(relation);
        if relation.name.starts_with('/') && found.is_empty() {
            self.made
                .borrow_mut()
                .unknown_paths
                .insert(relation.name.clone());
        }
        let rank = |number: &usize| {
            let package = &universe.packages[*number];
            (package.offer.is_some(), package.name != relation.name)
        };
        found.sort_by(|a, b| {
            let names = || universe.packages[*a].name.cmp(&universe.packages[*b].name);
            rank(a)
                .cmp(&rank(b))
                .then_with(names)
                .then_with(|| better(universe, *a, *b))
        });
        found
    }

    /// A formula as clauses that must all hold. `None` where it would become too many.
    fn clauses(&self, formula: &Formula, holds: bool) -> Option<Vec<Clause>> {
        let clauses = match (formula, holds) {
            (Formula::Is(_) | Formula::With(..) | Formula::Without(..), _) => {
                let found = self.one_package(formula)?;
                let clause = if holds {
                    Clause {
                        any_of: found,
                        unless: Vec::new(),
                    }
                } else {
                    Clause {
                        any_of: Vec::new(),
                        unless: vec![found],
                    }
                };
                vec![clause]
            }
            (Formula::And(list), true) | (Formula::Or(list), false) => {
                let mut all = Vec::new();
                for one in list {
                    all.extend(self.clauses(one, holds)?);
                }
                all
            }
            (Formula::Or(list), true) | (Formula::And(list), false) => {
                let mut all = vec![Clause::default()];
                for one in list {
                    all = product(&all, &self.clauses(one, holds)?)?;
                }
                all
            }
            (Formula::If(then, condition, otherwise), true) => {
                let (unmet, met) = (
                    self.clauses(condition, false)?,
                    self.clauses(condition, true)?,
                );
                let mut all = product(&unmet, &self.clauses(then, true)?)?;
                if let Some(otherwise) = otherwise {
                    all.extend(product(&met, &self.clauses(otherwise, true)?)?);
                }
                all
            }
            (Formula::If(..), false) | (Formula::Beyond(_), _) => return None,
        };
        (clauses.len() <= MOST_CLAUSES).then_some(clauses)
    }

    /// Packages that meet a formula by themselves.
    fn one_package(&self, formula: &Formula) -> Option<Vec<usize>> {
        Some(match formula {
            Formula::Is(relation) => self.preferred(relation),
            Formula::Or(list) => {
                let mut all: Vec<usize> = Vec::new();
                for one in list {
                    all.extend(self.one_package(one)?);
                }
                all
            }
            Formula::With(a, b) | Formula::Without(a, b) => {
                let both = matches!(formula, Formula::With(..));
                let (a, b) = (self.one_package(a)?, self.one_package(b)?);
                a.into_iter()
                    .filter(|number| b.contains(number) == both)
                    .collect()
            }
            _ => return None,
        })
    }

    fn needs(&self, number: usize, package: &Package) -> Vec<ConditionalRequirement> {
        let installed = package.offer.is_none();
        let is_there = |number: &usize| self.universe.packages[*number].offer.is_none();
        let mut needs = Vec::new();
        for formula in &package.requires {
            let label = formula.to_string();
            let Some(clauses) = self.clauses(formula, true) else {
                // What cannot be decided is no reason to doubt what is there; what is offered is not taken.
                if !installed {
                    let label = format!("{label} (which cannot be decided)");
                    needs.push(self.demand(&label, &Clause::default()));
                }
                continue;
            };
            for mut clause in clauses {
                // Alternatives keep their order, but what is there comes first.
                clause.any_of.sort_by_key(|number| !is_there(number));
                let own = clause.any_of.contains(&number);
                let idle = clause.unless.iter().any(Vec::is_empty);
                let met = clause.any_of.iter().any(is_there)
                    || clause
                        .unless
                        .iter()
                        .any(|unless| !unless.iter().any(is_there));
                if !own && !idle && (met || !installed) {
                    needs.push(self.demand(&label, &clause));
                }
            }
        }
        needs
    }

    /// For each name of which some package conflicts: those that do not.
    fn excludes(&self, number: usize, package: &Package) -> Vec<VersionSetId> {
        let universe = self.universe;
        let mut excluded: BTreeMap<u32, (BTreeSet<usize>, String)> = BTreeMap::new();
        let mut exclude = |relation: &Relation, kind: &str, found: Vec<usize>| {
            for other in found {
                // Nothing conflicts with itself, nor with another version of itself.
                if other != number && self.names[other] != self.names[number] {
                    let name = self.names[other].into_raw();
                    let entry = excluded
                        .entry(name)
                        .or_insert_with(|| (BTreeSet::new(), format!("{kind} {relation}")));
                    entry.0.insert(other);
                }
            }
        };
        for relation in &package.conflicts {
            exclude(relation, "other than", universe.matching(relation));
        }
        for relation in &package.obsoletes {
            let found = universe.matching(relation).into_iter().filter(|other| {
                // By the name of a package, not by what it provides.
                let other = &universe.packages[*other];
                let own = Relation::exact(&other.name, &other.version);
                other.name == relation.name && own.satisfies(relation, universe.format)
            });
            exclude(relation, "other than", found.collect());
        }
        let mut made = self.made.borrow_mut();
        let sets = excluded.into_iter().map(|(name, (excluded, label))| {
            let all = self.candidates[name as usize].iter();
            let mut left: Vec<usize> = all.map(|id| id.into_raw() as usize).collect();
            left.retain(|other| !excluded.contains(other));
            left.sort_unstable();
            made.set(NameId::from_raw(name), left, &label)
        });
        sets.collect()
    }
}

impl Made {
    fn name(&mut self, label: &str) -> NameId {
        if let Some(name) = self.name_of.get(label) {
            return *name;
        }
        let name = NameId::from_raw(self.labels.len() as u32);
        self.labels.push(label.to_owned());
        self.name_of.insert(label.to_owned(), name);
        name
    }

    fn set(&mut self, name: NameId, members: Vec<usize>, label: &str) -> VersionSetId {
        let key = (name, members);
        if let Some(set) = self.set_of.get(&key) {
            return *set;
        }
        let set = VersionSetId(self.sets.len() as u32);
        self.sets.push(Set {
            name,
            members: key.1.clone(),
            label: label.to_owned(),
        });
        self.set_of.insert(key, set);
        set
    }

    fn condition(&mut self, condition: Condition) -> ConditionId {
        self.conditions.push(condition);
        ConditionId::new(self.conditions.len() as u32 - 1)
    }
}

/// `a` and `b` must each hold in one of two ways: every pair of a clause of the one and a clause of the other.
fn product(a: &[Clause], b: &[Clause]) -> Option<Vec<Clause>> {
    if a.len() * b.len() > MOST_CLAUSES {
        return None;
    }
    let pairs = a.iter().flat_map(|a| b.iter().map(move |b| (a, b)));
    let joined = pairs.map(|(a, b)| Clause {
        any_of: [a.any_of.as_slice(), &b.any_of].concat(),
        unless: [a.unless.as_slice(), &b.unless].concat(),
    });
    Some(joined.collect())
}

/// What is installed before what is not, what is offered freely before what is not, newer before older, earlier
/// repositories before later ones.
fn better(universe: &Universe, a: usize, b: usize) -> Ordering {
    let (one, other) = (&universe.packages[a], &universe.packages[b]);
    let newer = || crate::version::compare(universe.format, &other.version, &one.version);
    one.offer
        .is_some()
        .cmp(&other.offer.is_some())
        .then(one.reluctant.cmp(&other.reluctant))
        .then_with(newer)
        .then(a.cmp(&b))
}

fn id(number: usize) -> SolvableId {
    SolvableId::from_raw(number as u32)
}

impl Interner for Provider<'_> {
    type NameId = NameId;
    type SolvableId = SolvableId;

    fn display_solvable(&self, solvable: SolvableId) -> impl Display + '_ {
        self.package(solvable).label()
    }

    fn display_merged_solvables(&self, solvables: &[SolvableId]) -> impl Display + '_ {
        let labels: BTreeSet<String> = solvables
            .iter()
            .map(|id| self.package(*id).label())
            .collect();
        labels.into_iter().collect::<Vec<_>>().join(" | ")
    }

    fn display_name(&self, name: NameId) -> impl Display + '_ {
        self.made.borrow().labels[name.into_raw() as usize].clone()
    }

    fn display_version_set(&self, set: VersionSetId) -> impl Display + '_ {
        let made = self.made.borrow();
        let set = &made.sets[set.0 as usize];
        let name = &made.labels[set.name.into_raw() as usize];
        // The solver writes the name before it.
        let rest = set.label.strip_prefix(name.as_str()).map(str::trim);
        rest.map_or_else(|| format!("({})", set.label), str::to_owned)
    }

    fn display_string(&self, _string: StringId) -> impl Display + '_ {
        // No text is handed to the solver.
        ""
    }

    fn version_set_name(&self, set: VersionSetId) -> NameId {
        self.made.borrow().sets[set.0 as usize].name
    }

    fn solvable_name(&self, solvable: SolvableId) -> NameId {
        self.names[solvable.into_raw() as usize]
    }

    fn version_sets_in_union(
        &self,
        union: VersionSetUnionId,
    ) -> impl Iterator<Item = VersionSetId> {
        self.made.borrow().unions[union.0 as usize]
            .clone()
            .into_iter()
    }

    fn resolve_condition(&self, condition: ConditionId) -> Condition {
        self.made.borrow().conditions[condition.as_u32() as usize].clone()
    }
}

impl DependencyProvider for Provider<'_> {
    async fn filter_candidates(
        &self,
        candidates: &[SolvableId],
        set: VersionSetId,
        inverse: bool,
    ) -> Vec<SolvableId> {
        let made = self.made.borrow();
        let members = &made.sets[set.0 as usize].members;
        let is_member = |id: &SolvableId| members.binary_search(&(id.into_raw() as usize)).is_ok();
        candidates
            .iter()
            .copied()
            .filter(|id| is_member(id) != inverse)
            .collect()
    }

    async fn get_candidates(&self, name: NameId) -> Option<Candidates> {
        let candidates = self.candidates.get(name.into_raw() as usize)?;
        let first = self.package(*candidates.first()?);
        Some(Candidates {
            candidates: candidates.clone(),
            hint_dependencies_available: HintDependenciesAvailable::None,
            allow_multiple: first.is_multiple(self.universe.format),
            ..Candidates::default()
        })
    }

    async fn sort_candidates(&self, _: &SolverCache<Self>, solvables: &mut [SolvableId]) {
        solvables
            .sort_by(|a, b| better(self.universe, a.into_raw() as usize, b.into_raw() as usize));
    }

    async fn get_dependencies(&self, solvable: SolvableId) -> Dependencies {
        let (number, package) = (solvable.into_raw() as usize, self.package(solvable));
        Dependencies::Known(KnownDependencies {
            requirements: self.needs(number, package),
            constrains: self.excludes(number, package),
        })
    }
}

/// A need of a real package becomes a few.
const MOST_CLAUSES: usize = 256;
