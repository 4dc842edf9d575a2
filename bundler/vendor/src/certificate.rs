//! One certificate, with the bytes that its issuer signed.

use der::asn1::ObjectIdentifier;
use der::referenced::OwnedToRef;
use der::{Decode, Tag};
use sha2::{Digest as _, Sha256};
use spki::SubjectPublicKeyInfoRef;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage};
use x509_cert::name::Name;

use crate::VendorSignatureError;
use crate::algorithm::{Scheme, borrowed, holds};
use crate::element::{Elements, hex};
use crate::error::malformed;

/// One certificate.
#[derive(Debug)]
pub(crate) struct Certificate {
    whole: Vec<u8>,
    signed: Vec<u8>,
    parsed: x509_cert::Certificate,
}

impl Certificate {
    /// Reads one element.
    pub(crate) fn read(whole: &[u8]) -> Result<Self, der::Error> {
        let outer = Elements::of(whole)?.expect(Tag::Sequence)?;
        let signed = Elements::of(outer.value)?.expect(Tag::Sequence)?;
        Ok(Self {
            whole: outer.whole.to_vec(),
            signed: signed.whole.to_vec(),
            parsed: x509_cert::Certificate::from_der(outer.whole)?,
        })
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.whole == other.whole
    }

    /// SHA-256 of the certificate, by which people know it.
    pub(crate) fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.whole).into()
    }

    pub(crate) fn subject(&self) -> &Name {
        self.parsed.tbs_certificate().subject()
    }

    pub(crate) fn issuer(&self) -> &Name {
        self.parsed.tbs_certificate().issuer()
    }

    /// Whom it is for, as people write it.
    pub(crate) fn name(&self) -> String {
        self.subject().to_string()
    }

    pub(crate) fn serial(&self) -> &[u8] {
        self.parsed.tbs_certificate().serial_number().as_bytes()
    }

    pub(crate) fn serial_text(&self) -> String {
        hex(self.serial())
    }

    pub(crate) fn key(&self) -> SubjectPublicKeyInfoRef<'_> {
        let key = self.parsed.tbs_certificate().subject_public_key_info();
        key.owned_to_ref()
    }

    /// Its identifier of its own key, where it has one.
    pub(crate) fn key_identifier(&self) -> Option<&[u8]> {
        let extension = self.extension(SUBJECT_KEY_IDENTIFIER)?;
        let mut elements = Elements::of(extension.extn_value.as_bytes()).ok()?;
        Some(elements.expect(Tag::OctetString).ok()?.value)
    }

    /// First and last second of its life, since 1970.
    pub(crate) fn life(&self) -> (u64, u64) {
        let life = self.parsed.tbs_certificate().validity();
        let second = |time: &x509_cert::time::Time| time.to_unix_duration().as_secs();
        (second(&life.not_before), second(&life.not_after))
    }

    /// Whether `issuer` signed it.
    pub(crate) fn is_signed_by(&self, issuer: &Self) -> Result<bool, VendorSignatureError> {
        let scheme = Scheme::named(&borrowed(self.parsed.signature_algorithm()), None)?;
        let signature = self.parsed.signature().as_bytes().unwrap_or_default();
        holds(
            &issuer.key(),
            scheme,
            &scheme.hash.of(&self.signed),
            signature,
        )
    }

    /// Whether it may sign files.
    pub(crate) fn may_sign_packages(&self) -> Result<(), VendorSignatureError> {
        self.knows_its_extensions()?;
        let usage = self.decoded::<KeyUsage>(KEY_USAGE)?;
        if usage.is_some_and(|usage| !usage.digital_signature() && !usage.non_repudiation()) {
            return Err(self.unfit("its key is not for signatures"));
        }
        // Vendors check with `-purpose any`, so what else is listed does not matter; a certificate that is for
        // nothing but these was made for another machine, and signs no packages.
        let others = [SERVER, CLIENT, TIME_STAMPS, OCSP];
        let usage = self.decoded::<ExtendedKeyUsage>(EXTENDED_KEY_USAGE)?;
        if usage.is_some_and(|usage| usage.0.iter().all(|purpose| others.contains(purpose))) {
            return Err(self.unfit("it is for servers, clients or time stamps only"));
        }
        Ok(())
    }

    /// Whether it may sign certificates, with `below` certificates of authorities between it and the signer.
    pub(crate) fn may_issue(&self, below: usize) -> Result<(), VendorSignatureError> {
        self.knows_its_extensions()?;
        let constraints = self.decoded::<BasicConstraints>(BASIC_CONSTRAINTS)?;
        let Some(constraints) = constraints.filter(|constraints| constraints.ca) else {
            return Err(self.unfit("it is not an authority's"));
        };
        let most = constraints.path_len_constraint.map(usize::from);
        if most.is_some_and(|most| below > most) {
            return Err(self.unfit("more authorities stand below it than it allows"));
        }
        let usage = self.decoded::<KeyUsage>(KEY_USAGE)?;
        if usage.is_some_and(|usage| !usage.key_cert_sign()) {
            return Err(self.unfit("its key is not for certificates"));
        }
        Ok(())
    }

    /// Whether it may sign revocation lists.
    pub(crate) fn may_revoke(&self) -> Result<bool, VendorSignatureError> {
        let usage = self.decoded::<KeyUsage>(KEY_USAGE)?;
        Ok(usage.is_none_or(|usage| usage.crl_sign()))
    }

    fn extensions(&self) -> &[Extension] {
        let extensions = self.parsed.tbs_certificate().extensions();
        extensions.map_or(&[], Vec::as_slice)
    }

    fn extension(&self, id: ObjectIdentifier) -> Option<&Extension> {
        self.extensions().iter().find(|e| e.extn_id == id)
    }

    fn decoded<'a, T: Decode<'a, Error = der::Error>>(
        &'a self,
        id: ObjectIdentifier,
    ) -> Result<Option<T>, VendorSignatureError> {
        self.extension(id)
            .map(|extension| T::from_der(extension.extn_value.as_bytes()))
            .transpose()
            .map_err(|error| malformed("certificate", error))
    }

    /// What an issuer calls critical must be understood (RFC 5280), and stand there once.
    fn knows_its_extensions(&self) -> Result<(), VendorSignatureError> {
        let known = [BASIC_CONSTRAINTS, KEY_USAGE, EXTENDED_KEY_USAGE];
        let extensions = self.extensions();
        for (position, extension) in extensions.iter().enumerate() {
            let again = &extensions[position + 1..];
            if again.iter().any(|e| e.extn_id == extension.extn_id) {
                return Err(self.unfit("it says the same thing twice"));
            }
            if extension.critical && !known.contains(&extension.extn_id) {
                let id = extension.extn_id;
                return Err(self.unfit(&format!("it asks for a check that is not known: {id}")));
            }
        }
        Ok(())
    }

    fn unfit(&self, problem: &str) -> VendorSignatureError {
        VendorSignatureError::CertificateUnfit {
            certificate: self.name(),
            problem: problem.to_owned(),
        }
    }
}

const SUBJECT_KEY_IDENTIFIER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.14");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");
const SERVER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
const CLIENT: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");
const TIME_STAMPS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.8");
const OCSP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.9");
