//! The signature algorithms, and the names that each goes by.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A signature algorithm. Every root has a P-256 key, so that `openssl` 1.1.1 can always check a bundle by hand.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[non_exhaustive]
pub enum Algorithm {
    /// ECDSA over P-256 with SHA-256.
    #[serde(rename = "ecdsa-p256-sha256")]
    P256,
    /// SM2 with SM3 (GM/T 0003, GB/T 32918), under the default distinguishing identifier.
    #[serde(rename = "sm2-sm3")]
    Sm2,
    /// Ed25519 (RFC 8032).
    #[serde(rename = "ed25519")]
    Ed25519,
}

impl Algorithm {
    /// All of them, the primary one first.
    pub const ALL: [Self; 3] = [Self::P256, Self::Sm2, Self::Ed25519];

    /// Its name in commands, and the ending of its signatures' names.
    pub fn name(self) -> &'static str {
        match self {
            Self::P256 => "p256",
            Self::Sm2 => "sm2",
            Self::Ed25519 => "ed25519",
        }
    }

    /// Its name in root documents.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::P256 => "ecdsa-p256-sha256",
            Self::Sm2 => "sm2-sm3",
            Self::Ed25519 => "ed25519",
        }
    }

    /// The algorithm with this [`Algorithm::name`].
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::named(text).ok_or_else(|| "write p256, sm2 or ed25519".to_owned())
    }
}
