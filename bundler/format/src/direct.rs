//! Reading and writing past the cache of the system (`O_DIRECT`).
//!
//! What is read once or written once gains nothing from a cache, and pays for it: a copy of every byte, a page for it, and
//! what other programs had there. Past it, memory, places and sizes must be multiples of 4 KiB; for what is not, and where a
//! file system refuses, the cache does.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};

use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::Errno;

use crate::layout::ALIGN;
use crate::share::kind_of;

/// Bytes that begin at a multiple of 4 KiB in memory, and are as many.
pub(crate) struct Buffer {
    memory: Vec<u8>,
    start: usize,
}

impl Buffer {
    /// At least `size` zeros.
    pub(crate) fn of(size: usize) -> Self {
        let align = ALIGN as usize;
        let memory = vec![0; size.next_multiple_of(align) + align];
        // Where it cannot be said, any place will do: the kernel refuses it, and the cache takes over.
        let start = memory.as_ptr().align_offset(align);
        let start = if start < align { start } else { 0 };
        Self { memory, start }
    }

    fn size(&self) -> usize {
        self.memory.len() - ALIGN as usize
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.memory[self.start..][..self.size()]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        let size = self.size();
        &mut self.memory[self.start..][..size]
    }
}

/// A file that is open elsewhere, past the cache.
pub struct Direct(File);

impl Direct {
    /// For reading, where the file system allows that.
    pub(crate) fn reading(file: &File) -> Option<Self> {
        Self::open(file, false)
    }

    /// For writing, where the file system is known to be the faster for it: of a network's, each write would wait for the
    /// server's disk.
    pub fn writing(file: &File) -> Option<Self> {
        let local = LOCAL.contains(&kind_of(file)?);
        if local { Self::open(file, true) } else { None }
    }

    fn open(file: &File, write: bool) -> Option<Self> {
        let mut options = OpenOptions::new();
        options.read(!write).write(write);
        options.custom_flags(OFlags::DIRECT.bits().cast_signed());
        // The open file itself, whatever its name leads to by now.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        options.open(path).ok().map(Self)
    }

    /// Fills the first `count` bytes of `buffer` from `offset`.
    pub(crate) fn read(&self, buffer: &mut Buffer, count: usize, offset: u64) -> io::Result<()> {
        let whole = count.next_multiple_of(ALIGN as usize);
        let mut read = 0;
        // The last block of a file is read as if it were whole, and ends before.
        while read < count {
            let bytes = &mut buffer.bytes_mut()[read..whole];
            match self.0.read_at(bytes, offset + read as u64)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => read += more,
            }
        }
        Ok(())
    }

    /// Writes the whole blocks of `bytes` to `offset`. Returns how many bytes that were; none where they cannot be.
    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let whole = bytes.len() - bytes.len() % ALIGN as usize;
        let placed = bytes.as_ptr().addr() as u64 | offset;
        if whole == 0 || !placed.is_multiple_of(ALIGN) {
            return Ok(0);
        }
        match self.0.write_all_at(&bytes[..whole], offset) {
            Ok(()) => Ok(whole),
            // Blocks of more than 4 KiB.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(0),
            Err(error) => Err(error),
        }
    }
}

/// Makes room for `size` bytes of a file that is written past the cache: nobody else gathers there what belongs together on
/// the disk, and a file that grows is written by one thread at a time.
///
/// # Errors
/// Those of the disk, one that is full among them.
pub fn make_room(file: &File, size: u64) -> io::Result<()> {
    if size == 0 {
        return Ok(());
    }
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(size),
        other => Ok(other?),
    }
}

/// Writes all of `bytes` to `offset` of `file`: past the cache what can be, the rest through it.
///
/// # Errors
/// Those of the disk.
pub fn write_all_at(
    file: &File,
    direct: Option<&Direct>,
    bytes: &[u8],
    offset: u64,
) -> io::Result<()> {
    let written = match direct {
        Some(direct) => direct.write(bytes, offset)?,
        None => 0,
    };
    file.write_all_at(&bytes[written..], offset + written as u64)
}

/// ext2 to ext4, XFS, btrfs, F2FS; `linux/magic.h`.
const LOCAL: [u32; 4] = [0xEF53, 0x5846_5342, 0x9123_683E, 0xF2F5_2010];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_goes_past_the_cache_the_file_is_the_same() {
        let file = tempfile::tempfile().unwrap();
        let size = 3 * ALIGN as usize + 100;
        let mut buffer = Buffer::of(size);
        for (number, byte) in (0_u32..).zip(buffer.bytes_mut()) {
            *byte = (number * 7 % 251) as u8;
        }
        let bytes = buffer.bytes()[..size].to_vec();
        // A file system that has no such way writes the same.
        let direct = Direct::writing(&file);
        let written = |run: &[u8], at| write_all_at(&file, direct.as_ref(), run, at).unwrap();
        let mut expected = vec![0; 8 * size];
        for (at, count) in [
            (0, size),
            (ALIGN as usize * 4, ALIGN as usize),
            (ALIGN as usize * 6 + 5, size),
            (ALIGN as usize * 10, 10),
            (ALIGN as usize * 12, 0),
        ] {
            written(&buffer.bytes()[..count], at as u64);
            expected[at..at + count].copy_from_slice(&bytes[..count]);
        }
        written(&buffer.bytes()[1..4097], ALIGN * 16);
        expected[ALIGN as usize * 16..][..4096].copy_from_slice(&bytes[1..4097]);
        expected.truncate(ALIGN as usize * 17);
        let mut found = vec![0; expected.len() + 1];
        let count = file.read_at(&mut found, 0).unwrap();
        assert!(found[..count] == expected);
        if let Some(direct) = Direct::reading(&file) {
            buffer.bytes_mut().fill(0);
            direct.read(&mut buffer, size, 0).unwrap();
            assert!(buffer.bytes()[..size] == bytes);
            let beyond = direct.read(&mut buffer, size, ALIGN * 15);
            assert_eq!(beyond.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}
