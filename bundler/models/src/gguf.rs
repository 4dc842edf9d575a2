//! The header of a GGUF file, against the file's size.
//!
//! ```text
//! "GGUF" | u32 version | u64 tensors | u64 settings | settings | tensors | zeros up to the alignment | data
//! setting: text key, u32 type, value        tensor: text name, u32 sides, u64 each, u32 format, u64 offset
//! ```
//!
//! Who packs a model checks the header and keeps none of its values; who trains it reads them, within tighter bounds.

mod formats;
mod walk;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;

use crate::error::{Flaw, ModelFileError};
use crate::head::Head;
use formats::block_of;
use walk::{Stop, Walk};

/// Whether these are the first bytes of a GGUF file.
pub(crate) const MAGIC: &[u8; 4] = b"GGUF";

/// What a GGUF file says of itself.
#[derive(Clone, Debug, Default)]
pub struct Gguf {
    /// Its settings, the tokenizer among them.
    pub settings: BTreeMap<String, GgufValue>,
    /// Its tensors. Their data does not overlap, and all of it lies within the file.
    pub tensors: BTreeMap<String, GgufTensor>,
}

/// A setting. Numbers of all widths are two kinds here.
#[derive(Clone, Debug, PartialEq)]
pub enum GgufValue {
    /// A whole number.
    Integer(i64),
    /// A number with a fraction.
    Number(f64),
    /// Yes or no.
    Truth(bool),
    /// A text.
    Text(String),
    /// Values of one type.
    List(Vec<GgufValue>),
}

/// What a GGUF file says of one tensor.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GgufTensor {
    /// Its sides, the fastest first.
    pub shape: Vec<u64>,
    /// GGML's number of its format.
    pub format: u32,
    /// Where its data begins in the file.
    pub offset: u64,
    /// Bytes of its data; `None` where the format is not known here.
    pub bytes: Option<u64>,
}

impl Gguf {
    /// Reads the header of the file that messages call `path`.
    ///
    /// # Errors
    /// When the file cannot be read, or its header lies.
    pub fn read(file: &File, path: &str) -> Result<Self, ModelFileError> {
        walk(file, path, Some(MEMORY))
    }
}

/// Checks the header and that all data lies within the file.
pub(crate) fn check(file: &File, path: &str) -> Result<(), ModelFileError> {
    walk(file, path, None).map(drop)
}

fn walk(file: &File, path: &str, memory: Option<u64>) -> Result<Gguf, ModelFileError> {
    let head = Head::open(file).map_err(ModelFileError::unreadable(path))?;
    Walk::new(head, memory).file().map_err(|stop| match stop {
        Stop::Disk(error) => ModelFileError::unreadable(path)(error),
        Stop::Flaw(flaw, at, found, expected) => {
            ModelFileError::flawed(path, flaw, at, found, expected)
        }
    })
}

impl Walk<'_> {
    fn file(&mut self) -> Result<Gguf, Stop> {
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
        let tensors = self.count(self.bounds.tensors, "tensors")?;
        let settings = self.count(self.bounds.settings, "settings")?;
        let mut gguf = Gguf::default();
        let mut alignment = 32;
        for _ in 0..settings {
            let key = self.name()?;
            let kind = self.u32()?;
            let value = if key == ALIGNMENT {
                alignment = self.alignment(kind)?;
                Some(GgufValue::Integer(alignment as i64))
            } else {
                self.value(kind, 0)?
            };
            let value = value.unwrap_or(GgufValue::Truth(false));
            match gguf.settings.entry(key) {
                Entry::Vacant(new) => new.insert(value),
                Entry::Occupied(known) => {
                    let found = format!("`{}`", known.key());
                    return Err(self.flaw(Flaw::Twice, found, "each setting once"));
                }
            };
        }
        for _ in 0..tensors {
            let name = self.name()?;
            let tensor = self.tensor(alignment)?;
            match gguf.tensors.entry(name) {
                Entry::Vacant(new) => new.insert(tensor),
                Entry::Occupied(known) => {
                    let found = format!("`{}`", known.key());
                    return Err(self.flaw(Flaw::Twice, found, "each tensor once"));
                }
            };
        }
        // The header ends within the file, so this is far from overflowing.
        let data = self.head.at.next_multiple_of(alignment);
        self.check_data(&gguf.tensors, data)?;
        for tensor in gguf.tensors.values_mut() {
            tensor.offset += data;
        }
        Ok(gguf)
    }

    /// What data begins at multiples of.
    fn alignment(&mut self, kind: u32) -> Result<u64, Stop> {
        if kind != 4 {
            let found = format!("`{ALIGNMENT}` of type {kind}");
            return Err(self.flaw(Flaw::Kind, found, "type 4"));
        }
        let alignment = u64::from(self.u32()?);
        if !alignment.is_power_of_two() || alignment > 1 << 20 {
            let found = format!("an alignment of {alignment}");
            return Err(self.flaw(Flaw::Bound, found, "a power of two up to 1048576"));
        }
        Ok(alignment)
    }

    /// No data overlaps, and all of it lies within the file.
    fn check_data(&self, tensors: &BTreeMap<String, GgufTensor>, data: u64) -> Result<(), Stop> {
        let mut order: Vec<_> = tensors
            .iter()
            .map(|(name, tensor)| (tensor.offset, tensor.bytes, name))
            .collect();
        order.sort();
        let mut before = 0;
        for (offset, bytes, name) in order {
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

    /// A tensor, whose offset counts from the start of the data yet.
    fn tensor(&mut self, alignment: u64) -> Result<GgufTensor, Stop> {
        let sides = self.u32()?;
        if sides > 4 {
            return Err(self.flaw(Flaw::Bound, format!("{sides} sides"), "at most 4"));
        }
        let (mut shape, mut count) = (Vec::new(), 1_u64);
        for _ in 0..sides {
            let side = self.u64()?;
            let Some(product) = count.checked_mul(side) else {
                let found = format!("a side of {side}");
                return Err(self.flaw(Flaw::Bound, found, "fewer than 2^64 values"));
            };
            count = product;
            shape.push(side);
        }
        let format = self.u32()?;
        let offset = self.u64()?;
        if offset % alignment != 0 {
            let found = format!("a start at {offset}");
            return Err(self.flaw(Flaw::Offsets, found, format!("a multiple of {alignment}")));
        }
        let bytes = match block_of(format) {
            None => None,
            Some((block, bytes)) => {
                let first = shape.first().copied().unwrap_or(1);
                let whole = first % block == 0;
                let bytes = (count / block).checked_mul(bytes).filter(|_| whole);
                if bytes.is_none() {
                    let found = format!("{count} values in rows of {first}");
                    let expected = format!("rows of whole blocks of {block}");
                    return Err(self.flaw(Flaw::Bytes, found, expected));
                }
                bytes
            }
        };
        Ok(GgufTensor {
            shape,
            format,
            offset,
            bytes,
        })
    }
}

const ALIGNMENT: &str = "general.alignment";

/// Bytes of memory that all settings together may take. Those of the largest vocabularies take a fifth.
const MEMORY: u64 = 256 << 20;

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

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn flaw_of(bytes: &[u8]) -> Option<Flaw> {
        match check(&file(bytes), "model.gguf") {
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
        let alignment = tensor - 8 - 4;
        let kind = edited(alignment - 4, &[5]);
        assert_eq!(flaw_of(&kind), Some(Flaw::Kind), "a signed alignment");
        let three = edited(alignment, &[3]);
        assert_eq!(flaw_of(&three), Some(Flaw::Bound), "an alignment of three");
    }

    #[test]
    fn settings_and_tensors_are_read() {
        let gguf = Gguf::read(&file(&good()), "model.gguf").unwrap();
        let text = |text: &str| GgufValue::Text(text.to_owned());
        assert_eq!(gguf.settings["a"], text("llama"));
        assert_eq!(gguf.settings["b"], GgufValue::List(vec![text("x")]));
        let tensor = &gguf.tensors["t"];
        assert_eq!(
            (&tensor.shape[..], tensor.format, tensor.bytes),
            (&[32][..], 3, Some(20))
        );
        assert_eq!(tensor.offset, good().len() as u64 - 20);
    }

    #[test]
    fn what_is_kept_takes_no_more_memory_than_it_may() {
        // Three lists of single bytes, each of which takes as much memory as a text does.
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend([0_u64, 3].map(u64::to_le_bytes).concat());
        for name in *b"abc" {
            bytes.extend(1_u64.to_le_bytes());
            bytes.extend([name, 9, 0, 0, 0, 0, 0, 0, 0]);
            bytes.extend(100_u64.to_le_bytes());
            bytes.resize(bytes.len() + 100, 0);
        }
        let file = file(&bytes);
        let of_list = 100 * size_of::<GgufValue>() as u64;
        for (memory, enough) in [(3 * of_list, true), (3 * of_list - 1, false)] {
            let read = walk(&file, "model.gguf", Some(memory));
            assert_eq!(read.is_ok(), enough, "{memory}");
        }
        assert!(walk(&file, "model.gguf", None).is_ok());
    }

    proptest! {
        #[test]
        fn damage_is_an_error_or_harmless(at in 0_usize..300, byte: u8) {
            let mut bytes = good();
            let length = bytes.len();
            bytes[at % length] = byte;
            let checked = flaw_of(&bytes);
            // What is kept is held to tighter bounds.
            let read = Gguf::read(&file(&bytes), "model.gguf");
            prop_assert!(checked.is_none() || read.is_err());
        }
    }
}
