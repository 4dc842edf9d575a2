//! Conversions that are kept, and when they are trusted.
//!
//! ```text
//! <cache>/converted/<hex>/            made from the source with this SHA-256; origin.json has each file's digest and size
//! <cache>/seals/<hex>.json            the files' fingerprints when their digests were last seen to be right
//! <cache>/seals/source-<hex>.json     digest of the source at a path (<hex>: SHA-256 of the path), with its fingerprint
//! ```
//!
//! Every file is hashed once: while it is written, or at its first use after it came by another way (a copied or
//! restored cache). From then on its fingerprint stands for it: device, inode, size, modification time and the kernel's
//! own change time, which no ordinary program can set back. Hashing all of it at each start would cost more than
//! loading it; a size alone, as a check, would miss a rewritten file. `ferry-installer audit` hashes everything, always.
//!
//! Invariant: a folder is used whole or not at all. One that does not match its `origin.json` is made anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{BackendError, output};

/// What a conversion was made from, by what, and what it holds.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Origin {
    pub(crate) format: u32,
    pub(crate) source: String,
    pub(crate) converter: String,
    pub(crate) version: u32,
    pub(crate) files: BTreeMap<String, FileOrigin>,
}

/// Digest (`sha256:<hex>`) and size in bytes of a file.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct FileOrigin {
    pub(crate) digest: String,
    pub(crate) size: u64,
}

/// The name of the file that holds an [`Origin`].
pub(crate) const ORIGIN: &str = "origin.json";

/// What stands in the place of a conversion.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Standing {
    /// Every file is what its digest says.
    Whole,
    /// Nothing, or the work of another version of the converter.
    Absent,
    /// The named file is not what it was.
    Damaged(String),
}

/// What tells a file from a changed or replaced one without reading it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Fingerprint {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Fingerprint {
    fn of(path: &Path) -> io::Result<Self> {
        let found = fs::metadata(path)?;
        Ok(Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

#[derive(Deserialize, PartialEq, Serialize)]
struct Seal {
    format: u32,
    files: BTreeMap<String, Fingerprint>,
}

#[derive(Deserialize, Serialize)]
struct SourceSeal {
    format: u32,
    path: PathBuf,
    fingerprint: Fingerprint,
    digest: String,
}

/// The folder of conversions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cache<'a>(pub(crate) &'a Path);

impl Cache<'_> {
    /// Where the conversion of the source with digest `source` lies.
    pub(crate) fn folder(self, source: &str) -> PathBuf {
        self.0.join("converted").join(hex(source))
    }

    fn seal(self, name: &str) -> PathBuf {
        self.0.join("seals").join(format!("{name}.json"))
    }

    /// Digest and size of a source file: remembered while the file's fingerprint stays the same.
    pub(crate) fn source(self, path: &Path) -> Result<(String, u64), BackendError> {
        let reading = || BackendError::reading(path);
        let path = path.canonicalize().map_err(reading())?;
        let fingerprint = Fingerprint::of(&path).map_err(reading())?;
        let name = Sha256::digest(path.as_os_str().as_encoded_bytes());
        let seal = self.seal(&format!("source-{}", hex_of(&name)));
        if let Some(known) = read::<SourceSeal>(&seal)
            && (known.format, &known.path, &known.fingerprint) == (1, &path, &fingerprint)
        {
            return Ok((known.digest, fingerprint.size));
        }
        let (digest, size) = digest(&path)?;
        keep(
            &seal,
            &SourceSeal {
                format: 1,
                path,
                fingerprint,
                digest: digest.clone(),
            },
        );
        Ok((digest, size))
    }

    /// Judges the conversion of `source` by version `version` of the converter, which makes the files `names`.
    pub(crate) fn standing(self, source: &str, version: u32, names: &[&str]) -> Standing {
        let folder = self.folder(source);
        if !folder.exists() {
            return Standing::Absent;
        }
        let Some(origin) = read::<Origin>(&folder.join(ORIGIN)) else {
            return Standing::Damaged(ORIGIN.to_owned());
        };
        if origin.version != version {
            return Standing::Absent;
        }
        if origin.source != source || !origin.files.keys().eq(names) {
            return Standing::Damaged(ORIGIN.to_owned());
        }
        let seal = self.seal(hex(source));
        let mut now = Seal {
            format: 1,
            files: BTreeMap::new(),
        };
        for name in names.iter().copied().chain([ORIGIN]) {
            match Fingerprint::of(&folder.join(name)) {
                Ok(fingerprint) => now.files.insert(name.to_owned(), fingerprint),
                Err(_) => return Standing::Damaged(name.to_owned()),
            };
        }
        if read::<Seal>(&seal).is_some_and(|then| then == now) {
            return Standing::Whole;
        }
        // The fingerprints were taken first: a change during the hashing shows at the next start.
        for (name, made) in &origin.files {
            let right = digest(&folder.join(name))
                .is_ok_and(|(digest, size)| (digest, size) == (made.digest.clone(), made.size));
            if !right {
                return Standing::Damaged(name.clone());
            }
        }
        keep(&seal, &now);
        Standing::Whole
    }
}

/// Writes a seal. Without one the next start hashes again, so a failure is none.
fn keep(path: &Path, seal: &impl Serialize) {
    let kept = path
        .parent()
        .is_some_and(|home| fs::create_dir_all(home).is_ok());
    if let (true, Ok(value)) = (kept, serde_json::to_value(seal)) {
        let _unsealed = output::json(path, &value);
    }
}

/// A small JSON file, if it is there and as it should be.
fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    const LARGEST: u64 = 1 << 20;
    let mut text = Vec::new();
    let file = File::open(path).ok()?;
    file.take(LARGEST).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

fn hex(digest: &str) -> &str {
    digest.trim_start_matches("sha256:")
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A finished hash as `sha256:<hex>`.
pub(crate) fn finished(hasher: Sha256) -> String {
    format!("sha256:{}", hex_of(&hasher.finalize()))
}

/// SHA-256 as `sha256:<hex>` and size of a file.
pub(crate) fn digest(path: &Path) -> Result<(String, u64), BackendError> {
    let mut file = File::open(path).map_err(BackendError::reading(path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        let read = file
            .read(&mut buffer)
            .map_err(BackendError::reading(path))?;
        if read == 0 {
            return Ok((finished(hasher), size));
        }
        hasher.update(&buffer[..read]);
        size += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "sha256:00ff";
    const NAMES: [&str; 2] = ["a.json", "b.bin"];

    fn made(cache: &Path) -> PathBuf {
        let folder = Cache(cache).folder(SOURCE);
        fs::create_dir_all(&folder).unwrap();
        let mut files = BTreeMap::new();
        for name in NAMES {
            fs::write(folder.join(name), name).unwrap();
            let (digest, size) = digest(&folder.join(name)).unwrap();
            files.insert(name.to_owned(), FileOrigin { digest, size });
        }
        let origin = Origin {
            format: 1,
            source: SOURCE.to_owned(),
            converter: "test".to_owned(),
            version: 3,
            files,
        };
        output::json(&folder.join(ORIGIN), &serde_json::to_value(origin).unwrap()).unwrap();
        folder
    }

    fn standing(cache: &Path) -> Standing {
        Cache(cache).standing(SOURCE, 3, &NAMES)
    }

    #[test]
    fn a_file_of_the_same_size_with_other_bytes_is_found() {
        let home = tempfile::tempdir().unwrap();
        let cache = home.path();
        assert_eq!(standing(cache), Standing::Absent);
        let folder = made(cache);
        assert_eq!(standing(cache), Standing::Whole, "hashed");
        assert_eq!(standing(cache), Standing::Whole, "by its seal");
        assert_eq!(Cache(cache).standing(SOURCE, 4, &NAMES), Standing::Absent);
        fs::write(folder.join("b.bin"), "B.bin").unwrap();
        assert_eq!(standing(cache), Standing::Damaged("b.bin".to_owned()));
        fs::write(folder.join("b.bin"), "b.bin").unwrap();
        assert_eq!(standing(cache), Standing::Whole);
        fs::remove_file(folder.join("a.json")).unwrap();
        assert_eq!(standing(cache), Standing::Damaged("a.json".to_owned()));
    }

    #[test]
    fn a_copied_cache_is_hashed_before_it_is_used() {
        let home = tempfile::tempdir().unwrap();
        let folder = made(home.path());
        assert_eq!(standing(home.path()), Standing::Whole);
        // Replaced by another file of the same size: another inode, even if the times were set back.
        let other = folder.join("other");
        fs::write(&other, "B.bin").unwrap();
        fs::rename(&other, folder.join("b.bin")).unwrap();
        assert_eq!(standing(home.path()), Standing::Damaged("b.bin".to_owned()));
    }

    #[test]
    fn nonsense_in_place_of_a_record_is_damage() {
        let home = tempfile::tempdir().unwrap();
        let folder = made(home.path());
        let right = fs::read_to_string(folder.join(ORIGIN)).unwrap();
        for wrong in [
            String::new(),
            "[]".to_owned(),
            right.replace("00ff", "00fe"),
            right.replace("a.json", "../x"),
            right[..right.len() / 2].to_owned(),
        ] {
            fs::write(folder.join(ORIGIN), wrong).unwrap();
            assert_eq!(standing(home.path()), Standing::Damaged(ORIGIN.to_owned()));
        }
    }

    #[test]
    fn a_source_is_hashed_again_when_it_changes() {
        let home = tempfile::tempdir().unwrap();
        let source = home.path().join("m.gguf");
        let cache = home.path().join("cache");
        fs::write(&source, "one").unwrap();
        let first = Cache(&cache).source(&source).unwrap();
        assert_eq!(Cache(&cache).source(&source).unwrap(), first);
        assert_eq!(first, digest(&source).unwrap());
        fs::write(&source, "two").unwrap();
        assert_eq!(
            Cache(&cache).source(&source).unwrap(),
            digest(&source).unwrap()
        );
    }
}
