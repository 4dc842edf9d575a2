//! Writes a bundle: lay out, copy and hash in one reading, sign.
//!
//! Sizes alone decide where everything lies, so the content goes to its place while it is hashed; what stands before it
//! is written last. The same input gives the same bytes on any number of threads.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use manifest_schema::{
    Arch, Blob, BundlePath, ByteSize, Digest, Index, PIECE_SIZE, Profiles, Provenance,
    RequiredBlob, Requires,
};
use report::Sink;

use crate::build_error::BuildError;
use crate::chain::RootChain;
use crate::compress::Frames;
use crate::documents;
use crate::envelope::Envelope;
use crate::fill::fill;
use crate::image::{OCI_LAYOUT, oci_index};
use crate::keys::SigningKey;
use crate::layout::{self, ALIGN, MAX_METADATA, MAX_VOLUMES, ROOM, Role};
use crate::place::{Content, TooSmall, place};
use crate::root::{Lack, RootDocument};
use crate::sbom::bill;
use crate::source::{Source, is_piece_size, open_blobs, unreadable};
use crate::statement::{PAYLOAD_TYPE, Statement, Subject, pre_authentication};
use crate::tensors::Squeeze;
use crate::ustar::{BLOCK, padding};
use crate::verify::placed_files;
use crate::write::{Archive, runs, span};

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
    /// The chain of trust roots: `meta/root/`.
    pub roots: &'a RootChain,
    /// Licence texts by their digests: `meta/licenses/`.
    pub licenses: &'a BTreeMap<Digest, Vec<u8>>,
    /// Blobs that are left out because the target has them: `meta/requires.json`.
    pub requires: &'a [RequiredBlob],
}

/// How a bundle is built. The number of threads changes no byte.
#[derive(Clone, Copy, Debug)]
pub struct BuildOptions {
    /// Threads that hash.
    pub threads: usize,
    /// Bytes of a piece: a power of two from 4 KiB to 1 GiB.
    pub piece_size: u64,
    /// Bytes of a volume, where one file would be too large for the medium.
    pub volume_size: Option<u64>,
    /// Whether text is stored in zstd frames.
    pub compress: bool,
    /// Which numbers of weights are stored in planes.
    pub squeeze: Squeeze,
    /// Whether raw blobs begin at multiples of 4 KiB, so that a file system can share their blocks.
    pub align: bool,
    /// Whether signatures may still be missing. There is room for them; no reader takes the bundle before they are
    /// there.
    pub sign_later: bool,
}

impl Default for BuildOptions {
    fn default() -> Self {
        Self {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            piece_size: PIECE_SIZE,
            volume_size: None,
            compress: true,
            squeeze: Squeeze::default(),
            align: false,
            sign_later: false,
        }
    }
}

/// A bundle that was built.
#[derive(Clone, Debug)]
pub struct Built {
    /// The file, or the volumes.
    pub paths: Vec<PathBuf>,
    /// Bytes of all of them.
    pub size: ByteSize,
    /// Digest of the signed statement: the bundle's identity.
    pub statement_digest: Digest,
    /// Fingerprint of the newest root, which people compare.
    pub fingerprint: Digest,
    /// What signatures are still missing.
    pub lack: Option<Lack>,
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
    let root = input.roots.last();
    let (signers, lack) = signers_of(root, signers)?;
    if let Some(lack) = lack.clone().filter(|_| !options.sign_later) {
        return Err(BuildError::Unsigned { lack });
    }
    let sources = open_blobs(input)?;
    check_profiles(input, &sources)?;
    let piece_size = options.piece_size;
    if !is_piece_size(piece_size) {
        return Err(BuildError::PieceSize { found: piece_size });
    }
    let raw = |source: &Source| Content::raw(source.digest, source.size, piece_size);
    let mut contents: Vec<Content> = sources.iter().map(raw).collect();
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let frames = Frames::make(
        input.profiles,
        &sources,
        &mut contents,
        options,
        folder,
        sink,
    )?;
    let payload = Payload {
        sources,
        contents,
        frames,
    };
    let mut members = metadata(input)?;
    let mut layout = lay_out(&mut members, input, &payload, options, &signers)?;
    if let Some((_, name, bytes)) = members
        .each()
        .find(|(_, _, bytes)| bytes.len() as u64 > MAX_METADATA)
    {
        return Err(BuildError::MetadataTooLarge {
            name: name.to_owned(),
            size: ByteSize(bytes.len() as u64),
        });
    }
    let mut archive = Archive::create(out, layout.index.volumes)?;
    let blobs = &mut layout.index.blobs;
    archive.expect(blobs, options.align)?;
    fill(&archive, &payload, blobs, options, sink)?;
    let statement = seal(&mut members, input, &layout, &signers);
    let (paths, size) = archive.finish(&members, &layout.index)?;
    Ok(Built {
        paths,
        size: ByteSize(size),
        statement_digest: Digest::of(&statement),
        fingerprint: input.roots.fingerprint(),
        lack,
        blobs: payload.contents.len(),
    })
}

/// The bytes of a bundle's blobs, as they will be stored.
pub(crate) struct Payload {
    pub(crate) sources: Vec<Source>,
    pub(crate) contents: Vec<Content>,
    pub(crate) frames: Frames,
}

/// Where everything is to be.
struct Layout {
    index: Index,
    /// Bytes before the content.
    first: u64,
    /// Which attempt it is that held still.
    attempt: u32,
}

/// The members that do not depend on where the blobs lie.
fn metadata(input: &BundleInput) -> Result<Members, BuildError> {
    let mut members = Members::default();
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
    add_roots(&mut members, input.roots)?;
    members.add(layout::PROFILES, json(input.profiles));
    members.add(layout::LOCK, input.lock.to_vec());
    members.add(layout::PROVENANCE, json(input.provenance));
    let bill = bill(input.profiles, input.provenance, &Digest::of(input.lock));
    members.add(layout::SBOM, json(&bill));
    for (digest, text) in input.licenses {
        members.add(&layout::license(digest), text.clone());
    }
    let images = &input.profiles.images;
    if !images.is_empty() {
        members.add(layout::OCI_LAYOUT, OCI_LAYOUT.as_bytes().to_vec());
        members.add(layout::OCI_INDEX, oci_index(images));
    }
    if !input.requires.is_empty() {
        let mut blobs = input.requires.to_vec();
        blobs.sort_by_key(|blob| blob.digest);
        members.add(layout::REQUIRES, json(&Requires { format: 1, blobs }));
    }
    Ok(members)
}

/// The chain of roots, and every key that any of them names.
fn add_roots(members: &mut Members, roots: &RootChain) -> Result<(), BuildError> {
    let mut keys = BTreeMap::new();
    for (version, root) in (1..).zip(roots.roots()) {
        members.add(&layout::root(version), root.bytes.clone());
        for (key, algorithm, signature) in &root.signatures {
            let name = layout::root_signature(version, key, *algorithm);
            members.add(&name, signature.clone());
        }
        for key in RootDocument::parse(&root.bytes)?.keys {
            keys.insert(layout::key(&key.keyid), key.pem);
        }
    }
    for (name, pem) in keys {
        members.add(&name, pem.into_bytes());
    }
    Ok(())
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

/// Keys that sign, in the order of their identifiers, each one of the root's; and what they lack to meet it.
fn signers_of<'a>(
    root: &RootDocument,
    signers: &[&'a SigningKey],
) -> Result<(Vec<&'a SigningKey>, Option<Lack>), BuildError> {
    let mut signers = signers.to_vec();
    signers.sort_by(|a, b| a.key_id().cmp(b.key_id()));
    signers.dedup_by(|a, b| a.key_id() == b.key_id());
    for signer in &signers {
        let id = signer.key_id();
        if !root.counts(id) {
            return Err(BuildError::KeyNotInRoot {
                key: id.to_string(),
            });
        }
    }
    let lack = root.lacks(signers.iter().map(|signer| signer.key_id()));
    Ok((signers, lack))
}

/// Every blob that the profiles need is there, or required on the target, and none more.
fn check_profiles(input: &BundleInput, sources: &[Source]) -> Result<(), BuildError> {
    let mut there: BTreeMap<Digest, u64> = sources.iter().map(|s| (s.digest, s.size)).collect();
    there.extend(input.requires.iter().map(|blob| (blob.digest, blob.size.0)));
    let mut wanted = BTreeSet::new();
    for file in placed_files(input.profiles) {
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
    for blob in input.profiles.image_blobs() {
        if there.get(&blob.digest) != Some(&blob.size.0) {
            return Err(BuildError::BlobMissing {
                blob: blob.digest,
                file: blob.media_type.clone(),
            });
        }
        wanted.insert(blob.digest);
    }
    match there.keys().find(|digest| !wanted.contains(digest)) {
        Some(blob) => Err(BuildError::BlobUnused { blob: *blob }),
        None => Ok(()),
    }
}

/// Places the blobs. Digests of pieces and parts need not be known: they are as long whatever they are.
///
/// Offsets stand in the index, and the index stands before what they point at. An index whose offsets have more
/// digits may itself be a block longer, so the layout is repeated until it holds still. Volumes could make two layouts
/// call for each other, since other cuts make another index; later statements grow with each attempt, which ends that.
/// Signatures move nothing: each has its room, whoever signs.
fn lay_out(
    members: &mut Members,
    input: &BundleInput,
    payload: &Payload,
    options: BuildOptions,
    signers: &[&SigningKey],
) -> Result<Layout, BuildError> {
    let (mut first, mut several) = (0, false);
    let mut enough = options.volume_size;
    for attempt in 0_u32.. {
        let capacity = enough.filter(|_| several);
        let placed = place(
            &payload.contents,
            options.piece_size,
            first,
            capacity,
            options.align,
        );
        let (blobs, volumes) = match placed {
            Ok(placed) => placed,
            // What stands before the content is not known yet: whoever is told a size must not be told another later.
            Err(TooSmall { needed }) => {
                enough = Some(needed);
                continue;
            }
        };
        if volumes > MAX_VOLUMES {
            return Err(BuildError::TooManyVolumes { found: volumes });
        }
        let index = Index {
            format: 1,
            piece_size: options.piece_size,
            volumes,
            align: options.align.then_some(ALIGN),
            blobs,
        };
        members.0.retain(|role, _| !LAID_OUT.contains(role));
        if several {
            // The largest numbers take as many blocks as any.
            members.add(layout::VOLUME, layout::volume(MAX_VOLUMES, MAX_VOLUMES));
        }
        sign(members, input, &index, attempt, signers);
        let span = members.span();
        if span != first {
            first = span;
            continue;
        }
        let ends = index.blobs.iter().flat_map(runs);
        let ends = ends.map(|run| run.offset + run.size + padding(run.size));
        let total = ends.max().unwrap_or(span) + 2 * BLOCK;
        if several || options.volume_size.is_none_or(|size| total <= size) {
            if let (Some(size), Some(needed)) = (options.volume_size, enough)
                && size < needed
            {
                return Err(BuildError::VolumeTooSmall {
                    size: ByteSize(size),
                    needed: ByteSize(needed),
                });
            }
            return Ok(Layout {
                index,
                first,
                attempt,
            });
        }
        (first, several) = (0, true);
    }
    unreachable!("a layout holds still long before 2^32 attempts")
}

/// Signs the index, whose digests are known now. Returns the statement.
fn seal(
    members: &mut Members,
    input: &BundleInput,
    layout: &Layout,
    signers: &[&SigningKey],
) -> Vec<u8> {
    let again = |role: &Role| LAID_OUT.contains(role) && *role != Role::Volume;
    members.0.retain(|role, _| !again(role));
    let statement = sign(members, input, &layout.index, layout.attempt, signers);
    assert_eq!(
        members.span(),
        layout.first,
        "digests are as long as they were before they were known, and signatures have their room"
    );
    statement
}

/// Roles that depend on the layout.
const LAID_OUT: [Role; 7] = [
    Role::Readme,
    Role::Index,
    Role::Sums,
    Role::Statement,
    Role::Signature,
    Role::Envelope,
    Role::Volume,
];

/// Adds everything that depends on the index; returns the statement.
fn sign(
    members: &mut Members,
    input: &BundleInput,
    index: &Index,
    attempt: u32,
    signers: &[&SigningKey],
) -> Vec<u8> {
    // Not the output's own name: a bundle's bytes depend on its lock and its options alone.
    let name = format!("{}-{}", input.profiles.name, input.profiles.release);
    let readme = documents::readme(&name, index.volumes);
    members.add(layout::README, readme.into_bytes());
    members.add(layout::INDEX, json(index));
    let mut sums = String::new();
    let mut subjects = Vec::new();
    for (role, name, bytes) in members.each().filter(|(role, _, _)| role.summed()) {
        let digest = Digest::of(bytes);
        sums.push_str(&layout::sum_line(&digest, name));
        if role.subject() {
            subjects.push(Subject::new(name, &digest));
        }
    }
    for (digest, member) in index.blobs.iter().flat_map(stored_members) {
        sums.push_str(&layout::sum_line(&digest, member.as_str()));
    }
    subjects.push(Subject::new(layout::SUMS, &Digest::of(sums.as_bytes())));
    members.add(layout::SUMS, sums.into_bytes());
    let lock = Digest::of(input.lock);
    let mut statement = Statement::new(subjects, input.profiles, &lock, input.provenance);
    if attempt > 4 {
        statement.note_attempt(attempt);
    }
    let statement = json(&statement);
    let message = pre_authentication(PAYLOAD_TYPE, &statement);
    let signatures: BTreeMap<_, _> = signers
        .iter()
        .map(|signer| (signer.key_id(), signer.sign(&message)))
        .collect();
    // A key that does not sign now has room to sign later: whoever signs, the rest of the bundle is the same.
    for key in input.roots.last().usable() {
        let (name, bytes) = match signatures.get(&key.keyid) {
            Some(signature) => {
                let name = layout::signature(&key.keyid, key.scheme);
                (name, signature.clone())
            }
            None => (layout::room(&key.keyid), vec![0; ROOM as usize]),
        };
        members.add(&name, bytes);
    }
    let keys = input.roots.last().usable().map(|key| &key.keyid);
    let envelope = Envelope::new(&statement, keys.collect());
    members.add(
        layout::ENVELOPE,
        envelope.bytes(|key| signatures.get(key).cloned()),
    );
    members.add(layout::STATEMENT, statement.clone());
    statement
}

/// The members that a blob is stored in, and the digest of each.
pub(crate) fn stored_members(blob: &Blob) -> Vec<(Digest, &BundlePath)> {
    if blob.parts.is_empty() {
        let digest = blob
            .stored
            .as_ref()
            .map_or(blob.digest, |stored| stored.digest);
        return vec![(digest, &blob.member)];
    }
    let parts = blob.parts.iter();
    parts.map(|part| (part.digest, &part.member)).collect()
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
