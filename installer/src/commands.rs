//! One file a command: its arguments, and a `run` that calls a library and shows the result.

pub(crate) mod audit;
mod audit_report;
pub(crate) mod gc;
pub(crate) mod install;
mod install_shown;
pub(crate) mod inventory;
pub(crate) mod log;
pub(crate) mod preflight;
pub(crate) mod probe;
pub(crate) mod rollback;
pub(crate) mod status;
pub(crate) mod support_bundle;
pub(crate) mod trust;
pub(crate) mod uninstall;
pub(crate) mod verify;
