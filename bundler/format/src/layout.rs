//! Names of the members, and the one order in which they stand.

use manifest_schema::{Arch, Codec, Digest, KeyId};

use crate::algorithm::Algorithm;
use crate::ustar::BLOCK;

pub(crate) const README: &str = "README.txt";
pub(crate) const INSTALL: &str = "install.sh";
pub(crate) const STATEMENT: &str = "meta/statement.json";
pub(crate) const ENVELOPE: &str = "meta/statement.dsse.json";
/// The first root of the chain.
pub(crate) const ROOT: &str = "meta/root/001.json";
pub(crate) const SUMS: &str = "meta/SHA256SUMS";
pub(crate) const INDEX: &str = "meta/index.json";
pub(crate) const PROFILES: &str = "meta/profiles.json";
pub(crate) const LOCK: &str = "meta/plan.lock";
pub(crate) const PROVENANCE: &str = "meta/provenance.json";
pub(crate) const REQUIRES: &str = "meta/requires.json";
pub(crate) const SBOM: &str = "meta/sbom.cdx.json";
pub(crate) const VOLUME: &str = "meta/volume.json";
pub(crate) const OCI_LAYOUT: &str = "oci-layout";
pub(crate) const OCI_INDEX: &str = "index.json";

/// Most volumes of a bundle: three digits count them.
pub(crate) const MAX_VOLUMES: u32 = 999;

/// Bound of every member that is not a blob: what a reader holds in memory.
pub(crate) const MAX_METADATA: u64 = 64 * 1024 * 1024;

/// Bound of the number of members.
pub(crate) const MAX_MEMBERS: usize = 1 << 20;

/// What the offsets of aligned content are multiples of: the block of the file systems that share blocks.
pub(crate) const ALIGN: u64 = 4096;

/// Most licence texts, and the bound of each.
pub(crate) const MAX_LICENSES: usize = 4096;
pub(crate) const MAX_LICENSE: u64 = 1 << 20;

/// Most keys of a root.
pub(crate) const MAX_KEYS: usize = 16;

/// Most revoked keys that a root names.
pub(crate) const MAX_REVOKED: usize = 256;

/// Most roots of a chain.
pub(crate) const MAX_ROOTS: usize = 100;

/// Bound of a root document.
pub(crate) const MAX_ROOT: u64 = 64 * 1024;

/// Bytes kept for a signature that is still to come, and bound of every signature: the bytes between two headers.
pub(crate) const ROOM: u64 = 512;

/// What a member is. The order of the variants is the order in the archive; within one, names ascend.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Role {
    Readme,
    Install,
    Installer,
    Statement,
    Signature,
    Envelope,
    Root,
    RootSignature,
    Key,
    Sums,
    Index,
    Profiles,
    Lock,
    Provenance,
    Requires,
    Sbom,
    /// The text of a licence.
    License,
    Volume,
    /// Says that the bundle is an OCI image layout.
    OciLayout,
    /// Names the images.
    OciIndex,
    /// A blob, or a part of one.
    Content,
    /// Zeros before content, so that it begins at a multiple of [`ALIGN`].
    Filler,
}

impl Role {
    /// The role of the member called `name`; `None` where a bundle has no such member.
    pub(crate) fn of(name: &str) -> Option<Self> {
        let hex = |text: &str| KeyId::parse(text).is_ok();
        Some(match name {
            README => Self::Readme,
            INSTALL => Self::Install,
            STATEMENT => Self::Statement,
            ENVELOPE => Self::Envelope,
            SUMS => Self::Sums,
            INDEX => Self::Index,
            PROFILES => Self::Profiles,
            LOCK => Self::Lock,
            PROVENANCE => Self::Provenance,
            REQUIRES => Self::Requires,
            SBOM => Self::Sbom,
            VOLUME => Self::Volume,
            OCI_LAYOUT => Self::OciLayout,
            OCI_INDEX => Self::OciIndex,
            _ => {
                let (folder, file) = name.rsplit_once('/')?;
                match folder {
                    "installer" if file.parse::<Arch>().is_ok() => Self::Installer,
                    "meta/statement.sig" if signature_name(name).is_some() => Self::Signature,
                    "meta/root" if root_version(file.strip_suffix(".json")?).is_some() => {
                        Self::Root
                    }
                    _ if root_signature_name(name).is_some() => Self::RootSignature,
                    "meta/keys" if hex(file.strip_suffix(".pem")?) => Self::Key,
                    "meta/licenses" if hex(file.strip_suffix(".txt")?) => Self::License,
                    "blobs/sha256" if hex(stem(file)) => Self::Content,
                    "fill" if is_number(file, 15) => Self::Filler,
                    _ if hex(folder.strip_prefix("parts/")?) && is_number(file, 5) => Self::Content,
                    _ => return None,
                }
            }
        })
    }

    /// Whether the member's mode is 0755.
    pub(crate) fn executable(self) -> bool {
        matches!(self, Self::Install | Self::Installer)
    }

    /// Whether the member is described by the index alone: a reader holds none of it in memory.
    pub(crate) fn payload(self) -> bool {
        matches!(self, Self::Content | Self::Filler)
    }

    /// Whether `meta/SHA256SUMS` lists the member.
    pub(crate) fn summed(self) -> bool {
        !matches!(
            self,
            Self::Statement
                | Self::Signature
                | Self::Envelope
                | Self::Sums
                | Self::Volume
                | Self::Filler
        )
    }

    /// Most members of this role.
    pub(crate) fn most(self) -> usize {
        match self {
            Self::Content | Self::Filler => MAX_MEMBERS,
            Self::Root => MAX_ROOTS,
            Self::License => MAX_LICENSES,
            Self::RootSignature => MAX_ROOTS * 2 * MAX_KEYS,
            Self::Key => MAX_ROOTS * MAX_KEYS,
            _ => MAX_KEYS,
        }
    }

    /// Most bytes of a member of this role that is no content.
    pub(crate) fn largest(self) -> u64 {
        match self {
            Self::Root => MAX_ROOT,
            Self::License => MAX_LICENSE,
            Self::Signature | Self::RootSignature => ROOM,
            _ => MAX_METADATA,
        }
    }

    /// Whether the member is a subject of the statement.
    pub(crate) fn subject(self) -> bool {
        self == Self::Sums || (self.summed() && self != Self::Content)
    }
}

/// Where a member stands: by its role, and within one by its name. Blobs and parts stand by the digest of the blob.
pub(crate) fn order(role: Role, name: &str) -> (Role, &str) {
    let blob = name.strip_prefix("blobs/sha256/");
    (role, blob.or(name.strip_prefix("parts/")).unwrap_or(name))
}

/// The digest in the name of a blob.
fn stem(file: &str) -> &str {
    let stem = file
        .strip_suffix(".zst")
        .or_else(|| file.strip_suffix(".planes"));
    stem.unwrap_or(file)
}

fn is_number(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The members that every bundle has, apart from signatures and keys.
pub(crate) const REQUIRED: [&str; 10] = [
    README, INSTALL, STATEMENT, ENVELOPE, ROOT, SUMS, INDEX, PROFILES, LOCK, PROVENANCE,
];

pub(crate) fn installer(arch: Arch) -> String {
    format!("installer/{arch}")
}

pub(crate) fn signature(key: &KeyId, algorithm: Algorithm) -> String {
    format!("meta/statement.sig/{key}.{algorithm}")
}

/// Zeros where the signature of a key will stand.
pub(crate) fn room(key: &KeyId) -> String {
    format!("meta/statement.sig/{key}.room")
}

/// The key of a signature's name, and the algorithm; `None` for the room of one that is still to come.
pub(crate) fn signature_name(name: &str) -> Option<(KeyId, Option<Algorithm>)> {
    let (key, ending) = name.strip_prefix("meta/statement.sig/")?.rsplit_once('.')?;
    let key = KeyId::parse(key).ok()?;
    match ending {
        "room" => Some((key, None)),
        _ => Some((key, Some(Algorithm::named(ending)?))),
    }
}

/// Root `version`, counted from 1.
pub(crate) fn root(version: usize) -> String {
    format!("meta/root/{version:03}.json")
}

/// The version of a root by the digits of its name.
pub(crate) fn root_version(digits: &str) -> Option<usize> {
    let version: usize = digits.parse().ok()?;
    let exact = format!("{version:03}") == digits;
    (exact && (1..=MAX_ROOTS).contains(&version)).then_some(version)
}

pub(crate) fn root_signature(version: usize, key: &KeyId, algorithm: Algorithm) -> String {
    format!("meta/root/{version:03}.sig/{key}.{algorithm}")
}

/// The root, key and algorithm of the name of a root's signature.
pub(crate) fn root_signature_name(name: &str) -> Option<(usize, KeyId, Algorithm)> {
    let (folder, file) = name.strip_prefix("meta/root/")?.split_once('/')?;
    let version = root_version(folder.strip_suffix(".sig")?)?;
    let (key, ending) = file.rsplit_once('.')?;
    let key = KeyId::parse(key).ok()?;
    Some((version, key, Algorithm::named(ending)?))
}

/// The text of a licence.
pub(crate) fn license(digest: &Digest) -> String {
    format!("meta/licenses/{}.txt", digest.hex())
}

pub(crate) fn key(key: &KeyId) -> String {
    format!("meta/keys/{key}.pem")
}

pub(crate) fn blob(digest: &Digest, codec: Codec) -> String {
    let ending = match codec {
        Codec::Raw => "",
        Codec::Zstd => ".zst",
        Codec::Planes => ".planes",
    };
    format!("blobs/sha256/{}{ending}", digest.hex())
}

/// Part `number` of a blob, counted from 0.
pub(crate) fn part(digest: &Digest, number: usize) -> String {
    format!("parts/{}/{number:05}", digest.hex())
}

/// The filler before the content whose first byte is at `offset`.
pub(crate) fn filler(offset: u64) -> String {
    format!("fill/{offset:015}")
}

/// Whether a blob is aligned where the bundle is: compressed ones are not copied block by block, and a smaller one would
/// waste more than it holds.
pub(crate) fn is_aligned(codec: Codec, size: u64) -> bool {
    codec == Codec::Raw && size >= ALIGN
}

/// Bytes that a filler takes, with its header, before content whose own header would stand at `at`; 0 where it needs none.
///
/// Everything stands at multiples of 512, so what is missing has always room for a header.
pub(crate) fn gap(at: u64) -> u64 {
    (ALIGN - (at + BLOCK) % ALIGN) % ALIGN
}

/// `meta/volume.json`, in its one encoding.
pub(crate) fn volume(number: u32, of: u32) -> Vec<u8> {
    format!("{{\"format\":1,\"volume\":{number},\"volumes\":{of}}}\n").into_bytes()
}

/// Reads [`volume`]; `None` for any other bytes.
pub(crate) fn parse_volume(bytes: &[u8]) -> Option<(u32, u32)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let rest = text.strip_prefix("{\"format\":1,\"volume\":")?;
    let (number, rest) = rest.split_once(",\"volumes\":")?;
    let (number, of) = (
        number.parse().ok()?,
        rest.strip_suffix("}\n")?.parse().ok()?,
    );
    let sound = (1..=of).contains(&number) && (2..=MAX_VOLUMES).contains(&of);
    (sound && volume(number, of) == bytes).then_some((number, of))
}

/// One line of `meta/SHA256SUMS`.
pub(crate) fn sum_line(digest: &Digest, name: &str) -> String {
    format!("{}  {name}\n", digest.hex())
}
