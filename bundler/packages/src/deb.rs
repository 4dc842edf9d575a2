//! Repositories of Debian packages.
//!
//! ```text
//! dists/<suite>/InRelease                               names the others with size and SHA-256, signed in place
//! dists/<suite>/Release, Release.gpg                    the same with the signature beside it
//! dists/<suite>/<component>/binary-<arch>/Packages.xz   packages: digest, size, place, what they need and provide
//! ```

mod archive;
mod index;
mod made;
mod release;
mod stanza;

pub use archive::control;
pub use index::packages;
pub(crate) use index::relate;
pub use made::{Carried, repository};
pub use release::{Listed, Release};
