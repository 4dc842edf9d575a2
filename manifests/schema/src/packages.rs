//! Packages of the operating system: what a bundle brings of them, and what a machine has.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Arch, IdError, PackageName, PackageSetName, PackageVersion, PlacedFile};

/// Which package manager a package is for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PackageFormat {
    /// dnf, yum, rpm.
    Rpm,
    /// apt, dpkg.
    Deb,
}

impl PackageFormat {
    /// As manifests write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rpm => "rpm",
            Self::Deb => "deb",
        }
    }

    /// What the package manager calls an architecture.
    pub fn arch(self, arch: Arch) -> &'static str {
        match (self, arch) {
            (Self::Rpm, _) => arch.as_str(),
            (Self::Deb, Arch::X86_64) => "amd64",
            (Self::Deb, Arch::Aarch64) => "arm64",
        }
    }
}

/// A package that is asked for: `name`, or `name=version`.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Wanted {
    /// Its name.
    pub name: PackageName,
    /// Its exact version; for an rpm the release may be left out.
    pub version: Option<PackageVersion>,
}

impl Wanted {
    /// As the package manager takes it on its command line.
    pub fn argument(&self, format: PackageFormat) -> String {
        let name = &self.name;
        match (&self.version, format) {
            (None, _) => name.to_string(),
            (Some(version), PackageFormat::Deb) => format!("{name}={version}"),
            (Some(version), PackageFormat::Rpm) => format!("{name}-{version}"),
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            None => write!(f, "{}", self.name),
            Some(version) => write!(f, "{}={version}", self.name),
        }
    }
}

impl FromStr for Wanted {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let (name, version) = match text.split_once('=') {
            None => (text, None),
            Some((name, version)) => (name.trim(), Some(PackageVersion::parse(version.trim())?)),
        };
        let name = PackageName::parse(name)?;
        Ok(Self { name, version })
    }
}

impl TryFrom<String> for Wanted {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<Wanted> for String {
    fn from(wanted: Wanted) -> Self {
        wanted.to_string()
    }
}

impl JsonSchema for Wanted {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Wanted".into()
    }
    fn json_schema(_generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "description": "a package: `name`, or `name=version`",
            "pattern": "^[A-Za-z0-9][A-Za-z0-9+._-]{0,199}( *= *[A-Za-z0-9][A-Za-z0-9+.:~^_-]{0,199})?$",
        })
    }
}

/// A set of packages for one system: a repository of its own below `os/<name>/`.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct OsPackages {
    /// Its name, and that of its folder.
    pub name: PackageSetName,
    /// The system's name in the system tables, such as `kylin-v10`.
    pub os: String,
    /// Its service pack or flavour; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edition: Option<String>,
    /// Architecture of the machines that it is for.
    pub arch: Arch,
    /// Which package manager reads it.
    pub format: PackageFormat,
    /// The kernel release that some of the packages are for, as `uname -r` prints it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// What to install; the package manager takes along what these need.
    pub wanted: Vec<Wanted>,
    /// Every package, ordered by name.
    pub packages: Vec<OsPackage>,
    /// The repository's metadata, made when the bundle was built, and the keys of where the packages came from.
    pub metadata: Vec<PlacedFile>,
}

impl OsPackages {
    /// Whether the set is for this system; the flavour counts where the set names one.
    pub fn suits(&self, os: Option<&str>, edition: Option<&str>, arch: Option<Arch>) -> bool {
        os == Some(self.os.as_str())
            && arch == Some(self.arch)
            && (self.edition.is_none() || self.edition.as_deref() == edition)
    }

    /// The set for a system out of several: one that names the flavour before one that does not.
    pub fn choose<'a>(
        sets: &'a [Self],
        os: Option<&str>,
        edition: Option<&str>,
        arch: Option<Arch>,
    ) -> Option<&'a Self> {
        let suiting = sets.iter().filter(|set| set.suits(os, edition, arch));
        // `max_by_key` takes the last of equals, and a plan has no two.
        suiting.max_by_key(|set| set.edition.is_some())
    }
}

/// One package of a set.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct OsPackage {
    /// Its name.
    pub name: PackageName,
    /// Its version.
    pub version: PackageVersion,
    /// Its architecture, as its package manager calls it.
    pub arch: String,
    /// Licence, in the packager's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// The file, below `os/<set>/`.
    pub file: PlacedFile,
}

/// The packages that a machine has.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct InstalledPackages {
    /// Which package manager keeps them.
    pub format: Option<PackageFormat>,
    /// Where the list was read: a path, or a command as typed.
    pub source: String,
    /// Whether the packages say what they provide and need. Without that, `lock` borrows it from the repositories.
    pub relations: bool,
    /// Each of them, ordered by name.
    pub packages: Vec<InstalledPackage>,
}

/// A package that a machine has. Relations are in the package manager's own notation: `name >= 1.2`, `name (>= 1.2)`.
#[derive(
    Clone, Debug, Default, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
pub struct InstalledPackage {
    /// Its name.
    pub name: String,
    /// Its version: `epoch:version-release`, the epoch only where it is not 0.
    pub version: String,
    /// Its architecture.
    pub arch: String,
    /// What it provides beside its own name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub provides: Vec<String>,
    /// What it needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
    /// What it cannot be beside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_cannot_be_an_option_of_a_package_manager() {
        for (text, rpm, deb) in [
            ("gcc", "gcc", "gcc"),
            (
                "tar=2:1.30-5.ky10",
                "tar-2:1.30-5.ky10",
                "tar=2:1.30-5.ky10",
            ),
            ("libstdc++ = 7.3.0", "libstdc++-7.3.0", "libstdc++=7.3.0"),
        ] {
            let wanted: Wanted = text.parse().unwrap();
            assert_eq!(wanted.argument(PackageFormat::Rpm), rpm);
            assert_eq!(wanted.argument(PackageFormat::Deb), deb);
            assert_eq!(wanted.to_string().parse::<Wanted>().unwrap(), wanted);
        }
        for text in [
            "",
            "--nodeps",
            "-y",
            "a b",
            "gcc=",
            "gcc=-1",
            "a;b",
            "gcc=1 2",
            "/etc/x.rpm",
            "é",
        ] {
            assert!(text.parse::<Wanted>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_set_that_names_the_flavour_comes_before_one_that_does_not() {
        let set = |name: &str, edition: Option<&str>, arch| OsPackages {
            name: name.parse().unwrap(),
            os: "kylin-v10".into(),
            edition: edition.map(Into::into),
            arch,
            format: PackageFormat::Rpm,
            kernel: None,
            wanted: vec![],
            packages: vec![],
            metadata: vec![],
        };
        let sets = [
            set("sp3", Some("SP3"), Arch::Aarch64),
            set("any", None, Arch::Aarch64),
        ];
        let chosen = |os, edition, arch| {
            let set = OsPackages::choose(&sets, os, edition, Some(arch));
            set.map(|set| set.name.as_str())
        };
        let kylin = Some("kylin-v10");
        assert_eq!(chosen(kylin, Some("SP3"), Arch::Aarch64), Some("sp3"));
        assert_eq!(chosen(kylin, Some("SP2"), Arch::Aarch64), Some("any"));
        assert_eq!(chosen(kylin, None, Arch::Aarch64), Some("any"));
        assert_eq!(chosen(kylin, Some("SP3"), Arch::X86_64), None);
        assert_eq!(chosen(None, None, Arch::Aarch64), None);
    }
}
