//! What ends a training run, and what does not.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
#[cfg(feature = "native")]
use std::sync::atomic::Ordering;

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

/// Ctrl-C in a talk: it ends an answer that is being made, and between answers the program, as ever.
#[cfg(feature = "native")]
pub(crate) struct Interrupts {
    answer: Arc<AtomicBool>,
    idle: Arc<AtomicBool>,
}

#[cfg(feature = "native")]
impl Interrupts {
    /// Catches them from now on.
    pub(crate) fn catch() -> Self {
        let answer = Arc::new(AtomicBool::new(false));
        let idle = Arc::new(AtomicBool::new(false));
        // In this order: the first Ctrl-C finds its flag unset, the second ends a step that takes too long.
        for ends in [&idle, &answer] {
            let _ = flag::register_conditional_shutdown(SIGINT, 128 + SIGINT, Arc::clone(ends));
        }
        let _ = flag::register(SIGINT, Arc::clone(&answer));
        Self { answer, idle }
    }

    /// Set where the answer shall end.
    pub(crate) fn flag(&self) -> &AtomicBool {
        &self.answer
    }

    /// Does `wait`, in which Ctrl-C ends the program. What was meant for the answer before is over.
    pub(crate) fn while_idle<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.idle.store(true, Ordering::SeqCst);
        let done = wait();
        self.answer.store(false, Ordering::SeqCst);
        self.idle.store(false, Ordering::SeqCst);
        done
    }
}
