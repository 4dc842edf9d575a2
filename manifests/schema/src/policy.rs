//! What the runtime does on a chip: `manifests/policies/*.toml`, one file for each family that it computes on.
//!
//! ```text
//! name, device        the family of `manifests/chips/`; what jobs and `--device` call its devices
//! [library]           the vendor's library, loaded while the program runs
//! [collective]        who adds numbers up over several devices
//! [python]            what a Python that drives LLaMA-Factory there must have, and how it is told which devices it may use
//! [[environment]]     variables that are set where nobody has set them
//! [[preload]]         libraries that must be loaded before every other
//! [[rules]]           what of a job is refused, replaced or left out there
//! ```
//!
//! Every row names its source, and says whether it is certain. A row that is not certain is told and changes nothing.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Arch;

/// One file of `manifests/policies/`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The family's name in the chip tables.
    pub name: String,
    /// What jobs and `--device` call its devices, such as `npu`.
    pub device: String,
    /// The vendor's library; none for the processor, which needs none.
    pub library: Option<DeviceLibrary>,
    /// What adds numbers up over several devices.
    pub collective: Option<Collective>,
    /// What Python needs there.
    pub python: Option<DevicePython>,
    /// Variables that are set where nobody has set them.
    #[serde(default)]
    pub environment: Vec<Variable>,
    /// Libraries that must be loaded before every other.
    #[serde(default)]
    pub preload: Vec<Preload>,
    /// What of a job is refused, replaced or left out.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// A library that teaches libtorch a device as it is loaded.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceLibrary {
    /// File name.
    pub file: String,
    /// Libraries to load before it where they lie beside it; file names.
    #[serde(default)]
    pub first: Vec<String>,
    /// What it registers: `cuda`, or a name of its own.
    pub registers: String,
    /// Where this was read.
    pub source: String,
    /// Whether two independent sources agree.
    pub certain: bool,
}

/// What adds numbers up over several devices.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Collective {
    /// The vendor's name for it, such as `hccl`.
    pub name: String,
    /// File name of the library that makes it one of libtorch's.
    pub bridge: String,
    /// Where this was read.
    pub source: String,
    /// Whether two independent sources agree.
    pub certain: bool,
}

/// What a Python that computes on the family's devices must have.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DevicePython {
    /// The package that teaches torch the device; none: the vendor's torch itself does.
    pub package: Option<String>,
    /// The variable that lists the devices that a program may use, numbers between commas.
    pub visible: String,
    /// Where this was read.
    pub source: String,
    /// Whether two independent sources agree.
    pub certain: bool,
}

/// An environment variable.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Why, as a message says it.
    pub because: String,
    /// Where this was read.
    pub source: String,
    /// Whether two independent sources agree.
    pub certain: bool,
}

/// A library that must be loaded before every other, because it takes room that only the first ones get.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Preload {
    /// Only on this architecture.
    pub arch: Option<Arch>,
    /// Start of its file name; the first file beside the program's own libraries that starts so is meant.
    pub starts: String,
    /// Why, as a message says it.
    pub because: String,
    /// Where this was read.
    pub source: String,
    /// Whether two independent sources agree.
    pub certain: bool,
}

/// What becomes of a key of a job.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Only on these chips of the family; empty: on all.
    #[serde(default)]
    pub chips: Vec<String>,
    /// Only on devices with these PCI numbers; empty: on all.
    #[serde(default)]
    pub models: Vec<String>,
    /// The key.
    pub key: String,
    /// Only with these values; empty: whenever the key is on.
    #[serde(default)]
    pub values: Vec<String>,
    /// What is done.
    pub then: Then,
    /// Why, as a message says it.
    pub because: String,
    /// Where this was read.
    pub source: String,
    /// Whether two independent sources agree.
    pub certain: bool,
}

/// What is done about a key of a job.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// The job is refused.
    Refuse,
    /// The job runs with these settings instead, each `key=value`.
    Replace(Vec<String>),
    /// The key asks for a package of the original's; here nothing depends on it.
    LeaveOut,
}

impl Policy {
    /// Every policy that this build knows.
    pub fn all() -> &'static [Self] {
        &POLICIES
    }

    /// The policy of a family.
    pub fn of_family(name: &str) -> Option<&'static Self> {
        POLICIES.iter().find(|policy| policy.name == name)
    }

    /// The policy of what `--device` calls so.
    pub fn of_device(device: &str) -> Option<&'static Self> {
        POLICIES.iter().find(|policy| policy.device == device)
    }
}

impl Rule {
    /// Whether it is about a chip with this name and PCI number; what is not known matches only rules for all.
    pub fn is_for(&self, chip: Option<&str>, model: Option<&str>) -> bool {
        let within = |list: &[String], name: Option<&str>| {
            list.is_empty() || name.is_some_and(|name| list.iter().any(|one| one == name))
        };
        within(&self.chips, chip) && within(&self.models, model)
    }
}

static POLICIES: LazyLock<Vec<Policy>> = LazyLock::new(|| {
    FILES
        .iter()
        .map(|(_, text)| toml::from_str(text).expect("a test parses every embedded policy"))
        .collect()
});

/// Name and text of every file, listed by the build script.
const FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/policies.rs"));

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::chip::{Chip, Family};

    #[test]
    fn every_file_parses_and_is_named_for_its_family() {
        let mut devices = BTreeSet::new();
        for (name, text) in FILES {
            let policy: Policy = toml::from_str(text).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(*name, format!("{}.toml", policy.name));
            let family = Family::named(&policy.name).unwrap();
            assert_eq!(family.bus.is_none(), policy.library.is_none(), "{name}");
            assert!(devices.insert(policy.device.clone()), "{name}");
            for rule in &policy.rules {
                for chip in &rule.chips {
                    let of = Family::of_chip(chip).map(|family| family.name.as_str());
                    assert_eq!(of, Some(policy.name.as_str()), "{name}: {chip}");
                }
                for model in &rule.models {
                    let mut chips = family.chips.iter().flat_map(|chip| &chip.models);
                    assert!(chips.any(|one| one.device == *model), "{name}: {model}");
                }
                let key_value = |text: &String| text.split_once('=').is_some();
                assert!(!matches!(&rule.then, Then::Replace(with) if !with.iter().all(key_value)));
            }
        }
        assert!(Policy::of_family("cpu").is_some() && Chip::named("cpu").is_some());
    }

    #[test]
    fn every_row_has_a_source_and_its_reason_in_chinese() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../installer/console/catalog/zh/phrases.toml"
        );
        let phrases: toml::Table = toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        for policy in Policy::all() {
            let variables = policy.environment.iter().map(|v| (&v.because, &v.source));
            let preloads = policy.preload.iter().map(|p| (&p.because, &p.source));
            let rules = policy.rules.iter().map(|r| (&r.because, &r.source));
            for (because, source) in variables.chain(preloads).chain(rules) {
                assert!(!source.is_empty(), "{because}");
                assert!(
                    phrases.contains_key(&format!("value.{because}")),
                    "{because}"
                );
            }
        }
    }

    #[test]
    fn a_rule_for_some_chips_needs_to_know_the_chip() {
        let rule = |chips: &[&str], models: &[&str]| Rule {
            chips: chips.iter().map(ToString::to_string).collect(),
            models: models.iter().map(ToString::to_string).collect(),
            key: "bf16".to_owned(),
            values: Vec::new(),
            then: Then::Refuse,
            because: String::new(),
            source: String::new(),
            certain: true,
        };
        for (rule, chip, model, expected) in [
            (rule(&[], &[]), None, None, true),
            (rule(&["a"], &[]), Some("a"), None, true),
            (rule(&["a"], &[]), Some("b"), None, false),
            (rule(&["a"], &[]), None, None, false),
            (rule(&[], &["1db5"]), Some("a"), Some("1db5"), true),
            (rule(&[], &["1db5"]), Some("a"), None, false),
        ] {
            assert_eq!(rule.is_for(chip, model), expected, "{chip:?} {model:?}");
        }
    }
}
