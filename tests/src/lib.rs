//! End-to-end tests: the real programs in a throw-away site.

mod forge;
mod python;
mod site;

pub use forge::{Forge, ForgedRoot, Member, RootOf};
pub use python::{Uv, interpreter, wheel};
pub use site::{RUNTIME, Said, Site, backend, installer, say};
