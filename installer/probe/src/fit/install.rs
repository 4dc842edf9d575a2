//! Rules for installing on the machine itself: who may, what a vendor's installer needs, what would not load.

use manifest_schema::chip::{Builds, Family, Recipe};
use manifest_schema::site::Site;
use manifest_schema::{Backend, HostItem, PlacedFile};

use super::system::{kernel_for_module, programs_to_install};
use super::{Check, NOTHING, UNKNOWN, Verdict, fit};
use crate::installed::planned;

/// A vendor's installer that would run, and what is known of its kind.
pub type Planned<'a> = (&'a HostItem<PlacedFile>, &'a Recipe);

/// Applies every rule to the machine as it would be when `items` were installed, and to the machine as it is the
/// rules for installing them.
pub fn fit_planned(site: &Site, backend: &Backend, items: &[Planned<'_>]) -> Vec<Check> {
    let family = Family::of_chip(&backend.chip).filter(|_| !items.is_empty());
    let Some(family) = family else {
        return fit(site, backend);
    };
    let brought: Vec<_> = items.iter().map(|(item, _)| *item).collect();
    let mut checks = fit(&planned(site, family, &brought), backend);
    checks.push(root(site));
    let builds = |when| items.iter().any(|(_, recipe)| recipe.builds_module == when);
    let always = builds(Builds::Always);
    let mut compiles = false;
    if always || builds(Builds::ForOtherKernels) {
        let kernel = kernel_for_module(site, always, Verdict::Stop).overridable();
        compiles = kernel.code != "host.kernel";
        checks.push(kernel);
        checks.extend(secure_boot(site));
    }
    let more = items.iter().flat_map(|(_, recipe)| &recipe.needs);
    let more: Vec<&str> = more.map(String::as_str).collect();
    checks.push(programs_to_install(site, compiles, &more, Verdict::Stop));
    checks.extend(temporary(site, items));
    checks.extend(unsigned(items));
    checks
}

fn root(site: &Site) -> Check {
    let user = site.user.as_ref().map(|user| user.value.name.as_str());
    let verdict = match user {
        Some("root") => Verdict::Pass,
        Some(_) => Verdict::Stop,
        None => Verdict::Warn,
    };
    Check::new("host.root", verdict, user.unwrap_or(UNKNOWN), "root")
}

/// Nothing is said where it is off, or where there is none.
fn secure_boot(site: &Site) -> Option<Check> {
    let on = site.secure_boot.as_ref()?.value;
    on.then(|| {
        Check::new(
            "host.secure-boot",
            Verdict::Warn,
            "SecureBoot=1",
            "SecureBoot=0",
        )
    })
}

/// Vendors' installers are told to unpack below the prefix, and some unpack in `/tmp` all the same.
fn temporary(site: &Site, items: &[Planned<'_>]) -> Option<Check> {
    let place = &site.temporary.as_ref()?.value;
    let largest = items.iter().map(|(item, _)| item.file.size.0).max()?;
    let needed = manifest_schema::ByteSize(largest.saturating_mul(UNPACKED));
    if !place.programs_run {
        let found = format!("{} noexec", place.path);
        return Some(Check::new(
            "host.temporary-noexec",
            Verdict::Warn,
            &found,
            "exec",
        ));
    }
    let enough = place.free >= needed;
    let found = format!("{} {}", place.path, place.free);
    (!enough).then(|| {
        Check::new(
            "host.temporary-small",
            Verdict::Warn,
            &found,
            &needed.to_string(),
        )
    })
}

fn unsigned(items: &[Planned<'_>]) -> Option<Check> {
    let bare = items.iter().filter(|(item, _)| item.signature.is_none());
    let names: Vec<&str> = bare.map(|(item, _)| item.file.path.as_str()).collect();
    (!names.is_empty()).then(|| {
        Check::new(
            "host.vendor-unsigned",
            Verdict::Warn,
            &names.join(", "),
            NOTHING,
        )
    })
}

/// A self-extracting installer and what comes out of it.
const UNPACKED: u64 = 3;
