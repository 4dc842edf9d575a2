//! The rules: what of a machine suits a backend. Pure functions of facts.
//!
//! Two levels for versions. What the vendor's files forbid stops; what the vendor's table does not
//! list stops too, but a person may override that check by its code.

use manifest_schema::Backend;
use manifest_schema::chip::{Chip, Nodes, Pairing, Stack};
use manifest_schema::os::OsTable;
use manifest_schema::site::{DeviceState, Release, Site};
use serde::Serialize;

use crate::versions;

/// How a check ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As needed.
    Pass,
    /// Not known, or worth a look; work goes on.
    Warn,
    /// The backend would not work.
    Stop,
}

/// One rule applied to one machine.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Check {
    /// Key of text and remedy in the catalogue.
    pub code: &'static str,
    /// How it ended.
    pub verdict: Verdict,
    /// What the machine has.
    pub found: String,
    /// What the backend needs.
    pub needed: String,
    /// Whether a person may override a stop, by naming the code.
    pub overridable: bool,
    /// Values for the text: always `found` and `needed`.
    pub args: Vec<(&'static str, String)>,
}

impl Check {
    /// Whether the check stops an install, given the codes that a person overrode.
    pub fn stops(&self, overridden: &[String]) -> bool {
        let waived = self.overridable && overridden.iter().any(|code| code == self.code);
        self.verdict == Verdict::Stop && !waived
    }
}

/// Applies every rule that the backend's chip has, in a fixed order.
pub fn fit(site: &Site, backend: &Backend) -> Vec<Check> {
    let mut checks = vec![arch(site, backend)];
    checks.extend(glibc(site, backend));
    let Some(chip) = Chip::named(&backend.chip) else {
        let needed = &backend.chip;
        checks.push(check(
            "host.chip-unknown",
            Verdict::Stop,
            "no table for it",
            needed,
        ));
        return checks;
    };
    checks.push(os(site, chip));
    checks.push(memory(site, chip));
    checks.extend(page_size(site));
    if chip.devices.is_some() {
        checks.push(device(site, chip));
    }
    if let Some(nodes) = &chip.nodes {
        checks.push(shared_nodes(site, nodes));
        checks.push(group(site, nodes));
    }
    if let Some(stack) = &chip.stack {
        checks.extend(vendor_stack(site, backend, stack));
    }
    checks
}

fn arch(site: &Site, backend: &Backend) -> Check {
    let found = site.arch.as_ref().map(|arch| arch.value);
    let verdict = if found == Some(backend.arch) {
        Verdict::Pass
    } else {
        Verdict::Stop
    };
    check(
        "host.arch",
        verdict,
        &known(found.as_ref()),
        backend.arch.as_str(),
    )
}

fn glibc(site: &Site, backend: &Backend) -> Option<Check> {
    let needed = backend.glibc?;
    let found = site.glibc.as_ref().map(|glibc| glibc.value);
    let verdict = match found {
        Some(found) if found >= needed => Verdict::Pass,
        Some(_) => Verdict::Stop,
        None => Verdict::Warn,
    };
    Some(check(
        "host.glibc",
        verdict,
        &known(found.as_ref()),
        &needed.to_string(),
    ))
}

fn os(site: &Site, chip: &Chip) -> Check {
    let needed = format!("a system that lists {}", chip.title);
    let Some(os) = site.os.as_ref().map(|os| &os.value) else {
        return check("host.os", Verdict::Warn, UNKNOWN, &needed);
    };
    let edition = os
        .table
        .as_deref()
        .and_then(OsTable::named)
        .and_then(|table| {
            let name = os.edition.as_deref()?;
            table.editions.iter().find(|edition| edition.name == name)
        });
    let found = match &os.edition {
        Some(edition) => format!("{} [{edition}]", os.name),
        None => os.name.clone(),
    };
    let accelerated = chip.devices.is_some();
    match edition {
        Some(edition) if edition.refused => {
            overridable(check("host.os-refused", Verdict::Stop, &found, &needed))
        }
        Some(edition) if !accelerated || edition.chips.contains(&chip.name) => {
            check("host.os", Verdict::Pass, &found, &needed)
        }
        None if !accelerated => check("host.os", Verdict::Warn, &found, &needed),
        _ => overridable(check("host.os-unlisted", Verdict::Stop, &found, &needed)),
    }
}

fn memory(site: &Site, chip: &Chip) -> Check {
    let needed = manifest_schema::ByteSize(chip.least_memory);
    let found = site.memory.as_ref().map(|memory| memory.value);
    // Less is slow or fails late, it does not fail to install: a person may know better.
    let verdict = if found.is_some_and(|found| found >= needed) {
        Verdict::Pass
    } else {
        Verdict::Warn
    };
    check(
        "host.memory",
        verdict,
        &known(found.as_ref()),
        &needed.to_string(),
    )
}

/// Nothing is said of the usual page.
fn page_size(site: &Site) -> Option<Check> {
    let found = site.page_size.as_ref()?.value;
    (found != 4096).then(|| check("host.page-size", Verdict::Warn, &found.to_string(), "4096"))
}

/// "No device" and "device there, driver broken" are different answers with different remedies.
fn device(site: &Site, chip: &Chip) -> Check {
    let needed = &chip.title;
    let of_chip = || {
        site.devices
            .iter()
            .filter(|d| d.chip.as_deref() == Some(chip.name.as_str()))
    };
    let total = of_chip().count();
    let in_state = |state| of_chip().filter(|device| device.state == state).count();
    if total == 0 {
        let vendor = chip.devices.as_ref().map(|devices| devices.vendor.as_str());
        let relatives = || {
            site.devices
                .iter()
                .filter(|d| Some(d.vendor.as_str()) == vendor)
        };
        if let Some(device) = relatives().find(|d| d.state == DeviceState::UnknownModel) {
            let found = format!("{}:{}", device.vendor, device.device);
            return check("host.device-model-unknown", Verdict::Stop, &found, needed);
        }
        if let Some(device) = relatives().next() {
            let found = device.product.as_deref().unwrap_or(UNKNOWN);
            return check("host.device-other-chip", Verdict::Stop, found, needed);
        }
        return check("host.device-absent", Verdict::Stop, "none", needed);
    }
    let ready = in_state(DeviceState::Ready);
    let found = format!("{ready}/{total}");
    let code = if ready == total {
        "host.device"
    } else if in_state(DeviceState::DriverMissing) > 0 {
        "host.driver-missing"
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
    let complaint = site
        .tool
        .as_ref()
        .and_then(|tool| tool.value.complaint.as_deref());
    let found = complaint.map_or(found.clone(), |complaint| format!("{found}: {complaint}"));
    check(code, verdict, &found, needed)
}

fn shared_nodes(site: &Site, nodes: &Nodes) -> Check {
    let missing: Vec<&str> = nodes
        .shared
        .iter()
        .filter(|n| !site.nodes.contains(n))
        .map(String::as_str)
        .collect();
    let chips = site
        .nodes
        .iter()
        .filter(|name| !nodes.shared.contains(name))
        .count();
    let needed = format!("/dev/{{{},{}N}}", nodes.shared.join(","), nodes.each);
    if !missing.is_empty() {
        let found = format!("missing: {}", missing.join(" "));
        return check("host.nodes", Verdict::Stop, &found, &needed);
    }
    let verdict = if chips == 0 {
        Verdict::Stop
    } else {
        Verdict::Pass
    };
    check(
        "host.nodes",
        verdict,
        &format!("{chips} x {}N", nodes.each),
        &needed,
    )
}

fn group(site: &Site, nodes: &Nodes) -> Check {
    let Some(user) = site.user.as_ref().map(|user| &user.value) else {
        return check("host.group", Verdict::Warn, UNKNOWN, &nodes.group);
    };
    let allowed = user.name == "root" || user.groups.contains(&nodes.group);
    // Whoever installs is not always who trains.
    let verdict = if allowed {
        Verdict::Pass
    } else {
        Verdict::Warn
    };
    check(
        "host.group",
        verdict,
        &format!("{}: {}", user.name, user.groups.join(" ")),
        &nodes.group,
    )
}

fn vendor_stack(site: &Site, backend: &Backend, stack: &Stack) -> Vec<Check> {
    let driver = site.driver.as_ref().map(|driver| &driver.value);
    let firmware = site.firmware.as_ref().map(|firmware| &firmware.value);
    let toolkit = site.cann.as_ref().map(|toolkit| &toolkit.value);
    let mut checks = Vec::new();
    if let (Some(driver), Some(firmware)) = (driver, firmware) {
        checks.push(driver_and_firmware(driver, firmware));
    }
    let tool_says = site
        .tool
        .as_ref()
        .and_then(|tool| tool.value.compatibility.as_deref());
    if let Some(word) = tool_says.filter(|word| *word != "OK") {
        checks.push(check("host.tool-compatibility", Verdict::Stop, word, "OK"));
    }
    if let (Some(driver), Some(toolkit)) = (driver, toolkit) {
        checks.push(driver_and_toolkit(driver, toolkit));
    }
    let wanted = backend.versions.get(&stack.toolkit_name);
    if toolkit.is_none() {
        checks.push(toolkit_absent(backend, stack, wanted));
    }
    let Some(version) = toolkit.map(|toolkit| &toolkit.version).or(wanted) else {
        return checks;
    };
    if let Some(driver) = driver {
        // A row names a line of drivers; its patch releases belong to it.
        let (codes, table) = (
            ["host.driver-listed", "host.driver-unlisted"],
            &stack.driver_for_toolkit,
        );
        let covers = versions::begins_with;
        checks.push(listed(codes, table, version, &driver.version, covers));
    }
    if let Some(plugin) = backend.versions.get(&stack.plugin_name) {
        // `2.7.1.post4` is built for another toolkit than `2.7.1`: only the same version counts.
        let (codes, table) = (
            ["host.plugin-listed", "host.plugin-unlisted"],
            &stack.plugin_for_toolkit,
        );
        checks.push(listed(codes, table, version, plugin, |version, row| {
            version == row
        }));
    }
    checks
}

/// The newer of the two vouches for the older, so either file's word is enough.
fn driver_and_firmware(driver: &Release, firmware: &Release) -> Check {
    let by_driver = accepts(driver, "compatible_version_fw", &firmware.version);
    let by_firmware = accepts(firmware, "compatible_version_drv", &driver.version);
    either(
        "host.firmware",
        by_driver,
        by_firmware,
        &firmware.version,
        driver,
    )
}

fn driver_and_toolkit(driver: &Release, toolkit: &Release) -> Check {
    let inner = |release: &Release| release.inner.clone().unwrap_or_default();
    let by_driver = accepts(driver, "compatible_version", &inner(toolkit));
    let by_toolkit = accepts(toolkit, "compatible_version", &inner(driver));
    either(
        "host.driver-toolkit",
        by_driver,
        by_toolkit,
        &toolkit.version,
        driver,
    )
}

/// `None` when the file has no ranges to say it with.
fn accepts(release: &Release, key: &str, version: &str) -> Option<bool> {
    let ranges = release
        .accepts
        .get(key)
        .filter(|ranges| !ranges.is_empty())?;
    (!version.is_empty()).then(|| ranges.iter().any(|range| versions::holds(range, version)))
}

fn either(
    code: &'static str,
    one: Option<bool>,
    other: Option<bool>,
    found: &str,
    driver: &Release,
) -> Check {
    let verdict = match (one, other) {
        (Some(true), _) | (_, Some(true)) => Verdict::Pass,
        (None, None) => Verdict::Warn,
        _ => Verdict::Stop,
    };
    check(
        code,
        verdict,
        found,
        &format!("what driver {} goes with", driver.version),
    )
}

fn toolkit_absent(backend: &Backend, stack: &Stack, wanted: Option<&String>) -> Check {
    let carried = backend.files.iter().any(|file| {
        file.path
            .as_str()
            .rsplit('/')
            .next()
            .is_some_and(|n| n.starts_with(&stack.toolkit_package))
    });
    let needed = format!(
        "{} {}",
        stack.toolkit_name,
        wanted.map_or("", String::as_str)
    );
    if carried {
        return check(
            "host.toolkit-carried",
            Verdict::Pass,
            "in the bundle",
            needed.trim(),
        );
    }
    overridable(check(
        "host.toolkit-missing",
        Verdict::Stop,
        "none",
        needed.trim(),
    ))
}

/// Looks a version up in the row of a table that speaks about the toolkit.
fn listed(
    [pass, stop]: [&'static str; 2],
    table: &[Pairing],
    toolkit: &str,
    version: &str,
    covers: fn(version: &str, row: &str) -> bool,
) -> Check {
    let row = versions::row(table, toolkit);
    let fits = row.is_some_and(|row| row.with.iter().any(|with| covers(version, with)));
    let needed = row.map_or_else(|| "no row".to_owned(), |row| row.with.join(", "));
    let needed = format!("toolkit {toolkit}: {needed}");
    if fits {
        return check(pass, Verdict::Pass, version, &needed);
    }
    overridable(check(stop, Verdict::Stop, version, &needed))
}

fn check(code: &'static str, verdict: Verdict, found: &str, needed: &str) -> Check {
    let args = vec![("found", found.to_owned()), ("needed", needed.to_owned())];
    let (found, needed) = (found.to_owned(), needed.to_owned());
    Check {
        code,
        verdict,
        found,
        needed,
        overridable: false,
        args,
    }
}

fn overridable(check: Check) -> Check {
    Check {
        overridable: true,
        ..check
    }
}

fn known<T: ToString>(value: Option<&T>) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), ToString::to_string)
}

const UNKNOWN: &str = "unknown";
