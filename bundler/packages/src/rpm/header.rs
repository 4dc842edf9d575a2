//! What an `.rpm` says of itself.
//!
//! ```text
//! lead 96 bytes | signature header, padded to 8 | header | payload
//! header: 8e ad e8 01, 4 zeros, entries u32, bytes u32, entries × (tag, type, offset, count), bytes
//! ```

use std::collections::BTreeMap;
use std::io::{self, Read};

use crate::error::PackageError;

/// The header of a package, and where it lies in the file.
#[derive(Debug)]
pub struct Header {
    main: Tags,
    payload_size: u64,
    /// First byte of the header, and the first after it.
    pub(crate) range: (u64, u64),
}

#[derive(Debug)]
struct Tags {
    entries: BTreeMap<u32, (u32, usize, usize)>,
    store: Vec<u8>,
}

impl Header {
    /// Reads the beginning of a package called `file`.
    ///
    /// # Errors
    /// When it is cut, or not an rpm package.
    pub fn read(file: &str, source: &mut dyn Read) -> Result<Self, PackageError> {
        let failed = |error: io::Error| PackageError::package(file, error);
        let mut lead = [0; LEAD];
        source.read_exact(&mut lead).map_err(failed)?;
        if lead[..4] != [0xed, 0xab, 0xee, 0xdb] {
            return Err(PackageError::package(file, "it is not an rpm package"));
        }
        let (signature, length) = Tags::read(file, source)?;
        let padding = (8 - length % 8) % 8;
        let mut skipped = vec![0; padding];
        source.read_exact(&mut skipped).map_err(failed)?;
        let start = (LEAD + length + padding) as u64;
        let (main, length) = Tags::read(file, source)?;
        let sizes = [LONG_PAYLOAD_SIZE, PAYLOAD_SIZE];
        let payload_size = sizes
            .iter()
            .find_map(|tag| signature.numbers(*tag).first().copied());
        Ok(Self {
            main,
            payload_size: payload_size.unwrap_or_default(),
            range: (start, start + length as u64),
        })
    }

    pub(crate) fn payload_size(&self) -> u64 {
        self.payload_size
    }

    /// The first text of a tag, empty where there is none.
    pub(crate) fn text(&self, tag: u32) -> String {
        self.main.texts(tag).into_iter().next().unwrap_or_default()
    }

    pub(crate) fn texts(&self, tag: u32) -> Vec<String> {
        self.main.texts(tag)
    }

    pub(crate) fn numbers(&self, tag: u32) -> Vec<u64> {
        self.main.numbers(tag)
    }

    pub(crate) fn number(&self, tag: u32) -> Option<u64> {
        self.main.numbers(tag).first().copied()
    }

    /// `epoch:version-release`, the epoch only where it is not 0.
    pub fn version(&self) -> String {
        let (version, release) = (self.text(VERSION), self.text(RELEASE));
        match self.number(EPOCH).filter(|epoch| *epoch != 0) {
            Some(epoch) => format!("{epoch}:{version}-{release}"),
            None => format!("{version}-{release}"),
        }
    }

    /// Name of the package.
    pub fn name(&self) -> String {
        self.text(NAME)
    }

    /// Its architecture.
    pub fn arch(&self) -> String {
        self.text(ARCH)
    }
}

impl Tags {
    /// Reads one header; returns its length as well.
    fn read(file: &str, source: &mut dyn Read) -> Result<(Self, usize), PackageError> {
        let failed = |error: io::Error| PackageError::package(file, error);
        let mut start = [0; 16];
        source.read_exact(&mut start).map_err(failed)?;
        if start[..4] != [0x8e, 0xad, 0xe8, 0x01] {
            return Err(PackageError::package(
                file,
                "its header does not begin as one",
            ));
        }
        let (count, bytes) = (word(&start, 8) as usize, word(&start, 12) as usize);
        if count > MOST_ENTRIES || bytes > MOST_BYTES {
            let problem = format!("its header says {count} entries and {bytes} bytes");
            return Err(PackageError::package(file, problem));
        }
        // Taken as it comes: a header may say more than the file has.
        let mut read = |length: usize| {
            let mut part = Vec::new();
            let count = source
                .take(length as u64)
                .read_to_end(&mut part)
                .map_err(failed)?;
            if count < length {
                return Err(PackageError::package(
                    file,
                    "it ends in the middle of its header",
                ));
            }
            Ok(part)
        };
        let index = read(count * 16)?;
        let store = read(bytes)?;
        let entries = index.chunks_exact(16).map(|entry| {
            let (offset, count) = (word(entry, 8) as usize, word(entry, 12) as usize);
            (word(entry, 0), (word(entry, 4), offset, count))
        });
        let entries = entries.collect();
        Ok((Self { entries, store }, 16 + count * 16 + bytes))
    }

    fn texts(&self, tag: u32) -> Vec<String> {
        let Some(&(kind, offset, count)) = self.entries.get(&tag) else {
            return Vec::new();
        };
        // A text, a list of texts, a text in several languages.
        let count = match kind {
            6 => 1,
            8 | 9 => count,
            _ => return Vec::new(),
        };
        let rest = self.store.get(offset..).unwrap_or(&[]);
        let texts = rest.split(|byte| *byte == 0).take(count);
        texts
            .map(|text| String::from_utf8_lossy(text).into_owned())
            .collect()
    }

    fn numbers(&self, tag: u32) -> Vec<u64> {
        let Some(&(kind, offset, count)) = self.entries.get(&tag) else {
            return Vec::new();
        };
        let width = match kind {
            2 => 1,
            3 => 2,
            4 => 4,
            5 => 8,
            _ => return Vec::new(),
        };
        let rest = self.store.get(offset..).unwrap_or(&[]);
        let numbers = rest.chunks_exact(width).take(count);
        numbers
            .map(|bytes| {
                bytes
                    .iter()
                    .fold(0, |all, byte| all << 8 | u64::from(*byte))
            })
            .collect()
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let bytes = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
    u32::from_be_bytes(bytes)
}

pub(crate) const NAME: u32 = 1000;
pub(crate) const VERSION: u32 = 1001;
pub(crate) const RELEASE: u32 = 1002;
pub(crate) const EPOCH: u32 = 1003;
pub(crate) const ARCH: u32 = 1022;

const LEAD: usize = 96;
const PAYLOAD_SIZE: u32 = 1007;
const LONG_PAYLOAD_SIZE: u32 = 271;
/// rpm's own bounds.
const MOST_ENTRIES: usize = 0xffff;
const MOST_BYTES: usize = 256 << 20;
