//! The safetensors format, read and written.
//!
//! ```text
//! u64 LE  length of the header
//! header  JSON {"name": {"dtype": "F32", "shape": [..], "data_offsets": [from, to]}, "__metadata__": {..}}, spaces at its end
//! data    the tensors, back to back; offsets count from here
//! ```
//!
//! `model_files` reads the header. A model is one `model.safetensors`, or shards named by `model.safetensors.index.json`. A tensor that is wanted in the
//! number format of the file is mapped, not copied: its pages are read when they are first used, and the system may drop
//! them again. Others are read and converted one at a time, so that loading needs no second copy of the model.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use model_files::Safetensors;
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

use crate::load::is_finite;
use crate::{BackendError, stream};

/// Longest list of shards that is read.
const LARGEST_INDEX: u64 = 100_000_000;
/// Bytes of a tensor that are read and converted at a time.
const PIECE: u64 = 4 << 20;

/// Names the shard of each tensor.
pub(crate) const INDEX: &str = "model.safetensors.index.json";

#[derive(Clone, Debug)]
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
    size: u64,
    data: u64,
    entries: BTreeMap<String, Entry>,
    map: Option<Tensor>,
}

impl Shard {
    fn open(path: &Path) -> Result<Self, BackendError> {
        let file = File::open(path).map_err(BackendError::reading(path))?;
        let size = file.metadata().map_err(BackendError::reading(path))?.len();
        let header = Safetensors::read(&file, &path.display().to_string())
            .map_err(BackendError::header(path))?;
        let mut entries = BTreeMap::new();
        for (name, tensor) in header.tensors {
            let sides = tensor.shape.iter().map(|side| i64::try_from(*side));
            // An empty tensor may have any other side.
            let shape: Vec<i64> = sides.collect::<Result<_, _>>().map_err(|_| {
                let found = format!("`{name}` of {:?}", tensor.shape);
                BackendError::malformed(path, found, "sides below 2^63")
            })?;
            let [from, to] = tensor.data_offsets;
            let entry = Entry {
                dtype: tensor.dtype,
                shape,
                data_offsets: (from, to),
            };
            entries.insert(name, entry);
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            size,
            data: header.data,
            entries,
            map: None,
        })
    }

    fn kind(&self, name: &str) -> Result<Kind, BackendError> {
        match self.entries[name].dtype.as_str() {
            "F32" => Ok(Kind::Float),
            "F16" => Ok(Kind::Half),
            "BF16" => Ok(Kind::BFloat16),
            other => Err(BackendError::UnsupportedType {
                path: self.path.clone(),
                tensor: name.to_owned(),
                found: other.to_owned(),
                known: "F32, F16, BF16",
            }),
        }
    }

    /// The tensor in the file's own number format, its bytes shared with the file; none where that cannot be.
    fn mapped(&mut self, name: &str) -> Result<Option<Tensor>, BackendError> {
        let kind = self.kind(name)?;
        let entry = &self.entries[name];
        let (from, to) = (
            self.data + entry.data_offsets.0,
            self.data + entry.data_offsets.1,
        );
        let aligned = from.is_multiple_of(kind.elt_size_in_bytes() as u64);
        let Some(path) = self.path.to_str().filter(|_| aligned && to > from) else {
            return Ok(None);
        };
        if self.map.is_none() {
            let size = i64::try_from(self.size).unwrap_or(i64::MAX);
            // Not shared: a write, which none of ours is, would not reach the file.
            let map = Tensor::f_from_file(path, false, size, (Kind::Uint8, Device::Cpu))?;
            self.map = Some(map);
        }
        let Some(map) = &self.map else {
            return Ok(None);
        };
        let bytes = map.f_narrow(0, from as i64, (to - from) as i64)?;
        Ok(Some(
            bytes.f_view_dtype(kind)?.f_view(entry.shape.as_slice())?,
        ))
    }

    fn read(&mut self, name: &str, kind: Kind) -> Result<Tensor, BackendError> {
        let entry = &self.entries[name];
        let ((from, to), shape) = (entry.data_offsets, entry.shape.clone());
        self.read_range(name, from..to, &shape, kind)
    }

    fn read_bytes(&mut self, name: &str, most: u64) -> Result<Vec<u8>, BackendError> {
        let entry = &self.entries[name];
        let (from, to) = entry.data_offsets;
        if entry.dtype != "U8" || to - from > most {
            return Err(BackendError::malformed(
                &self.path,
                format!("`{name}` of {} {:?}", entry.dtype, entry.shape),
                format!("at most {most} bytes"),
            ));
        }
        self.bytes_at(from..to)
    }

    fn read_ints(&mut self, name: &str) -> Result<Vec<i32>, BackendError> {
        let entry = &self.entries[name];
        if entry.dtype != "I32" {
            return Err(BackendError::UnsupportedType {
                path: self.path.clone(),
                tensor: name.to_owned(),
                found: entry.dtype.clone(),
                known: "I32",
            });
        }
        let (from, to) = entry.data_offsets;
        let bytes = self.bytes_at(from..to)?;
        let each = bytes.chunks_exact(4);
        Ok(each
            .map(|word| i32::from_le_bytes([word[0], word[1], word[2], word[3]]))
            .collect())
    }

    fn bytes_at(&mut self, range: Range<u64>) -> Result<Vec<u8>, BackendError> {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        self.file
            .seek(SeekFrom::Start(self.data + range.start))
            .and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(BackendError::reading(&self.path))?;
        Ok(bytes)
    }

    /// Reads the bytes at `range` of the data as a part of the tensor `name`, of the given shape.
    fn read_range(
        &mut self,
        name: &str,
        range: Range<u64>,
        shape: &[i64],
        kind: Kind,
    ) -> Result<Tensor, BackendError> {
        let stored = self.kind(name)?;
        // The room first: where there is none, nothing has been read in vain.
        let result = Tensor::f_empty(shape, (kind, Device::Cpu))?;
        let flat = result.f_view([-1])?;
        let (mut from, mut done) = (range.start, 0);
        while from < range.end {
            let to = range.end.min(from + PIECE);
            let bytes = self.bytes_at(from..to)?;
            let count = (bytes.len() / stored.elt_size_in_bytes()) as i64;
            let part = Tensor::f_from_data_size(&bytes, &[count], stored)?;
            flat.f_narrow(0, done, count)?.f_copy_(&part)?;
            (from, done) = (to, done + count);
        }
        Ok(result)
    }
}

/// The content of a file of at most `most` bytes.
pub(crate) fn bounded(path: &Path, most: u64) -> Result<Vec<u8>, BackendError> {
    let file = File::open(path).map_err(BackendError::reading(path))?;
    let mut text = Vec::new();
    file.take(most + 1)
        .read_to_end(&mut text)
        .map_err(BackendError::reading(path))?;
    if text.len() as u64 > most {
        return Err(BackendError::malformed(
            path,
            format!("more than {most} bytes"),
            format!("at most {most} bytes"),
        ));
    }
    Ok(text)
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

    /// Opens the weights in a model folder. As in transformers a whole file counts more than a list of shards.
    pub(crate) fn open_folder(folder: &Path) -> Result<Self, BackendError> {
        let (whole, index) = (folder.join("model.safetensors"), folder.join(INDEX));
        if whole.is_file() || !index.is_file() {
            return Self::open_file(&whole);
        }
        let text = bounded(&index, LARGEST_INDEX)?;
        let parsed: ShardIndex = serde_json::from_slice(&text)
            .map_err(|e| BackendError::malformed(&index, e.to_string(), "a `weight_map`"))?;
        let mut names: Vec<&String> = parsed.weight_map.values().collect();
        names.sort_unstable();
        names.dedup();
        if let Some(name) = names
            .iter()
            .find(|n| n.is_empty() || n.contains(['/', '\\']) || n.starts_with('.'))
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

    fn checked(&self, name: &str, expected: &[i64]) -> Result<usize, BackendError> {
        let found = self.shape(name)?;
        if found != expected {
            return Err(BackendError::WrongShape {
                path: self.path.clone(),
                tensor: name.to_owned(),
                found: found.to_vec(),
                expected: expected.to_vec(),
            });
        }
        self.place(name)
    }

    /// The number format that a tensor is stored in.
    pub(crate) fn kind(&self, name: &str) -> Result<Kind, BackendError> {
        self.shards[self.place(name)?].kind(name)
    }

    /// A tensor of the expected shape in `kind`: mapped where the file has it so, read and converted elsewhere. It must
    /// not be written to.
    pub(crate) fn mapped(
        &mut self,
        name: &str,
        expected: &[i64],
        kind: Kind,
    ) -> Result<Tensor, BackendError> {
        let place = self.checked(name, expected)?;
        let shard = &mut self.shards[place];
        if shard.kind(name)? == kind
            && let Some(mapped) = shard.mapped(name)?
        {
            return Ok(mapped);
        }
        shard.read(name, kind)
    }

    /// The same in memory of its own, without a map whose pages would count as this program's.
    pub(crate) fn read_as(
        &mut self,
        name: &str,
        expected: &[i64],
        kind: Kind,
    ) -> Result<Tensor, BackendError> {
        let place = self.checked(name, expected)?;
        self.shards[place].read(name, kind)
    }

    /// Matrix `number` of a tensor of the expected shape, in memory of its own; the others are not read.
    pub(crate) fn read_slice(
        &mut self,
        name: &str,
        expected: &[i64; 3],
        number: i64,
        kind: Kind,
    ) -> Result<Tensor, BackendError> {
        let place = self.checked(name, expected)?;
        let shard = &mut self.shards[place];
        let (from, to) = shard.entries[name].data_offsets;
        let [count, rows, columns] = *expected;
        // The header was checked: the tensor's bytes are those of its shape.
        let bytes = (to - from) / count.max(1) as u64;
        let from = from + bytes * number as u64;
        shard.read_range(name, from..from + bytes, &[rows, columns], kind)
    }

    /// The bytes of a tensor of numbers from 0 to 255, at most `most` of them.
    pub(crate) fn read_bytes(&mut self, name: &str, most: u64) -> Result<Vec<u8>, BackendError> {
        let place = self.place(name)?;
        self.shards[place].read_bytes(name, most)
    }

    /// Reads a tensor of whole numbers of the expected shape.
    pub(crate) fn read_ints(
        &mut self,
        name: &str,
        expected: &[i64],
    ) -> Result<Vec<i32>, BackendError> {
        let place = self.checked(name, expected)?;
        self.shards[place].read_ints(name)
    }

    /// Reads a tensor of the expected shape as `f32`.
    pub(crate) fn read(&mut self, name: &str, expected: &[i64]) -> Result<Tensor, BackendError> {
        self.read_as(name, expected, Kind::Float)
    }

    /// The same, of tensors that a run goes on from: infinite numbers or none are refused.
    pub(crate) fn read_finite(
        &mut self,
        name: &str,
        expected: &[i64],
    ) -> Result<Tensor, BackendError> {
        let tensor = self.read(name, expected)?;
        if is_finite(&tensor)? {
            return Ok(tensor);
        }
        let place = self.place(name)?;
        Err(BackendError::malformed(
            &self.shards[place].path,
            format!("infinite numbers or none in `{name}`"),
            "finite numbers",
        ))
    }
}

/// Writes `f32` tensors as one safetensors file and flushes it to disk.
pub(crate) fn write<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
) -> Result<(), BackendError> {
    let tensors: Vec<_> = tensors.into_iter().collect();
    let sizes: Vec<_> = tensors.iter().map(|(_, tensor)| tensor.size()).collect();
    let heads = tensors.iter().zip(sizes);
    let heads: Vec<_> = heads
        .map(|((name, _), shape)| Head {
            name: (*name).to_owned(),
            shape,
            kind: Kind::Float,
        })
        .collect();
    let heads: Vec<&Head> = heads.iter().collect();
    write_as(path, &heads, |at| Ok(tensors[at].1.shallow_clone()))
}

/// A tensor to be written: what the header says of it.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) name: String,
    pub(crate) shape: Vec<i64>,
    pub(crate) kind: Kind,
}

impl Head {
    pub(crate) fn bytes(&self) -> u64 {
        self.shape.iter().product::<i64>() as u64 * self.kind.elt_size_in_bytes() as u64
    }
}

/// Writes these tensors. `value` yields each one, by its place in the list, when it is due, so that one at a time need
/// be in memory.
pub(crate) fn write_as(
    path: &Path,
    tensors: &[&Head],
    mut value: impl FnMut(usize) -> Result<Tensor, BackendError>,
) -> Result<(), BackendError> {
    let mut entries = serde_json::Map::new();
    let mut end = 0;
    for tensor in tensors {
        let from = end;
        end += tensor.bytes();
        let entry = serde_json::json!({
            "dtype": dtype(tensor.kind), "shape": tensor.shape, "data_offsets": [from, end],
        });
        entries.insert(tensor.name.clone(), entry);
    }
    let head = stream::head(entries);
    let file = File::create(path).map_err(BackendError::writing(path))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    out.write_all(&head).map_err(BackendError::writing(path))?;
    for (at, tensor) in tensors.iter().enumerate() {
        let bytes = little_endian(&value(at)?, tensor.kind)?;
        out.write_all(&bytes).map_err(BackendError::writing(path))?;
    }
    let file = out
        .into_inner()
        .map_err(|e| BackendError::writing(path)(e.into_error()))?;
    file.sync_all().map_err(BackendError::writing(path))
}

/// The format's name of a number format.
fn dtype(kind: Kind) -> &'static str {
    match kind {
        Kind::BFloat16 => "BF16",
        Kind::Half => "F16",
        Kind::Uint8 => "U8",
        Kind::Int => "I32",
        _ => "F32",
    }
}

/// The bytes of a tensor in `kind`; every machine that libtorch runs on is little-endian.
fn little_endian(tensor: &Tensor, kind: Kind) -> Result<Vec<u8>, BackendError> {
    let bytes = tensor
        .f_detach()?
        .f_to_kind(kind)?
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
    use std::fs;

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
        for kind in [Kind::Float, Kind::BFloat16] {
            let back = files.mapped("a.weight", &[2, 2], kind).unwrap();
            assert_eq!(
                (back.kind(), back.to_kind(Kind::Float)),
                (kind, tensor.copy())
            );
            let back = files.read_as("a.weight", &[2, 2], kind).unwrap();
            assert_eq!(
                (back.kind(), back.to_kind(Kind::Float)),
                (kind, tensor.copy())
            );
        }
        let error = files.mapped("a.weight", &[4], Kind::Float).unwrap_err();
        assert_eq!(report::Diagnose::code(&error), "torch.wrong-shape");
    }

    #[test]
    fn a_whole_file_counts_more_than_a_list_of_shards() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, number: f32| {
            let tensor = Tensor::from_slice(&[number]);
            write(&folder.path().join(name), [("a", &tensor)]).unwrap();
        };
        file("model-00001-of-00001.safetensors", 1.0);
        let index = r#"{"weight_map": {"a": "model-00001-of-00001.safetensors"}}"#;
        fs::write(folder.path().join(INDEX), index).unwrap();
        let read = || {
            let mut files = TensorFiles::open_folder(folder.path()).unwrap();
            files.read("a", &[1]).unwrap().double_value(&[0])
        };
        assert!((read() - 1.0).abs() < 1e-9);
        // Written later, into the folder of an older model.
        file("model.safetensors", 2.0);
        assert!((read() - 2.0).abs() < 1e-9);
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
