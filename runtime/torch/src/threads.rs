//! How many threads compute, and how they wait.
//!
//! libgomp's threads spin at a barrier. When another program takes a core from one of them, the others burn theirs while
//! they wait, and a step takes ten times as long. `OMP_WAIT_POLICY=passive` makes them sleep instead; libgomp
//! reads it once, as it is loaded, which is before `main`. So a program sets [`library_environment`] and starts itself
//! anew before it computes, or is started by a launcher that has set it.

use std::thread;

/// Variables that libgomp must see as it is loaded.
pub fn library_environment() -> [(&'static str, &'static str); 1] {
    [("OMP_WAIT_POLICY", "passive")]
}

/// How many threads to use.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Threads {
    /// As many as this process may run at once and other programs leave idle.
    #[default]
    Idle,
    /// The part of one of so many processes that compute together.
    Part(usize),
    /// As many as said.
    Exactly(usize),
}

/// Sets the thread count for all computation from now on, and returns it.
///
/// `OMP_NUM_THREADS` wins over [`Threads::Idle`]. Otherwise affinity and control-group limits bound the count, and the
/// system's load over the last minute is left to the programs that cause it; one thread always remains.
pub fn use_threads(wish: Threads) -> usize {
    let count = match (wish, asked()) {
        (Threads::Exactly(count), _) | (Threads::Idle | Threads::Part(_), Some(count)) => {
            count.max(1)
        }
        (Threads::Idle | Threads::Part(_), None) => {
            let allowed = thread::available_parallelism().map_or(1, usize::from);
            let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
            let processes = match wish {
                Threads::Part(processes) => processes.max(1),
                _ => 1,
            };
            (idle(allowed, &load) / processes).max(1)
        }
    };
    tch::set_num_threads(i32::try_from(count).unwrap_or(i32::MAX));
    count
}

fn asked() -> Option<usize> {
    std::env::var("OMP_NUM_THREADS").ok()?.parse().ok()
}

/// Cores that are left when the programs counted in `/proc/loadavg` keep theirs.
fn idle(allowed: usize, load: &str) -> usize {
    let busy: f64 = load
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or(0.0);
    let left = allowed as f64 - busy.max(0.0);
    (left.round().max(1.0) as usize).min(allowed.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_of_others_is_left_to_them() {
        for (allowed, load, expected) in [
            (8, "0.10 0.2 0.3 1/100 5", 8),
            (8, "3.2 0.2 0.3 1/100 5", 5),
            (2, "6.0 5.0 4.0 9/100 5", 1),
            (1, "0.0", 1),
            (4, "garbage", 4),
            (4, "", 4),
        ] {
            assert_eq!(idle(allowed, load), expected, "{allowed} {load}");
        }
    }
}
