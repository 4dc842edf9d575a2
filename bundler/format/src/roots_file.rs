//! The file in which roots travel alone: to the machines that have the keys, and to sites.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use manifest_schema::KeyId;
use serde::{Deserialize, Serialize};

use crate::algorithm::Algorithm;
use crate::chain::{RootChain, SignedRoot};
use crate::key_error::{KeyError, refused};
use crate::layout::{MAX_KEYS, MAX_ROOTS};

impl RootChain {
    /// Reads a file of roots. Its last one may still lack signatures: then it is returned apart.
    ///
    /// # Errors
    /// When the bytes are no such file, or a root in it does not follow from the one before.
    pub fn parse(bytes: &[u8]) -> Result<(Self, Option<SignedRoot>), KeyError> {
        let file: RootsFile = serde_json::from_slice(bytes).map_err(refused)?;
        if file.format != 1 {
            return Err(refused(format!("format {}, not 1", file.format)));
        }
        if file.roots.len() > MAX_ROOTS {
            return Err(refused(format!(
                "{} roots in a chain, at most {MAX_ROOTS}",
                file.roots.len()
            )));
        }
        let mut roots = Vec::new();
        for entry in file.roots {
            roots.push(entry.open()?);
        }
        let mut roots = roots.into_iter();
        let first = roots.next().ok_or_else(|| refused("no root in the file"))?;
        let mut chain = Self::first(first.bytes)?;
        while let Some(next) = roots.next() {
            if roots.len() == 0 && !chain.lacking(&next)?.is_empty() {
                return Ok((chain, Some(next)));
            }
            chain.extend(next)?;
        }
        Ok((chain, None))
    }

    /// The file of these roots, and of one that still lacks signatures.
    ///
    /// # Errors
    /// When a root is no text.
    pub fn to_bytes(&self, next: Option<&SignedRoot>) -> Result<Vec<u8>, KeyError> {
        let mut roots = Vec::new();
        for root in self.roots().iter().chain(next) {
            roots.push(RootsFileEntry::of(root)?);
        }
        let file = RootsFile { format: 1, roots };
        let mut bytes = serde_json::to_vec_pretty(&file).map_err(refused)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

/// The file.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct RootsFile {
    format: u32,
    roots: Vec<RootsFileEntry>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct RootsFileEntry {
    /// The document, byte for byte.
    root: String,
    signatures: Vec<RootsFileSignature>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct RootsFileSignature {
    keyid: KeyId,
    scheme: Algorithm,
    sig: String,
}

impl RootsFileEntry {
    fn of(root: &SignedRoot) -> Result<Self, KeyError> {
        let signature = |(keyid, scheme, sig): &(KeyId, Algorithm, Vec<u8>)| RootsFileSignature {
            keyid: keyid.clone(),
            scheme: *scheme,
            sig: STANDARD.encode(sig),
        };
        Ok(Self {
            root: String::from_utf8(root.bytes.clone()).map_err(refused)?,
            signatures: root.signatures.iter().map(signature).collect(),
        })
    }

    fn open(self) -> Result<SignedRoot, KeyError> {
        let mut signatures = Vec::new();
        for entry in self.signatures {
            let sig = STANDARD.decode(entry.sig).map_err(refused)?;
            if signatures
                .last()
                .is_some_and(|(last, _, _)| *last >= entry.keyid)
            {
                return Err(refused("signatures are not in ascending order"));
            }
            signatures.push((entry.keyid, entry.scheme, sig));
        }
        if signatures.len() > 2 * MAX_KEYS {
            return Err(refused(format!("{} signatures", signatures.len())));
        }
        Ok(SignedRoot {
            bytes: self.root.into_bytes(),
            signatures,
        })
    }
}
