//! Keras models: a `Lambda` layer is Python bytecode, which loading runs.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// How a layer's class is written in the configuration, in a `.keras` archive as in an HDF5 file.
const LAMBDA: [&[u8]; 2] = [b"\"class_name\": \"Lambda\"", b"\"class_name\":\"Lambda\""];

/// First bytes of an HDF5 file.
pub(crate) const MAGIC_HDF5: &[u8] = b"\x89HDF\r\n\x1a\n";

/// Whether these bytes name a `Lambda` layer.
pub(crate) fn names_lambda(bytes: &[u8]) -> bool {
    LAMBDA.iter().any(|wanted| contains(bytes, wanted))
}

/// The same of a whole file: HDF5 may keep the configuration anywhere.
pub(crate) fn file_names_lambda(mut file: &File) -> io::Result<bool> {
    file.seek(SeekFrom::Start(0))?;
    let mut window = Vec::new();
    loop {
        // What is kept of the last round may be the beginning of the words.
        let kept = window.len().min(64);
        window.drain(..window.len() - kept);
        if (&mut file).take(1 << 20).read_to_end(&mut window)? == 0 {
            return Ok(false);
        }
        if names_lambda(&window) {
            return Ok(true);
        }
    }
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte == wanted[0]) {
        rest = &rest[at..];
        if rest.starts_with(wanted) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}
