//! A bundle that nobody has checked: its volumes are found and walked, nothing in them is parsed or believed.

use std::path::{Path, PathBuf};

use manifest_schema::Digest;

use crate::layout::{self, Role};
use crate::verify_error::{Fault, VerifyError};
use crate::volume::Volume;

/// Bytes from a disk or a USB stick that nobody has checked: one file, or the volumes that are at hand.
#[derive(Debug)]
pub struct Sealed {
    /// The volume that was named, then the others in their order. All have the same metadata, or are refused later.
    pub(crate) volumes: Vec<Volume>,
    /// Whether volumes may be missing.
    pub(crate) alone: bool,
}

impl Sealed {
    /// Opens a bundle and walks its headers: strict ustar, known names in the one order, no gap, no byte more.
    ///
    /// `path` is a bundle, one of its volumes, or the folder that they are in. Volumes beside the named one are
    /// opened too.
    ///
    /// # Errors
    /// When a file cannot be read, is cut short, or has a form that no bundle has.
    pub fn open(path: &Path) -> Result<Self, VerifyError> {
        Ok(Self {
            volumes: volumes_at(path)?,
            alone: false,
        })
    }

    /// Opens volumes that lie in several places, such as mounted discs.
    ///
    /// # Errors
    /// Those of [`Sealed::open`]; [`Fault::NotABundle`] when `paths` is empty.
    pub fn open_volumes(paths: &[PathBuf]) -> Result<Self, VerifyError> {
        let Some((first, rest)) = paths.split_first() else {
            return Err(Fault::NotABundle.of(""));
        };
        Self::gather(Volume::open(first)?, rest)
    }

    /// Opens one volume alone: what it holds can be checked, what it does not hold is not missed.
    ///
    /// # Errors
    /// Those of [`Sealed::open`].
    pub fn open_alone(path: &Path) -> Result<Self, VerifyError> {
        Ok(Self {
            volumes: vec![Volume::open(path)?],
            alone: true,
        })
    }

    fn gather(first: Volume, rest: &[PathBuf]) -> Result<Self, VerifyError> {
        Ok(Self {
            volumes: gather(first, rest)?,
            alone: false,
        })
    }

    /// Fingerprint of the newest root that the bundle offers: what a person compares before trusting it.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn fingerprint_offered(&self) -> Result<Digest, VerifyError> {
        let mut all = self.fingerprints_offered()?;
        all.pop().ok_or_else(|| {
            let member = layout::ROOT.to_owned();
            Fault::Missing { member }.of(self.path())
        })
    }

    /// Fingerprints of all roots that the bundle offers, the oldest first. A person may know any of them.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn fingerprints_offered(&self) -> Result<Vec<Digest>, VerifyError> {
        let named = self.named();
        let roots = named.members.iter().filter(|m| m.role == Role::Root);
        roots
            .map(|root| Ok(Digest::of(&named.read(&root.name)?)))
            .collect()
    }

    /// The bundle's file, or the volume that was named.
    pub fn path(&self) -> &Path {
        &self.named().path
    }

    /// The files of the bundle in the order of their numbers, none missing. Nothing in them is checked.
    ///
    /// # Errors
    /// When a volume is not there.
    pub fn complete(&self) -> Result<Vec<PathBuf>, VerifyError> {
        let mut volumes: Vec<&Volume> = self.volumes.iter().collect();
        volumes.sort_by_key(|volume| volume.number);
        let of = self.named().of;
        let there = |number: &u32| volumes.iter().any(|volume| volume.number == *number);
        let missing: Vec<_> = (1..=of)
            .filter(|n| !there(n))
            .map(|n| n.to_string())
            .collect();
        if missing.is_empty() {
            return Ok(volumes.iter().map(|volume| volume.path.clone()).collect());
        }
        let missing = missing.join(", ");
        Err(Fault::VolumesMissing { missing, of }.of(self.path()))
    }

    /// The volume that was named: its metadata speaks for all.
    pub(crate) fn named(&self) -> &Volume {
        // There is always one: both doors put it there.
        &self.volumes[0]
    }
}

/// The volumes at `place`, a bundle, one of its volumes, or the folder that they are in: the named one first.
pub(crate) fn volumes_at(place: &Path) -> Result<Vec<Volume>, VerifyError> {
    let named = if place.is_dir() {
        first_of(place)?
    } else {
        place.to_owned()
    };
    let first = Volume::open(&named)?;
    let mut paths = Vec::new();
    for number in (1..=first.of).filter(|number| *number != first.number) {
        let beside = sibling(&named, first.number, number);
        paths.extend(beside.filter(|beside| beside.exists()));
    }
    gather(first, &paths)
}

fn gather(first: Volume, rest: &[PathBuf]) -> Result<Vec<Volume>, VerifyError> {
    let mut others = Vec::new();
    for path in rest {
        others.push(Volume::open(path)?);
    }
    others.sort_by_key(|volume| volume.number);
    Ok(std::iter::once(first).chain(others).collect())
}

/// The bundle in a folder: the only one, or the first of the only set of volumes.
fn first_of(folder: &Path) -> Result<PathBuf, VerifyError> {
    let unreadable = |cause| Fault::Unreadable.because(folder, cause);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|ending| ending == "ferry") {
            found.push(path);
        }
    }
    found.sort();
    let stem = |path: &Path| {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        name.rsplit_once(".vol")
            .map_or(name.clone(), |(stem, _)| stem.to_owned())
    };
    let Some(first) = found.first() else {
        return Err(Fault::NotABundle.of(folder));
    };
    match found.iter().find(|path| stem(path) != stem(first)) {
        Some(other) => {
            let name = |path: &Path| {
                path.file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned()
            };
            let (one, other) = (name(first), name(other));
            Err(Fault::Several { one, other }.of(folder))
        }
        None => Ok(first.clone()),
    }
}

/// The path of another volume of the set that `path` belongs to.
fn sibling(path: &Path, own: u32, number: u32) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let stem = name.strip_suffix(&format!(".vol{own:03}.ferry"))?;
    Some(path.with_file_name(format!("{stem}.vol{number:03}.ferry")))
}
