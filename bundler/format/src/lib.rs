//! The bundle archive: built from files, trusted only after its signature, read piece by piece.
//!
//! ```text
//!  plan.lock ─┐                                   ┌─ Sealed::open      walks the headers, trusts nothing
//!  blobs ─────┼─ build() ─▶ NAME-RELEASE.ferry ─▶ ├─ Sealed::verify    root, signatures, digests, index
//!  keys ──────┘                                   └─ Verified          blobs, each piece checked as it is read
//! ```
//!
//! The archive is strict ustar with one possible encoding: a reader encodes each header again and compares,
//! so there is no second way to say anything, and no place for bytes that nobody signed.

mod agree;
mod algorithm;
mod build;
mod build_error;
mod chain;
mod compress;
mod direct;
mod discs;
mod documents;
mod envelope;
mod extract;
#[cfg(feature = "testing")]
pub mod fake;
mod fill;
mod frame;
mod image;
mod installed;
mod inventory;
mod key_error;
mod keys;
mod layout;
mod model_signature;
mod parallel;
mod parity;
mod place;
mod plain_file;
mod planes;
mod purl;
mod request;
mod resign;
mod root;
mod roots_file;
mod sbom;
mod sealed;
mod share;
mod sign_error;
mod signatures;
mod source;
mod spill;
mod statement;
mod tensors;
mod trust_file;
mod trusted;
mod ustar;
mod verify;
mod verify_error;
mod volume;
mod write;

pub use algorithm::Algorithm;
pub use build::{BuildOptions, Built, BundleInput, build};
pub use build_error::BuildError;
pub use chain::{ChainFault, RootChain, SignedRoot};
pub use direct::{Direct, make_room, write_all_at};
pub use extract::Extent;
pub use image::{OCI_LAYOUT, docker_entry, docker_manifest, oci_index};
pub use installed::SignedMetadata;
pub use inventory::{InventoryError, Received, SiteKey};
pub use key_error::KeyError;
pub use keys::{PublicKey, SigningKey};
pub use model_signature::model_signature;
pub use parallel::in_twos;
pub use parity::{Parity, ParityError, Repaired, repair, write_parity};
pub use plain_file::{open_plain, plain};
pub use request::Request;
pub use resign::Draft;
pub use root::{Lack, RootDocument, RootKey};
pub use sealed::Sealed;
pub use share::share_blocks;
pub use sign_error::SignError;
pub use signatures::Signer;
pub use tensors::Squeeze;
pub use trust_file::TrustFile;
pub use trusted::TrustedRoots;
pub use verify::Verified;
pub use verify_error::{Fault, VerifyError};
