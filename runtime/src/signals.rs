//! What ends a training run, and what does not.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// A flag that Ctrl-C or `kill` sets: the loop ends after the step and saves; a second time they end the program at
/// once. A terminal that is closed ends nothing. Where no handler can be set, signals do what they always did.
#[cfg(feature = "native")]
pub(crate) fn stop_on_request() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal finds the flag unset.
        let _ = flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stop));
        let _ = flag::register(signal, Arc::clone(&stop));
    }
    let _ = flag::register(SIGHUP, Arc::new(AtomicBool::new(false)));
    stop
}

/// A flag that Ctrl-C or `kill` sets each time anew, for who ends another program. A terminal that is closed ends nothing.
pub(crate) fn told() -> Arc<AtomicBool> {
    let told = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        let _ = flag::register(signal, Arc::clone(&told));
    }
    let _ = flag::register(SIGHUP, Arc::new(AtomicBool::new(false)));
    told
}
