//! Makes parity files.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use manifest_schema::Digest;
use reed_solomon_simd::ReedSolomonEncoder;
use report::{Sink, Step};
use sha2::{Digest as _, Sha256};

use super::{BLOCKS, Description, ParityError, Protected, SLICE, SMALLEST, read_padded};
use crate::parallel::{for_each, hash_range};

/// Parity that was made.
#[derive(Clone, Debug)]
pub struct Parity {
    /// The files.
    pub paths: Vec<PathBuf>,
    /// Their bytes together.
    pub size: u64,
    /// Bytes of a block.
    pub block: u64,
    /// How many lost blocks can be restored.
    pub recovery: usize,
}

/// Writes parity for the files of a bundle beside the first of them: recovery blocks for `percent` of their blocks,
/// in files of at most `file_size` bytes.
///
/// # Errors
/// When the share is none, or a file cannot be read or written.
pub fn write_parity(
    files: &[PathBuf],
    percent: u32,
    file_size: Option<u64>,
    threads: usize,
    sink: &dyn Sink,
) -> Result<Parity, ParityError> {
    if !(1..=100).contains(&percent) {
        return Err(ParityError::Share { found: percent });
    }
    let opened = open(files)?;
    let total: u64 = opened.iter().map(|(_, _, size)| size).sum();
    let block = total
        .div_ceil(BLOCKS)
        .next_multiple_of(SLICE as u64)
        .max(SMALLEST);
    let protected = hash(&opened, block, threads, sink)?;
    let data: usize = protected.iter().map(|file| file.blocks.len()).sum();
    let recovery = (data * percent as usize).div_ceil(100);
    let out = files.first().map_or(Path::new(""), PathBuf::as_path);
    let each = per_file(file_size, block, recovery, &protected);
    let mut set = Set {
        description: Description {
            format: 1,
            block,
            files: protected,
            recovery,
            first: 0,
            blocks: Vec::new(),
        },
        files: Vec::new(),
        each,
    };
    set.create(out)?;
    let all = data as u64 * block;
    let step = Step::start(sink, "step.parity-write", "", Some(all), "bytes");
    let mut hashers = vec![Sha256::new(); recovery];
    let mut encoder = ReedSolomonEncoder::new(data, recovery, SLICE)?;
    let mut run = vec![0; SLICE];
    for start in (0..block).step_by(SLICE) {
        for (path, file, size) in &opened {
            for number in 0..size.div_ceil(block) {
                read_padded(file, &mut run, number * block + start)
                    .map_err(ParityError::file(path))?;
                encoder.add_original_shard(&run)?;
            }
        }
        let made = encoder.encode()?;
        for (number, slice) in made.recovery_iter().enumerate() {
            hashers[number].update(slice);
            set.put(number, start, slice)?;
        }
        step.progress((start + SLICE as u64) * data as u64);
    }
    let digests = hashers
        .into_iter()
        .map(|hasher| Digest::from_bytes(hasher.finalize().into()));
    let parity = set.finish(&digests.collect::<Vec<_>>())?;
    step.finish();
    Ok(parity)
}

type Opened = Vec<(PathBuf, File, u64)>;

fn open(files: &[PathBuf]) -> Result<Opened, ParityError> {
    let mut opened = Vec::new();
    for path in files {
        let failed = ParityError::file(path);
        let file = File::open(path).map_err(&failed)?;
        let size = file.metadata().map_err(&failed)?.len();
        opened.push((path.clone(), file, size));
    }
    Ok(opened)
}

fn hash(
    opened: &Opened,
    block: u64,
    threads: usize,
    sink: &dyn Sink,
) -> Result<Vec<Protected>, ParityError> {
    let total = opened.iter().map(|(_, _, size)| size).sum();
    let step = Step::start(sink, "step.parity-hash", "", Some(total), "bytes");
    let done = AtomicU64::new(0);
    let mut protected = Vec::new();
    for (path, file, size) in opened {
        let count = size.div_ceil(block) as usize;
        let digests = std::sync::Mutex::new(vec![Digest::from_bytes([0; 32]); count]);
        for_each(threads, count, |number| {
            let offset = number as u64 * block;
            let digest = hash_range(file, offset, block.min(size - offset), |_, _| Ok(()));
            let digest = digest.map_err(ParityError::file(path))?;
            let run = block.min(size - offset);
            step.progress(done.fetch_add(run, Ordering::Relaxed) + run);
            let mut digests = digests
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            digests[number] = digest;
            Ok::<(), ParityError>(())
        })?;
        protected.push(Protected {
            name: path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            size: *size,
            blocks: digests
                .into_inner()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        });
    }
    step.finish();
    Ok(protected)
}

/// Recovery blocks that one file takes, given what its two descriptors need.
fn per_file(file_size: Option<u64>, block: u64, recovery: usize, protected: &[Protected]) -> usize {
    let Some(file_size) = file_size else {
        return recovery;
    };
    // 80 bytes for each digest, with its quotes and comma, and some for names and numbers.
    let digests: usize = protected
        .iter()
        .map(|file| file.blocks.len())
        .sum::<usize>()
        + recovery;
    let descriptors = 2 * (digests as u64 * 80 + 64 * 1024);
    let room = file_size.saturating_sub(descriptors) / block;
    (room as usize).clamp(1, recovery.max(1))
}

/// The parity files while they grow, each under another name.
struct Set {
    description: Description,
    files: Vec<(PathBuf, File, u64)>,
    each: usize,
}

impl Set {
    fn create(&mut self, beside: &Path) -> Result<(), ParityError> {
        let name = beside
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let stem = name.strip_suffix(".ferry").unwrap_or(&name);
        let stem = stem.rsplit_once(".vol").map_or(stem, |(stem, _)| stem);
        let count = self.description.recovery.div_ceil(self.each);
        for number in 0..count {
            let path = beside.with_file_name(format!("{stem}.par{:03}", number + 1));
            let partial = path.with_file_name(format!("{stem}.par{:03}.partial", number + 1));
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(&partial)
                .map_err(ParityError::file(&partial))?;
            // The digests are not known yet, but how long they will be is.
            let head = self.of_file(number, &[]).encode().len() as u64;
            self.files.push((path, file, head));
        }
        Ok(())
    }

    /// The descriptor of a parity file; `digests` are those of all recovery blocks, or none yet.
    fn of_file(&self, number: usize, digests: &[Digest]) -> Description {
        let first = number * self.each;
        let end = (first + self.each).min(self.description.recovery);
        let unknown = vec![Digest::from_bytes([0; 32]); end - first];
        Description {
            first,
            blocks: digests.get(first..end).map_or(unknown, <[Digest]>::to_vec),
            ..self.description.clone()
        }
    }

    fn put(&self, block: usize, start: u64, slice: &[u8]) -> Result<(), ParityError> {
        let (path, file, head) = &self.files[block / self.each];
        let offset = head + (block % self.each) as u64 * self.description.block + start;
        file.write_all_at(slice, offset)
            .map_err(ParityError::file(path))
    }

    fn finish(self, digests: &[Digest]) -> Result<Parity, ParityError> {
        let mut parity = Parity {
            paths: Vec::new(),
            size: 0,
            block: self.description.block,
            recovery: self.description.recovery,
        };
        for (number, (path, file, head)) in self.files.iter().enumerate() {
            let description = self.of_file(number, digests);
            let bytes = description.encode();
            let end = head + description.blocks.len() as u64 * self.description.block;
            let partial = path.with_extension(format!("par{:03}.partial", number + 1));
            let mut out: &File = file;
            file.write_all_at(&bytes, 0)
                .and_then(|()| file.write_all_at(&bytes, end))
                .and_then(|()| out.flush())
                .and_then(|()| file.sync_all())
                .and_then(|()| fs::rename(&partial, path))
                .map_err(ParityError::file(path))?;
            parity.size += end + bytes.len() as u64;
            parity.paths.push(path.clone());
        }
        Ok(parity)
    }
}
