//! Fetches what a lock names: the only crate that opens a connection.
//!
//! ```text
//! <cache>/sha256/<hex>            a whole file; its bytes matched its name before it got that name
//! <cache>/sha256/<hex>.partial    the beginning of one; hashed again before it is gone on with
//! ```
//!
//! Nothing a server says is believed: a mirror is a source of bytes, and the digest decides.

mod archive;
mod cache;
mod distribution;
mod download;
mod error;
mod filter;
mod hub;
mod image;
mod modelscope;
mod openpgp;
mod page;
mod partial;
mod patience;
mod pylock;
mod pypi;
mod rate;
mod requirement_error;
mod requirements;
mod resolve;
mod secret;
mod side_by_side;
mod tags;
#[cfg(feature = "testing")]
pub mod testing;
mod web;

pub use archive::{Extracted, Selection, extract};
pub use cache::{Cache, Cached, Entry, measure};
pub use distribution::{Catalogue, Distribution, DistributionError, fetch_pinned};
pub use download::{Download, Downloader, Rewrite};
pub use error::MirrorError;
pub use filter::Filter;
pub use hub::{Hub, HubFile, HubKind};
pub use image::{
    Blob, DockerLogins, Helpers, Layout, Registry, Saved, Taken, Tarball, Wanted, docker_archive,
    registry_address,
};
pub use modelscope::{ModelScope, ScopeFile};
pub use openpgp::Verifier;
pub use patience::Patience;
pub use pylock::{Locked, needed_by_wheel, read_pylock, wheel_metadata};
pub use pypi::{IndexFile, PackageIndex, normalized, size_of, size_with};
pub use rate::RateLimit;
pub use requirement_error::RequirementError;
pub use requirements::Requirements;
pub use resolve::{Pin, Resolver, Wish, refuse};
pub use secret::Secret;
pub use side_by_side::{QUESTIONS, side_by_side};
pub use tags::pin_of_wheel;
pub use web::Web;
