//! The real installer in a throw-away site.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers fail as the tests do, and a skipped test says why"
)]

#[path = "../attacks/mod.rs"]
mod attacks;
mod broken_prefix;
mod code_on_load;
mod commands;
mod emulated;
mod faults;
mod host_files;
mod host_layer;
mod host_signatures;
mod host_terms;
mod images;
mod install;
mod install_script;
mod layer_packages;
mod manage;
mod media;
mod mistakes;
mod packages;
mod places;
mod probe;
mod python;
mod refusals;
mod screens;
mod site_code;
mod terminal;
mod trust;
mod units;
mod vendor;
mod vendor_drivers;
mod vendor_toolkits;
mod vendors;
