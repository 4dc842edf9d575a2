//! Revocation lists: who may no longer sign.

use der::asn1::ObjectIdentifier;
use der::{Decode, Tag};
use x509_cert::crl::CertificateList;
use x509_cert::ext::pkix::crl::dp::IssuingDistributionPoint;

use crate::algorithm::{Scheme, borrowed, holds};
use crate::certificate::Certificate;
use crate::chain::Path;
use crate::element::Elements;
use crate::error::malformed;
use crate::signer::{ListDates, day};
use crate::{LARGEST_LIST, VendorSignatureError, file};

/// Revocation lists, of whoever.
pub(crate) struct Lists(Vec<List>);

struct List {
    signed: Vec<u8>,
    parsed: CertificateList,
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
                if list.parsed.tbs_cert_list.issuer != *issuer.subject() {
                    continue;
                }
                let scope = list.scope(issuer)?;
                if scope.is_some_and(|authorities| authorities == (position == 0)) {
                    continue;
                }
                list.refuse(certificate)?;
                if position == 0 {
                    newest = newest.max(Some(list.dates()));
                }
            }
        }
        Ok(newest)
    }
}

impl List {
    fn read(bytes: &[u8]) -> Result<Self, VendorSignatureError> {
        let read = || {
            // Files of vendors were seen with bytes behind the list; the signature covers the list.
            let outer = Elements::of(bytes)?.expect(Tag::Sequence)?;
            let signed = Elements::of(outer.value)?.expect(Tag::Sequence)?;
            Ok(Self {
                signed: signed.whole.to_vec(),
                parsed: CertificateList::from_der(outer.whole)?,
            })
        };
        read().map_err(|error: der::Error| malformed("revocation list", error))
    }

    /// Checks that `issuer` signed the list. Returns whether it speaks of authorities only (`true`), of others only
    /// (`false`), or of all.
    fn scope(&self, issuer: &Certificate) -> Result<Option<bool>, VendorSignatureError> {
        let invalid = |problem: String| VendorSignatureError::ListInvalid {
            issuer: issuer.name(),
            problem,
        };
        let scheme = Scheme::named(&borrowed(&self.parsed.signature_algorithm), None)?;
        let signature = self.parsed.signature.as_bytes().unwrap_or_default();
        let hashed = scheme.hash.of(&self.signed);
        if !holds(&issuer.key(), scheme, &hashed, signature)? {
            return Err(invalid("its signature is not by that key".to_owned()));
        }
        if !issuer.may_revoke()? {
            return Err(invalid("that key is not for revocation lists".to_owned()));
        }
        let mut scope = None;
        for extension in self.parsed.tbs_cert_list.crl_extensions.iter().flatten() {
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
        let revoked = self.parsed.tbs_cert_list.revoked_certificates.iter();
        let mut entries = revoked.flatten();
        let entry = entries.find(|entry| entry.serial_number.as_bytes() == certificate.serial());
        match entry {
            None => Ok(()),
            Some(entry) => Err(VendorSignatureError::Revoked {
                certificate: certificate.name(),
                serial: certificate.serial_text(),
                on: day(entry.revocation_date.to_unix_duration().as_secs()),
            }),
        }
    }

    fn dates(&self) -> ListDates {
        let second = |time: &x509_cert::time::Time| time.to_unix_duration().as_secs();
        ListDates {
            made: second(&self.parsed.tbs_cert_list.this_update),
            next: self.parsed.tbs_cert_list.next_update.as_ref().map(second),
        }
    }
}

const DISTRIBUTION_POINT: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.28");
