//! What a `.deb` says of itself: `control` in `control.tar`, in an archive of `ar`.

use std::io::Read;

use crate::error::PackageError;
use crate::unpacked::unpacked;

/// Reads the control file of a package called `file`.
///
/// # Errors
/// When it is cut, or not a Debian package.
pub fn control(file: &str, source: &mut dyn Read) -> Result<String, PackageError> {
    let wrong = |problem: &str| PackageError::package(file, problem);
    let failed = |error: std::io::Error| PackageError::package(file, error);
    let mut magic = [0; 8];
    source.read_exact(&mut magic).map_err(failed)?;
    if &magic != b"!<arch>\n" {
        return Err(wrong("it is not a Debian package"));
    }
    // `debian-binary` and `control.tar` come first.
    for _ in 0..FIRST_MEMBERS {
        let mut header = [0; 60];
        source.read_exact(&mut header).map_err(failed)?;
        let text = |range: std::ops::Range<usize>| {
            String::from_utf8_lossy(&header[range]).trim().to_owned()
        };
        let name = text(0..16).trim_end_matches('/').to_owned();
        let size: u64 = text(48..58)
            .parse()
            .map_err(|_| wrong("a member has no size"))?;
        if size > LARGEST_CONTROL {
            return Err(wrong("its control.tar is too large"));
        }
        let mut member = Vec::new();
        source
            .take(size + size % 2)
            .read_to_end(&mut member)
            .map_err(failed)?;
        if (member.len() as u64) < size {
            return Err(wrong("it ends in the middle"));
        }
        member.truncate(size as usize);
        if name.starts_with("control.tar") {
            return from_tar(file, &name, &member);
        }
    }
    Err(wrong("it has no control.tar"))
}

fn from_tar(file: &str, name: &str, packed: &[u8]) -> Result<String, PackageError> {
    let failed = |error: std::io::Error| PackageError::package(file, error);
    let source = unpacked(name, packed, LARGEST_CONTROL).map_err(failed)?;
    let mut archive = tar::Archive::new(source);
    for entry in archive.entries().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path_bytes();
        if path.as_ref() != b"./control" && path.as_ref() != b"control" {
            continue;
        }
        let mut text = String::new();
        let read = entry.take(LARGEST_TEXT).read_to_string(&mut text);
        let count = read.map_err(failed)?;
        if count as u64 == LARGEST_TEXT {
            break;
        }
        return Ok(text);
    }
    Err(PackageError::package(
        file,
        "it has no control file that can be read",
    ))
}

const FIRST_MEMBERS: usize = 4;
/// Scripts, digests of files, templates of questions in forty languages.
const LARGEST_CONTROL: u64 = 64 << 20;
const LARGEST_TEXT: u64 = 1 << 20;
