//! The commands themselves: the real program, in a folder of its own, against servers of this machine.

#![allow(
    clippy::unwrap_used,
    clippy::pedantic,
    unreachable_pub,
    reason = "a test says what it expects by unwrapping"
)]

mod distributions;
mod errors;
mod help;
mod images;
mod init;
mod interrupt;
mod keys;
mod licenses;
mod logins;
mod looking;
mod media;
mod models;
#[path = "../../mirror/tests/openpgp/mod.rs"]
mod openpgp;
mod packages;
mod python;
#[path = "../../mirror/tests/registry/mod.rs"]
mod registry;
#[path = "../../mirror/tests/server/mod.rs"]
mod server;
mod sources;
mod tls;
mod vendor;
mod way;
mod world;
