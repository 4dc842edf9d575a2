//! Files that appear whole or not at all.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::error::InputError;

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
