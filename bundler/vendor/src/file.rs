//! Bytes before they are anything: PEM or DER, and the digests of a file that is read once.

use std::borrow::Cow;
use std::io::Read;

use manifest_schema::Digest as Sha256Digest;
use sha2::{Digest, Sha256, Sha384, Sha512};

use crate::VendorSignatureError;
use crate::algorithm::Hash;
use crate::error::malformed;

/// The one document in `bytes`, in DER.
pub(crate) fn body<'a>(
    bytes: &'a [u8],
    what: &'static str,
    label: &str,
    limit: u64,
) -> Result<Cow<'a, [u8]>, VendorSignatureError> {
    let mut bodies = bodies(bytes, what, label, limit)?;
    match bodies.len() {
        1 => Ok(bodies.remove(0)),
        count => Err(malformed(what, format!("{count} documents instead of one"))),
    }
}

/// The documents in `bytes`, in DER: several where it is PEM.
pub(crate) fn bodies<'a>(
    bytes: &'a [u8],
    what: &'static str,
    label: &str,
    limit: u64,
) -> Result<Vec<Cow<'a, [u8]>>, VendorSignatureError> {
    if bytes.len() as u64 > limit {
        return Err(VendorSignatureError::TooLarge {
            what,
            found: bytes.len() as u64,
            limit,
        });
    }
    // Every DER document here begins with the tag of a sequence.
    let text = std::str::from_utf8(bytes)
        .ok()
        .filter(|_| bytes.first() != Some(&0x30));
    let Some(text) = text else {
        return Ok(vec![Cow::Borrowed(bytes)]);
    };
    let (begin, end) = (
        format!("-----BEGIN {label}-----"),
        format!("-----END {label}-----"),
    );
    let mut documents = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(&begin) {
        let from = &rest[start..];
        let length = from
            .find(&end)
            .ok_or_else(|| malformed(what, format!("`{begin}` without an end")))?
            + end.len();
        let (_, document) =
            der::pem::decode_vec(&from.as_bytes()[..length]).map_err(|e| malformed(what, e))?;
        documents.push(Cow::Owned(document));
        rest = &from[length..];
    }
    if documents.is_empty() {
        return Err(malformed(what, format!("neither DER nor `{begin}`")));
    }
    Ok(documents)
}

/// Digests of one file.
pub(crate) struct Digests {
    sha256: [u8; 32],
    sha384: Option<Vec<u8>>,
    sha512: Option<Vec<u8>>,
}

impl Digests {
    pub(crate) fn sha256(&self) -> Sha256Digest {
        Sha256Digest::from_bytes(self.sha256)
    }

    /// The digest by a hash that [`digests`] was asked for; empty for another.
    pub(crate) fn of(&self, hash: Hash) -> &[u8] {
        match hash {
            Hash::Sha256 => &self.sha256,
            Hash::Sha384 => self.sha384.as_deref().unwrap_or_default(),
            Hash::Sha512 => self.sha512.as_deref().unwrap_or_default(),
        }
    }
}

/// Reads `file` to its end, by all of `hashes` at once and by SHA-256 in any case.
pub(crate) fn digests(
    mut file: impl Read,
    hashes: &[Hash],
) -> Result<Digests, VendorSignatureError> {
    let mut sha256 = Sha256::new();
    let mut sha384 = hashes.contains(&Hash::Sha384).then(Sha384::new);
    let mut sha512 = hashes.contains(&Hash::Sha512).then(Sha512::new);
    let mut buffer = vec![0; 1 << 18];
    loop {
        let count = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(VendorSignatureError::Unreadable { source }),
        };
        let piece = &buffer[..count];
        sha256.update(piece);
        if let Some(hash) = &mut sha384 {
            hash.update(piece);
        }
        if let Some(hash) = &mut sha512 {
            hash.update(piece);
        }
    }
    Ok(Digests {
        sha256: sha256.finalize().into(),
        sha384: sha384.map(|hash| hash.finalize().to_vec()),
        sha512: sha512.map(|hash| hash.finalize().to_vec()),
    })
}
