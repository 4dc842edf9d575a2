//! Container images: a name to an index, an index to manifests, manifests to blobs.
//!
//! ```text
//! registry ─┐
//! layout   ─┼─▶ Shelf ─▶ take() ─▶ Taken: what to fetch, and the small documents that were read on the way
//! docker save ─▶ docker_archive() ─┘
//! ```
//!
//! Every document is checked against the digest that led to it, so an index cannot lead to itself.

mod docker;
mod doorman;
mod helper;
mod layout;
mod login;
mod manifest;
mod registry;
mod take;
mod tarball;

pub use docker::{Saved, docker_archive};
pub(crate) use doorman::Doorman;
pub use helper::Helpers;
pub use layout::{Blob, Layout};
pub use login::DockerLogins;
pub use registry::{Registry, registry_address};
pub use take::{Taken, Wanted};
pub use tarball::Tarball;

use manifest_schema::{Descriptor, Digest};

use crate::MirrorError;
use manifest::Document;

/// A place that has the documents of images.
trait Shelf {
    /// What people call the image there.
    fn image(&self) -> &str;

    /// The bytes of a manifest, an index or a configuration: exactly those that the digest names.
    fn document(&self, wanted: &Descriptor) -> Result<Vec<u8>, MirrorError>;

    /// What speaks of `subject`, which is an image or, where `deep`, itself attached to one.
    fn referrers(&self, subject: &Digest, deep: bool) -> Result<Vec<Referrer>, MirrorError>;
}

/// A manifest that speaks of another one.
#[derive(Clone, Debug)]
struct Referrer {
    /// The manifest.
    manifest: Descriptor,
    /// What it is, as whoever listed it says.
    artifact_type: Option<String>,
    /// The tag by which it was found.
    tag: Option<String>,
    /// Whether it must say itself of what it speaks.
    says_so: bool,
}

/// Checks bytes against the entry that led to them.
fn checked(place: &str, wanted: &Descriptor, bytes: Vec<u8>) -> Result<Vec<u8>, MirrorError> {
    let (found, size) = (Digest::of(&bytes), bytes.len() as u64);
    if found != wanted.digest {
        return Err(MirrorError::DigestDiffers {
            url: place.to_owned(),
            found: found.to_string(),
            expected: wanted.digest.to_string(),
            resumed: false,
        });
    }
    if size != wanted.size.0 {
        return Err(MirrorError::SizeDiffers {
            url: place.to_owned(),
            found: size,
            expected: wanted.size.0,
        });
    }
    Ok(bytes)
}

/// An error about an image.
fn wrong(image: &str, problem: impl std::fmt::Display) -> MirrorError {
    MirrorError::Image {
        image: image.to_owned(),
        problem: problem.to_string(),
    }
}
