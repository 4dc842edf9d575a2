//! Facts of accelerators: the PCI bus, `/dev`, version files, the vendor's tool.

use manifest_schema::Arch;
use manifest_schema::chip::{Family, Nodes, Stack, Tool, VersionFile, VersionFormat};
use manifest_schema::site::{Device, DeviceState, Fact, Release, Site, ToolReport, VendorSoftware};

use crate::host::Host;
use crate::system::fact;
use crate::{release, tool};

/// Fills in everything about accelerators. The PCI bus says what is there; the driver's own words only
/// say whether it can be used.
pub(crate) fn fill(host: &dyn Host, site: &mut Site) {
    let functions = pci_functions(host);
    let arch = site.arch.as_ref().map(|arch| arch.value);
    for family in Family::all() {
        let Some(bus) = &family.bus else { continue };
        let mut devices: Vec<Device> = functions
            .iter()
            .filter(|function| bus.claims(&function.vendor, &function.class))
            .map(|function| family.recognise(function.clone()))
            .collect();
        let vendor = software(host, family, arch, !devices.is_empty());
        set_states(&mut devices, family.nodes.as_ref(), &vendor);
        let found_something = vendor.driver.is_some()
            || vendor.toolkit.is_some()
            || vendor.tool.is_some()
            || !vendor.nodes.is_empty();
        if found_something || !devices.is_empty() {
            site.vendors.push(vendor);
        }
        site.devices.append(&mut devices);
    }
}

/// The accelerators on the PCI bus, as the tables know them by their numbers. Nothing but the bus is looked at, and no
/// program is run: whether a driver serves them is another question.
pub fn accelerators(host: &dyn Host) -> Vec<Device> {
    let functions = pci_functions(host);
    let mut found = Vec::new();
    for family in Family::all() {
        let Some(bus) = &family.bus else { continue };
        let own = functions
            .iter()
            .filter(|function| bus.claims(&function.vendor, &function.class));
        found.extend(own.map(|function| family.recognise(function.clone())));
    }
    found
}

fn pci_functions(host: &dyn Host) -> Vec<Device> {
    let mut functions = Vec::new();
    for address in host.list(PCI).unwrap_or_default() {
        let number = |name: &str| {
            let text = host.read(&format!("{PCI}/{address}/{name}")).ok()?;
            Some(text.trim().trim_start_matches("0x").to_lowercase())
        };
        // A device that is being reset may lose its files while we look: skip it.
        let (Some(vendor), Some(device), Some(class)) =
            (number("vendor"), number("device"), number("class"))
        else {
            continue;
        };
        let subsystem = match (number("subsystem_vendor"), number("subsystem_device")) {
            (Some(vendor), Some(device)) => format!("{vendor}:{device}"),
            _ => String::new(),
        };
        functions.push(Device {
            address: address.to_lowercase(),
            vendor,
            device,
            subsystem,
            class,
            family: String::new(),
            chip: None,
            product: None,
            state: DeviceState::UnknownModel,
        });
    }
    functions
}

/// What the family's software left here. Its tool is asked only where a device or a driver is: other programs
/// have the same names.
fn software(host: &dyn Host, family: &Family, arch: Option<Arch>, devices: bool) -> VendorSoftware {
    let mut vendor = VendorSoftware {
        family: family.name.clone(),
        nodes: family
            .nodes
            .as_ref()
            .map(|nodes| nodes_of(host, nodes))
            .unwrap_or_default(),
        ..VendorSoftware::default()
    };
    let Some(stack) = &family.stack else {
        return vendor;
    };
    let fill = filler(host, stack, arch);
    let first = |files: &[VersionFile]| first_version(host, stack, arch, files);
    vendor.driver = first(&stack.driver);
    vendor.firmware = first(&stack.firmware);
    vendor.toolkit = first(&stack.toolkit);
    if let Some(tool) = stack
        .tool
        .as_ref()
        .filter(|_| devices || vendor.driver.is_some())
    {
        vendor.tool = ask_tool(host, tool, &fill);
        let said = vendor.tool.as_ref().and_then(|report| {
            let version = report.value.driver.clone()?;
            let release = Release {
                version,
                ..Release::default()
            };
            fact(Some(release), &report.source)
        });
        vendor.driver = vendor.driver.or(said);
    }
    vendor
}

/// Puts the driver's root and the architecture into a path.
pub(crate) fn filler(
    host: &dyn Host,
    stack: &Stack,
    arch: Option<Arch>,
) -> impl Fn(&str) -> String + use<> {
    let root = root_of(host, stack);
    move |path: &str| {
        path.replace("{root}", &root)
            .replace("{arch}", arch.map_or("unknown", Arch::as_str))
    }
}

/// The version in the first of `files` that is there.
pub(crate) fn first_version(
    host: &dyn Host,
    stack: &Stack,
    arch: Option<Arch>,
    files: &[VersionFile],
) -> Option<Fact<Release>> {
    let fill = filler(host, stack, arch);
    files.iter().find_map(|file| {
        let path = fill(&file.path);
        fact(version_in(&host.read(&path).ok()?, file), &path)
    })
}

fn root_of(host: &dyn Host, stack: &Stack) -> String {
    let Some(root) = &stack.root else {
        return "/".to_owned();
    };
    let said = host
        .read(&root.file)
        .ok()
        .and_then(|text| release::keys(&text).get(&root.key.to_lowercase()).cloned());
    let root = said.unwrap_or_else(|| root.default.clone());
    root.trim_end_matches('/').to_owned()
}

fn version_in(text: &str, file: &VersionFile) -> Option<Release> {
    match file.format {
        VersionFormat::Keys => release::parse(text),
        VersionFormat::Word => {
            let rest = match &file.after {
                Some(after) => text.split_once(after.as_str())?.1,
                None => text,
            };
            // In a document of JSON it stands in quotes, and a comma follows.
            let version = rest
                .split_whitespace()
                .map(|word| word.trim_matches(['"', ',']))
                .find(|word| word.starts_with(|first: char| first.is_ascii_digit()))?;
            Some(Release {
                version: version.to_owned(),
                ..Release::default()
            })
        }
    }
}

fn nodes_of(host: &dyn Host, nodes: &Nodes) -> Vec<String> {
    let numbered = |name: &str| {
        nodes
            .each
            .as_ref()
            .and_then(|each| name.strip_prefix(each.as_str()))
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let mut names = host.list("/dev").unwrap_or_default();
    names.retain(|name| numbered(name) || nodes.shared.contains(name));
    names
}

fn ask_tool(
    host: &dyn Host,
    vendor: &Tool,
    fill: &dyn Fn(&str) -> String,
) -> Option<Fact<ToolReport>> {
    let libraries: Vec<String> = vendor.libraries.iter().map(|path| fill(path)).collect();
    let list: Vec<&str> = vendor.list.iter().map(String::as_str).collect();
    let mut programs = std::iter::once(&vendor.program).chain(&vendor.also);
    let (program, text) = programs.find_map(|program| {
        let text = host.run(program, &list, &libraries).ok()?;
        Some((program.as_str(), text))
    })?;
    let mut report = tool::parse_list(vendor.layout, &text);
    if let Some(first) = report.chips.first().filter(|_| !vendor.board.is_empty()) {
        let board: Vec<String> = vendor
            .board
            .iter()
            .map(|word| word.replace("{id}", &first.board.to_string()))
            .collect();
        let board: Vec<&str> = board.iter().map(String::as_str).collect();
        let text = host.run(program, &board, &libraries);
        report.compatibility = text.ok().and_then(|text| tool::parse_compatibility(&text));
    }
    let words: Vec<&str> = std::iter::once(program).chain(list).collect();
    fact(Some(report), &words.join(" "))
}

fn set_states(devices: &mut [Device], nodes: Option<&Nodes>, vendor: &VendorSoftware) {
    let shared_made = nodes.is_none_or(|nodes| {
        nodes.shared.iter().all(|name| vendor.nodes.contains(name))
            // Without shared nodes the chips' own tell whether a driver serves them.
            && !(nodes.shared.is_empty() && vendor.nodes.is_empty())
    });
    let report = vendor.tool.as_ref().map(|tool| &tool.value);
    for device in devices.iter_mut().filter(|device| device.chip.is_some()) {
        device.state = match report {
            _ if vendor.driver.is_none() && (!shared_made || nodes.is_none()) => {
                DeviceState::DriverMissing
            }
            // Where nobody is sure of the nodes' names, the tool's word counts.
            None if !shared_made => DeviceState::DriverBroken,
            _ if !shared_made && nodes.is_none_or(|nodes| nodes.certain) => {
                DeviceState::DriverBroken
            }
            Some(report) => state_by_tool(report, &device.address),
            None => DeviceState::Ready,
        };
    }
}

/// A list without addresses cannot tell one chip from another: then it speaks for all.
fn state_by_tool(report: &ToolReport, address: &str) -> DeviceState {
    let named = report.chips.iter().any(|chip| chip.bus.is_some());
    let mut chips = report
        .chips
        .iter()
        .filter(|chip| !named || chip.bus.as_deref() == Some(address))
        .peekable();
    if chips.peek().is_none() {
        DeviceState::DriverBroken
    } else if chips.all(|chip| chip.health == "OK") {
        DeviceState::Ready
    } else {
        DeviceState::Unhealthy
    }
}

const PCI: &str = "/sys/bus/pci/devices";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_the_first_number_after_its_words() {
        let file = |after: Option<&str>| VersionFile {
            path: String::new(),
            format: VersionFormat::Word,
            after: after.map(str::to_owned),
        };
        for (text, after, expected) in [
            ("6.3.31-V1.5.0a\n", None, Some("6.3.31-V1.5.0a")),
            (
                "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19\nGCC version: 12",
                Some("Kernel Module"),
                Some("535.104.05"),
            ),
            (
                "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build",
                Some("Kernel Module"),
                Some("580.65.06"),
            ),
            (
                "{\n  \"mcc\": {\n    \"version\": \"9.9\"\n  },\n  \"musa_toolkits\": {\n    \"version\": \"5.2.0\",\n",
                Some("musa_toolkits"),
                Some("5.2.0"),
            ),
            ("MACA:3.3.0.15\n", Some(":"), Some("3.3.0.15")),
            ("nothing", None, None),
            ("1.2", Some("absent"), None),
        ] {
            let found = version_in(text, &file(after)).map(|release| release.version);
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }
}
