//! Rules about the accelerators themselves: are they here, does the driver serve them, who may open them.

use manifest_schema::chip::{Chip, Family, Nodes, TrainingSupport};
use manifest_schema::site::{Device, DeviceState, Site};

use super::{Check, NOTHING, UNKNOWN, Verdict};

/// Nothing is said of a chip that is listed for training.
pub(super) fn training(chip: &Chip) -> Option<Check> {
    let (code, verdict) = match chip.training.is {
        TrainingSupport::Listed => return None,
        TrainingSupport::Unlisted => ("host.training-unlisted", Verdict::Warn),
        TrainingSupport::InferenceOnly => ("host.inference-only", Verdict::Stop),
    };
    let check = Check::new(code, verdict, &chip.title, &chip.training.source);
    Some(if verdict == Verdict::Stop {
        check.overridable()
    } else {
        check
    })
}

/// "No device" and "device there, driver broken" are different answers with different remedies; so is a driver that the
/// bundle `brings`.
pub(super) fn present(site: &Site, chip: &Chip, family: &Family, brings: bool) -> Check {
    let needed = &chip.title;
    let mine: Vec<&Device> = site
        .devices
        .iter()
        .filter(|device| device.chip.as_deref() == Some(chip.name.as_str()))
        .collect();
    if mine.is_empty() {
        return absent(site, chip, family);
    }
    let in_state = |state| mine.iter().filter(|device| device.state == state).count();
    let (ready, total) = (in_state(DeviceState::Ready), mine.len());
    let code = if ready == total {
        "host.device"
    } else if in_state(DeviceState::DriverMissing) > 0 {
        if brings {
            "host.driver-missing-brought"
        } else {
            "host.driver-missing"
        }
    } else if in_state(DeviceState::DriverBroken) > 0 {
        "host.driver-broken"
    } else {
        "host.device-unhealthy"
    };
    let verdict = match ready {
        0 => Verdict::Stop,
        some if some < total => Verdict::Warn,
        _ => Verdict::Pass,
    };
    let vendor = site.vendor(&family.name);
    let complaint = vendor
        .and_then(|vendor| vendor.tool.as_ref())
        .and_then(|tool| tool.value.complaint.as_deref());
    let mut found = format!("{ready}/{total}");
    if let Some(complaint) = complaint {
        found = format!("{found}: {complaint}");
    }
    let tool = family.stack.as_ref().and_then(|stack| stack.tool.as_ref());
    let tool = tool.map_or("lspci", |tool| tool.program.as_str());
    Check::new(code, verdict, &found, needed).with("tool", tool)
}

/// Nothing is this chip: another chip of its vendor, a model that no table has, or nothing at all.
fn absent(site: &Site, chip: &Chip, family: &Family) -> Check {
    let mut relatives = site
        .devices
        .iter()
        .filter(|device| device.family == family.name);
    let unknown = relatives
        .clone()
        .find(|device| device.state == DeviceState::UnknownModel);
    if let Some(device) = unknown {
        let found = format!("{}:{}", device.vendor, device.device);
        return Check::new(
            "host.device-model-unknown",
            Verdict::Stop,
            &found,
            &chip.title,
        )
        .with("family", &family.title);
    }
    if let Some(device) = relatives.next() {
        return Check::new(
            "host.device-other-chip",
            Verdict::Stop,
            &name_of(device),
            &chip.title,
        );
    }
    Check::new("host.device-absent", Verdict::Stop, NOTHING, &chip.title)
}

/// What people call a device: its chip, and the product where the tables know it.
fn name_of(device: &Device) -> String {
    let title = device
        .chip
        .as_deref()
        .and_then(Chip::named)
        .map(|chip| chip.title.as_str());
    match (title, device.product.as_deref()) {
        (Some(title), Some(product)) => format!("{title}, {product}"),
        (Some(title), None) => title.to_owned(),
        _ => format!("{}:{}", device.vendor, device.device),
    }
}

/// A backend for the CPU leaves the machine's accelerators idle: that is said.
pub(super) fn idle(site: &Site) -> Option<Check> {
    let mut names: Vec<String> = site.devices.iter().map(name_of).collect();
    names.sort();
    names.dedup();
    (!names.is_empty()).then(|| {
        Check::new(
            "host.accelerator-idle",
            Verdict::Warn,
            &names.join("; "),
            NOTHING,
        )
    })
}

pub(super) fn nodes(site: &Site, family: &Family, nodes: &Nodes) -> Check {
    let made = site
        .vendor(&family.name)
        .map_or(&[][..], |vendor| &vendor.nodes);
    let chips = made
        .iter()
        .filter(|name| !nodes.shared.contains(name))
        .count();
    let mut wanted = nodes.shared.clone();
    wanted.extend(nodes.each.as_ref().map(|each| format!("{each}N")));
    let needed = wanted.join(" ");
    let there = nodes.shared.iter().all(|name| made.contains(name));
    let enough = there && (nodes.each.is_none() || chips > 0);
    let found = if made.is_empty() {
        NOTHING.to_owned()
    } else {
        made.join(" ")
    };
    let verdict = match (enough, nodes.certain) {
        (true, _) => Verdict::Pass,
        (false, true) => Verdict::Stop,
        // Another release of the driver may name them otherwise.
        (false, false) => Verdict::Warn,
    };
    Check::new("host.nodes", verdict, &found, &needed)
}

pub(super) fn group(site: &Site, group: &str) -> Check {
    let Some(user) = site.user.as_ref().map(|user| &user.value) else {
        return Check::new("host.group", Verdict::Warn, UNKNOWN, group).with("user", UNKNOWN);
    };
    let allowed = user.name == "root" || user.groups.iter().any(|known| known == group);
    // Whoever installs is not always who trains.
    let verdict = if allowed {
        Verdict::Pass
    } else {
        Verdict::Warn
    };
    Check::new("host.group", verdict, &user.groups.join(" "), group).with("user", &user.name)
}
