//! Downloads: several at a time, each going on where it was cut off, each hashed while it arrives.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use manifest_schema::Digest;
use report::{Event, Sink, Step};
use reqwest::blocking::Response;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE};
use sha1::{Digest as _, Sha1};
use sha2::{Digest as _, Sha256};

use crate::rate::RateLimit;
use crate::web::{Ask, Credential, header, parse, shown};
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
    /// Fetches every file that the cache lacks, `threads` at a time.
    ///
    /// # Errors
    /// The first failure; what was complete by then stays in the cache.
    pub fn fetch_all(
        &self,
        downloads: &[Download],
        threads: usize,
        sink: &dyn Sink,
    ) -> Result<(), MirrorError> {
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
        let mut failures = Vec::new();
        for url in self.places(download) {
            match self.fetch_from(&url, download, &step) {
                Ok(()) => {
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

    fn fetch_from(
        &self,
        url: &str,
        download: &Download,
        step: &Step<'_>,
    ) -> Result<(), MirrorError> {
        let shown_url = shown(&parse(url)?);
        let mut failure = 0;
        let mut furthest = 0;
        loop {
            let path = self.cache.partial(&download.digest);
            let on_disk = |source| MirrorError::file(&path, source);
            let mut partial = Partial::open(&path, download).map_err(on_disk)?;
            // Another process may have finished it while this one waited for the lock.
            if self.cache.holds(&download.digest, download.size) {
                let _ = std::fs::remove_file(&path);
                return Ok(());
            }
            let result = self
                .go_on(url, &shown_url, download, &mut partial, step)
                .and_then(|()| partial.check(download, &shown_url));
            match result {
                Ok(()) => {
                    return self
                        .cache
                        .keep(&partial.file, &path, &download.digest)
                        .map_err(on_disk);
                }
                Err(error) => {
                    if partial.length >= furthest + HEADWAY {
                        failure = 0;
                        furthest = partial.length;
                    }
                    if !error.may_pass() || failure + 1 >= self.web.patience.attempts {
                        return Err(error);
                    }
                    drop(partial);
                    thread::sleep(self.web.patience.pause(failure, &error));
                    failure += 1;
                }
            }
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
        if partial.length == download.size && download.size > 0 {
            return Ok(());
        }
        let credentials = download.credentials()?;
        let ask = |from: u64| Ask {
            range: (from > 0).then_some((from, None)),
            headers: &download.headers,
            credentials: &credentials,
            registry: download.registry,
            ..Ask::default()
        };
        let on_disk = |source| MirrorError::file(self.cache.partial(&download.digest), source);
        let mut response = match self.web.once(url, ask(partial.length)) {
            // The server has no such range: the beginning here is of some other file.
            Err(MirrorError::Status { status: 416, .. }) if partial.length > 0 => {
                partial.restart().map_err(on_disk)?;
                self.web.once(url, ask(0))?
            }
            other => other?,
        };
        if partial.length > 0 && !continues(&response, partial.length, download.size) {
            partial.restart().map_err(on_disk)?;
            if response.status().as_u16() == 206 {
                response = self.web.once(url, ask(0))?;
            }
        }
        if let Some(length) = header(response.headers(), CONTENT_LENGTH.as_str())
            .and_then(|length| length.parse::<u64>().ok())
        {
            let found = partial.length + length;
            if found != download.size {
                return Err(MirrorError::SizeDiffers {
                    url: shown_url.to_owned(),
                    found,
                    expected: download.size,
                });
            }
        }
        let mut buffer = vec![0; 128 * 1024];
        loop {
            let count = match response.read(&mut buffer) {
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
            if partial.length + count as u64 > download.size {
                let found = partial.length + count as u64;
                partial.restart().map_err(on_disk)?;
                return Err(MirrorError::SizeDiffers {
                    url: shown_url.to_owned(),
                    found,
                    expected: download.size,
                });
            }
            if let Some(limit) = self.limit {
                limit.pay(count);
            }
            partial.append(&buffer[..count]).map_err(on_disk)?;
            step.progress(partial.length);
        }
        if partial.length < download.size {
            return Err(MirrorError::CutShort {
                url: shown_url.to_owned(),
                found: partial.length,
                expected: download.size,
            });
        }
        Ok(())
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

/// The beginning of a file, with the hashes of exactly those bytes.
struct Partial {
    file: File,
    length: u64,
    /// Bytes that were there before this attempt.
    resumed: u64,
    sha256: Sha256,
    git: Sha1,
    size: u64,
}

impl Partial {
    /// Opens the file, waits for whoever else writes it, and hashes what is there.
    fn open(path: &std::path::Path, download: &Download) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        file.lock()?;
        let mut partial = Self {
            file,
            length: 0,
            resumed: 0,
            sha256: Sha256::new(),
            git: git_hasher(download.size),
            size: download.size,
        };
        if partial.file.metadata()?.len() > download.size {
            partial.restart()?;
            return Ok(partial);
        }
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let count = partial.file.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            partial.sha256.update(&buffer[..count]);
            partial.git.update(&buffer[..count]);
            partial.length += count as u64;
        }
        partial.resumed = partial.length;
        Ok(partial)
    }

    fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.length = 0;
        self.resumed = 0;
        self.sha256 = Sha256::new();
        self.git = git_hasher(self.size);
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.sha256.update(bytes);
        self.git.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Compares the digests; wrong bytes are thrown away at once.
    fn check(&mut self, download: &Download, url: &str) -> Result<(), MirrorError> {
        let digest = Digest::from_bytes(self.sha256.clone().finalize().into());
        let git = hex(&self.git.clone().finalize());
        let (found, expected) = if digest != download.digest {
            (digest.to_string(), download.digest.to_string())
        } else if let Some(expected) = download.git_sha1.as_ref().filter(|known| **known != git) {
            (git, expected.clone())
        } else {
            return Ok(());
        };
        let resumed = self.resumed > 0;
        self.restart()
            .map_err(|source| MirrorError::file(url, source))?;
        Err(MirrorError::DigestDiffers {
            url: url.to_owned(),
            found,
            expected,
            resumed,
        })
    }
}

/// Git hashes `blob <size>\0` before the bytes.
pub(crate) fn git_hasher(size: u64) -> Sha1 {
    let mut hasher = Sha1::new();
    hasher.update(format!("blob {size}\0"));
    hasher
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}
