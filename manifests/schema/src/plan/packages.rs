//! Packages of operating systems in a plan, and what the types alone cannot say of them.
//!
//! They stand at the top of a plan rather than in a backend: like a driver they belong to the machine, so what
//! chooses among them is its system, not its chip.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ManifestError;
use super::check::check_address;
use crate::os::OsTable;
use crate::{Arch, Digest, PackageFormat, PackageName, PackageSetName, Wanted};

/// Packages for one system, which `lock` completes with all that they need.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PlanOsPackages {
    /// Name of the set, and of its folder below `os/`.
    pub name: PackageSetName,
    /// The system's name in the system tables, such as `kylin-v10`; `ferry-installer probe` says it.
    pub os: String,
    /// Its service pack or flavour, such as `SP3`; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edition: Option<String>,
    /// Architecture of the machines.
    pub arch: Arch,
    /// Where the packages are, all of one kind.
    pub repositories: Vec<Repository>,
    /// OpenPGP keys that may sign the repositories.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<KeySource>,
    /// What to install: `name`, or `name=version`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wanted: Vec<Wanted>,
    /// What must match the kernel: `kernel-devel` in the very version of an rpm kernel, `linux-headers` followed by
    /// the kernel's release on Debian and Ubuntu.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wanted_for_kernel: Vec<PackageName>,
    /// Streams of modules that are on beside those that are on by default or that something installed is from:
    /// `name:stream`. For rpm repositories with modules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<String>,
    /// The kernel's release, as `uname -r` prints it; by default that of the inventory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// What the machine has already. Without it everything down to the C library is carried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed: Option<InstalledSource>,
}

/// A repository of packages.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Repository {
    /// Of rpm packages: the folder that has `repodata/`.
    Rpm(RpmRepository),
    /// Of Debian packages.
    Deb(DebRepository),
}

impl Repository {
    /// Which package manager it is for.
    pub fn format(&self) -> PackageFormat {
        match self {
            Self::Rpm(_) => PackageFormat::Rpm,
            Self::Deb(_) => PackageFormat::Deb,
        }
    }
}

/// A repository of rpm packages.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RpmRepository {
    /// Address of the folder that has `repodata/`; no variables such as `$basearch`.
    pub base_url: String,
    /// Other addresses of the same repository, tried in this order after the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<String>,
    /// Take metadata that nobody signed: whoever can change what the server sends can then choose every package.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsafe_accept_unsigned_metadata: bool,
}

/// A repository of Debian packages, as a line of `sources.list` names it.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DebRepository {
    /// Its address, above `dists/`.
    pub uri: String,
    /// Other addresses of the same repository, tried in this order after the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<String>,
    /// The suite, such as `bookworm`; one that ends with `/` is a folder without components.
    pub suite: String,
    /// Components, such as `main`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<String>,
    /// Take metadata that nobody signed: whoever can change what the server sends can then choose every package.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsafe_accept_unsigned_metadata: bool,
    /// Take metadata past its `Valid-Until`, as an archive of old states serves it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accept_expired: bool,
}

/// A file with OpenPGP public keys, armoured or not.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum KeySource {
    /// On the builder's machine.
    File {
        /// Its path, relative to the plan.
        path: String,
    },
    /// On the web.
    Https {
        /// Its address.
        url: String,
        /// SHA-256 that the bytes must have.
        digest: Digest,
    },
}

/// Where the list of installed packages is.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum InstalledSource {
    /// What `ferry-installer inventory` wrote; its path, relative to the plan.
    Inventory(String),
    /// What `rpm -qa` or `dpkg-query -W` printed on a machine installed alike; its path, relative to the plan.
    List(String),
}

/// Checks every set, and that a machine can tell which is its own.
pub(super) fn check(sets: &[PlanOsPackages]) -> Result<(), ManifestError> {
    let (mut names, mut systems) = (BTreeSet::new(), BTreeSet::new());
    for (position, set) in sets.iter().enumerate() {
        let at = format!("os_packages[{position}]");
        if !names.insert(&set.name) {
            return Err(ManifestError::value(
                format!("{at}.name"),
                format!("`{}` a second time", set.name),
                "each name once",
            ));
        }
        if !systems.insert((&set.os, &set.edition, set.arch)) {
            let found = format!("a second set for `{}` {}", set.os, set.arch);
            return Err(ManifestError::value(at, found, "one set a system"));
        }
        set.check(&at)?;
    }
    Ok(())
}

impl PlanOsPackages {
    /// Which package manager the set is for. [`super::Plan::parse`] made sure that its repositories agree.
    pub fn format(&self) -> PackageFormat {
        let first = self.repositories.first();
        first.map_or(PackageFormat::Rpm, Repository::format)
    }

    fn check(&self, at: &str) -> Result<(), ManifestError> {
        let wrong = |key: &str, found: String, expected: String| {
            Err(ManifestError::value(format!("{at}.{key}"), found, expected))
        };
        let Some(table) = OsTable::named(&self.os) else {
            let known: Vec<&str> = OsTable::all().iter().map(|os| os.name.as_str()).collect();
            return wrong(
                "os",
                format!("`{}`", self.os),
                format!("one of {}", known.join(", ")),
            );
        };
        if let Some(edition) = &self.edition {
            let known: Vec<&str> = table.editions.iter().map(|e| e.name.as_str()).collect();
            if !known.contains(&edition.as_str()) {
                let expected = format!("one of {}", known.join(", "));
                return wrong("edition", format!("`{edition}`"), expected);
            }
        }
        if self.wanted.is_empty() && self.wanted_for_kernel.is_empty() {
            return wrong("wanted", "nothing".into(), "the name of a package".into());
        }
        let Some(first) = self.repositories.first() else {
            return wrong("repositories", "none".into(), "at least one".into());
        };
        let is_stream = |text: &&String| {
            let plain = |part: &str| {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte);
                !part.is_empty() && part.bytes().all(plain)
            };
            text.split_once(':')
                .is_some_and(|(name, stream)| plain(name) && plain(stream))
        };
        if let Some(found) = self.modules.iter().find(|text| !is_stream(text)) {
            let expected = "`name:stream`, such as `nodejs:18`".to_owned();
            return wrong("modules", format!("`{found}`"), expected);
        }
        if !self.modules.is_empty() && first.format() != PackageFormat::Rpm {
            let found = "streams for packages of Debian".to_owned();
            return wrong("modules", found, "none: only rpm has modules".into());
        }
        for (position, repository) in self.repositories.iter().enumerate() {
            let key = format!("repositories[{position}]");
            if repository.format() != first.format() {
                let found = format!("one of {}", repository.format().as_str());
                return wrong(
                    &key,
                    found,
                    format!("{}, like the first", first.format().as_str()),
                );
            }
            check_repository(repository, &format!("{at}.{key}"))?;
            if !repository.accepts_unsigned() && self.keys.is_empty() {
                let expected = "the keys that sign the repositories".to_owned();
                return wrong("keys", "none".into(), expected);
            }
        }
        for (position, key) in self.keys.iter().enumerate() {
            if let KeySource::Https { url, .. } = key {
                check_address(url, &format!("{at}.keys[{position}].https.url"), NO_LOGIN)?;
            }
        }
        Ok(())
    }
}

impl Repository {
    fn accepts_unsigned(&self) -> bool {
        match self {
            Self::Rpm(one) => one.unsafe_accept_unsigned_metadata,
            Self::Deb(one) => one.unsafe_accept_unsigned_metadata,
        }
    }
}

fn check_repository(repository: &Repository, at: &str) -> Result<(), ManifestError> {
    let (key, url, mirrors) = match repository {
        Repository::Rpm(one) => ("rpm.base_url", &one.base_url, &one.mirrors),
        Repository::Deb(one) => ("deb.uri", &one.uri, &one.mirrors),
    };
    for url in std::iter::once(url).chain(mirrors) {
        check_address(url, &format!("{at}.{key}"), NO_LOGIN)?;
        if url.contains(['$', '?', '#']) {
            let (at, found) = (format!("{at}.{key}"), format!("`{url}`"));
            return Err(ManifestError::value(
                at,
                found,
                "a plain address without variables",
            ));
        }
    }
    let Repository::Deb(deb) = repository else {
        return Ok(());
    };
    let part = |text: &String| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+~/".contains(&byte);
        !text.is_empty() && text.bytes().all(plain) && !text.split('/').any(|part| part == "..")
    };
    if !part(&deb.suite) || deb.suite.ends_with('/') != deb.components.is_empty() {
        return Err(ManifestError::value(
            format!("{at}.deb.suite"),
            format!("`{}` with {} components", deb.suite, deb.components.len()),
            "a suite with components, or a folder that ends with `/` without",
        ));
    }
    match deb.components.iter().find(|component| !part(component)) {
        None => Ok(()),
        Some(found) => {
            let (at, found) = (format!("{at}.deb.components"), format!("`{found}`"));
            Err(ManifestError::value(at, found, "names such as `main`"))
        }
    }
}

/// Where a login belongs.
const NO_LOGIN: &str = "repositories that want a login cannot be read";

#[cfg(test)]
mod tests {
    use crate::plan::{ManifestError, Plan};

    fn plan(edit: impl Fn(&mut serde_json::Value)) -> Result<Plan, ManifestError> {
        let mut set = serde_json::json!({
            "name": "kylin", "os": "kylin-v10", "edition": "SP3", "arch": "aarch64",
            "repositories": [{ "rpm": { "base_url": "https://example.org/os/" } }],
            "keys": [{ "file": { "path": "key.asc" } }],
            "wanted": ["gcc", "tar=2:1.30"], "wanted_for_kernel": ["kernel-devel"],
            "installed": { "inventory": "inventory.json" },
        });
        edit(&mut set);
        let plan = serde_json::json!({
            "format": 1, "name": "demo", "release": 1, "os_packages": [set],
        });
        Plan::parse(&serde_json::to_vec(&plan).unwrap())
    }

    #[test]
    fn a_set_reads_and_writes_back() {
        let read = plan(|_| ()).unwrap();
        let text = serde_json::to_vec(&read).unwrap();
        assert_eq!(Plan::parse(&text).unwrap(), read);
    }

    #[test]
    fn a_wrong_set_names_the_place_and_what_it_should_be() {
        type Edit = fn(&mut serde_json::Value);
        let deb = |suite: &str, components: &[&str]| {
            serde_json::json!([{ "deb": { "uri": "https://example.org/debian",
                "suite": suite, "components": components } }])
        };
        let cases: [(Edit, &str, &str); 9] = [
            (|s| s["os"] = "plan9".into(), "os", "kylin-v10"),
            (|s| s["edition"] = "SP9".into(), "edition", "SP3"),
            (|s| s["keys"] = serde_json::json!([]), "keys", "sign"),
            (
                |s| s["wanted"] = serde_json::json!(["--nodeps"]),
                "wanted",
                "package name",
            ),
            (
                |s| s["repositories"] = serde_json::json!([]),
                "repositories",
                "at least one",
            ),
            (
                |s| s["repositories"][0]["rpm"]["base_url"] = "https://a.org/$basearch".into(),
                "base_url",
                "without variables",
            ),
            (
                |s| s["repositories"][0]["rpm"]["base_url"] = "https://me:hush@a.org/".into(),
                "base_url",
                "without",
            ),
            (
                |s| {
                    s["wanted"] = serde_json::json!([]);
                    s["wanted_for_kernel"] = serde_json::json!([]);
                },
                "wanted",
                "name of a package",
            ),
            (|s| s["nodeps"] = true.into(), "nodeps", "unknown field"),
        ];
        for (edit, at, expected) in cases {
            let error = plan(edit).unwrap_err().to_string();
            assert!(
                error.contains(at) && error.contains(expected),
                "{at}: {error}"
            );
            assert!(!error.contains("hush"), "{error}");
        }
        assert!(plan(|s| s["repositories"] = deb("bookworm", &["main"])).is_ok());
        assert!(plan(|s| s["repositories"] = deb("./", &[])).is_ok());
        for (suite, components) in [
            ("bookworm", &[][..]),
            ("../x", &["main"]),
            ("./", &["main"]),
        ] {
            assert!(
                plan(|s| s["repositories"] = deb(suite, components)).is_err(),
                "{suite}"
            );
        }
    }
}
