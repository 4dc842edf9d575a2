//! Makes a tree of files: links to blobs of the store, and the small files that follow from signed ones. They are on the
//! disk when the file system was synced, all at once.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use report::{Sink, Step};

use crate::disk::{Disk, DiskError, write_new_unsynced};
use crate::prefix::Prefix;
use crate::tree::{File, Tree};

/// Makes `tree` below `folder`. Its blobs are in the store.
pub(crate) fn lay_out(
    disk: &dyn Disk,
    prefix: &Prefix,
    tree: &Tree,
    folder: &Path,
    sink: &dyn Sink,
) -> Result<(), DiskError> {
    let total = Some(tree.len() as u64);
    let step = Step::start(sink, "install.working.tree", "", total, "files");
    let mut folders = BTreeSet::new();
    for (count, (path, file)) in tree.iter().enumerate() {
        let target = folder.join(path);
        if let Some(parent) = target.parent()
            && folders.insert(parent.to_owned())
        {
            disk.create_dir(parent)?;
        }
        match file {
            File::Signed { placed, .. } => link(disk, &prefix.blob(&placed.digest), &target)?,
            File::Derived { bytes, executable } => {
                let mode = if *executable { 0o555 } else { 0o444 };
                write_new_unsynced(disk, &target, bytes, mode)?;
            }
        }
        step.progress(count as u64 + 1);
    }
    step.finish();
    Ok(())
}

fn link(disk: &dyn Disk, blob: &Path, target: &Path) -> Result<(), DiskError> {
    match disk.hard_link(blob, target) {
        // A file system bounds the names of one file: ext4 at 65,000. An empty `__init__.py` gets there.
        Err(error) if error.source.kind() == io::ErrorKind::TooManyLinks => {
            let mut source = fs::File::open(blob).map_err(DiskError::of("read", blob))?;
            let found = source.metadata().map_err(DiskError::of("read", blob))?;
            let mut copy = disk.create(target)?;
            io::copy(&mut source, &mut copy).map_err(DiskError::of("write", target))?;
            copy.close(found.permissions().mode())
        }
        other => other,
    }
}
