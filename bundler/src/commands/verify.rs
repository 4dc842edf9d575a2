//! `verify`: is every byte of a bundle what a trusted key signed?

use std::path::PathBuf;

use bundle_format::{Sealed, TrustedRoots, Verified};
use console::View;
use manifest_schema::Digest;
use report::{Outcome, Trouble};

use crate::commands::sign::lines;
use crate::error::InputError;
use crate::key_folder::public_key;

/// Check a bundle: signature, digests, every byte
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The bundle, one of its volumes, or their folder
    bundle: PathBuf,
    /// Check this volume alone, and do not miss the others
    #[arg(long)]
    alone: bool,
    #[command(flatten)]
    trust: Trust,
    /// Threads that hash
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, usize::from))]
    threads: usize,
}

/// What is trusted: exactly one of the two.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Trust {
    /// Fingerprint of the trust root, as `keygen` printed it, or of an earlier one that it follows from
    #[arg(long, visible_alias = "trust-root", value_name = "FINGERPRINT")]
    root: Option<String>,
    /// Public key in PEM that must have signed
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

impl Trust {
    /// Checks everything but the blobs' bytes.
    pub(crate) fn verify(&self, sealed: Sealed) -> Result<Verified, Trouble> {
        if let Some(root) = &self.root {
            let roots = TrustedRoots::from_fingerprints([fingerprint(root)?]);
            return Ok(sealed.verify(&roots)?);
        }
        let key = public_key(&self.key.clone().unwrap_or_default())?;
        // The bundle's own root says which keys count; that this one signed is what is asked here.
        let offered = sealed.fingerprint_offered()?;
        let verified = sealed.verify(&TrustedRoots::from_fingerprints([offered]))?;
        if !verified.key_ids.contains(key.key_id()) {
            let key = key.key_id().to_string();
            return Err(InputError::OtherKey { key }.into());
        }
        Ok(verified)
    }
}

impl Args {
    pub(crate) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let sealed = if self.alone {
            Sealed::open_alone(&self.bundle)?
        } else {
            Sealed::open(&self.bundle)?
        };
        let verified = self.trust.verify(sealed)?;
        verified.verify_all(self.threads, view)?;
        let name = verified.release_name();
        let signers = lines(&verified.signers).replace('\n', ", ");
        view.note(
            "bundler.verified",
            &[("name", name.clone()), ("signers", signers)],
        );
        let result = serde_json::json!({
            "release": name,
            "statement": verified.statement_digest,
            "fingerprint": verified.fingerprint.hex(),
            "root_version": verified.root_version,
            "key_ids": verified.key_ids,
            "signers": verified.signers,
            "blobs": verified.index.blobs.len(),
            "volumes": verified.index.volumes,
            "requires": verified.requires().len(),
        });
        view.result(&result, &verified.statement_digest.to_string());
        Ok(Outcome::Done)
    }
}

/// Reads a fingerprint with or without `sha256:` in front.
fn fingerprint(text: &str) -> Result<Digest, InputError> {
    Digest::parse_hex(text)
        .or_else(|_| Digest::parse(text))
        .map_err(|_| InputError::Word {
            text: text.to_owned(),
            expected: "a fingerprint (64 hexadecimal digits)",
        })
}
