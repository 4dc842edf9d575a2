//! Where an installed release lies, and what of it this program uses.
//!
//! ```text
//! <prefix>/releases/<release>/            FERRY_HOME
//!     backend/bin/ferry-runtime           this program
//!     models/<org>/<name>/  datasets/
//! <prefix>/cache/                         FERRY_CACHE
//! ```

use std::env;
use std::path::{Path, PathBuf};

/// The folders that this program looks in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Home {
    /// The release, if this program belongs to one or was told of one.
    pub(crate) release: Option<PathBuf>,
    /// Where conversions are kept.
    pub(crate) cache: PathBuf,
}

impl Home {
    /// Settles the folders from the environment and the place of the program.
    pub(crate) fn find() -> Self {
        let folder = |name: &str| {
            env::var_os(name)
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
        };
        Self::settle(
            folder("FERRY_HOME"),
            folder("FERRY_CACHE"),
            env::current_exe().ok(),
            &folder("XDG_CACHE_HOME")
                .or_else(|| folder("HOME").map(|home| home.join(".cache")))
                .unwrap_or_else(env::temp_dir),
        )
    }

    fn settle(
        home: Option<PathBuf>,
        cache: Option<PathBuf>,
        program: Option<PathBuf>,
        own_cache: &Path,
    ) -> Self {
        let around = program
            .and_then(|path| path.ancestors().nth(3).map(Path::to_owned))
            .filter(|release| release.join("models").is_dir());
        let release = home.or(around);
        let prefix = release
            .as_ref()
            .and_then(|release| release.parent())
            .filter(|parent| parent.ends_with("releases"))
            .and_then(Path::parent);
        let cache = cache.unwrap_or_else(|| {
            prefix.map_or_else(|| own_cache.join("ferry"), |prefix| prefix.join("cache"))
        });
        Self { release, cache }
    }

    /// The model that `name` means: a path, or an installed model.
    pub(crate) fn model(&self, name: &str) -> Option<PathBuf> {
        let path = PathBuf::from(name);
        if path.exists() {
            return Some(path);
        }
        let climbs = name.split('/').any(|part| part.is_empty() || part == "..");
        let release = self.release.as_ref().filter(|_| !climbs)?;
        Some(release.join("models").join(name)).filter(|path| path.exists())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installed_release_keeps_its_cache_at_the_prefix() {
        let home = |release: &str| {
            Home::settle(
                Some(release.into()),
                None,
                None,
                Path::new("/home/a/.cache"),
            )
            .cache
        };
        assert_eq!(
            home("/opt/ferry/releases/demo-1"),
            Path::new("/opt/ferry/cache")
        );
        assert_eq!(home("/srv/demo"), Path::new("/home/a/.cache/ferry"));
    }
}
