//! The header of a GGUF file, against the file's size.
//!
//! ```text
//! "GGUF" | u32 version | u64 tensors | u64 settings | settings | tensors | zeros up to the alignment | data
//! setting: text key, u32 type, value        tensor: text name, u32 sides, u64 each, u32 format, u64 offset
//! ```

use std::collections::BTreeSet;
use std::fs::File;
use std::io;

use crate::error::{Flaw, ModelFileError};
use crate::head::Head;

const MOST_TENSORS: u64 = 1 << 20;
const MOST_SETTINGS: u64 = 1 << 20;
const MOST_ELEMENTS: u64 = 1 << 28;
const LONGEST_NAME: u64 = 1 << 16;
const LONGEST_TEXT: u64 = 1 << 30;

/// GGML's number of a format, the values of a block and its bytes.
const FORMATS: [(u32, u64, u64); 35] = [
    (0, 1, 4),      // F32
    (1, 1, 2),      // F16
    (2, 32, 18),    // Q4_0
    (3, 32, 20),    // Q4_1
    (6, 32, 22),    // Q5_0
    (7, 32, 24),    // Q5_1
    (8, 32, 34),    // Q8_0
    (9, 32, 36),    // Q8_1
    (10, 256, 84),  // Q2_K
    (11, 256, 110), // Q3_K
    (12, 256, 144), // Q4_K
    (13, 256, 176), // Q5_K
    (14, 256, 210), // Q6_K
    (15, 256, 292), // Q8_K
    (16, 256, 66),  // IQ2_XXS
    (17, 256, 74),  // IQ2_XS
    (18, 256, 98),  // IQ3_XXS
    (19, 256, 50),  // IQ1_S
    (20, 32, 18),   // IQ4_NL
    (21, 256, 110), // IQ3_S
    (22, 256, 82),  // IQ2_S
    (23, 256, 136), // IQ4_XS
    (24, 1, 1),     // I8
    (25, 1, 2),     // I16
    (26, 1, 4),     // I32
    (27, 1, 8),     // I64
    (28, 1, 8),     // F64
    (29, 256, 56),  // IQ1_M
    (30, 1, 2),     // BF16
    (34, 256, 54),  // TQ1_0
    (35, 256, 66),  // TQ2_0
    (39, 32, 17),   // MXFP4
    (31, 32, 18),   // Q4_0_4_4
    (32, 32, 18),   // Q4_0_4_8
    (33, 32, 18),   // Q4_0_8_8
];

/// Whether these are the first bytes of a GGUF file.
pub(crate) const MAGIC: &[u8; 4] = b"GGUF";

/// Checks the header and that all data lies within the file.
pub(crate) fn check(file: &File, path: &str) -> Result<(), ModelFileError> {
    let mut head = Head::open(file).map_err(ModelFileError::unreadable(path))?;
    match (Walk { head: &mut head }).file() {
        Ok(()) => Ok(()),
        Err(Stop::Disk(error)) => Err(ModelFileError::unreadable(path)(error)),
        Err(Stop::Flaw(flaw, at, found, expected)) => {
            Err(ModelFileError::flawed(path, flaw, at, found, expected))
        }
    }
}

/// Why the walk ends early.
enum Stop {
    Disk(io::Error),
    /// Flaw, place, found, expected.
    Flaw(Flaw, String, String, String),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

struct Walk<'a, 'f> {
    head: &'a mut Head<&'f File>,
}

impl Walk<'_, '_> {
    fn file(&mut self) -> Result<(), Stop> {
        if self.array::<4>()? != *MAGIC {
            return Err(self.flaw(Flaw::Magic, "another first word", "`GGUF`"));
        }
        let version = self.u32()?;
        if !matches!(version, 2 | 3) {
            let found = match version.swap_bytes() {
                2 | 3 => "a file for big-endian machines".to_owned(),
                _ => format!("version {version}"),
            };
            return Err(self.flaw(Flaw::Version, found, "version 2 or 3"));
        }
        let tensors = self.count(MOST_TENSORS, "tensors")?;
        let settings = self.count(MOST_SETTINGS, "settings")?;
        let (mut keys, mut alignment) = (BTreeSet::new(), 32);
        for _ in 0..settings {
            let key = self.name()?;
            let kind = self.u32()?;
            if key == "general.alignment" && kind == 4 {
                alignment = u64::from(self.u32()?);
                if !alignment.is_power_of_two() || alignment > 1 << 20 {
                    let found = format!("an alignment of {alignment}");
                    return Err(self.flaw(Flaw::Bound, found, "a power of two up to 1048576"));
                }
            } else {
                self.value(kind, 0)?;
            }
            if let Some(key) = keys.replace(key) {
                return Err(self.flaw(Flaw::Twice, format!("`{key}`"), "each setting once"));
            }
        }
        let (mut names, mut places) = (BTreeSet::new(), Vec::new());
        for _ in 0..tensors {
            let name = self.name()?;
            let (offset, bytes) = self.tensor(alignment)?;
            places.push((offset, bytes, name.clone()));
            if let Some(name) = names.replace(name) {
                return Err(self.flaw(Flaw::Twice, format!("`{name}`"), "each tensor once"));
            }
        }
        // The header ends within the file, so this is far from overflowing.
        let data = self.head.at.next_multiple_of(alignment);
        self.check_data(places, data)
    }

    /// No data overlaps, and all of it lies within the file.
    fn check_data(
        &self,
        mut places: Vec<(u64, Option<u64>, String)>,
        data: u64,
    ) -> Result<(), Stop> {
        places.sort();
        let mut before = 0;
        for (offset, bytes, name) in places {
            let flaw = |flaw, found: String, expected: String| {
                Stop::Flaw(flaw, format!("tensor `{name}`"), found, expected)
            };
            if offset < before {
                let (found, expected) = (format!("a start at {offset}"), format!("{before}"));
                return Err(flaw(Flaw::Offsets, found, expected));
            }
            // Of a format that is not known here, the start alone is checked.
            let end = offset.checked_add(bytes.unwrap_or(0));
            let ends_at = end.and_then(|end| end.checked_add(data));
            if ends_at.is_none_or(|end| end > self.head.size) {
                let found = format!("{} bytes", self.head.size);
                let expected = match ends_at {
                    Some(end) => format!("at least {end}"),
                    None => "an end below 2^64".to_owned(),
                };
                return Err(flaw(Flaw::CutShort, found, expected));
            }
            before = end.unwrap_or(u64::MAX);
        }
        Ok(())
    }

    /// Offset and bytes of a tensor's data; no bytes where its format is not known here.
    fn tensor(&mut self, alignment: u64) -> Result<(u64, Option<u64>), Stop> {
        let sides = self.u32()?;
        if sides > 4 {
            return Err(self.flaw(Flaw::Bound, format!("{sides} sides"), "at most 4"));
        }
        let (mut count, mut first) = (1_u64, 1);
        for number in 0..sides {
            let side = self.u64()?;
            if number == 0 {
                first = side;
            }
            let Some(product) = count.checked_mul(side) else {
                return Err(self.flaw(
                    Flaw::Bound,
                    format!("a side of {side}"),
                    "fewer than 2^64 values",
                ));
            };
            count = product;
        }
        let format = self.u32()?;
        let offset = self.u64()?;
        if offset % alignment != 0 {
            let found = format!("a start at {offset}");
            return Err(self.flaw(Flaw::Offsets, found, format!("a multiple of {alignment}")));
        }
        let Some((_, block, bytes)) = FORMATS.iter().find(|(number, _, _)| *number == format)
        else {
            return Ok((offset, None));
        };
        let whole = first % block == 0;
        let bytes = (count / block).checked_mul(*bytes).filter(|_| whole);
        let Some(bytes) = bytes else {
            let found = format!("{count} values in rows of {first}");
            let expected = format!("rows of whole blocks of {block}");
            return Err(self.flaw(Flaw::Bytes, found, expected));
        };
        Ok((offset, Some(bytes)))
    }

    /// Passes over a value.
    fn value(&mut self, kind: u32, depth: u32) -> Result<(), Stop> {
        match kind {
            9 if depth < 4 => {
                let kind = self.u32()?;
                let count = self.count(MOST_ELEMENTS, "elements")?;
                if let Some(size) = size_of(kind) {
                    return self.skip(count * size);
                }
                (0..count).try_for_each(|_| self.value(kind, depth + 1))
            }
            8 => {
                let length = self.count(LONGEST_TEXT, "bytes of text")?;
                self.skip(length)
            }
            kind => match size_of(kind) {
                Some(size) => self.skip(size),
                None => Err(self.flaw(Flaw::Kind, format!("a value of type {kind}"), "0 to 12")),
            },
        }
    }

    fn name(&mut self) -> Result<String, Stop> {
        let length = self.count(LONGEST_NAME, "bytes of a name")?;
        match self.head.bytes(length)? {
            Some(bytes) => String::from_utf8(bytes)
                .map_err(|_| self.flaw(Flaw::Json, "a name that is not UTF-8", "UTF-8")),
            None => Err(self.cut(length)),
        }
    }

    fn count(&mut self, most: u64, what: &str) -> Result<u64, Stop> {
        let count = self.u64()?;
        if count > most {
            return Err(self.flaw(
                Flaw::Bound,
                format!("{count} {what}"),
                format!("at most {most}"),
            ));
        }
        Ok(count)
    }

    fn skip(&mut self, count: u64) -> Result<(), Stop> {
        if self.head.skip(count)? {
            Ok(())
        } else {
            Err(self.cut(count))
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        match self.head.array()? {
            Some(bytes) => Ok(bytes),
            None => Err(self.cut(N as u64)),
        }
    }

    fn u32(&mut self) -> Result<u32, Stop> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, Stop> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn cut(&self, needed: u64) -> Stop {
        let found = format!("{} bytes", self.head.size);
        let expected = format!("at least {}", self.head.at.saturating_add(needed));
        self.flaw(Flaw::CutShort, found, expected)
    }

    fn flaw(&self, flaw: Flaw, found: impl Into<String>, expected: impl Into<String>) -> Stop {
        let at = format!("byte {}", self.head.at);
        Stop::Flaw(flaw, at, found.into(), expected.into())
    }
}

/// Bytes of a value of fixed size.
fn size_of(kind: u32) -> Option<u64> {
    Some(match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        10..=12 => 8,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    /// One tensor of 32 values in `Q4_1`, with a setting of each shape.
    fn good() -> Vec<u8> {
        let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend([1_u64, 3].map(u64::to_le_bytes).concat());
        bytes.extend([text("a"), 8_u32.to_le_bytes().into(), text("llama")].concat());
        bytes.extend(
            [
                text("b"),
                9_u32.to_le_bytes().into(),
                8_u32.to_le_bytes().into(),
            ]
            .concat(),
        );
        bytes.extend([1_u64.to_le_bytes().into(), text("x")].concat());
        bytes.extend([text("general.alignment"), 4_u32.to_le_bytes().into()].concat());
        bytes.extend(32_u32.to_le_bytes());
        bytes.extend(
            [
                text("t"),
                1_u32.to_le_bytes().into(),
                32_u64.to_le_bytes().into(),
            ]
            .concat(),
        );
        bytes.extend([&3_u32.to_le_bytes()[..], &0_u64.to_le_bytes()].concat());
        bytes.resize(bytes.len().next_multiple_of(32) + 20, 0);
        bytes
    }

    fn flaw_of(bytes: &[u8]) -> Option<Flaw> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        match check(&file, "model.gguf") {
            Ok(()) => None,
            Err(ModelFileError::Flawed { flaw, .. }) => Some(flaw),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn headers_are_held_against_the_file() {
        let good = good();
        assert_eq!(flaw_of(&good), None);
        let edited = |at: usize, bytes: &[u8]| {
            let mut edited = good.clone();
            edited[at..at + bytes.len()].copy_from_slice(bytes);
            edited
        };
        let tensor = good.len() - 20 - 20;
        let tensor = good[..tensor]
            .windows(2)
            .rposition(|pair| pair == b"t\x01")
            .unwrap();
        for (name, bytes, flaw) in [
            (
                "cut in the data",
                good[..good.len() - 1].to_vec(),
                Flaw::CutShort,
            ),
            ("cut in the header", good[..40].to_vec(), Flaw::CutShort),
            ("nothing", vec![], Flaw::CutShort),
            ("another word", edited(0, b"GGML"), Flaw::Magic),
            ("version 1", edited(4, &[1]), Flaw::Version),
            ("big-endian", edited(4, &[0, 0, 0, 3]), Flaw::Version),
            ("2^64 tensors", edited(8, &[0xff; 8]), Flaw::Bound),
            ("2^64 settings", edited(16, &[0xff; 8]), Flaw::Bound),
            ("a key of 2^40 bytes", edited(29, &[1]), Flaw::Bound),
            ("five sides", edited(tensor + 1, &[5]), Flaw::Bound),
            (
                "31 values in blocks of 32",
                edited(tensor + 5, &[31]),
                Flaw::Bytes,
            ),
            (
                "2^62 values",
                edited(tensor + 5, &[0, 0, 0, 0, 0, 0, 0, 0x40]),
                Flaw::CutShort,
            ),
            (
                "a start between the alignment",
                edited(tensor + 17, &[1]),
                Flaw::Offsets,
            ),
            (
                "a start behind the end",
                edited(tensor + 17, &[0, 1]),
                Flaw::CutShort,
            ),
        ] {
            assert_eq!(flaw_of(&bytes), Some(flaw), "{name}");
        }
        assert_eq!(
            flaw_of(&edited(tensor + 13, &[99])),
            None,
            "a format of tomorrow"
        );
    }

    proptest! {
        #[test]
        fn damage_is_an_error_or_harmless(at in 0_usize..300, byte: u8) {
            let mut bytes = good();
            let length = bytes.len();
            bytes[at % length] = byte;
            let _ = flaw_of(&bytes);
        }
    }
}
