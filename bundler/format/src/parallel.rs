//! Runs numbered jobs on several threads, and hashes runs of files.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use manifest_schema::Digest;
use sha2::{Digest as _, Sha256};

/// Bytes read at once.
const CHUNK: u64 = 1 << 20;

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
                        let mut failure = failure
                            .lock()
                            .unwrap_or_else(std::sync::PoisonError::into_inner);
                        if failure.as_ref().is_none_or(|(lowest, _)| number < *lowest) {
                            *failure = Some((number, error));
                        }
                    }
                }
            });
        }
    });
    let failure = failure
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
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

#[cfg(test)]
mod tests {
    use super::*;

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
