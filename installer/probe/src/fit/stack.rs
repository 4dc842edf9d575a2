//! Rules about versions: driver, firmware, toolkit, the framework and its adapter.

use manifest_schema::Backend;
use manifest_schema::chip::{Family, Pairing, Stack};
use manifest_schema::site::{Release, Site, VendorSoftware};

use super::{Check, NOTHING, UNKNOWN, Verdict};
use crate::versions;

pub(super) fn checks(site: &Site, backend: &Backend, family: &Family, stack: &Stack) -> Vec<Check> {
    let nothing = VendorSoftware::default();
    let vendor = site.vendor(&family.name).unwrap_or(&nothing);
    let driver = vendor.driver.as_ref().map(|driver| &driver.value);
    let firmware = vendor.firmware.as_ref().map(|firmware| &firmware.value);
    let toolkit = vendor.toolkit.as_ref().map(|toolkit| &toolkit.value);
    let mut checks = Vec::new();
    if let (Some(driver), Some(firmware)) = (driver, firmware) {
        checks.push(driver_and_firmware(driver, firmware));
    }
    checks.extend(tools_own_word(vendor));
    checks.extend(least_driver(backend, driver));
    if let (Some(driver), Some(toolkit)) = (driver, toolkit) {
        checks.extend(driver_and_toolkit(stack, driver, toolkit));
    }
    checks.extend(toolkit_there(backend, stack, toolkit));
    checks.extend(pairs(backend, stack, driver, toolkit));
    checks.extend(adapter_and_framework(backend, stack));
    checks
}

fn tools_own_word(vendor: &VendorSoftware) -> Option<Check> {
    let word = vendor.tool.as_ref()?.value.compatibility.as_deref()?;
    (word != "OK").then(|| Check::new("host.tool-compatibility", Verdict::Stop, word, "OK"))
}

/// A backend may name the oldest driver that it works with.
fn least_driver(backend: &Backend, driver: Option<&Release>) -> Option<Check> {
    let needed = backend.versions.get("driver")?;
    let verdict = match driver {
        Some(driver) if versions::at_least(&driver.version, needed) => Verdict::Pass,
        Some(_) => Verdict::Stop,
        None => return None,
    };
    let found = driver.map_or(UNKNOWN, |driver| driver.version.as_str());
    Some(Check::new("host.driver-age", verdict, found, needed))
}

/// What was built in the toolkit's version, where its adapter has no table of its own, must be installed in it.
fn toolkit_there(backend: &Backend, stack: &Stack, toolkit: Option<&Release>) -> Option<Check> {
    let wanted = backend.versions.get(&stack.toolkit_name)?;
    let needed = format!("{} {wanted}", stack.toolkit_name);
    if let Some(toolkit) = toolkit {
        let same = versions::begins_with(&toolkit.version, wanted);
        if same || !stack.plugin_for_toolkit.is_empty() {
            return None;
        }
        let check = Check::new(
            "host.toolkit-differs",
            Verdict::Stop,
            &toolkit.version,
            &needed,
        );
        return Some(check.overridable());
    }
    if stack.toolkit.is_empty() {
        return Some(Check::new(
            "host.toolkit-unmeasured",
            Verdict::Warn,
            UNKNOWN,
            &needed,
        ));
    }
    let carried = stack.toolkit_package.as_ref().is_some_and(|package| {
        backend.files.iter().any(|file| {
            let name = file.path.as_str().rsplit('/').next();
            name.is_some_and(|name| name.starts_with(package.as_str()))
        })
    });
    Some(if carried {
        Check::new("host.toolkit-carried", Verdict::Pass, NOTHING, &needed)
    } else {
        Check::new("host.toolkit-missing", Verdict::Stop, NOTHING, &needed).overridable()
    })
}

/// What the vendor lists for the toolkit that is installed, or else the one that the backend wants.
fn pairs(
    backend: &Backend,
    stack: &Stack,
    driver: Option<&Release>,
    toolkit: Option<&Release>,
) -> Vec<Check> {
    let wanted = backend.versions.get(&stack.toolkit_name);
    let Some(version) = toolkit.map(|toolkit| &toolkit.version).or(wanted) else {
        return Vec::new();
    };
    let mut checks = Vec::new();
    if let Some(driver) = driver {
        let table = &stack.driver_for_toolkit;
        if table.is_empty() {
            let check = Check::new(
                "host.driver-no-table",
                Verdict::Warn,
                &driver.version,
                UNKNOWN,
            );
            checks.push(check.with("toolkit", version));
        } else {
            // A row names a line of drivers; its patch releases belong to it.
            let codes = ["host.driver-listed", "host.driver-unlisted"];
            checks.push(listed(
                codes,
                table,
                version,
                &driver.version,
                versions::begins_with,
            ));
        }
    }
    let plugin = stack
        .plugin_name
        .as_ref()
        .and_then(|name| backend.versions.get(name));
    if let Some(plugin) = plugin.filter(|_| !stack.plugin_for_toolkit.is_empty()) {
        // `2.7.1.post4` is built for another toolkit than `2.7.1`: only the same version counts.
        let codes = ["host.plugin-listed", "host.plugin-unlisted"];
        checks.push(listed(
            codes,
            &stack.plugin_for_toolkit,
            version,
            plugin,
            |version, row| version == row,
        ));
    }
    checks
}

/// An adapter is built for one release of the framework: `2.9.0.post2` for 2.9.0, whatever its own build.
fn adapter_and_framework(backend: &Backend, stack: &Stack) -> Option<Check> {
    if stack.plugin_for_toolkit.is_empty() {
        return None;
    }
    let plugin = backend.versions.get(stack.plugin_name.as_ref()?)?;
    let torch = backend.versions.get("torch")?;
    let release = plugin.split(".post").next().unwrap_or(plugin);
    let found = torch.split('+').next().unwrap_or(torch);
    let verdict = if found == release {
        Verdict::Pass
    } else {
        Verdict::Stop
    };
    Some(Check::new("host.framework", verdict, torch, release).with("plugin", plugin))
}

/// The newer of the two vouches for the older, so either file's word is enough.
fn driver_and_firmware(driver: &Release, firmware: &Release) -> Check {
    let by_driver = accepts(driver, "compatible_version_fw", &firmware.version);
    let by_firmware = accepts(firmware, "compatible_version_drv", &driver.version);
    let verdict = either(by_driver, by_firmware);
    let needed = ranges(driver, "compatible_version_fw");
    Check::new("host.firmware", verdict, &firmware.version, &needed).with("driver", &driver.version)
}

/// Only where both write their inner versions: other vendors' files say nothing of the other.
fn driver_and_toolkit(stack: &Stack, driver: &Release, toolkit: &Release) -> Option<Check> {
    if driver.accepts.is_empty() && toolkit.accepts.is_empty() {
        return None;
    }
    let inner = |release: &Release| release.inner.clone().unwrap_or_default();
    let by_driver = accepts(driver, "compatible_version", &inner(toolkit));
    let by_toolkit = accepts(toolkit, "compatible_version", &inner(driver));
    let found = format!("{} {}", stack.toolkit_name, toolkit.version);
    let needed = ranges(toolkit, "compatible_version");
    let check = Check::new(
        "host.driver-toolkit",
        either(by_driver, by_toolkit),
        &found,
        &needed,
    );
    Some(check.with("driver", &driver.version))
}

fn ranges(release: &Release, key: &str) -> String {
    let ranges = release.accepts.get(key).map_or(&[][..], Vec::as_slice);
    let one = |range: &manifest_schema::site::VersionRange| {
        if range.low == range.high {
            range.low.clone()
        } else {
            format!("{}..{}", range.low, range.high)
        }
    };
    if ranges.is_empty() {
        return UNKNOWN.to_owned();
    }
    ranges.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// `None` when the file has no ranges to say it with.
fn accepts(release: &Release, key: &str, version: &str) -> Option<bool> {
    let ranges = release
        .accepts
        .get(key)
        .filter(|ranges| !ranges.is_empty())?;
    (!version.is_empty()).then(|| ranges.iter().any(|range| versions::holds(range, version)))
}

fn either(one: Option<bool>, other: Option<bool>) -> Verdict {
    match (one, other) {
        (Some(true), _) | (_, Some(true)) => Verdict::Pass,
        (None, None) => Verdict::Warn,
        _ => Verdict::Stop,
    }
}

/// Looks a version up in the rows of a table that speak about the toolkit. Rows that nobody is sure of make a
/// person look; they stop nothing.
fn listed(
    [pass, stop]: [&'static str; 2],
    table: &[Pairing],
    toolkit: &str,
    version: &str,
    covers: fn(version: &str, row: &str) -> bool,
) -> Check {
    let rows = versions::rows(table, toolkit);
    let with: Vec<&str> = rows
        .iter()
        .flat_map(|row| &row.with)
        .map(String::as_str)
        .collect();
    let fits = with.iter().any(|with| covers(version, with));
    let needed = if with.is_empty() {
        NOTHING.to_owned()
    } else {
        with.join(", ")
    };
    let sure = rows.is_empty() || rows.iter().any(|row| row.certain);
    let check = if fits {
        Check::new(pass, Verdict::Pass, version, &needed)
    } else if sure {
        Check::new(stop, Verdict::Stop, version, &needed).overridable()
    } else {
        Check::new(stop, Verdict::Warn, version, &needed)
    };
    check.with("toolkit", toolkit)
}
