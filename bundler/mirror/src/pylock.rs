//! Locks that other tools made: `pylock.toml` (PEP 751), and `uv.lock`, which uv turns into one.
//!
//! Such a lock says for every machine which distribution it takes. Its conditions are evaluated for the target and
//! never for this machine, and of each distribution that is left one wheel is taken: the fittest.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

use manifest_schema::Digest;
use manifest_schema::plan::WheelTarget;
use pep508_rs::pep440_rs::{Version, VersionSpecifiers};
use pep508_rs::{
    MarkerEnvironment, MarkerEnvironmentBuilder, MarkerTree, Requirement, VerbatimUrl,
};
use serde::Deserialize;
use zip::ZipArchive;

use crate::pypi::{IndexFile, described, fittest, plain_name};
use crate::requirements::text_of;
use crate::{RequirementError, normalized};

/// A distribution and the one wheel of it that the target uses.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Locked {
    /// The project.
    pub project: String,
    /// Its exact version.
    pub version: String,
    /// The wheel.
    pub wheel: IndexFile,
}

/// Reads a `pylock.toml` for `target`.
///
/// # Errors
/// When it cannot be read, is for other machines, or names what is not a wheel.
pub fn read_pylock(path: &Path, target: &WheelTarget) -> Result<Vec<Locked>, RequirementError> {
    read(path, &text_of(path)?, target)
}

/// Reads a lock's `text`; `path` names it.
pub(crate) fn read(
    path: &Path,
    text: &str,
    target: &WheelTarget,
) -> Result<Vec<Locked>, RequirementError> {
    let wrong = |problem: String| RequirementError::Lock {
        path: path.to_owned(),
        problem,
    };
    let lock: Pylock = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
    if lock.lock_version.split('.').next() != Some("1") {
        return Err(wrong(format!(
            "version {} of the format",
            lock.lock_version
        )));
    }
    let machine = environment(target).ok_or_else(|| wrong(format!("Python {}", target.python)))?;
    let other = |needs: String| RequirementError::OtherTarget {
        path: path.to_owned(),
        needs,
        found: described(target),
    };
    if let Some(needs) = &lock.requires_python
        && !allows(needs, &machine).map_err(wrong)?
    {
        return Err(other(format!("Python {needs}")));
    }
    let mut suits = lock.environments.is_empty();
    for condition in &lock.environments {
        suits |= holds(condition, &machine).map_err(wrong)?;
    }
    if !suits {
        return Err(other(lock.environments.join(" or ")));
    }
    let mut locked: BTreeMap<String, Locked> = BTreeMap::new();
    for package in lock.packages {
        let taken = match &package.marker {
            Some(condition) => holds(condition, &machine).map_err(wrong)?,
            None => true,
        };
        if !taken {
            continue;
        }
        let one = package.wheel(path, target)?;
        if let Some(before) = locked.insert(normalized(&one.project), one) {
            let other = &locked[&normalized(&before.project)];
            return Err(RequirementError::Twice {
                one: before.version,
                other: other.version.clone(),
                project: before.project,
            });
        }
    }
    Ok(locked.into_values().collect())
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Pylock {
    lock_version: String,
    #[serde(default)]
    environments: Vec<String>,
    requires_python: Option<String>,
    #[serde(default)]
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: Option<String>,
    marker: Option<String>,
    #[serde(default)]
    wheels: Vec<Wheel>,
}

#[derive(Deserialize)]
struct Wheel {
    name: Option<String>,
    url: Option<String>,
    size: Option<u64>,
    hashes: BTreeMap<String, String>,
}

impl Package {
    /// The fittest of its wheels that have an address and a SHA-256.
    fn wheel(&self, path: &Path, target: &WheelTarget) -> Result<Locked, RequirementError> {
        let none = || RequirementError::NoWheel {
            path: path.to_owned(),
            project: self.name.clone(),
            version: self.version.clone().unwrap_or_default(),
            target: described(target),
        };
        let version = self.version.as_ref().ok_or_else(none)?;
        let files = self.wheels.iter().filter_map(Wheel::file);
        let wheel = fittest(files, &self.name, version, target).ok_or_else(none)?;
        Ok(Locked {
            project: self.name.clone(),
            version: version.clone(),
            wheel,
        })
    }
}

impl Wheel {
    fn file(&self) -> Option<IndexFile> {
        let url = reqwest::Url::parse(self.url.as_ref()?).ok()?;
        // A password has no place in a lock, and no other scheme is fetched.
        let plain = ["http", "https"].contains(&url.scheme())
            && url.username().is_empty()
            && url.password().is_none();
        if !plain {
            return None;
        }
        let last = || plain_name(url.path_segments()?.next_back()?).into();
        Some(IndexFile {
            file_name: self.name.clone().or_else(last)?,
            digest: Digest::parse_hex(self.hashes.get("sha256")?).ok()?,
            size: self.size,
            yanked: false,
            url: url.into(),
        })
    }
}

/// Whether a condition holds on a machine.
fn holds(condition: &str, machine: &MarkerEnvironment) -> Result<bool, String> {
    // Which extras and groups were chosen is a question for the tool that makes the lock.
    for word in ["extras", "dependency_groups"] {
        if condition.contains(word) {
            return Err(format!(
                "`{condition}`: export one choice of extras and groups"
            ));
        }
    }
    let tree: MarkerTree = condition
        .parse()
        .map_err(|error| format!("`{condition}`: {error}"))?;
    Ok(tree.evaluate(machine, &[]))
}

fn allows(needs: &str, machine: &MarkerEnvironment) -> Result<bool, String> {
    let wrong = |problem: String| format!("requires-python `{needs}`: {problem}");
    let range = VersionSpecifiers::from_str(needs).map_err(|error| wrong(error.to_string()))?;
    let python = machine.python_version().version.to_string();
    // The newest of its line: a lock for 3.11.4 and newer is for 3.11.
    let newest = Version::from_str(&format!("{python}.999")).map_err(|e| wrong(e.to_string()))?;
    Ok(range.contains(&newest))
}

/// The target as conditions see it. The oldest of a Python's line: what is needed only there is taken along.
fn environment(target: &WheelTarget) -> Option<MarkerEnvironment> {
    let full = format!("{}.0", target.python);
    MarkerEnvironment::try_from(MarkerEnvironmentBuilder {
        implementation_name: "cpython",
        implementation_version: &full,
        os_name: "posix",
        platform_machine: target.arch.as_str(),
        platform_python_implementation: "CPython",
        platform_release: "",
        platform_system: "Linux",
        platform_version: "",
        python_full_version: &full,
        python_version: &target.python,
        sys_platform: "linux",
    })
    .ok()
}

/// The requirements of a wheel's own metadata that hold on `target`, without those of extras.
///
/// # Errors
/// When a line is not a requirement.
pub fn needed_by_wheel(
    file_name: &str,
    metadata: &str,
    target: &WheelTarget,
) -> Result<Vec<String>, RequirementError> {
    let wrong = |problem: String| RequirementError::Lock {
        path: file_name.into(),
        problem,
    };
    let machine = environment(target).ok_or_else(|| wrong(format!("Python {}", target.python)))?;
    let mut needed = Vec::new();
    // Headers end at the first empty line; behind it stands a text for people.
    for line in metadata.lines().take_while(|line| !line.is_empty()) {
        let Some(text) = line.strip_prefix("Requires-Dist:") else {
            continue;
        };
        let parsed = Requirement::<VerbatimUrl>::from_str(text.trim())
            .map_err(|error| wrong(format!("`{}`: {error}", text.trim())))?;
        if parsed.marker.evaluate(&machine, &[]) {
            needed.push(text.split(';').next().unwrap_or(text).trim().to_owned());
        }
    }
    Ok(needed)
}

/// What a wheel on this machine says of itself.
///
/// # Errors
/// When it cannot be read, or is not a wheel.
pub fn wheel_metadata(path: &Path) -> Result<String, RequirementError> {
    let wrong = |problem: String| RequirementError::Lock {
        path: path.to_owned(),
        problem,
    };
    let file = File::open(path).map_err(|source| RequirementError::File {
        path: path.to_owned(),
        source,
    })?;
    let mut archive = ZipArchive::new(file).map_err(|error| wrong(error.to_string()))?;
    let name = archive
        .file_names()
        .find(|name| name.ends_with(".dist-info/METADATA") && name.matches('/').count() == 1)
        .map(str::to_owned)
        .ok_or_else(|| wrong("it has no METADATA".to_owned()))?;
    let member = archive.by_name(&name).map_err(|e| wrong(e.to_string()))?;
    let mut text = Vec::new();
    member
        .take(LARGEST_METADATA)
        .read_to_end(&mut text)
        .map_err(|error| wrong(error.to_string()))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Metadata holds a project's front page; none is this long.
const LARGEST_METADATA: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use manifest_schema::Arch;

    fn target(arch: Arch, python: &str) -> WheelTarget {
        WheelTarget {
            arch,
            python: python.to_owned(),
            glibc: "2.28".parse().unwrap(),
        }
    }

    fn package(name: &str, version: &str, marker: &str, tags: &[&str]) -> String {
        let wheels: Vec<String> = tags
            .iter()
            .map(|tag| {
                format!(
                    "{{ url = \"https://example.org/{name}-{}-{tag}.whl\", size = 7, hashes = {{ sha256 = \"{}\" }} }}",
                    version.replace('+', "%2B"),
                    Digest::of(tag.as_bytes()).hex()
                )
            })
            .collect();
        let marker = if marker.is_empty() {
            String::new()
        } else {
            format!("marker = \"{marker}\"\n")
        };
        format!(
            "[[packages]]\nname = \"{name}\"\nversion = \"{version}\"\n{marker}wheels = [{}]\n",
            wheels.join(", ")
        )
    }

    fn lock(packages: &[String]) -> String {
        format!(
            "lock-version = \"1.0\"\nrequires-python = \">=3.10\"\n{}",
            packages.concat()
        )
    }

    #[test]
    fn the_conditions_and_wheels_are_those_of_the_target() {
        let arm = "cp311-cp311-manylinux_2_28_aarch64";
        let text = lock(&[
            package(
                "numpy",
                "2.2.6",
                "python_full_version < '3.12'",
                &[arm, "cp311-cp311-manylinux_2_28_x86_64"],
            ),
            package(
                "numpy",
                "2.4.0",
                "python_full_version >= '3.12'",
                &["cp312-cp312-manylinux_2_28_aarch64"],
            ),
            package(
                "colorama",
                "0.4",
                "sys_platform == 'win32'",
                &["py3-none-any"],
            ),
            package(
                "torch",
                "2.7.1+cpu",
                "platform_machine == 'aarch64'",
                &[arm, "cp311-cp311-manylinux_2_17_aarch64"],
            ),
            package(
                "timeout",
                "5",
                "python_full_version < '3.11.3'",
                &["py3-none-any"],
            ),
        ]);
        let path = Path::new("pylock.toml");
        let found = read(path, &text, &target(Arch::Aarch64, "3.11")).unwrap();
        let names: Vec<_> = found
            .iter()
            .map(|l| (&*l.project, &*l.wheel.file_name))
            .collect();
        assert_eq!(
            names,
            [
                (
                    "numpy",
                    "numpy-2.2.6-cp311-cp311-manylinux_2_28_aarch64.whl"
                ),
                ("timeout", "timeout-5-py3-none-any.whl"),
                (
                    "torch",
                    "torch-2.7.1+cpu-cp311-cp311-manylinux_2_28_aarch64.whl"
                ),
            ]
        );
        // The same lock for another machine.
        let found = read(path, &text, &target(Arch::X86_64, "3.11")).unwrap();
        assert_eq!(found.len(), 2, "{found:?}");
        let error = read(path, &text, &target(Arch::X86_64, "3.12")).unwrap_err();
        assert!(
            matches!(&error, RequirementError::NoWheel { project, .. } if project == "numpy"),
            "{error}"
        );
        let error = read(path, &text, &target(Arch::X86_64, "3.9")).unwrap_err();
        assert!(error.to_string().contains("Python >=3.10"), "{error}");
    }

    #[test]
    fn what_is_not_a_lock_for_wheels_is_refused() {
        let any = &["py3-none-any"][..];
        for (text, expected) in [
            ("[[package]]\nname = 'a'".to_owned(), "lock-version"),
            ("lock-version = '2.0'".to_owned(), "version 2.0"),
            (lock(&[package("a", "1", "", &[])]), "no wheel"),
            (
                lock(&["[[packages]]\nname = 'a'\nvcs = { type = 'git' }\n".to_owned()]),
                "no wheel",
            ),
            (lock(&[package("a", "1", "'x' in extras", any)]), "extras"),
            (lock(&[package("a", "1", "nonsense", any)]), "nonsense"),
            (
                lock(&[package("a", "1", "", any), package("A", "2", "", any)]),
                "named twice",
            ),
            (
                "lock-version = '1.0'\nenvironments = [\"sys_platform == 'win32'\"]".to_owned(),
                "win32",
            ),
            (
                lock(&[package("a", "1", "", any).replace("https://", "https://me:hush@")]),
                "no wheel",
            ),
        ] {
            let error = read(
                Path::new("pylock.toml"),
                &text,
                &target(Arch::X86_64, "3.11"),
            );
            let said = error.unwrap_err().to_string();
            assert!(said.contains(expected), "{text}: {said}");
            assert!(!said.contains("hush"));
        }
    }

    #[test]
    fn a_wheel_says_what_it_needs() {
        let metadata = "Name: a\nRequires-Dist: torch==2.7.1\nRequires-Dist: colorama>=1; sys_platform == 'win32'\n\
            Requires-Dist: rich ; extra == 'x'\nRequires-Dist: numpy (>=1.2) ; platform_machine == 'aarch64'\n\nRequires-Dist: text";
        let needed = needed_by_wheel("a.whl", metadata, &target(Arch::Aarch64, "3.11")).unwrap();
        assert_eq!(needed, ["torch==2.7.1", "numpy (>=1.2)"]);
        assert!(
            needed_by_wheel("a.whl", "Requires-Dist: ==", &target(Arch::Aarch64, "3.11")).is_err()
        );
    }
}
