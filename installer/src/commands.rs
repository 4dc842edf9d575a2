//! One file a command: its arguments, and a `run` that calls a library and shows the result.

pub(crate) mod audit;
pub(crate) mod install;
pub(crate) mod preflight;
pub(crate) mod probe;
pub(crate) mod rollback;
pub(crate) mod status;
pub(crate) mod uninstall;
pub(crate) mod verify;
