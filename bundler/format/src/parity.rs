//! Parity beside a bundle: a scratched disc is repaired, not fetched again.
//!
//! ```text
//! NAME-RELEASE.par001            one descriptor, recovery blocks, the descriptor again
//!
//! descriptor    "ferry-parity 1\n", the SHA-256 of the JSON in hexadecimal, "\n", the length of the JSON in 20
//!               digits, "\n", the JSON, zeros up to a multiple of 4096
//! JSON          block size, every file with the SHA-256 of each of its blocks, the recovery blocks of this file
//! ```
//!
//! The files of a bundle are cut into blocks; the last block of a file counts as filled up with zeros. Recovery
//! blocks are Reed–Solomon over all of them (GF(2^16), Leopard's code), so that any lost block is paid for by any
//! recovery block, whichever file either is in. Parity is not signed and not trusted: a repaired bundle is verified
//! like any other.

mod repair;
mod set;
mod write;

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use manifest_schema::Digest;
use report::{Args, Diagnose, Outcome};
use serde::{Deserialize, Serialize};

pub use repair::{Repaired, repair};
pub use write::{Parity, write_parity};

/// What descriptors are padded to.
const ALIGN: u64 = 4096;
const MAGIC: &str = "ferry-parity 1\n";
/// Magic, digest and length, each with its line end.
const HEAD: usize = MAGIC.len() + 65 + 21;
/// Longest description that is read.
const MAX_DESCRIPTION: u64 = 64 << 20;
/// Bytes of each block that are worked on at a time: all blocks' slices are in memory together.
const SLICE: usize = 16 * 1024;
/// Blocks that the files are cut into, at most, where they are not tiny.
const BLOCKS: u64 = 4096;
/// Smallest block.
const SMALLEST: u64 = SLICE as u64;
/// Largest block that is read: no sum of offsets comes near the end of its numbers. Bundles of petabytes have smaller ones.
const LARGEST: u64 = 1 << 40;

/// What a parity file says of itself.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
struct Description {
    format: u32,
    /// Bytes of a block: a multiple of [`SLICE`].
    block: u64,
    files: Vec<Protected>,
    /// Recovery blocks in all parity files together.
    recovery: usize,
    /// Number of this file's first one.
    first: usize,
    /// SHA-256 of each of this file's.
    blocks: Vec<Digest>,
}

/// A file that parity protects.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
struct Protected {
    name: String,
    size: u64,
    blocks: Vec<Digest>,
}

impl Description {
    /// The descriptor's bytes.
    fn encode(&self) -> Vec<u8> {
        let json = serde_json::to_vec(self).expect("keys are strings and numbers are whole");
        let mut bytes =
            format!("{MAGIC}{}\n{:020}\n", Digest::of(&json).hex(), json.len()).into_bytes();
        bytes.extend(json);
        bytes.resize((bytes.len() as u64).next_multiple_of(ALIGN) as usize, 0);
        bytes
    }

    /// Reads the descriptor at `offset`, or says that there is none that is whole.
    fn read(file: &File, offset: u64) -> Option<Self> {
        let mut head = [0; HEAD];
        file.read_exact_at(&mut head, offset).ok()?;
        let text = std::str::from_utf8(&head).ok()?.strip_prefix(MAGIC)?;
        let (digest, length) = text.split_once('\n')?;
        let length: u64 = length.strip_suffix('\n')?.parse().ok()?;
        if length > MAX_DESCRIPTION {
            return None;
        }
        let mut json = vec![0; length as usize];
        file.read_exact_at(&mut json, offset + HEAD as u64).ok()?;
        if Digest::of(&json).hex() != digest {
            return None;
        }
        let read: Self = serde_json::from_slice(&json).ok()?;
        read.is_sound().then_some(read)
    }

    /// Reads a parity file's descriptor: the first, or the last where the first is damaged.
    fn find(file: &File) -> Option<(Self, u64)> {
        let size = file.metadata().ok()?.len();
        let of = |description: Self| {
            let length = description.encode().len() as u64;
            (description, length)
        };
        if let Some(description) = Self::read(file, 0) {
            return Some(of(description));
        }
        // The last one begins at a multiple of the alignment, not further from the end than it can be long.
        let lowest = size.saturating_sub(MAX_DESCRIPTION + ALIGN);
        let mut offset = size.checked_sub(ALIGN)?;
        loop {
            if let Some(description) = Self::read(file, offset) {
                return Some(of(description));
            }
            offset = offset
                .checked_sub(ALIGN)
                .filter(|offset| *offset >= lowest)?;
        }
    }

    fn is_sound(&self) -> bool {
        let block =
            (SMALLEST..=LARGEST).contains(&self.block) && self.block.is_multiple_of(SLICE as u64);
        // All that follows counts in blocks.
        if self.format != 1 || !block {
            return false;
        }
        let plain = |name: &str| {
            !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0'])
        };
        let files = self.files.iter().all(|file| {
            plain(&file.name) && file.blocks.len() as u64 == file.size.div_ceil(self.block)
        });
        let names: BTreeSet<&str> = self.files.iter().map(|file| file.name.as_str()).collect();
        let end = self.first.checked_add(self.blocks.len());
        files
            && names.len() == self.files.len()
            && end.is_some_and(|end| end <= self.recovery)
            && reed_solomon_simd::ReedSolomonEncoder::supports(self.data(), self.recovery)
    }

    /// Data blocks of all files.
    fn data(&self) -> usize {
        self.files.iter().map(|file| file.blocks.len()).sum()
    }

    /// Whether it protects a file of this name.
    fn protects(&self, name: &str) -> bool {
        self.files.iter().any(|file| file.name == name)
    }

    /// Whether two parity files belong to one set.
    fn same_set(&self, other: &Self) -> bool {
        (self.block, self.recovery) == (other.block, other.recovery) && self.files == other.files
    }
}

/// Reads `run.len()` bytes at `offset`; what lies beyond the end counts as zero.
fn read_padded(file: &File, run: &mut [u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < run.len() {
        match file.read_at(&mut run[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    run[done..].fill(0);
    Ok(())
}

/// Why parity cannot be made or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParityError {
    /// The share is none.
    #[error("a share of {found} % is not one from 1 to 100")]
    Share {
        /// The share.
        found: u32,
    },
    /// There is no parity file, or none that can be read.
    #[error("there is no parity for `{}` that can be read", path.display())]
    None {
        /// The folder, or the file that is to be repaired.
        path: PathBuf,
    },
    /// A folder holds parity of more than one bundle.
    #[error("`{}` holds parity of `{one}` and of `{other}`", path.display())]
    Several {
        /// The folder.
        path: PathBuf,
        /// A file of the one.
        one: String,
        /// A file of the other.
        other: String,
    },
    /// More was lost than parity can give back.
    #[error("{lost} blocks of {block} bytes are lost, and only {spare} recovery blocks are whole")]
    Exceeded {
        /// Blocks that are damaged or missing.
        lost: usize,
        /// Whole recovery blocks.
        spare: usize,
        /// Bytes of a block.
        block: u64,
        /// The files that lost blocks.
        files: String,
    },
    /// What was computed is not what was there.
    #[error("`{}` could not be restored: the parity is not of these files", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be used.
    #[error("cannot use `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The code does not know so many blocks. The block size is chosen so that this does not happen.
    #[error("the code cannot do this: {source}")]
    Code {
        /// The cause.
        #[from]
        source: reed_solomon_simd::Error,
    },
}

impl ParityError {
    fn file(path: &Path) -> impl Fn(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File {
            path: path.clone(),
            source,
        }
    }
}

impl Diagnose for ParityError {
    fn code(&self) -> &'static str {
        match self {
            Self::Share { .. } => "bundle.parity-share",
            Self::None { .. } => "bundle.parity-none",
            Self::Several { .. } => "bundle.parity-several",
            Self::Exceeded { .. } => "bundle.parity-exceeded",
            Self::Wrong { .. } => "bundle.parity-wrong",
            Self::File { .. } => "bundle.parity-file",
            Self::Code { .. } => "bundle.parity-code",
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::Share { found } => vec![("found", found.to_string())],
            Self::None { path } | Self::Wrong { path } | Self::File { path, .. } => {
                vec![("path", path.display().to_string())]
            }
            Self::Several { path, one, other } => vec![
                ("path", path.display().to_string()),
                ("one", one.clone()),
                ("other", other.clone()),
            ],
            Self::Exceeded {
                lost,
                spare,
                block,
                files,
            } => vec![
                ("lost", lost.to_string()),
                ("spare", spare.to_string()),
                ("block", block.to_string()),
                ("files", files.clone()),
            ],
            Self::Code { source } => vec![("cause", source.to_string())],
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Share { .. } | Self::None { .. } | Self::Several { .. } => Outcome::Usage,
            Self::File { .. } => Outcome::HostFault,
            _ => Outcome::Failed,
        }
    }
}
