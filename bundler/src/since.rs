//! What a delta leaves out: what a bundle brought, or what a site says that it has.

use std::collections::BTreeSet;
use std::path::Path;

use bundle_format::{InventoryError, Received, Sealed, TrustedRoots};
use console::View;
use manifest_schema::{Digest, KeyId};
use report::{Event, Sink as _, Trouble};

use crate::error::InputError;

/// How an older bundle or an inventory is read.
pub(crate) struct Since<'a> {
    /// The key that an inventory must be signed with.
    pub(crate) pinned: Option<&'a KeyId>,
    pub(crate) view: &'a View,
}

impl Since<'_> {
    /// Blobs that are on site already.
    pub(crate) fn read(&self, path: &Path) -> Result<BTreeSet<Digest>, Trouble> {
        let inventory = std::fs::read(path)
            .ok()
            .filter(|bytes| bytes.starts_with(b"{"));
        if let Some(bytes) = inventory {
            return self.inventory(path, &bytes);
        }
        let sealed = Sealed::open(path)?;
        let offered = sealed.fingerprint_offered()?;
        let bundle = sealed.verify(&TrustedRoots::from_fingerprints([offered]))?;
        let brought = bundle.index.blobs.iter().map(|blob| blob.digest);
        Ok(brought.chain(bundle.requires().keys().copied()).collect())
    }

    /// A signature that does not hold is refused always, a missing or unknown one where a key is pinned.
    fn inventory(&self, path: &Path, bytes: &[u8]) -> Result<BTreeSet<Digest>, Trouble> {
        let received = received(path, bytes, self.pinned)?;
        let shown = ("path".to_owned(), path.display().to_string());
        match (&received.signed_by, self.pinned) {
            (_, Some(_)) => {}
            (Some(found), None) => {
                let args = [shown, ("key".to_owned(), found.to_string())];
                self.view.note("bundler.inventory-signed", &args);
            }
            (None, None) => self.view.emit(&Event::Warned {
                code: "bundler.inventory-unsigned".to_owned(),
                args: vec![shown],
            }),
        }
        Ok(received.inventory.blobs.into_iter().collect())
    }
}

/// Reads an inventory, which must be signed with the key where one is pinned.
pub(crate) fn received(
    path: &Path,
    bytes: &[u8],
    pinned: Option<&KeyId>,
) -> Result<Received, InputError> {
    let received = Received::read(bytes).map_err(|problem| {
        let path = path.to_owned();
        match problem {
            InventoryError::Content(problem) => InputError::Manifest { path, problem },
            problem => InputError::Inventory { path, problem },
        }
    })?;
    match pinned {
        Some(pinned) if received.signed_by.as_ref() != Some(pinned) => Err(InputError::OtherSite {
            path: path.to_owned(),
            found: received.signed_by.as_ref().map(ToString::to_string),
            pinned: pinned.to_string(),
        }),
        _ => Ok(received),
    }
}
