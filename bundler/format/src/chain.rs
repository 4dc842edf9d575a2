//! The chain of trust roots: each is signed by the one before it and by itself, so that who trusts one may trust the
//! next.
//!
//! ```text
//! 001.json ◀── a person compared its fingerprint
//! 002.json     names 001's digest; signed by enough keys of 001 and by enough keys of 002
//! 003.json     names the digests of 001 and 002; signed by enough keys of 002 and by enough keys of 003
//! ```
//!
//! The same rules hold for members of a bundle, for `meta/` of an installed release, and for a file of roots that
//! travels alone.

use manifest_schema::{Digest, KeyId};
use report::Args;

use crate::algorithm::Algorithm;
use crate::key_error::KeyError;
use crate::keys::{BadSignature, PublicKey, SigningKey};
use crate::root::{Lack, RootDocument};
use crate::statement::{ROOT_TYPE, pre_authentication};

/// Why a root does not follow from the one before it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainFault {
    /// A root of the chain is not there.
    #[error("the chain of trust roots has no version {version}")]
    Gap {
        /// The version that is missing.
        version: u32,
    },
    /// A root says of itself what does not agree with its place.
    #[error("version {version} of the trust root does not follow from the one before it: {cause}")]
    Follows {
        /// The version whose place it has.
        version: u32,
        /// What is wrong.
        cause: String,
    },
    /// A root's signature is not by a key of it or of the one before, or does not hold.
    #[error("a signature by key {key} of version {version} of the trust root does not hold")]
    Signature {
        /// The root.
        version: u32,
        /// The key that the signature names.
        key: String,
    },
    /// Too few keys signed a root.
    #[error("version {version} of the trust root is not signed as version {by} asks: {lack}")]
    Unsigned {
        /// The root.
        version: u32,
        /// The root whose keys should have signed: itself, or the one before.
        by: u32,
        /// What is missing.
        lack: Lack,
    },
}

impl ChainFault {
    /// A stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Gap { .. } => "bundle.root-gap",
            Self::Follows { .. } => "bundle.root-not-next",
            Self::Signature { .. } => "bundle.root-signature",
            Self::Unsigned { .. } => "bundle.root-unsigned",
        }
    }

    /// The values of its text.
    pub fn args(&self) -> Args {
        match self {
            Self::Gap { version } => vec![("version", version.to_string())],
            Self::Follows { version, cause } => {
                vec![("version", version.to_string()), ("cause", cause.clone())]
            }
            Self::Signature { version, key } => {
                vec![("version", version.to_string()), ("key", key.clone())]
            }
            Self::Unsigned { version, by, lack } => vec![
                ("version", version.to_string()),
                ("by", by.to_string()),
                ("missing", lack.missing().to_string()),
                ("keys", lack.keys().to_owned()),
            ],
        }
    }
}

/// A root's bytes, and the signatures over them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignedRoot {
    /// The document, as it is fingerprinted.
    pub bytes: Vec<u8>,
    /// Key, algorithm that the signature is said to be of, signature. In the order of the keys.
    pub signatures: Vec<(KeyId, Algorithm, Vec<u8>)>,
}

impl SignedRoot {
    /// SHA-256 of the document: what people compare.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// Adds a key's signature, in its place.
    pub fn sign(&mut self, key: &SigningKey) {
        let signature = key.sign(&pre_authentication(ROOT_TYPE, &self.bytes));
        self.signatures.retain(|(id, _, _)| id != key.key_id());
        let algorithm = key.public().algorithm();
        self.signatures
            .push((key.key_id().clone(), algorithm, signature));
        self.signatures.sort_by(|a, b| a.0.cmp(&b.0));
    }

    /// Identifiers of the keys of `root` whose signatures hold.
    fn signers(&self, version: u32, root: &RootDocument) -> Result<Vec<&KeyId>, KeyError> {
        let message = pre_authentication(ROOT_TYPE, &self.bytes);
        let keys = root.public_keys()?;
        let mut signers = Vec::new();
        for (id, algorithm, signature) in &self.signatures {
            let Some(key) = keys.iter().find(|key| key.key_id() == id) else {
                continue;
            };
            let held = check(key, *algorithm, &message, signature).is_ok();
            if !held {
                let key = id.to_string();
                return Err(ChainFault::Signature { version, key }.into());
            }
            signers.push(id);
        }
        Ok(signers)
    }
}

/// Checks a signature, and that it is of the algorithm that its name says.
pub(crate) fn check(
    key: &PublicKey,
    named: Algorithm,
    message: &[u8],
    signature: &[u8],
) -> Result<(), BadSignature> {
    if named != key.algorithm() {
        return Err(BadSignature::Malformed);
    }
    key.check(message, signature)
}

/// A chain from the first root on. Only [`RootChain::parse`] and [`RootChain::extend`] make one: it holds.
#[derive(Clone, Debug)]
pub struct RootChain {
    roots: Vec<SignedRoot>,
    /// The last root.
    last: RootDocument,
}

impl RootChain {
    /// A chain that begins with a first root, which nobody needs to have signed: people compare its fingerprint.
    ///
    /// # Errors
    /// When the bytes are no root, or not the first of a chain.
    pub fn first(bytes: Vec<u8>) -> Result<Self, KeyError> {
        let last = RootDocument::parse(&bytes)?;
        let root = SignedRoot {
            bytes,
            signatures: Vec::new(),
        };
        if last.version != 1 {
            return Err(ChainFault::Gap { version: 1 }.into());
        }
        let roots = vec![root];
        Ok(Self { roots, last })
    }

    /// The chain with one root more.
    ///
    /// # Errors
    /// When `next` does not follow, or is not signed as its predecessor and itself ask.
    pub fn extend(&mut self, next: SignedRoot) -> Result<(), KeyError> {
        let fingerprints: Vec<Digest> = self.fingerprints().collect();
        self.last = follow(&self.last, &fingerprints, &next)?;
        self.roots.push(next);
        Ok(())
    }

    /// The roots, the first one first.
    pub fn roots(&self) -> &[SignedRoot] {
        &self.roots
    }

    /// The last root.
    pub fn last(&self) -> &RootDocument {
        &self.last
    }

    /// Fingerprint of the last root.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(self.last_bytes())
    }

    /// Bytes of the last root.
    pub fn last_bytes(&self) -> &[u8] {
        self.roots.last().map_or(&[], |root| root.bytes.as_slice())
    }

    /// Fingerprints of all roots, the first one first.
    pub fn fingerprints(&self) -> impl Iterator<Item = Digest> {
        self.roots.iter().map(SignedRoot::fingerprint)
    }

    /// What would be the next root if nothing changed: the keys that count now, and all earlier roots by name.
    pub fn successor(&self) -> RootDocument {
        let mut next = self.last.clone();
        next.version += 1;
        next.previous = self.fingerprints().collect();
        next.keys.retain(|key| self.last.counts(&key.keyid));
        next
    }

    /// What `next` says, where it may follow the last root once enough keys have signed it.
    ///
    /// # Errors
    /// When it may not follow.
    pub fn check_next(&self, next: &[u8]) -> Result<RootDocument, KeyError> {
        let document = RootDocument::parse(next)?;
        let fingerprints: Vec<Digest> = self.fingerprints().collect();
        follows(&self.last, &fingerprints, &document)?;
        Ok(document)
    }

    /// What `next` still lacks to become the next root: of the keys of the last one, and of its own.
    ///
    /// # Errors
    /// When it may not follow, or one of its signatures does not hold.
    pub fn lacking(&self, next: &SignedRoot) -> Result<Vec<(u32, Lack)>, KeyError> {
        let document = self.check_next(&next.bytes)?;
        let mut lacking = Vec::new();
        for root in [&self.last, &document] {
            let signers = next.signers(document.version, root)?;
            lacking.extend(root.lacks(signers).map(|lack| (root.version, lack)));
        }
        Ok(lacking)
    }
}

/// Checks that `next` follows from `old`, the last of the roots with these fingerprints. Nothing of it is parsed
/// before enough keys of `old` are seen to have signed it.
pub(crate) fn follow(
    old: &RootDocument,
    fingerprints: &[Digest],
    next: &SignedRoot,
) -> Result<RootDocument, KeyError> {
    let version = fingerprints.len() as u32 + 1;
    let unsigned = |by, lack| ChainFault::Unsigned { version, by, lack };
    let by_old = next.signers(version, old)?;
    if let Some(lack) = old.lacks(by_old.iter().copied()) {
        return Err(unsigned(old.version, lack).into());
    }
    let document = RootDocument::parse(&next.bytes)?;
    follows(old, fingerprints, &document)?;
    let by_new = next.signers(version, &document)?;
    if let Some(lack) = document.lacks(by_new.iter().copied()) {
        return Err(unsigned(version, lack).into());
    }
    let foreign = next
        .signatures
        .iter()
        .find(|(id, _, _)| !by_old.contains(&id) && !by_new.contains(&id));
    if let Some((key, _, _)) = foreign {
        let key = key.to_string();
        return Err(ChainFault::Signature { version, key }.into());
    }
    Ok(document)
}

/// What must hold between two roots, whoever signed.
fn follows(
    old: &RootDocument,
    fingerprints: &[Digest],
    next: &RootDocument,
) -> Result<(), ChainFault> {
    let version = fingerprints.len() as u32 + 1;
    let wrong = |cause: String| Err(ChainFault::Follows { version, cause });
    if next.version != version {
        return wrong(format!("it calls itself version {}", next.version));
    }
    if next.previous != fingerprints {
        return wrong("it names other earlier roots".to_owned());
    }
    match old.revoked.iter().find(|key| !next.revoked.contains(key)) {
        Some(key) => wrong(format!("key {key} was revoked, and is no longer")),
        None => Ok(()),
    }
}
