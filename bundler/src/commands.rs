//! One file a command: translate the flags, call a library, show the result.

pub(crate) mod build;
pub(crate) mod cache;
pub(crate) mod diff;
pub(crate) mod export;
pub(crate) mod init;
pub(crate) mod inspect;
pub(crate) mod key;
pub(crate) mod keygen;
pub(crate) mod lock;
pub(crate) mod parity;
pub(crate) mod plan;
pub(crate) mod schema;
pub(crate) mod sign;
pub(crate) mod split;
pub(crate) mod verify;
