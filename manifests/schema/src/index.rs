//! `meta/index.json`: where each blob lies in the archive, and what its bytes must be.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// Name of the archive member.
    pub member: BundlePath,
    /// Volume that holds the blob, counted from 1.
    pub volume: u32,
    /// Offset of the blob's first byte in its volume.
    pub offset: u64,
    /// Consecutive parts of a blob that crosses a volume; empty for a whole one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
}

/// How a blob's bytes are stored.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Codec {
    /// As they are.
    Raw,
    /// In independent zstd frames.
    Zstd,
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
