//! What a parquet file says of itself, looked at before its reader makes room for it.
//!
//! ```text
//! PAR1  pages…  <metadata: a Thrift structure in its compact form>  <length, 4 bytes, little-endian>  PAR1
//! ```
//!
//! The reader makes room for as many row groups, and for as many entries of a dictionary, as a file claims. A list that
//! claims more than the bytes behind it can hold is found here, with what nests deeper than any writer nests.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// Bytes of metadata, of which a file with ten thousand row groups has a few million.
const MOST_METADATA: u64 = 16 << 20;

/// Elements of a schema. The reader follows them by recursion.
const MOST_COLUMNS: u64 = 1000;

/// Structures within structures; a parquet file has seven.
const MOST_DEPTH: usize = 32;

/// Field of the metadata that lists the schema's elements.
const SCHEMA: i64 = 2;

const MAGIC: &[u8; 4] = b"PAR1";

/// Why a file is no parquet file, or none that is safe to read.
pub(super) fn fault(file: &mut File) -> io::Result<Option<String>> {
    let length = file.metadata()?.len();
    let mut magic = [0; 4];
    file.read_exact(&mut magic).or_else(ended)?;
    if magic == *b"PARE" {
        return Ok(Some("it is encrypted".to_owned()));
    }
    if &magic != MAGIC || length < 12 {
        return Ok(Some("it does not begin with `PAR1`".to_owned()));
    }
    file.seek(SeekFrom::End(-8))?;
    let mut end = [0; 8];
    file.read_exact(&mut end)?;
    let [a, b, c, d, magic @ ..] = end;
    if &magic != MAGIC {
        let fault =
            "it does not end with `PAR1`; it may have been cut off or is still being written";
        return Ok(Some(fault.to_owned()));
    }
    let claimed = u64::from(u32::from_le_bytes([a, b, c, d]));
    if claimed > length - 12 {
        return Ok(Some(format!(
            "its metadata claims {claimed} bytes, the file has {length}"
        )));
    }
    if claimed > MOST_METADATA {
        return Ok(Some(format!(
            "its metadata has {claimed} bytes, more than {MOST_METADATA}"
        )));
    }
    file.seek(SeekFrom::End(-8 - claimed as i64))?;
    let mut metadata = vec![0; claimed as usize];
    file.read_exact(&mut metadata)?;
    let mut skim = Skim {
        rest: &metadata,
        columns: 0,
    };
    if skim.structure(0).is_none() {
        return Ok(Some("its metadata is damaged".to_owned()));
    }
    if skim.columns > MOST_COLUMNS {
        let fault = format!(
            "its schema has {} elements, more than {MOST_COLUMNS}",
            skim.columns
        );
        return Ok(Some(fault));
    }
    file.rewind()?;
    Ok(None)
}

fn ended(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Ok(()),
        _ => Err(error),
    }
}

/// Walks over Thrift values; none: they are cut off or lie.
struct Skim<'a> {
    rest: &'a [u8],
    /// Elements that the schema claims.
    columns: u64,
}

impl Skim<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn skip(&mut self, count: u64) -> Option<()> {
        self.rest = self.rest.get(usize::try_from(count).ok()?..)?;
        Some(())
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn structure(&mut self, depth: usize) -> Option<()> {
        let mut id = 0_i64;
        loop {
            let head = self.byte()?;
            let (step, kind) = (head >> 4, head & 0x0f);
            if kind == 0 {
                return Some(());
            }
            if step == 0 {
                let folded = self.number()?;
                id = (folded >> 1) as i64 ^ -((folded & 1) as i64);
            } else {
                id = id.checked_add(i64::from(step))?;
            }
            // In a structure a truth value is its own kind.
            if !matches!(kind, 1 | 2) {
                let count = self.value(kind, depth)?;
                if depth == 0 && id == SCHEMA {
                    self.columns = count;
                }
            }
        }
    }

    /// Walks over one value; returns how many elements it has, where it is a list.
    fn value(&mut self, kind: u8, depth: usize) -> Option<u64> {
        if depth > MOST_DEPTH {
            return None;
        }
        match kind {
            1..=3 => self.skip(1)?,
            4..=6 => {
                self.number()?;
            }
            7 => self.skip(8)?,
            8 => {
                let length = self.number()?;
                self.skip(length)?;
            }
            9 | 10 => {
                let head = self.byte()?;
                let count = match head >> 4 {
                    15 => self.number()?,
                    count => u64::from(count),
                };
                // Every element takes a byte at least.
                if count > self.rest.len() as u64 {
                    return None;
                }
                for _ in 0..count {
                    self.value(head & 0x0f, depth + 1)?;
                }
                return Some(count);
            }
            11 => {
                let count = self.number()?;
                if count > self.rest.len() as u64 {
                    return None;
                }
                let kinds = if count == 0 { 0 } else { self.byte()? };
                for _ in 0..count {
                    self.value(kinds >> 4, depth + 1)?;
                    self.value(kinds & 0x0f, depth + 1)?;
                }
            }
            12 => self.structure(depth + 1)?,
            _ => return None,
        }
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn judge(metadata: &[u8]) -> Option<String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(MAGIC).unwrap();
        file.write_all(metadata).unwrap();
        file.write_all(&(metadata.len() as u32).to_le_bytes())
            .unwrap();
        file.write_all(MAGIC).unwrap();
        file.rewind().unwrap();
        fault(&mut file).unwrap()
    }

    #[test]
    fn lists_that_claim_more_than_there_is_are_found() {
        // Field 4: a list of structures whose count is 2^31 - 1.
        let lying = [0x49, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07, 0];
        assert_eq!(judge(&lying).as_deref(), Some("its metadata is damaged"));
        // Two empty structures.
        assert_eq!(judge(&[0x49, 0x2c, 0, 0, 0]), None);
        // A schema of 1001 empty elements.
        let many = [&[0x29, 0xfc, 0xe9, 0x07][..], &[0; 1001], &[0]].concat();
        assert!(judge(&many).unwrap().contains("1001 elements"));
        let deep = [vec![0x1c; 40], vec![0; 41]].concat();
        assert!(judge(&deep).is_some());
        let listed = [vec![0x19], vec![0x19; 100]].concat();
        assert!(judge(&listed).is_some());
    }

    #[test]
    fn what_is_cut_off_or_something_else_is_said() {
        for (bytes, expected) in [
            (&b""[..], "does not begin"),
            (b"PK\x03\x04aaaaaaaaaaaa", "does not begin"),
            (b"PAR1aaaaaaaaaaaa", "may have been cut off"),
            (b"PAR1\xff\xff\xff\x7fPAR1", "claims 2147483647 bytes"),
            (b"PAREaaaaaaaaaaaa", "encrypted"),
        ] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            file.rewind().unwrap();
            let fault = fault(&mut file).unwrap().unwrap();
            assert!(fault.contains(expected), "{fault}");
        }
    }
}
