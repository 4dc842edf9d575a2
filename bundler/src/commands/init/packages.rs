//! A set of operating-system packages for the machine of an inventory.

use std::path::{Path, PathBuf};

use manifest_schema::plan::{
    DebRepository, InstalledSource, KeySource, PlanOsPackages, Repository, RpmRepository,
};
use manifest_schema::{PackageFormat, PackageName, PackageSetName, Wanted};
use report::Trouble;

use super::local::Places;
use crate::error::InputError;
use crate::since::received;

/// What a plan takes of an operating system's packages.
#[derive(clap::Args)]
pub(crate) struct Packages {
    /// Carry what a driver is built with, for the system of the inventory that `--site` names
    ///
    /// Where its packages are: the address of the folder that has `repodata/`, or the words of a line of
    /// `sources.list`, such as `https://example.org/debian bookworm main` (can be repeated)
    #[arg(long = "os-repository", value_name = "REPOSITORY", requires = "site")]
    repositories: Vec<String>,
    /// File with the OpenPGP public keys that sign them (can be repeated)
    #[arg(long = "os-key", value_name = "FILE", requires = "site")]
    keys: Vec<PathBuf>,
    /// Package to carry instead of the usual compiler and tools (can be repeated)
    #[arg(long = "os-package", value_name = "NAME", requires = "site")]
    wanted: Vec<Wanted>,
}

impl Packages {
    /// The set for the machine of `inventory`; `None` where no repository was named.
    pub(super) fn set(
        &self,
        inventory: Option<&Path>,
        places: &Places,
    ) -> Result<Option<PlanOsPackages>, Trouble> {
        let Some(file) = inventory.filter(|_| !self.repositories.is_empty()) else {
            return Ok(None);
        };
        let bytes = std::fs::read(file).map_err(InputError::file(file))?;
        let read = received(file, &bytes, None)?.inventory;
        let unknown = |expected: &str| InputError::OtherSystem {
            path: file.to_owned(),
            found: "?".to_owned(),
            expected: expected.to_owned(),
        };
        let os = read.site.os.as_ref().map(|os| &os.value);
        let table = os.and_then(|os| os.table.clone());
        let table = table.ok_or_else(|| unknown("a system of the tables"))?;
        let arch = read.site.arch.as_ref().map(|arch| arch.value);
        let arch = arch.ok_or_else(|| unknown("x86_64 or aarch64"))?;
        let format = read
            .os_packages
            .as_ref()
            .and_then(|packages| packages.format);
        let format = format.ok_or_else(|| unknown("a system with rpm or dpkg"))?;
        let edition = os.and_then(|os| os.edition.clone());
        let words = [
            Some(table.as_str()),
            edition.as_deref(),
            Some(arch.as_str()),
        ];
        let words: Vec<&str> = words.into_iter().flatten().collect();
        let mut keys = Vec::new();
        for path in &self.keys {
            keys.push(KeySource::File {
                path: places.of(path)?,
            });
        }
        let name = |text: &str| PackageName::parse(text).ok();
        let for_kernel = match format {
            PackageFormat::Rpm => "kernel-devel",
            PackageFormat::Deb => "linux-headers",
        };
        let usual = || USUAL.iter().filter_map(|text| text.parse().ok()).collect();
        Ok(Some(PlanOsPackages {
            name: set_name(&words),
            os: table,
            edition,
            arch,
            repositories: self
                .repositories
                .iter()
                .map(|text| repository(text, format))
                .collect(),
            keys,
            wanted: if self.wanted.is_empty() {
                usual()
            } else {
                self.wanted.clone()
            },
            wanted_for_kernel: if self.wanted.is_empty() {
                name(for_kernel).into_iter().collect()
            } else {
                Vec::new()
            },
            modules: Vec::new(),
            kernel: None,
            installed: Some(InstalledSource::Inventory(places.of(file)?)),
        }))
    }
}

fn repository(text: &str, format: PackageFormat) -> Repository {
    let mut words = text.split_whitespace().map(str::to_owned);
    let mut next = || words.next().unwrap_or_default();
    match format {
        PackageFormat::Rpm => Repository::Rpm(RpmRepository {
            base_url: next(),
            mirrors: Vec::new(),
            unsafe_accept_unsigned_metadata: false,
        }),
        PackageFormat::Deb => Repository::Deb(DebRepository {
            uri: next(),
            suite: next(),
            components: words.collect(),
            mirrors: Vec::new(),
            unsafe_accept_unsigned_metadata: false,
            accept_expired: false,
        }),
    }
}

/// The words of a system as one name: `kylin-v10-sp3-aarch64`.
fn set_name(words: &[&str]) -> PackageSetName {
    let text = words.join("-").to_ascii_lowercase();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let text: String = text.chars().map(plain).take(64).collect();
    // Names of tables begin with a letter.
    PackageSetName::parse(&text).unwrap_or_else(|_| {
        PackageSetName::parse("packages").expect("`packages` is a name of a set")
    })
}

/// What drivers are built and unpacked with, and what their installers run.
const USUAL: [&str; 5] = ["gcc", "make", "net-tools", "pciutils", "tar"];
