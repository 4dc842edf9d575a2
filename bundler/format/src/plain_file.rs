//! Opening what must be a regular file: a named pipe would keep whoever reads it, and a device never end.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// Opens `path` to be read, if it is a regular file or a link to one. Waits for nobody.
///
/// # Errors
/// When it cannot be opened, and, as [`io::ErrorKind::InvalidInput`], when it is something else.
pub fn open_plain(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    options.open(path).and_then(plain)
}

/// `file`, if it is a regular file.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`], when it is something else.
pub fn plain(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    let kind = io::ErrorKind::InvalidInput;
    Err(io::Error::new(kind, "not a regular file"))
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn what_is_no_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        std::fs::write(at("file"), "x").unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        std::os::unix::fs::symlink("pipe", at("to-pipe")).unwrap();
        for (name, good) in [
            ("file", true),
            ("link", true),
            ("pipe", false),
            ("to-pipe", false),
            (".", false),
            ("absent", false),
        ] {
            assert_eq!(open_plain(&at(name)).is_ok(), good, "{name}");
        }
        assert!(open_plain(Path::new("/dev/zero")).is_err());
    }
}
