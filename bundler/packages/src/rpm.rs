//! Repositories of rpm packages.
//!
//! ```text
//! repodata/repomd.xml             names the others with size and digest; what a key signs
//! repodata/<hex>-primary.xml.gz   packages: digest, size, place, what they need and provide
//! repodata/<hex>-modules.yaml.gz  which packages belong to a stream that is on or off as a whole
//! repodata/<hex>-filelists.xml.gz every file of every package; read only when a path is needed that primary lacks
//! ```

mod filelists;
mod header;
mod made;
mod modules;
mod primary;
mod repomd;
mod xml;

pub use filelists::owners;
pub use header::Header;
pub use made::{Carried, repository};
pub use modules::{Hidden, Modules, Visible};
pub use primary::packages;
pub(crate) use repomd::is_below;
pub use repomd::{Listed, Repomd};
