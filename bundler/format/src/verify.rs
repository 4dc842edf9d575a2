//! From bytes to a bundle: root, signatures, digests, and an index that agrees with the archive.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use manifest_schema::{Arch, Blob, Codec, Digest, Index, KeyId, PlacedFile, Profiles, Provenance};
use serde::de::DeserializeOwned;

use crate::keys::{RootDocument, TrustedRoots};
use crate::layout::{self, Role};
use crate::sealed::Sealed;
use crate::source::is_piece_size;
use crate::statement::{Statement, envelope};
use crate::verify_error::{Fault, VerifyError};

/// A bundle whose statement enough trusted keys signed, and whose metadata is as it was signed.
///
/// Only [`Sealed::verify`] makes one. Blobs are checked piece by piece as they are read.
#[derive(Debug)]
pub struct Verified {
    pub(crate) sealed: Sealed,
    /// Digest of the signed statement: the bundle's identity.
    pub statement_digest: Digest,
    /// Fingerprint of the trust root.
    pub fingerprint: Digest,
    /// Keys whose signatures hold and count.
    pub key_ids: Vec<KeyId>,
    /// Where each blob lies.
    pub index: Index,
    /// What the bundle can install.
    pub profiles: Profiles,
    /// Where each blob came from.
    pub provenance: Provenance,
    /// The lock's bytes.
    pub lock: Vec<u8>,
    /// Every member below `meta/`, by name.
    pub metadata: BTreeMap<String, Vec<u8>>,
    by_digest: BTreeMap<Digest, usize>,
}

impl Sealed {
    /// Checks everything but the blobs' bytes. Nothing is parsed before the signatures over it hold.
    ///
    /// # Errors
    /// With the first thing that is not as a trusted bundle's is.
    pub fn verify(self, roots: &TrustedRoots) -> Result<Verified, VerifyError> {
        let path = self.path.clone();
        let fingerprint = self.fingerprint_offered()?;
        if !roots.contains(&fingerprint) {
            let fingerprint = fingerprint.hex();
            return Err(Fault::RootUntrusted { fingerprint }.of(path));
        }
        let root = RootDocument::parse(&self.read(layout::ROOT)?)
            .map_err(|error| Fault::from(error).of(&path))?;
        let statement = self.read(layout::STATEMENT)?;
        let key_ids = self.check_signatures(&root, &statement)?;
        let metadata = self.check_digests(&statement)?;

        let index: Index = self.parse(&metadata, layout::INDEX)?;
        let profiles: Profiles = self.parse(&metadata, layout::PROFILES)?;
        let provenance: Provenance = self.parse(&metadata, layout::PROVENANCE)?;
        for (name, format) in [
            (layout::INDEX, index.format),
            (layout::PROFILES, profiles.format),
            (layout::PROVENANCE, provenance.format),
        ] {
            if format != 1 {
                let cause = format!("format {format}, this program reads 1");
                return Err(Fault::Malformed {
                    member: name.to_owned(),
                    cause,
                }
                .of(path));
            }
        }
        let by_digest = self.check_index(&index)?;
        check_profiles(&profiles, &index, &by_digest).map_err(|fault| fault.of(&path))?;
        Ok(Verified {
            statement_digest: Digest::of(&statement),
            fingerprint,
            key_ids,
            lock: metadata.get(layout::LOCK).cloned().unwrap_or_default(),
            index,
            profiles,
            provenance,
            metadata,
            by_digest,
            sealed: self,
        })
    }

    /// Every signature holds, and enough of them count. Returns the keys that count.
    fn check_signatures(
        &self,
        root: &RootDocument,
        statement: &[u8],
    ) -> Result<Vec<KeyId>, VerifyError> {
        let keys = root
            .public_keys()
            .map_err(|error| Fault::from(error).of(&self.path))?;
        let mut signatures = Vec::new();
        for member in self
            .members
            .iter()
            .filter(|member| member.role == Role::Signature)
        {
            let bytes = self.read(&member.name)?;
            let key = keys
                .iter()
                .find(|key| layout::signature(key.key_id()) == member.name)
                .filter(|key| key.signed(statement, &bytes));
            let Some(key) = key else {
                return Err(Fault::SignatureInvalid {
                    member: member.name.clone(),
                }
                .of(&self.path));
            };
            signatures.push((key.key_id(), bytes));
        }
        let good: Vec<KeyId> = signatures
            .iter()
            .map(|(key, _)| (*key).clone())
            .filter(|key| root.counts(key))
            .collect();
        if good.len() < root.threshold as usize {
            let fault = Fault::Threshold {
                found: good.len(),
                needed: root.threshold,
            };
            return Err(fault.of(&self.path));
        }
        let expected = envelope(
            statement,
            signatures.iter().map(|(key, sig)| (*key, sig.as_slice())),
        );
        if self.read(layout::ENVELOPE)? != expected {
            return Err(self.differs(layout::ENVELOPE));
        }
        Ok(good)
    }

    /// The statement names `SHA256SUMS`, that lists exactly the members, and each has the digest listed.
    /// Returns the metadata. Blobs are compared by name here, and by bytes when they are read.
    fn check_digests(&self, statement: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, VerifyError> {
        let stated = Statement::parse(statement)
            .map_err(|error| self.malformed(layout::STATEMENT, &error))?;
        let sums = self.read(layout::SUMS)?;
        let subject = |name: &str, digest: &Digest| {
            stated
                .subject
                .iter()
                .any(|subject| subject.name == name && subject.has(digest))
        };
        if !subject(layout::SUMS, &Digest::of(&sums)) {
            return Err(self.differs(layout::SUMS));
        }
        let sums_text =
            std::str::from_utf8(&sums).map_err(|error| self.malformed(layout::SUMS, &error))?;
        let mut lines = sums_text.split_inclusive('\n');
        let mut subjects = 1;
        let mut metadata = BTreeMap::new();
        for member in &self.members {
            let name = member.name.as_str();
            let bytes = if member.role == Role::Blob {
                None
            } else {
                Some(self.read(name)?)
            };
            if member.role.summed() {
                let digest = match &bytes {
                    Some(bytes) => Digest::of(bytes),
                    None => blob_digest(name).ok_or_else(|| self.differs(name))?,
                };
                // The list has the archive's order, so the first line that differs is a member that was changed,
                // taken out or put in.
                let line = lines.next().unwrap_or_default();
                if line != layout::sum_line(&digest, name) {
                    return Err(match line.trim_end().split_once("  ") {
                        Some((_, listed)) if self.member(listed).is_none() => Fault::Missing {
                            member: listed.to_owned(),
                        }
                        .of(&self.path),
                        Some((_, listed)) if listed == name => self.differs(name),
                        _ => {
                            let (member, offset) = (name.to_owned(), member.offset);
                            Fault::Unexpected { member, offset }.of(&self.path)
                        }
                    });
                }
                if member.role.subject() {
                    subjects += 1;
                    if !subject(name, &digest) {
                        return Err(self.differs(name));
                    }
                }
            }
            if let Some(bytes) = bytes.filter(|_| name.starts_with("meta/")) {
                metadata.insert(member.name.clone(), bytes);
            }
        }
        if let Some(line) = lines.next() {
            let member = line
                .trim_end()
                .rsplit(' ')
                .next()
                .unwrap_or_default()
                .to_owned();
            return Err(Fault::Missing { member }.of(&self.path));
        }
        if stated.subject.len() != subjects {
            return Err(self.differs(layout::STATEMENT));
        }
        Ok(metadata)
    }

    /// The index lists exactly the blobs of the archive, where and as large as they are.
    fn check_index(&self, index: &Index) -> Result<BTreeMap<Digest, usize>, VerifyError> {
        let differs = |member: &str| {
            Fault::IndexDiffers {
                member: member.to_owned(),
            }
            .of(&self.path)
        };
        if !is_piece_size(index.piece_size) {
            return Err(differs(layout::INDEX));
        }
        let members: Vec<_> = self
            .members
            .iter()
            .filter(|m| m.role == Role::Blob)
            .collect();
        let mut by_digest = BTreeMap::new();
        for (number, blob) in index.blobs.iter().enumerate() {
            let name = layout::blob(&blob.digest);
            let Some(member) = members.get(number).filter(|member| member.name == name) else {
                return Err(differs(&name));
            };
            let placed = blob.member.as_str() == name
                && blob.offset == member.offset
                && blob.size.0 == member.size
                && blob.volume == 1
                && blob.parts.is_empty()
                && blob.codec == Codec::Raw;
            if !placed || !pieces_fit(blob, index.piece_size) {
                return Err(differs(&name));
            }
            by_digest.insert(blob.digest, number);
        }
        match members.get(index.blobs.len()) {
            Some(member) => Err(differs(&member.name)),
            None => Ok(by_digest),
        }
    }

    fn parse<T: DeserializeOwned>(
        &self,
        metadata: &BTreeMap<String, Vec<u8>>,
        name: &str,
    ) -> Result<T, VerifyError> {
        let bytes = metadata.get(name).map(Vec::as_slice).unwrap_or_default();
        serde_json::from_slice(bytes).map_err(|error| self.malformed(name, &error))
    }

    fn differs(&self, name: &str) -> VerifyError {
        Fault::MemberDiffers {
            member: name.to_owned(),
        }
        .of(&self.path)
    }

    fn malformed(&self, name: &str, cause: &dyn ToString) -> VerifyError {
        let (member, cause) = (name.to_owned(), cause.to_string());
        Fault::Malformed { member, cause }.of(&self.path)
    }
}

impl Verified {
    /// The index's entry of a blob.
    pub fn blob(&self, digest: &Digest) -> Option<&Blob> {
        self.by_digest
            .get(digest)
            .and_then(|number| self.index.blobs.get(*number))
    }

    /// The bundle's file.
    pub fn path(&self) -> &Path {
        &self.sealed.path
    }

    /// Architectures that the bundle has an installer for.
    pub fn installers(&self) -> Vec<Arch> {
        [Arch::Aarch64, Arch::X86_64]
            .into_iter()
            .filter(|arch| self.sealed.member(&layout::installer(*arch)).is_some())
            .collect()
    }

    /// Name of the release folder: `<name>-<release>-<12 hex of the statement digest>`.
    pub fn release_name(&self) -> String {
        let hex = self.statement_digest.hex();
        format!(
            "{}-{}-{}",
            self.profiles.name,
            self.profiles.release,
            &hex[..12]
        )
    }

    /// The bundle's own path, for an error.
    pub(crate) fn at(&self) -> PathBuf {
        self.sealed.path.clone()
    }
}

/// Every file that the profiles place.
pub(crate) fn placed_files(profiles: &Profiles) -> impl Iterator<Item = &PlacedFile> {
    let components = profiles
        .components
        .iter()
        .flat_map(|component| &component.files);
    let backends = profiles.backends.iter().flat_map(|backend| {
        let wheels = backend.python.iter().flat_map(|python| &python.wheels);
        backend.files.iter().chain(wheels)
    });
    components.chain(backends)
}

fn check_profiles(
    profiles: &Profiles,
    index: &Index,
    by_digest: &BTreeMap<Digest, usize>,
) -> Result<(), Fault> {
    for file in placed_files(profiles) {
        let blob = by_digest
            .get(file.blob())
            .and_then(|number| index.blobs.get(*number));
        if blob.is_none_or(|blob| file.made_from.is_none() && blob.size != file.size) {
            return Err(Fault::BlobMissing {
                blob: *file.blob(),
                file: file.path.to_string(),
            });
        }
    }
    Ok(())
}

/// As many pieces as the size asks for; a single one is the blob itself.
fn pieces_fit(blob: &Blob, piece_size: u64) -> bool {
    let count = blob.size.0.div_ceil(piece_size);
    blob.pieces.len() as u64 == count
        && match blob.pieces.as_slice() {
            [] => blob.digest == Digest::of(b""),
            [only] => *only == blob.digest,
            _ => true,
        }
}

fn blob_digest(name: &str) -> Option<Digest> {
    Digest::parse_hex(name.rsplit('/').next()?).ok()
}
