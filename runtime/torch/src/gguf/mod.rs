//! GGUF version 3, read: one file with settings, tokenizer and quantised weights.
//!
//! ```text
//! "GGUF"  u32 version  u64 tensors  u64 settings
//! setting:  string key, u32 type, value;      string: u64 length, UTF-8;  array: u32 type, u64 count, values
//! tensor:   string name, u32 sides, u64 side.. (fastest first), u32 type, u64 offset from the start of the data
//! data:     at the next multiple of general.alignment (32)
//! ```

mod convert;
mod layout;
mod quant;
mod quant_k;
mod tokenizer;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::BackendError;
use quant::Format;

pub(crate) use convert::convert;

const MOST_SETTINGS: u64 = 65_536;
const MOST_TENSORS: u64 = 65_536;
const MOST_ELEMENTS: u64 = 4_000_000;
const LONGEST_TEXT: u64 = 4 << 20;
/// All settings together, as a bound on memory.
const LARGEST_HEAD: u64 = 512 << 20;

/// A setting. Numbers of all widths are two kinds here.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Integer(i64),
    Number(f64),
    Truth(bool),
    Text(String),
    List(Vec<Value>),
}

#[derive(Debug)]
struct Place {
    /// Slowest side first, as everywhere else.
    shape: Vec<i64>,
    format: Format,
    offset: u64,
    bytes: u64,
}

/// An open GGUF file whose header has been checked.
#[derive(Debug)]
pub(crate) struct Gguf {
    path: PathBuf,
    file: File,
    settings: BTreeMap<String, Value>,
    places: BTreeMap<String, Place>,
}

impl Gguf {
    /// Opens a file and checks every count and offset against its length.
    pub(crate) fn open(path: &Path) -> Result<Self, BackendError> {
        let file = File::open(path).map_err(BackendError::reading(path))?;
        let size = file.metadata().map_err(BackendError::reading(path))?.len();
        let mut head = Head {
            path,
            input: BufReader::new(&file).take(LARGEST_HEAD.min(size)),
            at: 0,
        };
        let magic = head.bytes(4)?;
        if magic != b"GGUF" {
            return Err(head.bad("another first word", "a GGUF file"));
        }
        let version = head.u32()?;
        if version != 3 {
            return Err(head.bad(format!("version {version}"), "version 3"));
        }
        let tensors = head.count(MOST_TENSORS, "tensors")?;
        let count = head.count(MOST_SETTINGS, "settings")?;
        let mut settings = BTreeMap::new();
        for _ in 0..count {
            let key = head.text()?;
            let kind = head.u32()?;
            let value = head.value(kind, 0)?;
            settings.insert(key, value);
        }
        let mut places = BTreeMap::new();
        for _ in 0..tensors {
            let name = head.text()?;
            let place = head.place(&name)?;
            places.insert(name, place);
        }
        let alignment = match settings.get("general.alignment") {
            Some(Value::Integer(n)) if (1..=1 << 20).contains(n) => *n as u64,
            Some(other) => {
                return Err(head.bad(format!("alignment {other:?}"), "1 to 1048576"));
            }
            None => 32,
        };
        let data = head.at.next_multiple_of(alignment);
        for (name, place) in &mut places {
            let end = data
                .checked_add(place.offset)
                .and_then(|from| from.checked_add(place.bytes));
            if end.is_none_or(|end| end > size) {
                return Err(head.bad(
                    format!("`{name}` ends past the file's {size} bytes"),
                    "data that ends within the file: the file was cut short",
                ));
            }
            place.offset += data;
        }
        Ok(Self {
            path: path.to_owned(),
            settings,
            places,
            file,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// Bytes of a tensor in the file; zero if there is no such tensor.
    pub(crate) fn stored_bytes(&self, name: &str) -> u64 {
        self.places.get(name).map_or(0, |place| place.bytes)
    }

    /// The shape of a tensor, slowest side first.
    pub(crate) fn shape(&self, name: &str) -> Result<&[i64], BackendError> {
        Ok(&self.place(name)?.shape)
    }

    fn place(&self, name: &str) -> Result<&Place, BackendError> {
        self.places
            .get(name)
            .ok_or_else(|| BackendError::MissingTensor {
                path: self.path.clone(),
                tensor: name.to_owned(),
            })
    }

    /// Reads a tensor's values as `f32`, on all cores.
    pub(crate) fn read(&self, name: &str) -> Result<Vec<f32>, BackendError> {
        let place = self.place(name)?;
        self.read_at(place, place.offset, place.bytes)
    }

    /// Reads one of the parts that a tensor's slowest side counts.
    pub(crate) fn read_part(&self, name: &str, part: usize) -> Result<Vec<f32>, BackendError> {
        let place = self.place(name)?;
        // Blocks run along the fastest side, in whole blocks a row: a part of rows is one of bytes.
        let bytes = place.bytes / place.shape[0].max(1) as u64;
        self.read_at(place, place.offset + bytes * part as u64, bytes)
    }

    fn read_at(&self, place: &Place, start: u64, bytes: u64) -> Result<Vec<f32>, BackendError> {
        let (block, block_bytes) = (place.format.block(), place.format.block_bytes());
        // A piece is large enough to be worth a thread and small enough to stay in its cache.
        let blocks = ((1 << 17) / block) as usize;
        let count = bytes / block_bytes * block;
        let mut values = vec![0.0; count as usize];
        values
            .par_chunks_mut(blocks * block as usize)
            .enumerate()
            .try_for_each_init(Vec::new, |bytes: &mut Vec<u8>, (number, piece)| {
                bytes.resize(piece.len() / block as usize * block_bytes as usize, 0);
                let from = start + (number * blocks) as u64 * block_bytes;
                self.file.read_exact_at(bytes, from)?;
                place.format.widen(bytes, piece);
                Ok(())
            })
            .map_err(BackendError::reading(&self.path))?;
        Ok(values)
    }

    pub(crate) fn setting(&self, key: &str) -> Option<&Value> {
        self.settings.get(key)
    }

    pub(crate) fn text(&self, key: &str) -> Result<&str, BackendError> {
        match self.setting(key) {
            Some(Value::Text(text)) => Ok(text),
            other => Err(self.wrong(key, other, "a text")),
        }
    }

    pub(crate) fn integer(&self, key: &str) -> Result<i64, BackendError> {
        match self.setting(key) {
            Some(Value::Integer(number)) => Ok(*number),
            other => Err(self.wrong(key, other, "a whole number")),
        }
    }

    pub(crate) fn number(&self, key: &str) -> Result<f64, BackendError> {
        match self.setting(key) {
            Some(Value::Number(number)) => Ok(*number),
            other => Err(self.wrong(key, other, "a number")),
        }
    }

    pub(crate) fn texts(&self, key: &str) -> Result<Vec<&str>, BackendError> {
        let Some(Value::List(list)) = self.setting(key) else {
            return Err(self.wrong(key, self.setting(key), "a list of texts"));
        };
        list.iter()
            .map(|value| match value {
                Value::Text(text) => Ok(text.as_str()),
                other => Err(self.wrong(key, Some(other), "a list of texts")),
            })
            .collect()
    }

    fn wrong(&self, key: &str, found: Option<&Value>, expected: &str) -> BackendError {
        let mut found = found.map_or_else(|| "nothing".to_owned(), |v| format!("{v:?}"));
        found.truncate(found.floor_char_boundary(80));
        BackendError::malformed(&self.path, format!("`{key}`: {found}"), expected)
    }
}

/// The part before the data, read front to back.
struct Head<'a, R> {
    path: &'a Path,
    input: R,
    at: u64,
}

impl<R: Read> Head<'_, R> {
    fn bad(&self, found: impl Into<String>, expected: &str) -> BackendError {
        let found = format!("{} near byte {}", found.into(), self.at);
        BackendError::malformed(self.path, found, expected)
    }

    fn bytes(&mut self, count: u64) -> Result<Vec<u8>, BackendError> {
        let mut bytes = Vec::new();
        let read = (&mut self.input)
            .take(count)
            .read_to_end(&mut bytes)
            .map_err(BackendError::reading(self.path))?;
        self.at += read as u64;
        if read as u64 != count {
            return Err(self.bad("the end of the file", "more of the header"));
        }
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BackendError> {
        let bytes = self.bytes(N as u64)?;
        Ok(bytes
            .try_into()
            .expect("bytes() returns as many as asked for"))
    }

    fn u32(&mut self) -> Result<u32, BackendError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, BackendError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn count(&mut self, most: u64, what: &str) -> Result<u64, BackendError> {
        let count = self.u64()?;
        if count > most {
            return Err(self.bad(format!("{count} {what}"), &format!("at most {most}")));
        }
        Ok(count)
    }

    fn text(&mut self) -> Result<String, BackendError> {
        let length = self.count(LONGEST_TEXT, "bytes of text")?;
        let bytes = self.bytes(length)?;
        String::from_utf8(bytes).map_err(|_| self.bad("a text that is not UTF-8", "UTF-8"))
    }

    fn value(&mut self, kind: u32, depth: u32) -> Result<Value, BackendError> {
        Ok(match kind {
            0 => Value::Integer(i64::from(self.array::<1>()?[0])),
            1 => Value::Integer(i64::from(i8::from_le_bytes(self.array()?))),
            2 => Value::Integer(i64::from(u16::from_le_bytes(self.array()?))),
            3 => Value::Integer(i64::from(i16::from_le_bytes(self.array()?))),
            4 => Value::Integer(i64::from(self.u32()?)),
            5 => Value::Integer(i64::from(i32::from_le_bytes(self.array()?))),
            6 => Value::Number(f64::from(f32::from_le_bytes(self.array()?))),
            7 => Value::Truth(self.array::<1>()?[0] != 0),
            8 => Value::Text(self.text()?),
            9 if depth < 4 => {
                let kind = self.u32()?;
                let count = self.count(MOST_ELEMENTS, "elements")?;
                let mut list = Vec::new();
                for _ in 0..count {
                    list.push(self.value(kind, depth + 1)?);
                }
                Value::List(list)
            }
            10 => match i64::try_from(self.u64()?) {
                Ok(number) => Value::Integer(number),
                Err(_) => return Err(self.bad("a number over 2^63", "a smaller number")),
            },
            11 => Value::Integer(i64::from_le_bytes(self.array()?)),
            12 => Value::Number(f64::from_le_bytes(self.array()?)),
            other => return Err(self.bad(format!("a value of type {other}"), "type 0 to 12")),
        })
    }

    fn place(&mut self, name: &str) -> Result<Place, BackendError> {
        let sides = self.u32()?;
        if !(1..=4).contains(&sides) {
            return Err(self.bad(format!("`{name}` with {sides} sides"), "1 to 4 sides"));
        }
        let mut shape = Vec::new();
        for _ in 0..sides {
            shape.push(self.count(1 << 40, "as a side")?);
        }
        let kind = self.u32()?;
        let offset = self.u64()?;
        let Some(format) = Format::of(kind) else {
            return Err(BackendError::UnsupportedType {
                path: self.path.to_owned(),
                tensor: name.to_owned(),
                found: format!("GGML type {kind}"),
                known: quant::KNOWN,
            });
        };
        let bytes = shape
            .iter()
            .try_fold(1_u64, |count, &side| count.checked_mul(side))
            .filter(|_| shape[0] % format.block() == 0)
            .and_then(|count| (count / format.block()).checked_mul(format.block_bytes()));
        let Some(bytes) = bytes else {
            return Err(self.bad(
                format!("`{name}` of {shape:?}"),
                "sides that multiply, the first in whole blocks",
            ));
        };
        shape.reverse();
        Ok(Place {
            shape: shape.into_iter().map(|side| side as i64).collect(),
            format,
            offset,
            bytes,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A tensor's name, its sides, the fastest first, and its numbers.
    pub(in crate::gguf) type Stored = (String, Vec<u64>, Vec<f32>);

    /// A setting: its value's type and bytes.
    pub(in crate::gguf) fn setting(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
        [string(key).as_slice(), &kind.to_le_bytes(), value].concat()
    }

    pub(in crate::gguf) fn texts(list: &[&str]) -> Vec<u8> {
        let mut bytes = 8_u32.to_le_bytes().to_vec();
        bytes.extend((list.len() as u64).to_le_bytes());
        for text in list {
            bytes.extend(string(text));
        }
        bytes
    }

    /// A Llama of one layer, hidden width 4, two heads, F32.
    pub(in crate::gguf) fn tiny_llama() -> Vec<u8> {
        let whole = |key: &str, value: u32| setting(key, 4, &value.to_le_bytes());
        let settings = [
            setting("general.architecture", 8, &string("llama")),
            whole("llama.embedding_length", 4),
            whole("llama.feed_forward_length", 8),
            whole("llama.block_count", 1),
            whole("llama.attention.head_count", 2),
            whole("llama.context_length", 64),
            setting(
                "llama.attention.layer_norm_rms_epsilon",
                6,
                &1e-5_f32.to_le_bytes(),
            ),
            setting("tokenizer.ggml.model", 8, &string("gpt2")),
            setting("tokenizer.ggml.pre", 8, &string("gpt-2")),
            setting("tokenizer.ggml.tokens", 9, &texts(&["a", "b", "ab"])),
            setting("tokenizer.ggml.merges", 9, &texts(&["a b"])),
        ];
        let shapes: [(&str, &[u64]); 11] = [
            ("token_embd.weight", &[4, 3]),
            ("blk.0.attn_norm.weight", &[4]),
            ("blk.0.attn_q.weight", &[4, 4]),
            ("blk.0.attn_k.weight", &[4, 4]),
            ("blk.0.attn_v.weight", &[4, 4]),
            ("blk.0.attn_output.weight", &[4, 4]),
            ("blk.0.ffn_norm.weight", &[4]),
            ("blk.0.ffn_gate.weight", &[4, 8]),
            ("blk.0.ffn_up.weight", &[4, 8]),
            ("blk.0.ffn_down.weight", &[8, 4]),
            ("output_norm.weight", &[4]),
        ];
        let mut number = 0_u16;
        let tensors = shapes.map(|(name, shape)| {
            let values = (0..shape.iter().product::<u64>()).map(|_| {
                number += 1;
                f32::from(number) / 100.0
            });
            (name.to_owned(), shape.to_vec(), values.collect())
        });
        file(&settings, &tensors)
    }

    /// A whole file with these settings and F32 tensors.
    pub(in crate::gguf) fn file(settings: &[Vec<u8>], tensors: &[Stored]) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3_u32.to_le_bytes());
        bytes.extend((tensors.len() as u64).to_le_bytes());
        bytes.extend((settings.len() as u64).to_le_bytes());
        bytes.extend(settings.concat());
        let mut data = Vec::new();
        for (name, shape, values) in tensors {
            bytes.extend(string(name));
            bytes.extend((shape.len() as u32).to_le_bytes());
            for side in shape {
                bytes.extend(side.to_le_bytes());
            }
            bytes.extend(0_u32.to_le_bytes());
            bytes.extend((data.len() as u64).to_le_bytes());
            for value in values {
                data.extend(value.to_le_bytes());
            }
            data.resize(data.len().next_multiple_of(32), 0);
        }
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(data);
        bytes
    }

    pub(in crate::gguf) fn string(text: &str) -> Vec<u8> {
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend(text.as_bytes());
        bytes
    }

    /// One F32 tensor `x` of two numbers and one setting.
    fn small() -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3_u32.to_le_bytes());
        bytes.extend(1_u64.to_le_bytes());
        bytes.extend(1_u64.to_le_bytes());
        bytes.extend(string("general.architecture"));
        bytes.extend(8_u32.to_le_bytes());
        bytes.extend(string("llama"));
        bytes.extend(string("x"));
        bytes.extend(1_u32.to_le_bytes());
        bytes.extend(2_u64.to_le_bytes());
        bytes.extend(0_u32.to_le_bytes());
        bytes.extend(0_u64.to_le_bytes());
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(1.5_f32.to_le_bytes());
        bytes.extend((-2.0_f32).to_le_bytes());
        bytes
    }

    #[test]
    fn settings_and_tensors_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        std::fs::write(&path, small()).unwrap();
        let file = Gguf::open(&path).unwrap();
        assert_eq!(file.text("general.architecture").unwrap(), "llama");
        assert_eq!(file.read("x").unwrap(), [1.5, -2.0]);
        assert_eq!(file.shape("x").unwrap(), [2]);
    }

    #[test]
    fn every_cut_and_every_huge_count_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        let whole = small();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(Gguf::open(&path).is_err(), "cut at {cut}");
        }
        for at in [8, 16, 24] {
            let mut lying = whole.clone();
            lying[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
            std::fs::write(&path, &lying).unwrap();
            assert!(Gguf::open(&path).is_err(), "huge count at {at}");
        }
    }
}
