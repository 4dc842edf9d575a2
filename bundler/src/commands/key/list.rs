//! `key list`: who may sign.

use std::path::PathBuf;

use bundle_format::RootDocument;
use console::View;
use report::{Outcome, Trouble};
use serde_json::json;

use super::changes;
use crate::key_folder::{KeyFolder, read_roots};

/// Say who may sign, and what a new root still lacks
#[derive(clap::Args)]
pub(super) struct Args {
    /// A key folder, a file of roots or a root document
    path: PathBuf,
}

impl Args {
    pub(super) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let (roots, next) = read_roots(&self.path)?;
        let own = if self.path.is_dir() {
            let folder = KeyFolder::open(&self.path)?;
            folder.public().ok().map(|key| key.key_id().clone())
        } else {
            None
        };
        let root = roots.last();
        let fingerprint = roots.fingerprint().hex();
        let mut lines = vec![view.text(
            "bundler.root-line",
            &[
                ("version", root.version.to_string()),
                ("fingerprint", fingerprint.clone()),
                ("threshold", root.threshold.to_string()),
                ("count", root.usable().count().to_string()),
            ],
        )];
        for key in root.usable() {
            let mark = if own.as_ref() == Some(&key.keyid) {
                "*"
            } else {
                " "
            };
            lines.push(format!("{mark} {:<8}{}", key.scheme.name(), key.keyid));
        }
        for algorithm in &root.require {
            let args = [("algorithm", algorithm.to_string())];
            lines.push(view.text("bundler.root-requires", &args));
        }
        for key in &root.revoked {
            lines.push(view.text("bundler.root-revoked", &[("key", key.to_string())]));
        }
        let mut waits = serde_json::Value::Null;
        if let Some(next) = &next {
            let document = RootDocument::parse(&next.bytes)?;
            lines.push(view.text(
                "bundler.root-waits",
                &[
                    ("version", document.version.to_string()),
                    ("fingerprint", next.fingerprint().hex()),
                ],
            ));
            lines.extend(
                changes(root, &document)
                    .iter()
                    .map(|line| format!("  {line}")),
            );
            let mut missing = Vec::new();
            for (by, lack) in roots.lacking(next)? {
                let args = [
                    ("by", by.to_string()),
                    ("missing", lack.missing().to_string()),
                    ("keys", lack.keys().to_owned()),
                ];
                lines.push(view.text("bundler.root-missing", &args));
                missing.push(json!({
                    "of_version": by, "missing": lack.missing(), "keys": lack.keys(),
                }));
            }
            waits = json!({
                "root": document, "fingerprint": next.fingerprint().hex(), "missing": missing,
            });
        }
        let all: Vec<_> = roots.fingerprints().map(|print| print.hex()).collect();
        let result = json!({
            "root": root, "fingerprint": fingerprint, "fingerprints": all, "own_key": own,
            "waits": waits,
        });
        view.result(&result, &lines.join("\n"));
        Ok(Outcome::Done)
    }
}
