//! A bound on how many bytes a second all downloads together may take.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Shared by all downloads of a run.
#[derive(Debug)]
pub struct RateLimit {
    bytes_per_second: u64,
    /// When the bytes that were taken so far are paid for.
    paid_at: Mutex<Instant>,
}

impl RateLimit {
    /// At most `bytes_per_second`; 0 counts as 1.
    pub fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second: bytes_per_second.max(1),
            paid_at: Mutex::new(Instant::now()),
        }
    }

    /// Waits until `bytes` more are within the bound. Time in which nothing was taken is not saved up.
    pub(crate) fn pay(&self, bytes: usize) {
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let now = Instant::now();
        let until = {
            let mut paid_at = self.paid_at.lock().unwrap_or_else(PoisonError::into_inner);
            *paid_at = (*paid_at).max(now) + cost;
            *paid_at
        };
        thread::sleep(until.saturating_duration_since(now));
    }
}
