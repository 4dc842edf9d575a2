//! Where each blob lies: which volume, which offset, whole or in parts.
//!
//! Blobs are laid one after the other in the order of their digests. A blob that does not fit in the rest of a
//! volume is cut between two of its pieces, so a volume wastes less than one piece, and every piece can be read and
//! checked from one volume alone.

use manifest_schema::{Blob, BundlePath, ByteSize, Codec, Digest, Part, Stored};

use crate::layout;
use crate::ustar::{BLOCK, MAX_SIZE, padding};

/// A blob as it will be stored, before it has a place.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) pieces: Vec<Digest>,
    pub(crate) codec: Codec,
    /// Where it is not stored as it is.
    pub(crate) stored: Option<Stored>,
}

/// A volume of this size cannot hold the metadata and one piece.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct TooSmall {
    pub(crate) needed: u64,
}

impl Content {
    /// Stored bytes of each piece.
    pub(crate) fn chunks(&self, piece_size: u64) -> Vec<u64> {
        if let Some(stored) = &self.stored {
            return stored.frames.iter().map(|frame| frame.size.0).collect();
        }
        let of = |piece: usize| piece_size.min(self.size - piece as u64 * piece_size);
        (0..self.pieces.len()).map(of).collect()
    }

    /// A blob that will be stored as it is, of which only the size is known yet.
    pub(crate) fn raw(digest: Digest, size: u64, piece_size: u64) -> Self {
        let unknown = Digest::from_bytes([0; 32]);
        Self {
            digest,
            size,
            pieces: vec![unknown; size.div_ceil(piece_size) as usize],
            codec: Codec::Raw,
            stored: None,
        }
    }

    fn blob(&self, member: &str, volume: u32, offset: u64, parts: Vec<Part>) -> Blob {
        Blob {
            digest: self.digest,
            size: ByteSize(self.size),
            codec: self.codec,
            pieces: self.pieces.clone(),
            stored: self.stored.clone(),
            member: member_path(member),
            volume,
            offset,
            parts,
        }
    }
}

/// Gives every blob its place. `first` is where content begins in each volume, `capacity` the bytes of a volume; with
/// `align`, what may be aligned is.
///
/// The digests of parts are left zero: they are known only once the parts are.
pub(crate) fn place(
    contents: &[Content],
    piece_size: u64,
    first: u64,
    capacity: Option<u64>,
    align: bool,
) -> Result<(Vec<Blob>, u32), TooSmall> {
    let limit = capacity.map_or(u64::MAX, |bytes| bytes.saturating_sub(2 * BLOCK));
    let mut at = Cursor {
        volume: 1,
        offset: first,
        first,
        limit,
        align,
    };
    let mut blobs = Vec::with_capacity(contents.len());
    for content in contents {
        blobs.push(at.put(content, piece_size)?);
    }
    Ok((blobs, at.volume))
}

struct Cursor {
    volume: u32,
    offset: u64,
    first: u64,
    limit: u64,
    align: bool,
}

impl Cursor {
    /// Bytes of the filler before a member of `content` that is put here.
    fn gap(&self, content: &Content) -> u64 {
        if self.align && layout::is_aligned(content.codec, content.size) {
            layout::gap(self.offset)
        } else {
            0
        }
    }

    /// Bytes that a member beginning here, after `gap`, may have.
    fn room(&self, gap: u64) -> u64 {
        let rest = self.limit.saturating_sub(self.offset + gap);
        let bytes = rest.saturating_sub(BLOCK);
        (bytes - bytes % BLOCK).min(MAX_SIZE)
    }

    fn advance(&mut self, gap: u64, size: u64) -> (u32, u64) {
        let place = (self.volume, self.offset + gap + BLOCK);
        self.offset += gap + BLOCK + size + padding(size);
        place
    }

    fn put(&mut self, content: &Content, piece_size: u64) -> Result<Blob, TooSmall> {
        let chunks = content.chunks(piece_size);
        let total: u64 = chunks.iter().sum();
        let mut rest = chunks.as_slice();
        let mut parts: Vec<Part> = Vec::new();
        loop {
            let gap = self.gap(content);
            if parts.is_empty() && total <= self.room(gap) {
                let member = layout::blob(&content.digest, content.codec);
                let (volume, offset) = self.advance(gap, total);
                return Ok(content.blob(&member, volume, offset, parts));
            }
            let (count, size) = fitting(rest, self.room(gap));
            if count == 0 {
                if self.offset == self.first {
                    let largest = rest.first().copied().unwrap_or_default();
                    let needed = self.first + gap + 3 * BLOCK + largest + padding(largest);
                    return Err(TooSmall { needed });
                }
                self.volume += 1;
                self.offset = self.first;
                continue;
            }
            let (volume, offset) = self.advance(gap, size);
            parts.push(Part {
                member: member_path(&layout::part(&content.digest, parts.len())),
                digest: Digest::from_bytes([0; 32]),
                size: ByteSize(size),
                volume,
                offset,
            });
            rest = &rest[count..];
            if rest.is_empty() {
                let head = parts[0].clone();
                let member = head.member.as_str().to_owned();
                return Ok(content.blob(&member, head.volume, head.offset, parts));
            }
        }
    }
}

/// How many of the first chunks fit into `room`, and their bytes.
fn fitting(chunks: &[u64], room: u64) -> (usize, u64) {
    let mut size = 0;
    for (count, chunk) in chunks.iter().enumerate() {
        if size + chunk > room {
            return (count, size);
        }
        size += chunk;
    }
    (chunks.len(), size)
}

fn member_path(name: &str) -> BundlePath {
    BundlePath::parse(name).expect("names of blobs and parts are relative paths")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: u64 = 4096;

    fn raw(number: u8, size: u64) -> Content {
        Content::raw(Digest::from_bytes([number; 32]), size, PIECE)
    }

    /// Checks that members neither overlap nor leave gaps, and that the parts are the blob.
    fn assert_sound(contents: &[Content], blobs: &[Blob], first: u64, capacity: u64, align: bool) {
        let mut next = std::collections::BTreeMap::new();
        for (content, blob) in contents.iter().zip(blobs) {
            let mut members = vec![(blob.volume, blob.offset, blob.stored_size())];
            if !blob.parts.is_empty() {
                members = blob
                    .parts
                    .iter()
                    .map(|p| (p.volume, p.offset, p.size.0))
                    .collect();
            }
            assert_eq!(
                members.iter().map(|(_, _, size)| size).sum::<u64>(),
                content.size
            );
            for (volume, offset, size) in members {
                let at = next.entry(volume).or_insert(first);
                if align && content.size >= 4096 {
                    assert!(offset.is_multiple_of(4096) && offset < *at + BLOCK + 4096);
                    *at = offset - BLOCK;
                }
                assert_eq!(offset, *at + BLOCK);
                *at += BLOCK + size + padding(size);
                assert!(*at + 2 * BLOCK <= capacity, "volume {volume} is too long");
            }
        }
    }

    #[test]
    fn blobs_fill_volumes_and_are_cut_between_pieces() {
        let sizes = [0, 1, 5000, 50_000, 3, 12_288, 100_000, 512];
        let contents: Vec<_> = (0_u8..).zip(sizes).map(|(n, size)| raw(n, size)).collect();
        let bounds = [12_000, 20_480, 65_536, 1 << 20];
        let ways = bounds.into_iter().flat_map(|b| [(b, false), (b, true)]);
        for (capacity, align) in ways {
            let (blobs, volumes) = place(&contents, PIECE, 3072, Some(capacity), align).unwrap();
            assert_sound(&contents, &blobs, 3072, capacity, align);
            let last = blobs
                .iter()
                .flat_map(|b| b.parts.iter().map(|p| p.volume).chain([b.volume]));
            assert_eq!(last.max(), Some(volumes), "{capacity}");
            for part in blobs.iter().flat_map(|b| b.parts.iter().rev().skip(1)) {
                assert_eq!(part.size.0 % PIECE, 0);
            }
        }
    }

    #[test]
    fn without_a_bound_there_is_one_volume_and_only_what_no_header_can_say_is_cut() {
        let contents = [raw(0, 100), raw(1, 9 << 30), raw(2, 7)];
        let (blobs, volumes) = place(&contents, PIECE, 512, None, false).unwrap();
        assert_eq!(
            (volumes, blobs[0].parts.len(), blobs[1].parts.len()),
            (1, 0, 2)
        );
        assert_sound(&contents, &blobs, 512, u64::MAX, false);
    }

    #[test]
    fn a_volume_that_cannot_hold_one_piece_says_how_large_it_must_be() {
        let contents = [raw(0, 5000)];
        let TooSmall { needed } = place(&contents, PIECE, 3072, Some(6000), false).unwrap_err();
        assert!(place(&contents, PIECE, 3072, Some(needed - 1), false).is_err());
        place(&contents, PIECE, 3072, Some(needed), false).unwrap();
    }
}
