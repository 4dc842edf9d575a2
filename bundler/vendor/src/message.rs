//! A CMS message: who signed, with what, and their certificates.

use der::asn1::ObjectIdentifier;
use der::{Decode, ErrorKind, Tag};

use crate::VendorSignatureError;
use crate::algorithm::{Hash, Scheme, identifier};
use crate::certificate::Certificate;
use crate::element::{Element, Elements};
use crate::error::malformed;
use crate::file::Digests;

/// A CMS message without content.
pub(crate) struct Message<'a> {
    pub(crate) certificates: Vec<Certificate>,
    pub(crate) crls: Vec<&'a [u8]>,
    pub(crate) signers: Vec<SignerInfo<'a>>,
}

/// One signature in a message.
pub(crate) struct SignerInfo<'a> {
    id: SignerId<'a>,
    pub(crate) hash: Hash,
    pub(crate) attributes: Option<Attributes<'a>>,
    algorithm: &'a [u8],
    pub(crate) signature: &'a [u8],
}

/// How a message says whose certificate it means.
enum SignerId<'a> {
    IssuerAndSerial { issuer: &'a [u8], serial: &'a [u8] },
    KeyIdentifier(&'a [u8]),
}

/// What a signature covers where it does not cover the content itself.
pub(crate) struct Attributes<'a> {
    bytes: &'a [u8],
    pub(crate) message_digest: &'a [u8],
}

const MOST_SIGNERS: usize = 8;
const MOST_CERTIFICATES: usize = 32;
const MOST_LISTS: usize = 16;
const MOST_ATTRIBUTES: usize = 64;

impl<'a> Message<'a> {
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, VendorSignatureError> {
        let wrong = |error: der::Error| malformed("signature", error);
        let signed = signed_data(bytes).map_err(wrong)?;
        let signed = signed.ok_or_else(|| malformed("signature", "it is not a signed message"))?;
        let mut parts = Elements::of(signed.value).map_err(wrong)?;
        parts.expect(Tag::Integer).map_err(wrong)?;
        parts.expect(Tag::Set).map_err(wrong)?;
        let content = parts.expect(Tag::Sequence).map_err(wrong)?;
        let mut content = Elements::of(content.value).map_err(wrong)?;
        let kind = content.expect(Tag::ObjectIdentifier).map_err(wrong)?;
        if content.next().map_err(wrong)?.is_some() {
            return Err(malformed(
                "signature",
                "it holds its own content instead of standing beside a file",
            ));
        }
        let mut list = |number, most| match parts.optional(number)? {
            Some(set) => Elements::of(set.value)?.all(most),
            None => Ok(Vec::new()),
        };
        let certificates = list(0, MOST_CERTIFICATES).map_err(wrong)?;
        let crls = list(1, MOST_LISTS).map_err(wrong)?;
        let signers = parts.expect(Tag::Set).map_err(wrong)?;
        let signers = Elements::of(signers.value)
            .and_then(|signers| signers.all(MOST_SIGNERS))
            .map_err(wrong)?;
        // Other kinds of certificates and lists are marked by another tag; nothing here reads them.
        let plain = |element: &Element| element.tag == Tag::Sequence;
        let mut message = Self {
            certificates: certificates
                .iter()
                .filter(|element| plain(element))
                .map(|element| Certificate::read(element.whole))
                .collect::<Result<_, _>>()
                .map_err(|error| malformed("certificate", error))?,
            crls: crls.iter().filter(|e| plain(e)).map(|e| e.whole).collect(),
            signers: Vec::new(),
        };
        let mut unknown = None;
        for signer in signers {
            match SignerInfo::read(signer, kind) {
                Ok(info) => message.signers.push(info),
                Err(error @ VendorSignatureError::UnknownAlgorithm { .. }) => {
                    unknown.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        if message.signers.is_empty() {
            return Err(unknown.unwrap_or_else(|| malformed("signature", "nobody signed it")));
        }
        Ok(message)
    }

    /// The certificate of who made a signature.
    pub(crate) fn certificate(
        &self,
        info: &SignerInfo,
    ) -> Result<&Certificate, VendorSignatureError> {
        let mut all = self.certificates.iter();
        all.find(|certificate| info.id.means(certificate))
            .ok_or_else(|| malformed("signature", "the signer's certificate is not in it"))
    }
}

/// The value of a `ContentInfo` that holds signed data.
fn signed_data(bytes: &[u8]) -> Result<Option<Element<'_>>, der::Error> {
    let outer = Elements::of(bytes)?.expect(Tag::Sequence)?;
    let mut parts = Elements::of(outer.value)?;
    let kind = parts.expect(Tag::ObjectIdentifier)?;
    if ObjectIdentifier::from_der(kind.whole)? != SIGNED_DATA {
        return Ok(None);
    }
    match parts.optional(0)? {
        Some(content) => Elements::of(content.value)?.expect(Tag::Sequence).map(Some),
        None => Ok(None),
    }
}

impl<'a> SignerInfo<'a> {
    fn read(element: Element<'a>, kind: Element) -> Result<Self, VendorSignatureError> {
        let wrong = |error: der::Error| malformed("signature", error);
        element.tag.assert_eq(Tag::Sequence).map_err(wrong)?;
        let mut parts = Elements::of(element.value).map_err(wrong)?;
        parts.expect(Tag::Integer).map_err(wrong)?;
        let id = if let Some(key) = parts.optional(0).map_err(wrong)? {
            SignerId::KeyIdentifier(key.value)
        } else {
            let pair = parts.expect(Tag::Sequence).map_err(wrong)?;
            let mut pair = Elements::of(pair.value).map_err(wrong)?;
            let issuer = pair.expect(Tag::Sequence).map_err(wrong)?.whole;
            let serial = pair.expect(Tag::Integer).map_err(wrong)?.value;
            SignerId::IssuerAndSerial { issuer, serial }
        };
        let hash = parts.expect(Tag::Sequence).map_err(wrong)?;
        let hash = Hash::named(&identifier(hash.whole).map_err(wrong)?)?;
        let attributes = match parts.optional(0).map_err(wrong)? {
            Some(set) => Some(Attributes::read(set, kind).map_err(wrong)?),
            None => None,
        };
        Ok(Self {
            id,
            hash,
            attributes,
            algorithm: parts.expect(Tag::Sequence).map_err(wrong)?.whole,
            signature: parts.expect(Tag::OctetString).map_err(wrong)?.value,
        })
    }

    /// How the signature was made.
    pub(crate) fn scheme(&self) -> Result<Scheme, VendorSignatureError> {
        let algorithm = identifier(self.algorithm).map_err(|e| malformed("signature", e))?;
        Scheme::named(&algorithm, Some(self.hash))
    }

    /// The hash of what the signature covers: the attributes, else the content.
    pub(crate) fn hashed(&self, scheme: Scheme, digests: &Digests) -> Vec<u8> {
        match &self.attributes {
            // They are signed as a set, and stand in the message under another tag (RFC 5652, 5.4).
            Some(attributes) => scheme.hash.of(&[&[0x31], &attributes.bytes[1..]].concat()),
            None => digests.of(scheme.hash).to_vec(),
        }
    }
}

impl SignerId<'_> {
    fn means(&self, certificate: &Certificate) -> bool {
        match self {
            Self::IssuerAndSerial { issuer, serial } => {
                *serial == certificate.serial()
                    && x509_cert::name::Name::from_der(issuer)
                        .is_ok_and(|issuer| issuer == *certificate.issuer())
            }
            Self::KeyIdentifier(key) => certificate.key_identifier() == Some(*key),
        }
    }
}

impl<'a> Attributes<'a> {
    /// Reads the attributes of a signature over content of this kind.
    fn read(set: Element<'a>, content: Element) -> Result<Self, der::Error> {
        let (mut digest, mut kind) = (None, None);
        for attribute in Elements::of(set.value)?.all(MOST_ATTRIBUTES)? {
            attribute.tag.assert_eq(Tag::Sequence)?;
            let mut parts = Elements::of(attribute.value)?;
            let id = ObjectIdentifier::from_der(parts.expect(Tag::ObjectIdentifier)?.whole)?;
            let values = parts.expect(Tag::Set)?;
            let slot = match id {
                MESSAGE_DIGEST => &mut digest,
                CONTENT_TYPE => &mut kind,
                _ => continue,
            };
            let mut values = Elements::of(values.value)?.all(1)?;
            // Each stands there once and has one value, or two readers may see two messages.
            match (values.pop(), &slot) {
                (Some(value), None) => *slot = Some(value),
                _ => return Err(ErrorKind::Failed.into()),
            }
        }
        let (Some(digest), Some(kind)) = (digest, kind) else {
            return Err(ErrorKind::Failed.into());
        };
        digest.tag.assert_eq(Tag::OctetString)?;
        if kind.whole != content.whole {
            return Err(ErrorKind::Failed.into());
        }
        Ok(Self {
            bytes: set.whole,
            message_digest: digest.value,
        })
    }
}

const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
