//! Finds what is damaged or missing and restores it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use manifest_schema::Digest;
use reed_solomon_simd::ReedSolomonDecoder;
use report::{Sink, Step};

use super::set::{Set, Spare};
use super::{Description, ParityError, Protected, SLICE, read_padded};
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

/// Restores the files of a bundle from its parity, where they lie. `place` is a file of it, or the folder that it is in.
///
/// # Errors
/// When there is no parity, the folder has that of several bundles, more is lost than it can give back, or a file cannot
/// be written. Of what is whole nothing is written.
pub fn repair(place: &Path, sink: &dyn Sink) -> Result<Repaired, ParityError> {
    let set = Set::find(place)?;
    let description = &set.description;
    let data: u64 = description.files.iter().map(|file| file.size).sum();
    let total = Some(data.saturating_add(set.size()));
    let step = Step::start(sink, "step.parity-check", "", total, "bytes");
    let mut done = 0;
    let mut read = |bytes: u64| {
        done += bytes;
        step.progress(done);
    };
    let whole = set.whole(&mut read);
    let mut files = Vec::new();
    for file in &description.files {
        let damaged = Damaged::look(&set.folder, file, description.block, &mut read)?;
        files.push(damaged);
    }
    step.finish();
    let lost: usize = files.iter().map(|file| file.lost.len()).sum();
    let spare = whole.len();
    if lost > spare {
        let damaged = files.iter().filter(|file| !file.lost.is_empty());
        let names: Vec<_> = damaged
            .map(|file| file.path.display().to_string())
            .collect();
        return Err(ParityError::Exceeded {
            lost,
            spare,
            block: description.block,
            files: names.join(", "),
        });
    }
    if lost > 0 {
        restore(description, &whole[..lost], &files, sink)?;
    }
    let mut repaired = Vec::new();
    for (file, protected) in files.iter().zip(&description.files) {
        if file.wrong_size || !file.lost.is_empty() {
            file.settle(&protected.blocks, description.block)?;
            repaired.push((file.path.clone(), file.lost.len()));
        }
    }
    Ok(Repaired {
        files: repaired,
        block: description.block,
        spare: spare - lost,
    })
}

/// A protected file as it is.
struct Damaged {
    path: PathBuf,
    /// `None` where it is missing altogether.
    file: Option<File>,
    /// Bytes that it should have.
    size: u64,
    wrong_size: bool,
    /// Numbers of the blocks that are not as they were.
    lost: Vec<usize>,
    count: usize,
}

impl Damaged {
    fn look(
        folder: &Path,
        file: &Protected,
        block: u64,
        mut read: impl FnMut(u64),
    ) -> Result<Self, ParityError> {
        let path = folder.join(&file.name);
        let opened = match open(&path) {
            Ok(opened) => Some(opened),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(ParityError::file(&path)(error)),
        };
        let mut lost = Vec::new();
        for (number, expected) in file.blocks.iter().enumerate() {
            let offset = number as u64 * block;
            let size = block.min(file.size - offset);
            // A block that cannot be read is as good as lost: that is what a scratch looks like.
            let found = opened.as_ref().and_then(|file| {
                let run = |_: u64, run: &[u8]| {
                    read(run.len() as u64);
                    Ok::<(), io::Error>(())
                };
                hash_range(file, offset, size, run).ok()
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
            size: file.size,
            wrong_size: size != Some(file.size),
            lost,
            count: file.blocks.len(),
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
    fn settle(&self, blocks: &[Digest], block: u64) -> Result<(), ParityError> {
        let target = self.target();
        let failed = ParityError::file(&target);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&target).map_err(&failed)?;
        file.set_len(self.size).map_err(&failed)?;
        for number in &self.lost {
            let offset = *number as u64 * block;
            let found = hash_range(&file, offset, block.min(self.size - offset), |_, _| Ok(()));
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

/// Opens a file, and nothing else: a pipe would wait for whoever writes into it.
fn open(path: &Path) -> io::Result<File> {
    if path.metadata()?.is_file() {
        File::open(path)
    } else {
        Err(io::Error::other("not a regular file"))
    }
}

/// Computes the lost blocks, slice by slice, and writes them.
fn restore(
    description: &Description,
    spares: &[Spare<'_>],
    files: &[Damaged],
    sink: &dyn Sink,
) -> Result<(), ParityError> {
    let mut targets = Vec::new();
    for file in files {
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
    let step = Step::start(
        sink,
        "step.parity-restore",
        "",
        Some(description.block * data as u64),
        "bytes",
    );
    let mut decoder = ReedSolomonDecoder::new(data, recovery, SLICE)?;
    let mut run = vec![0; SLICE];
    for start in (0..description.block).step_by(SLICE) {
        let mut first = 0;
        for file in files {
            let whole = (0..file.count).filter(|number| file.lost.binary_search(number).is_err());
            for number in whole {
                if let Some(opened) = &file.file {
                    let offset = number as u64 * description.block + start;
                    // Beyond the block's own bytes lies the end of the file, or nothing that was counted.
                    read_padded(opened, &mut run, offset).map_err(ParityError::file(&file.path))?;
                    clear_beyond(&mut run, offset, file.size);
                }
                decoder.add_original_shard(first + number, &run)?;
            }
            first += file.count;
        }
        for spare in spares {
            let failed = |source| ParityError::File {
                path: PathBuf::from(format!("parity block {}", spare.number)),
                source,
            };
            spare
                .file
                .read_exact_at(&mut run, spare.offset + start)
                .map_err(failed)?;
            decoder.add_recovery_shard(spare.number, &run)?;
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
        step.progress((start + SLICE as u64) * data as u64);
    }
    step.finish();
    Ok(())
}

/// A file that grew counts as it was: what lies beyond its own size is zero.
fn clear_beyond(run: &mut [u8], offset: u64, size: u64) {
    let own = size.saturating_sub(offset).min(run.len() as u64) as usize;
    run[own..].fill(0);
}
