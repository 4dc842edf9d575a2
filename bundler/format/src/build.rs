//! Writes a bundle: hash, lay out, sign, then copy once.
//!
//! The digests of all pieces are known before the first byte is written, so the metadata can stand first
//! and the same input gives the same bytes on any number of threads.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use manifest_schema::{
    Arch, Blob, BundlePath, ByteSize, Codec, Digest, Index, PIECE_SIZE, Profiles, Provenance,
};
use report::Sink;

use crate::build_error::BuildError;
use crate::documents;
use crate::keys::{RootDocument, SigningKey};
use crate::layout::{self, MAX_METADATA, Role};
use crate::source::{Source, hash_blobs, open_blobs, unreadable};
use crate::statement::{Statement, Subject, envelope};
use crate::ustar::BLOCK;
use crate::verify::placed_files;
use crate::write::{span, write};

/// What goes into a bundle.
pub struct BundleInput<'a> {
    /// The lock's bytes: `meta/plan.lock`.
    pub lock: &'a [u8],
    /// `meta/profiles.json`.
    pub profiles: &'a Profiles,
    /// `meta/provenance.json`.
    pub provenance: &'a Provenance,
    /// Every blob and the file that holds it, in any order.
    pub blobs: &'a [(Digest, PathBuf)],
    /// Static installers.
    pub installers: &'a BTreeMap<Arch, (Digest, PathBuf)>,
    /// The root document's bytes: `meta/root/001.json`.
    pub root: &'a [u8],
}

/// How a bundle is built. None of it but the piece size changes a byte.
#[derive(Clone, Copy, Debug)]
pub struct BuildOptions {
    /// Threads that hash.
    pub threads: usize,
    /// Bytes of a piece: a power of two from 4 KiB to 1 GiB.
    pub piece_size: u64,
}

impl Default for BuildOptions {
    fn default() -> Self {
        Self {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            piece_size: PIECE_SIZE,
        }
    }
}

/// A bundle that was built.
#[derive(Clone, Debug)]
pub struct Built {
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub size: ByteSize,
    /// Digest of the signed statement: the bundle's identity.
    pub statement_digest: Digest,
    /// Fingerprint of the root, which people compare.
    pub fingerprint: Digest,
    /// Number of blobs.
    pub blobs: usize,
}

/// Builds a bundle at `out`, which appears only when it is whole and on the disk.
///
/// # Errors
/// When the input does not agree with itself, the keys do not meet the root, or a file fails.
pub fn build(
    input: &BundleInput,
    signers: &[&SigningKey],
    out: &Path,
    options: BuildOptions,
    sink: &dyn Sink,
) -> Result<Built, BuildError> {
    let root = RootDocument::parse(input.root)?;
    let signers = signers_of(&root, signers)?;
    let sources = open_blobs(input)?;
    check_profiles(input.profiles, &sources)?;
    let pieces = hash_blobs(&sources, options, sink)?;

    // Not the output's own name: a bundle's bytes depend on its lock alone.
    let name = format!("{}-{}.ferry", input.profiles.name, input.profiles.release);
    let mut members = Members::default();
    members.add(layout::README, documents::readme(&name).into_bytes());
    members.add(layout::INSTALL, documents::INSTALL.as_bytes().to_vec());
    for (arch, (expected, path)) in input.installers {
        let bytes = read_bounded(path)?;
        let found = Digest::of(&bytes);
        if found != *expected && bytes.len() as u64 <= MAX_METADATA {
            return Err(BuildError::BlobDiffers {
                path: path.clone(),
                expected: *expected,
                found,
            });
        }
        members.add(&layout::installer(*arch), bytes);
    }
    members.add(layout::ROOT, input.root.to_vec());
    for key in root.public_keys()? {
        members.add(&layout::key(key.key_id()), key.pem().as_bytes().to_vec());
    }
    members.add(layout::PROFILES, json(input.profiles));
    members.add(layout::LOCK, input.lock.to_vec());
    members.add(layout::PROVENANCE, json(input.provenance));

    let statement = lay_out(&mut members, input, &sources, &pieces, options, &signers);
    if let Some((name, bytes)) = members
        .0
        .values()
        .flatten()
        .find(|(_, bytes)| bytes.len() as u64 > MAX_METADATA)
    {
        let size = ByteSize(bytes.len() as u64);
        return Err(BuildError::MetadataTooLarge {
            name: name.clone(),
            size,
        });
    }
    let size = write(&members, &sources, out, sink)?;
    Ok(Built {
        path: out.to_owned(),
        size: ByteSize(size),
        statement_digest: Digest::of(&statement),
        fingerprint: Digest::of(input.root),
        blobs: sources.len(),
    })
}

/// Members held in memory, in the archive's order.
#[derive(Default)]
pub(crate) struct Members(BTreeMap<Role, Vec<(String, Vec<u8>)>>);

impl Members {
    fn add(&mut self, name: &str, bytes: Vec<u8>) {
        let role = Role::of(name).expect("only names of the layout are added");
        let of_role = self.0.entry(role).or_default();
        of_role.push((name.to_owned(), bytes));
        of_role.sort();
    }

    pub(crate) fn each(&self) -> impl Iterator<Item = (Role, &str, &[u8])> {
        self.0.iter().flat_map(|(role, members)| {
            members
                .iter()
                .map(|(name, bytes)| (*role, name.as_str(), bytes.as_slice()))
        })
    }

    /// Bytes that the members take in the archive.
    pub(crate) fn span(&self) -> u64 {
        self.each()
            .map(|(_, _, bytes)| span(bytes.len() as u64))
            .sum()
    }
}

/// Keys that sign, in the order of their identifiers; they must meet the root's threshold.
fn signers_of<'a>(
    root: &RootDocument,
    signers: &[&'a SigningKey],
) -> Result<Vec<&'a SigningKey>, BuildError> {
    let mut signers = signers.to_vec();
    signers.sort_by(|a, b| a.key_id().cmp(b.key_id()));
    signers.dedup_by(|a, b| a.key_id() == b.key_id());
    for signer in &signers {
        let id = signer.key_id();
        if !root.counts(id) || !root.keys.iter().any(|key| key.keyid == *id) {
            return Err(BuildError::KeyNotInRoot {
                key: id.to_string(),
            });
        }
    }
    if signers.len() < root.threshold as usize {
        return Err(BuildError::Threshold {
            found: signers.len(),
            needed: root.threshold,
        });
    }
    Ok(signers)
}

/// Every blob that the profiles need is there, and none more.
fn check_profiles(profiles: &Profiles, sources: &[Source]) -> Result<(), BuildError> {
    let there: BTreeMap<Digest, u64> = sources.iter().map(|s| (s.digest, s.size)).collect();
    let mut wanted = BTreeSet::new();
    for file in placed_files(profiles) {
        let blob = *file.blob();
        let size = there.get(&blob).copied();
        if size.is_none_or(|size| file.made_from.is_none() && size != file.size.0) {
            return Err(BuildError::BlobMissing {
                blob,
                file: file.path.to_string(),
            });
        }
        wanted.insert(blob);
    }
    match sources
        .iter()
        .find(|source| !wanted.contains(&source.digest))
    {
        Some(source) => Err(BuildError::BlobUnused {
            blob: source.digest,
        }),
        None => Ok(()),
    }
}

/// Adds index, sums, statement, signatures and envelope; returns the statement.
///
/// Offsets stand in the index, and the index stands before what they point at. An index whose offsets have more
/// digits may itself be a block longer, so the layout is repeated until it holds still. A signature's length varies
/// by a byte or two, which could make two layouts call for each other; the attempt's number in later statements
/// ends that.
fn lay_out(
    members: &mut Members,
    input: &BundleInput,
    sources: &[Source],
    pieces: &[Vec<Digest>],
    options: BuildOptions,
    signers: &[&SigningKey],
) -> Vec<u8> {
    let mut first = 0;
    for attempt in 0_u32.. {
        for role in [
            Role::Index,
            Role::Sums,
            Role::Statement,
            Role::Signature,
            Role::Envelope,
        ] {
            members.0.remove(&role);
        }
        members.add(
            layout::INDEX,
            json(&index_of(first, sources, pieces, options)),
        );
        let mut sums = String::new();
        let mut subjects = Vec::new();
        for (role, name, bytes) in members.each() {
            let digest = Digest::of(bytes);
            sums.push_str(&layout::sum_line(&digest, name));
            if role.subject() {
                subjects.push(Subject::new(name, &digest));
            }
        }
        for source in sources {
            sums.push_str(&layout::sum_line(
                &source.digest,
                &layout::blob(&source.digest),
            ));
        }
        subjects.push(Subject::new(layout::SUMS, &Digest::of(sums.as_bytes())));
        members.add(layout::SUMS, sums.into_bytes());
        let lock = Digest::of(input.lock);
        let mut statement = Statement::new(subjects, input.profiles, &lock, input.provenance);
        if attempt > 4 {
            statement.note_attempt(attempt);
        }
        let statement = json(&statement);
        let signatures: Vec<_> = signers
            .iter()
            .map(|signer| (signer.key_id(), signer.sign(&statement)))
            .collect();
        for (key, signature) in &signatures {
            members.add(&layout::signature(key), signature.clone());
        }
        let signatures = signatures
            .iter()
            .map(|(key, signature)| (*key, signature.as_slice()));
        members.add(layout::ENVELOPE, envelope(&statement, signatures));
        members.add(layout::STATEMENT, statement.clone());
        let span = members.span();
        if span == first {
            return statement;
        }
        first = span;
    }
    unreachable!("a layout holds still long before 2^32 attempts")
}

fn index_of(
    first: u64,
    sources: &[Source],
    pieces: &[Vec<Digest>],
    options: BuildOptions,
) -> Index {
    let mut offset = first;
    let mut blobs = Vec::new();
    for (source, pieces) in sources.iter().zip(pieces) {
        blobs.push(Blob {
            digest: source.digest,
            size: ByteSize(source.size),
            codec: Codec::Raw,
            pieces: pieces.clone(),
            member: BundlePath::parse(&layout::blob(&source.digest))
                .expect("`blobs/sha256/<hex>` is a relative path"),
            volume: 1,
            offset: offset + BLOCK,
            parts: Vec::new(),
        });
        offset += span(source.size);
    }
    Index {
        format: 1,
        piece_size: options.piece_size,
        blobs,
    }
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, BuildError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_METADATA + 1).read_to_end(&mut bytes))
        .map_err(unreadable(path))?;
    Ok(bytes)
}

/// One line of JSON. Maps keep their order, so equal values give equal bytes.
fn json(value: &impl serde::Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(value).expect("keys are strings and numbers are finite");
    bytes.push(b'\n');
    bytes
}
