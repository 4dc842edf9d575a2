//! The key that this site signs its inventories with: made at first use, never carried out.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use bundle_format::{InventoryError, SiteKey};
use report::{Args, Diagnose, Outcome};

use crate::disk::{Disk, DiskError, read_small, write_new};
use crate::guard::{Guard, LockError};
use crate::prefix::Prefix;

/// The site's key cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SiteKeyError {
    /// Others than its owner may read or change the file.
    #[error("others may read the site's key `{path}` (mode {mode:o})")]
    Loose {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds no key.
    #[error(transparent)]
    Key(#[from] InventoryError),
    /// Another installer works here.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl SiteKeyError {
    /// Whether this user may not read the key, or not make one here.
    pub fn is_denied(&self) -> bool {
        let (Self::Disk(error) | Self::Lock(LockError::Disk(error))) = self else {
            return false;
        };
        matches!(
            error.source.kind(),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
        )
    }
}

impl Diagnose for SiteKeyError {
    fn code(&self) -> &'static str {
        match self {
            Self::Loose { .. } => "install.site-key-loose",
            Self::Key(error) => error.code(),
            Self::Lock(error) => error.code(),
            Self::Disk(error) => error.code(),
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::Loose { path, mode } => vec![
                ("path", path.display().to_string()),
                ("mode", format!("{mode:o}")),
            ],
            Self::Key(error) => error.args(),
            Self::Lock(error) => error.args(),
            Self::Disk(error) => error.args(),
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Loose { .. } => Outcome::Untrusted,
            Self::Key(error) => error.outcome(),
            Self::Lock(error) => error.outcome(),
            Self::Disk(error) => error.outcome(),
        }
    }
}

/// This site's key; a new one where there is none yet.
///
/// # Errors
/// When it cannot be read or made, or others may read it.
pub fn site_key(disk: &dyn Disk, prefix: &Prefix) -> Result<SiteKey, SiteKeyError> {
    if let Some(key) = read(prefix)? {
        return Ok(key);
    }
    let _guard = Guard::take(disk, prefix, "inventory")?;
    // Another may have made one while this waited.
    if let Some(key) = read(prefix)? {
        return Ok(key);
    }
    let key = SiteKey::generate()?;
    let path = prefix.site_key();
    let folder = prefix.keys();
    disk.create_dir(&folder)?;
    disk.set_mode(&folder, 0o700)?;
    let next = folder.join(".next");
    disk.remove_file(&next)?;
    write_new(disk, &next, key.to_pem()?.as_bytes(), 0o600)?;
    disk.rename(&next, &path)?;
    disk.sync_dir(&folder)?;
    disk.sync_dir(prefix.path())?;
    Ok(key)
}

fn read(prefix: &Prefix) -> Result<Option<SiteKey>, SiteKeyError> {
    let path = prefix.site_key();
    let mode = match fs::metadata(&path) {
        Ok(found) => found.permissions().mode() & 0o777,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DiskError::of("read", &path)(error).into()),
    };
    if mode & 0o077 != 0 {
        return Err(SiteKeyError::Loose { path, mode });
    }
    let bytes = read_small(&path, LONGEST_KEY)?;
    Ok(Some(SiteKey::from_pem(&String::from_utf8_lossy(&bytes))?))
}

const LONGEST_KEY: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    #[test]
    fn one_key_is_made_and_kept_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let prefix = Prefix::at(folder.path()).unwrap();
        let first = site_key(&RealDisk, &prefix).unwrap();
        assert_eq!(site_key(&RealDisk, &prefix).unwrap().id(), first.id());
        let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            (mode(prefix.keys()), mode(prefix.site_key())),
            (0o700, 0o600)
        );
        fs::set_permissions(prefix.site_key(), fs::Permissions::from_mode(0o640)).unwrap();
        let error = site_key(&RealDisk, &prefix).map(|_| ()).unwrap_err();
        assert_eq!(error.code(), "install.site-key-loose");
        fs::set_permissions(prefix.site_key(), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(prefix.site_key(), "half a key").unwrap();
        let error = site_key(&RealDisk, &prefix).map(|_| ()).unwrap_err();
        assert_eq!(error.code(), "bundle.site-key");
    }
}
