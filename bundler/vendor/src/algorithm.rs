//! Which algorithms count, and whether a signature holds.

use der::asn1::{ObjectIdentifier, UintRef};
use der::{AnyRef, Decode, Sequence};
use rsa::pss::Pss;
use rsa::{BoxedUint, Pkcs1v15Sign, PublicKey};
use sha2::{Digest, Sha256, Sha384, Sha512};
use spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};

use crate::VendorSignatureError;
use crate::error::malformed;

/// A hash that collisions are not known of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

/// How a signature was made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Scheme {
    pub(crate) hash: Hash,
    padding: Padding,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Padding {
    Pkcs1,
    Pss { salt: usize },
}

impl Hash {
    pub(crate) fn named(algorithm: &AlgorithmIdentifierRef) -> Result<Self, VendorSignatureError> {
        match algorithm.oid {
            SHA256 => Ok(Self::Sha256),
            SHA384 => Ok(Self::Sha384),
            SHA512 => Ok(Self::Sha512),
            other => Err(unknown(other)),
        }
    }

    pub(crate) fn of(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
            Self::Sha384 => Sha384::digest(bytes).to_vec(),
            Self::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }
}

impl Scheme {
    /// Reads an algorithm. A CMS may say only "RSA": then `hash` is what the signer hashed with.
    pub(crate) fn named(
        algorithm: &AlgorithmIdentifierRef,
        hash: Option<Hash>,
    ) -> Result<Self, VendorSignatureError> {
        let pkcs1 = |hash| {
            Ok(Self {
                hash,
                padding: Padding::Pkcs1,
            })
        };
        match (algorithm.oid, hash) {
            (RSA, Some(hash)) => pkcs1(hash),
            (RSA_SHA256, _) => pkcs1(Hash::Sha256),
            (RSA_SHA384, _) => pkcs1(Hash::Sha384),
            (RSA_SHA512, _) => pkcs1(Hash::Sha512),
            (RSA_PSS, _) => pss(algorithm),
            (other, _) => Err(unknown(other)),
        }
    }
}

/// Parameters of RSASSA-PSS. What is left out means SHA-1 (RFC 4055), which does not count.
#[derive(Sequence)]
struct PssParameters<'a> {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    hash: Option<AlgorithmIdentifierRef<'a>>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    mask: Option<AlgorithmIdentifierRef<'a>>,
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT", optional = "true")]
    salt: Option<u16>,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT", optional = "true")]
    trailer: Option<u8>,
}

fn pss(algorithm: &AlgorithmIdentifierRef) -> Result<Scheme, VendorSignatureError> {
    let wrong = |error: der::Error| malformed("signature", error);
    let parameters = algorithm
        .parameters
        .ok_or_else(|| unknown(algorithm.oid))?
        .decode_as::<PssParameters>()
        .map_err(wrong)?;
    let (Some(hash), Some(mask)) = (parameters.hash, parameters.mask) else {
        return Err(unknown(algorithm.oid));
    };
    let hash = Hash::named(&hash)?;
    let masked: Option<AlgorithmIdentifierRef> = match (mask.oid, mask.parameters) {
        (MGF1, Some(inner)) => Some(inner.decode_as().map_err(wrong)?),
        _ => None,
    };
    // Everybody masks with the hash that they sign with; another pair is not worth the code.
    let same = masked.is_some_and(|masked| Hash::named(&masked).is_ok_and(|m| m == hash));
    if !same || parameters.trailer.is_some_and(|trailer| trailer != 1) {
        return Err(unknown(algorithm.oid));
    }
    let salt = parameters.salt.map_or(20, usize::from);
    let padding = Padding::Pss { salt };
    Ok(Scheme { hash, padding })
}

#[derive(Sequence)]
struct RsaKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

/// Whether `signature` is one of `key` over what has the hash `hashed`.
pub(crate) fn holds(
    key: &SubjectPublicKeyInfoRef,
    scheme: Scheme,
    hashed: &[u8],
    signature: &[u8],
) -> Result<bool, VendorSignatureError> {
    if ![RSA, RSA_PSS].contains(&key.algorithm.oid) {
        return Err(unknown(key.algorithm.oid));
    }
    let wrong = |error: der::Error| malformed("certificate", error);
    let parts = key.subject_public_key.as_bytes().unwrap_or_default();
    let parts = RsaKey::from_der(parts).map_err(wrong)?;
    let number = |part: UintRef| BoxedUint::from_be_slice_vartime(part.as_bytes());
    let (modulus, exponent) = (number(parts.modulus), number(parts.exponent));
    let key = PublicKey::new_with_size_limits(modulus, exponent, KEY_BITS)
        .map_err(|error| malformed("certificate", error))?;
    Ok(match (scheme.padding, scheme.hash) {
        (Padding::Pkcs1, Hash::Sha256) => {
            key.verify(Pkcs1v15Sign::new::<Sha256>(), hashed, signature)
        }
        (Padding::Pkcs1, Hash::Sha384) => {
            key.verify(Pkcs1v15Sign::new::<Sha384>(), hashed, signature)
        }
        (Padding::Pkcs1, Hash::Sha512) => {
            key.verify(Pkcs1v15Sign::new::<Sha512>(), hashed, signature)
        }
        (Padding::Pss { salt }, Hash::Sha256) => {
            key.verify(Pss::<Sha256>::new_with_salt(salt), hashed, signature)
        }
        (Padding::Pss { salt }, Hash::Sha384) => {
            key.verify(Pss::<Sha384>::new_with_salt(salt), hashed, signature)
        }
        (Padding::Pss { salt }, Hash::Sha512) => {
            key.verify(Pss::<Sha512>::new_with_salt(salt), hashed, signature)
        }
    }
    .is_ok())
}

/// Reads an algorithm as it stands in a message.
pub(crate) fn identifier(bytes: &[u8]) -> Result<AlgorithmIdentifierRef<'_>, der::Error> {
    AlgorithmIdentifierRef::from_der(bytes)
}

/// The algorithm's owned form, as certificates hold it.
pub(crate) fn borrowed(algorithm: &spki::AlgorithmIdentifierOwned) -> AlgorithmIdentifierRef<'_> {
    AlgorithmIdentifierRef {
        oid: algorithm.oid,
        parameters: algorithm.parameters.as_ref().map(AnyRef::from),
    }
}

fn unknown(algorithm: ObjectIdentifier) -> VendorSignatureError {
    VendorSignatureError::UnknownAlgorithm {
        algorithm: algorithm.to_string(),
    }
}

/// Shorter keys can be broken; longer ones are a way to waste time.
const KEY_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const MGF1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.8");
const RSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
const RSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const RSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
const RSA_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");
