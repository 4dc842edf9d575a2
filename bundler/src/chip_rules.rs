//! What the table of a backend's chip says about its Python environment: data from `manifests/chips`, applied.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use bundle_mirror::{MirrorError, Pin, Requirements, normalized, refuse};
use console::View;
use manifest_schema::chip::{Family, FrameworkPair, Pairing, PythonRules, Stack, release_of};
use manifest_schema::plan::{PlanBackend, PlanPython};
use report::{Args, Diagnose, Outcome};
use serde_json::{Value, json};

/// The rules of a chip, for one backend.
pub(crate) struct ChipRules<'a> {
    backend: &'a PlanBackend,
    python: &'a PlanPython,
    family: &'static Family,
    rules: &'static PythonRules,
}

/// A rule of the chip's table does not hold.
#[derive(Debug, thiserror::Error)]
#[error("backend `{backend}`: the table of {chip} does not list {rule}; {instead}")]
pub(crate) struct RuleBroken {
    /// The backend.
    backend: String,
    /// The family of its chip.
    chip: String,
    /// What is not listed; also the words that override it.
    rule: String,
    /// What is listed, or why not.
    instead: String,
}

/// Something that a person should know about a backend's environment.
pub(crate) struct Note {
    pub(crate) code: &'static str,
    pub(crate) args: Vec<(&'static str, String)>,
}

impl<'a> ChipRules<'a> {
    /// The rules for a backend with a Python environment, where its chip's family has some.
    pub(crate) fn of(backend: &'a PlanBackend) -> Option<Self> {
        let family = Family::of_chip(&backend.chip)?;
        Some(Self {
            backend,
            python: backend.python.as_ref()?,
            family,
            rules: family.python.as_ref()?,
        })
    }

    /// Adds what the chip needs to a wish. `there` are projects that come from elsewhere.
    pub(crate) fn add_to(
        &self,
        wish: &mut Requirements,
        there: &BTreeSet<String>,
    ) -> Result<(), RuleBroken> {
        let Some(plugin) = &self.rules.plugin else {
            return Ok(());
        };
        let named: BTreeSet<String> = wish.wanted.iter().map(|line| project_of(line)).collect();
        if !named.contains(plugin) && !there.contains(plugin) {
            return Ok(());
        }
        for row in &self.rules.missing {
            let unnamed = row.projects.iter().filter(|p| !named.contains(*p));
            wish.wanted.extend(unnamed.cloned());
        }
        let Some(version) = self.plugin_version(wish) else {
            return Ok(());
        };
        wish.constraints.push(format!("{plugin}=={version}"));
        if let Some(pair) = self.pair(&version)? {
            let framework = &pair.framework;
            let companions = self.rules.companions.iter().flat_map(|row| &row.projects);
            for project in std::iter::once(&self.rules.framework).chain(companions) {
                wish.constraints.push(format!("{project}=={framework}"));
            }
        }
        Ok(())
    }

    /// Checks what came out against the table. Returns what is worth a word.
    pub(crate) fn check(&self, pins: &[Pin]) -> Result<Vec<Note>, RuleBroken> {
        for row in &self.rules.forbid {
            for pattern in &row.projects {
                let patterns = std::slice::from_ref(pattern);
                if let Err(MirrorError::Forbidden { project, .. }) = refuse(pins, patterns) {
                    self.broken(format!("{project} ({pattern})"), &row.source)?;
                }
            }
        }
        let version_of = |project: &str| {
            let mut pins = pins.iter();
            let pin = pins.find(|pin| normalized(&pin.project) == project)?;
            Some(pin.version.as_str())
        };
        let (Some(plugin), Some(framework)) =
            (&self.rules.plugin, version_of(&self.rules.framework))
        else {
            return Ok(Vec::new());
        };
        let name = &self.rules.framework;
        let Some(version) = version_of(plugin) else {
            if self
                .plugin_key()
                .is_some_and(|key| self.backend.versions.contains_key(key))
            {
                let rule = format!("{name} without {plugin}");
                self.broken(rule, &format!("add {plugin} to the requirements"))?;
            }
            return Ok(Vec::new());
        };
        let mut notes = Vec::new();
        if let Some(pair) = self.pair(version)? {
            let with = format!("with {plugin} {version}");
            if release_of(framework) != pair.framework {
                let listed = format!("{name} {}", pair.framework);
                self.broken(format!("{name} {framework} {with}"), &listed)?;
            }
            if !pair.python.is_empty() && !pair.python.contains(&self.python.version) {
                let rule = format!("Python {} {with}", self.python.version);
                self.broken(rule, &pair.python.join(", "))?;
            }
            notes.extend(self.unsure(
                &format!("{name} {framework} {with}"),
                pair.certain,
                &pair.source,
            ));
        }
        notes.extend(self.toolkit(plugin, version)?);
        Ok(notes)
    }

    /// What `plan` prints of the rules that apply.
    pub(crate) fn lines(&self, pins: &[String], view: &View) -> (String, Value) {
        let mut text = String::new();
        let version_of = |project: &str| {
            let mut pins = pins.iter().filter_map(|pin| pin.split_once("=="));
            pins.find(|(name, _)| normalized(name) == project)
                .map(|(_, version)| version.to_owned())
        };
        let plugin = self.rules.plugin.as_deref();
        let version = plugin.and_then(version_of);
        let pair = version
            .as_ref()
            .and_then(|version| self.rules.pair_of(version));
        let mut said = json!({ "backend": self.backend.name, "chip": self.family.name });
        if let (Some(plugin), Some(version), Some(pair)) = (plugin, &version, pair) {
            let args = [
                ("plugin", format!("{plugin} {version}")),
                (
                    "framework",
                    format!("{} {}", self.rules.framework, pair.framework),
                ),
                ("python", pair.python.join(", ")),
                ("source", pair.source.clone()),
            ];
            let _ = writeln!(text, "  {}", view.text("bundler.chip-pair", &args));
            said["plugin"] = json!({ "project": plugin, "version": version });
            said["framework"] = json!({ "project": self.rules.framework, "version": pair.framework,
                "source": pair.source, "certain": pair.certain });
        }
        for (key, code, rows) in [
            ("adds", "bundler.chip-adds", &self.rules.missing),
            ("forbids", "bundler.chip-forbids", &self.rules.forbid),
        ] {
            let names: Vec<&str> = rows
                .iter()
                .flat_map(|row| &row.projects)
                .map(String::as_str)
                .collect();
            if names.is_empty() || (key == "adds" && version.is_none()) {
                continue;
            }
            let args = [("projects", names.join(", "))];
            let _ = writeln!(text, "  {}", view.text(code, &args));
            said[key] = json!(names);
        }
        (text, said)
    }

    /// The row of an adapter's version.
    fn pair(&self, version: &str) -> Result<Option<&'static FrameworkPair>, RuleBroken> {
        let pair = self.rules.pair_of(version);
        if pair.is_none() && !self.rules.pairs.is_empty() {
            let plugin = self.rules.plugin.as_deref().unwrap_or_default();
            let listed: Vec<&str> = self.rules.pairs.iter().map(|p| &*p.plugin).collect();
            self.broken(format!("{plugin} {version}"), &listed.join(", "))?;
        }
        Ok(pair)
    }

    /// Whether the vendor lists the adapter for the toolkit that the backend names.
    fn toolkit(&self, plugin: &str, version: &str) -> Result<Option<Note>, RuleBroken> {
        let Some(stack) = &self.family.stack else {
            return Ok(None);
        };
        let Some(toolkit) = self.backend.versions.get(&stack.toolkit_name) else {
            return Ok(None);
        };
        let rows = stack.plugins_for(toolkit);
        if stack.plugin_for_toolkit.is_empty() {
            return Ok(None);
        }
        let rule = format!("{plugin} {version} with {} {toolkit}", stack.toolkit_name);
        let lists = |row: &&&Pairing| row.with.iter().any(|listed| listed == version);
        if let Some(row) = rows.iter().find(lists) {
            return Ok(self.unsure(&rule, row.certain, &row.source));
        }
        let listed: Vec<&str> = rows
            .iter()
            .flat_map(|row| &row.with)
            .map(String::as_str)
            .collect();
        let instead = if listed.is_empty() {
            toolkits(stack, version)
        } else {
            listed.join(", ")
        };
        self.broken(rule, &instead)?;
        Ok(None)
    }

    /// Fails, unless the plan overrides exactly this.
    fn broken(&self, rule: String, instead: &str) -> Result<(), RuleBroken> {
        if self.python.override_rules.contains(&rule) {
            return Ok(());
        }
        Err(RuleBroken {
            backend: self.backend.name.to_string(),
            chip: self.family.title.clone(),
            rule,
            instead: instead.to_owned(),
        })
    }

    fn unsure(&self, rule: &str, certain: bool, source: &str) -> Option<Note> {
        (!certain).then(|| Note {
            code: "bundler.chip-unsure",
            args: vec![
                ("backend", self.backend.name.to_string()),
                ("rule", rule.to_owned()),
                ("source", source.to_owned()),
            ],
        })
    }

    /// The adapter's version: the backend's, else the one that a requirement pins.
    fn plugin_version(&self, wish: &Requirements) -> Option<String> {
        let key = self.plugin_key();
        if let Some(version) = key.and_then(|key| self.backend.versions.get(key)) {
            return Some(version.clone());
        }
        let plugin = self.rules.plugin.as_ref()?;
        wish.pinned(plugin)
    }

    /// What the backend's `versions` call the adapter.
    fn plugin_key(&self) -> Option<&'static String> {
        self.family.stack.as_ref()?.plugin_name.as_ref()
    }
}

/// The toolkits that an adapter's version is listed for.
fn toolkits(stack: &Stack, version: &str) -> String {
    let rows = stack.plugin_for_toolkit.iter();
    let rows = rows.filter(|row| row.with.iter().any(|listed| listed == version));
    let names: Vec<String> = rows
        .map(|row| format!("{} {}", stack.toolkit_name, row.toolkit))
        .collect();
    names.join(", ")
}

/// The project that a requirement names.
pub(crate) fn project_of(requirement: &str) -> String {
    let end = requirement.find(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c));
    normalized(&requirement[..end.unwrap_or(requirement.len())])
}

impl Diagnose for RuleBroken {
    fn code(&self) -> &'static str {
        "bundler.chip-rule"
    }

    fn args(&self) -> Args {
        vec![
            ("backend", self.backend.clone()),
            ("chip", self.chip.clone()),
            ("rule", self.rule.clone()),
            ("instead", self.instead.clone()),
        ]
    }

    fn outcome(&self) -> Outcome {
        Outcome::Usage
    }
}
