//! Names, digests and numbers that cannot hold a wrong value.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A text is not what its type stands for.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{found}` is not {expected}")]
pub struct IdError {
    /// The text, shortened.
    pub found: String,
    /// What it should have been.
    pub expected: &'static str,
}

impl IdError {
    pub(crate) fn new(found: &str, expected: &'static str) -> Self {
        Self {
            found: found.chars().take(120).collect(),
            expected,
        }
    }
}

/// Makes a newtype over `String` whose only door is a check.
macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $pattern:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks `text`.
            ///
            /// # Errors
            /// When the text does not follow the grammar of this type.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(IdError::new(text, $expected))
                }
            }

            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "description": $expected })
            }
        }
    };
}

pub(crate) use checked_text;

checked_text! {
    /// Name of a bundle: lower-case letters, digits and `-`, at most 64 of them.
    BundleName, "a bundle name (lower-case letters, digits and `-`)", "^[a-z0-9][a-z0-9-]{0,63}$", is_name
}

checked_text! {
    /// Name of a backend, such as `ascend-910b`.
    BackendName, "a backend name (lower-case letters, digits and `-`)", "^[a-z0-9][a-z0-9-]{0,63}$", is_name
}

checked_text! {
    /// Name of a set of operating-system packages, such as `kylin-v10-sp3`; also of its folder.
    PackageSetName, "a name of a set of packages (lower-case letters, digits and `-`)",
    "^[a-z0-9][a-z0-9-]{0,63}$", is_name
}

checked_text! {
    /// Name of one package of an operating system, as its package manager takes it on a command line.
    PackageName, "a package name (letters, digits and `+._-`, a letter or digit first)",
    "^[A-Za-z0-9][A-Za-z0-9+._-]{0,199}$", is_package_name
}

checked_text! {
    /// Version of a package: `epoch:version-release`, the epoch only where it is not 0.
    PackageVersion, "a package version (letters, digits and `+.:~^_-`, a letter or digit first)",
    "^[A-Za-z0-9][A-Za-z0-9+.:~^_-]{0,199}$", is_package_version
}

checked_text! {
    /// Name of a model or dataset: `name` or `organisation/name`, as the hubs write it.
    RepoName, "a repository name (`name` or `organisation/name`)",
    "^[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?$", is_repo
}

checked_text! {
    /// Kind of a vendor's installer, such as `driver`.
    HostKind, "a kind of installer (lower-case letters, digits and `-`)", "^[a-z0-9][a-z0-9-]{0,63}$", is_name
}

checked_text! {
    /// Name of terms that a person accepts, such as `huawei-ascend`.
    EulaName, "a name of terms (lower-case letters, digits and `-`)", "^[a-z0-9][a-z0-9-]{0,63}$", is_name
}

checked_text! {
    /// A version or a file name that no program can take for a switch, a path or two words.
    PlainWord, "a plain word (letters, digits and `._+-`, not first a `-` or `.`)",
    "^[A-Za-z0-9_+][A-Za-z0-9._+-]{0,254}$", is_plain
}

checked_text! {
    /// Key identifier: the SHA-256 of the key's SPKI DER, in lower-case hexadecimal.
    KeyId, "a key id (64 hexadecimal digits)", "^[0-9a-f]{64}$", is_hex
}

checked_text! {
    /// Path of one file below a folder: relative, `/`-separated, no `.`, `..` or empty part.
    ///
    /// Whoever holds one may join it to a folder without looking at it again. Parts may hold any letter of any
    /// script, since models carry such names; control characters and `\` they may not.
    BundlePath, "a relative path without `.`, `..`, empty parts, control characters or `\\`",
    "^[^/\\\\]+(/[^/\\\\]+)*$", is_path
}

fn is_package_name(text: &str) -> bool {
    is_of(text, b"+._-")
}

fn is_package_version(text: &str) -> bool {
    is_of(text, b"+.:~^_-")
}

/// Letters and digits, and `others` after the first of them.
fn is_of(text: &str, others: &[u8]) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || others.contains(&byte);
    (1..=200).contains(&text.len())
        && text.as_bytes()[0].is_ascii_alphanumeric()
        && text.bytes().all(plain)
}

fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && !text.starts_with('-')
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_plain(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && !text.starts_with(['-', '.'])
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b))
}

fn is_repo(text: &str) -> bool {
    let part = |part: &str| {
        (1..=96).contains(&part.len())
            && part.as_bytes()[0].is_ascii_alphanumeric()
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            // The Hugging Face cache writes `/` as `--`; a name with it would be two names.
            && !part.contains("--")
            && !part.contains("..")
    };
    text.split('/').count() <= 2 && text.split('/').all(part)
}

fn is_hex(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn is_path(text: &str) -> bool {
    text.len() <= 1024
        && text.split('/').all(|part| {
            !part.is_empty()
                && part != "."
                && part != ".."
                && part.len() <= 255
                && !part.chars().any(|c| c.is_control() || c == '\\')
        })
}

/// SHA-256 of some bytes, written `sha256:<64 hexadecimal digits>`.
#[derive(Clone, Copy, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// A digest that a hasher computed.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 32 bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads `sha256:<hex>`.
    ///
    /// # Errors
    /// When the text has another form.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        text.strip_prefix("sha256:")
            .and_then(unhex)
            .map(Self)
            .ok_or_else(|| IdError::new(text, "a digest (`sha256:` and 64 hexadecimal digits)"))
    }

    /// Reads the 64 hexadecimal digits alone.
    ///
    /// # Errors
    /// When the text has another form.
    pub fn parse_hex(text: &str) -> Result<Self, IdError> {
        unhex(text)
            .map(Self)
            .ok_or_else(|| IdError::new(text, "64 lower-case hexadecimal digits"))
    }

    /// The 64 hexadecimal digits.
    pub fn hex(&self) -> String {
        self.0
            .iter()
            .fold(String::with_capacity(64), |mut hex, byte| {
                let _ = write!(hex, "{byte:02x}");
                hex
            })
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    if !is_hex(text) {
        return None;
    }
    let mut bytes = [0; 32];
    for (position, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * position..2 * position + 2)?, 16).ok()?;
    }
    Some(bytes)
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Digest {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        Self::parse(&text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl JsonSchema for Digest {
    fn schema_name() -> Cow<'static, str> {
        "Digest".into()
    }
    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^sha256:[0-9a-f]{64}$" })
    }
}

/// A processor architecture, named as `uname -m` does.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
pub enum Arch {
    /// 64-bit Arm: Kunpeng, Phytium.
    #[serde(rename = "aarch64")]
    Aarch64,
    /// 64-bit x86: Hygon, Zhaoxin, Intel, AMD.
    #[serde(rename = "x86_64")]
    X86_64,
}

impl Arch {
    /// The name that `uname -m` prints.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aarch64 => "aarch64",
            Self::X86_64 => "x86_64",
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Arch {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        match text {
            "aarch64" => Ok(Self::Aarch64),
            "x86_64" => Ok(Self::X86_64),
            _ => Err(IdError::new(
                text,
                "an architecture (`aarch64` or `x86_64`)",
            )),
        }
    }
}

/// A number of bytes.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    Deserialize,
    Eq,
    Hash,
    JsonSchema,
    Ord,
    PartialEq,
    PartialOrd,
    Serialize,
)]
pub struct ByteSize(pub u64);

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
        let mut value = self.0 as f64;
        let mut unit = 0;
        while value >= 1024.0 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        if unit == 0 {
            write!(f, "{} B", self.0)
        } else {
            write!(f, "{value:.1} {}", UNITS[unit])
        }
    }
}

/// A glibc version, such as 2.28: the oldest that some files run on, or the one a machine has.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct GlibcVersion {
    /// Always 2 so far.
    pub major: u16,
    /// 28 in 2.28.
    pub minor: u16,
}

impl fmt::Display for GlibcVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for GlibcVersion {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        text.split_once('.')
            .and_then(|(major, minor)| {
                Some(Self {
                    major: major.parse().ok()?,
                    minor: minor.parse().ok()?,
                })
            })
            .ok_or_else(|| IdError::new(text, "a glibc version such as `2.28`"))
    }
}

impl TryFrom<String> for GlibcVersion {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<GlibcVersion> for String {
    fn from(version: GlibcVersion) -> Self {
        version.to_string()
    }
}

impl JsonSchema for GlibcVersion {
    fn schema_name() -> Cow<'static, str> {
        "GlibcVersion".into()
    }
    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]+\\.[0-9]+$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_leave_its_folder() {
        for (path, good) in [
            ("models/a/模型.bin", true),
            ("a", true),
            ("", false),
            ("/etc/passwd", false),
            ("a/../b", false),
            ("./a", false),
            ("a//b", false),
            ("a/", false),
            ("a\\b", false),
            ("a\nb", false),
        ] {
            assert_eq!(BundlePath::parse(path).is_ok(), good, "{path:?}");
        }
    }

    #[test]
    fn a_repository_name_is_one_or_two_plain_parts() {
        for (name, good) in [
            ("Qwen/Qwen2.5-7B-Instruct", true),
            ("identity", true),
            ("a/b/c", false),
            ("a/..", false),
            ("a--b/c", false),
            ("a/", false),
        ] {
            assert_eq!(RepoName::parse(name).is_ok(), good, "{name:?}");
        }
    }

    #[test]
    fn a_digest_survives_the_round_trip_and_nothing_else_is_one() {
        let digest = Digest::of(b"ferry");
        assert_eq!(Digest::parse(&digest.to_string()), Ok(digest));
        for wrong in ["sha256:", "sha256:ABC", "md5:00", &digest.hex()] {
            assert!(Digest::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn glibc_versions_compare_by_number() {
        let version = |text: &str| text.parse::<GlibcVersion>().unwrap();
        assert!(version("2.9") < version("2.28"));
        assert!("2".parse::<GlibcVersion>().is_err());
    }
}
