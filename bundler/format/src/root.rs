//! The trust root: which keys may sign, how many of them must, and by which algorithms.

use std::fmt::Write as _;

use manifest_schema::{Digest, KeyId};
use report::Args;
use serde::{Deserialize, Serialize};

use crate::algorithm::Algorithm;
use crate::key_error::{KeyError, refused};
use crate::keys::PublicKey;
use crate::layout::{MAX_KEYS, MAX_REVOKED, MAX_ROOTS};

/// The trust root: which keys may sign bundles and the next root, and how many of them must.
///
/// People compare the SHA-256 of its bytes, the fingerprint, before they trust it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RootDocument {
    /// Version of this format: 1.
    pub format: u32,
    /// Counted from 1; grows by one with each new root.
    pub version: u32,
    /// How many keys must sign.
    pub threshold: u32,
    /// The keys.
    pub keys: Vec<RootKey>,
    /// Keys whose signatures count no more, whenever they were made. They stay revoked in every later root.
    #[serde(default)]
    pub revoked: Vec<KeyId>,
    /// Algorithms of which at least one signature is needed, besides the one by P-256 that always is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub require: Vec<Algorithm>,
    /// Fingerprints of all earlier roots, the first one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub previous: Vec<Digest>,
}

/// One key of a [`RootDocument`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RootKey {
    /// Its identifier.
    pub keyid: KeyId,
    /// Its algorithm.
    pub scheme: Algorithm,
    /// The public key in PEM.
    pub pem: String,
}

impl RootKey {
    /// The entry of a key.
    pub fn of(key: &PublicKey) -> Self {
        Self {
            keyid: key.key_id().clone(),
            scheme: key.algorithm(),
            pem: key.pem().to_owned(),
        }
    }
}

/// What signatures still lack to meet a root.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Lack {
    /// Too few keys signed.
    #[error(
        "{found} of {needed} signatures are there; {missing} more are needed, by these keys: {keys}"
    )]
    Signatures {
        /// Keys that signed and count.
        found: usize,
        /// Keys that must.
        needed: u32,
        /// How many more must sign.
        missing: usize,
        /// Keys that could.
        keys: String,
    },
    /// Enough keys signed, but none by this algorithm.
    #[error(
        "no signature by {algorithm} is there, and one is needed, by one of these keys: {keys}"
    )]
    Algorithm {
        /// The algorithm.
        algorithm: Algorithm,
        /// Keys of it.
        keys: String,
    },
}

impl Lack {
    /// The values of its text.
    pub fn args(&self) -> Args {
        match self {
            Self::Signatures {
                found,
                needed,
                missing,
                keys,
            } => vec![
                ("found", found.to_string()),
                ("needed", needed.to_string()),
                ("missing", missing.to_string()),
                ("keys", keys.clone()),
            ],
            Self::Algorithm { algorithm, keys } => {
                vec![("algorithm", algorithm.to_string()), ("keys", keys.clone())]
            }
        }
    }

    /// How many signatures are missing, at least.
    pub fn missing(&self) -> usize {
        match self {
            Self::Signatures { missing, .. } => *missing,
            Self::Algorithm { .. } => 1,
        }
    }

    /// Keys whose signatures would help.
    pub fn keys(&self) -> &str {
        match self {
            Self::Signatures { keys, .. } | Self::Algorithm { keys, .. } => keys,
        }
    }
}

impl RootDocument {
    /// A root of `keys`, `threshold` of which must sign.
    ///
    /// # Errors
    /// When the threshold cannot be reached.
    pub fn new(version: u32, threshold: u32, keys: &[&PublicKey]) -> Result<Self, KeyError> {
        let mut root = Self {
            format: 1,
            version,
            threshold,
            keys: keys.iter().map(|key| RootKey::of(key)).collect(),
            revoked: Vec::new(),
            require: Vec::new(),
            previous: Vec::new(),
        };
        root.keys.sort_by(|a, b| a.keyid.cmp(&b.keyid));
        root.public_keys()?;
        Ok(root)
    }

    /// Reads a root and checks that it can be met.
    ///
    /// # Errors
    /// When the bytes are not a root document, or one that nobody could satisfy.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyError> {
        let root: Self = serde_json::from_slice(bytes).map_err(refused)?;
        root.public_keys()?;
        Ok(root)
    }

    /// The root's bytes, as they are stored and fingerprinted.
    ///
    /// # Errors
    /// When the root cannot be encoded, or nobody could satisfy it.
    pub fn to_bytes(&self) -> Result<Vec<u8>, KeyError> {
        self.public_keys()?;
        let mut bytes = serde_json::to_vec_pretty(self).map_err(refused)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Adds a key, in its place; one that is there stays.
    pub fn add(&mut self, key: &PublicKey) {
        if !self.keys.iter().any(|entry| entry.keyid == *key.key_id()) {
            self.keys.push(RootKey::of(key));
            self.keys.sort_by(|a, b| a.keyid.cmp(&b.keyid));
        }
    }

    /// Takes a key out. What is installed by it stays good.
    pub fn remove(&mut self, key: &KeyId) {
        self.keys.retain(|entry| entry.keyid != *key);
    }

    /// Takes a key out, for ever. Nothing that it signed counts any more, whenever that was.
    pub fn revoke(&mut self, key: &KeyId) {
        self.remove(key);
        if !self.revoked.contains(key) {
            self.revoked.push(key.clone());
            self.revoked.sort();
        }
    }

    /// Whether signatures of this key count: it is one of the root's, and not revoked.
    pub fn counts(&self, key: &KeyId) -> bool {
        !self.revoked.contains(key) && self.keys.iter().any(|entry| entry.keyid == *key)
    }

    /// What these signers lack to meet the root; `None` where they do.
    pub fn lacks<'a>(&self, signers: impl IntoIterator<Item = &'a KeyId>) -> Option<Lack> {
        let signers: Vec<&KeyId> = signers.into_iter().collect();
        let signed = |key: &&RootKey| signers.contains(&&key.keyid);
        let found = self.usable().filter(signed).count();
        let of = |algorithm: Algorithm| move |key: &&RootKey| key.scheme == algorithm;
        let missing: Vec<Algorithm> = self
            .required()
            .filter(|algorithm| !self.usable().filter(of(*algorithm)).any(|key| signed(&key)))
            .collect();
        let open = |wanted: &dyn Fn(&&RootKey) -> bool| {
            let mut keys = String::new();
            for key in self.usable().filter(|key| !signed(key)).filter(wanted) {
                let comma = if keys.is_empty() { "" } else { ", " };
                let _ = write!(keys, "{comma}{} ({})", key.keyid, key.scheme);
            }
            keys
        };
        if found < self.threshold as usize {
            return Some(Lack::Signatures {
                found,
                needed: self.threshold,
                missing: (self.threshold as usize - found).max(missing.len()),
                keys: open(&|_| true),
            });
        }
        let algorithm = *missing.first()?;
        Some(Lack::Algorithm {
            algorithm,
            keys: open(&of(algorithm)),
        })
    }

    /// The keys that count, in the order of their identifiers.
    pub fn usable(&self) -> impl Iterator<Item = &RootKey> {
        self.keys
            .iter()
            .filter(|key| !self.revoked.contains(&key.keyid))
    }

    /// The algorithms of which a signature is needed.
    fn required(&self) -> impl Iterator<Item = Algorithm> {
        let named = |algorithm: &Algorithm| {
            *algorithm == Algorithm::P256 || self.require.contains(algorithm)
        };
        Algorithm::ALL.into_iter().filter(named)
    }

    /// The keys, each checked against its identifier and its algorithm, in the order of their identifiers.
    pub(crate) fn public_keys(&self) -> Result<Vec<PublicKey>, KeyError> {
        self.check_shape()?;
        let mut keys: Vec<PublicKey> = Vec::new();
        for entry in &self.keys {
            let key = PublicKey::from_pem(&entry.pem)?;
            if key.key_id() != &entry.keyid || key.pem() != entry.pem {
                return Err(refused(format!(
                    "key `{}` is not the one it names",
                    entry.keyid
                )));
            }
            if key.algorithm() != entry.scheme {
                return Err(refused(format!(
                    "key `{}` is called {} and is one for {}",
                    entry.keyid,
                    entry.scheme.scheme(),
                    key.algorithm().scheme()
                )));
            }
            if keys
                .last()
                .is_some_and(|last| last.key_id() >= key.key_id())
            {
                return Err(refused("keys are not in ascending order"));
            }
            keys.push(key);
        }
        Ok(keys)
    }

    /// Everything but the keys themselves.
    fn check_shape(&self) -> Result<(), KeyError> {
        let bound = |what: &str, found: usize, most: usize| {
            (found <= most)
                .then_some(())
                .ok_or_else(|| refused(format!("{found} {what}, at most {most}")))
        };
        if self.format != 1 {
            return Err(refused(format!("format {}, not 1", self.format)));
        }
        bound("keys", self.keys.len(), MAX_KEYS)?;
        bound("revoked keys", self.revoked.len(), MAX_REVOKED)?;
        bound("roots in a chain", self.version as usize, MAX_ROOTS)?;
        if self.version == 0 || self.previous.len() != self.version as usize - 1 {
            return Err(refused(format!(
                "version {} names {} earlier roots",
                self.version,
                self.previous.len()
            )));
        }
        let usable = self.usable().count();
        if self.threshold == 0 || self.threshold as usize > usable {
            return Err(refused(format!(
                "threshold {} of {usable} keys",
                self.threshold
            )));
        }
        for algorithm in self.required() {
            if !self.usable().any(|key| key.scheme == algorithm) {
                return Err(refused(format!("no key for {}", algorithm.scheme())));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SigningKey;

    fn keys(algorithms: &[Algorithm]) -> Vec<SigningKey> {
        let new = |algorithm: &Algorithm| SigningKey::generate(*algorithm).unwrap();
        algorithms.iter().map(new).collect()
    }

    fn root(keys: &[SigningKey], threshold: u32) -> Result<RootDocument, KeyError> {
        let keys: Vec<_> = keys.iter().map(SigningKey::public).collect();
        RootDocument::new(1, threshold, &keys)
    }

    #[test]
    fn a_root_that_nobody_can_meet_is_refused() {
        let one = keys(&[Algorithm::P256]);
        assert!(root(&one, 0).is_err() && root(&one, 2).is_err());
        let mut good = root(&one, 1).unwrap();
        assert!(RootDocument::parse(&good.to_bytes().unwrap()).is_ok());
        good.revoked.push(one[0].key_id().clone());
        assert!(good.to_bytes().is_err());
        assert!(RootDocument::new(1, 1, &[one[0].public(), one[0].public()]).is_err());
        // Without a key for P-256 nobody could check the bundle by hand.
        assert!(root(&keys(&[Algorithm::Sm2, Algorithm::Ed25519]), 1).is_err());
        let mut asks = root(&one, 1).unwrap();
        asks.require.push(Algorithm::Sm2);
        assert!(asks.to_bytes().is_err());
    }

    #[test]
    fn enough_keys_and_every_needed_algorithm_must_sign() {
        let all = keys(&[Algorithm::P256, Algorithm::P256, Algorithm::Sm2]);
        let mut root = root(&all, 2).unwrap();
        let id = |number: usize| all[number].key_id();
        assert!(matches!(
            root.lacks([id(2), id(2)]),
            Some(Lack::Signatures { found: 1, missing: 1, keys, .. }) if keys.matches("p256").count() == 2
        ));
        assert_eq!(root.lacks([id(0), id(1)]), None);
        assert_eq!(root.lacks([id(0), id(2)]), None);
        root.require = vec![Algorithm::Sm2];
        assert!(matches!(
            root.lacks([id(0), id(1)]),
            Some(Lack::Algorithm { algorithm: Algorithm::Sm2, keys }) if keys.contains(id(2).as_str())
        ));
        root.threshold = 1;
        assert!(matches!(
            root.lacks([id(2)]),
            Some(Lack::Algorithm {
                algorithm: Algorithm::P256,
                ..
            })
        ));
        root.revoked = vec![id(0).clone()];
        assert!(root.lacks([id(0), id(2)]).is_some());
    }

    #[test]
    fn a_key_under_another_algorithms_name_is_refused() {
        let mut root = root(&keys(&[Algorithm::P256, Algorithm::Sm2]), 1).unwrap();
        for entry in &mut root.keys {
            entry.scheme = Algorithm::P256;
        }
        let error = root.to_bytes().unwrap_err().to_string();
        assert!(error.contains("is one for sm2-sm3"), "{error}");
    }
}
