//! Signing keys, and the trust root that says which keys count.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use manifest_schema::{Digest, KeyId};
use p256::ecdsa::signature::{Signer as _, Verifier as _};
use p256::ecdsa::{Signature, SigningKey as P256SigningKey, VerifyingKey};
use p256::elliptic_curve::rand_core::{OsRng, RngCore as _};
use pkcs8::{DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use report::{Args, Diagnose, Outcome};
use serde::{Deserialize, Serialize};

use crate::layout::{MAX_KEYS, MAX_METADATA};
use crate::statement::pre_authentication;

/// Rounds of PBKDF2 over the password. `openssl pkey` reads the result, in 1.1.1 too.
const ROUNDS: u32 = 600_000;

/// The name of the only signature scheme, in root documents.
const SCHEME: &str = "ecdsa-p256-sha256";

/// A private key that signs bundles.
pub struct SigningKey {
    key: P256SigningKey,
    public: PublicKey,
}

impl SigningKey {
    /// Makes a new key from the system's random numbers.
    ///
    /// # Errors
    /// When the key cannot be encoded.
    pub fn generate() -> Result<Self, KeyError> {
        Self::new(P256SigningKey::random(&mut OsRng))
    }

    /// Reads an encrypted PKCS#8 PEM.
    ///
    /// # Errors
    /// When the text is no such key, or the password is another.
    pub fn from_encrypted_pem(pem: &str, password: &[u8]) -> Result<Self, KeyError> {
        let (label, document) = pkcs8::SecretDocument::from_pem(pem).map_err(malformed)?;
        if label != "ENCRYPTED PRIVATE KEY" {
            return Err(KeyError::Malformed {
                cause: format!("PEM label `{label}`"),
            });
        }
        let sealed =
            pkcs8::EncryptedPrivateKeyInfo::try_from(document.as_bytes()).map_err(malformed)?;
        let opened = sealed.decrypt(password).map_err(|_| KeyError::Password)?;
        let info =
            pkcs8::PrivateKeyInfo::try_from(opened.as_bytes()).map_err(|_| KeyError::Password)?;
        Self::new(P256SigningKey::try_from(info).map_err(malformed)?)
    }

    /// The key as PKCS#8 PEM, encrypted with AES-256 under `password`.
    ///
    /// # Errors
    /// When the key cannot be encoded.
    pub fn to_encrypted_pem(&self, password: &[u8]) -> Result<String, KeyError> {
        let (mut salt, mut vector) = ([0; 16], [0; 16]);
        OsRng.fill_bytes(&mut salt);
        OsRng.fill_bytes(&mut vector);
        let parameters =
            pkcs8::pkcs5::pbes2::Parameters::pbkdf2_sha256_aes256cbc(ROUNDS, &salt, &vector)
                .map_err(malformed)?;
        let plain = self.key.to_pkcs8_der().map_err(malformed)?;
        let info = pkcs8::PrivateKeyInfo::try_from(plain.as_bytes()).map_err(malformed)?;
        let sealed = info
            .encrypt_with_params(parameters, password)
            .map_err(malformed)?;
        let pem = sealed
            .to_pem("ENCRYPTED PRIVATE KEY", LineEnding::LF)
            .map_err(malformed)?;
        Ok(pem.to_string())
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The key's identifier.
    pub fn key_id(&self) -> &KeyId {
        &self.public.key_id
    }

    /// Signs a statement. Deterministic (RFC 6979): the same statement gives the same signature.
    pub(crate) fn sign(&self, statement: &[u8]) -> Vec<u8> {
        let signature: Signature = self.key.sign(&pre_authentication(statement));
        signature.to_der().as_bytes().to_vec()
    }

    fn new(key: P256SigningKey) -> Result<Self, KeyError> {
        let public = PublicKey::new(*key.verifying_key())?;
        Ok(Self { key, public })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public.key_id)
    }
}

/// A public key.
#[derive(Clone, Debug)]
pub struct PublicKey {
    key: VerifyingKey,
    key_id: KeyId,
    pem: String,
}

impl PublicKey {
    /// Reads a public key in PEM, as `openssl pkey -pubout` prints it.
    ///
    /// # Errors
    /// When the text is not a P-256 key.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        Self::new(VerifyingKey::from_public_key_pem(pem).map_err(malformed)?)
    }

    /// The key's identifier: SHA-256 of its SPKI DER.
    pub fn key_id(&self) -> &KeyId {
        &self.key_id
    }

    /// The key in PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Whether `signature` is this key's over `statement`.
    pub(crate) fn signed(&self, statement: &[u8], signature: &[u8]) -> bool {
        Signature::from_der(signature).is_ok_and(|signature| {
            self.key
                .verify(&pre_authentication(statement), &signature)
                .is_ok()
        })
    }

    fn new(key: VerifyingKey) -> Result<Self, KeyError> {
        let der = key.to_public_key_der().map_err(malformed)?;
        let key_id = KeyId::parse(&Digest::of(der.as_bytes()).hex()).map_err(malformed)?;
        let pem = key.to_public_key_pem(LineEnding::LF).map_err(malformed)?;
        Ok(Self { key, key_id, pem })
    }
}

/// The trust root: which keys may sign bundles, and how many of them must.
///
/// People compare the SHA-256 of its bytes, the fingerprint, before they trust it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RootDocument {
    /// Version of this format: 1.
    pub format: u32,
    /// Grows with each new root.
    pub version: u32,
    /// How many keys must sign.
    pub threshold: u32,
    /// The keys.
    pub keys: Vec<RootKey>,
    /// Keys that no longer count.
    #[serde(default)]
    pub revoked: Vec<KeyId>,
}

/// One key of a [`RootDocument`].
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RootKey {
    /// Its identifier.
    pub keyid: KeyId,
    /// `ecdsa-p256-sha256`.
    pub scheme: String,
    /// The public key in PEM.
    pub pem: String,
}

impl RootDocument {
    /// A root of `keys`, `threshold` of which must sign.
    ///
    /// # Errors
    /// When the threshold cannot be reached.
    pub fn new(version: u32, threshold: u32, keys: &[&PublicKey]) -> Result<Self, KeyError> {
        let mut keys: Vec<RootKey> = keys
            .iter()
            .map(|key| RootKey {
                keyid: key.key_id.clone(),
                scheme: SCHEME.to_owned(),
                pem: key.pem.clone(),
            })
            .collect();
        keys.sort_by(|a, b| a.keyid.cmp(&b.keyid));
        let root = Self {
            format: 1,
            version,
            threshold,
            keys,
            revoked: Vec::new(),
        };
        root.public_keys()?;
        Ok(root)
    }

    /// Reads a root and checks that it can be met.
    ///
    /// # Errors
    /// When the bytes are not a root document, or one that nobody could satisfy.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyError> {
        let root: Self = serde_json::from_slice(bytes).map_err(refused)?;
        root.public_keys()?;
        Ok(root)
    }

    /// The root's bytes, as they are stored and fingerprinted.
    ///
    /// # Errors
    /// When the root cannot be encoded.
    pub fn to_bytes(&self) -> Result<Vec<u8>, KeyError> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(refused)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// The keys, each checked against its identifier, in the order of their identifiers.
    pub(crate) fn public_keys(&self) -> Result<Vec<PublicKey>, KeyError> {
        if self.format != 1 {
            return Err(refused(format!("format {}, not 1", self.format)));
        }
        if self.keys.len() > MAX_KEYS {
            return Err(refused(format!(
                "{} keys, at most {MAX_KEYS}",
                self.keys.len()
            )));
        }
        let mut keys: Vec<PublicKey> = Vec::new();
        for entry in &self.keys {
            if entry.scheme != SCHEME {
                return Err(refused(format!(
                    "scheme `{}`, not `{SCHEME}`",
                    entry.scheme
                )));
            }
            let key = PublicKey::from_pem(&entry.pem)?;
            if key.key_id != entry.keyid || key.pem != entry.pem {
                return Err(refused(format!(
                    "key `{}` is not the one it names",
                    entry.keyid
                )));
            }
            if keys.last().is_some_and(|last| last.key_id >= key.key_id) {
                return Err(refused("keys are not in ascending order"));
            }
            keys.push(key);
        }
        let usable = keys.iter().filter(|key| self.counts(&key.key_id)).count();
        if self.threshold == 0 || self.threshold as usize > usable {
            return Err(refused(format!(
                "threshold {} of {usable} keys",
                self.threshold
            )));
        }
        Ok(keys)
    }

    /// Whether signatures of this key count.
    pub(crate) fn counts(&self, key: &KeyId) -> bool {
        !self.revoked.contains(key)
    }
}

/// Fingerprints of the roots that a person has accepted.
#[derive(Clone, Debug, Default)]
pub struct TrustedRoots(BTreeSet<Digest>);

impl TrustedRoots {
    /// Exactly these.
    pub fn from_fingerprints(fingerprints: impl IntoIterator<Item = Digest>) -> Self {
        Self(fingerprints.into_iter().collect())
    }

    /// The roots stored in `folder` as `<fingerprint>.json`; none where there is no such folder.
    ///
    /// # Errors
    /// When a file cannot be read, is no root, or is not the one its name says.
    pub fn read_folder(folder: &Path) -> Result<Self, KeyError> {
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            move |source| KeyError::Unreadable { path, source }
        };
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(unreadable(folder)(error)),
        };
        let mut roots = Self::default();
        for entry in entries {
            let path = entry.map_err(unreadable(folder))?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let size = fs::metadata(&path).map_err(unreadable(&path))?.len();
            if size > MAX_METADATA {
                return Err(refused(format!("`{}` has {size} bytes", path.display())));
            }
            let bytes = fs::read(&path).map_err(unreadable(&path))?;
            RootDocument::parse(&bytes)?;
            let fingerprint = Digest::of(&bytes);
            if path
                .file_stem()
                .is_none_or(|stem| stem.to_string_lossy() != fingerprint.hex())
            {
                return Err(refused(format!(
                    "`{}` has the fingerprint {}",
                    path.display(),
                    fingerprint.hex()
                )));
            }
            roots.trust(fingerprint);
        }
        Ok(roots)
    }

    /// Adds a root that a person has accepted.
    pub fn trust(&mut self, fingerprint: Digest) {
        self.0.insert(fingerprint);
    }

    /// Whether the root with this fingerprint is trusted.
    pub fn contains(&self, fingerprint: &Digest) -> bool {
        self.0.contains(fingerprint)
    }

    /// Whether no root is trusted yet.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Why a key or a root cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The text is not a key.
    #[error("not a P-256 key in PEM: {cause}")]
    Malformed {
        /// What is wrong.
        cause: String,
    },
    /// The password does not open the key.
    #[error("the password does not open this key")]
    Password,
    /// The root document is wrong in itself.
    #[error("not a usable trust root: {cause}")]
    Root {
        /// What is wrong.
        cause: String,
    },
    /// A stored root cannot be read.
    #[error("cannot read `{path}`")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl Diagnose for KeyError {
    fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "bundle.key-malformed",
            Self::Password => "bundle.key-password",
            Self::Root { .. } => "bundle.root-malformed",
            Self::Unreadable { .. } => "bundle.root-unreadable",
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::Malformed { cause } | Self::Root { cause } => vec![("cause", cause.clone())],
            Self::Password => Args::new(),
            Self::Unreadable { path, .. } => vec![("path", path.display().to_string())],
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Unreadable { .. } => Outcome::HostFault,
            Self::Malformed { .. } | Self::Password => Outcome::Usage,
            Self::Root { .. } => Outcome::Untrusted,
        }
    }
}

fn malformed(cause: impl fmt::Display) -> KeyError {
    KeyError::Malformed {
        cause: cause.to_string(),
    }
}

fn refused(cause: impl fmt::Display) -> KeyError {
    KeyError::Root {
        cause: cause.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encrypted_key_opens_with_its_password_only() {
        let key = SigningKey::generate().unwrap();
        let pem = key.to_encrypted_pem(b"over the water").unwrap();
        assert!(pem.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
        let again = SigningKey::from_encrypted_pem(&pem, b"over the water").unwrap();
        assert_eq!(again.key_id(), key.key_id());
        assert_eq!(again.sign(b"x"), key.sign(b"x"));
        let wrong = SigningKey::from_encrypted_pem(&pem, b"under").unwrap_err();
        assert_eq!(wrong.code(), "bundle.key-password");
    }

    #[test]
    fn a_root_that_nobody_can_meet_is_refused() {
        let key = SigningKey::generate().unwrap();
        for threshold in [0, 2] {
            assert!(RootDocument::new(1, threshold, &[key.public()]).is_err());
        }
        let mut root = RootDocument::new(1, 1, &[key.public()]).unwrap();
        assert!(RootDocument::parse(&root.to_bytes().unwrap()).is_ok());
        root.revoked.push(key.key_id().clone());
        assert!(RootDocument::parse(&root.to_bytes().unwrap()).is_err());
        assert!(RootDocument::new(1, 1, &[key.public(), key.public()]).is_err());
    }
}
