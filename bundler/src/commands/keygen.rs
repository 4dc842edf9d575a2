//! `keygen`: a signing key and the trust root that names it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bundle_format::{RootDocument, SigningKey};
use console::View;
use manifest_schema::Digest;
use report::{Outcome, Trouble};

use crate::error::InputError;
use crate::settings;

/// Make a signing key, encrypted, and its trust root
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder to make
    folder: PathBuf,
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
        let key = SigningKey::generate()?;
        let root = RootDocument::new(1, 1, &[key.public()])?.to_bytes()?;
        let fingerprint = Digest::of(&root);
        let private = key.to_encrypted_pem(passphrase.as_bytes())?;
        fs::create_dir_all(&self.folder).map_err(InputError::file(&self.folder))?;
        let file = |name: &str, bytes: &[u8], mode| write_new(&self.folder.join(name), bytes, mode);
        file("private.pem", private.as_bytes(), 0o600)?;
        file("public.pem", key.public().pem().as_bytes(), 0o644)?;
        file("root.json", &root, 0o644)?;
        file(
            "fingerprint",
            format!("{}\n", fingerprint.hex()).as_bytes(),
            0o644,
        )?;
        view.note(
            "bundler.key-made",
            &[("folder", self.folder.display().to_string())],
        );
        let result =
            serde_json::json!({ "fingerprint": fingerprint.hex(), "key_id": key.key_id() });
        view.result(&result, &fingerprint.hex());
        Ok(Outcome::Done)
    }
}

/// Writes a file that must not be there yet: no key is ever overwritten.
fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), InputError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(|source| match source.kind() {
            std::io::ErrorKind::AlreadyExists => InputError::Exists {
                path: path.to_owned(),
            },
            _ => InputError::file(path)(source),
        })?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(InputError::file(path))
}
