//! `keygen`: a signing key, and the trust root that names it.

use std::path::PathBuf;

use bundle_format::{Algorithm, RootChain, RootDocument, SigningKey};
use console::View;
use report::{Outcome, Trouble};
use serde_json::json;

use crate::error::InputError;
use crate::key_folder::KeyFolder;
use crate::settings;

/// Make a signing key, encrypted, and its trust root
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder to make
    folder: PathBuf,
    /// What the key signs with: p256, sm2 or ed25519
    ///
    /// Every trust root needs a P-256 key, so that `openssl` 1.1.1 can check a bundle. A key of another algorithm gets
    /// no root of its own: `key add` puts it into one.
    #[arg(long, value_name = "NAME", default_value_t = Algorithm::P256)]
    algorithm: Algorithm,
    /// File whose first line is the passphrase [default: $FERRY_KEY_PASSPHRASE, else asked]
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl Args {
    pub(crate) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let passphrase = settings::passphrase(view, self.passphrase_file.as_deref(), true)?;
        if passphrase.is_empty() {
            return Err(InputError::Word {
                text: String::new(),
                expected: "a passphrase",
            }
            .into());
        }
        let key = SigningKey::generate(self.algorithm)?;
        let roots = if self.algorithm == Algorithm::P256 {
            let root = RootDocument::new(1, 1, &[key.public()])?;
            Some(RootChain::first(root.to_bytes()?)?)
        } else {
            None
        };
        KeyFolder::make(&self.folder, &key, &passphrase, roots.as_ref())?;
        let folder = ("folder", self.folder.display().to_string());
        let id = key.key_id().to_string();
        let fingerprint = roots.map(|roots| roots.fingerprint().hex());
        match &fingerprint {
            Some(_) => view.note("bundler.key-made", &[folder]),
            None => view.note("bundler.key-made-alone", &[folder]),
        }
        let result = json!({
            "fingerprint": fingerprint, "key_id": id, "algorithm": self.algorithm,
        });
        view.result(&result, fingerprint.as_ref().unwrap_or(&id));
        Ok(Outcome::Done)
    }
}
