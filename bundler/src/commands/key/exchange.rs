//! `key export|sign|import`: a root that waits for signatures goes round the machines that have the keys.

use std::path::PathBuf;

use bundle_format::{RootChain, SignedRoot};
use console::View;
use manifest_schema::Digest;
use report::{Outcome, Trouble};
use serde_json::json;

use super::{Passphrase, changes, pending};
use crate::error::InputError;
use crate::key_folder::{KeyFolder, read_roots};
use crate::output::write_whole;

/// Write the roots into one file: for another machine's key, or for a site
#[derive(clap::Args)]
pub(super) struct Export {
    /// A key folder
    folder: PathBuf,
    /// Where to write them
    output: PathBuf,
}

impl Export {
    pub(super) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let (roots, next) = KeyFolder::open(&self.folder)?.roots()?;
        write_whole(&self.output, &roots.to_bytes(next.as_ref())?)?;
        let result = json!({
            "path": self.output, "version": roots.last().version, "waits": next.is_some(),
        });
        view.result(&result, &self.output.display().to_string());
        Ok(Outcome::Done)
    }
}

/// Sign the root that waits in a file, after looking at what it changes
#[derive(clap::Args)]
pub(super) struct Sign {
    /// A file that `key export` wrote; the signature is added to it
    file: PathBuf,
    /// Folder of the key that signs
    #[arg(long, value_name = "DIR")]
    key: PathBuf,
    #[command(flatten)]
    passphrase: Passphrase,
}

impl Sign {
    pub(super) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let folder = KeyFolder::open(&self.key)?;
        let mut proposal = pending(read_roots(&self.file)?, &self.file)?;
        // A key that was made alone, to be added, knows no root yet: a person compares the fingerprint.
        if folder.knows_roots() {
            let (known, _) = folder.roots()?;
            begins_with(&proposal.roots, &known).ok_or_else(|| self.differ())?;
        }
        let document = proposal.roots.check_next(&proposal.next.bytes)?;
        let args = [
            ("version", document.version.to_string()),
            ("fingerprint", proposal.next.fingerprint().hex()),
            ("now", proposal.roots.fingerprint().hex()),
            (
                "changes",
                changes(proposal.roots.last(), &document).join("\n  "),
            ),
        ];
        view.note("bundler.root-to-sign", &args);
        if !view.confirm("bundler.root-sign-question", &args, "--yes")? {
            return Ok(Outcome::Failed);
        }
        let (_, key) = self.passphrase.open(view, &folder)?;
        if !proposal.roots.last().counts(key.key_id()) && !document.counts(key.key_id()) {
            let (text, found) = (key.key_id().to_string(), 0);
            return Err(InputError::KeyUnknown { text, found }.into());
        }
        proposal.sign(&[&key])?;
        let bytes = proposal.roots.to_bytes(Some(&proposal.next))?;
        write_whole(&self.file, &bytes)?;
        let result = json!({
            "path": self.file, "version": document.version, "key_id": key.key_id(),
            "complete": proposal.roots.lacking(&proposal.next)?.is_empty(),
        });
        view.result(&result, &self.file.display().to_string());
        Ok(Outcome::Done)
    }

    fn differ(&self) -> InputError {
        InputError::RootsDiffer {
            path: self.file.clone(),
        }
    }
}

/// Take roots and signatures from a file into a key folder
#[derive(clap::Args)]
pub(super) struct Import {
    /// A key folder
    folder: PathBuf,
    /// A file that `key export` wrote, and others signed
    file: PathBuf,
}

impl Import {
    pub(super) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let folder = KeyFolder::open(&self.folder)?;
        let (theirs, their_next) = read_roots(&self.file)?;
        let (roots, mut next) = if folder.knows_roots() {
            let (ours, next) = folder.roots()?;
            if begins_with(&theirs, &ours).is_some() {
                let same = theirs.last().version == ours.last().version;
                (theirs, next.filter(|_| same))
            } else {
                begins_with(&ours, &theirs).ok_or_else(|| self.differ())?;
                (ours, next)
            }
        } else {
            (theirs, None)
        };
        if let Some(their_next) = their_next {
            merge(&mut next, their_next).ok_or_else(|| self.differ())?;
        }
        let Some(next) = next.filter(|next| roots.check_next(&next.bytes).is_ok()) else {
            folder.save(&roots, None)?;
            let (version, fingerprint) = (roots.last().version, roots.fingerprint().hex());
            let args = [
                ("version", version.to_string()),
                ("fingerprint", fingerprint.clone()),
            ];
            view.note("bundler.root-made", &args);
            let result = json!({
                "version": version, "fingerprint": fingerprint, "complete": true, "missing": [],
            });
            view.result(&result, &fingerprint);
            return Ok(Outcome::Done);
        };
        super::Proposal { roots, next }.settle(view, &folder)
    }

    fn differ(&self) -> InputError {
        InputError::RootsDiffer {
            path: self.file.clone(),
        }
    }
}

/// Whether the longer chain begins with all of the shorter one.
fn begins_with(longer: &RootChain, shorter: &RootChain) -> Option<()> {
    let longer: Vec<Digest> = longer.fingerprints().collect();
    let shorter: Vec<Digest> = shorter.fingerprints().collect();
    longer.starts_with(&shorter).then_some(())
}

/// Adds the signatures of one copy of a root to another; `None` where they are two roots.
fn merge(ours: &mut Option<SignedRoot>, theirs: SignedRoot) -> Option<()> {
    match ours {
        None => *ours = Some(theirs),
        Some(ours) if ours.bytes == theirs.bytes => {
            for signature in theirs.signatures {
                if !ours
                    .signatures
                    .iter()
                    .any(|(key, _, _)| *key == signature.0)
                {
                    ours.signatures.push(signature);
                }
            }
            ours.signatures.sort_by(|a, b| a.0.cmp(&b.0));
        }
        Some(_) => return None,
    }
    Some(())
}
