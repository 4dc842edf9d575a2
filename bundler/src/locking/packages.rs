//! Packages of operating systems: repositories to what a machine lacks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use bundle_mirror::{Catalogue, Distribution, DistributionError, Verifier, fetch_pinned};
use manifest_schema::lock::{LockedFile, LockedOsPackages, LockedPackage, LockedRepository};
use manifest_schema::plan::{InstalledSource, KeySource, PlanOsPackages};
use manifest_schema::{
    Digest, KeyId, OriginKind, PackageFormat, PackageName, PackageVersion, Wanted,
};
use os_packages::rpm::Modules;
use os_packages::{Closure, Installed, Package, PackageError, Universe, from_inventory, from_list};
use report::{Event, Trouble};

use super::{Locker, path, pinned, whole};
use crate::error::InputError;
use crate::since::received;

/// Name and bytes of a file with keys.
type KeyFile = (String, Vec<u8>);

/// What is known of the machines that a set is for.
#[derive(Default)]
struct Machine {
    installed: Installed,
    digest: Option<Digest>,
    kernel: Option<String>,
}

impl Locker<'_> {
    /// Locks a set. An inventory must be signed with `site_key` where the plan pins one.
    pub(super) fn os_packages(
        &mut self,
        set: &PlanOsPackages,
        site_key: Option<&KeyId>,
    ) -> Result<LockedOsPackages, Trouble> {
        let format = set.format();
        let (keys, locked_keys) = self.keys(set)?;
        let mut machine = self.machine(set, site_key)?;
        let kernel = set.kernel.clone().or_else(|| machine.kernel.take());
        let wanted = wanted(set, kernel.as_deref())?;
        let distribution = Distribution {
            web: self.web,
            verifier: Verifier::new(&self.gpgv, &keys)?,
            now: SystemTime::now(),
        };
        let mut catalogues: Vec<Catalogue> = Vec::new();
        let (mut offered, mut modules) = (Vec::new(), Modules::default());
        for (number, repository) in set.repositories.iter().enumerate() {
            let mut catalogue = distribution.read(repository, set.arch, number)?;
            offered.append(&mut catalogue.packages);
            modules.join(std::mem::take(&mut catalogue.modules));
            catalogues.push(catalogue);
        }
        let arch = format.arch(set.arch);
        let visible = modules.visible(offered, &machine.installed, &set.modules)?;
        let hidden = visible.hidden;
        let mut universe = Universe::new(format, arch, visible.packages, machine.installed);
        let look_up = |paths: &BTreeSet<String>| {
            let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
            for catalogue in &catalogues {
                for (path, owners) in distribution.owners(catalogue, paths)? {
                    all.entry(path).or_default().extend(owners);
                }
            }
            Ok::<_, DistributionError>(all)
        };
        let closure = universe.solve(&wanted, look_up);
        let closure = closure.map_err(|error| match error {
            DistributionError::Package(error) => hidden.explain(error).into(),
            other => other,
        })?;
        self.say_left_out(set, &closure);
        let mut packages = Vec::new();
        for package in &closure.carried {
            packages.push(self.package_of(package, format, &catalogues)?);
        }
        Ok(LockedOsPackages {
            name: set.name.clone(),
            os: set.os.clone(),
            edition: set.edition.clone(),
            arch: set.arch,
            format,
            kernel: kernel.filter(|_| !set.wanted_for_kernel.is_empty()),
            installed: machine.digest,
            repositories: catalogues
                .into_iter()
                .map(|catalogue| LockedRepository {
                    url: catalogue.url,
                    metadata: catalogue.metadata,
                    signed_by: catalogue.signed_by,
                })
                .collect(),
            wanted,
            present: closure.present,
            packages,
            keys: locked_keys,
        })
    }

    /// Names what is recommended and not carried: some of it is what one wanted, such as the headers of the C library.
    fn say_left_out(&self, set: &PlanOsPackages, closure: &Closure) {
        let each = closure.left_out.iter();
        let each = each.map(|(name, list)| format!("{name}: {}", list.join(", ")));
        let packages: Vec<String> = each.collect();
        if !packages.is_empty() {
            self.sink.emit(&Event::Warned {
                code: "packages.recommended".to_owned(),
                args: vec![
                    ("set".to_owned(), set.name.to_string()),
                    ("packages".to_owned(), packages.join("; ")),
                ],
            });
        }
    }

    /// Pins one package's file.
    fn package_of(
        &mut self,
        package: &Package,
        format: PackageFormat,
        catalogues: &[Catalogue],
    ) -> Result<LockedPackage, Trouble> {
        // What is carried is offered by one of them.
        let Some((offer, catalogue)) = package
            .offer
            .as_ref()
            .and_then(|offer| Some((offer, catalogues.get(offer.repository)?)))
        else {
            let repo = package.name.clone();
            return Err(InputError::NothingTaken { repo }.into());
        };
        let file_name = offer.location.rsplit('/').next().unwrap_or_default();
        let wrong = |error: manifest_schema::IdError| PackageError::Package {
            file: file_name.to_owned(),
            problem: error.to_string(),
        };
        let name = PackageName::parse(&package.name).map_err(wrong)?;
        let version = PackageVersion::parse(&package.version).map_err(wrong)?;
        let mut artifact = pinned(
            offer.digest,
            offer.size,
            file_name,
            OriginKind::OsRepository,
        );
        artifact.urls = catalogue.urls(offer);
        artifact.project = Some(package.name.clone());
        artifact.version = Some(package.version.clone());
        artifact.license.clone_from(&package.license);
        self.artifacts.entry(offer.digest).or_insert(artifact);
        let folder = match format {
            PackageFormat::Rpm => "Packages",
            PackageFormat::Deb => "pool",
        };
        Ok(LockedPackage {
            file: whole(
                path(&format!("{folder}/{file_name}"), &package.name)?,
                offer.digest,
            ),
            name,
            version,
            arch: package.arch.clone(),
            license: package.license.clone(),
        })
    }

    /// The keys with their names; those that dnf may ask for on the target are pinned too.
    fn keys(&mut self, set: &PlanOsPackages) -> Result<(Vec<KeyFile>, Vec<LockedFile>), Trouble> {
        let (mut keys, mut locked) = (Vec::new(), Vec::new());
        for (number, source) in set.keys.iter().enumerate() {
            let (name, bytes) = match source {
                KeySource::File { path } => {
                    let file = self.plan_folder.join(path);
                    let bytes = std::fs::read(&file).map_err(InputError::file(&file))?;
                    (path.clone(), bytes)
                }
                KeySource::Https { url, digest } => {
                    (url.clone(), fetch_pinned(self.web, url, digest)?)
                }
            };
            // rpm imports armoured keys alone, and apt is told to trust what the bundle's own signature covers.
            if set.format() == PackageFormat::Rpm && bytes.starts_with(ARMOUR) {
                let digest = match source {
                    KeySource::File { path } => self.local(&self.plan_folder.join(path), None)?,
                    KeySource::Https { url, digest } => {
                        let file_name = url.rsplit('/').next().unwrap_or_default();
                        let size = bytes.len() as u64;
                        let mut artifact = pinned(*digest, size, file_name, OriginKind::Https);
                        artifact.urls = vec![url.clone()];
                        self.artifacts.entry(*digest).or_insert(artifact);
                        *digest
                    }
                };
                locked.push(whole(path(&format!("keys/{number}.asc"), &name)?, digest));
            }
            keys.push((name, bytes));
        }
        Ok((keys, locked))
    }

    fn machine(&self, set: &PlanOsPackages, site_key: Option<&KeyId>) -> Result<Machine, Trouble> {
        let Some(source) = &set.installed else {
            return Ok(Machine::default());
        };
        let (InstalledSource::Inventory(file) | InstalledSource::List(file)) = source;
        let file = self.plan_folder.join(file);
        let bytes = std::fs::read(&file).map_err(InputError::file(&file))?;
        let digest = Some(Digest::of(&bytes));
        let format = set.format();
        if matches!(source, InstalledSource::List(_)) {
            let installed = from_list(&String::from_utf8_lossy(&bytes), format)?;
            return Ok(Machine {
                installed,
                digest,
                kernel: None,
            });
        }
        let read = received(&file, &bytes, site_key)?.inventory;
        let os = read
            .site
            .os
            .as_ref()
            .and_then(|os| os.value.table.as_deref());
        let arch = read.site.arch.as_ref().map(|arch| arch.value);
        if os != Some(set.os.as_str()) || arch != Some(set.arch) {
            let arch = arch.map_or("?", manifest_schema::Arch::as_str);
            return Err(InputError::OtherSystem {
                path: file,
                found: format!("{} {arch}", os.unwrap_or("?")),
                expected: format!("{} {}", set.os, set.arch),
            }
            .into());
        }
        let none = manifest_schema::InstalledPackages::default();
        Ok(Machine {
            installed: from_inventory(read.os_packages.as_ref().unwrap_or(&none), format)?,
            digest,
            kernel: read.site.kernel.map(|kernel| kernel.value),
        })
    }
}

/// What is asked for by name, what must match the kernel among it.
fn wanted(set: &PlanOsPackages, kernel: Option<&str>) -> Result<Vec<Wanted>, Trouble> {
    let mut wanted = set.wanted.clone();
    for name in &set.wanted_for_kernel {
        let kernel = kernel.ok_or_else(|| InputError::NoKernel {
            set: set.name.to_string(),
            package: name.to_string(),
        })?;
        let text = match set.format() {
            PackageFormat::Deb => format!("{name}-{kernel}"),
            PackageFormat::Rpm => {
                let arch = format!(".{}", set.arch);
                format!("{name}={}", kernel.strip_suffix(&arch).unwrap_or(kernel))
            }
        };
        let one: Wanted = text.parse().map_err(|_| InputError::Word {
            text: kernel.to_owned(),
            expected: "a kernel release",
        })?;
        wanted.push(one);
    }
    wanted.sort();
    wanted.dedup();
    Ok(wanted)
}

const ARMOUR: &[u8] = b"-----BEGIN PGP";
