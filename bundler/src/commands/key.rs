//! `key`: who may sign. Each change is a new version of the trust root, signed as the one before it asks.

mod edit;
mod exchange;
mod list;

use std::path::{Path, PathBuf};

use bundle_format::{RootChain, RootDocument, SignedRoot, SigningKey};
use console::View;
use report::{Outcome, Trouble};
use serde_json::json;

use crate::error::InputError;
use crate::key_folder::KeyFolder;

/// Say who may sign, and change it: each change is a new version of the trust root
///
/// A new root is signed by enough keys of the one before it and by enough of its own. What is missing is made on the
/// machines that have the keys: `export`, `sign` there, `import`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    List(list::Args),
    Add(edit::Add),
    Remove(edit::Remove),
    Revoke(edit::Revoke),
    Rotate(edit::Rotate),
    Threshold(edit::Threshold),
    Require(edit::Require),
    Discard(edit::Discard),
    Export(exchange::Export),
    Sign(exchange::Sign),
    Import(exchange::Import),
}

impl Args {
    pub(crate) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        match self.command {
            Command::List(args) => args.run(view),
            Command::Add(args) => args.run(view),
            Command::Remove(args) => args.run(view),
            Command::Revoke(args) => args.run(view),
            Command::Rotate(args) => args.run(view),
            Command::Threshold(args) => args.run(view),
            Command::Require(args) => args.run(view),
            Command::Discard(args) => args.run(view),
            Command::Export(args) => args.run(view),
            Command::Sign(args) => args.run(view),
            Command::Import(args) => args.run(view),
        }
    }
}

/// A root that follows the last one of a folder, or is about to.
struct Proposal {
    roots: RootChain,
    next: SignedRoot,
}

impl Proposal {
    /// Signs with those of the keys that have a say: in the root before, or in this one.
    fn sign(&mut self, keys: &[&SigningKey]) -> Result<(), Trouble> {
        let document = self.roots.check_next(&self.next.bytes)?;
        for key in keys {
            let id = key.key_id();
            if self.roots.last().counts(id) || document.counts(id) {
                self.next.sign(key);
            }
        }
        Ok(())
    }

    /// Makes it the newest root of the folder, where nothing is missing any more, and says what is.
    fn settle(mut self, view: &View, folder: &KeyFolder) -> Result<Outcome, Trouble> {
        let lacking = self.roots.lacking(&self.next)?;
        let document = RootDocument::parse(&self.next.bytes)?;
        let fingerprint = self.next.fingerprint();
        if lacking.is_empty() {
            self.roots.extend(self.next)?;
            folder.save(&self.roots, None)?;
        } else {
            folder.save(&self.roots, Some(&self.next))?;
        }
        let args = [
            ("version", document.version.to_string()),
            ("fingerprint", fingerprint.hex()),
        ];
        if lacking.is_empty() {
            view.note("bundler.root-made", &args);
        } else {
            view.note("bundler.root-waits", &args);
        }
        let mut missing = Vec::new();
        for (by, lack) in &lacking {
            let args = [
                ("by", by.to_string()),
                ("missing", lack.missing().to_string()),
                ("keys", lack.keys().to_owned()),
            ];
            view.note("bundler.root-missing", &args);
            missing.push(json!({
                "of_version": by, "missing": lack.missing(), "keys": lack.keys(),
            }));
        }
        let result = json!({
            "version": document.version, "fingerprint": fingerprint.hex(),
            "complete": lacking.is_empty(), "missing": missing,
        });
        view.result(&result, &fingerprint.hex());
        Ok(Outcome::Done)
    }
}

/// How the key of a folder is opened.
#[derive(clap::Args)]
struct Passphrase {
    /// File whose first line is the passphrase [default: $FERRY_KEY_PASSPHRASE, else asked]
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl Passphrase {
    fn open(&self, view: &View, folder: &KeyFolder) -> Result<(String, SigningKey), Trouble> {
        let file = self.passphrase_file.as_deref();
        let passphrase = crate::settings::passphrase(view, file, false)?;
        let key = folder.key(&passphrase)?;
        Ok((passphrase, key))
    }
}

/// What a new root changes, one line each.
fn changes(old: &RootDocument, new: &RootDocument) -> Vec<String> {
    let mut lines = Vec::new();
    let has = |root: &RootDocument, id: &str| root.keys.iter().any(|k| k.keyid.as_str() == id);
    for key in new.keys.iter().filter(|key| !has(old, key.keyid.as_str())) {
        lines.push(format!("+ {} {}", key.scheme, key.keyid));
    }
    for key in old.keys.iter().filter(|key| !has(new, key.keyid.as_str())) {
        lines.push(format!("- {} {}", key.scheme, key.keyid));
    }
    for key in new.revoked.iter().filter(|key| !old.revoked.contains(key)) {
        lines.push(format!("! revoked {key}"));
    }
    if old.threshold != new.threshold {
        lines.push(format!("threshold {} -> {}", old.threshold, new.threshold));
    }
    if old.require != new.require {
        let names = |root: &RootDocument| {
            let names: Vec<_> = root.require.iter().map(ToString::to_string).collect();
            if names.is_empty() {
                "-".to_owned()
            } else {
                names.join(", ")
            }
        };
        lines.push(format!("require {} -> {}", names(old), names(new)));
    }
    lines
}

/// A proposal in a file or folder.
fn pending(found: (RootChain, Option<SignedRoot>), path: &Path) -> Result<Proposal, InputError> {
    match found {
        (roots, Some(next)) => Ok(Proposal { roots, next }),
        (_, None) => Err(InputError::NothingPending {
            path: path.to_owned(),
        }),
    }
}
