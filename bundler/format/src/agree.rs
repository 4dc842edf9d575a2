//! Do index, sums, volumes and profiles agree with each other? All of them are signed by now; this finds mistakes of a
//! writer, and volumes that do not belong together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use manifest_schema::{Blob, BundlePath, Codec, Digest, Index, Profiles};

use crate::build::stored_members;
use crate::image::{OCI_LAYOUT, oci_index};
use crate::layout::{self, ALIGN, MAX_VOLUMES, Role};
use crate::planes::largest_frame;
use crate::sealed::Sealed;
use crate::source::is_piece_size;
use crate::ustar::{BLOCK, padding};
use crate::verify::placed_files;
use crate::verify_error::{Fault, VerifyError};
use crate::volume::{Member, Volume};

impl Volume {
    /// The index is sound in itself, and `SHA256SUMS` lists exactly what it says is stored.
    pub(crate) fn check_index(
        &self,
        index: &Index,
        sums: &[String],
    ) -> Result<BTreeMap<Digest, usize>, VerifyError> {
        let aligns = index.align.is_none_or(|align| align == ALIGN);
        if !is_piece_size(index.piece_size)
            || !(1..=MAX_VOLUMES).contains(&index.volumes)
            || !aligns
        {
            return Err(self.index_differs(layout::INDEX));
        }
        let mut lines = sums.iter();
        let mut by_digest = BTreeMap::new();
        let mut last = None;
        for (number, blob) in index.blobs.iter().enumerate() {
            let ascends = last.is_none_or(|last| last < blob.digest);
            if !ascends || !is_sound(blob, index) {
                return Err(self.index_differs(blob.member.as_str()));
            }
            for (digest, member) in stored_members(blob) {
                let member = member.as_str();
                if lines.next() != Some(&layout::sum_line(&digest, member)) {
                    return Err(self.index_differs(member));
                }
            }
            last = Some(blob.digest);
            by_digest.insert(blob.digest, number);
        }
        match lines
            .next()
            .and_then(|line| line.trim_end().split_once("  "))
        {
            Some((_, member)) => Err(self.index_differs(member)),
            None => Ok(by_digest),
        }
    }

    /// The volume holds exactly what the index says it holds, where it says it does, and fillers where they must be.
    fn check_content(&self, index: &Index) -> Result<(), VerifyError> {
        let mut members = self.members.iter().filter(|m| m.role.payload());
        let described = self.members.iter().rev().find(|m| !m.role.payload());
        let mut at = described.map_or(0, |last| last.offset + last.size + padding(last.size));
        for stored in index.blobs.iter().flat_map(stored_in) {
            if stored.volume != self.number {
                continue;
            }
            let name = stored.member.as_str();
            if index.align.is_some() && stored.aligned {
                let gap = layout::gap(at);
                if gap > 0 {
                    let filler = members.next();
                    let sound =
                        |filler: &Member| filler.role == Role::Filler && filler.size == gap - BLOCK;
                    self.expect(filler.is_some_and(sound), name)?;
                }
            }
            match members.next() {
                Some(member) if member.name != name => {
                    return Err(if self.member(name).is_none() {
                        let member = name.to_owned();
                        Fault::Missing { member }.of(&self.path)
                    } else {
                        let (member, offset) = (member.name.clone(), member.offset);
                        Fault::Unexpected { member, offset }.of(&self.path)
                    });
                }
                Some(member) => {
                    let sound = (member.offset, member.size) == (stored.offset, stored.size);
                    self.expect(sound, name)?;
                    at = member.offset + member.size + padding(member.size);
                }
                None => {
                    let member = name.to_owned();
                    return Err(Fault::Missing { member }.of(&self.path));
                }
            }
        }
        match members.next() {
            Some(member) => {
                let (member, offset) = (member.name.clone(), member.offset);
                Err(Fault::Unexpected { member, offset }.of(&self.path))
            }
            None => Ok(()),
        }
    }

    fn expect(&self, sound: bool, member: &str) -> Result<(), VerifyError> {
        if sound {
            Ok(())
        } else {
            Err(self.index_differs(member))
        }
    }

    fn index_differs(&self, member: &str) -> VerifyError {
        Fault::IndexDiffers {
            member: member.to_owned(),
        }
        .of(&self.path)
    }
}

/// A member that the index asks for.
struct StoredIn<'a> {
    member: &'a BundlePath,
    volume: u32,
    offset: u64,
    size: u64,
    /// Whether it is, in a bundle that aligns.
    aligned: bool,
}

/// The members that a blob is stored in.
fn stored_in(blob: &Blob) -> Vec<StoredIn<'_>> {
    let aligned = layout::is_aligned(blob.codec, blob.size.0);
    let whole = (&blob.member, blob.volume, blob.offset, blob.stored_size());
    let parts = blob.parts.iter();
    let mut members: Vec<_> = parts
        .map(|part| (&part.member, part.volume, part.offset, part.size.0))
        .collect();
    if members.is_empty() {
        members.push(whole);
    }
    let stored = |(member, volume, offset, size)| StoredIn {
        member,
        volume,
        offset,
        size,
        aligned,
    };
    members.into_iter().map(stored).collect()
}

/// Every file of the profiles has its blob here, or on the target.
pub(crate) fn check_profiles(
    profiles: &Profiles,
    index: &Index,
    by_digest: &BTreeMap<Digest, usize>,
    requires: &BTreeMap<Digest, u64>,
) -> Result<(), Fault> {
    for file in placed_files(profiles) {
        let blob = by_digest
            .get(file.blob())
            .and_then(|number| index.blobs.get(*number))
            .map(|blob| blob.size.0);
        let size = blob.or_else(|| requires.get(file.blob()).copied());
        if size.is_none_or(|size| file.made_from.is_none() && size != file.size.0) {
            return Err(Fault::BlobMissing {
                blob: *file.blob(),
                file: file.path.to_string(),
            });
        }
    }
    for blob in profiles.image_blobs() {
        let found = by_digest
            .get(&blob.digest)
            .and_then(|number| index.blobs.get(*number));
        // Whoever extracts the bundle has an image layout, and that has its blobs as they are.
        let raw = found.is_none_or(|found| found.codec == Codec::Raw);
        let size = found.map(|found| found.size.0);
        let size = size.or_else(|| requires.get(&blob.digest).copied());
        if !raw || size != Some(blob.size.0) {
            return Err(Fault::BlobMissing {
                blob: blob.digest,
                file: blob.media_type.clone(),
            });
        }
    }
    Ok(())
}

/// A volume has the same metadata as the one that was named, its number and its signatures apart.
pub(crate) fn same_metadata(named: &Volume, volume: &Volume) -> Result<(), VerifyError> {
    let compared = |member: &&Member| {
        let own = matches!(member.role, Role::Volume | Role::Signature | Role::Envelope);
        !own && !member.role.payload()
    };
    let mut described = volume.members.iter().filter(compared);
    let differs = |member: &Member| {
        let first = named.path.display().to_string();
        let member = member.name.clone();
        Fault::VolumeDiffers { first, member }.of(&volume.path)
    };
    for expected in named.members.iter().filter(compared) {
        let same = described
            .next()
            .is_some_and(|member| member.name == expected.name)
            && volume.read(&expected.name)? == named.read(&expected.name)?;
        if !same {
            return Err(differs(expected));
        }
    }
    match described.next() {
        Some(more) => Err(differs(more)),
        None => Ok(()),
    }
}

/// A volume that came later has the metadata that was verified, and holds what the index says.
pub(crate) fn check_volume(
    volume: &Volume,
    index: &Index,
    metadata: &BTreeMap<String, Vec<u8>>,
    first: &Path,
) -> Result<(), VerifyError> {
    let stray = volume.of != index.volumes || !(1..=index.volumes).contains(&volume.number);
    if stray {
        let (number, of) = (volume.number, volume.of);
        return Err(Fault::VolumeStray { number, of }.of(&volume.path));
    }
    for (name, bytes) in metadata {
        // Signatures may have come to one volume later than to another.
        if matches!(Role::of(name), Some(Role::Signature | Role::Envelope)) {
            continue;
        }
        let there = volume.member(name).is_some();
        if !there || volume.read(name)? != *bytes {
            let (first, member) = (first.display().to_string(), name.clone());
            return Err(Fault::VolumeDiffers { first, member }.of(&volume.path));
        }
    }
    volume.check_content(index)
}

impl Volume {
    /// The bundle is an image layout when it has images, of exactly those, and not otherwise.
    pub(crate) fn check_images(&self, profiles: &Profiles) -> Result<(), VerifyError> {
        let (mark, names) = (OCI_LAYOUT.as_bytes(), oci_index(&profiles.images));
        for (member, expected) in [(layout::OCI_LAYOUT, mark), (layout::OCI_INDEX, &names)] {
            let found = self.member(member);
            match (found, profiles.images.is_empty()) {
                (None, true) => {}
                (Some(found), true) => {
                    let (member, offset) = (member.to_owned(), found.offset);
                    return Err(Fault::Unexpected { member, offset }.of(&self.path));
                }
                _ if self.read(member)? == expected => {}
                _ => {
                    let member = member.to_owned();
                    return Err(Fault::MemberDiffers { member }.of(&self.path));
                }
            }
        }
        Ok(())
    }
}

/// All volumes are there once, and each belongs to this bundle and holds what it should.
pub(crate) fn check_volumes(sealed: &Sealed, index: &Index) -> Result<(), VerifyError> {
    let named = sealed.named();
    let mut missing: BTreeSet<u32> = (1..=index.volumes).collect();
    for volume in &sealed.volumes {
        if volume.of != index.volumes || !missing.remove(&volume.number) {
            let (number, of) = (volume.number, volume.of);
            return Err(Fault::VolumeStray { number, of }.of(&volume.path));
        }
        volume.check_content(index)?;
    }
    if missing.is_empty() || sealed.alone {
        return Ok(());
    }
    let numbers: Vec<String> = missing.iter().map(u32::to_string).collect();
    let (missing, of) = (numbers.join(", "), index.volumes);
    Err(Fault::VolumesMissing { missing, of }.of(&named.path))
}

/// Names, sizes and pieces of an entry agree with each other.
fn is_sound(blob: &Blob, index: &Index) -> bool {
    let name = layout::blob(&blob.digest, blob.codec);
    let named = if blob.parts.is_empty() {
        blob.member.as_str() == name && (1..=index.volumes).contains(&blob.volume)
    } else {
        parts_fit(blob, index)
    };
    let stored = match (&blob.stored, blob.codec) {
        (None, Codec::Raw) => true,
        (Some(stored), Codec::Zstd | Codec::Planes) => {
            let largest = match blob.codec {
                Codec::Planes => largest_frame(index.piece_size),
                _ => MAX_FRAME,
            };
            let sum = stored.frames.iter().try_fold(0_u64, |sum, frame| {
                (frame.size.0 <= largest).then(|| sum.checked_add(frame.size.0))?
            });
            stored.frames.len() == blob.pieces.len() && sum == Some(stored.size.0)
        }
        _ => false,
    };
    named && stored && pieces_fit(blob, index.piece_size)
}

/// Largest zstd frame, which is read into memory: the largest piece and what zstd may add to it.
const MAX_FRAME: u64 = (1 << 30) + (1 << 23);

/// The parts are numbered, ascend, begin and end between pieces, and are the blob together.
fn parts_fit(blob: &Blob, index: &Index) -> bool {
    let head = &blob.parts[0];
    if (&blob.member, blob.volume, blob.offset) != (&head.member, head.volume, head.offset) {
        return false;
    }
    let mut ends = BTreeSet::from([0]);
    let mut end = 0_u64;
    for piece in 0..blob.pieces.len() {
        let raw = index
            .piece_size
            .min(blob.size.0.saturating_sub(piece as u64 * index.piece_size));
        let frame = blob
            .stored
            .as_ref()
            .and_then(|stored| stored.frames.get(piece));
        end = end.saturating_add(frame.map_or(raw, |frame| frame.size.0));
        ends.insert(end);
    }
    let (mut start, mut volume) = (0_u64, 1);
    for (number, part) in blob.parts.iter().enumerate() {
        start = start.saturating_add(part.size.0);
        let sound = part.member.as_str() == layout::part(&blob.digest, number)
            && (volume..=index.volumes).contains(&part.volume)
            && part.size.0 > 0
            && ends.contains(&start);
        if !sound {
            return false;
        }
        volume = part.volume;
    }
    start == blob.stored_size()
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
