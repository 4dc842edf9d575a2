//! The parity files that belong together.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::{Description, ParityError};
use crate::parallel::hash_range;

/// The parity of one bundle, as far as it can be read.
pub(super) struct Set {
    /// The folder that all of it is in.
    pub(super) folder: PathBuf,
    /// What every file of the set says.
    pub(super) description: Description,
    files: Vec<Part>,
}

/// One parity file.
struct Part {
    name: String,
    file: File,
    description: Description,
    /// Bytes of its descriptor: where its first recovery block begins.
    head: u64,
}

/// A recovery block that is whole, and where it is.
pub(super) struct Spare<'a> {
    pub(super) number: usize,
    pub(super) file: &'a File,
    pub(super) offset: u64,
}

impl Set {
    /// Finds the parity that `place` means: the only one in a folder, or that of a file, which may itself be missing.
    pub(super) fn find(place: &Path) -> Result<Self, ParityError> {
        let parent = place
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let (folder, named) = if place.is_dir() {
            (place, None)
        } else {
            (parent.unwrap_or(Path::new(".")), place.file_name())
        };
        let named = named.map(|name| name.to_string_lossy().into_owned());
        let mut files = read_all(folder)?;
        if let Some(named) = &named {
            let asked = files
                .iter()
                .position(|part| part.name == *named || part.description.protects(named));
            if let Some(asked) = asked {
                files.swap(0, asked);
            } else {
                files.clear();
            }
        }
        let none = || ParityError::None {
            path: place.to_owned(),
        };
        let description = files.first().ok_or_else(none)?.description.clone();
        if named.is_none() {
            refuse_several(folder, &files)?;
        }
        files.retain(|part| description.same_set(&part.description));
        Ok(Self {
            folder: folder.to_owned(),
            description,
            files,
        })
    }

    /// Bytes of all recovery blocks that are here.
    pub(super) fn size(&self) -> u64 {
        let blocks = self
            .files
            .iter()
            .map(|part| part.description.blocks.len() as u64);
        blocks.sum::<u64>() * self.description.block
    }

    /// Hashes all recovery blocks and returns those that are whole. `read` is told how many bytes were.
    pub(super) fn whole(&self, mut read: impl FnMut(u64)) -> Vec<Spare<'_>> {
        let mut whole = Vec::new();
        for part in &self.files {
            for (number, expected) in part.description.blocks.iter().enumerate() {
                let block = self.description.block;
                let offset = part.head + number as u64 * block;
                let found = hash_range(&part.file, offset, block, |_, run| {
                    read(run.len() as u64);
                    Ok::<(), io::Error>(())
                });
                if found.is_ok_and(|found| found == *expected) {
                    whole.push(Spare {
                        number: part.description.first + number,
                        file: &part.file,
                        offset,
                    });
                }
            }
        }
        whole
    }
}

/// Every parity file of a folder whose descriptor can be read, by name.
fn read_all(folder: &Path) -> Result<Vec<Part>, ParityError> {
    let failed = ParityError::file(folder);
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(&failed)? {
        let path = entry.map_err(&failed)?.path();
        let ending = path.extension().unwrap_or_default().to_string_lossy();
        let number = ending.strip_prefix("par").unwrap_or_default();
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        if is_number && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        let file = File::open(&path).map_err(ParityError::file(&path))?;
        if let Some((description, head)) = Description::find(&file) {
            let name = path.file_name().unwrap_or_default();
            files.push(Part {
                name: name.to_string_lossy().into_owned(),
                file,
                description,
                head,
            });
        }
    }
    Ok(files)
}

/// Which bundle is meant must be said where the parity files protect different ones. Files of one name are of one
/// bundle: older parity of it may lie beside the newer.
fn refuse_several(folder: &Path, files: &[Part]) -> Result<(), ParityError> {
    let Some((first, rest)) = files.split_first() else {
        return Ok(());
    };
    let stranger = |part: &&Part| {
        let mut names = part.description.files.iter();
        !names.any(|file| first.description.protects(&file.name))
    };
    let name_of = |part: &Part| {
        let first = part.description.files.first();
        first.map_or_else(|| part.name.clone(), |file| file.name.clone())
    };
    match rest.iter().find(stranger) {
        None => Ok(()),
        Some(other) => Err(ParityError::Several {
            path: folder.to_owned(),
            one: name_of(first),
            other: name_of(other),
        }),
    }
}
