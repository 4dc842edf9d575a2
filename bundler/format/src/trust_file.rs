//! One file of a folder of trusted roots.

use std::io::Read as _;
use std::path::Path;

use manifest_schema::Digest;

use crate::key_error::KeyError;
use crate::layout::MAX_ROOT;
use crate::plain_file::open_plain;
use crate::root::RootDocument;

/// What a file of a folder of trusted roots says.
#[derive(Clone, Debug)]
pub enum TrustFile {
    /// A root document: `<fingerprint>.json`.
    Root(Vec<u8>),
    /// A root that is trusted before its document came: `<fingerprint>.expected`.
    Named(Digest),
}

impl TrustFile {
    /// Reads a file by what its name says it is; `None` where it says nothing of trust.
    ///
    /// # Errors
    /// When it cannot be read, or is not the root that its name says.
    pub fn read(path: &Path) -> Result<Option<Self>, KeyError> {
        let wrong = |cause: String| KeyError::Kept {
            path: path.to_owned(),
            cause,
        };
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let named = Digest::parse_hex(&stem);
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("json") => {
                let bytes = read(path)?;
                if bytes.len() as u64 > MAX_ROOT {
                    return Err(wrong(format!("more than {MAX_ROOT} bytes")));
                }
                RootDocument::parse(&bytes).map_err(|error| match error {
                    KeyError::Root { cause } => wrong(cause),
                    other => wrong(other.to_string()),
                })?;
                let found = Digest::of(&bytes);
                if named.ok() != Some(found) {
                    return Err(wrong(format!("its fingerprint is {}", found.hex())));
                }
                Ok(Some(Self::Root(bytes)))
            }
            Some("expected") => match named {
                Ok(fingerprint) => Ok(Some(Self::Named(fingerprint))),
                Err(_) => Err(wrong("its name is no fingerprint".to_owned())),
            },
            _ => Ok(None),
        }
    }
}

/// One byte more than a root may have tells one that is too long.
fn read(path: &Path) -> Result<Vec<u8>, KeyError> {
    let mut bytes = Vec::new();
    let read = open_plain(path).and_then(|file| file.take(MAX_ROOT + 1).read_to_end(&mut bytes));
    read.map_err(|source| KeyError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    Ok(bytes)
}
