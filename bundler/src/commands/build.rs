//! `build`: a lock to a signed bundle.

use std::path::PathBuf;

use bundle_format::{BuildOptions, BundleInput, SigningKey};
use bundle_mirror::{Downloader, RateLimit, Rewrite};
use console::View;
use manifest_schema::lock::Lock;
use report::{Outcome, Trouble};

use crate::assembly::Assembler;
use crate::commands::lock::folder_of;
use crate::error::InputError;
use crate::settings::{self, CacheFlag};

/// Fetch what a lock names, check it, and write one signed bundle
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The lock
    lock: PathBuf,
    /// Folder that `keygen` made
    #[arg(long, value_name = "DIR")]
    key: PathBuf,
    /// File whose first line is the key's passphrase [default: $FERRY_KEY_PASSPHRASE, else asked]
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Where to write the bundle [default: NAME-RELEASE.ferry]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Threads that hash
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, usize::from))]
    threads: usize,
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
        let read = |name: &str| {
            let path = self.key.join(name);
            std::fs::read_to_string(&path).map_err(InputError::file(&path))
        };
        let (private, root) = (read("private.pem")?, read("root.json")?);
        let passphrase = settings::passphrase(view, self.passphrase_file.as_deref(), false)?;
        // The key is opened first: a slip in its passphrase must not cost an hour of downloads.
        let key = SigningKey::from_encrypted_pem(&private, passphrase.as_bytes())?;
        let cache = self.cache.open()?;
        let web = settings::web()?;
        // An index that asks for a login asks again for the files.
        let (web, _) = web.with_login(&settings::index_url(None))?;
        let assembler = Assembler {
            lock: &lock,
            lock_folder: folder_of(&self.lock)?,
            cache: &cache,
        };
        let limit = self.limit_rate.map(RateLimit::new);
        let downloader = Downloader {
            web: &web,
            cache: &cache,
            rewrites: &self.mirror,
            limit: limit.as_ref(),
        };
        assembler.take_files(&self.bring)?;
        downloader.fetch_all(&assembler.downloads()?, self.downloads, view)?;
        let parts = assembler.assemble(view)?;
        let output = self
            .output
            .unwrap_or_else(|| PathBuf::from(format!("{}-{}.ferry", lock.name, lock.release)));
        let input = BundleInput {
            lock: &lock_bytes,
            profiles: &parts.profiles,
            provenance: &parts.provenance,
            blobs: &parts.blobs,
            installers: &parts.installers,
            root: root.as_bytes(),
        };
        let options = BuildOptions {
            threads: self.threads,
            ..BuildOptions::default()
        };
        let built = bundle_format::build(&input, &[&key], &output, options, view)?;
        view.note(
            "bundler.built",
            &[
                ("path", built.path.display().to_string()),
                ("size", built.size.to_string()),
                ("fingerprint", built.fingerprint.hex()),
            ],
        );
        let result = serde_json::json!({
            "bundle": built.path, "size": built.size, "blobs": built.blobs,
            "statement": built.statement_digest, "fingerprint": built.fingerprint.hex(),
        });
        view.result(&result, &built.path.display().to_string());
        Ok(Outcome::Done)
    }
}
