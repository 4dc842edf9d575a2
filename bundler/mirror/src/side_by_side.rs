//! Many small things at a time: what takes long with each is waiting for somebody else.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Does `work` for each item, `threads` at a time, and returns the results in the order of the items.
///
/// # Errors
/// The failure of the first item that failed; items that were not begun by then are left.
pub fn side_by_side<T: Sync, R: Send, E: Send>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let done = Mutex::new(Vec::with_capacity(items.len()));
    thread::scope(|scope| {
        for _ in 0..threads.clamp(1, items.len().max(1)) {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(number) else {
                        return;
                    };
                    let result = work(item);
                    failed.fetch_or(result.is_err(), Ordering::Relaxed);
                    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                    done.push((number, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Threads for questions to a server.
pub const QUESTIONS: usize = 8;

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn results_keep_their_order_and_work_is_done_at_the_same_time() {
        let both = Barrier::new(2);
        let done = side_by_side(&[3, 1], 2, |number| {
            // Neither gets on without the other.
            both.wait();
            Ok::<_, ()>(number * 2)
        });
        assert_eq!(done, Ok(vec![6, 2]));
        assert_eq!(side_by_side(&[], 4, |_: &u8| Ok::<u8, ()>(1)), Ok(vec![]));
    }

    #[test]
    fn the_first_failure_is_told_and_what_was_not_begun_is_left() {
        let begun = AtomicUsize::new(0);
        let items: Vec<usize> = (0..1000).collect();
        let failed = side_by_side(&items, 3, |number| {
            begun.fetch_add(1, Ordering::Relaxed);
            if *number < 5 { Ok(()) } else { Err(*number) }
        });
        assert_eq!(failed, Err(5));
        assert!(begun.into_inner() < 20);
    }
}
