//! Writes the archive beside its final place, and moves it there when it is whole and on the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use manifest_schema::{Blob, Digest, PIECE_SIZE};
use report::{Sink, Step};

use crate::build::{Layout, Members, Payload};
use crate::build_error::BuildError;
use crate::layout::{self, Role};
use crate::parallel::hash_range;
use crate::source::Source;
use crate::ustar::{BLOCK, Header, padding};

/// A file that grows under another name. Dropped before [`Unfinished::keep`], it is removed.
struct Unfinished {
    path: PathBuf,
    writer: BufWriter<File>,
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
            writer: BufWriter::with_capacity(1 << 20, file),
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
        self.writer
            .flush()
            .and_then(|()| self.writer.get_ref().sync_all())
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

/// Writes the archive, or its volumes; returns their paths and the bytes of all. Either all appear or none does.
pub(crate) fn write(
    members: &Members,
    payload: &Payload,
    layout: &Layout,
    out: &Path,
    sink: &dyn Sink,
) -> Result<(Vec<PathBuf>, u64), BuildError> {
    let mut ends = vec![members.span(); layout.volumes as usize];
    for run in layout.blobs.iter().flat_map(runs) {
        ends[run.volume as usize - 1] = run.offset + run.size + padding(run.size);
    }
    let total = ends.iter().map(|end| end + 2 * BLOCK).sum();
    let step = Step::start(
        sink,
        "step.bundle-write",
        out.display().to_string(),
        Some(total),
        "bytes",
    );
    let mut done = 0;
    let mut finished = Vec::new();
    for number in 1..=layout.volumes {
        let path = match layout.volumes {
            1 => out.to_owned(),
            _ => volume_path(out, number),
        };
        let mut archive = Unfinished::create(&path)?;
        archive.members(members, number, layout.volumes)?;
        let mut at = members.span();
        for (blob, content) in layout.blobs.iter().enumerate() {
            for run in runs(content).into_iter().filter(|run| run.volume == number) {
                archive.fill(at, run.offset)?;
                archive.content(payload, blob, &run, &step, done + run.offset)?;
                at = run.offset + run.size + padding(run.size);
            }
        }
        write_zeros(&mut archive.writer, 2 * BLOCK).map_err(archive.failed())?;
        done += at + 2 * BLOCK;
        finished.push((archive, path));
    }
    let mut paths = Vec::new();
    for (archive, path) in finished {
        archive.keep(&path)?;
        paths.push(path);
    }
    step.progress(total);
    step.finish();
    Ok((paths, total))
}

/// A member that holds stored bytes of a blob.
struct Run<'a> {
    member: &'a str,
    volume: u32,
    /// Of its first byte in the volume.
    offset: u64,
    /// First of the blob's stored bytes.
    start: u64,
    size: u64,
    digest: Digest,
}

fn runs(blob: &Blob) -> Vec<Run<'_>> {
    if blob.parts.is_empty() {
        return vec![Run {
            member: blob.member.as_str(),
            volume: blob.volume,
            offset: blob.offset,
            start: 0,
            size: blob.stored_size(),
            digest: blob.digest,
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
            digest: part.digest,
        });
        start += part.size.0;
    }
    list
}

impl Unfinished {
    /// Writes everything that stands before the blobs.
    fn members(&mut self, members: &Members, volume: u32, of: u32) -> Result<(), BuildError> {
        let failed = self.failed();
        for (role, name, bytes) in members.each() {
            let own = match role {
                Role::Volume => layout::volume(volume, of),
                _ => Vec::new(),
            };
            let bytes = if own.is_empty() { bytes } else { &own };
            let size = bytes.len() as u64;
            write_header(&mut self.writer, name, size, role.executable()).map_err(&failed)?;
            self.writer.write_all(bytes).map_err(&failed)?;
            write_zeros(&mut self.writer, padding(size)).map_err(&failed)?;
        }
        Ok(())
    }

    /// Writes a filler where the content that begins at `offset` does not follow what ends `at`.
    fn fill(&mut self, at: u64, offset: u64) -> Result<(), BuildError> {
        let failed = self.failed();
        let gap = offset - BLOCK - at;
        if gap == 0 {
            return Ok(());
        }
        let name = layout::filler(offset);
        write_header(&mut self.writer, &name, gap - BLOCK, false).map_err(&failed)?;
        write_zeros(&mut self.writer, gap - BLOCK).map_err(failed)
    }

    /// Writes one member with stored bytes of blob number `blob`. `done` is what was written before, in all volumes.
    fn content(
        &mut self,
        payload: &Payload,
        blob: usize,
        run: &Run<'_>,
        step: &Step<'_>,
        done: u64,
    ) -> Result<(), BuildError> {
        let failed = self.failed();
        write_header(&mut self.writer, run.member, run.size, false).map_err(&failed)?;
        let content = &payload.contents[blob];
        if content.stored.is_none() {
            self.copy(&payload.sources[blob], run, step, done)?;
        }
        for piece in content.pieces_in(run.start, run.size) {
            let out = &mut self.writer;
            let written = payload
                .frames
                .read(content, piece, |bytes| out.write_all(bytes));
            written.map_err(&failed)?;
            payload.frames.release(content, piece);
        }
        write_zeros(&mut self.writer, padding(run.size)).map_err(&failed)
    }

    /// Copies bytes of a blob as they are.
    ///
    /// They were hashed before. Where the file may have changed since, what was written is hashed again: what a
    /// bundle holds must be what its index says.
    fn copy(
        &mut self,
        source: &Source,
        run: &Run<'_>,
        step: &Step<'_>,
        done: u64,
    ) -> Result<(), BuildError> {
        let failed = self.failed();
        let changed = || BuildError::BlobChanged {
            path: source.path.clone(),
        };
        self.writer.flush().map_err(&failed)?;
        let mut file = &source.file;
        file.seek(SeekFrom::Start(run.start)).map_err(&failed)?;
        let mut left = run.size;
        while left > 0 {
            // Between two files the kernel copies by itself, and shares blocks where the filesystem can.
            let mut some = file.take(left.min(PIECE_SIZE));
            let copied = io::copy(&mut some, self.writer.get_mut()).map_err(&failed)?;
            if copied == 0 {
                return Err(changed());
            }
            left -= copied;
            step.progress(done + run.size - left);
        }
        if source.may_have_changed() {
            let written = self.writer.get_ref();
            let found =
                hash_range(written, run.offset, run.size, |_, _| Ok(())).map_err(&failed)?;
            if found != run.digest {
                return Err(changed());
            }
        }
        Ok(())
    }
}

fn write_header(out: &mut impl Write, name: &str, size: u64, executable: bool) -> io::Result<()> {
    let header = Header {
        name: name.to_owned(),
        size,
        executable,
    };
    out.write_all(&header.encode())
}

fn write_zeros(out: &mut impl Write, count: u64) -> io::Result<()> {
    io::copy(&mut io::repeat(0).take(count), out).map(drop)
}

/// Bytes that a member of `size` bytes takes: header, bytes, padding.
pub(crate) fn span(size: u64) -> u64 {
    BLOCK + size + padding(size)
}
