//! One name for one folder: links are followed before the folder is there and after.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::{fs, io};

/// `path` without links and `..`, as far as it is there; what is not there yet has no links.
pub(super) fn followed(path: &Path) -> io::Result<PathBuf> {
    let mut rest: Vec<OsString> = parts_of(path);
    let mut found = PathBuf::from("/");
    let mut links = 0;
    while let Some(part) = rest.pop() {
        if part == ".." {
            found.pop();
            continue;
        }
        let next = found.join(&part);
        match fs::read_link(&next) {
            Ok(target) => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(io::Error::other("too many links"));
                }
                if target.is_absolute() {
                    found = PathBuf::from("/");
                }
                rest.extend(parts_of(&target));
            }
            // No link: it is there, or it is not.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::InvalidInput | io::ErrorKind::NotFound
                ) =>
            {
                found = next;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// The parts of a path but its root, the last first.
fn parts_of(path: &Path) -> Vec<OsString> {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(_) | Component::ParentDir => Some(part.as_os_str().to_owned()),
        _ => None,
    });
    let mut parts: Vec<OsString> = parts.collect();
    parts.reverse();
    parts
}

/// As many as the kernel follows.
const MOST_LINKS: usize = 40;
