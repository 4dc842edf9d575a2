//! The real installer in a throw-away site.

#[path = "../attacks/mod.rs"]
mod attacks;
mod install;
