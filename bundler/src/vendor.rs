//! Vendors' signatures, checked before a bundle is written.

use std::fs::File;
use std::io;

use bundle_mirror::Cache;
use console::View;
use manifest_schema::{Backend, BundlePath, Profiles};
use report::Step;
use vendor_signature::VendorSignatureError;

/// Checks every signature of every backend against the files in the cache, and says who signed.
pub(crate) fn check(
    profiles: &Profiles,
    cache: &Cache,
    view: &View,
) -> Result<(), VendorSignatureError> {
    for backend in &profiles.backends {
        for signature in &backend.signatures {
            let package = signature.package.to_string();
            let step = Step::start(
                view,
                "step.vendor-signature",
                package.clone(),
                None,
                "files",
            );
            let signer = vendor_signature::check(signature, |path| open(backend, path, cache))?;
            step.finish();
            view.note(
                "vendor.signed",
                &[
                    ("package", package),
                    ("signer", signer.name.clone()),
                    ("root", signer.root.clone()),
                ],
            );
            signer.warn(view);
        }
    }
    Ok(())
}

fn open(backend: &Backend, path: &BundlePath, cache: &Cache) -> io::Result<File> {
    let file = backend.files.iter().find(|file| file.path == *path);
    let file = file.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    File::open(cache.path(file.blob()))
}
