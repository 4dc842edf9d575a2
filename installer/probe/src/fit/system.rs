//! Rules about the system: processor, C library, kernel, memory, clock, what a driver is built with.

use manifest_schema::Backend;
use manifest_schema::chip::{Builds, Chip, Family};
use manifest_schema::os::{Edition, OsTable};
use manifest_schema::site::{DeviceState, Os, Site};

use super::{Check, NOTHING, UNKNOWN, Verdict, known};

pub(super) fn arch(site: &Site, backend: &Backend) -> Check {
    let right = site
        .arch
        .as_ref()
        .is_some_and(|arch| arch.value == backend.arch);
    let verdict = if right { Verdict::Pass } else { Verdict::Stop };
    // A processor that no program is built for still has a name.
    let found = site.machine.as_ref().map(|machine| &machine.value);
    let found = match &site.arch {
        Some(arch) => arch.value.to_string(),
        None => known(found),
    };
    Check::new("host.arch", verdict, &found, backend.arch.as_str())
}

pub(super) fn glibc(site: &Site, backend: &Backend) -> Option<Check> {
    let needed = backend.glibc?;
    let found = site.glibc.as_ref().map(|glibc| glibc.value);
    let verdict = match found {
        Some(found) if found >= needed => Verdict::Pass,
        Some(_) => Verdict::Stop,
        None => Verdict::Warn,
    };
    Some(Check::new(
        "host.glibc",
        verdict,
        &known(found.as_ref()),
        &needed.to_string(),
    ))
}

/// The edition that the tables know the system as.
fn edition(os: &Os) -> Option<&'static Edition> {
    let table = OsTable::named(os.table.as_deref()?)?;
    let name = os.edition.as_deref()?;
    table.editions.iter().find(|edition| edition.name == name)
}

pub(super) fn os(site: &Site, chip: &Chip, family: &Family) -> Check {
    let needed = listed(chip, family);
    let Some(os) = site.os.as_ref().map(|os| &os.value) else {
        return Check::new("host.os-unrecognised", Verdict::Warn, UNKNOWN, &needed);
    };
    let found = match &os.edition {
        Some(edition) => format!("{} [{edition}]", os.name),
        None => os.name.clone(),
    };
    let accelerated = family.bus.is_some();
    let (code, verdict) = match edition(os) {
        Some(edition) if edition.refused => ("host.os-refused", Verdict::Stop),
        Some(edition) if !accelerated || edition.chips.contains(&chip.name) => {
            ("host.os", Verdict::Pass)
        }
        None if !accelerated => ("host.os-unrecognised", Verdict::Warn),
        _ if needed == NOTHING => ("host.os-no-list", Verdict::Stop),
        _ => ("host.os-unlisted", Verdict::Stop),
    };
    let check = Check::new(code, verdict, &found, &needed).with("chip", &chip.title);
    if verdict == Verdict::Stop {
        check.overridable()
    } else {
        check
    }
}

/// The systems that list a chip, as the tables name them.
fn listed(chip: &Chip, family: &Family) -> String {
    if family.bus.is_none() {
        return "Linux".to_owned();
    }
    let mut names = Vec::new();
    for table in OsTable::all() {
        let mut editions: Vec<&str> = table
            .editions
            .iter()
            .filter(|edition| edition.chips.contains(&chip.name))
            .map(|edition| edition.name.as_str())
            .collect();
        editions.dedup();
        if !editions.is_empty() {
            names.push(format!("{} {}", table.name, editions.join("/")));
        }
    }
    if names.is_empty() {
        NOTHING.to_owned()
    } else {
        names.join(", ")
    }
}

pub(super) fn memory(site: &Site, chip: &Chip) -> Check {
    let needed = manifest_schema::ByteSize(chip.least_memory);
    let found = site.memory.as_ref().map(|memory| memory.value);
    // Less is slow or fails late, it does not fail to install: a person may know better.
    let enough = found.is_some_and(|found| found >= needed);
    let verdict = if enough { Verdict::Pass } else { Verdict::Warn };
    Check::new(
        "host.memory",
        verdict,
        &known(found.as_ref()),
        &needed.to_string(),
    )
}

/// Nothing is said of the usual page.
pub(super) fn page_size(site: &Site) -> Option<Check> {
    let found = site.page_size.as_ref()?.value;
    (found != 4096).then(|| Check::new("host.page-size", Verdict::Warn, &found.to_string(), "4096"))
}

/// A clock that is behind this program's own age makes a log that nobody believes, and certificates fail.
pub(super) fn clock(site: &Site) -> Option<Check> {
    let found = &site.clock.as_ref()?.value;
    (found.as_str() < BUILT_AFTER).then(|| {
        Check::new(
            "host.clock",
            Verdict::Warn,
            found,
            &format!("> {BUILT_AFTER}"),
        )
    })
}

/// Nothing is said where it forbids nothing.
pub(super) fn selinux(site: &Site) -> Option<Check> {
    let found = &site.selinux.as_ref()?.value;
    (found == "enforcing").then(|| Check::new("host.selinux", Verdict::Warn, found, "permissive"))
}

/// Where a driver is still to be installed: the kernel that it has modules for, or what it is built with.
pub(super) fn to_build_a_driver(site: &Site, family: &Family) -> Vec<Check> {
    let wanting = [DeviceState::DriverMissing, DeviceState::DriverBroken];
    let ours = |name: &str| name == family.name;
    if !site
        .devices
        .iter()
        .any(|d| ours(&d.family) && wanting.contains(&d.state))
    {
        return Vec::new();
    }
    let rows = family.host.iter().flat_map(|layer| &layer.kinds);
    let always = rows.clone().any(|row| row.builds_module == Builds::Always);
    let kernel = kernel_for_module(site, always, Verdict::Warn);
    let built = kernel.code != "host.kernel";
    vec![kernel, programs_to_install(site, built, &[], Verdict::Warn)]
}

/// The kernel that a driver has modules for, or the headers that one is built with, which is `always` done with some;
/// `otherwise` where neither is.
pub(super) fn kernel_for_module(site: &Site, always: bool, otherwise: Verdict) -> Check {
    let kernel = site.kernel.as_ref().map(|kernel| kernel.value.as_str());
    let stock = site
        .os
        .as_ref()
        .and_then(|os| edition(&os.value))
        .and_then(|edition| edition.kernel.as_deref());
    let is_stock = kernel
        .zip(stock)
        .is_some_and(|(kernel, stock)| kernel.starts_with(stock));
    let (found, needed) = (kernel.unwrap_or(UNKNOWN), stock.unwrap_or(UNKNOWN));
    let (code, verdict) = match (always, site.kernel_headers.is_some()) {
        (false, _) if is_stock => ("host.kernel", Verdict::Pass),
        (false, true) => ("host.kernel-headers", Verdict::Pass),
        (false, false) => ("host.kernel-headers-missing", otherwise),
        (true, true) => ("host.kernel-headers-always", Verdict::Pass),
        (true, false) => ("host.kernel-headers-missing-always", otherwise),
    };
    Check::new(code, verdict, found, needed)
}

/// What vendors' installers unpack themselves with, where a module is built, what builds it, and `more`.
pub(super) fn programs_to_install(
    site: &Site,
    builds: bool,
    more: &[&str],
    otherwise: Verdict,
) -> Check {
    let mut needed = vec!["tar", "gzip", "bash"];
    if builds {
        needed.extend(["gcc", "make"]);
    }
    needed.extend(more);
    let there = |name: &&str| site.programs.iter().any(|known| known == name);
    let missing: Vec<&str> = needed.iter().copied().filter(|name| !there(name)).collect();
    let all = needed.join(" ");
    if missing.is_empty() {
        return Check::new("host.programs", Verdict::Pass, &all, &all);
    }
    let check = Check::new("host.programs-missing", otherwise, NOTHING, &all);
    check.with("missing", &missing.join(" "))
}

/// Before this, this program did not exist.
const BUILT_AFTER: &str = "2026-01-01T00:00:00Z";
