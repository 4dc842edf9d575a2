//! Gathers a [`Site`] from a [`Host`], and prints it as lines of facts.

use manifest_schema::site::{DeviceState, Fact, Site, VendorSoftware};

use crate::host::Host;
use crate::{accelerator, surroundings, system};

/// Learns what there is to learn. Nothing here fails: a fact that cannot be read is absent, and the
/// rules that need it say so.
///
/// Sources, in the order of trust: files of the kernel, version files, then programs. Each fact names its own.
pub fn probe(host: &dyn Host) -> Site {
    host.foresee(&FORESEEN);
    let machine = system::machine(host);
    let mut site = Site {
        cpu: system::cpu(host),
        arch: system::arch_of(host, machine.as_ref()),
        machine,
        os: system::os(host),
        kernel: system::kernel(host),
        glibc: system::glibc(host),
        page_size: system::page_size(host),
        memory: system::memory(host),
        python: system::python(host),
        user: system::user(host),
        selinux: system::selinux(host),
        clock: system::clock(host),
        programs: system::programs(host),
        ..Site::default()
    };
    site.kernel_headers = system::kernel_headers(host, site.kernel.as_ref());
    surroundings::fill(host, &mut site);
    accelerator::fill(host, &mut site);
    site
}

/// Programs that are asked on every machine. One after the other they take a third of a second, most of it the engines and a
/// Python behind a manager of versions.
const FORESEEN: [(&str, &[&str]); 12] = [
    ("python3", &["--version"]),
    ("docker", &["--version"]),
    ("podman", &["--version"]),
    ("nerdctl", &["--version"]),
    ("containerd", &["--version"]),
    ("uname", &["-m"]),
    ("getconf", &["GNU_LIBC_VERSION"]),
    ("getconf", &["PAGESIZE"]),
    ("df", &["-Pk", "/tmp"]),
    ("id", &["-un"]),
    ("id", &["-nG"]),
    ("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
];

/// One fact as a line: a name, a value, where it was read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FactLine {
    /// Key of the site's fact.
    pub name: &'static str,
    /// The value as text.
    pub value: String,
    /// Where it was read.
    pub source: String,
}

/// Every fact of a site, in a fixed order; what is not known is left out.
pub fn facts(site: &Site) -> Vec<FactLine> {
    let mut lines = Vec::new();
    push(&mut lines, "cpu", site.cpu.as_ref(), |cpu| {
        let name = cpu.name.clone().unwrap_or_else(|| {
            format!("{} {}", cpu.vendor, cpu.part.as_deref().unwrap_or_default())
        });
        format!("{name} x {}", cpu.processors)
    });
    push(&mut lines, "arch", site.arch.as_ref(), ToString::to_string);
    push(&mut lines, "os", site.os.as_ref(), |os| {
        let edition = os.edition.as_deref().map(|edition| format!(" [{edition}]"));
        format!("{}{}", os.name, edition.unwrap_or_default())
    });
    push(&mut lines, "kernel", site.kernel.as_ref(), Clone::clone);
    push(
        &mut lines,
        "glibc",
        site.glibc.as_ref(),
        ToString::to_string,
    );
    push(
        &mut lines,
        "page_size",
        site.page_size.as_ref(),
        ToString::to_string,
    );
    push(
        &mut lines,
        "memory",
        site.memory.as_ref(),
        ToString::to_string,
    );
    push(&mut lines, "python", site.python.as_ref(), Clone::clone);
    push(&mut lines, "user", site.user.as_ref(), |user| {
        format!("{} ({})", user.name, user.groups.join(" "))
    });
    push(&mut lines, "selinux", site.selinux.as_ref(), Clone::clone);
    push(&mut lines, "clock", site.clock.as_ref(), Clone::clone);
    push(&mut lines, "headers", site.kernel_headers.as_ref(), |_| {
        "+".to_owned()
    });
    if !site.programs.is_empty() {
        let value = site.programs.join(" ");
        lines.push(FactLine {
            name: "programs",
            value,
            source: "/usr/bin".to_owned(),
        });
    }
    for device in &site.devices {
        lines.push(FactLine {
            name: "device",
            value: format!(
                "{}:{} {} {}: {}",
                device.vendor,
                device.device,
                device.chip.as_deref().unwrap_or("-"),
                device.product.as_deref().unwrap_or("-"),
                state(device.state)
            ),
            source: device.address.clone(),
        });
    }
    for vendor in &site.vendors {
        of_vendor(&mut lines, vendor);
    }
    lines
}

/// What one vendor's software left.
fn of_vendor(lines: &mut Vec<FactLine>, vendor: &VendorSoftware) {
    let family = &vendor.family;
    if !vendor.nodes.is_empty() {
        let value = format!("{family}: {}", vendor.nodes.join(" "));
        lines.push(FactLine {
            name: "nodes",
            value,
            source: "/dev".to_owned(),
        });
    }
    for (name, release) in [
        ("driver", &vendor.driver),
        ("firmware", &vendor.firmware),
        ("toolkit", &vendor.toolkit),
    ] {
        push(lines, name, release.as_ref(), |release| {
            match &release.inner {
                Some(inner) => format!("{family}: {} ({inner})", release.version),
                None => format!("{family}: {}", release.version),
            }
        });
    }
    push(lines, "tool", vendor.tool.as_ref(), |tool| {
        if let Some(complaint) = &tool.complaint {
            return format!("{family}: {complaint}");
        }
        let name = tool.chips.first().map_or("?", |chip| chip.name.as_str());
        format!("{family}: {} x {name}", tool.chips.len())
    });
}

/// The state as `--json` names it.
fn state(state: DeviceState) -> &'static str {
    match state {
        DeviceState::Ready => "ready",
        DeviceState::DriverMissing => "driver-missing",
        DeviceState::DriverBroken => "driver-broken",
        DeviceState::Unhealthy => "unhealthy",
        DeviceState::UnknownModel => "unknown-model",
    }
}

fn push<T>(
    lines: &mut Vec<FactLine>,
    name: &'static str,
    fact: Option<&Fact<T>>,
    text: impl Fn(&T) -> String,
) {
    if let Some(fact) = fact {
        lines.push(FactLine {
            name,
            value: text(&fact.value),
            source: fact.source.clone(),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io;

    use super::*;

    /// Answers what it knows, and notes what it was asked.
    #[derive(Default)]
    struct Asked(RefCell<Vec<(String, Vec<String>)>>);

    impl Host for Asked {
        fn read(&self, _path: &str) -> io::Result<String> {
            Err(io::ErrorKind::NotFound.into())
        }

        fn run(&self, program: &str, args: &[&str], libraries: &[String]) -> io::Result<String> {
            assert!(libraries.is_empty());
            let args = args.iter().map(|word| (*word).to_owned()).collect();
            self.0.borrow_mut().push((program.to_owned(), args));
            // As a version, so that nobody is asked in another's place.
            Ok("2.28\n".to_owned())
        }

        fn list(&self, _path: &str) -> io::Result<Vec<String>> {
            Err(io::ErrorKind::NotFound.into())
        }

        fn exists(&self, _path: &str) -> bool {
            false
        }
    }

    #[test]
    fn what_is_foreseen_is_what_is_asked_and_once() {
        let host = Asked::default();
        probe(&host);
        let mut asked = host.0.into_inner();
        asked.sort();
        let words = |args: &[&str]| args.iter().map(|word| (*word).to_owned()).collect();
        let foreseen = FORESEEN.map(|(program, args)| (program.to_owned(), words(args)));
        let mut foreseen: Vec<(String, Vec<String>)> = foreseen.to_vec();
        foreseen.sort();
        assert_eq!(asked, foreseen);
    }
}
