//! The folders that the page may see, and the names that may be put below them.
//!
//! ```text
//! models      --models, else the release's models/      read
//! datasets    --datasets (data), and the release's      read; uploads go into the first
//! runs        --runs (runs)                             a folder a run
//! ```

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::error::WebError;
use crate::home::Home;
use crate::native::WebArguments;

/// Bytes of a name.
const LONGEST_NAME: usize = 96;

/// The folders that the page may see.
pub(super) struct Folders {
    pub(super) models: Option<PathBuf>,
    /// Where data is uploaded to. It may not exist yet.
    pub(super) data: PathBuf,
    /// Data of the release.
    pub(super) installed_data: Option<PathBuf>,
    pub(super) runs: PathBuf,
}

impl Folders {
    /// Settles them, and makes the one for runs: whether it can be written to is found out at once.
    pub(super) fn settle(arguments: &WebArguments, home: &Home) -> Result<Self, WebError> {
        let installed = |name: &str| {
            let folder = home.release.as_ref()?.join(name);
            folder.is_dir().then_some(folder)
        };
        let runs = &arguments.runs;
        let write = |source| WebError::Write {
            path: runs.clone(),
            source,
        };
        fs::create_dir_all(runs).map_err(write)?;
        let real = |path: &Path| {
            real(path).map_err(|source| WebError::Read {
                path: path.to_owned(),
                source,
            })
        };
        let models = arguments.models.clone().or_else(|| installed("models"));
        Ok(Self {
            models: models.as_deref().map(real).transpose()?,
            data: real(&arguments.datasets)?,
            installed_data: installed("datasets").as_deref().map(real).transpose()?,
            runs: real(runs)?,
        })
    }

    /// The folder of an existing run.
    pub(super) fn run(&self, name: &str) -> Result<PathBuf, WebError> {
        let folder = self.new_run(name)?;
        let found = fs::symlink_metadata(&folder);
        if found.is_ok_and(|found| found.is_dir()) {
            return Ok(folder);
        }
        Err(WebError::NoRun {
            name: name.to_owned(),
        })
    }

    /// The folder that a run of this name has, or would have.
    pub(super) fn new_run(&self, name: &str) -> Result<PathBuf, WebError> {
        Ok(self.runs.join(checked(name)?))
    }

    /// Whether a path, relative ones seen from the runs, lies below one of the folders wherever its links lead.
    pub(super) fn hold(&self, path: &Path) -> bool {
        let Ok(path) = real(&self.runs.join(path)) else {
            return false;
        };
        let shelves = [&self.models, &self.installed_data];
        let shelves = shelves.into_iter().flatten();
        let mut shelves = shelves.chain([&self.data, &self.runs]);
        shelves.any(|shelf| path.starts_with(shelf))
    }
}

/// A path without links, as far as it exists; what does not may not climb.
fn real(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let climbs = path.components().any(|part| part == Component::ParentDir);
    let mut behind = Vec::new();
    let mut there = path.as_path();
    loop {
        match there.canonicalize() {
            Ok(found) => {
                return Ok(behind
                    .iter()
                    .rev()
                    .fold(found, |path, part| path.join(part)));
            }
            // A link that leads nowhere could lead somewhere later.
            Err(error) if climbs || there.is_symlink() => return Err(error),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (Some(parent), Some(name)) = (there.parent(), there.file_name()) else {
                    return Err(error);
                };
                behind.push(name.to_owned());
                there = parent;
            }
            Err(error) => return Err(error),
        }
    }
}

/// A name for one folder or file: letters of any language, digits, `-`, `_` and `.`, which does not come first.
pub(super) fn checked(name: &str) -> Result<&str, WebError> {
    let right = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    let fits = (1..=LONGEST_NAME).contains(&name.len()) && !name.starts_with(['.', '-']);
    if fits && name.chars().all(right) {
        return Ok(name);
    }
    let shown: String = name.chars().take(LONGEST_NAME).collect();
    Err(WebError::BadName { name: shown })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn names_stay_in_their_folder() {
        for (name, right) in [
            ("first-run", true),
            ("客服_2.1", true),
            ("", false),
            (".", false),
            ("..", false),
            (".hidden", false),
            ("-rf", false),
            ("a/b", false),
            ("a\\b", false),
            ("a\0b", false),
            ("a b", false),
            ("a\u{202e}b", false),
            (&"x".repeat(97), false),
        ] {
            assert_eq!(checked(name).is_ok(), right, "{name:?}");
        }
    }

    #[test]
    fn what_lies_outside_is_not_held_however_it_is_reached() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().canonicalize().unwrap();
        for name in ["runs/one", "data", "models/m", "secret"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        symlink(root.join("secret"), root.join("runs/link")).unwrap();
        symlink(root.join("nowhere"), root.join("runs/dangling")).unwrap();
        let folders = Folders {
            models: Some(root.join("models")),
            data: root.join("data"),
            installed_data: None,
            runs: root.join("runs"),
        };
        let secret = root.join("secret").display().to_string();
        for (path, held) in [
            ("one", true),
            ("one/checkpoint-3", true),
            ("../data", true),
            ("../data/new.json", false),
            ("new/deeper", true),
            (&root.join("models/m").display().to_string(), true),
            (&secret, false),
            ("link", false),
            ("link/x", false),
            ("dangling", false),
            ("../secret", false),
            ("one/../../secret", false),
            ("none/../../secret", false),
            ("/etc/passwd", false),
            ("/", false),
        ] {
            assert_eq!(folders.hold(Path::new(path)), held, "{path}");
        }
        assert!(folders.run("one").is_ok());
        assert!(folders.run("link").is_err());
        assert!(folders.run("none").is_err());
    }
}
