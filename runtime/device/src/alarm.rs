//! Word from outside that a process of the group is gone.
//!
//! In the processor's memory gloo notices by itself. A device waits for ever: who sees a process end has to say so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Ends the waiting for a device; any thread may ring it.
#[derive(Clone, Debug, Default)]
pub struct Alarm(Arc<State>);

#[derive(Debug, Default)]
struct State {
    rung: AtomicBool,
    waiting: AtomicBool,
}

impl Alarm {
    /// Says that another process is gone.
    pub fn ring(&self) {
        self.0.rung.store(true, Ordering::SeqCst);
    }

    /// Whether the group is in a call about tensors on devices. One that stays there after the alarm is held in the vendor's
    /// library.
    pub fn is_waiting(&self) -> bool {
        self.0.waiting.load(Ordering::SeqCst)
    }

    pub(crate) fn has_rung(&self) -> bool {
        self.0.rung.load(Ordering::SeqCst)
    }

    /// Counts as waiting until what is returned is dropped.
    pub(crate) fn wait(&self) -> Waiting<'_> {
        self.0.waiting.store(true, Ordering::SeqCst);
        Waiting(&self.0)
    }
}

pub(crate) struct Waiting<'a>(&'a State);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.store(false, Ordering::SeqCst);
    }
}
