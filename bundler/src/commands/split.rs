//! `split`: a bundle into volumes of another size.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bundle_format::{Sealed, Squeeze, TrustedRoots, Verified};
use console::View;
use manifest_schema::{ByteSize, Codec, Digest, RequiredBlob};
use report::{Outcome, Step, Trouble};

use crate::output::Counted;
use crate::packing::{Load, Packing};
use crate::settings::CacheFlag;

/// Write a bundle again in volumes of another size, signed anew; nothing is fetched
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The bundle, one of its volumes, or their folder. It must be signed as the root of `--key` or `--root` asks
    bundle: PathBuf,
    #[command(flatten)]
    packing: Packing,
    #[command(flatten)]
    cache: CacheFlag,
}

impl Args {
    pub(crate) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let signers = self.packing.signers(view)?;
        // Signed under any of these roots, and as the newest of them asks.
        let mut roots = TrustedRoots::default();
        roots.trust_document(signers.roots.last_bytes())?;
        let bundle = Sealed::open(&self.bundle)?.verify(&roots)?;
        let cache = self.cache.open()?;
        let total = bundle.index.blobs.iter().map(|blob| blob.size.0).sum();
        let step = Step::start(view, "step.take-apart", "", Some(total), "bytes");
        let (mut blobs, mut done, mut end) = (Vec::new(), 0, 0);
        for blob in &bundle.index.blobs {
            cache.fill(&blob.digest, blob.size.0, |out| -> Result<(), Trouble> {
                let (step, done) = (&step, &mut done);
                Ok(bundle.copy_blob(&blob.digest, &mut Counted { out, step, done })?)
            })?;
            // What the cache has already is not read.
            end += blob.size.0;
            done = end;
            step.progress(done);
            blobs.push((blob.digest, cache.path(&blob.digest)));
        }
        step.finish();
        let mut installers = BTreeMap::new();
        for arch in bundle.installers() {
            let bytes = bundle.installer(arch)?;
            let taken = cache.take(&mut bytes.as_slice(), bytes.len() as u64)?;
            installers.insert(arch, (taken.digest, cache.path(&taken.digest)));
        }
        let blob = |(digest, size): (&Digest, &u64)| RequiredBlob {
            digest: *digest,
            size: ByteSize(*size),
        };
        let requires: Vec<_> = bundle.requires().iter().map(blob).collect();
        let load = Load {
            lock: &bundle.lock,
            profiles: &bundle.profiles,
            provenance: &bundle.provenance,
            blobs: &blobs,
            installers: &installers,
            licenses: &bundle.licenses(),
            requires: &requires,
            squeeze: squeeze_of(&bundle),
            align: bundle.index.align.is_some(),
        };
        self.packing.pack(&signers, &load, view)
    }
}

/// All kinds, where the bundle has weights in planes: which kinds they were is not written down.
fn squeeze_of(bundle: &Verified) -> Squeeze {
    let planes = |blob: &manifest_schema::Blob| blob.codec == Codec::Planes;
    if bundle.index.blobs.iter().any(planes) {
        Squeeze::ALL
    } else {
        Squeeze::default()
    }
}
