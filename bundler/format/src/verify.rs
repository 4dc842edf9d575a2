//! From bytes to a bundle: root, signatures, digests, and an index that agrees with the archive.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use manifest_schema::{
    Arch, Blob, Digest, HostItem, Index, KeyId, PlacedFile, Profiles, Provenance, Requires,
};
use serde::de::DeserializeOwned;

use crate::agree::{check_profiles, check_volumes, same_metadata};
use crate::chain::RootChain;
use crate::key_error::{KeyError, refused};
use crate::layout::{self, Role};
use crate::sealed::Sealed;
use crate::signatures::{Held, Signer, chain_of, enough};
use crate::statement::Statement;
use crate::trusted::{Standing, TrustedRoots};
use crate::verify_error::{Fault, VerifyError};
use crate::volume::Volume;

/// A bundle whose statement enough trusted keys signed, and whose metadata is as it was signed.
///
/// Only [`Sealed::verify`] makes one. Blobs are checked piece by piece as they are read.
#[derive(Debug)]
pub struct Verified {
    pub(crate) sealed: Sealed,
    /// Digest of the signed statement: the bundle's identity.
    pub statement_digest: Digest,
    /// Fingerprint of the bundle's newest trust root.
    pub fingerprint: Digest,
    /// Its version.
    pub root_version: u32,
    /// Version of a newer root of the same chain, where one is trusted here. It decided who may sign.
    pub newer_root: Option<u32>,
    /// Keys whose signatures hold and count.
    pub key_ids: Vec<KeyId>,
    /// The same keys, and what each signs with.
    pub signers: Vec<Signer>,
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
    requires: BTreeMap<Digest, u64>,
    by_digest: BTreeMap<Digest, usize>,
}

/// Roots, statement and signatures of a bundle, each of which holds.
pub(crate) struct Signed {
    pub(crate) standing: Standing,
    pub(crate) statement: Vec<u8>,
    pub(crate) held: Held,
}

type Metadata = BTreeMap<String, Vec<u8>>;

impl Sealed {
    /// Checks everything but the blobs' bytes. Nothing is parsed before the signatures over it hold.
    ///
    /// # Errors
    /// With the first thing that is not as a trusted bundle's is.
    pub fn verify(self, roots: &TrustedRoots) -> Result<Verified, VerifyError> {
        let path = self.path().to_owned();
        let signed = self.signed(roots)?;
        let signers = enough(&signed.standing, &signed.held).map_err(|fault| fault.of(&path))?;
        self.describe(signed, signers)
    }

    /// The roots and signatures: each that is there holds, in every volume. They need not be enough.
    pub(crate) fn signed(&self, roots: &TrustedRoots) -> Result<Signed, VerifyError> {
        let named = self.named();
        let standing = roots
            .judge(&named.chain()?)
            .map_err(|fault| fault.of(&named.path))?;
        let statement = named.read(layout::STATEMENT)?;
        let mut held = named.signatures(&standing.root, &statement)?;
        for volume in self.volumes.iter().skip(1) {
            same_metadata(named, volume)?;
            // Power may have gone between signing one volume and the next: what holds in any of them holds.
            held.extend(volume.signatures(&standing.root, &statement)?);
        }
        Ok(Signed {
            standing,
            statement,
            held,
        })
    }

    /// Everything else: digests, documents, and whether they agree.
    pub(crate) fn describe(
        self,
        signed: Signed,
        signers: Vec<Signer>,
    ) -> Result<Verified, VerifyError> {
        let Signed {
            standing,
            statement,
            held,
        } = signed;
        let named = self.named();
        let path = named.path.clone();
        for volume in &self.volumes {
            volume.check_envelope(&standing.root, &statement, &held)?;
        }
        let (mut metadata, sums) = named.check_digests(&statement)?;
        for (key, (algorithm, signature)) in held {
            metadata.insert(layout::signature(&key, algorithm), signature);
        }

        let index: Index = named.parse(&metadata, layout::INDEX)?;
        let profiles: Profiles = named.parse(&metadata, layout::PROFILES)?;
        let provenance: Provenance = named.parse(&metadata, layout::PROVENANCE)?;
        let requires = match metadata.get(layout::REQUIRES) {
            Some(_) => named.parse(&metadata, layout::REQUIRES)?,
            None => Requires {
                format: 1,
                blobs: Vec::new(),
            },
        };
        for (name, format) in [
            (layout::INDEX, index.format),
            (layout::PROFILES, profiles.format),
            (layout::PROVENANCE, provenance.format),
            (layout::REQUIRES, requires.format),
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
        let by_digest = named.check_index(&index, &sums)?;
        check_volumes(&self, &index)?;
        let requires = requires.blobs.iter().map(|b| (b.digest, b.size.0));
        let requires: BTreeMap<Digest, u64> = requires.collect();
        check_profiles(&profiles, &index, &by_digest, &requires)
            .map_err(|fault| fault.of(&path))?;
        named.check_images(&profiles)?;
        Ok(Verified {
            statement_digest: Digest::of(&statement),
            fingerprint: standing.fingerprint,
            root_version: standing.root.version,
            newer_root: standing.newer.map(|root| root.version),
            key_ids: signers.iter().map(|signer| signer.key_id.clone()).collect(),
            signers,
            lock: metadata.get(layout::LOCK).cloned().unwrap_or_default(),
            index,
            profiles,
            provenance,
            metadata,
            requires,
            by_digest,
            sealed: self,
        })
    }
}

impl Volume {
    /// The statement names `SHA256SUMS`, and each member that is no blob has the digest listed there.
    /// Returns the metadata, and the lines of the blobs, which the index must bear out.
    fn check_digests(&self, statement: &[u8]) -> Result<(Metadata, Vec<String>), VerifyError> {
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
        let described = self.members.iter().filter(|m| !m.role.payload());
        for member in described {
            let name = member.name.as_str();
            let bytes = self.read(name)?;
            if member.role.summed() {
                let digest = Digest::of(&bytes);
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
            // The same for every volume, so that what is installed from any of them is the same. Signatures are added
            // from all of them.
            let varies = matches!(member.role, Role::Volume | Role::Signature);
            if name.starts_with("meta/") && !varies {
                metadata.insert(member.name.clone(), bytes);
            }
        }
        let lines: Vec<String> = lines.map(str::to_owned).collect();
        let listed = |line: &String| Some(line.trim_end().split_once("  ")?.1.to_owned());
        for member in lines.iter().filter_map(listed) {
            if Role::of(&member) != Some(Role::Content) {
                return Err(Fault::Missing { member }.of(&self.path));
            }
        }
        if stated.subject.len() != subjects {
            return Err(self.differs(layout::STATEMENT));
        }
        Ok((metadata, lines))
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

    /// The bundle's chain of roots, from the first on.
    ///
    /// # Errors
    /// When it does not hold from the first on: a later root may be trusted without that.
    pub fn root_chain(&self) -> Result<RootChain, KeyError> {
        let at = |fault: Fault| fault.of(self.path());
        let member = |name: &str| Ok(self.metadata.get(name).cloned().unwrap_or_default());
        let names = self.metadata.keys().map(String::as_str);
        let gathered: Result<_, VerifyError> = chain_of(names, at, member);
        let mut roots = gathered.map_err(refused)?.into_iter();
        let first = roots.next().map(|root| root.bytes).unwrap_or_default();
        let mut chain = RootChain::first(first)?;
        roots.try_for_each(|next| chain.extend(next))?;
        Ok(chain)
    }

    /// The bundle's newest trust root.
    pub fn root_document(&self) -> &[u8] {
        let name = layout::root(self.root_version as usize);
        self.metadata.get(&name).map_or(&[], Vec::as_slice)
    }

    /// The bundle's file, or the volume that was named.
    pub fn path(&self) -> &Path {
        self.sealed.path()
    }

    /// Every blob that a delta leaves out because the target has it already, with its size. Empty for a full bundle.
    ///
    /// Whoever installs checks these before anything is written.
    pub fn requires(&self) -> &BTreeMap<Digest, u64> {
        &self.requires
    }

    /// The licence texts in `meta/licenses/`, by their digests.
    pub fn licenses(&self) -> BTreeMap<Digest, Vec<u8>> {
        let texts = self.metadata.iter();
        texts
            .filter(|(name, _)| Role::of(name) == Some(Role::License))
            .map(|(_, text)| (Digest::of(text), text.clone()))
            .collect()
    }

    /// Architectures that the bundle has an installer for.
    pub fn installers(&self) -> Vec<Arch> {
        [Arch::Aarch64, Arch::X86_64]
            .into_iter()
            .filter(|arch| {
                self.sealed
                    .named()
                    .member(&layout::installer(*arch))
                    .is_some()
            })
            .collect()
    }

    /// The installer of an architecture, as it was signed.
    ///
    /// # Errors
    /// When the bundle has none, or its file changed since it was verified.
    pub fn installer(&self, arch: Arch) -> Result<Vec<u8>, VerifyError> {
        let name = layout::installer(arch);
        let named = self.sealed.named();
        let bytes = named.read(&name)?;
        let line = layout::sum_line(&Digest::of(&bytes), &name);
        let sums = self.metadata.get(layout::SUMS).map(Vec::as_slice);
        let mut lines = sums
            .unwrap_or_default()
            .split_inclusive(|byte| *byte == b'\n');
        if lines.any(|listed| listed == line.as_bytes()) {
            Ok(bytes)
        } else {
            Err(named.differs(&name))
        }
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
        self.sealed.path().to_owned()
    }
}

/// Every file that the profiles place.
pub(crate) fn placed_files(profiles: &Profiles) -> impl Iterator<Item = &PlacedFile> {
    let components = profiles.components.iter().flat_map(|component| {
        let eulas = component.eulas.iter().map(|eula| &eula.text);
        component.files.iter().chain(eulas)
    });
    let backends = profiles.backends.iter().flat_map(|backend| {
        let wheels = backend.python.iter().flat_map(|python| &python.wheels);
        let eulas = backend.eulas.iter().map(|eula| &eula.text);
        let host = backend.host.iter().flat_map(HostItem::files);
        let host = host.map(|(_, file)| file);
        backend.files.iter().chain(wheels).chain(eulas).chain(host)
    });
    let packages = profiles.os_packages.iter().flat_map(|set| {
        let packages = set.packages.iter().map(|package| &package.file);
        packages.chain(&set.metadata)
    });
    components.chain(backends).chain(packages)
}
