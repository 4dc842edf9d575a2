//! A vendor's file, put below the prefix to be run from there: whole, checked, and out of its archive.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use manifest_schema::{HostItem, PlacedFile};

use super::HostError;
use super::plan::{program, staged};
use super::run::HostWork;
use crate::disk::DiskError;
use crate::store::hash_file;

impl HostWork<'_> {
    /// Writes the vendor's file below the prefix, each piece checked, and its whole digest once more.
    pub(super) fn stage(&self, item: &HostItem<PlacedFile>) -> Result<(), HostError> {
        let path = staged(self.prefix, item);
        let expected = item.file.digest;
        if path.is_file() && hash_file(&path)? == expected {
            return Ok(());
        }
        let folder = path.parent().unwrap_or(Path::new("/"));
        self.disk.remove_tree(folder)?;
        self.disk.create_dir(folder)?;
        let step = report::Step::start(
            self.sink,
            "install.working.host-stage",
            item.kind.as_str(),
            None,
            "steps",
        );
        let next = folder.join(".part");
        let mut file = self.disk.create(&next)?;
        let blob = self.prefix.blob(&expected);
        let stored = blob.is_file();
        if self.bundle.blob(&expected).is_some() && !stored {
            self.bundle.copy_blob(&expected, &mut file)?;
        } else {
            let mut source = fs::File::open(&blob).map_err(DiskError::of("read", &blob))?;
            io::copy(&mut source, &mut file).map_err(DiskError::of("write", &next))?;
        }
        file.settle(0o500)?;
        if hash_file(&next)? != expected {
            let source = io::Error::other(format!("its bytes are not {expected}"));
            return Err(DiskError::of("check", &next)(source).into());
        }
        self.disk.rename(&next, &path)?;
        self.disk.sync_dir(folder)?;
        step.finish();
        Ok(())
    }

    /// Takes the installer out of the archive whose signature was checked.
    pub(super) fn take_member(&self, item: &HostItem<PlacedFile>) -> Result<(), HostError> {
        let Some(member) = &item.member else {
            return Ok(());
        };
        let (archive, path) = (staged(self.prefix, item), program(self.prefix, item));
        let fault = |source| HostError::Member {
            archive: item.file.path.to_string(),
            member: member.to_string(),
            source,
        };
        let folder = path.parent().unwrap_or(Path::new("/"));
        self.disk.remove_tree(folder)?;
        self.disk.create_dir(folder)?;
        let source = fs::File::open(&archive).map_err(DiskError::of("read", &archive))?;
        let mut zip = zip::ZipArchive::new(source).map_err(|e| fault(e.into()))?;
        let inside = zip.by_name(member.as_str()).map_err(|e| fault(e.into()))?;
        if !inside.is_file() || inside.size() > LARGEST_MEMBER {
            let found = format!("it is no file of at most {LARGEST_MEMBER} bytes");
            return Err(fault(io::Error::other(found)));
        }
        let mut file = self.disk.create(&path)?;
        let mut inside = inside.take(LARGEST_MEMBER);
        io::copy(&mut inside, &mut file).map_err(fault)?;
        file.settle(0o500)?;
        Ok(())
    }
}

/// The largest installers have some gigabytes.
const LARGEST_MEMBER: u64 = 32 * 1024 * 1024 * 1024;
