//! What a bundler needs to know of a machine, in few bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::nodes;
use crate::chip::{Family, Processor};
use crate::os::OsTable;
use crate::site::{
    Cpu, Device, DeviceState, Fact, Os, Release, Site, ToolChip, ToolReport, VendorSoftware,
    VersionRange,
};
use crate::{ByteSize, GlibcVersion};

/// A [`Site`] without sources, addresses, people and times. What the tables tell from numbers is left out too.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Compact {
    /// What `uname -m` prints.
    #[serde(rename = "a", skip_serializing_if = "Option::is_none")]
    machine: Option<String>,
    /// Vendor, part, logical processors, name where no table knows one.
    #[serde(rename = "c", skip_serializing_if = "Option::is_none")]
    cpu: Option<(String, Option<String>, u32, Option<String>)>,
    #[serde(rename = "o", skip_serializing_if = "Option::is_none")]
    os: Option<System>,
    #[serde(rename = "k", skip_serializing_if = "Option::is_none")]
    kernel: Option<String>,
    #[serde(rename = "g", skip_serializing_if = "Option::is_none")]
    glibc: Option<GlibcVersion>,
    #[serde(rename = "p", skip_serializing_if = "Option::is_none")]
    page_size: Option<u64>,
    /// Main memory in KiB.
    #[serde(rename = "m", skip_serializing_if = "Option::is_none")]
    memory: Option<u64>,
    #[serde(rename = "y", skip_serializing_if = "Option::is_none")]
    python: Option<String>,
    #[serde(rename = "d", skip_serializing_if = "Vec::is_empty")]
    devices: Vec<Devices>,
    #[serde(rename = "v", skip_serializing_if = "Vec::is_empty")]
    vendors: Vec<Vendor>,
}

/// The operating system.
#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)]
enum System {
    /// `ID`, name in the tables, edition.
    Known(String, String, Option<String>),
    /// `ID`, name, version, what no table tells, and a nought to tell it from the other.
    Other(String, String, Option<String>, u8),
}

/// How many, PCI vendor, device, subsystem, class, state.
type Devices = (u32, String, String, String, String, DeviceState);

/// One vendor's software.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Vendor {
    #[serde(rename = "f")]
    family: String,
    /// Nodes apart by blanks: `*` for those that all chips share, `davinci0-7` for eight of one kind.
    #[serde(rename = "n", skip_serializing_if = "String::is_empty")]
    nodes: String,
    #[serde(rename = "d", skip_serializing_if = "Option::is_none")]
    driver: Option<Versions>,
    #[serde(rename = "w", skip_serializing_if = "Option::is_none")]
    firmware: Option<Versions>,
    #[serde(rename = "t", skip_serializing_if = "Option::is_none")]
    toolkit: Option<Versions>,
    #[serde(rename = "s", skip_serializing_if = "Option::is_none")]
    tool: Option<Tool>,
}

/// Version, inner version, what it works with: by the end of the key, ranges as the vendor writes them.
type Versions = (String, Option<String>, BTreeMap<String, String>);

/// What the vendor's tool said.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Tool {
    #[serde(rename = "v", skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(rename = "d", skip_serializing_if = "Option::is_none")]
    driver: Option<String>,
    #[serde(rename = "o", skip_serializing_if = "Option::is_none")]
    compatibility: Option<String>,
    #[serde(rename = "x", skip_serializing_if = "Option::is_none")]
    complaint: Option<String>,
    /// How many, name, health, memory in MiB.
    #[serde(rename = "c", skip_serializing_if = "Vec::is_empty")]
    chips: Vec<(u32, String, String, Option<u64>)>,
}

impl Compact {
    pub(super) fn of(site: &Site) -> Self {
        let machine = site.machine.as_ref().map(|fact| fact.value.clone());
        let arch = || site.arch.as_ref().map(|fact| fact.value.to_string());
        Self {
            machine: machine.or_else(arch),
            cpu: value(site.cpu.as_ref()).map(|cpu| {
                let known = Processor::named(&cpu.vendor, cpu.part.as_deref()).is_some();
                let name = cpu.name.filter(|_| !known);
                (cpu.vendor, cpu.part, cpu.processors, name)
            }),
            os: value(site.os.as_ref()).map(System::of),
            kernel: value(site.kernel.as_ref()),
            glibc: value(site.glibc.as_ref()),
            page_size: value(site.page_size.as_ref()),
            memory: site.memory.as_ref().map(|fact| fact.value.0 / 1024),
            python: value(site.python.as_ref()),
            devices: counted(site.devices.iter().map(numbers))
                .map(|(count, (vendor, number, subsystem, class, state))| {
                    (count, vendor, number, subsystem, class, state)
                })
                .collect(),
            vendors: site.vendors.iter().map(Vendor::of).collect(),
        }
    }

    /// The site again; the text says what cannot be.
    pub(super) fn into_site(self) -> Result<Site, String> {
        let mut devices = Vec::new();
        for (count, vendor, device, subsystem, class, state) in self.devices {
            let mut one = Device {
                address: String::new(),
                vendor,
                device,
                subsystem,
                class,
                family: String::new(),
                chip: None,
                product: None,
                state,
            };
            let claims = |family: &&Family| {
                let bus = family.bus.as_ref();
                bus.is_some_and(|bus| bus.claims(&one.vendor, &one.class))
            };
            if let Some(family) = Family::all().iter().find(claims) {
                one = family.recognise(one);
                // What the driver made of it was seen there; what it is called, these tables know as well.
                one.state = state;
            }
            repeat(&mut devices, count, |_| one.clone())?;
        }
        let vendors = self.vendors.into_iter().map(Vendor::into_software);
        Ok(Site {
            arch: fact(self.machine.as_ref().and_then(|name| name.parse().ok())),
            machine: fact(self.machine),
            cpu: fact(self.cpu.map(|(vendor, part, processors, name)| {
                let known = Processor::named(&vendor, part.as_deref());
                let name = name.or_else(|| known.map(|row| row.name.clone()));
                Cpu {
                    vendor,
                    part,
                    name,
                    processors,
                }
            })),
            os: fact(self.os.map(System::into_os)),
            kernel: fact(self.kernel),
            glibc: fact(self.glibc),
            page_size: fact(self.page_size),
            memory: fact(self.memory.map(|kib| ByteSize(kib.saturating_mul(1024)))),
            python: fact(self.python),
            devices,
            vendors: vendors.collect::<Result<_, _>>()?,
            ..Site::default()
        })
    }
}

impl System {
    fn of(os: Os) -> Self {
        match os.table {
            Some(table) => Self::Known(os.id, table, os.edition),
            None => Self::Other(os.id, os.name, os.version, 0),
        }
    }

    /// A system of the tables is called there by the name that people use.
    fn into_os(self) -> Os {
        match self {
            Self::Known(id, table, edition) => Os {
                id,
                name: OsTable::named(&table)
                    .map_or_else(|| table.clone(), |known| known.title.clone()),
                version: None,
                table: Some(table),
                edition,
            },
            Self::Other(id, name, version, _) => Os {
                id,
                name,
                version,
                table: None,
                edition: None,
            },
        }
    }
}

impl Vendor {
    fn of(vendor: &VendorSoftware) -> Self {
        Self {
            family: vendor.family.clone(),
            nodes: nodes::short(&vendor.family, &vendor.nodes),
            driver: vendor.driver.as_ref().map(versions),
            firmware: vendor.firmware.as_ref().map(versions),
            toolkit: vendor.toolkit.as_ref().map(versions),
            tool: value(vendor.tool.as_ref()).map(|tool| Tool {
                version: tool.version,
                driver: tool.driver,
                compatibility: tool.compatibility,
                complaint: tool.complaint,
                chips: counted(
                    tool.chips
                        .into_iter()
                        .map(|chip| (chip.name, chip.health, chip.memory_total)),
                )
                .map(|(count, (name, health, memory))| (count, name, health, memory))
                .collect(),
            }),
        }
    }

    fn into_software(self) -> Result<VendorSoftware, String> {
        let tool = match self.tool {
            None => None,
            Some(tool) => {
                let mut chips = Vec::new();
                for (count, name, health, memory) in tool.chips {
                    repeat(&mut chips, count, |board| ToolChip {
                        board,
                        chip: 0,
                        name: name.clone(),
                        health: health.clone(),
                        bus: None,
                        memory_used: None,
                        memory_total: memory,
                    })?;
                }
                Some(ToolReport {
                    version: tool.version,
                    driver: tool.driver,
                    chips,
                    compatibility: tool.compatibility,
                    complaint: tool.complaint,
                })
            }
        };
        Ok(VendorSoftware {
            nodes: nodes::long(&self.family, &self.nodes)?,
            family: self.family,
            driver: fact(self.driver.map(release)),
            firmware: fact(self.firmware.map(release)),
            toolkit: fact(self.toolkit.map(release)),
            tool: fact(tool),
        })
    }
}

/// All that tells one model from another, and its state.
fn numbers(device: &Device) -> (String, String, String, String, DeviceState) {
    (
        device.vendor.clone(),
        device.device.clone(),
        device.subsystem.clone(),
        device.class.clone(),
        device.state,
    )
}

fn versions(fact: &Fact<Release>) -> Versions {
    let release = &fact.value;
    let text = |ranges: &Vec<VersionRange>| {
        let range = |range: &VersionRange| match range {
            VersionRange { low, high } if low == high => format!("[{low}]"),
            VersionRange { low, high } => format!("[{low},{high}]"),
        };
        ranges.iter().map(range).collect()
    };
    let short = |key: &String| key.strip_prefix(KEY).unwrap_or(key).to_owned();
    let accepts = release.accepts.iter();
    let accepts = accepts.map(|(key, ranges)| (short(key), text(ranges)));
    (
        release.version.clone(),
        release.inner.clone(),
        accepts.collect(),
    )
}

fn release((version, inner, accepts): Versions) -> Release {
    let accepts = accepts.into_iter();
    let accepts = accepts.map(|(key, text)| (format!("{KEY}{key}"), VersionRange::list(&text)));
    Release {
        version,
        inner,
        accepts: accepts.collect(),
    }
}

/// Equal values once, with their number, in the order of the first of each.
fn counted<T: PartialEq>(values: impl Iterator<Item = T>) -> impl Iterator<Item = (u32, T)> {
    let mut counted: Vec<(u32, T)> = Vec::new();
    for value in values {
        match counted.iter_mut().find(|(_, known)| *known == value) {
            Some((count, _)) => *count += 1,
            None => counted.push((1, value)),
        }
    }
    counted.into_iter()
}

/// Adds `count` values; a number that no machine reaches is refused.
fn repeat<T>(into: &mut Vec<T>, count: u32, make: impl Fn(u32) -> T) -> Result<(), String> {
    let all = into.len() as u64 + u64::from(count);
    if all > MOST {
        return Err(format!("{all} devices, at most {MOST}"));
    }
    into.extend((0..count).map(make));
    Ok(())
}

fn value<T: Clone>(fact: Option<&Fact<T>>) -> Option<T> {
    fact.map(|fact| fact.value.clone())
}

fn fact<T>(value: Option<T>) -> Option<Fact<T>> {
    value.map(|value| Fact {
        value,
        source: SOURCE.to_owned(),
    })
}

/// What every key of a list of versions begins with.
const KEY: &str = "compatible_version";
/// Where a fact was read, as far as the receiver knows.
const SOURCE: &str = "site code";
/// More accelerators than any machine has.
const MOST: u64 = 1024;
