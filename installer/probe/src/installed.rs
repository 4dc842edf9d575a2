//! What of a vendor's software is installed, and what the machine will be once more of it is.

use manifest_schema::chip::{Family, VersionFile};
use manifest_schema::site::{DeviceState, Fact, Release, Site, VendorSoftware};
use manifest_schema::{HostItem, OsPackage, OsPackages, PackageFormat, PlacedFile};

use crate::accelerator::{filler, first_version};
use crate::host::Host;
use crate::system;

/// The release that the first of `marks` that is there tells of.
pub fn installed_release(
    host: &dyn Host,
    family: &Family,
    marks: &[VersionFile],
) -> Option<Release> {
    let arch = system::arch(host).map(|arch| arch.value);
    Some(first_version(host, family.stack.as_ref()?, arch, marks)?.value)
}

/// A path of a chip's data on this machine: `{root}` and `{arch}` filled in.
pub fn machine_path(host: &dyn Host, family: &Family, path: &str) -> String {
    let arch = system::arch(host).map(|arch| arch.value);
    match &family.stack {
        Some(stack) => filler(host, stack, arch)(path),
        None => path.to_owned(),
    }
}

/// The machine as it will be when the packages of `set` were installed: the programs that it then has, and the headers
/// of the kernel that runs.
pub fn planned_packages(site: &Site, set: &OsPackages) -> Site {
    let mut site = site.clone();
    let names = set.packages.iter().map(|package| package.name.as_str());
    let brought = names.filter(|name| system::PROGRAMS.contains(name));
    site.programs.extend(brought.map(str::to_owned));
    site.programs.sort();
    site.programs.dedup();
    let kernel = site.kernel.as_ref().map(|kernel| kernel.value.clone());
    if let (None, Some(kernel)) = (&site.kernel_headers, kernel) {
        let of_kernel = |package: &&OsPackage| match set.format {
            PackageFormat::Rpm => {
                let release = format!("{}.{}", package.version, package.arch);
                package.name.as_str() == "kernel-devel" && release == kernel
            }
            PackageFormat::Deb => package.name.as_str() == format!("linux-headers-{kernel}"),
        };
        site.kernel_headers = set.packages.iter().find(of_kernel).map(|package| Fact {
            value: format!("/lib/modules/{kernel}/build"),
            source: package.file.path.to_string(),
        });
    }
    site
}

/// The machine as it will be when `items` were installed: their versions, and devices that a driver serves. What the
/// new files accept is not known before they are there, so only the vendor's tables are asked about them.
pub fn planned(site: &Site, family: &Family, items: &[&HostItem<PlacedFile>]) -> Site {
    let mut site = site.clone();
    if items.is_empty() {
        return site;
    }
    let at = site
        .vendors
        .iter()
        .position(|vendor| vendor.family == family.name);
    let at = at.unwrap_or_else(|| {
        site.vendors.push(VendorSoftware {
            family: family.name.clone(),
            ..VendorSoftware::default()
        });
        site.vendors.len() - 1
    });
    for item in items {
        let release = Fact {
            value: Release {
                version: item.version.to_string(),
                ..Release::default()
            },
            source: item.file.path.to_string(),
        };
        let vendor = &mut site.vendors[at];
        match item.kind.as_str() {
            "driver" => {
                vendor.driver = Some(release);
                vendor.tool = None;
                if let Some(nodes) = &family.nodes {
                    vendor.nodes.clone_from(&nodes.shared);
                    vendor
                        .nodes
                        .extend(nodes.each.as_ref().map(|each| format!("{each}0")));
                }
                let waiting = [DeviceState::DriverMissing, DeviceState::DriverBroken];
                for device in &mut site.devices {
                    if device.family == family.name && waiting.contains(&device.state) {
                        device.state = DeviceState::Ready;
                    }
                }
            }
            "firmware" => vendor.firmware = Some(release),
            "toolkit" => vendor.toolkit = Some(release),
            _ => {}
        }
    }
    site
}
