//! Files that appear whole or not at all, and how far they have come.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use report::Step;

use crate::error::InputError;

/// Tells a step how many bytes went through.
pub(crate) struct Counted<'a, W> {
    pub(crate) out: W,
    pub(crate) step: &'a Step<'a>,
    /// Bytes of the step so far.
    pub(crate) done: &'a mut u64,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        *self.done += count as u64;
        self.step.progress(*self.done);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Writes `bytes` beside `path`, syncs them and moves them there: an interrupted run leaves what was there before.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), InputError> {
    let failed = InputError::file(path);
    write(path, bytes).map_err(failed)
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    // A pipe or a device, such as /dev/stdout, is written to; a rename would put a file in its place.
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return File::create(path)?.write_all(bytes);
    }
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    let folder = parent.unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".ferry-")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(folder)?.sync_all()
}

/// Writes a file that must not be there yet: no key is ever overwritten.
pub(crate) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), InputError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(|source| match source.kind() {
            std::io::ErrorKind::AlreadyExists => InputError::Exists {
                path: path.to_owned(),
            },
            _ => InputError::file(path)(source),
        })?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(InputError::file(path))
}
