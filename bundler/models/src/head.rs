//! The front of a file, read front to back and never past its end.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom};

/// Reads from the first byte; knows where it is and how much is left.
pub(crate) struct Head<R> {
    input: BufReader<R>,
    pub(crate) at: u64,
    pub(crate) size: u64,
}

impl<'a> Head<&'a File> {
    pub(crate) fn open(mut file: &'a File) -> io::Result<Self> {
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(0))?;
        Ok(Self {
            input: BufReader::new(file),
            at: 0,
            size,
        })
    }
}

impl<'a> Head<Cursor<&'a [u8]>> {
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        Self {
            input: BufReader::new(Cursor::new(bytes)),
            at: 0,
            size: bytes.len() as u64,
        }
    }
}

impl<R: Read + Seek> Head<R> {
    pub(crate) fn left(&self) -> u64 {
        self.size.saturating_sub(self.at)
    }

    /// The next `N` bytes; `None` where the file ends before.
    pub(crate) fn array<const N: usize>(&mut self) -> io::Result<Option<[u8; N]>> {
        let mut bytes = [0; N];
        if self.left() < N as u64 {
            return Ok(None);
        }
        self.input.read_exact(&mut bytes)?;
        self.at += N as u64;
        Ok(Some(bytes))
    }

    /// The next `count` bytes. The caller has bounded `count`.
    pub(crate) fn bytes(&mut self, count: u64) -> io::Result<Option<Vec<u8>>> {
        if self.left() < count {
            return Ok(None);
        }
        let mut bytes = vec![0; count as usize];
        self.input.read_exact(&mut bytes)?;
        self.at += count;
        Ok(Some(bytes))
    }

    /// Passes over `count` bytes; says whether there were so many.
    pub(crate) fn skip(&mut self, count: u64) -> io::Result<bool> {
        if self.left() < count {
            return Ok(false);
        }
        // Within the file's size, so within what a file offset can be.
        self.input.seek_relative(count as i64)?;
        self.at += count;
        Ok(true)
    }

    /// The next line without its end; `None` where there is none of at most `most` bytes.
    pub(crate) fn line(&mut self, most: u64) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let read = (&mut self.input).take(most).read_until(b'\n', &mut line)?;
        self.at += read as u64;
        Ok((line.pop() == Some(b'\n')).then_some(line))
    }
}
