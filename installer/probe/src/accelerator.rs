//! Facts of accelerators: the PCI bus, `/dev`, version files, the vendor's tool.

use manifest_schema::Arch;
use manifest_schema::chip::{Chip, Devices, Nodes, Stack};
use manifest_schema::site::{Device, DeviceState, Fact, Release, Site, ToolReport};

use crate::host::Host;
use crate::system::fact;
use crate::{release, tool};

/// Fills in everything about accelerators. The PCI bus says what is there; the driver's own words only
/// say whether it can be used.
pub(crate) fn fill(host: &dyn Host, site: &mut Site) {
    let functions = pci_functions(host);
    for chip in Chip::all() {
        let (Some(devices), Some(nodes), Some(stack)) = (&chip.devices, &chip.nodes, &chip.stack)
        else {
            continue;
        };
        let mut found: Vec<Device> = functions
            .iter()
            .filter(|function| devices.claims(&function.vendor, &function.class))
            // Two chips of one vendor share a class: the file that knows the model keeps the device.
            .filter(|function| {
                !site
                    .devices
                    .iter()
                    .any(|known| known.address == function.address)
            })
            .map(|function| identify(function.clone(), devices, chip))
            .collect();
        let made = nodes_of(host, nodes);
        let software = software(
            host,
            stack,
            site.arch.as_ref().map(|arch| arch.value),
            &found,
        );
        set_states(&mut found, &chip.name, nodes, &made, &software);
        site.devices.append(&mut found);
        site.nodes.extend(made);
        site.driver = site.driver.take().or(software.driver);
        site.firmware = site.firmware.take().or(software.firmware);
        site.cann = site.cann.take().or(software.toolkit);
        site.tool = site.tool.take().or(software.tool);
    }
}

/// The vendor's software that was found.
struct Software {
    driver: Option<Fact<Release>>,
    firmware: Option<Fact<Release>>,
    toolkit: Option<Fact<Release>>,
    tool: Option<Fact<ToolReport>>,
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
            chip: None,
            product: None,
            state: DeviceState::UnknownModel,
        });
    }
    functions
}

fn identify(mut device: Device, devices: &Devices, chip: &Chip) -> Device {
    if let Some(model) = devices.model(&device.device, &device.subsystem) {
        device.chip = Some(chip.name.clone());
        device.product = Some(model.product.clone());
        device.state = DeviceState::Ready;
    } else if let Some(model) = devices.other(&device.device, &device.subsystem) {
        device.product = Some(model.product.clone());
        device.state = DeviceState::OtherChip;
    }
    device
}

fn nodes_of(host: &dyn Host, nodes: &Nodes) -> Vec<String> {
    let numbered = |name: &str| {
        name.strip_prefix(&nodes.each)
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let mut names = host.list("/dev").unwrap_or_default();
    names.retain(|name| numbered(name) || nodes.shared.contains(name));
    names
}

fn software(host: &dyn Host, stack: &Stack, arch: Option<Arch>, found: &[Device]) -> Software {
    let root = host
        .read(&stack.root_file)
        .ok()
        .and_then(|text| {
            release::keys(&text)
                .get(&stack.root_key.to_lowercase())
                .cloned()
        })
        .unwrap_or_else(|| stack.root_default.clone());
    let root = root.trim_end_matches('/');
    let fill = |path: &str| {
        path.replace("{root}", root)
            .replace("{arch}", arch.map_or("unknown", Arch::as_str))
    };
    let read = |path: &str| {
        let path = fill(path);
        fact(release::parse(&host.read(&path).ok()?), &path)
    };
    let driver = read(&stack.driver);
    // Without a device and a driver there is nothing to ask, and the name may be another's program.
    let tool = (driver.is_some() || !found.is_empty()).then(|| ask_tool(host, stack, &fill));
    Software {
        firmware: read(&stack.firmware),
        toolkit: stack.toolkit.iter().find_map(|path| read(path)),
        tool: tool.flatten(),
        driver,
    }
}

fn ask_tool(
    host: &dyn Host,
    stack: &Stack,
    fill: &dyn Fn(&str) -> String,
) -> Option<Fact<ToolReport>> {
    let vendor = &stack.tool;
    let libraries: Vec<String> = vendor.libraries.iter().map(|path| fill(path)).collect();
    let list: Vec<&str> = vendor.list.iter().map(String::as_str).collect();
    let text = host.run(&vendor.program, &list, &libraries).ok()?;
    let mut report = tool::parse_list(vendor.layout, &text);
    if let Some(first) = report.chips.first() {
        let board: Vec<String> = vendor
            .board
            .iter()
            .map(|word| word.replace("{id}", &first.board.to_string()))
            .collect();
        let board: Vec<&str> = board.iter().map(String::as_str).collect();
        let text = host.run(&vendor.program, &board, &libraries);
        report.compatibility = text.ok().and_then(|text| tool::parse_compatibility(&text));
    }
    fact(
        Some(report),
        &format!("{} {}", vendor.program, list.join(" ")),
    )
}

fn set_states(
    devices: &mut [Device],
    chip: &str,
    nodes: &Nodes,
    made: &[String],
    software: &Software,
) {
    let shared_made = nodes.shared.iter().all(|name| made.contains(name));
    for device in devices
        .iter_mut()
        .filter(|device| device.chip.as_deref() == Some(chip))
    {
        let listed = software.tool.as_ref().map(|tool| {
            tool.value
                .chips
                .iter()
                .filter(|chip| chip.bus == device.address)
                .collect::<Vec<_>>()
        });
        device.state = match listed {
            _ if software.driver.is_none() && !shared_made => DeviceState::DriverMissing,
            _ if !shared_made => DeviceState::DriverBroken,
            Some(chips) if chips.is_empty() => DeviceState::DriverBroken,
            Some(chips) if chips.iter().any(|chip| chip.health != "OK") => DeviceState::Unhealthy,
            _ => DeviceState::Ready,
        };
    }
}

const PCI: &str = "/sys/bus/pci/devices";
