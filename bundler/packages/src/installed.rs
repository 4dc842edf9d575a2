//! What a machine has already, as packages.

use std::collections::BTreeMap;

use manifest_schema::{InstalledPackage, InstalledPackages, PackageFormat};

use crate::deb;
use crate::error::PackageError;
use crate::formula::Formula;
use crate::package::Package;
use crate::relation::Relation;

/// The packages of an inventory.
///
/// # Errors
/// When it is of another package manager, or has none.
pub fn from_inventory(
    list: &InstalledPackages,
    format: PackageFormat,
) -> Result<Installed, PackageError> {
    let found = list.format.map_or("none", PackageFormat::as_str);
    if list.format != Some(format) || list.packages.is_empty() {
        let expected = format.as_str();
        return Err(PackageError::Installed {
            problem: format!(
                "found {} packages of {found}, expected those of {expected}",
                list.packages.len()
            ),
        });
    }
    let packages = list
        .packages
        .iter()
        .map(|one| package(one, format))
        .collect();
    Ok(Installed {
        packages,
        relations: list.relations,
    })
}

/// Packages that are installed, and whether they say themselves what they need and provide.
#[derive(Clone, Debug, Default)]
pub struct Installed {
    pub(crate) packages: Vec<Package>,
    pub(crate) relations: bool,
}

/// The packages that `rpm -qa` or `dpkg-query -W` printed.
///
/// # Errors
/// Names the first line that is not a package.
pub fn from_list(text: &str, format: PackageFormat) -> Result<Installed, PackageError> {
    let mut packages = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') || line.starts_with("gpg-pubkey-") {
            continue;
        }
        let read = match format {
            PackageFormat::Rpm => rpm_line(line),
            PackageFormat::Deb => deb_line(line),
        };
        let Some((name, version, arch)) = read else {
            let problem = format!(
                "line {} is `{line}`, not a package with its version",
                number + 1
            );
            return Err(PackageError::Installed { problem });
        };
        packages.push(Package {
            name: name.to_owned(),
            version: version.to_owned(),
            arch: arch.to_owned(),
            ..Package::default()
        });
    }
    if packages.is_empty() {
        let problem = "it names no package".to_owned();
        return Err(PackageError::Installed { problem });
    }
    Ok(Installed {
        packages,
        relations: false,
    })
}

/// `name-version-release.arch`.
fn rpm_line(line: &str) -> Option<(&str, &str, &str)> {
    let (rest, arch) = line.rsplit_once('.')?;
    let (before, _) = rest.rsplit_once('-')?;
    let (name, version) = before.rsplit_once('-')?;
    let sound = !name.is_empty() && !version.is_empty() && !line.contains(char::is_whitespace);
    sound.then(|| (name, &rest[name.len() + 1..], arch))
}

/// `name` or `name:arch`, and the version.
fn deb_line(line: &str) -> Option<(&str, &str, &str)> {
    let (name, version) = line.split_once(char::is_whitespace)?;
    let (name, arch) = name.split_once(':').unwrap_or((name, ""));
    let version = version.trim();
    let sound = !name.is_empty() && !version.is_empty() && !version.contains(char::is_whitespace);
    sound.then_some((name, version, arch))
}

fn package(one: &InstalledPackage, format: PackageFormat) -> Package {
    let mut package = Package {
        name: one.name.clone(),
        version: one.version.clone(),
        arch: one.arch.clone(),
        ..Package::default()
    };
    match format {
        PackageFormat::Rpm => {
            let relations = |list: &[String]| {
                list.iter()
                    .filter_map(|text| Relation::parse_rpm(text))
                    .collect()
            };
            package.provides = relations(&one.provides);
            package.conflicts = relations(&one.conflicts);
            package.requires = one
                .requires
                .iter()
                .filter_map(|text| Formula::parse_rpm(text))
                .collect();
        }
        PackageFormat::Deb => {
            let join = |list: &[String]| list.join(", ");
            let (provides, requires, conflicts) = (
                join(&one.provides),
                join(&one.requires),
                join(&one.conflicts),
            );
            deb::relate(&mut package, |name| match name {
                "Provides" => &provides,
                "Depends" => &requires,
                "Conflicts" => &conflicts,
                _ => "",
            });
        }
    }
    package
}

impl Installed {
    /// Completes what the list does not say from the repositories: files always, relations where it has none.
    ///
    /// A package of the same version is the best witness, else the newest of the name. What that one ties to its own
    /// version (`libfoo = 1.2-3`) is tied to the installed version instead.
    pub(crate) fn completed(mut self, offered: &[Package], format: PackageFormat) -> Vec<Package> {
        let mut by_name: BTreeMap<&str, Vec<&Package>> = BTreeMap::new();
        for package in offered {
            by_name.entry(&package.name).or_default().push(package);
        }
        for package in &mut self.packages {
            let Some(witnesses) = by_name.get(package.name.as_str()) else {
                continue;
            };
            let order = |a: &&&Package, b: &&&Package| {
                let same = |one: &Package| one.version == package.version;
                let newer = crate::version::compare(format, &a.version, &b.version);
                same(a).cmp(&same(b)).then(newer)
            };
            let Some(witness) = witnesses.iter().max_by(order) else {
                continue;
            };
            for one in witnesses {
                package.files.extend(one.files.iter().cloned());
            }
            package.files.sort();
            package.files.dedup();
            if !self.relations {
                let tie =
                    |relation: &Relation| retied(relation, &witness.version, &package.version);
                package.provides = witness.provides.iter().map(tie).collect();
                package.requires = witness
                    .requires
                    .iter()
                    .map(|need| retied_need(need, &tie))
                    .collect();
                package.conflicts.clone_from(&witness.conflicts);
            }
        }
        self.packages
    }
}

fn retied(relation: &Relation, from: &str, to: &str) -> Relation {
    let mut relation = relation.clone();
    if let Some((_, version)) = &mut relation.range
        && version == from
    {
        to.clone_into(version);
    }
    relation
}

fn retied_need(need: &Formula, tie: &impl Fn(&Relation) -> Relation) -> Formula {
    match need {
        Formula::Is(relation) => Formula::Is(tie(relation)),
        Formula::Or(list) => Formula::Or(list.iter().map(|one| retied_need(one, tie)).collect()),
        Formula::And(list) => Formula::And(list.iter().map(|one| retied_need(one, tie)).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_both_package_managers_are_read() {
        let names = |text: &str, format| {
            let installed = from_list(text, format).unwrap();
            let labels = installed.packages.iter();
            labels
                .map(|one| format!("{} {} {}", one.name, one.version, one.arch))
                .collect::<Vec<_>>()
        };
        let rpm = "# a machine\ngpg-pubkey-7b1e-5f0c\nglibc-common-2.28-49.p1.ky10.aarch64\nkernel-devel-4.19.90-52.22.v2207.ky10.aarch64\n";
        assert_eq!(
            names(rpm, PackageFormat::Rpm),
            [
                "glibc-common 2.28-49.p1.ky10 aarch64",
                "kernel-devel 4.19.90-52.22.v2207.ky10 aarch64"
            ]
        );
        let deb = "libc6:arm64\t2.36-9+deb12u10\ntzdata\t2024a-0\n";
        assert_eq!(
            names(deb, PackageFormat::Deb),
            ["libc6 2.36-9+deb12u10 arm64", "tzdata 2024a-0 "]
        );
        for (text, format) in [
            ("gcc\n", PackageFormat::Rpm),
            ("gcc\n", PackageFormat::Deb),
            ("", PackageFormat::Rpm),
            ("a-b.c\n", PackageFormat::Rpm),
        ] {
            assert!(from_list(text, format).is_err(), "{text}");
        }
    }
}
