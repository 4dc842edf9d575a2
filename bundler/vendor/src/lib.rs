//! Signatures that vendors put beside their packages: detached CMS, certificates, revocation lists.
//!
//! ```text
//! package.run          what was signed
//! package.run.cms      CMS SignedData without content (RFC 5652): signers, their certificates
//! package.crl          revocation list of whoever issued the signer's certificate (RFC 5280)
//! root.pem             the vendor's root, which a plan names and its digest pins
//! ```
//!
//! The same check is made where a bundle is built and where it is installed. Nothing is fetched. A date never
//! decides: clocks behind an air gap drift, and a list that came with a package is old by design; what the dates
//! say are [`Remark`]s. What was revoked is refused whatever the date.
//!
//! Signatures cover bytes, so bytes are kept as they came: nothing that is checked was decoded and encoded again.

mod algorithm;
mod certificate;
mod chain;
mod element;
mod error;
mod file;
mod message;
mod revocation;
mod signer;

use std::io::{self, Read};

use manifest_schema::{BundlePath, VendorSignature};

pub use error::VendorSignatureError;
pub use signer::{ListDates, Remark, Signer};

use chain::Anchors;
use message::{Message, SignerInfo};
use revocation::Lists;

/// The largest signature that is read. A real one holds three certificates, in 8 KiB.
pub const LARGEST_SIGNATURE: u64 = 1 << 20;
/// The largest revocation list that is read.
pub const LARGEST_LIST: u64 = 16 << 20;
/// The largest file of root certificates that is read.
pub const LARGEST_ROOTS: u64 = 1 << 20;

/// Checks that `cms` is a signature over exactly the bytes of `file`, by someone whose certificate leads to one of
/// `roots` and stands on none of `crls`.
///
/// The file is read once, in bounded memory. `cms` and each of `crls` may be DER or PEM, each of `roots` too, with
/// several certificates. When several signed, each signature that can be checked here must hold, and one must be there.
///
/// # Errors
/// When the file is not what was signed, the signature does not hold or nobody trusted made it, or the signer was
/// revoked.
pub fn verify_detached(
    file: impl Read,
    cms: &[u8],
    crls: &[&[u8]],
    roots: &[&[u8]],
) -> Result<Signer, VendorSignatureError> {
    let anchors = Anchors::read(roots)?;
    let bytes = file::body(cms, "signature", "CMS", LARGEST_SIGNATURE)?;
    let bytes = element::definite(&bytes).map_err(|p| error::malformed("signature", p))?;
    let message = Message::read(&bytes)?;
    let lists = Lists::read(crls, &message.crls)?;
    let hashes: Vec<_> = message.signers.iter().map(|signer| signer.hash).collect();
    let digests = file::digests(file, &hashes)?;

    let mut first = None;
    let mut unknown = None;
    for info in &message.signers {
        let scheme = match info.scheme() {
            Ok(scheme) => scheme,
            Err(error) => {
                unknown.get_or_insert(error);
                continue;
            }
        };
        let leaf = message.certificate(info)?;
        check_content(info, &digests, leaf.name())?;
        let covered = info.hashed(scheme, &digests);
        if !algorithm::holds(&leaf.key(), scheme, &covered, info.signature)? {
            return Err(VendorSignatureError::SignatureInvalid {
                signer: leaf.name(),
            });
        }
        leaf.may_sign_packages()?;
        let path = chain::to_root(leaf, &message.certificates, &anchors)?;
        let revocation = lists.check(&path)?;
        first.get_or_insert_with(|| Signer::new(&path, revocation, digests.sha256()));
    }
    // `Message::read` made sure that somebody signed.
    match (first, unknown) {
        (Some(signer), _) => Ok(signer),
        (None, Some(error)) => Err(error),
        (None, None) => Err(error::malformed("signature", "nobody signed it")),
    }
}

/// Checks a signature of a plan or bundle; `open` gives the files that it names.
///
/// # Errors
/// As [`verify_detached`], and when a file cannot be read or the root is not the one that was pinned.
pub fn check<R: Read>(
    signature: &VendorSignature,
    open: impl Fn(&BundlePath) -> io::Result<R>,
) -> Result<Signer, VendorSignatureError> {
    let unreadable = |path: &BundlePath| {
        let path = path.to_string();
        move |source| VendorSignatureError::File { path, source }
    };
    let read = |path: &BundlePath, limit: u64| {
        let mut bytes = Vec::new();
        // One more than the limit: who reads it says how long it may be.
        let file = open(path).map_err(unreadable(path))?;
        file.take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(unreadable(path))?;
        Ok::<_, VendorSignatureError>(bytes)
    };
    let root = read(&signature.root, LARGEST_ROOTS)?;
    let cms = read(&signature.signature, LARGEST_SIGNATURE)?;
    let lists = signature.lists.iter().map(|list| read(list, LARGEST_LIST));
    let lists: Vec<Vec<u8>> = lists.collect::<Result<_, _>>()?;
    let lists: Vec<&[u8]> = lists.iter().map(Vec::as_slice).collect();
    let package = open(&signature.package).map_err(unreadable(&signature.package))?;
    let signer = verify_detached(package, &cms, &lists, &[&root])?;
    if signer.root_digest != signature.root_digest {
        return Err(VendorSignatureError::RootDiffers {
            root: signer.root,
            found: signer.root_digest.to_string(),
            expected: signature.root_digest.to_string(),
        });
    }
    Ok(signer)
}

/// Whether the signed attributes speak of these bytes.
fn check_content(
    info: &SignerInfo,
    digests: &file::Digests,
    signer: String,
) -> Result<(), VendorSignatureError> {
    let Some(attributes) = &info.attributes else {
        return Ok(());
    };
    let found = digests.of(info.hash);
    if attributes.message_digest != found {
        return Err(VendorSignatureError::ContentDiffers {
            signer,
            found: element::hex(found),
            expected: element::hex(attributes.message_digest),
        });
    }
    Ok(())
}
