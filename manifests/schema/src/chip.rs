//! Chips as data: `manifests/chips/*.toml`, one file for each accelerator, plus `cpu.toml`.
//!
//! ```text
//! name, title, rank            how backends call it, how people call it, which wins when several fit
//! [devices]                    PCI vendor, class prefixes, the models that are this chip and those that are not
//! [nodes]                      what the driver puts under /dev, and who may open it
//! [stack]                      where driver, firmware and toolkit write their versions; the vendor's tool
//! [[stack.driver_for_toolkit]] [[stack.plugin_for_toolkit]]   the vendor's version tables
//! [[processors]]               names of CPUs
//! ```
//!
//! Every row names its source, and says whether it is certain. Another chip is another file: no code
//! outside this data knows a vendor's name.

use std::sync::LazyLock;

use serde::Deserialize;

/// One file of `manifests/chips/`.
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
    /// How its devices look on the PCI bus; a chip without is the CPU, which is always there.
    pub devices: Option<Devices>,
    /// What its driver puts under `/dev`.
    pub nodes: Option<Nodes>,
    /// The vendor's software under it.
    pub stack: Option<Stack>,
    /// Names of CPUs, by what `/proc/cpuinfo` prints.
    #[serde(default)]
    pub processors: Vec<Processor>,
}

/// How a chip's devices look on the PCI bus. All numbers are lower-case hex without `0x`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Devices {
    /// PCI vendor.
    pub vendor: String,
    /// Prefixes of the PCI class that an accelerator has: a vendor also sells network cards.
    pub classes: Vec<String>,
    /// Models that are this chip.
    pub models: Vec<Model>,
    /// Models of the vendor that are known to be another chip.
    #[serde(default)]
    pub others: Vec<Model>,
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
    /// Prefix of the node of one chip; the rest of the name is its number.
    pub each: String,
    /// Nodes that all chips share.
    pub shared: Vec<String>,
    /// Group whose members may open them.
    pub group: String,
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
    pub root_file: String,
    /// The key in it.
    pub root_key: String,
    /// Where the driver is when that file is not there.
    pub root_default: String,
    /// The driver's version file, `{root}` filled in.
    pub driver: String,
    /// The firmware's version file, `{root}` filled in.
    pub firmware: String,
    /// Version files of the toolkit, `{root}` and `{arch}` filled in; the first that exists wins.
    pub toolkit: Vec<String>,
    /// Key of the toolkit in a backend's `versions`.
    pub toolkit_name: String,
    /// File name prefix of the toolkit's installer, when a backend carries one.
    pub toolkit_package: String,
    /// Key of the framework's adapter in a backend's `versions`.
    pub plugin_name: String,
    /// The vendor's tool.
    pub tool: Tool,
    /// Which drivers the vendor lists for a toolkit.
    pub driver_for_toolkit: Vec<Pairing>,
    /// Which adapters the vendor lists for a toolkit.
    pub plugin_for_toolkit: Vec<Pairing>,
}

/// The vendor's tool and how to understand it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// Program name.
    pub program: String,
    /// Arguments that list all devices.
    pub list: Vec<String>,
    /// Arguments that describe one board; `{id}` is its number in the list.
    pub board: Vec<String>,
    /// Which parser understands the list.
    pub layout: ToolLayout,
    /// Folders of shared libraries that the tool needs, `{root}` filled in.
    pub libraries: Vec<String>,
}

/// A family of texts that vendors' tools print.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum ToolLayout {
    /// A table with two lines for each chip: name and health, then bus and memory.
    TwoLineTable,
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

impl Chip {
    /// Every chip this build knows.
    pub fn all() -> &'static [Chip] {
        &CHIPS
    }

    /// The chip that a backend names.
    pub fn named(name: &str) -> Option<&'static Chip> {
        CHIPS.iter().find(|chip| chip.name == name)
    }
}

impl Devices {
    /// Whether a device of this vendor and class is an accelerator at all.
    pub fn claims(&self, vendor: &str, class: &str) -> bool {
        self.vendor == vendor && self.classes.iter().any(|prefix| class.starts_with(prefix))
    }

    /// The row of a device that is this chip.
    pub fn model(&self, device: &str, subsystem: &str) -> Option<&Model> {
        find_model(&self.models, device, subsystem)
    }

    /// The row of a device that is known to be another chip.
    pub fn other(&self, device: &str, subsystem: &str) -> Option<&Model> {
        find_model(&self.others, device, subsystem)
    }
}

/// An exact subsystem wins over a row for any. A new board of a known chip is still that chip.
fn find_model<'a>(models: &'a [Model], device: &str, subsystem: &str) -> Option<&'a Model> {
    let same = || models.iter().filter(|model| model.device == device);
    same()
        .find(|model| model.subsystems.iter().any(|known| known == subsystem))
        .or_else(|| same().find(|model| model.subsystems.is_empty()))
}

static CHIPS: LazyLock<Vec<Chip>> = LazyLock::new(|| {
    FILES
        .iter()
        .map(|text| toml::from_str(text).expect("a test parses every embedded chip file"))
        .collect()
});

const FILES: [&str; 2] = [
    include_str!("../../chips/cpu.toml"),
    include_str!("../../chips/ascend-910b.toml"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_embedded_and_parses() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../chips");
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), FILES.len());
        for text in FILES {
            toml::from_str::<Chip>(text).unwrap();
        }
        assert_eq!(Chip::all().len(), FILES.len());
    }

    #[test]
    fn subsystems_choose_between_models_of_one_device() {
        let devices = Chip::named("ascend-910b")
            .unwrap()
            .devices
            .as_ref()
            .unwrap();
        for (device, subsystem, product) in [
            ("d802", "19e5:3002", Some("Atlas 800I A2")),
            ("d802", "19e5:4000", Some("Atlas 300I A2")),
            ("d802", "19e5:ffff", Some("Atlas A2, board not listed")),
            ("d801", "0200:0100", None),
            ("ffff", "0200:0100", None),
        ] {
            let found = devices.model(device, subsystem);
            assert_eq!(
                found.map(|model| model.product.as_str()),
                product,
                "{device} {subsystem}"
            );
        }
        assert!(devices.other("d801", "0200:0100").is_some());
        assert!(devices.claims("19e5", "120000"));
        assert!(!devices.claims("19e5", "020000"), "a network card");
    }
}
