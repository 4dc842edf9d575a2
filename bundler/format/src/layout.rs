//! Names of the members, and the one order in which they stand.

use manifest_schema::{Arch, Digest, KeyId};

pub(crate) const README: &str = "README.txt";
pub(crate) const INSTALL: &str = "install.sh";
pub(crate) const STATEMENT: &str = "meta/statement.json";
pub(crate) const ENVELOPE: &str = "meta/statement.dsse.json";
pub(crate) const ROOT: &str = "meta/root/001.json";
pub(crate) const SUMS: &str = "meta/SHA256SUMS";
pub(crate) const INDEX: &str = "meta/index.json";
pub(crate) const PROFILES: &str = "meta/profiles.json";
pub(crate) const LOCK: &str = "meta/plan.lock";
pub(crate) const PROVENANCE: &str = "meta/provenance.json";

/// Bound of every member that is not a blob: what a reader holds in memory.
pub(crate) const MAX_METADATA: u64 = 64 * 1024 * 1024;

/// Bound of the number of members.
pub(crate) const MAX_MEMBERS: usize = 1 << 20;

/// Most keys of a root.
pub(crate) const MAX_KEYS: usize = 16;

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
    Key,
    Sums,
    Index,
    Profiles,
    Lock,
    Provenance,
    Blob,
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
            ROOT => Self::Root,
            SUMS => Self::Sums,
            INDEX => Self::Index,
            PROFILES => Self::Profiles,
            LOCK => Self::Lock,
            PROVENANCE => Self::Provenance,
            _ => {
                let (folder, file) = name.rsplit_once('/')?;
                match folder {
                    "installer" if file.parse::<Arch>().is_ok() => Self::Installer,
                    "meta/statement.sig" if hex(file.strip_suffix(".p256")?) => Self::Signature,
                    "meta/keys" if hex(file.strip_suffix(".pem")?) => Self::Key,
                    "blobs/sha256" if hex(file) => Self::Blob,
                    _ => return None,
                }
            }
        })
    }

    /// Whether the member's mode is 0755.
    pub(crate) fn executable(self) -> bool {
        matches!(self, Self::Install | Self::Installer)
    }

    /// Whether `meta/SHA256SUMS` lists the member.
    pub(crate) fn summed(self) -> bool {
        !matches!(
            self,
            Self::Statement | Self::Signature | Self::Envelope | Self::Sums
        )
    }

    /// Whether the member is a subject of the statement.
    pub(crate) fn subject(self) -> bool {
        self == Self::Sums || (self.summed() && self != Self::Blob)
    }
}

/// The members that every bundle has, apart from signatures and keys.
pub(crate) const REQUIRED: [&str; 10] = [
    README, INSTALL, STATEMENT, ENVELOPE, ROOT, SUMS, INDEX, PROFILES, LOCK, PROVENANCE,
];

pub(crate) fn installer(arch: Arch) -> String {
    format!("installer/{arch}")
}

pub(crate) fn signature(key: &KeyId) -> String {
    format!("meta/statement.sig/{key}.p256")
}

pub(crate) fn key(key: &KeyId) -> String {
    format!("meta/keys/{key}.pem")
}

pub(crate) fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// One line of `meta/SHA256SUMS`.
pub(crate) fn sum_line(digest: &Digest, name: &str) -> String {
    format!("{}  {name}\n", digest.hex())
}
