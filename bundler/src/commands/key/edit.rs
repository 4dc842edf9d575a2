//! `key add|remove|revoke|rotate|threshold|require|discard`: each edits the root that comes next.

use std::path::{Path, PathBuf};

use bundle_format::{Algorithm, KeyError, RootDocument, SignedRoot, SigningKey};
use console::View;
use manifest_schema::KeyId;
use report::{Outcome, Trouble};
use serde_json::json;

use super::{Passphrase, Proposal};
use crate::error::InputError;
use crate::key_folder::{KeyFolder, public_key};

/// Let more keys sign
#[derive(clap::Args)]
pub(super) struct Add {
    /// A key folder
    folder: PathBuf,
    /// Public keys in PEM
    #[arg(required = true)]
    public: Vec<PathBuf>,
    #[command(flatten)]
    passphrase: Passphrase,
}

impl Add {
    pub(super) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let mut keys = Vec::new();
        for path in &self.public {
            keys.push(public_key(path)?);
        }
        edit(view, &self.folder, &self.passphrase, |root| {
            for key in &keys {
                root.add(key);
            }
            Ok(())
        })
    }
}

/// Let a key sign no more; what is installed by it stays good
#[derive(clap::Args)]
pub(super) struct Remove {
    /// A key folder
    folder: PathBuf,
    /// The key's identifier, or the beginning of it
    key: String,
    #[command(flatten)]
    passphrase: Passphrase,
}

impl Remove {
    pub(super) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        edit(view, &self.folder, &self.passphrase, |root| {
            let key = find(root, &self.key)?;
            root.remove(&key);
            Ok(())
        })
    }
}

/// Distrust a key for ever, and everything that it signed
#[derive(clap::Args)]
pub(super) struct Revoke {
    /// A key folder
    folder: PathBuf,
    /// The key's identifier, or the beginning of it
    key: String,
    #[command(flatten)]
    passphrase: Passphrase,
}

impl Revoke {
    pub(super) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        edit(view, &self.folder, &self.passphrase, |root| {
            // A key that was taken out before can still be revoked, by its whole identifier.
            let key = KeyId::parse(&self.key).or_else(|_| find(root, &self.key))?;
            root.revoke(&key);
            Ok(())
        })
    }
}

/// Put a new key in the place of this folder's own
///
/// The old key stays in the folder as old-KEYID.pem once the new root is complete. What is installed by it stays good.
#[derive(clap::Args)]
pub(super) struct Rotate {
    /// A key folder
    folder: PathBuf,
    /// What the new key signs with [default: what the old one does]
    #[arg(long, value_name = "NAME")]
    algorithm: Option<Algorithm>,
    /// Revoke the old key as well: somebody else may have it
    #[arg(long)]
    revoke: bool,
    #[command(flatten)]
    passphrase: Passphrase,
}

impl Rotate {
    pub(super) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let folder = KeyFolder::open(&self.folder)?;
        let (passphrase, old) = self.passphrase.open(view, &folder)?;
        let (roots, _) = folder.roots()?;
        if !roots.last().counts(old.key_id()) {
            let (text, found) = (old.key_id().to_string(), 0);
            return Err(InputError::KeyUnknown { text, found }.into());
        }
        let algorithm = self.algorithm.unwrap_or(old.public().algorithm());
        let new = folder.make_next_key(algorithm, &passphrase)?;
        let change = |root: &mut RootDocument| {
            root.add(new.public());
            if self.revoke {
                root.revoke(old.key_id());
            } else {
                root.remove(old.key_id());
            }
            Ok(())
        };
        let proposal = propose(&folder, &[&old, &new], change);
        if proposal.is_err() {
            folder.drop_next_key()?;
        }
        proposal?.settle(view, &folder)
    }
}

/// Set how many keys must sign
#[derive(clap::Args)]
pub(super) struct Threshold {
    /// A key folder
    folder: PathBuf,
    /// How many keys; somebody who holds two counts twice
    keys: u32,
    #[command(flatten)]
    passphrase: Passphrase,
}

impl Threshold {
    pub(super) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        edit(view, &self.folder, &self.passphrase, |root| {
            root.threshold = self.keys;
            Ok(())
        })
    }
}

/// Set by which algorithms at least one key must sign, besides P-256
#[derive(clap::Args)]
pub(super) struct Require {
    /// A key folder
    folder: PathBuf,
    /// sm2, ed25519, both, or none of them
    algorithms: Vec<Algorithm>,
    #[command(flatten)]
    passphrase: Passphrase,
}

impl Require {
    pub(super) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        edit(view, &self.folder, &self.passphrase, |root| {
            root.require.clone_from(&self.algorithms);
            // P-256 is always needed.
            root.require
                .retain(|algorithm| *algorithm != Algorithm::P256);
            root.require.sort();
            root.require.dedup();
            Ok(())
        })
    }
}

/// Forget a root that waits for signatures
#[derive(clap::Args)]
pub(super) struct Discard {
    /// A key folder
    folder: PathBuf,
}

impl Discard {
    pub(super) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let folder = KeyFolder::open(&self.folder)?;
        let proposal = super::pending(folder.roots()?, folder.path())?;
        folder.save(&proposal.roots, None)?;
        folder.drop_next_key()?;
        let fingerprint = proposal.roots.fingerprint().hex();
        let result = json!({
            "version": proposal.roots.last().version, "fingerprint": fingerprint,
        });
        view.result(&result, &fingerprint);
        Ok(Outcome::Done)
    }
}

/// Changes the root that comes next, and signs it with the folder's key.
fn edit(
    view: &View,
    folder: &Path,
    passphrase: &Passphrase,
    change: impl FnOnce(&mut RootDocument) -> Result<(), InputError>,
) -> Result<Outcome, Trouble> {
    let folder = KeyFolder::open(folder)?;
    let (_, key) = passphrase.open(view, &folder)?;
    propose(&folder, &[&key], change)?.settle(view, &folder)
}

/// The root that comes next, changed once more. Signatures over what it was before are gone with it.
fn propose(
    folder: &KeyFolder,
    keys: &[&SigningKey],
    change: impl FnOnce(&mut RootDocument) -> Result<(), InputError>,
) -> Result<Proposal, Trouble> {
    let (roots, next) = folder.roots()?;
    let mut document = match &next {
        Some(next) => RootDocument::parse(&next.bytes)?,
        None => roots.successor(),
    };
    let before = document.clone();
    change(&mut document)?;
    if document == before {
        return Err(InputError::RootUnchanged.into());
    }
    let next = SignedRoot {
        bytes: document
            .to_bytes()
            .map_err(|error| InputError::RootImpossible {
                cause: match error {
                    KeyError::Root { cause } => cause,
                    other => other.to_string(),
                },
            })?,
        signatures: Vec::new(),
    };
    let mut proposal = Proposal { roots, next };
    proposal.sign(keys)?;
    Ok(proposal)
}

/// The one key of the root whose identifier begins so.
fn find(root: &RootDocument, text: &str) -> Result<KeyId, InputError> {
    let begins = root
        .keys
        .iter()
        .filter(|key| !text.is_empty() && key.keyid.as_str().starts_with(text));
    let found: Vec<_> = begins.collect();
    match found.as_slice() {
        [one] => Ok(one.keyid.clone()),
        several => Err(InputError::KeyUnknown {
            text: text.to_owned(),
            found: several.len(),
        }),
    }
}
