//! Keys that sign, keys that check, and how both are stored: PKCS#8 and SPKI in PEM, as `openssl` writes them.
//!
//! Every signature is deterministic, so that building again gives the same bytes: RFC 6979 for P-256 and (with
//! SM3) for SM2, RFC 8032 for Ed25519.

use std::fmt;

use ed25519_dalek::pkcs8::KeypairBytes;
use manifest_schema::{Digest, KeyId};
use p256::ecdsa::signature::{Signer as _, Verifier as _};
use p256::elliptic_curve::rand_core::{OsRng, RngCore as _};
use pkcs8::spki::SubjectPublicKeyInfoRef;
use pkcs8::{
    DecodePublicKey as _, Document, EncodePrivateKey as _, EncodePublicKey as _, LineEnding,
    ObjectIdentifier,
};

use crate::algorithm::Algorithm;
use crate::key_error::{KeyError, malformed};

/// Rounds of PBKDF2 over the password. `openssl pkey` reads the result, in 1.1.1 too.
const ROUNDS: u32 = 600_000;

/// The distinguishing identifier that SM2 mixes into what is signed: the default of GM/T 0009.
const SM2_IDENTIFIER: &str = "1234567812345678";

/// A private key that signs bundles and roots.
pub struct SigningKey {
    key: Private,
    public: PublicKey,
}

enum Private {
    P256(p256::ecdsa::SigningKey),
    Sm2(Box<sm2::dsa::SigningKey>),
    Ed25519(Box<ed25519_dalek::SigningKey>),
}

impl SigningKey {
    /// Makes a new key from the system's random numbers.
    ///
    /// # Errors
    /// When the key cannot be encoded.
    pub fn generate(algorithm: Algorithm) -> Result<Self, KeyError> {
        Self::new(match algorithm {
            Algorithm::P256 => Private::P256(p256::ecdsa::SigningKey::random(&mut OsRng)),
            Algorithm::Sm2 => sm2_key(&sm2::SecretKey::random(&mut OsRng))?,
            Algorithm::Ed25519 => {
                let mut seed = [0; 32];
                OsRng.fill_bytes(&mut seed);
                Private::Ed25519(Box::new(ed25519_dalek::SigningKey::from_bytes(&seed)))
            }
        })
    }

    /// Reads an encrypted PKCS#8 PEM.
    ///
    /// # Errors
    /// When the text is no such key, or the password is another.
    pub fn from_encrypted_pem(pem: &str, password: &[u8]) -> Result<Self, KeyError> {
        let (label, document) = pkcs8::SecretDocument::from_pem(pem).map_err(malformed)?;
        if label != "ENCRYPTED PRIVATE KEY" {
            return Err(malformed(format!("PEM label `{label}`")));
        }
        let sealed =
            pkcs8::EncryptedPrivateKeyInfo::try_from(document.as_bytes()).map_err(malformed)?;
        let opened = sealed.decrypt(password).map_err(|_| KeyError::Password)?;
        let info =
            pkcs8::PrivateKeyInfo::try_from(opened.as_bytes()).map_err(|_| KeyError::Password)?;
        let curve = info.algorithm.parameters_oid().ok();
        Self::new(match algorithm_of(info.algorithm.oid, curve)? {
            Algorithm::P256 => {
                Private::P256(p256::ecdsa::SigningKey::try_from(info).map_err(malformed)?)
            }
            Algorithm::Sm2 => sm2_key(&sm2::SecretKey::try_from(info).map_err(malformed)?)?,
            Algorithm::Ed25519 => Private::Ed25519(Box::new(
                ed25519_dalek::SigningKey::try_from(info).map_err(malformed)?,
            )),
        })
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
        let plain = match &self.key {
            Private::P256(key) => key.to_pkcs8_der(),
            Private::Sm2(key) => sm2::SecretKey::from(key.as_nonzero_scalar()).to_pkcs8_der(),
            // Without the public half: with it the document has a version that openssl does not read.
            Private::Ed25519(key) => KeypairBytes {
                secret_key: key.to_bytes(),
                public_key: None,
            }
            .to_pkcs8_der(),
        };
        let plain = plain.map_err(malformed)?;
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

    /// Signs a message. The same message gives the same signature.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.key {
            Private::P256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(message);
                signature.to_der().as_bytes().to_vec()
            }
            Private::Sm2(key) => {
                let signature = key.sign(message).to_bytes();
                ecdsa::Signature::<sm2::Sm2>::from_slice(&signature)
                    .expect("two numbers below the order, neither of them zero")
                    .to_der()
                    .as_bytes()
                    .to_vec()
            }
            Private::Ed25519(key) => key.sign(message).to_vec(),
        }
    }

    fn new(key: Private) -> Result<Self, KeyError> {
        let public = PublicKey::new(match &key {
            Private::P256(key) => Public::P256(*key.verifying_key()),
            Private::Sm2(key) => Public::Sm2(Box::new(key.verifying_key().clone())),
            Private::Ed25519(key) => Public::Ed25519(key.verifying_key()),
        })?;
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
    key: Public,
    key_id: KeyId,
    pem: String,
}

#[derive(Clone, Debug)]
enum Public {
    P256(p256::ecdsa::VerifyingKey),
    Sm2(Box<sm2::dsa::VerifyingKey>),
    Ed25519(ed25519_dalek::VerifyingKey),
}

/// Why a signature does not count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum BadSignature {
    /// It is not a signature of the key's algorithm at all.
    Malformed,
    /// It is one, and not of this key over these bytes.
    Wrong,
}

impl PublicKey {
    /// Reads a public key in PEM, as `openssl pkey -pubout` prints it.
    ///
    /// # Errors
    /// When the text is not a key of a known algorithm.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let (label, document) = Document::from_pem(pem).map_err(malformed)?;
        if label != "PUBLIC KEY" {
            return Err(malformed(format!("PEM label `{label}`")));
        }
        let der = document.as_bytes();
        let info = SubjectPublicKeyInfoRef::try_from(der).map_err(malformed)?;
        let curve = info.algorithm.parameters_oid().ok();
        Self::new(match algorithm_of(info.algorithm.oid, curve)? {
            Algorithm::P256 => Public::P256(
                p256::ecdsa::VerifyingKey::from_public_key_der(der).map_err(malformed)?,
            ),
            Algorithm::Sm2 => {
                let key = sm2::PublicKey::from_public_key_der(der).map_err(malformed)?;
                let key = sm2::dsa::VerifyingKey::new(SM2_IDENTIFIER, key).map_err(malformed)?;
                Public::Sm2(Box::new(key))
            }
            Algorithm::Ed25519 => {
                let key =
                    ed25519_dalek::VerifyingKey::from_public_key_der(der).map_err(malformed)?;
                // Such a key would accept signatures that nobody made.
                if key.is_weak() {
                    return Err(malformed("a point of small order"));
                }
                Public::Ed25519(key)
            }
        })
    }

    /// The key's identifier: SHA-256 of its SPKI DER.
    pub fn key_id(&self) -> &KeyId {
        &self.key_id
    }

    /// The key in PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// What it signs with.
    pub fn algorithm(&self) -> Algorithm {
        match &self.key {
            Public::P256(_) => Algorithm::P256,
            Public::Sm2(_) => Algorithm::Sm2,
            Public::Ed25519(_) => Algorithm::Ed25519,
        }
    }

    /// Checks that `signature` is this key's over `message`.
    pub(crate) fn check(&self, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        let held = match &self.key {
            Public::P256(key) => {
                let signature = p256::ecdsa::Signature::from_der(signature)
                    .map_err(|_| BadSignature::Malformed)?;
                key.verify(message, &signature).is_ok()
            }
            Public::Sm2(key) => {
                let signature = ecdsa::Signature::<sm2::Sm2>::from_der(signature)
                    .map_err(|_| BadSignature::Malformed)?;
                sm2::dsa::Signature::from_slice(&signature.to_bytes())
                    .is_ok_and(|signature| key.verify(message, &signature).is_ok())
            }
            Public::Ed25519(key) => {
                let signature = ed25519_dalek::Signature::from_slice(signature)
                    .map_err(|_| BadSignature::Malformed)?;
                key.verify_strict(message, &signature).is_ok()
            }
        };
        held.then_some(()).ok_or(BadSignature::Wrong)
    }

    fn new(key: Public) -> Result<Self, KeyError> {
        let der = match &key {
            Public::P256(key) => key.to_public_key_der(),
            Public::Sm2(key) => sm2::PublicKey::from(key.as_ref()).to_public_key_der(),
            Public::Ed25519(key) => key.to_public_key_der(),
        };
        let der = der.map_err(malformed)?;
        let key_id = KeyId::parse(&Digest::of(der.as_bytes()).hex()).map_err(malformed)?;
        let pem = der
            .to_pem("PUBLIC KEY", LineEnding::LF)
            .map_err(malformed)?;
        Ok(Self { key, key_id, pem })
    }
}

fn sm2_key(secret: &sm2::SecretKey) -> Result<Private, KeyError> {
    let key = sm2::dsa::SigningKey::new(SM2_IDENTIFIER, secret).map_err(malformed)?;
    Ok(Private::Sm2(Box::new(key)))
}

/// The algorithm that a key's own identifiers name; what a label beside it says does not matter.
fn algorithm_of(
    oid: ObjectIdentifier,
    curve: Option<ObjectIdentifier>,
) -> Result<Algorithm, KeyError> {
    const ELLIPTIC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
    const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
    const SM2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.156.10197.1.301");
    const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
    match (oid, curve) {
        (ELLIPTIC, Some(P256)) => Ok(Algorithm::P256),
        (ELLIPTIC, Some(SM2)) => Ok(Algorithm::Sm2),
        (ED25519, None) => Ok(Algorithm::Ed25519),
        (ELLIPTIC, Some(curve)) => Err(malformed(format!("elliptic curve {curve}"))),
        (oid, _) => Err(malformed(format!("key type {oid}"))),
    }
}

#[cfg(test)]
mod tests {
    use report::Diagnose as _;

    use super::*;

    #[test]
    fn an_encrypted_key_opens_with_its_password_only() {
        for algorithm in Algorithm::ALL {
            let key = SigningKey::generate(algorithm).unwrap();
            let pem = key.to_encrypted_pem(b"over the water").unwrap();
            assert!(pem.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
            let again = SigningKey::from_encrypted_pem(&pem, b"over the water").unwrap();
            assert_eq!(again.key_id(), key.key_id());
            assert_eq!(again.sign(b"x"), key.sign(b"x"), "{algorithm}");
            let wrong = SigningKey::from_encrypted_pem(&pem, b"under").unwrap_err();
            assert_eq!(wrong.code(), "bundle.key-password");
            let public = PublicKey::from_pem(key.public().pem()).unwrap();
            assert_eq!(
                (public.key_id(), public.algorithm()),
                (key.key_id(), algorithm)
            );
        }
    }

    #[test]
    fn a_signature_holds_for_its_key_and_message_alone() {
        for algorithm in Algorithm::ALL {
            let [key, other] = [(), ()].map(|()| SigningKey::generate(algorithm).unwrap());
            let signature = key.sign(b"x");
            assert_eq!(key.public().check(b"x", &signature), Ok(()));
            assert_eq!(
                key.public().check(b"y", &signature),
                Err(BadSignature::Wrong)
            );
            assert_eq!(
                other.public().check(b"x", &signature),
                Err(BadSignature::Wrong)
            );
            let longer = [signature.as_slice(), &[0]].concat();
            for bytes in [&b""[..], b"x", &signature[1..], &longer] {
                assert_eq!(
                    key.public().check(b"x", bytes),
                    Err(BadSignature::Malformed)
                );
            }
        }
    }
}
