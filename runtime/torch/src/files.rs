//! The safetensors format, read and written.
//!
//! ```text
//! u64 LE  length of the header
//! header  JSON {"name": {"dtype": "F32", "shape": [..], "data_offsets": [from, to]}, "__metadata__": {..}}, spaces at its end
//! data    the tensors, back to back; offsets count from here
//! ```
//!
//! A model is one `model.safetensors`, or shards named by `model.safetensors.index.json`. Tensors are read one at a
//! time and widened to `f32` at once, so that loading needs no second copy of the model.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tch::{Kind, Tensor};

use crate::BackendError;

/// As the reference implementation limits it.
const LARGEST_HEADER: u64 = 100_000_000;
const MOST_TENSORS: usize = 1_000_000;

#[derive(Clone, Debug, Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<i64>,
    data_offsets: (u64, u64),
}

/// An open safetensors file whose header has been checked against its length.
#[derive(Debug)]
struct Shard {
    path: PathBuf,
    file: File,
    data: u64,
    entries: BTreeMap<String, Entry>,
}

impl Shard {
    fn open(path: &Path) -> Result<Self, BackendError> {
        let bad = |found: String, expected: &str| BackendError::malformed(path, found, expected);
        let mut file = File::open(path).map_err(BackendError::reading(path))?;
        let size = file.metadata().map_err(BackendError::reading(path))?.len();
        let mut length = [0; 8];
        file.read_exact(&mut length)
            .map_err(BackendError::reading(path))?;
        let length = u64::from_le_bytes(length);
        if length > LARGEST_HEADER || length > size - 8 {
            return Err(bad(
                format!("a header of {length} bytes in a file of {size}"),
                "a safetensors header that ends within the file",
            ));
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header)
            .map_err(BackendError::reading(path))?;
        let mut fields: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&header)
            .map_err(|e| bad(e.to_string(), "a JSON object as the header"))?;
        fields.remove("__metadata__");
        if fields.len() > MOST_TENSORS {
            return Err(bad(
                format!("{} tensors", fields.len()),
                "at most 1000000 tensors",
            ));
        }
        let data = 8 + length;
        let mut entries = BTreeMap::new();
        for (name, value) in fields {
            let entry: Entry = serde_json::from_value(value)
                .map_err(|e| bad(format!("`{name}`: {e}"), "dtype, shape and data_offsets"))?;
            let (from, to) = entry.data_offsets;
            let bytes = element_count(&entry.shape)
                .zip(width(&entry.dtype))
                .and_then(|(count, width)| count.checked_mul(width));
            let known = width(&entry.dtype).is_some();
            let inside = from <= to && to <= size - data;
            if !inside || (known && bytes != Some(to - from)) {
                return Err(bad(
                    format!(
                        "`{name}` of {} {:?} at {from}..{to}",
                        entry.dtype, entry.shape
                    ),
                    "offsets that match the shape and end within the file",
                ));
            }
            entries.insert(name, entry);
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            data,
            entries,
        })
    }

    fn read(&mut self, name: &str) -> Result<Tensor, BackendError> {
        let entry = &self.entries[name];
        let kind = match entry.dtype.as_str() {
            "F32" => Kind::Float,
            "F16" => Kind::Half,
            "BF16" => Kind::BFloat16,
            other => {
                return Err(BackendError::UnsupportedType {
                    path: self.path.clone(),
                    tensor: name.to_owned(),
                    found: other.to_owned(),
                    known: "F32, F16, BF16",
                });
            }
        };
        let (from, to) = entry.data_offsets;
        let mut bytes = vec![0; (to - from) as usize];
        self.file
            .seek(SeekFrom::Start(self.data + from))
            .and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(BackendError::reading(&self.path))?;
        Ok(Tensor::f_from_data_size(&bytes, &entry.shape, kind)?.f_to_kind(Kind::Float)?)
    }
}

fn element_count(shape: &[i64]) -> Option<u64> {
    shape.iter().try_fold(1_u64, |count, &side| {
        count.checked_mul(u64::try_from(side).ok()?)
    })
}

/// Bytes of an element, for the formats whose length is checked before reading.
fn width(dtype: &str) -> Option<u64> {
    match dtype {
        "F64" | "I64" | "U64" => Some(8),
        "F32" | "I32" | "U32" => Some(4),
        "F16" | "BF16" | "I16" | "U16" => Some(2),
        "I8" | "U8" | "BOOL" => Some(1),
        _ => None,
    }
}

/// The tensors of a model or adapter, in one file or many.
#[derive(Debug)]
pub(crate) struct TensorFiles {
    /// What messages name: the folder or file.
    path: PathBuf,
    shards: Vec<Shard>,
    places: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

impl TensorFiles {
    /// Opens one safetensors file.
    pub(crate) fn open_file(path: &Path) -> Result<Self, BackendError> {
        Self::of_shards(path, vec![Shard::open(path)?])
    }

    /// Opens the weights in a model folder.
    pub(crate) fn open_folder(folder: &Path) -> Result<Self, BackendError> {
        let index = folder.join("model.safetensors.index.json");
        if !index.is_file() {
            return Self::open_file(&folder.join("model.safetensors"));
        }
        let text = fs::read(&index).map_err(BackendError::reading(&index))?;
        let parsed: ShardIndex = serde_json::from_slice(&text)
            .map_err(|e| BackendError::malformed(&index, e.to_string(), "a `weight_map`"))?;
        let mut names: Vec<&String> = parsed.weight_map.values().collect();
        names.sort_unstable();
        names.dedup();
        if let Some(name) = names
            .iter()
            .find(|n| n.contains(['/', '\\']) || n.starts_with('.'))
        {
            return Err(BackendError::malformed(
                &index,
                format!("a shard called `{name}`"),
                "plain file names",
            ));
        }
        let shards = names
            .iter()
            .map(|name| Shard::open(&folder.join(name)))
            .collect::<Result<_, _>>()?;
        let files = Self::of_shards(folder, shards)?;
        for name in parsed.weight_map.keys() {
            files.place(name)?;
        }
        Ok(files)
    }

    fn of_shards(path: &Path, shards: Vec<Shard>) -> Result<Self, BackendError> {
        let mut places = BTreeMap::new();
        for (number, shard) in shards.iter().enumerate() {
            for name in shard.entries.keys() {
                if places.insert(name.clone(), number).is_some() {
                    return Err(BackendError::malformed(
                        &shard.path,
                        format!("`{name}` a second time"),
                        "each tensor once",
                    ));
                }
            }
        }
        Ok(Self {
            path: path.to_owned(),
            shards,
            places,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    fn place(&self, name: &str) -> Result<usize, BackendError> {
        self.places
            .get(name)
            .copied()
            .ok_or_else(|| BackendError::MissingTensor {
                path: self.path.clone(),
                tensor: name.to_owned(),
            })
    }

    /// The shape of a tensor, without reading it.
    pub(crate) fn shape(&self, name: &str) -> Result<&[i64], BackendError> {
        Ok(&self.shards[self.place(name)?].entries[name].shape)
    }

    /// Reads a tensor of the expected shape as `f32`.
    pub(crate) fn read(&mut self, name: &str, expected: &[i64]) -> Result<Tensor, BackendError> {
        let found = self.shape(name)?;
        if found != expected {
            return Err(BackendError::WrongShape {
                path: self.path.clone(),
                tensor: name.to_owned(),
                found: found.to_vec(),
                expected: expected.to_vec(),
            });
        }
        let place = self.place(name)?;
        self.shards[place].read(name)
    }
}

/// Writes `f32` tensors as one safetensors file and flushes it to disk.
pub(crate) fn write<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
) -> Result<(), BackendError> {
    let tensors: Vec<_> = tensors.into_iter().collect();
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), serde_json::json!({"format": "pt"}));
    let mut end = 0;
    for (name, tensor) in &tensors {
        let from = end;
        end += tensor.numel() * 4;
        header.insert(
            (*name).to_owned(),
            serde_json::json!({"dtype": "F32", "shape": tensor.size(), "data_offsets": [from, end]}),
        );
    }
    let mut header = serde_json::Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let file = File::create(path).map_err(BackendError::writing(path))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    out.write_all(&(header.len() as u64).to_le_bytes())
        .and_then(|()| out.write_all(&header))
        .map_err(BackendError::writing(path))?;
    for (_, tensor) in &tensors {
        let bytes = little_endian(tensor)?;
        out.write_all(&bytes).map_err(BackendError::writing(path))?;
    }
    let file = out
        .into_inner()
        .map_err(|e| BackendError::writing(path)(e.into_error()))?;
    file.sync_all().map_err(BackendError::writing(path))
}

/// The bytes of a tensor as `f32`; every machine that libtorch runs on is little-endian.
fn little_endian(tensor: &Tensor) -> Result<Vec<u8>, BackendError> {
    let bytes = tensor
        .f_detach()?
        .f_to_kind(Kind::Float)?
        .f_contiguous()?
        .f_view([-1])?
        .f_view_dtype(Kind::Uint8)?;
    let count = bytes.numel();
    let mut copy = vec![0_u8; count];
    bytes.f_copy_data(&mut copy, count)?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_of(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let tensor = Tensor::from_slice(&[1.0_f32, -2.5, 3.0, 0.0]).view([2, 2]);
        write(&path, [("a.weight", &tensor)]).unwrap();
        let mut files = TensorFiles::open_folder(folder.path()).unwrap();
        let back = files.read("a.weight", &[2, 2]).unwrap();
        assert_eq!(back, tensor);
        let error = files.read("a.weight", &[4]).unwrap_err();
        assert_eq!(report::Diagnose::code(&error), "torch.wrong-shape");
    }

    #[test]
    fn lying_headers_are_refused() {
        let entry = |dtype: &str, shape: &str, offsets: &str| {
            format!(r#"{{"x":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        for (case, bytes) in [
            ("empty", vec![]),
            ("cut length", vec![1, 2]),
            ("header past the end", u64::MAX.to_le_bytes().to_vec()),
            ("no JSON", file_of("{", b"")),
            (
                "past the end",
                file_of(&entry("F32", "[2]", "[0,8]"), &[0; 4]),
            ),
            ("backwards", file_of(&entry("F32", "[1]", "[4,0]"), &[0; 4])),
            (
                "shape lies",
                file_of(&entry("F32", "[3]", "[0,8]"), &[0; 8]),
            ),
            (
                "shape overflows",
                file_of(&entry("F32", "[4611686018427387904,4]", "[0,0]"), &[0; 8]),
            ),
            (
                "negative side",
                file_of(&entry("F32", "[-1]", "[0,4]"), &[0; 4]),
            ),
            (
                "unknown numbers",
                file_of(&entry("F4", "[2]", "[0,1]"), &[0; 1]),
            ),
        ] {
            fs::write(&path, bytes).unwrap();
            let read = TensorFiles::open_file(&path).and_then(|mut f| f.read("x", &[2]));
            assert!(read.is_err(), "{case}");
        }
    }
}
