//! Revocation lists: who may no longer sign.

use der::asn1::{BitString, ObjectIdentifier};
use der::{Decode, Tag};
use spki::AlgorithmIdentifierOwned;
use x509_cert::crl::RevokedCert;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::crl::dp::IssuingDistributionPoint;
use x509_cert::name::Name;

use crate::algorithm::{Scheme, borrowed, holds};
use crate::certificate::Certificate;
use crate::chain::Path;
use crate::element::Elements;
use crate::error::malformed;
use crate::signer::{ListDates, day};
use crate::{LARGEST_LIST, VendorSignatureError, file};

/// Revocation lists, of whoever.
pub(crate) struct Lists(Vec<List>);

/// One list. The crate that reads certificates knows no lists of version 1, which openssl still writes.
struct List {
    signed: Vec<u8>,
    issuer: Name,
    dates: ListDates,
    revoked: Vec<RevokedCert>,
    extensions: Vec<Extension>,
    algorithm: AlgorithmIdentifierOwned,
    signature: Vec<u8>,
}

const MOST_LISTS: usize = 32;

impl Lists {
    /// Reads lists that stand beside a package, each in DER or PEM, and those in its signature.
    pub(crate) fn read(files: &[&[u8]], inside: &[&[u8]]) -> Result<Self, VendorSignatureError> {
        let mut lists = Vec::new();
        for bytes in files {
            for body in file::bodies(bytes, "revocation list", "X509 CRL", LARGEST_LIST)? {
                lists.push(List::read(&body)?);
            }
        }
        for bytes in inside {
            lists.push(List::read(bytes)?);
        }
        if lists.len() > MOST_LISTS {
            let problem = format!("{} of them, at most {MOST_LISTS} are read", lists.len());
            return Err(malformed("revocation list", problem));
        }
        Ok(Self(lists))
    }

    /// Checks that nobody on `path` was revoked. Returns the dates of the newest list that speaks of the signer.
    pub(crate) fn check(&self, path: &Path) -> Result<Option<ListDates>, VendorSignatureError> {
        let mut newest = None;
        let top = path.0.last().copied();
        // A root that issued itself can take itself back.
        let roots = top.filter(|top| top.issuer() == top.subject());
        let pairs = path.0.windows(2).map(|pair| (pair[0], pair[1]));
        let pairs = pairs.chain(roots.map(|root| (root, root)));
        for (position, (certificate, issuer)) in pairs.enumerate() {
            for list in &self.0 {
                if list.issuer != *issuer.subject() {
                    continue;
                }
                let scope = list.scope(issuer)?;
                if scope.is_some_and(|authorities| authorities == (position == 0)) {
                    continue;
                }
                list.refuse(certificate)?;
                if position == 0 {
                    newest = newest.max(Some(list.dates));
                }
            }
        }
        Ok(newest)
    }
}

impl List {
    fn read(bytes: &[u8]) -> Result<Self, VendorSignatureError> {
        Self::decode(bytes).map_err(|error| malformed("revocation list", error))
    }

    fn decode(bytes: &[u8]) -> Result<Self, der::Error> {
        // Files of vendors were seen with bytes behind the list; the signature covers the list.
        let outer = Elements::of(bytes)?.expect(Tag::Sequence)?;
        let mut outer = Elements::of(outer.value)?;
        let signed = outer.expect(Tag::Sequence)?;
        let algorithm = AlgorithmIdentifierOwned::from_der(outer.expect(Tag::Sequence)?.whole)?;
        let signature = BitString::from_der(outer.expect(Tag::BitString)?.whole)?;

        let mut parts = Elements::of(signed.value)?;
        parts.with_tag(Tag::Integer)?;
        parts.expect(Tag::Sequence)?;
        let issuer = Name::from_der(parts.expect(Tag::Sequence)?.whole)?;
        let made = parts.time()?.ok_or(der::ErrorKind::Failed)?;
        let next = parts.time()?;
        let mut revoked = Vec::new();
        if let Some(entries) = parts.with_tag(Tag::Sequence)? {
            let mut entries = Elements::of(entries.value)?;
            while let Some(entry) = entries.next()? {
                revoked.push(RevokedCert::from_der(entry.whole)?);
            }
        }
        let extensions = match parts.optional(0)? {
            Some(explicit) => Vec::<Extension>::from_der(explicit.value)?,
            None => Vec::new(),
        };
        Ok(Self {
            signed: signed.whole.to_vec(),
            issuer,
            dates: ListDates { made, next },
            revoked,
            extensions,
            algorithm,
            signature: signature.as_bytes().unwrap_or_default().to_vec(),
        })
    }

    /// Checks that `issuer` signed the list. Returns whether it speaks of authorities only (`true`), of others only
    /// (`false`), or of all.
    fn scope(&self, issuer: &Certificate) -> Result<Option<bool>, VendorSignatureError> {
        let invalid = |problem: String| VendorSignatureError::ListInvalid {
            issuer: issuer.name(),
            problem,
        };
        let scheme = Scheme::named(&borrowed(&self.algorithm), None)?;
        let hashed = scheme.hash.of(&self.signed);
        if !holds(&issuer.key(), scheme, &hashed, &self.signature)? {
            return Err(invalid("its signature is not by that key".to_owned()));
        }
        if !issuer.may_revoke()? {
            return Err(invalid("that key is not for revocation lists".to_owned()));
        }
        let mut scope = None;
        for extension in &self.extensions {
            if extension.extn_id == DISTRIBUTION_POINT {
                let point = IssuingDistributionPoint::from_der(extension.extn_value.as_bytes())
                    .map_err(|error| malformed("revocation list", error))?;
                if point.indirect_crl
                    || point.only_some_reasons.is_some()
                    || point.only_contains_attribute_certs
                {
                    return Err(invalid("it is a part of a list".to_owned()));
                }
                if point.only_contains_ca_certs || point.only_contains_user_certs {
                    scope = Some(point.only_contains_ca_certs);
                }
            } else if extension.critical {
                let id = extension.extn_id;
                return Err(invalid(format!(
                    "it asks for a check that is not known: {id}"
                )));
            }
        }
        Ok(scope)
    }

    fn refuse(&self, certificate: &Certificate) -> Result<(), VendorSignatureError> {
        let entry = self
            .revoked
            .iter()
            .find(|entry| entry.serial_number.as_bytes() == certificate.serial());
        match entry {
            None => Ok(()),
            Some(entry) => Err(VendorSignatureError::Revoked {
                certificate: certificate.name(),
                serial: certificate.serial_text(),
                on: day(entry.revocation_date.to_unix_duration().as_secs()),
            }),
        }
    }
}

const DISTRIBUTION_POINT: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.28");
