//! `verify`: a bundle's signature, and every byte of it.

use std::path::PathBuf;
use std::thread::available_parallelism;

use console::View;
use report::{Outcome, Trouble};
use serde_json::json;

use crate::cli::At;
use crate::trust::{Root, signers};

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The bundle
    bundle: PathBuf,
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    root: Root,
}

impl Args {
    pub(crate) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let prefix = self.at.prefix()?;
        let bundle = self.root.open(view, &self.bundle, &prefix)?;
        let threads = available_parallelism().map_or(2, usize::from);
        bundle.verify_all(threads, view)?;
        let profiles = &bundle.profiles;
        let value = json!({
            "name": profiles.name, "release": profiles.release, "channel": profiles.channel,
            "statement": bundle.statement_digest, "root": bundle.fingerprint, "keys": bundle.key_ids,
            "root_version": bundle.root_version, "newer_root": bundle.newer_root, "signers": bundle.signers,
            "blobs": bundle.index.blobs.len(),
        });
        let human = view.text(
            "installer.verified",
            &[
                ("name", profiles.name.to_string()),
                ("release", profiles.release.to_string()),
                ("blobs", bundle.index.blobs.len().to_string()),
                ("statement", bundle.statement_digest.hex()),
                ("root", bundle.fingerprint.hex()),
                ("version", bundle.root_version.to_string()),
                ("signers", signers(&bundle)),
            ],
        );
        view.result(&value, &human);
        Ok(Outcome::Done)
    }
}
