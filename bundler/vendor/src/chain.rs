//! From the signer's certificate up to a root that somebody named.

use crate::certificate::Certificate;
use crate::error::malformed;
use crate::{LARGEST_ROOTS, VendorSignatureError, file};

/// Certificates that are trusted because somebody named them, and pinned their digest.
pub(crate) struct Anchors(Vec<Certificate>);

/// The signer's certificate first, the root last.
#[derive(Debug)]
pub(crate) struct Path<'a>(pub(crate) Vec<&'a Certificate>);

/// More authorities than anybody stacks.
const LONGEST: usize = 8;
const MOST_ANCHORS: usize = 64;
/// Certificates of one name and many keys could be tried in many orders: this many signatures are checked.
const MOST_CHECKS: usize = 64;

impl Anchors {
    /// Reads files of certificates, each in DER or PEM.
    pub(crate) fn read(files: &[&[u8]]) -> Result<Self, VendorSignatureError> {
        let mut anchors = Vec::new();
        for bytes in files {
            for body in file::bodies(bytes, "root", "CERTIFICATE", LARGEST_ROOTS)? {
                if anchors.len() == MOST_ANCHORS {
                    let problem = format!("more than {MOST_ANCHORS} certificates");
                    return Err(malformed("root", problem));
                }
                anchors.push(Certificate::read(&body).map_err(|e| malformed("root", e))?);
            }
        }
        if anchors.is_empty() {
            return Err(VendorSignatureError::NoRoot);
        }
        Ok(Self(anchors))
    }
}

/// Finds a way from `leaf` over `others` to one of `anchors`.
pub(crate) fn to_root<'a>(
    leaf: &'a Certificate,
    others: &'a [Certificate],
    anchors: &'a Anchors,
) -> Result<Path<'a>, VendorSignatureError> {
    let mut search = Search {
        others,
        anchors,
        checks: 0,
        path: vec![leaf],
        top: leaf,
        refused: None,
    };
    if anchors.0.iter().any(|anchor| anchor.is_same(leaf)) || search.climb() {
        return Ok(Path(search.path));
    }
    // Why a way was closed says more than that none was open.
    Err(search
        .refused
        .unwrap_or_else(|| VendorSignatureError::Untrusted {
            signer: leaf.name(),
            issuer: search.top.issuer().to_string(),
        }))
}

struct Search<'a> {
    others: &'a [Certificate],
    anchors: &'a Anchors,
    checks: usize,
    path: Vec<&'a Certificate>,
    /// The highest certificate that was reached.
    top: &'a Certificate,
    refused: Option<VendorSignatureError>,
}

impl Search<'_> {
    /// Goes on from the last certificate of the path; `true` once the path ends at an anchor.
    fn climb(&mut self) -> bool {
        let current = self.path[self.path.len() - 1];
        self.top = current;
        for anchor in &self.anchors.0 {
            if self.leads(current, anchor) {
                self.path.push(anchor);
                return true;
            }
        }
        if self.path.len() == LONGEST {
            return false;
        }
        for other in self.others {
            let seen = self
                .path
                .iter()
                .any(|certificate| certificate.is_same(other));
            if !seen && self.leads(current, other) {
                self.path.push(other);
                if self.climb() {
                    return true;
                }
                self.path.pop();
            }
        }
        false
    }

    /// Whether `issuer` signed `certificate`, and may.
    fn leads(&mut self, certificate: &Certificate, issuer: &Certificate) -> bool {
        if certificate.issuer() != issuer.subject() || self.checks == MOST_CHECKS {
            return false;
        }
        self.checks += 1;
        let below = self.path.len() - 1;
        let allowed = match certificate.is_signed_by(issuer) {
            Ok(false) => return false,
            Ok(true) => issuer.may_issue(below),
            Err(error) => Err(error),
        };
        if let Err(error) = allowed {
            self.refused.get_or_insert(error);
            return false;
        }
        true
    }
}
