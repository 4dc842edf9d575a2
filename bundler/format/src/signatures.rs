//! Who signed? The roots and signatures of a bundle, or of an installed release, and the verdict over them.
//!
//! A volume of a bundle has, for every key that may sign, its signature or room for it: 512 zeros under the name
//! `<keyid>.room`. Adding a signature writes the room's bytes first and its header second, one block at a time, so
//! a room may hold a good signature that does not count yet. Nothing else may stand there.

use std::collections::BTreeMap;

use manifest_schema::KeyId;

use crate::algorithm::Algorithm;
use crate::chain::{ChainFault, SignedRoot, check};
use crate::envelope::{Envelope, compact};
use crate::keys::{BadSignature, PublicKey};
use crate::layout::{self, ROOM, Role};
use crate::root::{RootDocument, RootKey};
use crate::statement::{PAYLOAD_TYPE, pre_authentication};
use crate::trusted::Standing;
use crate::verify_error::{Fault, VerifyError};
use crate::volume::Volume;

/// A key that signed a bundle, and whose signature holds and counts.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct Signer {
    /// Its identifier.
    pub key_id: KeyId,
    /// What it signs with.
    pub algorithm: Algorithm,
}

/// Signatures that hold, by key.
pub(crate) type Held = BTreeMap<KeyId, (Algorithm, Vec<u8>)>;

/// Gathers a chain of roots from files of these names, in any order.
pub(crate) fn chain_of<'a, E: From<VerifyError>>(
    names: impl Iterator<Item = &'a str>,
    fault: impl Fn(Fault) -> VerifyError,
    read: impl Fn(&str) -> Result<Vec<u8>, E>,
) -> Result<Vec<SignedRoot>, E> {
    let gap = |version: usize| {
        let version = version as u32;
        E::from(fault(ChainFault::Gap { version }.into()))
    };
    let mut roots: BTreeMap<usize, SignedRoot> = BTreeMap::new();
    let mut signatures = Vec::new();
    for name in names {
        let digits = name
            .strip_prefix("meta/root/")
            .and_then(|file| file.strip_suffix(".json"));
        if let Some(version) = digits.and_then(layout::root_version) {
            let (bytes, signatures) = (read(name)?, Vec::new());
            roots.insert(version, SignedRoot { bytes, signatures });
        } else if let Some(named) = layout::root_signature_name(name) {
            signatures.push((named, read(name)?));
        }
    }
    for (expected, found) in (1..).zip(roots.keys()) {
        if *found != expected {
            return Err(gap(expected));
        }
    }
    signatures.sort_by(|a, b| a.0.cmp(&b.0));
    for ((version, key, algorithm), signature) in signatures {
        let root = roots.get_mut(&version).ok_or_else(|| gap(version))?;
        root.signatures.push((key, algorithm, signature));
    }
    Ok(roots.into_values().collect())
}

impl Volume {
    /// The chain of roots that the volume offers. Nothing in it is believed yet.
    pub(crate) fn chain(&self) -> Result<Vec<SignedRoot>, VerifyError> {
        let roots = |member: &&crate::volume::Member| {
            matches!(member.role, Role::Root | Role::RootSignature)
        };
        let names = self.members.iter().filter(roots);
        chain_of(
            names.map(|member| member.name.as_str()),
            |fault| fault.of(&self.path),
            |name| self.read(name),
        )
    }

    /// The signatures that are there, each of which must hold.
    pub(crate) fn signatures(
        &self,
        root: &RootDocument,
        statement: &[u8],
    ) -> Result<Held, VerifyError> {
        let keys = root
            .public_keys()
            .map_err(|error| Fault::from(error).of(&self.path))?;
        let message = pre_authentication(PAYLOAD_TYPE, statement);
        let (mut held, mut rooms) = (Held::new(), Vec::new());
        let members = self.members.iter().filter(|m| m.role == Role::Signature);
        for member in members {
            let Some((id, algorithm)) = layout::signature_name(&member.name) else {
                continue;
            };
            let unexpected = || {
                let (member, offset) = (member.name.clone(), member.offset);
                Fault::Unexpected { member, offset }.of(&self.path)
            };
            if held.contains_key(&id) || rooms.contains(&id) {
                return Err(unexpected());
            }
            let bytes = self.read(&member.name)?;
            let key = keys.iter().find(|key| *key.key_id() == id);
            if let Some(algorithm) = algorithm {
                judge_one(root, key, &id, algorithm, &message, &bytes)
                    .map_err(|fault| fault.of(&self.path))?;
                held.insert(id, (algorithm, bytes));
            } else {
                let usable = key.filter(|_| root.counts(&id)).ok_or_else(unexpected)?;
                if !is_room(usable, &message, &bytes) {
                    let (member, offset) = (member.name.clone(), member.offset);
                    return Err(Fault::Padding { member, offset }.of(&self.path));
                }
                rooms.push(id);
            }
        }
        Ok(held)
    }

    /// The envelope says the same as the signatures, and there is room for each key that may still sign.
    pub(crate) fn check_envelope(
        &self,
        root: &RootDocument,
        statement: &[u8],
        held: &Held,
    ) -> Result<(), VerifyError> {
        let found = self.read(layout::ENVELOPE)?;
        let roomless = |key: &&RootKey| self.member(&layout::room(&key.keyid)).is_none();
        let unsigned = |key: &&RootKey| {
            self.member(&layout::signature(&key.keyid, key.scheme))
                .is_none()
        };
        if root.usable().all(|key| roomless(&key)) {
            let there = root.usable().filter(|key| !unsigned(key));
            let there = there.filter_map(|key| Some((&key.keyid, held.get(&key.keyid)?)));
            let there = there.map(|(key, (_, bytes))| (key, bytes.as_slice()));
            if found == compact(PAYLOAD_TYPE, statement, there) {
                return Ok(());
            }
        }
        if let Some(key) = root.usable().find(|key| roomless(key) && unsigned(key)) {
            let member = layout::room(&key.keyid);
            return Err(Fault::Missing { member }.of(&self.path));
        }
        let envelope = Envelope::new(statement, root.usable().map(|key| &key.keyid).collect());
        let signature = |key: &KeyId| held.get(key).map(|(_, bytes)| bytes.clone());
        if envelope.agrees(&found, signature) {
            return Ok(());
        }
        let member = layout::ENVELOPE.to_owned();
        Err(Fault::MemberDiffers { member }.of(&self.path))
    }
}

/// One signature: by a key of the root that is not revoked, of the key's algorithm, and good.
fn judge_one(
    root: &RootDocument,
    key: Option<&PublicKey>,
    id: &KeyId,
    algorithm: Algorithm,
    message: &[u8],
    bytes: &[u8],
) -> Result<(), Fault> {
    let member = layout::signature(id, algorithm);
    if root.revoked.contains(id) {
        let (key, version) = (id.to_string(), root.version);
        return Err(Fault::KeyRevoked { key, version });
    }
    let Some(key) = key else {
        return Err(Fault::SignatureInvalid { member });
    };
    if algorithm != key.algorithm() {
        let algorithm = key.algorithm();
        return Err(Fault::SignatureAlgorithm { member, algorithm });
    }
    check(key, algorithm, message, bytes).map_err(|bad| match bad {
        BadSignature::Malformed => Fault::SignatureMalformed { member, algorithm },
        BadSignature::Wrong => Fault::SignatureInvalid { member },
    })
}

/// Zeros, or a good signature of the key that was about to be named, and zeros.
fn is_room(key: &PublicKey, message: &[u8], bytes: &[u8]) -> bool {
    if bytes.len() as u64 != ROOM {
        return false;
    }
    let length = match key.algorithm() {
        Algorithm::Ed25519 => 64,
        // A DER sequence of less than 128 bytes.
        _ => 2 + usize::from(bytes[1]).min(126),
    };
    let (signature, rest) = bytes.split_at(length);
    rest.iter().all(|byte| *byte == 0)
        && (signature.iter().all(|byte| *byte == 0) || key.check(message, signature).is_ok())
}

/// The keys that signed and count, where they are enough for every root that decides.
pub(crate) fn enough(standing: &Standing, held: &Held) -> Result<Vec<Signer>, Fault> {
    let root = &standing.root;
    if let Some(lack) = root.lacks(held.keys()) {
        return Err(Fault::Unsigned { lack });
    }
    if let Some(newer) = &standing.newer
        && let Some(lack) = newer.lacks(held.keys())
    {
        let revoked = held.keys().find(|key| newer.revoked.contains(key));
        let (version, trusted) = (root.version, newer.version);
        return Err(match revoked {
            Some(key) => Fault::KeyRevoked {
                key: key.to_string(),
                version: trusted,
            },
            None => Fault::RootRollback {
                version,
                trusted,
                lack,
            },
        });
    }
    let decides = standing.newer.as_ref().unwrap_or(root);
    let counted = held.iter().filter(|(key, _)| decides.counts(key));
    let signer = |(key, (algorithm, _)): (&KeyId, &(Algorithm, Vec<u8>))| Signer {
        key_id: key.clone(),
        algorithm: *algorithm,
    };
    Ok(counted.map(signer).collect())
}

/// The keys that signed an installed release. It was accepted when its root was the newest: keys that left the root
/// since still count for it, and only those that were revoked do not.
pub(crate) fn still_enough(standing: &Standing, held: &Held) -> Result<Vec<KeyId>, Fault> {
    let root = &standing.root;
    if let Some(lack) = root.lacks(held.keys()) {
        return Err(Fault::Unsigned { lack });
    }
    let Some(newer) = &standing.newer else {
        return Ok(held.keys().cloned().collect());
    };
    let (revoked, good): (Vec<&KeyId>, Vec<&KeyId>) =
        held.keys().partition(|key| newer.revoked.contains(key));
    match (root.lacks(good.iter().copied()), revoked.first()) {
        (Some(_), Some(key)) => Err(Fault::KeyRevoked {
            key: key.to_string(),
            version: newer.version,
        }),
        _ => Ok(good.into_iter().cloned().collect()),
    }
}

/// Signatures of an installed release: each by a key of its root, and good.
pub(crate) fn held_in(
    names: &[String],
    root: &RootDocument,
    statement: &[u8],
    read: impl Fn(&str) -> Result<Vec<u8>, VerifyError>,
    fault: impl Fn(Fault) -> VerifyError,
) -> Result<Held, VerifyError> {
    let keys = root
        .public_keys()
        .map_err(|error| fault(Fault::from(error)))?;
    let message = pre_authentication(PAYLOAD_TYPE, statement);
    let mut held = Held::new();
    for name in names {
        if let Some((id, Some(algorithm))) = layout::signature_name(name) {
            let bytes = read(name)?;
            let key = keys.iter().find(|key| *key.key_id() == id);
            judge_one(root, key, &id, algorithm, &message, &bytes).map_err(&fault)?;
            held.insert(id, (algorithm, bytes));
        }
    }
    Ok(held)
}
