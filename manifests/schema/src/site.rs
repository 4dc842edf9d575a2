//! What a probe learned about one machine. `installer probe --json` prints it, `preflight` judges it.
//!
//! Every fact keeps the file or command it came from, so that a person can check it by hand.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Arch, ByteSize, Digest, GlibcVersion, InstalledPackages};

/// A value and where it was read.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Fact<T> {
    /// The value.
    pub value: T,
    /// A path, or a command as typed.
    pub source: String,
}

/// One machine. A fact that could not be learned is absent, never guessed.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Site {
    /// The CPU.
    pub cpu: Option<Fact<Cpu>>,
    /// What the kernel calls the processor, as `uname -m` prints it.
    pub machine: Option<Fact<String>>,
    /// Architecture, where it is one that programs are built for.
    pub arch: Option<Fact<Arch>>,
    /// Operating system.
    pub os: Option<Fact<Os>>,
    /// Kernel release, as `uname -r` prints it.
    pub kernel: Option<Fact<String>>,
    /// glibc of the system.
    pub glibc: Option<Fact<GlibcVersion>>,
    /// Bytes of a memory page.
    pub page_size: Option<Fact<u64>>,
    /// Main memory.
    pub memory: Option<Fact<ByteSize>>,
    /// Version of the system's Python; a backend brings its own.
    pub python: Option<Fact<String>>,
    /// Who runs the probe, and the groups that they are in.
    pub user: Option<Fact<User>>,
    /// `SELinux`: `enforcing`, `permissive` or `disabled`.
    pub selinux: Option<Fact<String>>,
    /// The machine's clock, UTC, to the second.
    pub clock: Option<Fact<String>>,
    /// Where the headers of the running kernel are, which a driver is built against.
    pub kernel_headers: Option<Fact<String>>,
    /// Whether the firmware lets only signed kernel modules load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secure_boot: Option<Fact<bool>>,
    /// The folder for temporary files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temporary: Option<Fact<Temporary>>,
    /// Permission bits that new files do not get, in octal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub umask: Option<Fact<String>>,
    /// The hardware's clock, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware_clock: Option<Fact<u64>>,
    /// TCP ports that somebody listens on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listening: Option<Fact<Vec<u16>>>,
    /// Container engines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub engines: Vec<Engine>,
    /// Programs that installing may need, of those that are there.
    pub programs: Vec<String>,
    /// Accelerators on the PCI bus.
    pub devices: Vec<Device>,
    /// The software of each family of accelerators that is here, in part or whole.
    pub vendors: Vec<VendorSoftware>,
}

/// The folder for temporary files.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Temporary {
    /// Its path.
    pub path: String,
    /// Bytes free there.
    pub free: ByteSize,
    /// Whether programs may run from it.
    pub programs_run: bool,
}

/// A container engine.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Engine {
    /// Its program.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Whether its service is there to be asked.
    pub running: bool,
}

/// What one vendor's software left on the machine.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct VendorSoftware {
    /// The family's name in the chip tables.
    pub family: String,
    /// Names under `/dev` that its driver makes.
    pub nodes: Vec<String>,
    /// The driver.
    pub driver: Option<Fact<Release>>,
    /// The firmware.
    pub firmware: Option<Fact<Release>>,
    /// The toolkit: CANN, DTK and so on.
    pub toolkit: Option<Fact<Release>>,
    /// What the vendor's tool said.
    pub tool: Option<Fact<ToolReport>>,
}

impl Site {
    /// The software of a family, where there is any.
    pub fn vendor(&self, family: &str) -> Option<&VendorSoftware> {
        self.vendors.iter().find(|vendor| vendor.family == family)
    }
}

/// What a machine has already: `installer inventory` writes it, and a bundler packs only the rest.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Inventory {
    /// Version of this format: 1.
    pub format: u32,
    /// The machine.
    pub site: Site,
    /// Its Pythons.
    pub interpreters: Vec<Interpreter>,
    /// Statement digests of the releases that are installed.
    pub releases: Vec<Digest>,
    /// Blobs in the store, each read and found whole.
    pub blobs: Vec<Digest>,
    /// The site's public key in PEM, where the inventory was signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Packages of the operating system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os_packages: Option<InstalledPackages>,
}

/// One Python, by what it says of itself.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Interpreter {
    /// Program name, such as `python3.11`.
    #[serde(default)]
    pub program: String,
    /// Interpreter tag of wheels, such as `cp311`.
    pub interpreter: String,
    /// ABI tag of wheels, such as `cp37m`.
    pub abi: String,
    /// Platform tags of wheels that run here, newest first.
    #[serde(default)]
    pub platforms: Vec<String>,
    /// Its environment for requirement markers (PEP 508).
    pub markers: BTreeMap<String, String>,
}

/// The CPU.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Cpu {
    /// `vendor_id`, or `CPU implementer`.
    pub vendor: String,
    /// `CPU part`, on arm.
    pub part: Option<String>,
    /// Name from the chip tables, or the model name that the kernel prints.
    pub name: Option<String>,
    /// Logical processors.
    pub processors: u32,
}

/// The operating system.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Os {
    /// `ID`.
    pub id: String,
    /// `PRETTY_NAME`, or `NAME`.
    pub name: String,
    /// `VERSION`, or `VERSION_ID`.
    pub version: Option<String>,
    /// Name in the system tables.
    pub table: Option<String>,
    /// Service pack or flavour, from the tables.
    pub edition: Option<String>,
}

/// Who runs the probe.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Names of their groups.
    pub groups: Vec<String>,
}

/// An accelerator on the PCI bus.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Device {
    /// Such as `0000:c1:00.0`.
    pub address: String,
    /// PCI vendor, four hex digits.
    pub vendor: String,
    /// PCI device.
    pub device: String,
    /// `vendor:device` of the subsystem.
    pub subsystem: String,
    /// PCI class, six hex digits.
    pub class: String,
    /// The family's name in the chip tables.
    pub family: String,
    /// The chip, where the number is known to be one.
    pub chip: Option<String>,
    /// The product, where the tables know one.
    pub product: Option<String>,
    /// How far it can be used.
    pub state: DeviceState,
}

/// How far an accelerator can be used.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceState {
    /// The driver runs and reports it healthy, or nothing says otherwise.
    Ready,
    /// The device is there, a driver is not installed.
    DriverMissing,
    /// The driver is installed and does not serve the device.
    DriverBroken,
    /// The driver runs and reports a fault of the device.
    Unhealthy,
    /// A model of a known vendor that no table knows.
    UnknownModel,
}

/// A piece of vendor software, from its own version file.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Release {
    /// What people call it.
    pub version: String,
    /// The vendor's inner version.
    pub inner: Option<String>,
    /// What the file says it works with, by the key: ranges of versions, both ends included.
    pub accepts: BTreeMap<String, Vec<VersionRange>>,
}

/// Versions from `low` to `high`, both included, in the vendor's notation.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct VersionRange {
    /// Oldest.
    pub low: String,
    /// Newest.
    pub high: String,
}

impl VersionRange {
    /// Reads `[one],[low,high],…`; what is not of this form is left out.
    pub fn list(text: &str) -> Vec<Self> {
        text.split('[')
            .skip(1)
            .filter_map(|item| item.split_once(']'))
            .map(|(item, _)| {
                let (low, high) = item.split_once(',').unwrap_or((item, item));
                Self {
                    low: low.trim().to_owned(),
                    high: high.trim().to_owned(),
                }
            })
            .collect()
    }
}

/// What the vendor's tool said.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ToolReport {
    /// Version that the tool prints.
    pub version: Option<String>,
    /// Version of the driver that the tool prints.
    pub driver: Option<String>,
    /// Chips that it lists.
    pub chips: Vec<ToolChip>,
    /// The tool's own word on driver against firmware, such as `OK`.
    pub compatibility: Option<String>,
    /// Its complaint, when it lists nothing.
    pub complaint: Option<String>,
}

/// One chip that the vendor's tool lists.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ToolChip {
    /// Number of the board; neither small nor without gaps.
    pub board: u32,
    /// Number of the chip on it.
    pub chip: u32,
    /// Name that the tool prints; not to be relied on.
    pub name: String,
    /// `OK`, or what is wrong.
    pub health: String,
    /// PCI address, in lower case, where the tool prints it.
    pub bus: Option<String>,
    /// Device memory in use, MiB. Not zero on an idle chip.
    pub memory_used: Option<u64>,
    /// Device memory in all, MiB.
    pub memory_total: Option<u64>,
}
