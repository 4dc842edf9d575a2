//! From blobs to signed files: what `build` and `split` have in common.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bundle_format::{
    Algorithm, BuildOptions, BundleInput, Lack, RootChain, SigningKey, Squeeze, write_parity,
};
use console::View;
use manifest_schema::{Arch, Digest, Profiles, Provenance, RequiredBlob};
use report::{Outcome, Trouble};
use serde_json::json;

use crate::commands::sign::say_lack;
use crate::key_folder::{open_keys, read_roots};
use crate::settings;

/// How a bundle is written.
#[derive(clap::Args)]
pub(crate) struct Packing {
    /// Folder of a key that signs, as `keygen` made it (can be repeated)
    #[arg(long, value_name = "DIR", required_unless_present = "unsigned")]
    key: Vec<PathBuf>,
    /// File whose first line is the passphrase, one for all keys or one for each [default: $FERRY_KEY_PASSPHRASE,
    /// else asked]
    #[arg(long, value_name = "FILE")]
    passphrase_file: Vec<PathBuf>,
    /// Trust root of the bundle: a key folder, a file of roots or a root document [default: that of the first --key]
    #[arg(long, value_name = "PATH")]
    root: Option<PathBuf>,
    /// Let `sign` add the signatures later: no reader takes the bundle before
    #[arg(long, requires = "root", conflicts_with_all = ["key", "parity"])]
    unsigned: bool,
    /// Where to write the bundle [default: NAME-RELEASE.ferry]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write volumes of at most this size where one file is larger: fat32, dvd, bd25, bd50, or bytes such as 4.7G
    #[arg(long, value_name = "SIZE", value_parser = settings::volume_size)]
    volume_size: Option<u64>,
    /// Write parity beside the bundle, which can restore this share of it, in percent
    #[arg(long, value_name = "PERCENT", value_parser = settings::percent)]
    parity: Option<u32>,
    /// Store weights of these kinds in planes of their bytes, for slow media: bf16 keeps two thirds (can be repeated)
    /// [default: as they are; `split`: as they were]
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    squeeze: Vec<Kind>,
    /// Begin raw blobs at multiples of 4 KiB: where the bundle and the prefix are on one XFS or btrfs, installing then
    /// shares their blocks and copies nothing (`split`: also where they did)
    #[arg(long)]
    align: bool,
    /// Threads that hash
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, usize::from))]
    pub(crate) threads: usize,
}

/// Kinds of numbers that are stored in planes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Kind {
    /// Brain floats: about 0.67 of their size
    Bf16,
    /// 16-bit floats: about 0.85
    Fp16,
    /// 32-bit floats: about 0.83
    Fp32,
    /// None
    None,
}

/// Keys that sign, and the roots that name them.
pub(crate) struct Signers {
    keys: Vec<SigningKey>,
    pub(crate) roots: RootChain,
}

impl Signers {
    /// The key that signs models by themselves: of those for P-256 the one with the lowest identifier, in whichever
    /// order they were given.
    pub(crate) fn model_key(&self) -> Option<&SigningKey> {
        let p256 = |key: &&SigningKey| key.public().algorithm() == Algorithm::P256;
        let keys = self.keys.iter().filter(p256);
        keys.min_by(|a, b| a.key_id().cmp(b.key_id()))
    }
}

/// What goes into a bundle.
pub(crate) struct Load<'a> {
    pub(crate) lock: &'a [u8],
    pub(crate) profiles: &'a Profiles,
    pub(crate) provenance: &'a Provenance,
    pub(crate) blobs: &'a [(Digest, PathBuf)],
    pub(crate) installers: &'a BTreeMap<Arch, (Digest, PathBuf)>,
    /// Licence texts.
    pub(crate) licenses: &'a BTreeMap<Digest, Vec<u8>>,
    pub(crate) requires: &'a [RequiredBlob],
    /// How the weights are stored where nothing else is asked for.
    pub(crate) squeeze: Squeeze,
    /// Whether blobs are aligned, also where that is not asked for.
    pub(crate) align: bool,
}

impl Packing {
    /// Opens the keys. First of all: a slip in a passphrase must not cost an hour of downloads.
    pub(crate) fn signers(&self, view: &View) -> Result<Signers, Trouble> {
        let root = self.root.as_ref().or(self.key.first());
        let (roots, _) = read_roots(root.map_or(Path::new(""), PathBuf::as_path))?;
        let keys = open_keys(view, &self.key, &self.passphrase_file)?;
        Ok(Signers { keys, roots })
    }

    /// The kinds of numbers that were asked for.
    fn squeeze(&self) -> Option<Squeeze> {
        let asked = |kind| self.squeeze.contains(&kind);
        (!self.squeeze.is_empty()).then(|| Squeeze {
            bf16: asked(Kind::Bf16),
            fp16: asked(Kind::Fp16),
            fp32: asked(Kind::Fp32),
        })
    }

    /// Writes the bundle, and its parity where that was asked for.
    pub(crate) fn pack(
        &self,
        signers: &Signers,
        load: &Load,
        view: &View,
    ) -> Result<Outcome, Trouble> {
        let profiles = load.profiles;
        let default = || PathBuf::from(format!("{}-{}.ferry", profiles.name, profiles.release));
        let output = self.output.clone().unwrap_or_else(default);
        let input = BundleInput {
            lock: load.lock,
            profiles,
            provenance: load.provenance,
            blobs: load.blobs,
            installers: load.installers,
            roots: &signers.roots,
            licenses: load.licenses,
            requires: load.requires,
        };
        let options = BuildOptions {
            threads: self.threads,
            volume_size: self.volume_size,
            squeeze: self.squeeze().unwrap_or(load.squeeze),
            align: self.align || load.align,
            sign_later: self.unsigned,
            ..BuildOptions::default()
        };
        let keys: Vec<&SigningKey> = signers.keys.iter().collect();
        let built = bundle_format::build(&input, &keys, &output, options, view)?;
        let parity = match self.parity {
            None => None,
            Some(share) => {
                let size = self.volume_size;
                Some(write_parity(&built.paths, share, size, self.threads, view)?)
            }
        };
        let parity: Vec<_> = parity.iter().flat_map(|parity| &parity.paths).collect();
        let shown: Vec<_> = built
            .paths
            .iter()
            .map(|p| p.display().to_string())
            .collect();
        view.note(
            "bundler.built",
            &[
                ("path", shown.join(", ")),
                ("size", built.size.to_string()),
                ("fingerprint", built.fingerprint.hex()),
            ],
        );
        if built.lack.is_some() {
            say_lack(view, built.lack.as_ref());
        }
        let result = json!({
            "bundle": built.paths.first(), "volumes": built.paths, "parity": parity,
            "size": built.size, "blobs": built.blobs, "requires": load.requires.len(),
            "statement": built.statement_digest, "fingerprint": built.fingerprint.hex(),
            "missing": built.lack.as_ref().map_or(0, Lack::missing),
        });
        view.result(&result, &shown.join("\n"));
        Ok(Outcome::Done)
    }
}
