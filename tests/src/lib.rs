//! End-to-end tests: the real programs in a throw-away site.

mod site;

pub use site::{Said, Site};
