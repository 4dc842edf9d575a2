//! Finds what is damaged or missing and restores it.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use manifest_schema::Digest;
use reed_solomon_simd::ReedSolomonDecoder;
use report::{Sink, Step};

use super::{Description, ParityError, SLICE, read_padded};
use crate::parallel::hash_range;

/// What a repair did.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Repaired {
    /// Files that were damaged or missing and are whole now, with the number of blocks restored.
    pub files: Vec<(PathBuf, usize)>,
    /// Bytes of a block.
    pub block: u64,
    /// Recovery blocks that are left over.
    pub spare: usize,
}

/// Restores the files that the parity in `folder` protects, where they lie.
///
/// # Errors
/// When there is no parity, more is lost than it can give back, or a file cannot be written. Then nothing was written.
pub fn repair(folder: &Path, sink: &dyn Sink) -> Result<Repaired, ParityError> {
    let set = Set::find(folder)?;
    let step = Step::start(sink, "step.parity-check", "", None, "bytes");
    let mut files = Vec::new();
    for file in &set.description.files {
        files.push(Damaged::look(folder, file, set.description.block)?);
    }
    step.finish();
    let lost: usize = files.iter().map(|file| file.lost.len()).sum();
    let spare = set.whole.len();
    if lost > spare {
        let damaged = files.iter().filter(|file| !file.lost.is_empty());
        let names: Vec<_> = damaged
            .map(|file| file.path.display().to_string())
            .collect();
        return Err(ParityError::Exceeded {
            lost,
            spare,
            block: set.description.block,
            files: names.join(", "),
        });
    }
    if lost > 0 {
        restore(&set, &mut files, sink)?;
    }
    let mut repaired = Vec::new();
    for (file, protected) in files.iter().zip(&set.description.files) {
        if file.wrong_size || !file.lost.is_empty() {
            file.settle(protected.size, &protected.blocks, set.description.block)?;
            repaired.push((file.path.clone(), file.lost.len()));
        }
    }
    Ok(Repaired {
        files: repaired,
        block: set.description.block,
        spare: spare - lost,
    })
}

/// The parity files of a folder that belong together.
struct Set {
    description: Description,
    /// Number of each whole recovery block, and where it is.
    whole: Vec<(usize, File, u64)>,
}

impl Set {
    fn find(folder: &Path) -> Result<Self, ParityError> {
        let failed = ParityError::file(folder);
        let mut paths = Vec::new();
        for entry in fs::read_dir(folder).map_err(&failed)? {
            let path = entry.map_err(&failed)?.path();
            let ending = path
                .extension()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if ending.starts_with("par") && ending != "partial" && path.is_file() {
                paths.push(path);
            }
        }
        paths.sort();
        let mut set: Option<Self> = None;
        for path in paths {
            let file = File::open(&path).map_err(ParityError::file(&path))?;
            let Some((description, head)) = Description::find(&file) else {
                continue;
            };
            let set = set.get_or_insert_with(|| Self {
                description: description.clone(),
                whole: Vec::new(),
            });
            if !set.description.same_set(&description) {
                continue;
            }
            for (number, expected) in description.blocks.iter().enumerate() {
                let offset = head + number as u64 * description.block;
                let found = hash_range(&file, offset, description.block, |_, _| {
                    Ok::<(), std::io::Error>(())
                });
                if found.is_ok_and(|found| found == *expected) {
                    let file = file.try_clone().map_err(ParityError::file(&path))?;
                    set.whole.push((description.first + number, file, offset));
                }
            }
        }
        set.ok_or_else(|| ParityError::None {
            path: folder.to_owned(),
        })
    }
}

/// A protected file as it is.
struct Damaged {
    path: PathBuf,
    /// `None` where it is missing altogether.
    file: Option<File>,
    /// Numbers of the blocks that are not as they were.
    lost: Vec<usize>,
    count: usize,
    wrong_size: bool,
}

impl Damaged {
    fn look(folder: &Path, file: &super::Protected, block: u64) -> Result<Self, ParityError> {
        let path = folder.join(&file.name);
        let opened = match File::open(&path) {
            Ok(opened) => Some(opened),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(ParityError::file(&path)(error)),
        };
        let mut lost = Vec::new();
        for (number, expected) in file.blocks.iter().enumerate() {
            let offset = number as u64 * block;
            let size = block.min(file.size - offset);
            // A block that cannot be read is as good as lost: that is what a scratch looks like.
            let found = opened.as_ref().and_then(|f| {
                hash_range(f, offset, size, |_, _| Ok::<(), std::io::Error>(())).ok()
            });
            if found != Some(*expected) {
                lost.push(number);
            }
        }
        let size = opened
            .as_ref()
            .and_then(|f| f.metadata().ok())
            .map(|found| found.len());
        Ok(Self {
            path,
            file: opened,
            lost,
            count: file.blocks.len(),
            wrong_size: size != Some(file.size),
        })
    }

    /// Where what is restored goes: into the file, or into a new one that gets its name when it is whole.
    fn target(&self) -> PathBuf {
        if self.file.is_some() {
            return self.path.clone();
        }
        let mut name = self.path.as_os_str().to_owned();
        name.push(".partial");
        PathBuf::from(name)
    }

    /// Cuts to size, checks what was restored, syncs, names.
    fn settle(&self, size: u64, blocks: &[Digest], block: u64) -> Result<(), ParityError> {
        let target = self.target();
        let failed = ParityError::file(&target);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&target).map_err(&failed)?;
        file.set_len(size).map_err(&failed)?;
        for number in &self.lost {
            let offset = *number as u64 * block;
            let found = hash_range(&file, offset, block.min(size - offset), |_, _| Ok(()));
            if found.map_err(&failed)? != blocks[*number] {
                return Err(ParityError::Wrong {
                    path: self.path.clone(),
                });
            }
        }
        file.sync_all().map_err(&failed)?;
        if target != self.path {
            fs::rename(&target, &self.path).map_err(&failed)?;
        }
        Ok(())
    }
}

/// Computes the lost blocks, slice by slice, and writes them.
fn restore(set: &Set, files: &mut [Damaged], sink: &dyn Sink) -> Result<(), ParityError> {
    let description = &set.description;
    let mut targets = Vec::new();
    for file in files.iter() {
        let open = || {
            let mut options = OpenOptions::new();
            options
                .write(true)
                .create(true)
                .truncate(false)
                .open(file.target())
        };
        let target = if file.lost.is_empty() {
            None
        } else {
            Some(open())
        };
        targets.push(target.transpose().map_err(ParityError::file(&file.path))?);
    }
    let (data, recovery) = (description.data(), description.recovery);
    let lost: usize = files.iter().map(|file| file.lost.len()).sum();
    let step = Step::start(
        sink,
        "step.parity-restore",
        "",
        Some(description.block),
        "bytes",
    );
    let mut decoder = ReedSolomonDecoder::new(data, recovery, SLICE)?;
    let mut run = vec![0; SLICE];
    for start in (0..description.block).step_by(SLICE) {
        let mut first = 0;
        for file in files.iter() {
            let whole = (0..file.count).filter(|number| file.lost.binary_search(number).is_err());
            for number in whole {
                if let Some(opened) = &file.file {
                    let offset = number as u64 * description.block + start;
                    // Beyond the block's own bytes lies the end of the file, or nothing that was counted.
                    read_padded(opened, &mut run, offset).map_err(ParityError::file(&file.path))?;
                    let size = description
                        .files
                        .iter()
                        .find(|f| file.path.ends_with(&f.name));
                    clear_beyond(&mut run, offset, size.map_or(0, |f| f.size));
                }
                decoder.add_original_shard(first + number, &run)?;
            }
            first += file.count;
        }
        for (number, file, offset) in set.whole.iter().take(lost) {
            let failed = |source| ParityError::File {
                path: PathBuf::from(format!("parity block {number}")),
                source,
            };
            file.read_exact_at(&mut run, offset + start)
                .map_err(failed)?;
            decoder.add_recovery_shard(*number, &run)?;
        }
        let made = decoder.decode()?;
        let mut first = 0;
        for (file, target) in files.iter().zip(&targets) {
            for number in &file.lost {
                let slice = made.restored_original(first + number);
                if let (Some(slice), Some(target)) = (slice, target) {
                    let offset = *number as u64 * description.block + start;
                    target
                        .write_all_at(slice, offset)
                        .map_err(ParityError::file(&file.path))?;
                }
            }
            first += file.count;
        }
        step.progress(start + SLICE as u64);
    }
    step.finish();
    Ok(())
}

/// A file that grew counts as it was: what lies beyond its own size is zero.
fn clear_beyond(run: &mut [u8], offset: u64, size: u64) {
    let own = size.saturating_sub(offset).min(run.len() as u64) as usize;
    run[own..].fill(0);
}
