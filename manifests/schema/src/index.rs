//! `meta/index.json`: where each blob lies in the archive, and what its bytes must be.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::plan::{ManifestError, read};
use crate::site::Inventory;
use crate::{BundlePath, ByteSize, Digest};

/// Bytes that one entry of [`Blob::pieces`] covers; the last piece is shorter.
pub const PIECE_SIZE: u64 = 64 * 1024 * 1024;

/// The blobs of a bundle, in the order in which they lie in it.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Index {
    /// Version of this format: 1.
    pub format: u32,
    /// Bytes of a piece.
    pub piece_size: u64,
    /// How many volumes the bundle has.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub volumes: u32,
    /// What the offsets of raw blobs of at least that size are multiples of, where they are: 4096.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub align: Option<u64>,
    /// Every blob once.
    pub blobs: Vec<Blob>,
}

/// One blob: a whole file as its upstream published it.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Blob {
    /// SHA-256 of the whole blob.
    pub digest: Digest,
    /// Bytes of the whole blob.
    pub size: ByteSize,
    /// How the blob is stored.
    pub codec: Codec,
    /// SHA-256 of each consecutive piece. Their concatenation is the blob.
    pub pieces: Vec<Digest>,
    /// The compressed form, where the codec has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<Stored>,
    /// Name of the archive member; of the first part, where the blob is in parts.
    pub member: BundlePath,
    /// Volume that holds the blob or its first part, counted from 1.
    pub volume: u32,
    /// Offset of the first byte in its volume.
    pub offset: u64,
    /// Consecutive parts of a blob that crosses a volume, or is larger than a member can be; empty for a whole one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
}

/// The compressed form of a blob: one frame for each piece, one after the other.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Stored {
    /// SHA-256 of all frames together.
    pub digest: Digest,
    /// Bytes of all frames together.
    pub size: ByteSize,
    /// The frame of each piece.
    pub frames: Vec<Frame>,
}

/// One piece of a blob, compressed.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Frame {
    /// SHA-256 of the frame; with `planes`, of its head, which holds the digests of all that follows.
    pub digest: Digest,
    /// Bytes of the frame.
    pub size: ByteSize,
}

/// How a blob's bytes are stored.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Codec {
    /// As they are.
    Raw,
    /// In independent zstd frames.
    Zstd,
    /// Numbers in planes of their bytes, in independent frames.
    Planes,
}

/// A run of a blob's bytes that lies in one volume.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Part {
    /// Name of the archive member.
    pub member: BundlePath,
    /// SHA-256 of the part.
    pub digest: Digest,
    /// Bytes of the part.
    pub size: ByteSize,
    /// Volume that holds the part, counted from 1.
    pub volume: u32,
    /// Offset of the part's first byte in its volume.
    pub offset: u64,
}

impl Blob {
    /// Bytes of the blob as they lie in the archive.
    pub fn stored_size(&self) -> u64 {
        self.stored.as_ref().map_or(self.size.0, |s| s.size.0)
    }
}

/// `meta/requires.json`: what a delta expects to be installed already.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Requires {
    /// Version of this format: 1.
    pub format: u32,
    /// Every blob once, ordered by digest.
    pub blobs: Vec<RequiredBlob>,
}

/// A blob that a delta leaves out.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct RequiredBlob {
    /// SHA-256 of the blob.
    pub digest: Digest,
    /// Its bytes.
    pub size: ByteSize,
}

impl Inventory {
    /// Reads an inventory.
    ///
    /// # Errors
    /// Names the place, what was found there and what was expected.
    pub fn parse(text: &[u8]) -> Result<Self, ManifestError> {
        let inventory: Self = read(text)?;
        if inventory.format != 1 {
            let found = inventory.format.to_string();
            return Err(ManifestError::value("format", found, "1"));
        }
        Ok(inventory)
    }
}

fn one() -> u32 {
    1
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for a reference"
)]
fn is_one(number: &u32) -> bool {
    *number == 1
}
