//! A folder with a signing key and the trust roots that it knows.
//!
//! ```text
//! private.pem      PKCS#8, encrypted                 public.pem, next-public.pem     SPKI
//! next-private.pem a key that waits for the root that names it
//! old-<keyid>.pem  a key that was replaced
//! root.json        the newest root                   fingerprint   its SHA-256, for people
//! roots.json       the chain of roots; its last one may still lack signatures. Absent while there is one root only
//! ```
//!
//! `roots.json` is the truth and changes in one step; what follows from it is written after it, and again by the
//! next command where power went between.

use std::fs;
use std::path::{Path, PathBuf};

use bundle_format::{Algorithm, PublicKey, RootChain, SignedRoot, SigningKey};
use console::View;
use report::Trouble;

use crate::error::InputError;
use crate::output::{write_new, write_whole};
use crate::settings;

/// A folder that `keygen` made.
pub(crate) struct KeyFolder(PathBuf);

impl KeyFolder {
    /// Makes the folder with a new key, and a root of it alone where the key may stand alone.
    pub(crate) fn make(
        path: &Path,
        key: &SigningKey,
        passphrase: &str,
        root: Option<&RootChain>,
    ) -> Result<Self, Trouble> {
        let private = key.to_encrypted_pem(passphrase.as_bytes())?;
        fs::create_dir_all(path).map_err(InputError::file(path))?;
        let file = |name: &str, bytes: &[u8], mode| write_new(&path.join(name), bytes, mode);
        file(PRIVATE, private.as_bytes(), 0o600)?;
        file(PUBLIC, key.public().pem().as_bytes(), 0o644)?;
        if let Some(root) = root {
            file(ROOT, root.last_bytes(), 0o644)?;
            let fingerprint = format!("{}\n", root.fingerprint().hex());
            file(FINGERPRINT, fingerprint.as_bytes(), 0o644)?;
        }
        Ok(Self(path.to_owned()))
    }

    /// The folder at `path`, as it is after whatever cut off the last command.
    pub(crate) fn open(path: &Path) -> Result<Self, Trouble> {
        let folder = Self(path.to_owned());
        if folder.0.join(NEXT_PUBLIC).exists() {
            let (roots, _) = folder.roots()?;
            folder.take_next_key(&roots)?;
        }
        Ok(folder)
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Whether it knows any root: one that was made for a key to be added knows none.
    pub(crate) fn knows_roots(&self) -> bool {
        [ROOT, ROOTS].iter().any(|name| self.0.join(name).exists())
    }

    /// Its chain of roots, and one that still lacks signatures.
    pub(crate) fn roots(&self) -> Result<(RootChain, Option<SignedRoot>), Trouble> {
        let several = self.0.join(ROOTS);
        let path = if several.exists() {
            several
        } else {
            self.0.join(ROOT)
        };
        read_roots(&path)
    }

    /// Opens the key with its passphrase.
    pub(crate) fn key(&self, passphrase: &str) -> Result<SigningKey, Trouble> {
        let path = self.0.join(PRIVATE);
        let pem = fs::read_to_string(&path).map_err(InputError::file(&path))?;
        Ok(SigningKey::from_encrypted_pem(&pem, passphrase.as_bytes())?)
    }

    /// The key's public half.
    pub(crate) fn public(&self) -> Result<PublicKey, Trouble> {
        public_key(&self.0.join(PUBLIC))
    }

    /// Makes the key that is to replace this one. It waits until a root names it.
    pub(crate) fn make_next_key(
        &self,
        algorithm: Algorithm,
        passphrase: &str,
    ) -> Result<SigningKey, Trouble> {
        let key = SigningKey::generate(algorithm)?;
        let private = key.to_encrypted_pem(passphrase.as_bytes())?;
        write_new(&self.0.join(NEXT_PRIVATE), private.as_bytes(), 0o600)?;
        let public = key.public().pem().as_bytes();
        write_new(&self.0.join(NEXT_PUBLIC), public, 0o644)?;
        Ok(key)
    }

    /// Forgets a key that waits.
    pub(crate) fn drop_next_key(&self) -> Result<(), InputError> {
        for name in [NEXT_PRIVATE, NEXT_PUBLIC] {
            let path = self.0.join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(InputError::file(&path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Keeps the chain, and what follows from it.
    pub(crate) fn save(&self, roots: &RootChain, next: Option<&SignedRoot>) -> Result<(), Trouble> {
        write_whole(&self.0.join(ROOTS), &roots.to_bytes(next)?)?;
        write_whole(&self.0.join(ROOT), roots.last_bytes())?;
        let fingerprint = format!("{}\n", roots.fingerprint().hex());
        write_whole(&self.0.join(FINGERPRINT), fingerprint.as_bytes())?;
        if self.0.join(NEXT_PUBLIC).exists() {
            self.take_next_key(roots)?;
        }
        Ok(())
    }

    /// Puts the key that waits in the place of the old one, once the newest root names it.
    fn take_next_key(&self, roots: &RootChain) -> Result<(), Trouble> {
        let [private, public, next_private, next_public] =
            [PRIVATE, PUBLIC, NEXT_PRIVATE, NEXT_PUBLIC].map(|name| self.0.join(name));
        let next = public_key(&next_public)?;
        if !roots.last().counts(next.key_id()) {
            return Ok(());
        }
        let rename = |from: &Path, to: &Path| fs::rename(from, to).map_err(InputError::file(from));
        if next_private.exists() {
            if private.exists() {
                let old = format!("old-{}.pem", public_key(&public)?.key_id());
                rename(&private, &self.0.join(old))?;
            }
            rename(&next_private, &private)?;
        }
        rename(&next_public, &public)?;
        fs::File::open(&self.0)
            .and_then(|folder| folder.sync_all())
            .map_err(InputError::file(&self.0))?;
        Ok(())
    }
}

/// Reads a chain of roots from a key folder, a file of roots, or a first root alone.
pub(crate) fn read_roots(path: &Path) -> Result<(RootChain, Option<SignedRoot>), Trouble> {
    if path.is_dir() {
        return KeyFolder::open(path)?.roots();
    }
    let bytes = fs::read(path).map_err(InputError::file(path))?;
    let several = serde_json::from_slice::<serde_json::Value>(&bytes)
        .is_ok_and(|value| value.get("roots").is_some());
    if several {
        return Ok(RootChain::parse(&bytes)?);
    }
    Ok((RootChain::first(bytes)?, None))
}

/// Opens the keys of several folders. One passphrase file does for all, or each has its own.
pub(crate) fn open_keys(
    view: &View,
    folders: &[PathBuf],
    passphrase_files: &[PathBuf],
) -> Result<Vec<SigningKey>, Trouble> {
    let mut keys = Vec::new();
    for (number, path) in folders.iter().enumerate() {
        let folder = KeyFolder::open(path)?;
        let file = match passphrase_files {
            [one] => Some(one),
            several => several.get(number),
        };
        if folders.len() > 1 {
            let args = [("folder", path.display().to_string())];
            view.note("bundler.key-opening", &args);
        }
        let passphrase = settings::passphrase(view, file.map(PathBuf::as_path), false)?;
        keys.push(folder.key(&passphrase)?);
    }
    Ok(keys)
}

/// Reads a public key.
pub(crate) fn public_key(path: &Path) -> Result<PublicKey, Trouble> {
    let pem = fs::read_to_string(path).map_err(InputError::file(path))?;
    Ok(PublicKey::from_pem(&pem)?)
}

const PRIVATE: &str = "private.pem";
const PUBLIC: &str = "public.pem";
const NEXT_PRIVATE: &str = "next-private.pem";
const NEXT_PUBLIC: &str = "next-public.pem";
const ROOT: &str = "root.json";
const ROOTS: &str = "roots.json";
const FINGERPRINT: &str = "fingerprint";
