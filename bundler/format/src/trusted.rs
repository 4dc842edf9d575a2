//! The roots that count here, and which of them a bundle's chain stands under.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::{fs, io};

use manifest_schema::Digest;

use crate::chain::{ChainFault, RootChain, SignedRoot, follow};
use crate::key_error::KeyError;
use crate::root::RootDocument;
use crate::trust_file::TrustFile;
use crate::verify_error::Fault;

/// The roots that a person has accepted, and those that followed from them.
///
/// Of each chain the newest root decides: it names all earlier ones by their digests, so none of them can come back.
#[derive(Clone, Debug, Default)]
pub struct TrustedRoots {
    fingerprints: BTreeSet<Digest>,
    /// Those whose document is at hand.
    documents: BTreeMap<Digest, RootDocument>,
}

impl TrustedRoots {
    /// Exactly these.
    pub fn from_fingerprints(fingerprints: impl IntoIterator<Item = Digest>) -> Self {
        Self {
            fingerprints: fingerprints.into_iter().collect(),
            documents: BTreeMap::new(),
        }
    }

    /// The roots stored in `folder` as `<fingerprint>.json`, and those that are only named there, by an empty file
    /// `<fingerprint>.expected`; none where there is no such folder.
    ///
    /// # Errors
    /// When a file cannot be read, is no root, or is not the one its name says.
    pub fn read_folder(folder: &Path) -> Result<Self, KeyError> {
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            move |source| KeyError::Unreadable { path, source }
        };
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(unreadable(folder)(error)),
        };
        let mut roots = Self::default();
        for entry in entries {
            let path = entry.map_err(unreadable(folder))?.path();
            match TrustFile::read(&path)? {
                Some(TrustFile::Root(bytes)) => {
                    roots.trust_document(&bytes)?;
                }
                Some(TrustFile::Named(fingerprint)) => roots.trust(fingerprint),
                None => {}
            }
        }
        Ok(roots)
    }

    /// Adds a root that a person has accepted.
    pub fn trust(&mut self, fingerprint: Digest) {
        self.fingerprints.insert(fingerprint);
    }

    /// Adds a root whose document is at hand; returns its fingerprint.
    ///
    /// # Errors
    /// When the bytes are no root.
    pub fn trust_document(&mut self, bytes: &[u8]) -> Result<Digest, KeyError> {
        let fingerprint = Digest::of(bytes);
        self.documents
            .insert(fingerprint, RootDocument::parse(bytes)?);
        self.trust(fingerprint);
        Ok(fingerprint)
    }

    /// Adds all roots of another set.
    pub fn join(&mut self, other: Self) {
        self.fingerprints.extend(other.fingerprints);
        self.documents.extend(other.documents);
    }

    /// Whether the root with this fingerprint is trusted, by itself or as an earlier one of a root that is.
    pub fn contains(&self, fingerprint: &Digest) -> bool {
        self.fingerprints.contains(fingerprint) || self.newer_than(fingerprint).is_some()
    }

    /// Whether no root is trusted yet.
    pub fn is_empty(&self) -> bool {
        self.fingerprints.is_empty()
    }

    /// The newest trusted root that names `fingerprint` as an earlier one.
    pub fn newer_than(&self, fingerprint: &Digest) -> Option<(&Digest, &RootDocument)> {
        self.documents
            .iter()
            .filter(|(_, root)| root.previous.contains(fingerprint))
            .max_by_key(|(_, root)| root.version)
    }

    /// Whether a chain may be trusted: it holds, and one of its roots is trusted already. `true` where a newer root
    /// than its last is, so that nothing is to be learnt from it.
    ///
    /// # Errors
    /// When none of its roots is trusted, or it is another chain than the trusted one.
    pub fn knows_newer(&self, chain: &RootChain) -> Result<bool, Fault> {
        Ok(self.judge(chain.roots())?.newer.is_some())
    }

    /// Checks that a root, with the earlier ones that it names, is of no other chain than those that are trusted.
    ///
    /// # Errors
    /// When another root of one of those versions is trusted.
    pub fn check_lineage(&self, root: &RootDocument, fingerprint: Digest) -> Result<(), Fault> {
        let lineage: Vec<Digest> = root.previous.iter().copied().chain([fingerprint]).collect();
        self.refuse_fork(&lineage)
    }

    /// Where a chain stands: which of its roots decides, and whether a newer one is trusted already.
    ///
    /// Nothing of the chain is parsed but what a trusted root, or an earlier root of the chain, vouches for.
    pub(crate) fn judge(&self, chain: &[SignedRoot]) -> Result<Standing, Fault> {
        let fingerprints: Vec<Digest> = chain.iter().map(SignedRoot::fingerprint).collect();
        let (Some(last), Some(offered)) = (chain.last(), fingerprints.last()) else {
            return Err(Fault::RootUntrusted {
                fingerprint: String::new(),
            });
        };
        self.refuse_fork(&fingerprints)?;
        if let Some((_, newer)) = self.newer_than(offered) {
            return Ok(Standing {
                root: RootDocument::parse(&last.bytes)?,
                fingerprint: *offered,
                newer: Some(newer.clone()),
            });
        }
        let trusted = fingerprints
            .iter()
            .rposition(|fingerprint| self.fingerprints.contains(fingerprint));
        let Some(trusted) = trusted else {
            return Err(Fault::RootUntrusted {
                fingerprint: offered.hex(),
            });
        };
        let mut root = RootDocument::parse(&chain[trusted].bytes)?;
        if root.version as usize != trusted + 1 || root.previous != fingerprints[..trusted] {
            let version = trusted as u32 + 1;
            let cause = "it names other earlier roots".to_owned();
            return Err(ChainFault::Follows { version, cause }.into());
        }
        for (place, next) in chain.iter().enumerate().skip(trusted + 1) {
            root = follow(&root, &fingerprints[..place], next)?;
        }
        Ok(Standing {
            root,
            fingerprint: *offered,
            newer: None,
        })
    }

    /// A trusted root of the same chain must be in it, or come after it.
    fn refuse_fork(&self, fingerprints: &[Digest]) -> Result<(), Fault> {
        for (fingerprint, root) in &self.documents {
            let same_chain = root.previous.first() == fingerprints.first();
            if root.previous.is_empty() || !same_chain {
                continue;
            }
            let lineage = root.previous.iter().chain([fingerprint]);
            let differs = lineage
                .zip(fingerprints)
                .position(|(ours, theirs)| ours != theirs);
            if let Some(place) = differs {
                return Err(Fault::RootForked {
                    version: place as u32 + 1,
                    offered: fingerprints[place].hex(),
                });
            }
        }
        Ok(())
    }
}

/// Under which roots a bundle stands.
#[derive(Debug)]
pub(crate) struct Standing {
    /// The bundle's own newest root.
    pub(crate) root: RootDocument,
    /// Its fingerprint.
    pub(crate) fingerprint: Digest,
    /// A newer one that is trusted here; its keys decide too.
    pub(crate) newer: Option<RootDocument>,
}
