//! End-to-end tests: the real programs in a throw-away site.

mod forge;
mod images;
mod played;
mod python;
mod rig;
mod site;
mod terminal;

pub use forge::{Forge, ForgedRoot, Member, RootOf};
pub use images::add_image;
pub use played::{Played, ascend_backend, ascend_bundle, host_item, installer_of};
pub use python::{Uv, interpreter, wheel};
pub use rig::{ASCEND_COMMANDS, ASCEND_FLAGS, Brought, Rig, bundle_for, installer_that_leaves};
pub use site::{RUNTIME, Said, Site, backend, bundler, installer, say};
pub use terminal::Terminal;
