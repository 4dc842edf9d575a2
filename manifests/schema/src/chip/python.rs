//! `[python]`: what the Python of a chip needs that its wheels do not say.
//!
//! ```text
//! framework, plugin            projects on a package index: the framework, and its adapter for the chip
//! [[python.missing]]           what the adapter needs and its wheels forget to declare
//! [[python.companions]]        projects of the framework that only work at the framework's own version
//! [[python.forbid]]            what must not come in beside it
//! [[python.pairs]]             which framework and which Pythons go with an adapter
//! ```

use serde::Deserialize;

/// Rules for the Python environments of a family's chips.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PythonRules {
    /// The framework's project.
    pub framework: String,
    /// The project of the framework's adapter, where it has one.
    pub plugin: Option<String>,
    /// What the adapter needs and does not declare.
    #[serde(default)]
    pub missing: Vec<Projects>,
    /// Projects that must have the framework's own version where they come in.
    #[serde(default)]
    pub companions: Vec<Projects>,
    /// Patterns of projects that must not come in.
    #[serde(default)]
    pub forbid: Vec<Projects>,
    /// Below which version the framework's wheels on PyPI are built for the CPU, on aarch64.
    pub cpu_builds: Option<CpuBuilds>,
    /// The vendor's table of versions.
    #[serde(default)]
    pub pairs: Vec<FrameworkPair>,
}

/// Below which version the framework's wheels on PyPI are built for the CPU, on aarch64.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CpuBuilds {
    /// The first version that is built for something else.
    pub below: String,
    /// Where this was read.
    pub source: String,
    /// Whether two independent sources agree.
    pub certain: bool,
}

/// Projects, or patterns of them, and why they are named.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Projects {
    /// Names as a package index spells them.
    pub projects: Vec<String>,
    /// Where this was read.
    pub source: String,
    /// Whether two independent sources agree.
    pub certain: bool,
}

/// Which framework and which Pythons an adapter is built for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrameworkPair {
    /// The adapter's version, without `.postN`, which only says what toolkit it is for.
    pub plugin: String,
    /// The framework's version.
    pub framework: String,
    /// Pythons that it has wheels for.
    pub python: Vec<String>,
    /// Where the row was read.
    pub source: String,
    /// Whether two independent sources agree.
    pub certain: bool,
}

impl PythonRules {
    /// The row of an adapter's version.
    pub fn pair_of(&self, plugin: &str) -> Option<&FrameworkPair> {
        let release = release_of(plugin);
        self.pairs.iter().find(|pair| pair.plugin == release)
    }
}

impl CpuBuilds {
    /// Whether a version is one of them.
    pub fn hold(&self, version: &str) -> bool {
        let numbers = |version: &str| -> Vec<u64> {
            let parts = version.split('.').map(|part| part.parse().unwrap_or(0));
            parts.collect()
        };
        numbers(version) < numbers(&self.below)
    }
}

/// A version without what follows its numbers: `2.7.1` of `2.7.1.post4` and `2.7.1+cpu`.
pub fn release_of(version: &str) -> &str {
    let local = version.split('+').next().unwrap_or(version);
    local.split(".post").next().unwrap_or(local)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chip::Family;

    #[test]
    fn every_row_has_a_source_and_names_as_an_index_spells_them() {
        for family in Family::all() {
            let Some(rules) = &family.python else {
                continue;
            };
            let rows = rules.missing.iter().chain(&rules.companions);
            for row in rows.chain(&rules.forbid) {
                assert!(!row.source.is_empty() && !row.projects.is_empty());
                for project in &row.projects {
                    let plain =
                        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-*".contains(&b);
                    assert!(project.bytes().all(plain), "{}: {project}", family.name);
                }
            }
            let mut plugins: Vec<_> = rules.pairs.iter().map(|pair| &pair.plugin).collect();
            plugins.sort();
            plugins.dedup();
            assert_eq!(plugins.len(), rules.pairs.len(), "{}", family.name);
            assert!(rules.pairs.is_empty() || rules.plugin.is_some());
            assert!(rules.pairs.iter().all(|pair| !pair.source.is_empty()));
        }
    }

    #[test]
    fn every_adapter_that_a_toolkit_lists_has_a_framework() {
        for family in Family::all() {
            let (Some(rules), Some(stack)) = (&family.python, &family.stack) else {
                continue;
            };
            for row in &stack.plugin_for_toolkit {
                for plugin in &row.with {
                    assert!(rules.pair_of(plugin).is_some(), "{plugin}");
                }
            }
        }
    }

    #[test]
    fn an_adapter_is_found_by_its_release() {
        let rules = Family::named("ascend").unwrap().python.as_ref().unwrap();
        assert_eq!(rules.pair_of("2.7.1.post4").unwrap().framework, "2.7.1");
        assert!(rules.pair_of("2.7.10").is_none());
        assert_eq!(release_of("2.7.1.post2+git1"), "2.7.1");
        let cpu = rules.cpu_builds.as_ref().unwrap();
        assert!(cpu.hold("2.7.1") && cpu.hold("2.10.0") && !cpu.hold("2.11.0"));
    }
}
