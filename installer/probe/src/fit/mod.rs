//! The rules: what of a machine suits a backend. Pure functions of facts.
//!
//! Two levels for versions. What the vendor's files forbid stops; what the vendor's table does not
//! list stops too, but a person may override that check by its code.

mod device;
mod install;
mod packages;
mod stack;
mod surroundings;
mod system;

pub use install::{Planned, fit_planned};

use manifest_schema::chip::{AskedBy, Builds, Chip, Family};
use manifest_schema::site::Site;
use manifest_schema::{Backend, host_layer};
use serde::Serialize;

pub use packages::{fit_packages, packages_for, system_of};

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
    /// Key of text, reason and remedy in the catalogue.
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
    /// A check with its verdict; `-` stands for nothing, `?` for what is not known.
    pub fn new(code: &'static str, verdict: Verdict, found: &str, needed: &str) -> Self {
        Self {
            code,
            verdict,
            found: found.to_owned(),
            needed: needed.to_owned(),
            overridable: false,
            args: vec![("found", found.to_owned()), ("needed", needed.to_owned())],
        }
    }

    /// Whether the check stops an install, given the codes that a person overrode.
    pub fn stops(&self, overridden: &[String]) -> bool {
        let waived = self.overridable && overridden.iter().any(|code| code == self.code);
        self.verdict == Verdict::Stop && !waived
    }

    fn overridable(mut self) -> Self {
        self.overridable = true;
        self
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.args.push((name, value.to_owned()));
        self
    }
}

/// Applies every rule that the backend's chip has, in a fixed order.
pub fn fit(site: &Site, backend: &Backend) -> Vec<Check> {
    let mut checks = vec![system::arch(site, backend)];
    checks.extend(system::glibc(site, backend));
    let known = Chip::named(&backend.chip).zip(Family::of_chip(&backend.chip));
    let Some((chip, family)) = known else {
        checks.push(Check::new(
            "host.chip-unknown",
            Verdict::Stop,
            "-",
            &backend.chip,
        ));
        return checks;
    };
    checks.push(system::os(site, chip, family));
    checks.push(system::memory(site, chip));
    checks.extend(system::page_size(site));
    checks.extend(system::clock(site));
    checks.extend(system::selinux(site));
    checks.extend(surroundings::checks(site, backend));
    if family.bus.is_none() {
        checks.extend(device::idle(site));
        return checks;
    }
    checks.extend(device::training(chip));
    checks.push(device::present(site, chip, family, brings_driver(backend)));
    checks.extend(system::to_build_a_driver(site, family));
    if let Some(nodes) = &family.nodes {
        checks.push(device::nodes(site, family, nodes));
        checks.extend(
            nodes
                .group
                .as_deref()
                .map(|group| device::group(site, group)),
        );
    }
    if let Some(stack) = &family.stack {
        checks.extend(stack::checks(site, backend, family, stack));
    }
    checks
}

/// Whether `--with-driver` would have something to install.
fn brings_driver(backend: &Backend) -> bool {
    let rows = host_layer(&backend.chip)
        .into_iter()
        .flat_map(|layer| &layer.kinds)
        .filter(|row| row.asked_by == AskedBy::Driver && row.builds_module != Builds::Never);
    let kinds: Vec<_> = rows.map(|row| &row.kind).collect();
    backend.host.iter().any(|item| kinds.contains(&&item.kind))
}

/// How near a backend comes to what is in the machine.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kinship {
    /// Made for the processor, or for accelerators that are not here.
    Stranger,
    /// Made for another chip of a vendor whose accelerator is here, or for its like as far as is known.
    SameVendor,
    /// Made for a chip that is here, working or not.
    SameChip,
}

/// How near `backend` comes to the accelerators of `site`.
pub fn kinship(site: &Site, backend: &Backend) -> Kinship {
    let family = Family::of_chip(&backend.chip).map(|family| family.name.as_str());
    let of_family = || {
        site.devices
            .iter()
            .filter(|d| Some(d.family.as_str()) == family)
    };
    if of_family().any(|device| device.chip.as_ref() == Some(&backend.chip)) {
        Kinship::SameChip
    } else if of_family().next().is_some() {
        Kinship::SameVendor
    } else {
        Kinship::Stranger
    }
}

fn known<T: ToString>(value: Option<&T>) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), ToString::to_string)
}

const UNKNOWN: &str = "?";
const NOTHING: &str = "-";
