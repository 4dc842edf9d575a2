//! One file a command: translate the flags, call a library, show the result.

pub(crate) mod build;
pub(crate) mod init;
pub(crate) mod inspect;
pub(crate) mod keygen;
pub(crate) mod lock;
pub(crate) mod verify;
