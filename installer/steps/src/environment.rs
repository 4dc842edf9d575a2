//! Which files of a Python environment come from signed wheels, and which uv made on site.
//!
//! A wheel lists its files with their digests in `<name>.dist-info/RECORD`. The wheel is signed, so that list
//! is as good as signed. What uv writes besides (scripts with a first line for this machine, its own notes)
//! is pinned in `release.json`, whose digest the log keeps.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use manifest_schema::{Digest, PythonEnvironment};

use crate::disk::DiskError;
use crate::store::hash_file;

/// What an environment's files must be, by their path below `env/`.
pub(crate) struct FromWheels {
    /// Digest of the file, and the wheel it comes from.
    pub(crate) files: BTreeMap<String, (Digest, String)>,
}

impl FromWheels {
    /// Reads the lists of all wheels of `environment`, which lie below `wheels`.
    pub(crate) fn read(wheels: &Path, environment: &PythonEnvironment) -> Result<Self, DiskError> {
        let mut files = BTreeMap::new();
        for wheel in &environment.wheels {
            let path = wheels.join(wheel.path.as_str());
            let record = record_of(&path).map_err(DiskError::of("read", &path))?;
            for line in record.lines() {
                if let Some((member, digest)) = parse_line(line)
                    && let Some(place) = place_of(&member, &environment.version)
                {
                    files.insert(place, (digest, wheel.path.to_string()));
                }
            }
        }
        Ok(Self { files })
    }

    /// Digests of the files below `env` that no wheel brought, by their path in it.
    pub(crate) fn made_on_site(&self, env: &Path) -> Result<BTreeMap<String, Digest>, DiskError> {
        let mut others = all_files(env)?;
        others.retain(|path, _| !self.files.contains_key(path));
        Ok(others)
    }
}

/// Every file and link below `folder` with its digest; a link's is that of the text it holds.
fn all_files(folder: &Path) -> Result<BTreeMap<String, Digest>, DiskError> {
    let mut found = BTreeMap::new();
    for path in walk(folder)? {
        let digest = digest_of(&folder.join(&path))?;
        found.insert(path, digest);
    }
    Ok(found)
}

/// Digest of a file, or of what a link says.
pub(crate) fn digest_of(path: &Path) -> Result<Digest, DiskError> {
    let kind = fs::symlink_metadata(path).map_err(DiskError::of("read", path))?;
    if kind.is_symlink() {
        let target = fs::read_link(path).map_err(DiskError::of("read", path))?;
        return Ok(Digest::of(
            format!("link to {}", target.display()).as_bytes(),
        ));
    }
    hash_file(path)
}

/// Paths of everything below `folder` that is not a folder, in order. Follows no link; a folder that is not
/// there is empty.
pub(crate) fn walk(folder: &Path) -> Result<Vec<String>, DiskError> {
    let mut found = Vec::new();
    let mut open = vec![String::new()];
    while let Some(inside) = open.pop() {
        let here = folder.join(&inside);
        let entries = match fs::read_dir(&here) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound && inside.is_empty() => {
                return Ok(found);
            }
            Err(error) => return Err(DiskError::of("list", &here)(error)),
        };
        for entry in entries {
            let entry = entry.map_err(DiskError::of("list", &here))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if inside.is_empty() {
                name
            } else {
                format!("{inside}/{name}")
            };
            let kind = entry.file_type().map_err(DiskError::of("read", &here))?;
            if kind.is_dir() {
                open.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn record_of(wheel: &Path) -> io::Result<String> {
    let mut archive = zip::ZipArchive::new(File::open(wheel)?)?;
    let name = archive
        .file_names()
        .find(|name| name.ends_with(".dist-info/RECORD") && name.matches('/').count() == 1)
        .map(str::to_owned)
        .ok_or_else(|| io::Error::other("the wheel has no RECORD"))?;
    let mut text = String::new();
    archive
        .by_name(&name)?
        .take(LONGEST_RECORD)
        .read_to_string(&mut text)?;
    Ok(text)
}

/// A line of RECORD: `path,sha256=<base64>,size`, the path in quotes where it holds a comma.
fn parse_line(line: &str) -> Option<(String, Digest)> {
    let (path, rest) = if let Some(quoted) = line.strip_prefix('"') {
        let end = quoted.find("\",")?;
        (quoted[..end].replace("\"\"", "\""), &quoted[end + 2..])
    } else {
        let (path, rest) = line.split_once(',')?;
        (path.to_owned(), rest)
    };
    let digest = rest.split(',').next()?.strip_prefix("sha256=")?;
    let bytes = URL_SAFE_NO_PAD.decode(digest.trim_end_matches('=')).ok()?;
    Some((path, Digest::from_bytes(bytes.try_into().ok()?)))
}

/// Where an installer puts a member of a wheel, below the environment. `None` for scripts, which get a first
/// line for this machine, and for headers, whose folder is the installer's choice.
fn place_of(member: &str, version: &str) -> Option<String> {
    let packages = format!("lib/python{version}/site-packages");
    let Some((first, rest)) = member.split_once('/') else {
        return Some(format!("{packages}/{member}"));
    };
    if first.strip_suffix(".data").is_none() {
        return Some(format!("{packages}/{member}"));
    }
    match rest.split_once('/')? {
        ("purelib" | "platlib", rest) => Some(format!("{packages}/{rest}")),
        ("data", rest) => Some(rest.to_owned()),
        _ => None,
    }
}

const LONGEST_RECORD: u64 = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_lines_are_read_and_others_are_not() {
        let digest = Digest::of(b"x");
        let text = URL_SAFE_NO_PAD.encode(
            (0..32)
                .map(|at| u8::from_str_radix(&digest.hex()[2 * at..2 * at + 2], 16).unwrap())
                .collect::<Vec<_>>(),
        );
        for (line, expected) in [
            (format!("a/b.py,sha256={text},1"), Some("a/b.py")),
            (format!("\"a,b.py\",sha256={text},1"), Some("a,b.py")),
            ("a.dist-info/RECORD,,".to_owned(), None),
            ("a.py,md5=00,1".to_owned(), None),
            ("a.py,sha256=AAAA,1".to_owned(), None),
            (String::new(), None),
        ] {
            let found = parse_line(&line);
            assert_eq!(
                found,
                expected.map(|path| (path.to_owned(), digest)),
                "{line}"
            );
        }
    }

    #[test]
    fn members_go_where_the_wheel_standard_says() {
        for (member, place) in [
            ("six.py", Some("lib/python3.11/site-packages/six.py")),
            ("a/b.py", Some("lib/python3.11/site-packages/a/b.py")),
            (
                "a-1.data/purelib/c.py",
                Some("lib/python3.11/site-packages/c.py"),
            ),
            ("a-1.data/data/share/x", Some("share/x")),
            ("a-1.data/scripts/run", None),
        ] {
            assert_eq!(place_of(member, "3.11").as_deref(), place, "{member}");
        }
    }
}
