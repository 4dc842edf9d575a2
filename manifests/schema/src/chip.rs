//! Chips as data: `manifests/chips/*.toml`, one file for each vendor's family, plus `cpu.toml`.
//!
//! ```text
//! name, title                  the family
//! [bus]                        PCI vendor and class prefixes of its accelerators
//! [nodes]                      what the driver puts under /dev, and who may open it
//! [stack]                      where driver, firmware and toolkit write their versions; the vendor's tool
//! [[stack.driver_for_toolkit]] [[stack.plugin_for_toolkit]]   the vendor's version tables
//! [python]                     what Python environments need that wheels do not say
//! [host] [[host.kinds]]        how the vendor's own installers are run on the machine itself
//! [[chips]]                    how backends call a chip, how people call it, which wins when several fit
//! [[chips.models]]             its PCI device numbers
//! [[processors]]               names of CPUs
//! ```
//!
//! Every row names its source, and says whether it is certain. Another chip is another row or file: no code
//! outside this data knows a vendor's name.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::site::{Device, DeviceState};

mod python;

pub use python::{CpuBuilds, FrameworkPair, Projects, PythonRules, release_of};
mod host;

pub use host::{Account, AskedBy, Builds, HostLayer, Recipe, Removal};

/// One file of `manifests/chips/`: the chips of one vendor that share a driver and a toolkit.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Family {
    /// Stable name, such as `ascend`.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// How its devices look on the PCI bus; a family without is the CPU, which is always there.
    pub bus: Option<Bus>,
    /// What its driver puts under `/dev`, where that is known.
    pub nodes: Option<Nodes>,
    /// The vendor's software.
    pub stack: Option<Stack>,
    /// What its Python environments need that wheels do not say.
    pub python: Option<PythonRules>,
    /// How its installers are run, where that is known.
    pub host: Option<HostLayer>,
    /// Its chips.
    pub chips: Vec<Chip>,
    /// Names of CPUs, by what `/proc/cpuinfo` prints.
    #[serde(default)]
    pub processors: Vec<Processor>,
}

/// One chip: what a backend is built for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chip {
    /// What a backend's `chip` says, such as `ascend-910b`.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// When several backends fit a machine, the highest rank wins.
    pub rank: u32,
    /// Least memory of the host to train at all, in bytes.
    pub least_memory: u64,
    /// Whether one trains on it.
    pub training: Training,
    /// PCI device numbers that are this chip.
    #[serde(default)]
    pub models: Vec<Model>,
}

/// Whether one trains on a chip.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// What the source says.
    pub is: TrainingSupport,
    /// Where this was read.
    pub source: String,
    /// Whether two independent sources agree.
    pub certain: bool,
}

/// What is known of training on a chip.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum TrainingSupport {
    /// Its vendor, or a framework's list of tried chips, names it for training.
    Listed,
    /// People do it; no list was found that names it.
    Unlisted,
    /// Made and listed for inference only.
    InferenceOnly,
}

/// How a family's devices look on the PCI bus. All numbers are lower-case hex without `0x`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bus {
    /// PCI vendor.
    pub vendor: String,
    /// Prefixes of the PCI class that an accelerator has: a vendor also sells network cards.
    pub classes: Vec<String>,
    /// The chip that a model outside the tables is taken for, where one driver serves every model.
    pub any_model: Option<String>,
}

/// One PCI device number.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// PCI device.
    pub device: String,
    /// `vendor:device` of the subsystem; empty means any.
    #[serde(default)]
    pub subsystems: Vec<String>,
    /// What is printed on the box.
    pub product: String,
    /// Where the row was read.
    pub source: String,
    /// Whether two independent sources agree.
    pub certain: bool,
}

/// What a driver puts under `/dev`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nodes {
    /// Prefix of the node of one chip, below `/dev`; the rest of the name is its number. None where all chips
    /// share their nodes.
    pub each: Option<String>,
    /// Nodes that all chips share.
    pub shared: Vec<String>,
    /// Group whose members may open them, where the vendor makes one.
    pub group: Option<String>,
    /// Where this was read.
    pub source: String,
    /// Whether two independent sources agree.
    pub certain: bool,
}

/// Driver, firmware, toolkit and the vendor's tool.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stack {
    /// The file that tells where the driver was installed.
    pub root: Option<RootFile>,
    /// The driver's version files; the first that is there wins. The tool's word counts where none is.
    #[serde(default)]
    pub driver: Vec<VersionFile>,
    /// The firmware's version files.
    #[serde(default)]
    pub firmware: Vec<VersionFile>,
    /// Version files of the toolkit; empty where none is known.
    #[serde(default)]
    pub toolkit: Vec<VersionFile>,
    /// Key of the toolkit in a backend's `versions`.
    pub toolkit_name: String,
    /// File name prefix of the toolkit's installer, when a backend carries one.
    pub toolkit_package: Option<String>,
    /// Key of the framework's adapter in a backend's `versions`, where the framework has one.
    pub plugin_name: Option<String>,
    /// The vendor's tool, where what it prints is known.
    pub tool: Option<Tool>,
    /// Which drivers the vendor lists for a toolkit.
    #[serde(default)]
    pub driver_for_toolkit: Vec<Pairing>,
    /// Which adapters the vendor lists for a toolkit.
    #[serde(default)]
    pub plugin_for_toolkit: Vec<Pairing>,
    /// Where the paths were read.
    pub source: String,
    /// Whether two independent sources agree.
    pub certain: bool,
}

/// A file that tells where a driver was installed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootFile {
    /// The file: `key=value` lines.
    pub file: String,
    /// The key in it.
    pub key: String,
    /// Where the driver is when that file is not there.
    pub default: String,
}

/// A file that holds a version.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionFile {
    /// Its path, `{root}` and `{arch}` filled in.
    pub path: String,
    /// How it is read.
    pub format: VersionFormat,
    /// With [`VersionFormat::Word`]: the text that the version follows.
    pub after: Option<String>,
}

/// How a version file is read.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum VersionFormat {
    /// `key=value` lines with `version`, `innerversion` and `compatible_version…`.
    Keys,
    /// The first word that begins with a digit.
    Word,
}

/// The vendor's tool and how to understand it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// Program name.
    pub program: String,
    /// What else it is called, in other releases.
    #[serde(default)]
    pub also: Vec<String>,
    /// Arguments that list all devices.
    #[serde(default)]
    pub list: Vec<String>,
    /// Arguments that describe one board; `{id}` is its number in the list. Empty where there are none.
    #[serde(default)]
    pub board: Vec<String>,
    /// Which parser understands the list.
    pub layout: ToolLayout,
    /// Folders of shared libraries that the tool needs, `{root}` filled in.
    #[serde(default)]
    pub libraries: Vec<String>,
}

/// A family of texts that vendors' tools print.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum ToolLayout {
    /// A table with two lines for each chip: name and health, then bus and memory.
    TwoLineTable,
    /// A table in the manner of `nvidia-smi`: number, name and bus, then memory.
    SmiTable,
    /// Columns apart by blanks, one line a chip, no bus; or the same as JSON.
    Columns,
}

/// One row of a vendor's version table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pairing {
    /// Leading parts of the toolkit's version.
    pub toolkit: String,
    /// Leading parts of the versions that go with it.
    pub with: Vec<String>,
    /// Where the row was read.
    pub source: String,
    /// Whether two independent sources agree.
    pub certain: bool,
}

/// One CPU by what `/proc/cpuinfo` prints: implementer and part on arm, vendor on x86.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Processor {
    /// `vendor_id` or `CPU implementer`.
    pub vendor: String,
    /// `CPU part`.
    pub part: Option<String>,
    /// What people call it.
    pub name: String,
    /// Where the row was read.
    pub source: String,
    /// Whether two independent sources agree.
    pub certain: bool,
}

impl Family {
    /// Every family this build knows.
    pub fn all() -> &'static [Self] {
        &FAMILIES
    }

    /// The family of a name.
    pub fn named(name: &str) -> Option<&'static Self> {
        FAMILIES.iter().find(|family| family.name == name)
    }

    /// The family that a chip belongs to.
    pub fn of_chip(name: &str) -> Option<&'static Self> {
        let has = |family: &&Self| family.chips.iter().any(|chip| chip.name == name);
        FAMILIES.iter().find(has)
    }

    /// The chip of a PCI device number, and its row. An exact subsystem wins over a row for any: a new board of a
    /// known chip is still that chip.
    pub fn identify(&self, device: &str, subsystem: &str) -> Option<(&Chip, &Model)> {
        let rows = || {
            let rows = self.chips.iter();
            let rows = rows.flat_map(|chip| chip.models.iter().map(move |model| (chip, model)));
            rows.filter(|(_, model)| model.device == device)
        };
        rows()
            .find(|(_, model)| model.subsystems.iter().any(|known| known == subsystem))
            .or_else(|| rows().find(|(_, model)| model.subsystems.is_empty()))
    }
}

impl Family {
    /// A device of this family's bus with what the tables know of its numbers: ready where they name a chip,
    /// until something says otherwise.
    #[must_use]
    pub fn recognise(&self, mut device: Device) -> Device {
        device.family.clone_from(&self.name);
        if let Some((chip, model)) = self.identify(&device.device, &device.subsystem) {
            device.chip = Some(chip.name.clone());
            device.product = Some(model.product.clone());
            device.state = DeviceState::Ready;
        } else if let Some(any) = self.bus.as_ref().and_then(|bus| bus.any_model.as_ref()) {
            device.chip = Some(any.clone());
            device.state = DeviceState::Ready;
        }
        device
    }
}

impl Processor {
    /// The row of a CPU. One with the part wins over one for the whole vendor.
    pub fn named(vendor: &str, part: Option<&str>) -> Option<&'static Self> {
        FAMILIES
            .iter()
            .flat_map(|family| &family.processors)
            .filter(|row| row.vendor == vendor)
            .filter(|row| row.part.is_none() || row.part.as_deref() == part)
            .max_by_key(|row| row.part.is_some())
    }
}

impl Stack {
    /// The rows of the adapters for a toolkit: those that name most parts of its version.
    pub fn plugins_for(&self, toolkit: &str) -> Vec<&Pairing> {
        let toolkit = toolkit.to_ascii_lowercase();
        let named = |row: &&Pairing| {
            let rest = toolkit.strip_prefix(&row.toolkit.to_ascii_lowercase());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let mut rows: Vec<&Pairing> = self.plugin_for_toolkit.iter().filter(named).collect();
        let longest = rows.iter().map(|row| row.toolkit.len()).max();
        rows.retain(|row| Some(row.toolkit.len()) == longest);
        rows
    }
}

impl Chip {
    /// Every chip this build knows.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        FAMILIES.iter().flat_map(|family| &family.chips)
    }

    /// The chip that a backend names.
    pub fn named(name: &str) -> Option<&'static Self> {
        Self::all().find(|chip| chip.name == name)
    }
}

impl Bus {
    /// Whether a device of this vendor and class is an accelerator at all.
    pub fn claims(&self, vendor: &str, class: &str) -> bool {
        self.vendor == vendor && self.classes.iter().any(|prefix| class.starts_with(prefix))
    }
}

static FAMILIES: LazyLock<Vec<Family>> = LazyLock::new(|| {
    FILES
        .iter()
        .map(|(_, text)| toml::from_str(text).expect("a test parses every embedded chip file"))
        .collect()
});

/// Name and text of every file, listed by the build script.
const FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/chips.rs"));

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_file_parses_and_is_named_for_its_family() {
        for (name, text) in FILES {
            let family: Family = toml::from_str(text).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(*name, format!("{}.toml", family.name));
        }
    }

    #[test]
    fn names_are_unique_and_every_row_has_a_source() {
        let mut names = BTreeSet::new();
        for chip in Chip::all() {
            assert!(names.insert(&chip.name), "{} twice", chip.name);
            assert!(!chip.training.source.is_empty(), "{}", chip.name);
            assert!(
                chip.models.iter().all(|model| !model.source.is_empty()),
                "{}",
                chip.name
            );
        }
        for family in Family::all() {
            let any = family.bus.as_ref().and_then(|bus| bus.any_model.as_ref());
            assert!(any.is_none_or(|any| family.chips.iter().any(|chip| chip.name == *any)));
            assert_eq!(family.bus.is_none(), family.name == "cpu");
        }
    }

    #[test]
    fn numbers_are_four_lower_case_digits() {
        let good = |text: &str| {
            let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            text.len() == 4 && text.bytes().all(digit)
        };
        for family in Family::all() {
            let Some(bus) = &family.bus else { continue };
            assert!(good(&bus.vendor), "{}", family.name);
            let mut seen = BTreeSet::new();
            for (chip, model) in family
                .chips
                .iter()
                .flat_map(|c| c.models.iter().map(move |m| (c, m)))
            {
                assert!(good(&model.device), "{}: {}", chip.name, model.device);
                let any = [String::new()];
                let subsystems = if model.subsystems.is_empty() {
                    &any[..]
                } else {
                    &model.subsystems
                };
                for subsystem in subsystems {
                    assert!(
                        seen.insert((&model.device, subsystem.clone())),
                        "{} {} {subsystem} twice",
                        family.name,
                        model.device
                    );
                    let parts = subsystem.split_once(':');
                    assert!(subsystem.is_empty() || parts.is_some_and(|(v, d)| good(v) && good(d)));
                }
            }
        }
    }

    #[test]
    fn a_device_is_known_by_its_numbers() {
        for (family, device, subsystem, expected) in [
            (
                "ascend",
                "d802",
                "19e5:3002",
                Some(("ascend-910b", "Atlas 800I A2")),
            ),
            (
                "ascend",
                "d802",
                "19e5:ffff",
                Some(("ascend-910b", "Atlas A2, board not listed")),
            ),
            (
                "ascend",
                "d801",
                "0200:0100",
                Some((
                    "ascend-910a",
                    "Atlas 300T (A300T-9000), or Atlas 800 or 900 of the first generation",
                )),
            ),
            (
                "ascend",
                "d500",
                "0200:0110",
                Some(("ascend-310p", "Atlas 300I Duo")),
            ),
            (
                "ascend",
                "d803",
                "19e5:0100",
                Some(("ascend-910c", "Atlas 800I A3")),
            ),
            ("ascend", "ffff", "0200:0100", None),
            ("hygon", "6210", "1d94:6210", Some(("hygon-dcu", "K100_AI"))),
            (
                "cambricon",
                "0370",
                "cabc:0001",
                Some(("cambricon-mlu", "MLU370")),
            ),
            (
                "kunlunxin",
                "3684",
                "0002:0001",
                Some(("kunlunxin-xpu", "R200")),
            ),
            (
                "nvidia",
                "1eb8",
                "10de:12a2",
                Some(("nvidia-gpu", "Tesla T4")),
            ),
        ] {
            let found = Family::named(family).unwrap().identify(device, subsystem);
            let found = found.map(|(chip, model)| (chip.name.as_str(), model.product.as_str()));
            assert_eq!(found, expected, "{family} {device} {subsystem}");
        }
        let bus = Family::named("ascend").unwrap().bus.as_ref().unwrap();
        assert!(bus.claims("19e5", "120000"));
        assert!(!bus.claims("19e5", "020000"), "a network card");
    }
}
