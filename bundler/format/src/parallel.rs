//! Runs numbered jobs on several threads within a bound of memory, and hashes runs of files, alone or side by side.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError, mpsc};
use std::thread;

use manifest_schema::Digest;
use twin_digest::{Hash, update_two};

use crate::direct::{Buffer, Direct};
use crate::extract::Extent;

/// Bytes read at once: few enough to be still in a core's cache when they are hashed.
pub(crate) const CHUNK: u64 = 1 << 18;

/// Bytes of a copy that are handed on at once: enough for a disk that takes them without a cache in between.
pub(crate) const RUN: u64 = 1 << 20;

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

/// Groups `items`, in their order, into ones and twos: neighbours that `fit` are two as long as no thread has nothing to
/// do. What one thread does to two side by side takes much less than twice the time.
pub fn in_twos<T>(
    items: Vec<T>,
    threads: usize,
    fit: impl Fn(&T, &T) -> bool,
) -> Vec<(T, Option<T>)> {
    let mut spare = items.len().saturating_sub(threads);
    let mut items = items.into_iter().peekable();
    let mut groups = Vec::new();
    while let Some(one) = items.next() {
        let other = items.next_if(|other| spare > 0 && fit(&one, other));
        spare -= usize::from(other.is_some());
        groups.push((one, other));
    }
    groups
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
    let lane = Lane::of(Extent { file, offset, size }, CHUNK);
    let failed = |_: usize, cause: io::Error| E::from(cause);
    let [digest] = hash_lanes([lane], CHUNK, failed, |_, at, run| take(at, run))?;
    Ok(digest)
}

/// Reads one lane, or two side by side, and returns their digests, handing runs of at most `run` bytes to `take` on the way
/// with the number of their lane and their place there.
///
/// # Errors
/// Those of `take`, and what `failed` makes of the file's; [`io::ErrorKind::UnexpectedEof`] where it ends before.
pub(crate) fn hash_lanes<E, const N: usize>(
    mut lanes: [Lane<'_>; N],
    run: u64,
    failed: impl Fn(usize, io::Error) -> E,
    mut take: impl FnMut(usize, u64, &[u8]) -> Result<(), E>,
) -> Result<[Digest; N], E> {
    while lanes.iter().any(|lane| lane.done < lane.extent.size) {
        for at in (0..run).step_by(CHUNK as usize) {
            for (number, lane) in lanes.iter_mut().enumerate() {
                lane.read(at).map_err(|cause| failed(number, cause))?;
            }
            match lanes.as_mut_slice() {
                [one, other] => {
                    let (its, others) = (one.chunk(at), other.chunk(at));
                    let (its, others) = (&one.buffer.bytes()[its], &other.buffer.bytes()[others]);
                    update_two(&mut one.hash, its, &mut other.hash, others);
                }
                lanes => lanes.iter_mut().for_each(|lane| {
                    let chunk = lane.chunk(at);
                    lane.hash.update(&lane.buffer.bytes()[chunk]);
                }),
            }
        }
        for (number, lane) in lanes.iter_mut().enumerate() {
            let size = lane.run();
            if size > 0 {
                take(number, lane.done, &lane.buffer.bytes()[..size])?;
                lane.done += size as u64;
            }
        }
    }
    Ok(lanes.map(|lane| Digest::from_bytes(lane.hash.finish())))
}

/// An extent that is being read.
pub(crate) struct Lane<'a> {
    extent: Extent<'a>,
    direct: Option<&'a Direct>,
    buffer: Buffer,
    hash: Hash,
    done: u64,
}

impl<'a> Lane<'a> {
    /// An extent to be read in runs of `run` bytes.
    pub(crate) fn of(extent: Extent<'a>, run: u64) -> Self {
        Self {
            extent,
            direct: None,
            buffer: Buffer::of(extent.size.min(run) as usize),
            hash: Hash::new(),
            done: 0,
        }
    }

    /// Reads the extent from there, a run at a time, as long as that succeeds.
    pub(crate) fn past_cache(mut self, direct: Option<&'a Direct>) -> Self {
        self.direct = direct;
        self
    }

    /// Bytes of the run that is being read.
    fn run(&self) -> usize {
        (self.extent.size - self.done).min(self.buffer.bytes().len() as u64) as usize
    }

    /// Where in the run the chunk is that begins `at`.
    fn chunk(&self, at: u64) -> Range<usize> {
        let run = self.run();
        let end = (at + CHUNK) as usize;
        run.min(at as usize)..run.min(end)
    }

    fn read(&mut self, at: u64) -> io::Result<()> {
        let (chunk, run) = (self.chunk(at), self.run());
        let offset = self.extent.offset + self.done;
        if let Some(direct) = self.direct {
            if at > 0 || direct.read(&mut self.buffer, run, offset).is_ok() {
                return Ok(());
            }
            // Through the cache it is read, or says why not.
            self.direct = None;
        }
        let bytes = &mut self.buffer.bytes_mut()[chunk];
        self.extent.file.read_exact_at(bytes, offset + at)
    }
}

/// Buffers between a thread that reads and one that takes.
const BUFFERS: usize = 3;

/// Calls `read` to fill buffers with `size` bytes, and `take` with each and its offset, in order; where `apart`, `take` runs on
/// a thread of its own. How many bytes come together from an offset on is what `length` says, and at most `chunk`.
///
/// # Errors
/// The first of either.
pub(crate) fn pump<E: Send>(
    size: u64,
    chunk: u64,
    length: impl Fn(u64) -> u64,
    apart: bool,
    mut read: impl FnMut(&mut [u8], u64) -> Result<(), E>,
    mut take: impl FnMut(u64, &[u8]) -> Result<(), E> + Send,
) -> Result<(), E> {
    let mut at = 0;
    if !apart {
        let mut buffer = Buffer::of(size.min(chunk) as usize);
        while at < size {
            let run = &mut buffer.bytes_mut()[..length(at).min(size - at) as usize];
            read(run, at)?;
            take(at, run)?;
            at += run.len() as u64;
        }
        return Ok(());
    }
    let (full, filled) = mpsc::sync_channel::<(Buffer, usize)>(BUFFERS);
    let (empty, emptied) = mpsc::channel();
    thread::scope(|scope| {
        let taker = scope.spawn(move || {
            let mut at = 0;
            for (buffer, length) in filled {
                take(at, &buffer.bytes()[..length])?;
                at += length as u64;
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
                Ok(Buffer::of(size.min(chunk) as usize))
            } else {
                emptied.recv()
            };
            let Ok(mut buffer) = buffer else { break };
            let length = length(at).min(size - at) as usize;
            if let Err(error) = read(&mut buffer.bytes_mut()[..length], at) {
                failed = Some(error);
                break;
            }
            at += length as u64;
            if full.send((buffer, length)).is_err() {
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
    fn extents_are_read_side_by_side_and_each_has_its_digest() {
        let bytes: Vec<u8> = (0..3 * RUN).map(|n| (n * n / 7) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, &bytes).unwrap();
        let sizes = [0, 1, 5000, CHUNK, RUN - 1, RUN, 2 * RUN + 77];
        for (one, other) in sizes
            .into_iter()
            .flat_map(|one| sizes.map(|other| (one, other)))
        {
            let lane = |offset, size| {
                let file = &file;
                Lane::of(Extent { file, offset, size }, RUN)
            };
            let mut taken = [Vec::new(), Vec::new()];
            let failed = |_, cause| cause;
            let lanes = [lane(3, one), lane(700, other)];
            let found = hash_lanes(lanes, RUN, failed, |n, at, run| {
                assert_eq!(at, taken[n].len() as u64);
                taken[n].extend_from_slice(run);
                Ok(())
            });
            let parts = [&bytes[3..][..one as usize], &bytes[700..][..other as usize]];
            assert_eq!(found.unwrap(), parts.map(Digest::of), "{one} {other}");
            assert_eq!(taken, parts);
        }
        let (short, long) = ((2 * RUN, 100), (2 * RUN, 2 * RUN));
        for (lanes, at_fault) in [([short, long], 1), ([long, short], 0)] {
            let lanes = lanes.map(|(offset, size)| {
                let file = &file;
                Lane::of(Extent { file, offset, size }, RUN)
            });
            let failed = |n, cause: io::Error| (n, cause.kind());
            let found = hash_lanes(lanes, RUN, failed, |_, _, _| Ok(()));
            assert_eq!(found, Err((at_fault, io::ErrorKind::UnexpectedEof)));
        }
    }

    #[test]
    fn there_are_twos_where_no_thread_goes_without() {
        for (count, threads, expected) in [
            (0, 2, &[][..]),
            (2, 2, &[1, 1]),
            (3, 2, &[2, 1]),
            (5, 4, &[2, 1, 1, 1]),
            (7, 2, &[2, 2, 2, 1]),
            (4, 1, &[2, 2]),
        ] {
            let groups = in_twos((0..count).collect(), threads, |_, _| true);
            let sizes: Vec<_> = groups.iter().map(|(_, two)| 1 + two.iter().len()).collect();
            assert_eq!(sizes, expected, "{count} {threads}");
        }
        let groups = in_twos(vec![1, 3, 4, 6, 8], 1, |a, b| a % 2 == b % 2);
        assert_eq!(groups, [(1, Some(3)), (4, Some(6)), (8, None)]);
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
            assert_eq!(pump(size, 64, |_| 64, apart, read, take), Ok(()));
            let expected: Vec<u8> = (0..size).map(|n| n as u8).collect();
            assert_eq!(taken, expected);
        }
        for apart in [false, true] {
            let read = |_: &mut [u8], at| if at >= 640 { Err(at) } else { Ok(()) };
            assert_eq!(pump(1000, 64, |_| 64, apart, read, |_, _| Ok(())), Err(640));
            let take = |at, _: &[u8]| if at >= 128 { Err(at) } else { Ok(()) };
            assert_eq!(
                pump(1 << 20, 64, |_| 64, apart, |_, _| Ok(()), take),
                Err(128)
            );
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
