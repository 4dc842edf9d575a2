//! Where a job computes, and what memory is free there.

use std::fs;

use console::View;
use report::{Event, Sink as _};

use crate::device::Chosen;
use crate::home::Home;

/// Where the job computes, and how much memory is free there.
pub(super) struct Room {
    pub(super) name: String,
    pub(super) available: Option<u64>,
    /// It is the processor.
    pub(super) processor: bool,
    /// Processes that compute together, each on a device of its own where there are several.
    pub(super) processes: usize,
}

impl Room {
    /// Looks. A device that cannot be used is warned of: the job can be judged all the same.
    pub(super) fn of(chosen: &Chosen, home: &Home, view: &View) -> Self {
        if chosen.is_processor() {
            return Self {
                name: chosen.label(),
                available: available(&fs::read_to_string("/proc/meminfo").unwrap_or_default()),
                processor: true,
                processes: 1,
            };
        }
        Self {
            name: format!("{}, {}", chosen.label(), chosen.title()),
            available: free(chosen, home, view),
            processor: false,
            processes: 1,
        }
    }
}

#[cfg(feature = "native")]
fn free(chosen: &Chosen, home: &Home, view: &View) -> Option<u64> {
    match chosen.open(home, view) {
        Ok(place) => place.memory().map(|memory| memory.free),
        Err(trouble) => {
            view.emit(&Event::Warned {
                code: "runtime.device-not-ready".to_owned(),
                args: vec![("reason".to_owned(), trouble.diagnose().to_string())],
            });
            None
        }
    }
}

#[cfg(not(feature = "native"))]
fn free(_chosen: &Chosen, _home: &Home, _view: &View) -> Option<u64> {
    None
}

/// Bytes that `/proc/meminfo` calls available.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find(|line| line.starts_with("MemAvailable:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_memory_is_what_the_system_calls_available() {
        let meminfo = "MemTotal:  10 kB\nMemAvailable:   2048 kB\n";
        assert_eq!(available(meminfo), Some(2 << 20));
        assert_eq!(available("nothing"), None);
    }
}
