//! The packages that a machine has, by what its package manager says.

use std::collections::BTreeSet;

use manifest_schema::{InstalledPackage, InstalledPackages, PackageFormat};

use crate::host::{Host, READ_LIMIT};

/// Asks dpkg, then rpm. `None` where neither has packages. Where what packages need and provide is longer than any
/// answer may be, their names and versions are asked for alone.
pub fn installed_packages(host: &dyn Host) -> Option<InstalledPackages> {
    debian(host).or_else(|| rpm(host))
}

fn debian(host: &dyn Host) -> Option<InstalledPackages> {
    let full = ask(host, "dpkg-query", &["-W", DPKG_FORMAT]);
    let relations = full.is_some();
    let text = full.or_else(|| ask(host, "dpkg-query", &["-W", DPKG_NAMES]))?;
    let mut packages: Vec<_> = text.lines().filter_map(debian_line).collect();
    packages.sort();
    packages.dedup();
    (!packages.is_empty()).then(|| InstalledPackages {
        format: Some(PackageFormat::Deb),
        source: "dpkg-query -W".to_owned(),
        relations,
        packages,
    })
}

fn debian_line(line: &str) -> Option<InstalledPackage> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [
        status,
        name,
        version,
        arch,
        provides,
        before,
        requires,
        conflicts,
        breaks,
    ] = fields.as_slice()
    else {
        return None;
    };
    let list = |texts: &[&str]| {
        let parts = texts.iter().flat_map(|text| text.split(','));
        let parts = parts.map(str::trim).filter(|part| !part.is_empty());
        parts.map(str::to_owned).collect()
    };
    (*status == "installed").then(|| InstalledPackage {
        name: (*name).to_owned(),
        version: (*version).to_owned(),
        arch: (*arch).to_owned(),
        provides: list(&[provides]),
        requires: list(&[before, requires]),
        conflicts: list(&[conflicts, breaks]),
    })
}

/// Two questions, since one answer with everything might be longer than any may be.
fn rpm(host: &dyn Host) -> Option<InstalledPackages> {
    let provides = ask(host, "rpm", &["-qa", "--qf", RPM_PROVIDES]);
    let needs = ask(host, "rpm", &["-qa", "--qf", RPM_NEEDS]);
    let relations = provides.is_some() && needs.is_some();
    let mut packages = match (provides, needs) {
        (Some(provides), Some(needs)) => rpm_lines(&needs, rpm_lines(&provides, Vec::new())),
        _ => rpm_lines(&ask(host, "rpm", &["-qa", "--qf", RPM_NAMES])?, Vec::new()),
    };
    packages.sort();
    (!packages.is_empty()).then(|| InstalledPackages {
        format: Some(PackageFormat::Rpm),
        source: "rpm -qa".to_owned(),
        relations,
        packages,
    })
}

/// Adds what the lines say: `P` a package, `p` what it provides, `r` what it needs, `c` what it excludes.
fn rpm_lines(text: &str, mut packages: Vec<InstalledPackage>) -> Vec<InstalledPackage> {
    let mut current = None;
    let mut seen = BTreeSet::new();
    for line in text.lines() {
        let Some((kind, rest)) = line.split_once(' ') else {
            continue;
        };
        if kind == "P" {
            current = package(rest, &mut packages);
            seen.clear();
            continue;
        }
        let Some(package) = current.and_then(|number: usize| packages.get_mut(number)) else {
            continue;
        };
        let relation = rest.split_whitespace().collect::<Vec<_>>().join(" ");
        let own = format!("{} = {}", package.name, package.version);
        if relation.is_empty() || relation.starts_with("rpmlib(") || relation == own {
            continue;
        }
        if seen.insert(line.to_owned()) {
            match kind {
                "p" => package.provides.push(relation),
                "r" => package.requires.push(relation),
                "c" => package.conflicts.push(relation),
                _ => {}
            }
        }
    }
    packages
}

/// Finds or adds the package that a line names; keys of signatures are kept as packages, and are none.
fn package(line: &str, packages: &mut Vec<InstalledPackage>) -> Option<usize> {
    let mut words = line.split(' ');
    let (name, version, arch) = (words.next()?, words.next()?, words.next()?);
    if name == "gpg-pubkey" || words.next().is_some() {
        return None;
    }
    let version = version.strip_prefix("0:").unwrap_or(version);
    let same =
        |one: &InstalledPackage| one.name == name && one.version == version && one.arch == arch;
    let known = packages.iter().position(same);
    Some(known.unwrap_or_else(|| {
        packages.push(InstalledPackage {
            name: name.to_owned(),
            version: version.to_owned(),
            arch: arch.to_owned(),
            ..InstalledPackage::default()
        });
        packages.len() - 1
    }))
}

/// A whole answer; one that was cut at the limit is none.
fn ask(host: &dyn Host, program: &str, args: &[&str]) -> Option<String> {
    let text = host.run(program, args, &[]).ok()?;
    ((text.len() as u64) < READ_LIMIT).then_some(text)
}

const DPKG_FORMAT: &str = "-f=${db:Status-Status}\\t${Package}\\t${Version}\\t${Architecture}\\t${Provides}\\t\
${Pre-Depends}\\t${Depends}\\t${Conflicts}\\t${Breaks}\\n";
const DPKG_NAMES: &str =
    "-f=${db:Status-Status}\\t${Package}\\t${Version}\\t${Architecture}\\t\\t\\t\\t\\t\\n";
const RPM_NAMES: &str = "P %{NAME} %{EPOCHNUM}:%{VERSION}-%{RELEASE} %{ARCH}\\n";
const RPM_PROVIDES: &str = "P %{NAME} %{EPOCHNUM}:%{VERSION}-%{RELEASE} %{ARCH}\\n\
[p %{PROVIDENAME} %{PROVIDEFLAGS:depflags} %{PROVIDEVERSION}\\n]";
const RPM_NEEDS: &str = "P %{NAME} %{EPOCHNUM}:%{VERSION}-%{RELEASE} %{ARCH}\\n\
[r %{REQUIRENAME} %{REQUIREFLAGS:depflags} %{REQUIREVERSION}\\n]\
[c %{CONFLICTNAME} %{CONFLICTFLAGS:depflags} %{CONFLICTVERSION}\\n]";

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// A machine that has one program and its answers.
    struct Has<'a>(&'a str, &'a [(&'a str, &'a str)]);

    impl Host for Has<'_> {
        fn read(&self, _: &str) -> io::Result<String> {
            Err(io::ErrorKind::NotFound.into())
        }
        fn run(&self, program: &str, args: &[&str], _: &[String]) -> io::Result<String> {
            let answer = self
                .1
                .iter()
                .find(|(mark, _)| args.iter().any(|arg| arg.contains(mark)));
            let answer = answer.filter(|_| program == self.0);
            answer
                .map(|(_, text)| (*text).to_owned())
                .ok_or(io::ErrorKind::NotFound.into())
        }
        fn list(&self, _: &str) -> io::Result<Vec<String>> {
            Err(io::ErrorKind::NotFound.into())
        }
        fn exists(&self, _: &str) -> bool {
            false
        }
    }

    /// A machine whose packages have more to say of themselves than any answer may hold.
    struct Talkative;

    impl Host for Talkative {
        fn read(&self, _: &str) -> io::Result<String> {
            Err(io::ErrorKind::NotFound.into())
        }
        fn run(&self, program: &str, args: &[&str], _: &[String]) -> io::Result<String> {
            match (program, args.iter().any(|arg| arg.contains('['))) {
                ("rpm", true) => Ok("P a 0:1-1 noarch\n".repeat(READ_LIMIT as usize / 8)),
                ("rpm", false) => Ok("P a 0:1-1 noarch\n".to_owned()),
                _ => Err(io::ErrorKind::NotFound.into()),
            }
        }
        fn list(&self, _: &str) -> io::Result<Vec<String>> {
            Err(io::ErrorKind::NotFound.into())
        }
        fn exists(&self, _: &str) -> bool {
            false
        }
    }

    #[test]
    fn rpm_says_names_versions_and_relations() {
        let provides = "P gpg-pubkey 0:7b-5f (none)\np gpg(x) = 1\n\
            P glibc 0:2.28-49.ky10 aarch64\np glibc = 2.28-49.ky10\np libc.so.6()(64bit)  \n\
            P tar 2:1.30-5 aarch64\np tar = 2:1.30-5\np bundled(x) = 1\n";
        let needs = "P glibc 0:2.28-49.ky10 aarch64\nr glibc-common = 2.28-49.ky10\nr rpmlib(A) <= 1\n\
            r (a if b)  \nr glibc-common = 2.28-49.ky10\nc old < 1\nerror: something else\n";
        let host = Has("rpm", &[("PROVIDENAME", provides), ("REQUIRENAME", needs)]);
        let found = installed_packages(&host).unwrap();
        assert_eq!(found.format, Some(PackageFormat::Rpm));
        assert!(found.relations);
        let [glibc, tar] = found.packages.as_slice() else {
            panic!("{found:?}");
        };
        assert_eq!(
            (glibc.name.as_str(), glibc.version.as_str()),
            ("glibc", "2.28-49.ky10")
        );
        assert_eq!(glibc.provides, ["libc.so.6()(64bit)"]);
        assert_eq!(glibc.requires, ["glibc-common = 2.28-49.ky10", "(a if b)"]);
        assert_eq!(glibc.conflicts, ["old < 1"]);
        assert_eq!(tar.version, "2:1.30-5");
    }

    #[test]
    fn dpkg_says_what_is_installed_and_not_what_was() {
        let text = "installed\tlibc6\t2.36-9\tarm64\tlibc\t\tlibgcc-s1, libcrypt1 (>= 1:4)\tx\ty (<< 2)\n\
            config-files\tgone\t1\tall\t\t\t\t\t\nnonsense\n";
        let found = installed_packages(&Has("dpkg-query", &[("Status", text)])).unwrap();
        assert_eq!(found.packages.len(), 1);
        let libc = &found.packages[0];
        assert_eq!(libc.requires, ["libgcc-s1", "libcrypt1 (>= 1:4)"]);
        assert_eq!(libc.conflicts, ["x", "y (<< 2)"]);
    }

    #[test]
    fn a_machine_that_says_nothing_has_no_list() {
        assert_eq!(installed_packages(&Has("none", &[])), None);
        let found = installed_packages(&Talkative).unwrap();
        assert_eq!((found.packages.len(), found.relations), (1, false));
        let error = Has("rpm", &[("NAME", "error: cannot open Packages database\n")]);
        assert_eq!(installed_packages(&error), None);
    }
}
