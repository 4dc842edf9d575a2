//! Writes the archive beside its final place, and moves it there when it is whole and on the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use manifest_schema::{Blob, Index};
use rustix::fs::{Advice, fadvise};

use crate::build::Members;
use crate::build_error::BuildError;
use crate::direct::{Direct, make_room, write_all_at};
use crate::layout::{self, Role};
use crate::share::kind_of;
use crate::ustar::{BLOCK, Header, padding};

/// A file that grows under another name. Dropped before [`Unfinished::keep`], it is removed.
struct Unfinished {
    path: PathBuf,
    file: File,
    /// The file once more, for what need not go through the cache.
    direct: Option<Direct>,
    kept: bool,
}

impl Unfinished {
    fn create(out: &Path) -> Result<Self, BuildError> {
        let mut path = out.as_os_str().to_owned();
        path.push(".partial");
        let path = PathBuf::from(path);
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .and_then(|file| {
                // Two builds of one bundle must not write into each other's file.
                file.try_lock()?;
                file.set_len(0)?;
                Ok(file)
            });
        let file = opened.map_err(|source| BuildError::Output {
            path: path.clone(),
            source,
        })?;
        Ok(Self {
            path,
            file,
            direct: None,
            kept: false,
        })
    }

    fn failed(&self) -> impl Fn(io::Error) -> BuildError + use<> {
        let path = self.path.clone();
        move |source| BuildError::Output {
            path: path.clone(),
            source,
        }
    }

    /// Syncs the file and gives it its name.
    fn keep(mut self, out: &Path) -> Result<(), BuildError> {
        let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
        self.file
            .sync_all()
            .and_then(|()| fs::rename(&self.path, out))
            .map_err(self.failed())?;
        self.kept = true;
        File::open(folder.unwrap_or(Path::new(".")))
            .and_then(|folder| folder.sync_all())
            .map_err(self.failed())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Where a volume goes: beside `out`, with its number before the ending.
pub(crate) fn volume_path(out: &Path, number: u32) -> PathBuf {
    let name = out.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.strip_suffix(".ferry").unwrap_or(&name);
    out.with_file_name(format!("{stem}.vol{number:03}.ferry"))
}

/// A bundle that is being written, in one file or in volumes. Either all appear or none does.
pub(crate) struct Archive {
    out: PathBuf,
    volumes: Vec<(Unfinished, PathBuf)>,
}

impl Archive {
    /// Makes the files, empty.
    pub(crate) fn create(out: &Path, volumes: u32) -> Result<Self, BuildError> {
        let mut archive = Self {
            out: out.to_owned(),
            volumes: Vec::new(),
        };
        for number in 1..=volumes {
            let path = match volumes {
                1 => out.to_owned(),
                _ => volume_path(out, number),
            };
            archive.volumes.push((Unfinished::create(&path)?, path));
        }
        Ok(archive)
    }

    /// What a person calls it.
    pub(crate) fn name(&self) -> String {
        self.out.display().to_string()
    }

    /// Whether blobs may be written in any order.
    ///
    /// Where a file system has no holes, bytes far behind the end are paid for with zeros before them: there, one blob
    /// is written after the other.
    pub(crate) fn has_holes(&self) -> bool {
        let first = self.volumes.first();
        let kind = first.and_then(|(file, _)| kind_of(&file.file));
        kind.is_none_or(|kind| !WITHOUT_HOLES.contains(&kind))
    }

    /// Makes room for the blobs, so that they may go straight to the disk, where the file system allows that. Where blocks will
    /// be `shared`, the room is only named.
    pub(crate) fn expect(&mut self, blobs: &[Blob], shared: bool) -> Result<(), BuildError> {
        let mut ends = vec![0; self.volumes.len()];
        for run in blobs.iter().flat_map(runs) {
            let end = &mut ends[run.volume as usize - 1];
            *end = run.offset.saturating_add(run.size).max(*end);
        }
        for ((volume, _), end) in self.volumes.iter_mut().zip(ends) {
            volume.direct = Direct::writing(&volume.file);
            if volume.direct.is_some() {
                let made = if shared {
                    volume.file.set_len(end)
                } else {
                    make_room(&volume.file, end)
                };
                made.map_err(volume.failed())?;
            }
        }
        Ok(())
    }

    /// Whether what is large goes past the cache.
    pub(crate) fn is_direct(&self) -> bool {
        self.volumes.iter().all(|(file, _)| file.direct.is_some())
    }

    /// Writes bytes that `run` holds from the blob's stored byte `at` on: of a `large` blob past the cache, where that is
    /// possible.
    pub(crate) fn write(
        &self,
        run: &Run<'_>,
        at: u64,
        bytes: &[u8],
        large: bool,
    ) -> io::Result<()> {
        let (file, offset) = self.place(run, at);
        let direct = self.of(run.volume).direct.as_ref();
        write_all_at(file, direct.filter(|_| large), bytes, offset)
    }

    /// The file of a volume, counted from 1.
    pub(crate) fn file(&self, volume: u32) -> &File {
        &self.of(volume).file
    }

    /// Where the blob's stored byte `at`, which `run` holds, is.
    pub(crate) fn place(&self, run: &Run<'_>, at: u64) -> (&File, u64) {
        (self.file(run.volume), run.offset + at - run.start)
    }

    /// Has the disk begin with bytes that `run` holds and that were written, from stored byte `from` to `to`. What waits
    /// for the end is waited for when there is nothing else to do.
    pub(crate) fn begin(&self, run: &Run<'_>, from: u64, to: u64) {
        let (file, offset) = self.place(run, from);
        if let Some(size) = NonZeroU64::new(to - from) {
            // Linux takes this as a hint to write what is dirty. Where it is none, nothing is lost.
            let _ = fadvise(file, offset, Some(size), Advice::DontNeed);
        }
    }

    /// Makes the error of a volume; for `map_err`.
    pub(crate) fn failed(&self, volume: u32) -> impl Fn(io::Error) -> BuildError + use<> {
        self.of(volume).failed()
    }

    fn of(&self, volume: u32) -> &Unfinished {
        // A layout has as many volumes as it says.
        &self.volumes[volume as usize - 1].0
    }

    /// Writes everything but the blobs' bytes, which are there, and gives the files their names. Returns these, and the
    /// bytes of all.
    pub(crate) fn finish(
        self,
        members: &Members,
        index: &Index,
    ) -> Result<(Vec<PathBuf>, u64), BuildError> {
        let mut total = 0;
        for (number, (volume, _)) in (1..).zip(&self.volumes) {
            let mut end = members.span();
            let written =
                write_members(&volume.file, members, number, index.volumes).and_then(|()| {
                    let runs = index.blobs.iter().flat_map(runs);
                    for run in runs.filter(|run| run.volume == number) {
                        write_headers(&volume.file, &run, end)?;
                        end = run.offset + run.size + padding(run.size);
                    }
                    // What nothing was written to is zero: fillers, padding, and the end.
                    volume.file.set_len(end + 2 * BLOCK)
                });
            written.map_err(volume.failed())?;
            total += end + 2 * BLOCK;
        }
        let mut paths = Vec::new();
        for (volume, path) in self.volumes {
            volume.keep(&path)?;
            paths.push(path);
        }
        Ok((paths, total))
    }
}

/// FAT and exFAT; `linux/magic.h`.
const WITHOUT_HOLES: [u32; 2] = [0x4D44, 0x2011_BAB0];

/// A member that holds stored bytes of a blob.
pub(crate) struct Run<'a> {
    member: &'a str,
    pub(crate) volume: u32,
    /// Of its first byte in the volume.
    pub(crate) offset: u64,
    /// First of the blob's stored bytes.
    pub(crate) start: u64,
    pub(crate) size: u64,
}

/// Where the stored bytes of a blob lie, in their order.
pub(crate) fn runs(blob: &Blob) -> Vec<Run<'_>> {
    if blob.parts.is_empty() {
        return vec![Run {
            member: blob.member.as_str(),
            volume: blob.volume,
            offset: blob.offset,
            start: 0,
            size: blob.stored_size(),
        }];
    }
    let mut start = 0;
    let mut list = Vec::new();
    for part in &blob.parts {
        list.push(Run {
            member: part.member.as_str(),
            volume: part.volume,
            offset: part.offset,
            start,
            size: part.size.0,
        });
        start += part.size.0;
    }
    list
}

/// Writes everything that stands before the blobs.
fn write_members(file: &File, members: &Members, volume: u32, of: u32) -> io::Result<()> {
    let mut out = io::BufWriter::with_capacity(1 << 20, file);
    for (role, name, bytes) in members.each() {
        let own = match role {
            Role::Volume => layout::volume(volume, of),
            _ => Vec::new(),
        };
        let bytes = if own.is_empty() { bytes } else { &own };
        let size = bytes.len() as u64;
        out.write_all(&header(name, size, role.executable()))?;
        out.write_all(bytes)?;
        out.write_all(&[0; BLOCK as usize][..padding(size) as usize])?;
    }
    out.flush()
}

/// Writes the header of content, and of the filler before it where it does not follow what ends `at`.
fn write_headers(file: &File, run: &Run<'_>, at: u64) -> io::Result<()> {
    let gap = run.offset - BLOCK - at;
    if gap > 0 {
        let name = layout::filler(run.offset);
        file.write_all_at(&header(&name, gap - BLOCK, false), at)?;
    }
    let header = header(run.member, run.size, false);
    file.write_all_at(&header, run.offset - BLOCK)
}

fn header(name: &str, size: u64, executable: bool) -> [u8; BLOCK as usize] {
    let header = Header {
        name: name.to_owned(),
        size,
        executable,
    };
    header.encode()
}

/// Bytes that a member of `size` bytes takes: header, bytes, padding.
pub(crate) fn span(size: u64) -> u64 {
    BLOCK + size + padding(size)
}
