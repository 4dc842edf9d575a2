//! Where things lie below the prefix.
//!
//! ```text
//! <prefix>/store/sha256/<hex>          blobs, read-only, each verified while it was written
//! <prefix>/store/sha256/.part-<hex>    a blob that is still being written
//! <prefix>/releases/<name>/            complete, never changed after its rename
//! <prefix>/releases/.staging-<name>/   unfinished; safe to delete when the lock is not held
//! <prefix>/current                     link to one release
//! <prefix>/cache/converted/<hex>/      made on site by the runtime from blob <hex>
//! <prefix>/log/actions.jsonl           hash-chained
//! <prefix>/trust.d/<fingerprint>.json  trusted roots: of each chain the newest
//! <prefix>/trust.d/<fingerprint>.expected  a root that is trusted and whose document has not come yet
//! <prefix>/keys/site.pem               signs this site's inventories
//! <prefix>/host/                       work on the machine itself that is not finished
//! <prefix>/lock
//! /etc/ferry/trust.d/                  roots that count besides, for the whole machine; never written
//! ```
//!
//! Invariant: `current` is absent or names a release whose every file matched its digest.

mod follow;
mod name;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use manifest_schema::{Digest, PackageSetName};

use follow::followed;
pub use name::ReleaseName;

use crate::disk::{Disk, DiskError};

/// The folder that everything is installed below.
#[derive(Clone, Debug)]
pub struct Prefix {
    path: PathBuf,
    system_trust: PathBuf,
}

impl Prefix {
    /// Takes `path` as the prefix, absolute and without links: it has one name, before it is made and after.
    ///
    /// # Errors
    /// When the working directory is gone, or the path cannot be followed.
    pub fn at(path: &Path) -> Result<Self, DiskError> {
        let absolute = std::path::absolute(path).map_err(DiskError::of("find", path))?;
        let found = followed(&absolute).map_err(DiskError::of("follow", path))?;
        Ok(Self::of(found))
    }

    fn of(path: PathBuf) -> Self {
        let system_trust = PathBuf::from(SYSTEM_TRUST);
        Self { path, system_trust }
    }

    /// The same prefix on a machine whose own roots are in another folder.
    #[must_use]
    pub fn with_system_trust(mut self, folder: &Path) -> Self {
        folder.clone_into(&mut self.system_trust);
        self
    }

    /// The prefix itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Folder of all blobs.
    pub fn store(&self) -> PathBuf {
        self.path.join("store/sha256")
    }

    /// Where a blob lies once it is whole.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.store().join(digest.hex())
    }

    pub(crate) fn unfinished_blob(&self, digest: &Digest) -> PathBuf {
        self.store().join(format!("{UNFINISHED}{}", digest.hex()))
    }

    /// Folder of all releases.
    pub fn releases(&self) -> PathBuf {
        self.path.join("releases")
    }

    /// Folder of one release.
    pub fn release(&self, name: &ReleaseName) -> PathBuf {
        self.releases().join(name.as_str())
    }

    pub(crate) fn staging(&self, name: &ReleaseName) -> PathBuf {
        self.releases().join(format!("{STAGING}{name}"))
    }

    /// Where the repository of a set lies while there is no release that has it.
    pub(crate) fn staged_packages(&self, set: &PackageSetName) -> PathBuf {
        self.releases().join(format!("{STAGING}os-{set}"))
    }

    /// The link to the release in use.
    pub fn current_link(&self) -> PathBuf {
        self.path.join("current")
    }

    /// Folder of what the runtime makes and can make again.
    pub(crate) fn cache(&self) -> PathBuf {
        self.path.join("cache")
    }

    /// Folder of what the runtime converted on site.
    pub fn converted(&self) -> PathBuf {
        self.cache().join("converted")
    }

    /// The log of actions.
    pub fn log(&self) -> PathBuf {
        self.path.join("log/actions.jsonl")
    }

    /// Folder of trusted roots.
    pub fn trust(&self) -> PathBuf {
        self.path.join("trust.d")
    }

    /// Folder of the machine's own trusted roots. Nothing is ever written there.
    pub fn system_trust(&self) -> &Path {
        &self.system_trust
    }

    /// Folder of this site's own keys.
    pub fn keys(&self) -> PathBuf {
        self.path.join("keys")
    }

    /// The key that signs this site's inventories.
    pub fn site_key(&self) -> PathBuf {
        self.keys().join("site.pem")
    }

    /// Folder of unfinished work on the machine itself.
    pub(crate) fn host(&self) -> PathBuf {
        self.path.join("host")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.path.join("lock")
    }

    /// Whether something was ever installed here, or began to be.
    pub fn is_used(&self) -> bool {
        let ours = [self.log(), self.store(), self.releases()];
        ours.iter().any(|path| path.symlink_metadata().is_ok())
    }

    /// What others keep in the folder of a prefix that was never used.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn strangers(&self) -> Result<Vec<String>, DiskError> {
        if self.is_used() {
            return Ok(Vec::new());
        }
        let mut names = names_in(&self.path)?;
        // What every file system has at its top, and what an install that was refused leaves.
        names.retain(|name| !["lost+found", "lock"].contains(&name.as_str()));
        names.sort();
        Ok(names)
    }

    /// The release that `current` names, or `None` where nothing is installed.
    ///
    /// # Errors
    /// When the link cannot be read, or names no release.
    pub fn current(&self) -> Result<Option<ReleaseName>, DiskError> {
        let link = self.current_link();
        let target = match fs::read_link(&link) {
            Ok(target) => target,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(DiskError::of("read", &link)(error)),
        };
        let name = target
            .strip_prefix("releases")
            .ok()
            .and_then(Path::to_str)
            .and_then(ReleaseName::parse);
        name.map(Some).ok_or_else(|| {
            let found = format!("the link names `{}`, not a release", target.display());
            DiskError::of("read", &link)(io::Error::other(found))
        })
    }

    /// Every release that is whole, by name.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn installed(&self) -> Result<Vec<ReleaseName>, DiskError> {
        let mut names: Vec<ReleaseName> = names_in(&self.releases())?
            .iter()
            .filter_map(|name| ReleaseName::parse(name))
            .collect();
        names.sort();
        Ok(names)
    }

    /// What an interrupted install left: unfinished releases and blobs.
    pub(crate) fn leftovers(&self) -> Result<Vec<PathBuf>, DiskError> {
        let mut found = Vec::new();
        for (folder, mark) in [(self.releases(), STAGING), (self.store(), UNFINISHED)] {
            let names = names_in(&folder)?;
            found.extend(
                names
                    .iter()
                    .filter(|name| name.starts_with(mark))
                    .map(|name| folder.join(name)),
            );
        }
        Ok(found)
    }
}

/// Makes `release` the current one, in one step that a power cut cannot halve.
///
/// The caller has synced the release's files and `releases/` itself. A reader of `current` sees the old
/// release or the new one, never a mixture.
pub(crate) fn switch_current(
    disk: &dyn Disk,
    prefix: &Prefix,
    release: &ReleaseName,
) -> Result<(), DiskError> {
    let next = prefix.path().join(".current.next");
    disk.remove_file(&next)?;
    disk.symlink(&Path::new("releases").join(release.as_str()), &next)?;
    disk.rename(&next, &prefix.current_link())?;
    disk.sync_dir(prefix.path())
}

/// Names of what is in a folder; one that is not there is empty.
pub(crate) fn names_in(folder: &Path) -> Result<Vec<String>, DiskError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(DiskError::of("list", folder)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(DiskError::of("list", folder))?;
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}

const SYSTEM_TRUST: &str = "/etc/ferry/trust.d";
const STAGING: &str = ".staging-";
const UNFINISHED: &str = ".part-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_has_one_name_before_it_is_made_and_after() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        fs::create_dir_all(root.join("data/opt")).unwrap();
        symlink("data/opt", root.join("opt")).unwrap();
        symlink(root.join("data/later"), root.join("dangling")).unwrap();
        symlink("../data/./opt", root.join("data/up")).unwrap();
        symlink("round", root.join("round")).unwrap();
        for (given, expected) in [
            ("opt/ferry", "data/opt/ferry"),
            ("dangling", "data/later"),
            ("dangling/ferry", "data/later/ferry"),
            ("data/up/ferry", "data/opt/ferry"),
            ("opt/../ferry", "data/ferry"),
            ("absent/../opt/ferry", "data/opt/ferry"),
        ] {
            let before = Prefix::at(&root.join(given)).unwrap();
            assert_eq!(before.path(), root.join(expected), "{given}");
        }
        fs::create_dir(root.join("data/opt/ferry")).unwrap();
        let after = Prefix::at(&root.join("opt/ferry")).unwrap();
        assert_eq!(after.path(), root.join("data/opt/ferry"));
        assert!(Prefix::at(&root.join("round/ferry")).is_err());
        fs::write(root.join("file"), "").unwrap();
        assert!(Prefix::at(&root.join("file/ferry")).is_err());
    }

    #[test]
    fn current_must_name_a_release() {
        let folder = tempfile::tempdir().unwrap();
        let prefix = Prefix::at(folder.path()).unwrap();
        assert_eq!(prefix.current().unwrap(), None);
        std::os::unix::fs::symlink("/etc", prefix.current_link()).unwrap();
        assert!(prefix.current().is_err());
    }
}
