//! `diff`: what changed from one lock or bundle to another.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use bundle_format::{Sealed, TrustedRoots};
use console::View;
use manifest_schema::lock::Lock;
use report::{Outcome, Trouble};

use crate::changes::Changes;
use crate::error::InputError;

/// Show what changed from one lock or bundle to another; this does not say that a bundle may be trusted
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The older lock or bundle
    old: PathBuf,
    /// The newer lock or bundle
    new: PathBuf,
}

impl Args {
    pub(crate) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let changes = Changes::between(&lock_of(&self.old)?, &lock_of(&self.new)?);
        let result = serde_json::json!({ "same": changes.things.is_empty(), "changes": changes });
        view.result(&result, &lines(&changes, view));
        Ok(Outcome::Done)
    }
}

/// The differences, for people.
pub(crate) fn lines(changes: &Changes, view: &View) -> String {
    changes.lines(|count, size| {
        let args = [("count", count.to_string()), ("size", size.to_string())];
        view.text("bundler.sum-new", &args)
    })
}

/// Reads a lock, or the one in a bundle.
pub(crate) fn lock_of(path: &Path) -> Result<Lock, Trouble> {
    let mut start = [0];
    let read = File::open(path).and_then(|mut file| file.read(&mut start));
    // A lock is a JSON object; a bundle begins with the name of its first member.
    let bytes = if read.is_ok_and(|count| count == 1) && start == *b"R" || path.is_dir() {
        let sealed = Sealed::open(path)?;
        let offered = sealed.fingerprint_offered()?;
        let roots = TrustedRoots::from_fingerprints([offered]);
        sealed.verify(&roots)?.lock
    } else {
        std::fs::read(path).map_err(InputError::file(path))?
    };
    let lock = Lock::parse(&bytes).map_err(|problem| InputError::Manifest {
        path: path.to_owned(),
        problem,
    })?;
    Ok(lock)
}
