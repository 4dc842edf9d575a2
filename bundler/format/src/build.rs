//! Writes a bundle: hash, lay out, sign, then copy once.
//!
//! The digests of all pieces are known before the first byte is written, so the metadata can stand first
//! and the same input gives the same bytes on any number of threads.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use manifest_schema::{
    Arch, Blob, BundlePath, ByteSize, Codec, Digest, Index, PIECE_SIZE, Profiles, Provenance,
};
use report::{Sink, Step};

use crate::build_error::BuildError;
use crate::documents;
use crate::keys::{RootDocument, SigningKey};
use crate::layout::{self, MAX_METADATA, Role};
use crate::parallel::{for_each, hash_range};
use crate::statement::{Statement, Subject, envelope};
use crate::ustar::{BLOCK, Header, MAX_SIZE, padding};
use crate::verify::placed_files;

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
    pub installers: &'a BTreeMap<Arch, PathBuf>,
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

    let name = out
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let mut members = Members::default();
    members.add(layout::README, documents::readme(&name).into_bytes());
    members.add(layout::INSTALL, documents::INSTALL.as_bytes().to_vec());
    for (arch, path) in input.installers {
        members.add(&layout::installer(*arch), read_bounded(path)?);
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
struct Members(BTreeMap<Role, Vec<(String, Vec<u8>)>>);

impl Members {
    fn add(&mut self, name: &str, bytes: Vec<u8>) {
        let role = Role::of(name).expect("only names of the layout are added");
        let of_role = self.0.entry(role).or_default();
        of_role.push((name.to_owned(), bytes));
        of_role.sort();
    }

    fn each(&self) -> impl Iterator<Item = (Role, &str, &[u8])> {
        self.0.iter().flat_map(|(role, members)| {
            members
                .iter()
                .map(|(name, bytes)| (*role, name.as_str(), bytes.as_slice()))
        })
    }

    /// Bytes that the members take in the archive.
    fn span(&self) -> u64 {
        self.each()
            .map(|(_, _, bytes)| span(bytes.len() as u64))
            .sum()
    }
}

/// A blob's file.
struct Source {
    digest: Digest,
    path: PathBuf,
    file: File,
    size: u64,
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

fn open_blobs(input: &BundleInput) -> Result<Vec<Source>, BuildError> {
    let mut sources: Vec<Source> = Vec::new();
    for (digest, path) in input.blobs {
        let file = File::open(path).map_err(unreadable(path))?;
        let size = file.metadata().map_err(unreadable(path))?.len();
        if size > MAX_SIZE {
            return Err(BuildError::BlobTooLarge {
                path: path.clone(),
                size: ByteSize(size),
            });
        }
        sources.push(Source {
            digest: *digest,
            path: path.clone(),
            file,
            size,
        });
    }
    sources.sort_by_key(|source| source.digest);
    sources.dedup_by_key(|source| source.digest);
    Ok(sources)
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

/// Hashes every piece, and every blob of more than one piece as a whole, and checks the blobs' names.
fn hash_blobs(
    sources: &[Source],
    options: BuildOptions,
    sink: &dyn Sink,
) -> Result<Vec<Vec<Digest>>, BuildError> {
    let piece_size = options.piece_size;
    if !layout_piece_size(piece_size) {
        return Err(BuildError::PieceSize { found: piece_size });
    }
    let total = sources.iter().map(|source| source.size).sum();
    // The long jobs stand first, so that no thread is left alone with one at the end.
    let mut jobs = Vec::new();
    for (number, source) in sources.iter().enumerate() {
        if source.size > piece_size || source.size == 0 {
            jobs.push((number, None));
        }
    }
    jobs.sort_by_key(|(number, _)| std::cmp::Reverse(sources[*number].size));
    for (number, source) in sources.iter().enumerate() {
        jobs.extend((0..source.size.div_ceil(piece_size)).map(|piece| (number, Some(piece))));
    }
    let found: Mutex<BTreeMap<(usize, u64), Digest>> = Mutex::default();
    let done = AtomicU64::new(0);
    let step = Step::start(sink, "step.bundle-hash", "", Some(total), "bytes");
    for_each(options.threads, jobs.len(), |job| {
        let (number, piece) = jobs[job];
        let source = &sources[number];
        let offset = piece.map_or(0, |piece| piece * piece_size);
        let size = piece.map_or(source.size, |_| piece_size.min(source.size - offset));
        let digest = hash_range(&source.file, offset, size, |_, _| Ok(()))
            .map_err(unreadable(&source.path))?;
        let whole = piece.is_none() || source.size <= piece_size;
        if whole && digest != source.digest {
            let path = source.path.clone();
            return Err(BuildError::BlobDiffers {
                path,
                expected: source.digest,
                found: digest,
            });
        }
        if let Some(piece) = piece {
            let mut found = found
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            found.insert((number, piece), digest);
            step.progress(done.fetch_add(size, Ordering::Relaxed) + size);
        }
        Ok(())
    })?;
    step.finish();
    let mut pieces = vec![Vec::new(); sources.len()];
    let found = found
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    for ((number, _), digest) in found {
        pieces[number].push(digest);
    }
    Ok(pieces)
}

/// Whether `size` may be the size of pieces.
pub(crate) fn layout_piece_size(size: u64) -> bool {
    size.is_power_of_two() && (1 << 12..=1 << 30).contains(&size)
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

/// Writes the archive beside `out` and moves it there; returns its size.
fn write(
    members: &Members,
    sources: &[Source],
    out: &Path,
    sink: &dyn Sink,
) -> Result<u64, BuildError> {
    let mut partial = out.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let failed = |source| BuildError::Output {
        path: partial.clone(),
        source,
    };
    let blobs: u64 = sources.iter().map(|source| span(source.size)).sum();
    let total = members.span() + blobs + 2 * BLOCK;
    let step = Step::start(
        sink,
        "step.bundle-write",
        out.display().to_string(),
        Some(total),
        "bytes",
    );

    let mut writer = BufWriter::with_capacity(1 << 20, File::create(&partial).map_err(failed)?);
    for (role, name, bytes) in members.each() {
        write_header(&mut writer, name, bytes.len() as u64, role.executable()).map_err(failed)?;
        writer.write_all(bytes).map_err(failed)?;
        write_zeros(&mut writer, padding(bytes.len() as u64)).map_err(failed)?;
    }
    let mut done = members.span();
    for source in sources {
        let name = layout::blob(&source.digest);
        write_header(&mut writer, &name, source.size, false).map_err(failed)?;
        writer.flush().map_err(failed)?;
        let mut left = source.size;
        while left > 0 {
            // Between two files the kernel copies by itself, and shares blocks where the filesystem can.
            let run = (&source.file).take(left.min(PIECE_SIZE));
            let copied = io::copy(&mut { run }, writer.get_mut()).map_err(failed)?;
            if copied == 0 {
                let source = io::ErrorKind::UnexpectedEof.into();
                return Err(BuildError::Input {
                    path: out.to_owned(),
                    source,
                });
            }
            left -= copied;
            step.progress(done + source.size - left);
        }
        write_zeros(&mut writer, padding(source.size)).map_err(failed)?;
        done += span(source.size);
    }
    write_zeros(&mut writer, 2 * BLOCK).map_err(failed)?;
    writer.flush().map_err(failed)?;
    writer.get_ref().sync_all().map_err(failed)?;
    fs::rename(&partial, out).map_err(failed)?;
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))
        .and_then(|folder| folder.sync_all())
        .map_err(failed)?;
    step.progress(total);
    step.finish();
    Ok(total)
}

fn write_header(out: &mut impl Write, name: &str, size: u64, executable: bool) -> io::Result<()> {
    out.write_all(
        &Header {
            name: name.to_owned(),
            size,
            executable,
        }
        .encode(),
    )
}

fn write_zeros(out: &mut impl Write, count: u64) -> io::Result<()> {
    io::copy(&mut io::repeat(0).take(count), out).map(drop)
}

/// Bytes that a member of `size` bytes takes: header, bytes, padding.
fn span(size: u64) -> u64 {
    BLOCK + size + padding(size)
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

fn unreadable(path: &Path) -> impl Fn(io::Error) -> BuildError {
    let path = path.to_owned();
    move |source| BuildError::Input {
        path: path.clone(),
        source,
    }
}
