//! Downloads: several at a time, each going on where it was cut off, each hashed while it arrives.

use std::cmp::Reverse;
use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use manifest_schema::Digest;
use report::{Event, Sink, Step};
use reqwest::blocking::Response;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE};

use crate::page::{header, parse, shown};
use crate::partial::Partial;
use crate::patience::Paced;
use crate::rate::RateLimit;
use crate::web::{Ask, Credential};
use crate::{Cache, MirrorError, Secret, Web};

/// A file to fetch: what its bytes must be, and where they may be had.
#[derive(Clone, Debug)]
pub struct Download {
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// Exact number of bytes.
    pub size: u64,
    /// Name to show.
    pub file_name: String,
    /// Places, in the order to try.
    pub urls: Vec<String>,
    /// Git's name of the bytes, checked as well where it is known.
    pub git_sha1: Option<String>,
    /// Headers that the places ask for.
    pub headers: Vec<(String, String)>,
    /// Headers that only the host of the first place may see.
    pub secret_headers: Vec<(String, Secret)>,
    /// Whether the places are container registries, which may ask for a token first.
    pub registry: bool,
}

impl Download {
    fn credentials(&self) -> Result<Vec<Credential>, MirrorError> {
        let mut credentials = Vec::new();
        for (name, value) in &self.secret_headers {
            credentials.push(Credential {
                home: parse(self.urls.first().map_or("", String::as_str))?,
                name: name.clone(),
                value: value.clone(),
            });
        }
        Ok(credentials)
    }
}

/// Addresses that begin with `from` are tried first with `to` in its place.
#[derive(Clone, Debug)]
pub struct Rewrite {
    /// Beginning of an address in the lock.
    pub from: String,
    /// Beginning of its counterpart on a mirror.
    pub to: String,
}

/// Fetches files into a cache.
pub struct Downloader<'a> {
    /// The client.
    pub web: &'a Web,
    /// The cache.
    pub cache: &'a Cache,
    /// Mirrors to try before the places in a lock.
    pub rewrites: &'a [Rewrite],
    /// Bound of all downloads together.
    pub limit: Option<&'a RateLimit>,
}

/// Headway that makes up for a failure: a long file over a bad line needs more than five attempts.
const HEADWAY: u64 = 1024 * 1024;

impl Downloader<'_> {
    /// Fetches every file that the cache lacks, `threads` at a time, the largest first: begun last, one of them would
    /// keep one thread busy alone.
    ///
    /// # Errors
    /// The first failure; what was complete by then stays in the cache.
    pub fn fetch_all(
        &self,
        downloads: &[Download],
        threads: usize,
        sink: &dyn Sink,
    ) -> Result<(), MirrorError> {
        let mut downloads: Vec<&Download> = downloads.iter().collect();
        downloads.sort_by_key(|download| Reverse(download.size));
        let next = AtomicUsize::new(0);
        let failed: Mutex<Option<MirrorError>> = Mutex::new(None);
        let first = || failed.lock().unwrap_or_else(PoisonError::into_inner);
        thread::scope(|scope| {
            for _ in 0..threads.clamp(1, downloads.len().max(1)) {
                scope.spawn(|| {
                    while first().is_none() {
                        let Some(download) = downloads.get(next.fetch_add(1, Ordering::Relaxed))
                        else {
                            return;
                        };
                        if let Err(error) = self.fetch(download, sink) {
                            first().get_or_insert(error);
                        }
                    }
                });
            }
        });
        let failure = first().take();
        failure.map_or(Ok(()), Err)
    }

    /// Fetches one file, unless the cache has it.
    ///
    /// # Errors
    /// What every place did, when none gave the right bytes.
    pub fn fetch(&self, download: &Download, sink: &dyn Sink) -> Result<(), MirrorError> {
        if self.cache.holds(&download.digest, download.size) {
            return Ok(());
        }
        let step = Step::start(
            sink,
            "step.fetch",
            download.file_name.clone(),
            Some(download.size),
            "bytes",
        );
        let path = self.cache.partial(&download.digest);
        let on_disk = |source| MirrorError::file(&path, source);
        let mut partial = Partial::open(&path, download).map_err(on_disk)?;
        // Another process may have finished it while this one waited for it.
        if self.cache.holds(&download.digest, download.size) {
            let _ = std::fs::remove_file(&path);
            step.finish();
            return Ok(());
        }
        let mut failures = Vec::new();
        for url in self.places(download) {
            match self.fetch_from(&url, download, &mut partial, &step) {
                Ok(()) => {
                    self.cache
                        .keep(&partial.file, &path, &download.digest)
                        .map_err(on_disk)?;
                    step.finish();
                    return Ok(());
                }
                Err(error @ MirrorError::File { .. }) => return Err(error),
                Err(error) => {
                    let line = error.line();
                    sink.emit(&Event::Warned {
                        code: "mirror.place-failed".to_owned(),
                        args: vec![
                            ("file".to_owned(), download.file_name.clone()),
                            ("problem".to_owned(), line.clone()),
                        ],
                    });
                    failures.push(line);
                }
            }
        }
        Err(MirrorError::EveryPlaceFailed {
            file_name: download.file_name.clone(),
            digest: download.digest,
            failures,
        })
    }

    fn places(&self, download: &Download) -> Vec<String> {
        let mut places = Vec::new();
        for url in &download.urls {
            for rewrite in self.rewrites {
                if let Some(rest) = url.strip_prefix(&rewrite.from) {
                    places.push(format!("{}{rest}", rewrite.to));
                }
            }
        }
        places.extend(download.urls.iter().cloned());
        places
    }

    /// Fetches what `partial` lacks and checks the whole. What was fetched stays, so that the next attempt, or the next
    /// place, goes on from there.
    fn fetch_from(
        &self,
        url: &str,
        download: &Download,
        partial: &mut Partial,
        step: &Step<'_>,
    ) -> Result<(), MirrorError> {
        let shown_url = shown(&parse(url)?);
        let mut failure = 0;
        let mut furthest = partial.length();
        loop {
            let result = self
                .go_on(url, &shown_url, download, partial, step)
                .and_then(|()| partial.check(download, &shown_url));
            let Err(error) = result else {
                return Ok(());
            };
            if partial.length() >= furthest + HEADWAY {
                failure = 0;
                furthest = partial.length();
            }
            if !error.may_pass() || failure + 1 >= self.web.patience.attempts {
                return Err(error);
            }
            thread::sleep(self.web.patience.pause(failure, &error));
            failure += 1;
        }
    }

    /// Fetches what `partial` lacks.
    fn go_on(
        &self,
        url: &str,
        shown_url: &str,
        download: &Download,
        partial: &mut Partial,
        step: &Step<'_>,
    ) -> Result<(), MirrorError> {
        partial.resume();
        if partial.length() == download.size && download.size > 0 {
            return Ok(());
        }
        let on_disk = |source| MirrorError::file(self.cache.partial(&download.digest), source);
        let (response, from) = self.answer(url, download, partial.length())?;
        let differs = |found| MirrorError::SizeDiffers {
            url: shown_url.to_owned(),
            found,
            expected: download.size,
        };
        let length = header(response.headers(), CONTENT_LENGTH.as_str());
        let length: Option<u64> = length.and_then(|length| length.parse().ok());
        // Before anything is thrown away: a page that says "come back later" is an answer too.
        if let Some(length) = length
            && length != download.size - from
        {
            return Err(differs(from.saturating_add(length)));
        }
        if from != partial.length() {
            partial.restart().map_err(on_disk)?;
        }
        let mut body = Paced::new(response, self.web.patience);
        let mut buffer = vec![0; 128 * 1024];
        loop {
            let count = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(MirrorError::Connection {
                        url: shown_url.to_owned(),
                        source: Box::new(source),
                    });
                }
            };
            let found = partial.length() + count as u64;
            if found > download.size {
                partial.restart().map_err(on_disk)?;
                return Err(differs(found));
            }
            if let Some(limit) = self.limit {
                limit.pay(count);
            }
            partial.append(&buffer[..count]).map_err(on_disk)?;
            step.progress(partial.length());
        }
        if partial.length() < download.size {
            return Err(MirrorError::CutShort {
                url: shown_url.to_owned(),
                found: partial.length(),
                expected: download.size,
            });
        }
        Ok(())
    }

    /// An answer with the bytes from `length` on, or else with all of them; the number of its first byte.
    fn answer(
        &self,
        url: &str,
        download: &Download,
        length: u64,
    ) -> Result<(Response, u64), MirrorError> {
        let credentials = download.credentials()?;
        let ask = |from: u64| Ask {
            range: (from > 0).then_some((from, None)),
            headers: &download.headers,
            credentials: &credentials,
            registry: download.registry,
            ..Ask::default()
        };
        if length > 0 {
            match self.web.once(url, ask(length)) {
                Ok(response) if continues(&response, length, download.size) => {
                    return Ok((response, length));
                }
                // It does not know ranges, and sends everything.
                Ok(response) if response.status().as_u16() == 200 => return Ok((response, 0)),
                // It gives another range, or has none: what is here may be the beginning of some other file.
                Ok(_) | Err(MirrorError::Status { status: 416, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((self.web.once(url, ask(0))?, 0))
    }
}

/// Whether an answer really goes on at `from`, in a file of `size` bytes.
fn continues(response: &Response, from: u64, size: u64) -> bool {
    if response.status().as_u16() != 206 {
        return false;
    }
    let Some(range) = header(response.headers(), CONTENT_RANGE.as_str()) else {
        return false;
    };
    let Some((span, total)) = range
        .strip_prefix("bytes ")
        .and_then(|range| range.split_once('/'))
    else {
        return false;
    };
    let starts = span.split('-').next().and_then(|s| s.parse().ok()) == Some(from);
    starts && (total == "*" || total.parse() == Ok(size))
}
