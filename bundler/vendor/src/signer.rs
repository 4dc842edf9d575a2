//! Who signed, and what dates and lists say about it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use der::DateTime;
use manifest_schema::Digest;
use report::{Event, Sink};

use crate::chain::Path;

/// Who signed a package, under which root.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Signer {
    /// Whose certificate, as people write it: `CN=…,O=…`.
    pub name: String,
    /// Number of that certificate, in hex.
    pub serial: String,
    /// The root that it leads to.
    pub root: String,
    /// SHA-256 of the root's certificate in DER, by which people know it.
    pub root_digest: Digest,
    /// SHA-256 of the package that was read.
    pub package: Digest,
    /// Seconds since 1970 at which all certificates up to the root are valid: the first.
    pub valid_from: u64,
    /// The last of those seconds.
    pub valid_to: u64,
    /// The newest list that speaks of the signer, where one was there.
    pub list: Option<ListDates>,
}

/// When a revocation list was made.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ListDates {
    /// Seconds since 1970.
    pub made: u64,
    /// When its issuer means to make the next, where it says so.
    pub next: Option<u64>,
}

/// Something that a person should know about a signature that holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Remark {
    /// By this machine's clock the certificates are no longer valid.
    Expired {
        /// Whose signature.
        signer: String,
        /// Their last day.
        on: String,
    },
    /// By this machine's clock the certificates are not valid yet.
    NotYetValid {
        /// Whose signature.
        signer: String,
        /// Their first day.
        from: String,
    },
    /// No list speaks of the signer: whether it was revoked is not known.
    NoList {
        /// Whose signature.
        signer: String,
    },
    /// By this machine's clock there should be a newer list.
    OldList {
        /// Whose signature.
        signer: String,
        /// The day of the next list.
        next: String,
    },
}

impl Signer {
    pub(crate) fn new(path: &Path, list: Option<ListDates>, package: Digest) -> Self {
        // A path has its leaf at least.
        let (leaf, root) = (path.0[0], path.0[path.0.len() - 1]);
        let lives = || path.0.iter().map(|certificate| certificate.life());
        Self {
            name: leaf.name(),
            serial: leaf.serial_text(),
            root: root.name(),
            root_digest: Digest::from_bytes(root.digest()),
            package,
            valid_from: lives().map(|(from, _)| from).max().unwrap_or_default(),
            valid_to: lives().map(|(_, to)| to).min().unwrap_or_default(),
            list,
        }
    }

    /// What a person should know at the time `now`, in seconds since 1970. None of it makes the signature wrong.
    pub fn remarks(&self, now: u64) -> Vec<Remark> {
        let signer = || self.name.clone();
        let mut remarks = Vec::new();
        if now < self.valid_from {
            remarks.push(Remark::NotYetValid {
                signer: signer(),
                from: day(self.valid_from),
            });
        }
        if now > self.valid_to {
            remarks.push(Remark::Expired {
                signer: signer(),
                on: day(self.valid_to),
            });
        }
        match self.list {
            None => remarks.push(Remark::NoList { signer: signer() }),
            Some(ListDates { next, .. }) => {
                if let Some(next) = next.filter(|next| now > *next) {
                    remarks.push(Remark::OldList {
                        signer: signer(),
                        next: day(next),
                    });
                }
            }
        }
        remarks
    }
}

impl Signer {
    /// Says what a person should know by this machine's clock.
    pub fn warn(&self, sink: &dyn Sink) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        for remark in self.remarks(now.map_or(0, |now| now.as_secs())) {
            let args = remark.args().into_iter();
            sink.emit(&Event::Warned {
                code: remark.code().to_owned(),
                args: args.map(|(name, value)| (name.to_owned(), value)).collect(),
            });
        }
    }
}

impl Remark {
    /// The catalogue's code of its text.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Expired { .. } => "vendor.remark-expired",
            Self::NotYetValid { .. } => "vendor.remark-not-yet-valid",
            Self::NoList { .. } => "vendor.remark-no-list",
            Self::OldList { .. } => "vendor.remark-old-list",
        }
    }

    /// The values that the text names.
    pub fn args(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Expired { signer, on } => vec![("signer", signer.clone()), ("on", on.clone())],
            Self::NotYetValid { signer, from } => {
                vec![("signer", signer.clone()), ("from", from.clone())]
            }
            Self::NoList { signer } => vec![("signer", signer.clone())],
            Self::OldList { signer, next } => {
                vec![("signer", signer.clone()), ("next", next.clone())]
            }
        }
    }
}

/// The day of a second since 1970, as `2026-11-25`.
pub(crate) fn day(second: u64) -> String {
    match DateTime::from_unix_duration(Duration::from_secs(second)) {
        Ok(date) => format!("{:04}-{:02}-{:02}", date.year(), date.month(), date.day()),
        // Behind the year 9999.
        Err(_) => "9999-12-31".to_owned(),
    }
}
