//! Writes the archive beside its final place, and moves it there when it is whole and on the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use manifest_schema::PIECE_SIZE;
use report::{Sink, Step};

use crate::build::Members;
use crate::build_error::BuildError;
use crate::layout;
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

/// Writes the archive and returns its size.
pub(crate) fn write(
    members: &Members,
    sources: &[Source],
    out: &Path,
    sink: &dyn Sink,
) -> Result<u64, BuildError> {
    let blobs: u64 = sources.iter().map(|source| span(source.size)).sum();
    let total = members.span() + blobs + 2 * BLOCK;
    let step = Step::start(
        sink,
        "step.bundle-write",
        out.display().to_string(),
        Some(total),
        "bytes",
    );
    let mut archive = Unfinished::create(out)?;
    let failed = archive.failed();
    for (role, name, bytes) in members.each() {
        let writer = &mut archive.writer;
        write_header(writer, name, bytes.len() as u64, role.executable()).map_err(&failed)?;
        writer.write_all(bytes).map_err(&failed)?;
        write_zeros(writer, padding(bytes.len() as u64)).map_err(&failed)?;
    }
    let mut done = members.span();
    for source in sources {
        let name = layout::blob(&source.digest);
        write_header(&mut archive.writer, &name, source.size, false).map_err(&failed)?;
        archive.writer.flush().map_err(&failed)?;
        copy(source, &mut archive, done + BLOCK, &step)?;
        write_zeros(&mut archive.writer, padding(source.size)).map_err(&failed)?;
        done += span(source.size);
    }
    write_zeros(&mut archive.writer, 2 * BLOCK).map_err(&failed)?;
    archive.keep(out)?;
    step.progress(total);
    step.finish();
    Ok(total)
}

/// Copies a blob to offset `at` of the archive, where its writer stands.
///
/// The bytes were hashed before. Where the file may have changed since, what was written is hashed again: what a
/// bundle holds must be what its index says.
fn copy(
    source: &Source,
    archive: &mut Unfinished,
    at: u64,
    step: &Step<'_>,
) -> Result<(), BuildError> {
    let failed = archive.failed();
    let changed = || BuildError::BlobChanged {
        path: source.path.clone(),
    };
    (&source.file).seek(SeekFrom::Start(0)).map_err(&failed)?;
    let mut left = source.size;
    while left > 0 {
        // Between two files the kernel copies by itself, and shares blocks where the filesystem can.
        let run = (&source.file).take(left.min(PIECE_SIZE));
        let copied = io::copy(&mut { run }, archive.writer.get_mut()).map_err(&failed)?;
        if copied == 0 {
            return Err(changed());
        }
        left -= copied;
        step.progress(at + source.size - left);
    }
    if source.may_have_changed() {
        let written = archive.writer.get_ref();
        let found = hash_range(written, at, source.size, |_, _| Ok(())).map_err(&failed)?;
        if found != source.digest {
            return Err(changed());
        }
    }
    Ok(())
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
