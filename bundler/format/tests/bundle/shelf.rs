//! A bundle that a test builds as often as it likes, in a folder of its own.

use std::fs;
use std::path::{Path, PathBuf};

use bundle_format::fake::Fake;
use bundle_format::{Sealed, Verified, VerifyError};
use report::Silent;
use tempfile::TempDir;

pub(crate) struct Shelf {
    pub(crate) folder: TempDir,
    pub(crate) fake: Fake,
}

impl Shelf {
    pub(crate) fn of(fake: Fake) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            fake,
        }
    }

    /// Builds the bundle, or its volumes, in an empty folder.
    pub(crate) fn build(&self) -> PathBuf {
        let out = self.folder.path().join("out");
        let _ = fs::remove_dir_all(&out);
        fs::create_dir(&out).unwrap();
        self.fake
            .build(self.folder.path(), &out.join("demo-1.ferry"))
            .unwrap();
        out
    }

    /// Reads all of it.
    pub(crate) fn check(&self, path: &Path) -> Result<Verified, VerifyError> {
        let bundle = Sealed::open(path)?.verify(&self.fake.roots())?;
        bundle.verify_all(2, &Silent)?;
        Ok(bundle)
    }
}
