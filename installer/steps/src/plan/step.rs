//! One step of an install, and the line that shows it.

use std::path::PathBuf;

use manifest_schema::{ByteSize, Digest};
use report::Args;
use serde::Serialize;

use crate::prefix::ReleaseName;

/// One step of an install.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Step {
    /// Remove what an interrupted install left.
    ClearLeftovers {
        /// Unfinished releases and blobs.
        paths: Vec<PathBuf>,
    },
    /// Take the needed blobs into the store, each verified while it is written.
    StoreBlobs {
        /// How many are written.
        blobs: usize,
        /// Their bytes.
        bytes: ByteSize,
        /// How many the store has; they are read and checked.
        kept: usize,
    },
    /// Make the release's folder: links to blobs, and the small files that follow from them.
    BuildTree {
        /// How many files.
        files: usize,
    },
    /// Make the Python environment.
    MakeEnvironment {
        /// Python's version.
        python: String,
        /// From how many wheels.
        wheels: usize,
    },
    /// Run `ferry-runtime doctor` from the unfinished release.
    SmokeTest,
    /// Wait until all is on the disk, and give the release its name.
    Publish {
        /// The name.
        release: ReleaseName,
    },
    /// The release is there already: check every file of it.
    CheckRelease {
        /// Its name.
        release: ReleaseName,
    },
    /// Remember the trust root.
    Trust {
        /// Its SHA-256.
        fingerprint: Digest,
    },
    /// The root replaces an earlier one that it follows from.
    FollowRoot {
        /// SHA-256 of the root document.
        fingerprint: Digest,
        /// Its version.
        version: u32,
    },
    /// Log it, and make the release the current one.
    Switch {
        /// The release that is current now.
        from: Option<ReleaseName>,
        /// The release that will be.
        to: ReleaseName,
    },
}

impl Step {
    /// Catalogue code of the line that shows this step.
    pub fn code(&self) -> &'static str {
        match self {
            Self::ClearLeftovers { .. } => "install.step.clear-leftovers",
            Self::StoreBlobs { .. } => "install.step.store-blobs",
            Self::BuildTree { .. } => "install.step.build-tree",
            Self::MakeEnvironment { .. } => "install.step.make-environment",
            Self::SmokeTest => "install.step.smoke-test",
            Self::Publish { .. } => "install.step.publish",
            Self::CheckRelease { .. } => "install.step.check-release",
            Self::Trust { .. } => "install.step.trust",
            Self::FollowRoot { .. } => "install.step.follow-root",
            Self::Switch { .. } => "install.step.switch",
        }
    }

    /// Values of that line.
    pub fn args(&self) -> Args {
        match self {
            Self::ClearLeftovers { paths } => vec![("count", paths.len().to_string())],
            Self::StoreBlobs { blobs, bytes, kept } => vec![
                ("blobs", blobs.to_string()),
                ("bytes", bytes.to_string()),
                ("kept", kept.to_string()),
            ],
            Self::BuildTree { files } => vec![("files", files.to_string())],
            Self::MakeEnvironment { python, wheels } => {
                vec![("python", python.clone()), ("wheels", wheels.to_string())]
            }
            Self::SmokeTest => Args::new(),
            Self::Publish { release } | Self::CheckRelease { release } => {
                vec![("release", release.to_string())]
            }
            Self::Trust { fingerprint } => vec![("fingerprint", fingerprint.hex())],
            Self::FollowRoot {
                fingerprint,
                version,
            } => vec![
                ("fingerprint", fingerprint.hex()),
                ("version", version.to_string()),
            ],
            Self::Switch { from, to } => vec![
                (
                    "from",
                    from.as_ref().map_or("-".to_owned(), ToString::to_string),
                ),
                ("to", to.to_string()),
            ],
        }
    }
}
