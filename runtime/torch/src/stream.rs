//! A safetensors file written tensor by tensor, hashed as it goes, with one tensor in memory and one on its way.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::BackendError;
use crate::cache::{FileOrigin, finished};

/// Where the data of a file that this program writes begins: at a multiple of a cache line, so that mapped weights are
/// aligned as fast matrix code likes them.
pub(crate) const ALIGNMENT: usize = 64;

/// The length and header of a file with the given entries.
pub(crate) fn head(entries: Map<String, Value>) -> Vec<u8> {
    let mut fields = Map::new();
    fields.insert("__metadata__".into(), json!({"format": "pt"}));
    fields.extend(entries);
    let mut text = Value::Object(fields).to_string().into_bytes();
    text.resize((text.len() + 8).next_multiple_of(ALIGNMENT) - 8, b' ');
    let mut head = (text.len() as u64).to_le_bytes().to_vec();
    head.extend(text);
    head
}

/// Writes the tensors with these names and shapes as `f32`. `values` yields each one's numbers, in the same order;
/// the next is computed while the last is written.
pub(crate) fn write(
    path: &Path,
    shapes: &[(&str, &[i64])],
    values: impl Iterator<Item = Result<Vec<f32>, BackendError>>,
) -> Result<FileOrigin, BackendError> {
    let mut entries = Map::new();
    let mut end = 0;
    for (name, shape) in shapes {
        let from = end;
        end += shape.iter().product::<i64>() * 4;
        entries.insert(
            (*name).to_owned(),
            json!({"dtype": "F32", "shape": shape, "data_offsets": [from, end]}),
        );
    }
    let head = head(entries);
    let file = File::create(path).map_err(BackendError::writing(path))?;
    thread::scope(|scope| {
        let (sender, receiver) = sync_channel(1);
        let writer = scope.spawn(|| drain(file, &head, receiver));
        let mut failed = None;
        for values in values {
            match values {
                Ok(values) => {
                    if sender.send(values).is_err() {
                        // The writer has stopped: its error is the one to tell.
                        break;
                    }
                }
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        drop(sender);
        let written = match writer.join() {
            Ok(written) => written.map_err(BackendError::writing(path)),
            Err(panic) => std::panic::resume_unwind(panic),
        };
        failed.map_or(written, Err)
    })
}

fn drain(file: File, head: &[u8], tensors: Receiver<Vec<f32>>) -> io::Result<FileOrigin> {
    let mut out = Hashed {
        file,
        hasher: Sha256::new(),
        size: 0,
    };
    out.put(head)?;
    let mut bytes = vec![0; 1 << 18];
    for values in tensors {
        for piece in values.chunks(bytes.len() / 4) {
            for (value, place) in piece.iter().zip(bytes.chunks_exact_mut(4)) {
                place.copy_from_slice(&value.to_le_bytes());
            }
            out.put(&bytes[..piece.len() * 4])?;
        }
    }
    out.file.sync_all()?;
    Ok(FileOrigin {
        digest: finished(out.hasher),
        size: out.size,
    })
}

struct Hashed {
    file: File,
    hasher: Sha256,
    size: u64,
}

impl Hashed {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        self.file.write_all(bytes)
    }
}
