//! Packages of operating systems become a repository: its metadata is made from the packages themselves.

use std::fs::File;
use std::io::BufReader;

use manifest_schema::lock::{LockedOsPackages, LockedPackage};
use manifest_schema::{
    BundlePath, ByteSize, Digest, OriginKind, OsPackage, OsPackages, PackageFormat, PlacedFile,
};
use os_packages::{PackageError, deb, rpm};
use report::Trouble;

use super::{Work, built};
use crate::error::InputError;

impl Work<'_> {
    /// Every set, as the profiles name it.
    pub(super) fn os_packages(
        &mut self,
        sets: &[LockedOsPackages],
    ) -> Result<Vec<OsPackages>, Trouble> {
        sets.iter().map(|set| self.set(set)).collect()
    }

    /// Places a set's packages and keys, and makes the metadata that dnf or apt reads them by.
    fn set(&mut self, set: &LockedOsPackages) -> Result<OsPackages, Trouble> {
        let owner = set.name.as_str();
        let empty = std::collections::BTreeMap::new();
        let mut packages = Vec::new();
        for package in &set.packages {
            let placed = self.place(std::slice::from_ref(&package.file), &empty, owner)?;
            // A package is one whole file.
            packages.extend(placed.into_iter().map(|file| OsPackage {
                name: package.name.clone(),
                version: package.version.clone(),
                arch: package.arch.clone(),
                license: package.license.clone(),
                file,
            }));
        }
        let made = match set.format {
            PackageFormat::Rpm => self.repodata(set)?,
            PackageFormat::Deb => self.packages_file(set)?,
        };
        let mut metadata = self.place(&set.keys, &empty, owner)?;
        for (path, bytes) in made {
            metadata.push(self.made(&path, &bytes, owner)?);
        }
        metadata.sort_by(|a, b| a.path.cmp(&b.path));
        let mut paths: Vec<&BundlePath> =
            packages.iter().map(|package| &package.file.path).collect();
        paths.sort();
        if let Some(twice) = paths.windows(2).find(|pair| pair[0] == pair[1]) {
            let (owner, path) = (owner.to_owned(), twice[0].to_string());
            return Err(InputError::Twice { owner, path }.into());
        }
        Ok(OsPackages {
            name: set.name.clone(),
            os: set.os.clone(),
            edition: set.edition.clone(),
            arch: set.arch,
            format: set.format,
            kernel: set.kernel.clone(),
            wanted: set.wanted.clone(),
            packages,
            metadata,
        })
    }

    fn repodata(&self, set: &LockedOsPackages) -> Result<Vec<(String, Vec<u8>)>, Trouble> {
        let mut carried = Vec::new();
        for package in &set.packages {
            let (size, mut file) = self.open(package)?;
            let location = package.file.path.to_string();
            let header = rpm::Header::read(&location, &mut file)?;
            same(package, &header.name(), &header.version(), &header.arch())?;
            carried.push(rpm::Carried {
                header,
                location,
                size,
                digest: package.file.artifact,
            });
        }
        Ok(rpm::repository(&carried))
    }

    fn packages_file(&self, set: &LockedOsPackages) -> Result<Vec<(String, Vec<u8>)>, Trouble> {
        let mut carried = Vec::new();
        for package in &set.packages {
            let (size, mut file) = self.open(package)?;
            let location = package.file.path.to_string();
            let control = deb::control(&location, &mut file)?;
            let one = deb::Carried::new(&control, &location, size, package.file.artifact)?;
            same(package, one.name(), one.version(), one.arch())?;
            carried.push(one);
        }
        Ok(deb::repository(&carried, set.format.arch(set.arch)))
    }

    fn open(&self, package: &LockedPackage) -> Result<(u64, BufReader<File>), Trouble> {
        let path = self.cache.path(&package.file.artifact);
        let file = File::open(&path).map_err(InputError::file(&path))?;
        let size = file.metadata().map_err(InputError::file(&path))?.len();
        Ok((size, BufReader::new(file)))
    }

    /// Takes in a file that was made here.
    fn made(&mut self, path: &str, bytes: &[u8], owner: &str) -> Result<PlacedFile, Trouble> {
        let taken = self.cache.take(&mut &bytes[..], bytes.len() as u64)?;
        debug_assert_eq!(taken.digest, Digest::of(bytes));
        self.origins
            .insert(taken.digest, built(OriginKind::Built, owner));
        Ok(PlacedFile {
            path: BundlePath::parse(path).map_err(|_| InputError::Path {
                path: owner.to_owned(),
                found: path.to_owned(),
            })?,
            executable: false,
            size: ByteSize(taken.size),
            digest: taken.digest,
            made_from: None,
        })
    }
}

/// A repository's list may say other things of a package than the package itself.
fn same(
    package: &LockedPackage,
    name: &str,
    version: &str,
    arch: &str,
) -> Result<(), PackageError> {
    let found = format!("{name} {version} {arch}");
    let expected = format!("{} {} {}", package.name, package.version, package.arch);
    if found == expected {
        return Ok(());
    }
    Err(PackageError::Package {
        file: package.file.path.to_string(),
        problem: format!("it is {found}, and the repository said {expected}"),
    })
}
