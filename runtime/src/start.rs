//! Before anything else: how libgomp's threads wait.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// libgomp reads it once, as it is loaded.
const POLICY: &str = "OMP_WAIT_POLICY";

/// Starts this program anew with threads that sleep while they wait, unless a policy was chosen already.
///
/// Threads that spin burn their cores whenever another program takes one of them away. If the new start fails, the
/// program goes on as it is: slower on a busy machine, but right.
pub(crate) fn with_sleeping_threads() {
    if cfg!(not(feature = "native")) || env::var_os(POLICY).is_some() {
        return;
    }
    if let Ok(program) = env::current_exe() {
        let mut again = Command::new(program);
        let _failed = again
            .args(env::args_os().skip(1))
            .env(POLICY, "passive")
            .exec();
    }
}
