//! `inspect`: what a bundle says it holds. Trusts nothing and says so.

use std::path::PathBuf;

use bundle_format::{Sealed, TrustedRoots};
use console::View;
use manifest_schema::ByteSize;
use report::{Outcome, Trouble};

/// Show what is in a bundle; this does not say that it may be trusted
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The bundle, one of its volumes, or their folder
    bundle: PathBuf,
}

impl Args {
    pub(crate) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let sealed = Sealed::open(&self.bundle)?;
        let offered = sealed.fingerprint_offered()?;
        let bundle = sealed.verify(&TrustedRoots::from_fingerprints([offered]))?;
        view.note("bundler.inspect-only", &[("fingerprint", offered.hex())]);
        let profiles = &bundle.profiles;
        let mut lines = vec![
            format!(
                "{} {} ({})",
                profiles.name, profiles.release, profiles.channel
            ),
            format!("root {}", offered.hex()),
        ];
        for component in &profiles.components {
            let kind = serde_json::to_value(component.kind).unwrap_or_default();
            let size = component.files.iter().map(|file| file.size.0).sum();
            lines.push(format!(
                "{} {}  {}  {}",
                kind.as_str().unwrap_or_default(),
                component.name,
                component.license,
                ByteSize(size)
            ));
        }
        for backend in &profiles.backends {
            let wheels = backend
                .python
                .as_ref()
                .map_or(0, |python| python.wheels.len());
            lines.push(format!(
                "backend {}  {} {}  {} files, {wheels} wheels",
                backend.name,
                backend.chip,
                backend.arch,
                backend.files.len()
            ));
        }
        for (digest, origin) in &bundle.provenance.blobs {
            lines.push(format!("blob {}  {}", digest.hex(), origin.line()));
        }
        let result = serde_json::json!({
            "fingerprint_offered": offered.hex(),
            "statement": bundle.statement_digest,
            "profiles": profiles,
            "provenance": bundle.provenance,
            "index": bundle.index,
        });
        view.result(&result, &lines.join("\n"));
        Ok(Outcome::Done)
    }
}
