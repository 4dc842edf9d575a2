//! The vendor's own signature, checked where it counts: right before its file is run as root.

use std::fs::File;
use std::path::Path;

use vendor_signature::verify_detached;

use super::HostError;
use crate::disk::DiskError;

/// What a signature is checked with.
pub(super) struct Proof {
    /// The signature.
    pub(super) cms: Vec<u8>,
    /// The vendor's list of revoked certificates.
    pub(super) crl: Option<Vec<u8>>,
    /// The root, which the signed profiles pin by its digest.
    pub(super) root: Vec<u8>,
}

/// Checks that `proof` is a signature over exactly the bytes of `path`, by somebody whose certificate leads to the
/// pinned root and was not revoked.
pub(super) fn check(path: &Path, name: &str, proof: &Proof) -> Result<(), HostError> {
    let file = File::open(path).map_err(DiskError::of("read", path))?;
    let crls: Vec<&[u8]> = proof.crl.iter().map(Vec::as_slice).collect();
    verify_detached(file, &proof.cms, &crls, &[&proof.root]).map_err(|source| {
        HostError::VendorSignature {
            file: name.to_owned(),
            source: Box::new(source),
        }
    })?;
    Ok(())
}
