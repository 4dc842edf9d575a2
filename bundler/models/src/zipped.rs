//! Zip archives, read within bounds: the list of members, and the front of single ones.
//!
//! ```text
//! members … | central directory | [zip64 end | locator] | end record | comment, to the file's last byte
//! ```
//!
//! Readers of zip archives believe the numbers in the end record and make room for what they say. Foreign archives are
//! looked into before anything else is, so nothing here does: the directory is read entry by entry, at most
//! [`MOST_MEMBERS`] of them, and a member is inflated only as far as its reader asks.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use flate2::read::DeflateDecoder;

/// More than any checkpoint, wheel or data set has.
const MOST_MEMBERS: u64 = 1 << 20;

const END: &[u8; 4] = b"PK\x05\x06";
const END_64: &[u8; 4] = b"PK\x06\x06";
const LOCATOR_64: &[u8; 4] = b"PK\x06\x07";
const ENTRY: &[u8; 4] = b"PK\x01\x02";
const LOCAL: &[u8; 4] = b"PK\x03\x04";

/// An archive whose directory was read.
pub struct Zip<'a> {
    file: &'a File,
    members: Vec<Member>,
}

/// A member, as the directory describes it.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its bytes, by the directory's word.
    pub size: u64,
    method: u16,
    stored: u64,
    header: u64,
}

/// Whether the file begins or ends as a zip archive does.
pub(crate) fn is_zip(file: &File, size: u64) -> io::Result<bool> {
    let mut first = [0; 4];
    if size < 22 {
        return Ok(false);
    }
    file.read_exact_at(&mut first, 0)?;
    Ok(first == *LOCAL || first == *END || end_record(file, size)?.is_some())
}

/// The end record and where it stands: the last one whose comment ends with the file.
fn end_record(file: &File, size: u64) -> io::Result<Option<(u64, Vec<u8>)>> {
    let from = size.saturating_sub(22 + u64::from(u16::MAX));
    let mut tail = vec![0; (size - from) as usize];
    file.read_exact_at(&mut tail, from)?;
    for at in (0..=tail.len().saturating_sub(22)).rev() {
        let record = &tail[at..];
        if record.starts_with(END) && usize::from(u16_at(record, 20)) == record.len() - 22 {
            return Ok(Some((from + at as u64, record.to_vec())));
        }
    }
    Ok(None)
}

impl<'a> Zip<'a> {
    /// Reads the directory; the text says why that cannot be done.
    ///
    /// # Errors
    /// When the file fails. What is wrong with the archive is the inner error.
    pub fn open(mut file: &'a File) -> io::Result<Result<Self, String>> {
        let size = file.metadata()?.len();
        if size < 22 {
            return Ok(Err("no end record".to_owned()));
        }
        let Some((end, record)) = end_record(file, size)? else {
            return Ok(Err("no end record".to_owned()));
        };
        let (mut count, mut start) = (
            u64::from(u16_at(&record, 10)),
            u64::from(u32_at(&record, 16)),
        );
        if count == u64::from(u16::MAX) || start == u64::from(u32::MAX) {
            match large(file, end)? {
                Some(found) => (count, start) = found,
                None => return Ok(Err("no 64-bit end record".to_owned())),
            }
        }
        if count > MOST_MEMBERS {
            return Ok(Err(format!("{count} members")));
        }
        if start > end {
            return Ok(Err(format!("a directory at byte {start} of {size}")));
        }
        file.seek(SeekFrom::Start(start))?;
        let mut directory = io::BufReader::new(file.take(end - start));
        let mut members = Vec::new();
        for number in 0..count {
            match entry(&mut directory) {
                Ok(Some(member)) => members.push(member),
                Ok(None) => return Ok(Err(format!("entry {number} is none"))),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Ok(Err(format!("{number} of {count} members")));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Ok(Self { file, members }))
    }

    /// The members, in the directory's order.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The first `limit` bytes of a member; `None` where it is damaged or packed in a way that is not known here.
    ///
    /// # Errors
    /// When the file fails.
    pub fn read(&self, member: &Member, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let mut local = [0; 30];
        match self.file.read_exact_at(&mut local, member.header) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        if !local.starts_with(LOCAL) {
            return Ok(None);
        }
        let names = u64::from(u16_at(&local, 26)) + u64::from(u16_at(&local, 28));
        let mut file = self.file;
        file.seek(SeekFrom::Start(member.header.saturating_add(30 + names)))?;
        let stored = file.take(member.stored);
        let mut bytes = Vec::new();
        match member.method {
            0 => {
                stored.take(limit).read_to_end(&mut bytes)?;
            }
            8 => {
                let mut inflated = DeflateDecoder::new(stored).take(limit);
                if inflated.read_to_end(&mut bytes).is_err() {
                    return Ok(None);
                }
            }
            _ => return Ok(None),
        }
        Ok(Some(bytes))
    }
}

/// One entry of the directory.
fn entry(directory: &mut impl Read) -> io::Result<Option<Member>> {
    let mut fixed = [0; 46];
    directory.read_exact(&mut fixed)?;
    if !fixed.starts_with(ENTRY) {
        return Ok(None);
    }
    let mut name = vec![0; usize::from(u16_at(&fixed, 28))];
    directory.read_exact(&mut name)?;
    let mut extra = vec![0; usize::from(u16_at(&fixed, 30))];
    directory.read_exact(&mut extra)?;
    let mut comment = vec![0; usize::from(u16_at(&fixed, 32))];
    directory.read_exact(&mut comment)?;
    let mut member = Member {
        name: String::from_utf8_lossy(&name).into_owned(),
        method: u16_at(&fixed, 10),
        stored: u64::from(u32_at(&fixed, 20)),
        size: u64::from(u32_at(&fixed, 24)),
        header: u64::from(u32_at(&fixed, 42)),
    };
    // The 64-bit numbers stand in this order, each only where the 32-bit one is full.
    let mut wide = wide_numbers(&extra);
    for number in [&mut member.size, &mut member.stored, &mut member.header] {
        if *number == u64::from(u32::MAX) {
            let Some((first, rest)) = wide.split_first_chunk::<8>() else {
                return Ok(None);
            };
            (*number, wide) = (u64::from_le_bytes(*first), rest);
        }
    }
    Ok(Some(member))
}

/// The 64-bit field among an entry's extra fields; empty where there is none.
fn wide_numbers(mut extra: &[u8]) -> &[u8] {
    while extra.len() >= 4 {
        let (kind, size) = (u16_at(extra, 0), usize::from(u16_at(extra, 2)));
        let end = (4 + size).min(extra.len());
        if kind == 1 {
            return &extra[4..end];
        }
        extra = &extra[end..];
    }
    &[]
}

/// Count and start of the directory by the 64-bit end record before the end record at `end`.
fn large(file: &File, end: u64) -> io::Result<Option<(u64, u64)>> {
    let Some(at) = end.checked_sub(20) else {
        return Ok(None);
    };
    let mut locator = [0; 20];
    file.read_exact_at(&mut locator, at)?;
    let record_at = u64_at(&locator, 8);
    if !locator.starts_with(LOCATOR_64) || record_at.saturating_add(56) > at {
        return Ok(None);
    }
    let mut record = [0; 56];
    file.read_exact_at(&mut record, record_at)?;
    let found = (u64_at(&record, 32), u64_at(&record, 48));
    Ok(record.starts_with(END_64).then_some(found))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;
    use zip::write::SimpleFileOptions;
    use zip::{CompressionMethod, ZipWriter};

    use super::*;

    fn archive(members: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
        let mut zip = ZipWriter::new(io::Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(method);
        for (name, bytes) in members {
            zip.start_file(*name, options).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn members_are_listed_and_read_as_far_as_asked() {
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            let zeros = vec![0; 1 << 20];
            let file = file(&archive(&[("a/data.pkl", b"hello"), ("b", &zeros)], method));
            let zip = Zip::open(&file).unwrap().unwrap();
            let names: Vec<_> = zip.members().iter().map(|m| m.name.as_str()).collect();
            assert_eq!(names, ["a/data.pkl", "b"]);
            let read = |number: usize, limit| zip.read(&zip.members()[number], limit).unwrap();
            assert_eq!(read(0, 100).unwrap(), b"hello");
            assert_eq!(read(1, 7).unwrap(), [0; 7]);
        }
    }

    #[test]
    fn numbers_that_no_archive_can_have_make_no_room() {
        let good = archive(&[("a", b"x")], CompressionMethod::Stored);
        let end = good.len() - 22;
        for (name, at, bytes) in [
            ("65534 members", 10, &[0xfe, 0xff][..]),
            ("64-bit numbers without a record", 10, &[0xff, 0xff]),
            ("a directory behind the end", 16, &[0xff, 0xff, 0xff, 0x7f]),
            ("a comment that is not there", 20, &[9]),
            ("no directory there", 16, &[0, 0, 0, 0]),
        ] {
            let mut bad = good.clone();
            bad[end + at..end + at + bytes.len()].copy_from_slice(bytes);
            assert!(Zip::open(&file(&bad)).unwrap().is_err(), "{name}");
        }
    }

    #[test]
    fn an_archive_with_64_bit_records_is_read() {
        let mut bytes = archive(&[("a", b"x"), ("b", b"y")], CompressionMethod::Stored);
        let end = bytes.len() - 22;
        let start = u64::from(u32_at(&bytes, end + 16));
        let mut record = bytes.split_off(end);
        let mut wide = b"PK\x06\x06".to_vec();
        wide.extend(44_u64.to_le_bytes());
        wide.extend([0; 12]);
        for number in [2, 2, end as u64 - start, start] {
            wide.extend(u64::to_le_bytes(number));
        }
        wide.extend(b"PK\x06\x07\0\0\0\0");
        wide.extend((end as u64).to_le_bytes());
        wide.extend(1_u32.to_le_bytes());
        record[8..20].fill(0xff);
        bytes.extend(wide);
        bytes.extend(record);
        let file = file(&bytes);
        assert_eq!(Zip::open(&file).unwrap().unwrap().members().len(), 2);
    }

    proptest! {
        #[test]
        fn no_damage_makes_it_fall_over(at in 0_usize..200, byte: u8, cut in 0_usize..200) {
            let mut bytes = archive(&[("a/data.pkl", b"hello"), ("b", &[7; 300])], CompressionMethod::Deflated);
            let length = bytes.len();
            bytes[length - 1 - at % length] = byte;
            bytes.truncate(length - cut % length);
            let file = file(&bytes);
            if let Ok(zip) = Zip::open(&file).unwrap() {
                for member in zip.members() {
                    zip.read(member, 1 << 16).unwrap();
                }
            }
        }
    }
}
