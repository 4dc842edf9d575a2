//! Vendors' signatures over packages of a backend, checked on site before anything of the release is used.

use std::fs::File;
use std::path::Path;

use manifest_schema::Backend;
use report::{Sink, Step};
use vendor_signature::VendorSignatureError;

/// Checks every signature of `backend`, whose files lie in `folder`.
///
/// # Errors
/// When a package is not what its vendor signed, or its signer was revoked.
pub(crate) fn check_signatures(
    folder: &Path,
    backend: &Backend,
    sink: &dyn Sink,
) -> Result<(), VendorSignatureError> {
    for signature in &backend.signatures {
        let package = signature.package.to_string();
        let step = Step::start(sink, "step.vendor-signature", package, None, "files");
        let open = |path: &manifest_schema::BundlePath| File::open(folder.join(path.as_str()));
        vendor_signature::check(signature, open)?.warn(sink);
        step.finish();
    }
    Ok(())
}
