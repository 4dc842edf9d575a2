//! A tar of an image: where each member lies, without taking it apart.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use manifest_schema::Digest;

use super::wrong;
use crate::{Cache, Cached, MirrorError};

/// An uncompressed tar of this machine.
pub struct Tarball {
    path: PathBuf,
    name: String,
    members: BTreeMap<String, Member>,
}

#[derive(Clone, Debug)]
enum Member {
    File {
        offset: u64,
        size: u64,
    },
    /// `docker save` wrote a layer that two images share once, and a link for the other.
    Link(String),
}

const MOST_MEMBERS: usize = 100_000;

impl Tarball {
    /// Reads the headers.
    ///
    /// # Errors
    /// When it is no tar, is cut short, or has a name twice or outside of itself.
    pub fn open(path: &Path) -> Result<Self, MirrorError> {
        let name = path.file_name().unwrap_or_default();
        let mut tarball = Self {
            path: path.to_owned(),
            name: name.to_string_lossy().into_owned(),
            members: BTreeMap::new(),
        };
        let failed = |source| MirrorError::file(path, source);
        let mut file = File::open(path).map_err(failed)?;
        let mut start = [0; 4];
        let count = file.read(&mut start).map_err(failed)?;
        if start[..count].starts_with(&[0x1f, 0x8b]) || start == [0x28, 0xb5, 0x2f, 0xfd] {
            return Err(
                tarball.wrong("it is compressed: unpack it with `gunzip` or `unzstd` first")
            );
        }
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        tarball.walk(file, length)?;
        Ok(tarball)
    }

    fn walk(&mut self, file: File, length: u64) -> Result<(), MirrorError> {
        let mut archive = tar::Archive::new(file);
        let entries = archive
            .entries_with_seek()
            .map_err(|error| self.wrong(error))?;
        let mut members = BTreeMap::new();
        for entry in entries {
            let entry = entry.map_err(|error| self.wrong(error))?;
            let kind = entry.header().entry_type();
            if kind.is_dir() || kind.is_pax_global_extensions() {
                continue;
            }
            let bytes = entry.path_bytes().into_owned();
            let name = inside("", &bytes).ok_or_else(|| {
                let shown = String::from_utf8_lossy(&bytes).into_owned();
                self.wrong(format!(
                    "its member `{}` leads out of it",
                    shown.escape_debug()
                ))
            })?;
            let member = if kind.is_file() {
                let (offset, size) = (entry.raw_file_position(), entry.size());
                let end = offset.checked_add(size).filter(|end| *end <= length);
                end.ok_or_else(|| self.wrong(format!("`{name}` goes on behind its end")))?;
                Member::File { offset, size }
            } else if kind.is_symlink() || kind.is_hard_link() {
                let target = entry.link_name_bytes().unwrap_or_default();
                let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
                let folder = if kind.is_symlink() { folder } else { "" };
                let target = inside(folder, &target);
                Member::Link(
                    target
                        .ok_or_else(|| self.wrong(format!("its link `{name}` leads out of it")))?,
                )
            } else {
                return Err(self.wrong(format!("`{name}` is neither a file nor a folder")));
            };
            if members.insert(name.clone(), member).is_some() {
                return Err(self.wrong(format!("it holds `{name}` twice")));
            }
            if members.len() > MOST_MEMBERS {
                return Err(self.wrong(format!("it has more than {MOST_MEMBERS} members")));
            }
        }
        self.members = members;
        Ok(())
    }

    /// Whether it has a file of this name.
    pub(super) fn has(&self, member: &str) -> bool {
        self.find(member).is_ok()
    }

    /// The file that a name stands for, links followed, and its size.
    pub(super) fn resolve(&self, member: &str) -> Result<(String, u64), MirrorError> {
        self.find(member).map(|(name, _, size)| (name, size))
    }

    /// A small file, whole.
    pub(super) fn read(&self, member: &str, limit: u64) -> Result<Vec<u8>, MirrorError> {
        let (_, _, size) = self.find(member)?;
        if size > limit {
            return Err(self.wrong(format!("`{member}` has {size} bytes, more than {limit}")));
        }
        let mut bytes = Vec::new();
        self.reader(member)?
            .read_to_end(&mut bytes)
            .map_err(|source| MirrorError::file(&self.path, source))?;
        Ok(bytes)
    }

    /// The bytes of a file.
    pub(super) fn reader(&self, member: &str) -> Result<impl Read + use<>, MirrorError> {
        let (_, offset, size) = self.find(member)?;
        let failed = |source| MirrorError::file(&self.path, source);
        let mut file = File::open(&self.path).map_err(failed)?;
        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        Ok(file.take(size))
    }

    /// Takes a file into the cache; what it is, its digest says.
    ///
    /// # Errors
    /// When there is no such file, or it cannot be read.
    pub fn copy(&self, member: &str, cache: &Cache) -> Result<Cached, MirrorError> {
        cache.take(&mut self.reader(member)?, u64::MAX)
    }

    fn find(&self, member: &str) -> Result<(String, u64, u64), MirrorError> {
        let absent = || MirrorError::NoMember {
            archive: self.name.clone(),
            member: member.to_owned(),
        };
        let mut name = inside("", member.as_bytes()).ok_or_else(absent)?;
        // A chain of links is short, or a circle.
        for _ in 0..8 {
            match self.members.get(&name).ok_or_else(absent)? {
                Member::File { offset, size } => return Ok((name, *offset, *size)),
                Member::Link(target) => name.clone_from(target),
            }
        }
        Err(self.wrong(format!("the link `{member}` leads to no file")))
    }

    pub(super) fn wrong(&self, problem: impl std::fmt::Display) -> MirrorError {
        wrong(&self.name, problem)
    }
}

/// The name of a blob in a layout.
pub(super) fn blob_member(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A path below `folder`, without `.` and `..`; `None` where it leads out of the tar, or is no text.
fn inside(folder: &str, path: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(path).ok()?;
    if text.starts_with('/') || text.chars().any(|c| c.is_control() || c == '\\') {
        return None;
    }
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}
