//! `build`: a lock to a signed bundle.

use std::collections::BTreeSet;
use std::path::PathBuf;

use bundle_format::Squeeze;
use bundle_mirror::{Download, Downloader, MirrorError, RateLimit, Rewrite, Web};
use console::View;
use manifest_schema::lock::Lock;
use manifest_schema::{ByteSize, Digest, KeyId, RequiredBlob};
use report::{Outcome, Trouble};

use crate::assembly::{Assembler, Parts};
use crate::commands::lock::folder_of;
use crate::error::InputError;
use crate::licenses::licenses;
use crate::model_signatures::sign_models;
use crate::packing::{Load, Packing};
use crate::settings::{self, CacheFlag};
use crate::since::Since;
use crate::vendor;

/// Fetch what a lock names, check it, and write one signed bundle
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The lock
    lock: PathBuf,
    #[command(flatten)]
    packing: Packing,
    /// Leave out what this bundle brought, or what `ferry-installer inventory` found: the result is a delta
    #[arg(long, value_name = "FILE")]
    since: Option<PathBuf>,
    /// Take only an inventory that was signed with this key [default: the plan's `site_key`]
    #[arg(long, value_name = "FINGERPRINT", requires = "since")]
    site_key: Option<KeyId>,
    /// Downloads at a time
    #[arg(long, default_value_t = 4)]
    downloads: usize,
    /// Try addresses that begin with FROM at TO first (can be repeated)
    #[arg(long, value_name = "FROM=TO", value_parser = settings::rewrite)]
    mirror: Vec<Rewrite>,
    /// Bytes a second that all downloads together may take, such as 20M
    #[arg(long, value_name = "BYTES", value_parser = settings::bytes)]
    limit_rate: Option<u64>,
    /// Folder with files that only their vendors may hand out; they are found by SHA-256 (can be repeated)
    #[arg(long, value_name = "DIR")]
    bring: Vec<PathBuf>,
    #[command(flatten)]
    cache: CacheFlag,
}

impl Args {
    pub(crate) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let lock_bytes = std::fs::read(&self.lock).map_err(InputError::file(&self.lock))?;
        let lock = Lock::parse(&lock_bytes).map_err(|problem| InputError::Manifest {
            path: self.lock.clone(),
            problem,
        })?;
        let signers = self.packing.signers(view)?;
        let pinned = self.site_key.as_ref().or(lock.site_key.as_ref());
        let since = Since { pinned, view };
        let there = self
            .since
            .as_deref()
            .map(|path| since.read(path))
            .transpose()?;
        let cache = self.cache.open()?;
        // An index that asks for a login asks again for the files.
        let (web, _) = settings::web()?.with_login(&settings::index_url(None))?;
        let assembler = Assembler {
            lock: &lock,
            lock_folder: folder_of(&self.lock)?,
            cache: &cache,
        };
        let downloads = assembler.downloads()?;
        let web = logged_in(web, &downloads, &lock)?;
        let limit = self.limit_rate.map(RateLimit::new);
        let downloader = Downloader {
            web: &web,
            cache: &cache,
            rewrites: &self.mirror,
            limit: limit.as_ref(),
        };
        assembler.take_files(&self.bring)?;
        downloader.fetch_all(&downloads, self.downloads, view)?;
        let mut parts = assembler.assemble(view)?;
        cache.settle()?;
        let licenses = licenses(&lock, &mut parts, &cache)?;
        if !licenses.unknown.is_empty() {
            let args = [
                ("count", licenses.unknown.len().to_string()),
                ("wheels", licenses.unknown.join(", ")),
            ];
            view.note("license.unknown", &args);
        }
        if !licenses.left_out.is_empty() {
            view.note(
                "license.left-out",
                &[("texts", licenses.left_out.join(", "))],
            );
        }
        // A bundle that is signed later has no key at hand: its models carry no signature of their own.
        if let Some(key) = signers.model_key() {
            sign_models(&mut parts, key, &cache)?;
        } else {
            let none: &[(&str, String)] = &[];
            view.note("bundler.models-unsigned", none);
        }
        vendor::check(&parts.profiles, &cache, view)?;
        for code in &parts.provenance.code_on_load {
            let args = [
                ("component", code.component.to_string()),
                ("file", code.path.to_string()),
                ("pattern", code.allowed_by.clone().unwrap_or_default()),
            ];
            view.note(
                if code.form.runs_unasked() {
                    "gate.allowed"
                } else {
                    "gate.brings-program"
                },
                &args,
            );
        }
        let requires = leave_out(&mut parts, there.unwrap_or_default())?;
        let load = Load {
            lock: &lock_bytes,
            profiles: &parts.profiles,
            provenance: &parts.provenance,
            blobs: &parts.blobs,
            installers: &parts.installers,
            licenses: &licenses.texts,
            requires: &requires,
            squeeze: Squeeze::default(),
            align: false,
        };
        self.packing.pack(&signers, &load, view)
    }
}

/// Takes out of `parts` what is there already; says what the target must have then.
fn leave_out(
    parts: &mut Parts,
    mut there: BTreeSet<Digest>,
) -> Result<Vec<RequiredBlob>, InputError> {
    // What is installed on the machine itself is no blob of the store there.
    for item in parts.profiles.backends.iter().flat_map(|b| &b.host) {
        for (_, file) in item.files() {
            there.remove(file.blob());
        }
    }
    let left_out = parts
        .blobs
        .extract_if(.., |(digest, _)| there.contains(digest));
    let required = |(digest, path): (Digest, PathBuf)| {
        let found = std::fs::metadata(&path).map_err(InputError::file(&path))?;
        let size = ByteSize(found.len());
        Ok(RequiredBlob { digest, size })
    };
    left_out.map(required).collect()
}

/// A client that can log in at registries, where one is needed: a full cache needs no login.
fn logged_in(web: Web, downloads: &[Download], lock: &Lock) -> Result<Web, MirrorError> {
    if downloads.iter().any(|download| download.registry) {
        settings::with_registries(web, &lock.logins)
    } else {
        Ok(web)
    }
}
