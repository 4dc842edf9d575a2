//! `inspect`: what a bundle says it holds. Trusts nothing and says so.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bundle_format::{Sealed, TrustedRoots, Verified};
use console::View;
use manifest_schema::{ByteSize, Codec, Index};
use report::{Outcome, Trouble};

use crate::commands::plan::image_line;
use crate::licenses::by_license;

/// Show what is in a bundle; this does not say that it may be trusted
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The bundle, one of its volumes, or their folder
    bundle: PathBuf,
    /// List what is in it by licence
    #[arg(long)]
    licenses: bool,
}

impl Args {
    pub(crate) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let sealed = Sealed::open(&self.bundle)?;
        let offered = sealed.fingerprint_offered()?;
        let bundle = sealed.verify(&TrustedRoots::from_fingerprints([offered]))?;
        view.note("bundler.inspect-only", &[("fingerprint", offered.hex())]);
        let profiles = &bundle.profiles;
        if self.licenses {
            show_licenses(&bundle, view);
            return Ok(Outcome::Done);
        }
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
        for code in &bundle.provenance.code_on_load {
            let allowed = code.allowed_by.as_ref();
            lines.push(format!(
                "runs code when loaded ({}): {}/{}{}",
                code.form.as_str(),
                code.component,
                code.path,
                allowed.map_or_else(String::new, |pattern| format!(", allowed by `{pattern}`"))
            ));
        }
        for image in &profiles.images {
            let blobs = image.blobs().map(|blob| (blob.digest, blob.size.0));
            let once: BTreeMap<_, _> = blobs.collect();
            lines.push(image_line(image, ByteSize(once.values().sum())));
        }
        for set in &profiles.os_packages {
            let edition = set
                .edition
                .as_deref()
                .map_or(String::new(), |name| format!(" {name}"));
            let size = set.packages.iter().map(|package| package.file.size.0).sum();
            lines.push(format!(
                "os-packages {}  {}{edition} {}  {} packages  {}",
                set.name,
                set.os,
                set.arch,
                set.packages.len(),
                ByteSize(size)
            ));
            for package in &set.packages {
                let license = package.license.as_deref().unwrap_or("—");
                lines.push(format!(
                    "  {} {} {}  {license}",
                    package.name, package.version, package.arch
                ));
            }
        }
        for (digest, origin) in &bundle.provenance.blobs {
            lines.push(format!("blob {}  {}", digest.hex(), origin.line()));
        }
        lines.extend(stored(&bundle.index, view));
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

/// What the blobs take, by how they are stored.
fn stored(index: &Index, view: &View) -> Vec<String> {
    let mut lines = Vec::new();
    for (codec, name) in [
        (Codec::Raw, None),
        (Codec::Zstd, Some("zstd")),
        (Codec::Planes, Some("planes")),
    ] {
        let blobs = index.blobs.iter().filter(|blob| blob.codec == codec);
        let (mut count, mut size, mut stored) = (0, 0, 0);
        for blob in blobs {
            count += 1;
            size += blob.size.0;
            stored += blob.stored_size();
        }
        if count == 0 {
            continue;
        }
        let ratio = stored as f64 / size.max(1) as f64;
        let mut args = vec![
            ("count", count.to_string()),
            ("size", ByteSize(size).to_string()),
        ];
        lines.push(if let Some(name) = name {
            args.push(("codec", name.to_owned()));
            args.push(("stored", ByteSize(stored).to_string()));
            args.push(("ratio", format!("{ratio:.3}")));
            view.text("bundler.stored-smaller", &args)
        } else {
            view.text("bundler.stored-raw", &args)
        });
    }
    if index.align.is_some() {
        lines.push(view.text::<&str>("bundler.stored-aligned", &[]));
    }
    lines
}

/// Names by licence, then the texts.
fn show_licenses(bundle: &Verified, view: &View) {
    let groups = by_license(&bundle.profiles, &bundle.provenance);
    let mut lines = Vec::new();
    for (license, names) in &groups {
        lines.push(license.clone());
        lines.extend(names.iter().map(|name| format!("  {name}")));
    }
    for text in &bundle.provenance.license_texts {
        let hex = text.digest.hex();
        lines.push(format!(
            "meta/licenses/{hex}.txt  {}: {}",
            text.of, text.path
        ));
    }
    let result = serde_json::json!({
        "licenses": groups,
        "decisions": bundle.provenance.licenses,
        "texts": bundle.provenance.license_texts,
    });
    view.result(&result, &lines.join("\n"));
}
