//! GGUF, read: one file with settings, tokenizer and quantised weights. `model_files` reads the header.

mod convert;
mod layout;
mod pieces;
mod quant;
mod quant_k;
mod tokenizer;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use model_files::{GgufTensor, GgufValue as Value};
use rayon::prelude::*;

use crate::BackendError;
use quant::Format;

pub(crate) use convert::convert;

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
    /// Opens a file whose header holds and whose weights are all in formats that are known here.
    pub(crate) fn open(path: &Path) -> Result<Self, BackendError> {
        let file = File::open(path).map_err(BackendError::reading(path))?;
        let header = model_files::Gguf::read(&file, &path.display().to_string())
            .map_err(BackendError::header(path))?;
        let mut places = BTreeMap::new();
        for (name, tensor) in header.tensors {
            let place = Place::of(path, &name, &tensor)?;
            places.insert(name, place);
        }
        Ok(Self {
            path: path.to_owned(),
            settings: header.settings,
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

impl Place {
    fn of(path: &Path, name: &str, tensor: &GgufTensor) -> Result<Self, BackendError> {
        let (Some(format), Some(bytes)) = (Format::of(tensor.format), tensor.bytes) else {
            return Err(BackendError::UnsupportedType {
                path: path.to_owned(),
                tensor: name.to_owned(),
                found: format!("GGML type {}", tensor.format),
                known: quant::KNOWN,
            });
        };
        let sides = tensor.shape.iter().rev().map(|side| i64::try_from(*side));
        let shape = sides.collect::<Result<Vec<i64>, _>>().ok();
        let Some(shape) = shape.filter(|shape| !shape.is_empty()) else {
            let found = format!("`{name}` of {:?}", tensor.shape);
            return Err(BackendError::malformed(
                path,
                found,
                "1 to 4 sides below 2^63",
            ));
        };
        Ok(Self {
            shape,
            format,
            offset: tensor.offset,
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
