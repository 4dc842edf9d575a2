//! Runs numbered jobs on several threads within a bound of memory, and hashes runs of files.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError, mpsc};
use std::thread;

use manifest_schema::Digest;
use sha2::{Digest as _, Sha256};

/// Bytes read at once: few enough to be still in a core's cache when they are hashed.
pub(crate) const CHUNK: u64 = 1 << 18;

/// Runs `job` for every number below `count` on `threads` threads, and stops soon after one fails.
///
/// Of several failures the one with the lowest number is returned.
pub(crate) fn for_each<E: Send>(
    threads: usize,
    count: usize,
    job: impl Fn(usize) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let failure: Mutex<Option<(usize, E)>> = Mutex::new(None);
    thread::scope(|scope| {
        for _ in 0..threads.clamp(1, 256).min(count) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        break;
                    }
                    if let Err(error) = job(number) {
                        stop.store(true, Ordering::Relaxed);
                        let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                        if failure.as_ref().is_none_or(|(lowest, _)| number < *lowest) {
                            *failure = Some((number, error));
                        }
                    }
                }
            });
        }
    });
    let failure = failure.into_inner().unwrap_or_else(PoisonError::into_inner);
    failure.map_or(Ok(()), |(_, error)| Err(error))
}

/// Reads `size` bytes of `file` from `offset` and returns their digest, handing each run to `take` on the way.
///
/// # Errors
/// Those of the file and of `take`; [`io::ErrorKind::UnexpectedEof`] where the file ends before.
pub(crate) fn hash_range<E: From<io::Error>>(
    file: &File,
    offset: u64,
    size: u64,
    mut take: impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<Digest, E> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; size.min(CHUNK) as usize];
    let mut done = 0;
    while done < size {
        let run = &mut buffer[..(size - done).min(CHUNK) as usize];
        file.read_exact_at(run, offset + done)?;
        hasher.update(&*run);
        take(done, run)?;
        done += run.len() as u64;
    }
    Ok(Digest::from_bytes(hasher.finalize().into()))
}

/// Buffers between a thread that reads and one that takes.
const BUFFERS: usize = 4;

/// Calls `read` to fill buffers with `size` bytes, `chunk` at a time, and `take` with each and its offset, in order; where
/// `apart`, `take` runs on a thread of its own.
///
/// # Errors
/// The first of either.
pub(crate) fn pump<E: Send>(
    size: u64,
    chunk: u64,
    apart: bool,
    mut read: impl FnMut(&mut [u8], u64) -> Result<(), E>,
    mut take: impl FnMut(u64, &[u8]) -> Result<(), E> + Send,
) -> Result<(), E> {
    let mut at = 0;
    if !apart {
        let mut buffer = vec![0; size.min(chunk) as usize];
        while at < size {
            let run = &mut buffer[..(size - at).min(chunk) as usize];
            read(run, at)?;
            take(at, run)?;
            at += run.len() as u64;
        }
        return Ok(());
    }
    let (full, filled) = mpsc::sync_channel::<Vec<u8>>(BUFFERS);
    let (empty, emptied) = mpsc::channel();
    thread::scope(|scope| {
        let taker = scope.spawn(move || {
            let mut at = 0;
            for buffer in filled {
                take(at, &buffer)?;
                at += buffer.len() as u64;
                // The reader may be done.
                let _ = empty.send(buffer);
            }
            Ok(())
        });
        let (mut made, mut failed) = (0, None);
        while at < size {
            // A taker that stopped takes nothing and gives nothing back.
            let buffer = if made < BUFFERS {
                made += 1;
                Ok(Vec::new())
            } else {
                emptied.recv()
            };
            let Ok(mut buffer) = buffer else { break };
            buffer.resize((size - at).min(chunk) as usize, 0);
            if let Err(error) = read(&mut buffer, at) {
                failed = Some(error);
                break;
            }
            at += buffer.len() as u64;
            if full.send(buffer).is_err() {
                break;
            }
        }
        drop(full);
        let ended = taker.join().unwrap_or_else(|panic| resume_unwind(panic));
        failed.map_or(ended, Err)
    })
}

/// Memory that threads share: who would take more than is left waits until others gave back.
pub(crate) struct Budget {
    limit: u64,
    taken: Mutex<u64>,
    given_back: Condvar,
}

/// A share of a [`Budget`], given back when it is dropped.
pub(crate) struct Share<'a> {
    budget: &'a Budget,
    bytes: u64,
}

impl Budget {
    pub(crate) const fn new(limit: u64) -> Self {
        Self {
            limit,
            taken: Mutex::new(0),
            given_back: Condvar::new(),
        }
    }

    /// Waits for `bytes`. More than there is in all is handed out to one alone.
    pub(crate) fn take(&self, bytes: u64) -> Share<'_> {
        let bytes = bytes.min(self.limit);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        while *taken + bytes > self.limit {
            let waited = self.given_back.wait(taken);
            taken = waited.unwrap_or_else(PoisonError::into_inner);
        }
        *taken += bytes;
        Share {
            budget: self,
            bytes,
        }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let taken = self.budget.taken.lock();
        *taken.unwrap_or_else(PoisonError::into_inner) -= self.bytes;
        self.budget.given_back.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_taken_than_there_is_and_everybody_has_a_turn() {
        let budget = Budget::new(100);
        let most = Mutex::new((0, 0));
        let all: Result<(), ()> = for_each(8, 200, |n| {
            let bytes = [30, 60, 1000][n % 3];
            let share = budget.take(bytes);
            let mut held = most.lock().unwrap();
            held.0 += share.bytes;
            held.1 = held.1.max(held.0);
            drop(held);
            thread::yield_now();
            most.lock().unwrap().0 -= share.bytes;
            Ok(())
        });
        all.unwrap();
        let (left, most) = *most.lock().unwrap();
        assert_eq!(left, 0);
        assert!((60..=100).contains(&most), "{most}");
    }

    #[test]
    fn what_is_read_is_taken_in_order_and_either_may_stop() {
        for (size, apart) in [(0, false), (0, true), (1000, false), (1000, true)] {
            let mut taken = Vec::new();
            let read = |buffer: &mut [u8], at: u64| {
                for (n, byte) in buffer.iter_mut().enumerate() {
                    *byte = (at as usize + n) as u8;
                }
                Ok::<(), u64>(())
            };
            let take = |at, bytes: &[u8]| {
                assert_eq!(at, taken.len() as u64);
                taken.extend_from_slice(bytes);
                Ok(())
            };
            assert_eq!(pump(size, 64, apart, read, take), Ok(()));
            let expected: Vec<u8> = (0..size).map(|n| n as u8).collect();
            assert_eq!(taken, expected);
        }
        for apart in [false, true] {
            let read = |_: &mut [u8], at| if at >= 640 { Err(at) } else { Ok(()) };
            assert_eq!(pump(1000, 64, apart, read, |_, _| Ok(())), Err(640));
            let take = |at, _: &[u8]| if at >= 128 { Err(at) } else { Ok(()) };
            assert_eq!(pump(1 << 20, 64, apart, |_, _| Ok(()), take), Err(128));
        }
    }

    #[test]
    fn every_job_runs_once_and_a_failure_comes_back() {
        let done = AtomicUsize::new(0);
        let all: Result<(), ()> = for_each(4, 1000, |_| {
            done.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
        assert_eq!((all, done.into_inner()), (Ok(()), 1000));
        assert_eq!(
            for_each(3, 100, |n| if n == 42 { Err(n) } else { Ok(()) }),
            Err(42)
        );
    }
}
