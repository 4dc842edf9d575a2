//! Adds signatures to a bundle that is written already. Three blocks a signature change, and the payload is not read.
//!
//! ```text
//! 1. the bytes of `meta/statement.sig/<keyid>.room`   the signature, zeros      a room may hold a good signature
//! 2. its header                                       <keyid>.p256, its size    from here on the signature counts
//! 3. the key's place in `meta/statement.dsse.json`    keyid and signature       an entry may come late
//! ```
//!
//! Each is one block of 512 bytes, which a disk writes whole or not at all, and each is on the disk before the next
//! is begun. So power may go at any moment: the bundle has its old signatures or its new ones, and is whole.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use manifest_schema::{Digest, KeyId};

use crate::envelope::Envelope;
use crate::keys::{PublicKey, SigningKey};
use crate::layout::{self, ROOM};
use crate::root::{Lack, RootDocument};
use crate::sealed::Sealed;
use crate::sign_error::SignError;
use crate::signatures::{Held, Signer};
use crate::statement::{PAYLOAD_TYPE, pre_authentication};
use crate::trusted::TrustedRoots;
use crate::ustar::{BLOCK, Header};
use crate::verify::Verified;
use crate::volume::Volume;

/// A bundle in which everything agrees but which may lack signatures. It can be signed and not installed.
#[derive(Debug)]
pub struct Draft {
    /// Never handed out: its signatures may be too few.
    bundle: Verified,
    root: RootDocument,
    statement: Vec<u8>,
    held: Held,
}

impl Draft {
    /// Opens a bundle to sign it. All of its volumes must be there.
    ///
    /// # Errors
    /// When it is no bundle, a volume is missing, a signature that is there does not hold, or the metadata is not as
    /// the statement says.
    pub fn open(path: &Path) -> Result<Self, SignError> {
        let sealed = Sealed::open(path)?;
        let first = sealed.fingerprints_offered()?.into_iter().take(1);
        let signed = sealed.signed(&TrustedRoots::from_fingerprints(first))?;
        Ok(Self {
            root: signed.standing.root.clone(),
            statement: signed.statement.clone(),
            held: signed.held.clone(),
            bundle: sealed.describe(signed, Vec::new())?,
        })
    }

    /// The bytes that are signed, as another machine needs them.
    pub fn statement(&self) -> &[u8] {
        &self.statement
    }

    /// Digest of the statement: the bundle's identity.
    pub fn statement_digest(&self) -> Digest {
        self.bundle.statement_digest
    }

    /// Name of the release.
    pub fn release_name(&self) -> String {
        self.bundle.release_name()
    }

    /// The files of the bundle.
    pub fn paths(&self) -> Vec<PathBuf> {
        let volumes = self.bundle.sealed.volumes.iter();
        volumes.map(|volume| volume.path.clone()).collect()
    }

    /// The keys that have signed.
    pub fn signers(&self) -> Vec<Signer> {
        let signer = |(key_id, (algorithm, _)): (&KeyId, &(crate::Algorithm, Vec<u8>))| Signer {
            key_id: key_id.clone(),
            algorithm: *algorithm,
        };
        self.held.iter().map(signer).collect()
    }

    /// What signatures are still missing.
    pub fn lack(&self) -> Option<Lack> {
        self.root.lacks(self.held.keys())
    }

    /// Signs with a key. [`Draft::write`] puts the signature into the bundle.
    ///
    /// # Errors
    /// When the key is not one of the root's, or is revoked there.
    pub fn sign(&mut self, key: &SigningKey) -> Result<(), SignError> {
        let signature = key.sign(&pre_authentication(PAYLOAD_TYPE, &self.statement));
        if !self.root.counts(key.key_id()) {
            let key = key.key_id().to_string();
            return Err(SignError::KeyNotInRoot { key });
        }
        self.hold(key.public(), signature);
        Ok(())
    }

    /// Takes a signature that was made elsewhere, by whichever key of the root.
    ///
    /// # Errors
    /// When no key of the root made it over this bundle's statement.
    pub fn take(&mut self, signature: &[u8]) -> Result<Signer, SignError> {
        let message = pre_authentication(PAYLOAD_TYPE, &self.statement);
        let keys = self.root.public_keys()?;
        let made = |key: &&PublicKey| {
            self.root.counts(key.key_id()) && key.check(&message, signature).is_ok()
        };
        let key = keys.iter().find(made).ok_or(SignError::Foreign)?;
        self.hold(key, signature.to_vec());
        Ok(Signer {
            key_id: key.key_id().clone(),
            algorithm: key.algorithm(),
        })
    }

    fn hold(&mut self, key: &PublicKey, signature: Vec<u8>) {
        // One that is there stays: another good one of the same key adds nothing.
        self.held
            .entry(key.key_id().clone())
            .or_insert((key.algorithm(), signature));
    }

    /// Puts every signature into every volume, and waits until they are on the disk.
    ///
    /// # Errors
    /// When a volume has no room for one, or cannot be written.
    pub fn write(&self) -> Result<(), SignError> {
        let volumes = &self.bundle.sealed.volumes;
        let mut plans = Vec::new();
        for volume in volumes {
            plans.push(self.patches(volume)?);
        }
        for (volume, patches) in volumes.iter().zip(plans) {
            let failed = |source| SignError::File {
                path: volume.path.clone(),
                source,
            };
            if !patches.is_empty() {
                let file = open_locked(&volume.path).map_err(failed)?;
                for patch in patches {
                    patch.apply(&file).map_err(failed)?;
                }
            }
        }
        Ok(())
    }

    /// The blocks that change in a volume, in the order in which they must.
    fn patches(&self, volume: &Volume) -> Result<Vec<Patch>, SignError> {
        let mut patches = Vec::new();
        let envelope = volume.read(layout::ENVELOPE)?;
        let envelope_at = volume.member(layout::ENVELOPE).map_or(0, |m| m.offset);
        let usable: Vec<&KeyId> = self.root.usable().map(|key| &key.keyid).collect();
        let roomy = Envelope::new(&self.statement, usable.clone());
        for (key, (algorithm, signature)) in &self.held {
            let name = layout::signature(key, *algorithm);
            if volume.member(&name).is_none() {
                let room = volume.member(&layout::room(key));
                let room = room.ok_or_else(|| SignError::NoRoom {
                    path: volume.path.clone(),
                    key: key.to_string(),
                })?;
                let header = Header {
                    name,
                    size: signature.len() as u64,
                    executable: false,
                };
                let mut bytes = signature.clone();
                bytes.resize(ROOM as usize, 0);
                patches.push(Patch::at(room.offset, bytes));
                patches.push(Patch::at(room.offset - BLOCK, header.encode().to_vec()));
            }
            if let (true, Some(number)) = (
                roomy.begins(&envelope),
                usable.iter().position(|usable| *usable == key),
            ) {
                let place = roomy.place(number, Some(signature));
                let at = roomy.offset(number);
                if envelope.get(at as usize..at as usize + place.len()) != Some(place.as_slice()) {
                    patches.push(Patch::at(envelope_at + at, place));
                }
            }
        }
        Ok(patches)
    }
}

/// Bytes that change together: within one block of 512.
struct Patch {
    offset: u64,
    bytes: Vec<u8>,
}

impl Patch {
    fn at(offset: u64, bytes: Vec<u8>) -> Self {
        debug_assert_eq!(offset / BLOCK, (offset + bytes.len() as u64 - 1) / BLOCK);
        Self { offset, bytes }
    }

    fn apply(&self, file: &File) -> io::Result<()> {
        file.write_all_at(&self.bytes, self.offset)?;
        file.sync_data()
    }
}

fn open_locked(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    // Two that sign at once would write into each other's blocks.
    file.try_lock()?;
    Ok(file)
}

#[cfg(all(test, feature = "testing"))]
#[allow(
    clippy::unwrap_used,
    reason = "the helpers of tests fail as the tests do"
)]
mod tests {
    use std::fs;

    use report::Diagnose as _;

    use super::*;
    use crate::fake::Fake;
    use crate::{Algorithm, Request, RootChain};

    /// Two keys of three must sign, in one file or in volumes.
    fn unsigned(folder: &Path, volumes: bool) -> Fake {
        let noise: Vec<u8> = (0..400_u32)
            .flat_map(|n| Digest::of(&n.to_le_bytes()).hex().into_bytes())
            .collect();
        let mut fake = Fake::with_dataset("demo", 1, &[("noise", noise)]);
        for algorithm in [Algorithm::Sm2, Algorithm::Ed25519] {
            fake.keys.push(SigningKey::generate(algorithm).unwrap());
        }
        let keys: Vec<_> = fake.keys.iter().map(SigningKey::public).collect();
        let root = RootDocument::new(1, 2, &keys).unwrap();
        fake.roots = Some(RootChain::first(root.to_bytes().unwrap()).unwrap());
        fake.signers = Some(Vec::new());
        fake.options.sign_later = true;
        fake.options.volume_size = volumes.then_some(52 * 1024);
        fake.build(folder, &folder.join("a.ferry")).unwrap();
        fake
    }

    fn check(path: &Path, fake: &Fake) -> Result<usize, &'static str> {
        let bundle = Sealed::open(path)
            .and_then(|sealed| sealed.verify(&fake.roots()))
            .map_err(|error| error.code())?;
        bundle.verify_all(1, &report::Silent).unwrap();
        Ok(bundle.signers.len())
    }

    #[test]
    fn power_may_go_at_any_block_and_the_signatures_are_the_old_or_the_new_ones() {
        for volumes in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let fake = unsigned(folder.path(), volumes);
            let path = if volumes { "a.vol001.ferry" } else { "a.ferry" };
            let path = folder.path().join(path);
            for (before, key) in fake.keys.iter().enumerate() {
                let mut draft = Draft::open(&path).unwrap();
                draft.sign(key).unwrap();
                let all: Vec<_> = draft
                    .bundle
                    .sealed
                    .volumes
                    .iter()
                    .flat_map(|volume| {
                        let patches = draft.patches(volume).unwrap();
                        patches
                            .into_iter()
                            .map(|patch| (volume.path.clone(), patch))
                    })
                    .collect();
                assert_eq!(all.len(), 3 * draft.paths().len());
                // The power goes after each block.
                for (path_written, patch) in &all {
                    patch.apply(&open_locked(path_written).unwrap()).unwrap();
                    let signed = match check(&path, &fake) {
                        Ok(signed) => signed,
                        Err("bundle.signatures-too-few") => {
                            let draft = Draft::open(&path).unwrap();
                            assert!(draft.held.len() < 2);
                            draft.held.len()
                        }
                        Err(code) => panic!("{code}"),
                    };
                    assert!((before..=before + 1).contains(&signed));
                }
                Draft::open(&path).unwrap().write().unwrap();
                assert_eq!(Draft::open(&path).unwrap().held.len(), before + 1);
            }
            assert_eq!(check(&path, &fake), Ok(3));
        }
    }

    #[test]
    fn signing_later_gives_the_bytes_that_signing_at_once_gives() {
        let folder = tempfile::tempdir().unwrap();
        let mut fake = unsigned(folder.path(), false);
        let path = folder.path().join("a.ferry");
        let mut draft = Draft::open(&path).unwrap();
        for key in fake.keys.iter().rev() {
            let request = Request::parse(draft.statement().to_vec()).unwrap();
            let signature = request.sign(key, &fake.chain()).unwrap();
            assert_eq!(&draft.take(&signature).unwrap().key_id, key.key_id());
        }
        draft.write().unwrap();
        let later = fs::read(&path).unwrap();
        fake.signers = None;
        fake.build(folder.path(), &path).unwrap();
        assert!(fs::read(&path).unwrap() == later);
    }

    #[test]
    fn strange_keys_and_signatures_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let fake = unsigned(folder.path(), false);
        let path = folder.path().join("a.ferry");
        let stranger = SigningKey::generate(Algorithm::P256).unwrap();
        let mut draft = Draft::open(&path).unwrap();
        assert_eq!(
            draft.sign(&stranger).unwrap_err().code(),
            "bundle.key-not-in-root"
        );
        let request = Request::parse(draft.statement().to_vec()).unwrap();
        let refused = request.sign(&stranger, &fake.chain()).unwrap_err();
        assert_eq!(refused.code(), "bundle.key-not-in-root");
        let other = RootDocument::new(1, 1, &[stranger.public()]).unwrap();
        let other = RootChain::first(other.to_bytes().unwrap()).unwrap();
        let refused = request.sign(&stranger, &other).unwrap_err();
        assert_eq!(refused.code(), "bundle.sign-other-root");
        let signature = stranger.sign(&pre_authentication(PAYLOAD_TYPE, draft.statement()));
        for bytes in [&signature[..], b"", &[0x30; 4096]] {
            let refused = draft.take(bytes).unwrap_err();
            assert_eq!(refused.code(), "bundle.sign-foreign");
        }
        for bytes in [&b""[..], b"{}", b"[1"] {
            let refused = Request::parse(bytes.to_vec()).unwrap_err();
            assert_eq!(refused.code(), "bundle.sign-malformed");
        }
    }
}
