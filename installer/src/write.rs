//! Files that a command writes for a person to carry away.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use report::{Args, Diagnose, Outcome};

/// A file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write `{path}`")]
pub(crate) struct WriteError {
    path: PathBuf,
    source: io::Error,
}

impl Diagnose for WriteError {
    fn code(&self) -> &'static str {
        if self.source.kind() == io::ErrorKind::AlreadyExists {
            "installer.output-exists"
        } else {
            "installer.output-failed"
        }
    }

    fn args(&self) -> Args {
        vec![("path", self.path.display().to_string())]
    }

    fn outcome(&self) -> Outcome {
        if self.source.kind() == io::ErrorKind::AlreadyExists {
            Outcome::Usage
        } else {
            Outcome::HostFault
        }
    }
}

/// Writes a new file whole and waits until it is on the disk; one that is there is left as it is.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let failed = |source| WriteError {
        path: path.to_owned(),
        source,
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(failed)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.map_err(|source| {
        // Half a file would pass for a whole one.
        let _ = std::fs::remove_file(path);
        failed(source)
    })
}
