//! Rules about packages of the system: does the bundle bring those of this one, and which are missing?

use manifest_schema::site::Site;
use manifest_schema::{InstalledPackages, OsPackages, PackageFormat, Wanted};

use super::{Check, NOTHING, UNKNOWN, Verdict};

/// The set for a machine, where the bundle has one.
pub fn packages_for<'a>(site: &Site, sets: &'a [OsPackages]) -> Option<&'a OsPackages> {
    let os = site.os.as_ref().map(|os| &os.value);
    let table = os.and_then(|os| os.table.as_deref());
    let edition = os.and_then(|os| os.edition.as_deref());
    OsPackages::choose(
        sets,
        table,
        edition,
        site.arch.as_ref().map(|arch| arch.value),
    )
}

/// Whether the wanted packages are there. `command` installs them.
///
/// Nothing here stops an install: a backend may work without them, and a driver may be there already.
pub fn fit_packages(
    site: &Site,
    installed: Option<&InstalledPackages>,
    sets: &[OsPackages],
    command: &dyn Fn(&OsPackages) -> String,
) -> Vec<Check> {
    if sets.is_empty() {
        return Vec::new();
    }
    let Some(set) = packages_for(site, sets) else {
        let systems: Vec<String> = sets.iter().map(system_of).collect();
        let os = site.os.as_ref().map(|os| os.value.name.clone());
        let arch = site.arch.as_ref().map(|arch| arch.value.to_string());
        let found = [os, arch]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(" ");
        let found = if found.is_empty() { UNKNOWN } else { &found };
        return vec![Check::new(
            "host.os-packages-none",
            Verdict::Warn,
            found,
            &systems.join(", "),
        )];
    };
    let words = |list: &[&Wanted]| {
        list.iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let wanted = words(&set.wanted.iter().collect::<Vec<_>>());
    let installed = installed.filter(|list| list.format == Some(set.format));
    let mut checks = vec![match installed {
        None => Check::new("host.os-packages-unlisted", Verdict::Warn, UNKNOWN, &wanted)
            .with("command", &command(set)),
        Some(list) => {
            let missing = |one: &&Wanted| !is_there(one, list, set.format);
            let missing: Vec<&Wanted> = set.wanted.iter().filter(missing).collect();
            if missing.is_empty() {
                Check::new("host.os-packages", Verdict::Pass, &wanted, &wanted)
            } else {
                Check::new(
                    "host.os-packages-missing",
                    Verdict::Warn,
                    &words(&missing),
                    &wanted,
                )
                .with("command", &command(set))
            }
        }
    }];
    let running = site.kernel.as_ref().map(|kernel| kernel.value.as_str());
    if let (Some(needed), Some(running)) = (&set.kernel, running)
        && needed != running
    {
        checks.push(Check::new(
            "host.os-packages-kernel",
            Verdict::Warn,
            running,
            needed,
        ));
    }
    checks
}

/// The system of a set, as people write it.
pub fn system_of(set: &OsPackages) -> String {
    let words = [
        Some(set.os.as_str()),
        set.edition.as_deref(),
        Some(set.arch.as_str()),
    ];
    let words: Vec<&str> = words.into_iter().flatten().collect();
    if words.is_empty() {
        NOTHING.to_owned()
    } else {
        words.join(" ")
    }
}

fn is_there(wanted: &Wanted, list: &InstalledPackages, format: PackageFormat) -> bool {
    let name = wanted.name.as_str();
    let provides = |text: &String| text.split([' ', '(']).next() == Some(name);
    let mut packages = list.packages.iter();
    match &wanted.version {
        None => packages.any(|one| one.name == name || one.provides.iter().any(provides)),
        Some(version) => packages.any(|one| {
            let rest = one.version.strip_prefix(version.as_str());
            // An rpm's release may be left out.
            let same = |rest: &str| {
                rest.is_empty() || format == PackageFormat::Rpm && rest.starts_with('-')
            };
            one.name == name && rest.is_some_and(same)
        }),
    }
}

#[cfg(test)]
mod tests {
    use manifest_schema::site::{Fact, Os};
    use manifest_schema::{Arch, InstalledPackage};

    use super::*;

    fn fact<T>(value: T) -> Fact<T> {
        let source = String::new();
        Fact { value, source }
    }

    fn site() -> Site {
        Site {
            os: Some(fact(Os {
                id: "kylin".into(),
                name: "Kylin".into(),
                version: None,
                table: Some("kylin-v10".into()),
                edition: Some("SP3".into()),
            })),
            arch: Some(fact(Arch::Aarch64)),
            kernel: Some(fact("4.19.90-52".to_owned())),
            ..Site::default()
        }
    }

    fn set(os: &str) -> OsPackages {
        OsPackages {
            name: "set".parse().unwrap(),
            os: os.into(),
            edition: None,
            arch: Arch::Aarch64,
            format: PackageFormat::Rpm,
            kernel: Some("4.19.90-52".into()),
            wanted: vec![
                "gcc".parse().unwrap(),
                "kernel-devel=4.19.90".parse().unwrap(),
            ],
            packages: vec![],
            metadata: vec![],
        }
    }

    fn has(packages: &[(&str, &str)]) -> InstalledPackages {
        let one = |(name, version): &(&str, &str)| InstalledPackage {
            name: (*name).into(),
            version: (*version).into(),
            ..InstalledPackage::default()
        };
        InstalledPackages {
            format: Some(PackageFormat::Rpm),
            packages: packages.iter().map(one).collect(),
            ..InstalledPackages::default()
        }
    }

    #[test]
    fn missing_packages_are_named_with_the_command_that_installs_them() {
        let judge = |installed: Option<&InstalledPackages>, sets: &[OsPackages]| {
            let checks = fit_packages(&site(), installed, sets, &|set| format!("dnf {}", set.name));
            checks
                .into_iter()
                .map(|check| (check.code, check.found))
                .collect::<Vec<_>>()
        };
        let kylin = [set("kylin-v10")];
        assert_eq!(judge(None, &[]), []);
        assert_eq!(
            judge(None, &[set("openeuler")]),
            [("host.os-packages-none", "Kylin aarch64".into())]
        );
        assert_eq!(
            judge(None, &kylin),
            [("host.os-packages-unlisted", "?".into())]
        );
        let some = has(&[("gcc", "7.3-1"), ("kernel-devel", "4.19.901-1")]);
        assert_eq!(
            judge(Some(&some), &kylin),
            [("host.os-packages-missing", "kernel-devel=4.19.90".into())]
        );
        let all = has(&[("gcc", "7.3-1"), ("kernel-devel", "4.19.90-52")]);
        let judged = judge(Some(&all), &kylin);
        assert_eq!(
            judged,
            [("host.os-packages", "gcc kernel-devel=4.19.90".into())]
        );
        let mut other = set("kylin-v10");
        other.kernel = Some("5.10".into());
        assert_eq!(
            judge(Some(&all), &[other])[1],
            ("host.os-packages-kernel", "4.19.90-52".into())
        );
        let missing = fit_packages(&site(), Some(&some), &kylin, &|_| "dnf install".into());
        assert!(missing[0].args.contains(&("command", "dnf install".into())));
    }
}
