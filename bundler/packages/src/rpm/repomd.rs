//! `repomd.xml`: which files make a repository's metadata, each with its size and digest.

use std::fmt::Write as _;

use manifest_schema::Digest;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use super::xml::{Document, Node};
use crate::error::PackageError;
use crate::unpacked::LARGEST_METADATA;

/// The list that a key signs.
#[derive(Clone, Debug)]
pub struct Repomd {
    /// Packages.
    pub primary: Listed,
    /// Files of packages.
    pub filelists: Option<Listed>,
    /// Modules.
    pub modules: Option<Listed>,
}

/// A file of metadata, as the list names it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Listed {
    /// The file, below the repository's address.
    pub location: String,
    /// Its bytes, where the list says so.
    pub size: Option<u64>,
    /// Its bytes when unpacked, where the list says so.
    pub open_size: Option<u64>,
    checksum: (String, String),
}

impl Repomd {
    /// Reads the list.
    ///
    /// # Errors
    /// When it is not one, or pins its files by nothing better than SHA-1.
    pub fn parse(bytes: &[u8]) -> Result<Self, PackageError> {
        let mut document = Document::new(FILE, Box::new(bytes));
        let (mut primary, mut filelists, mut modules) = (None, None, None);
        loop {
            match document.next()? {
                Node::Open(element) if element.name == "data" => {
                    let slot = match element.attribute("type") {
                        Some("primary") => &mut primary,
                        Some("filelists") => &mut filelists,
                        Some("modules") => &mut modules,
                        _ => continue,
                    };
                    let listed = Listed::read(&mut document)?;
                    if slot.replace(listed).is_some() {
                        return Err(document.wrong("it lists one kind of file twice"));
                    }
                }
                Node::End => break,
                _ => {}
            }
        }
        let primary = primary.ok_or_else(|| document.wrong("it lists no `primary`"))?;
        Ok(Self {
            primary,
            filelists,
            modules,
        })
    }
}

impl Listed {
    fn read(document: &mut Document) -> Result<Self, PackageError> {
        let mut listed = Self::default();
        loop {
            match document.next()? {
                Node::Open(mut element) => match element.name.as_str() {
                    "location" => listed.location = element.take("href").unwrap_or_default(),
                    "checksum" => {
                        let kind = element.take("type").unwrap_or_default();
                        listed.checksum = (kind, document.text()?.trim().to_ascii_lowercase());
                    }
                    "size" => listed.size = document.text()?.trim().parse().ok(),
                    "open-size" => listed.open_size = document.text()?.trim().parse().ok(),
                    _ => {}
                },
                Node::Close(name) if name == "data" => break,
                Node::End => return Err(document.wrong("it ends in the middle")),
                _ => {}
            }
        }
        if !is_below(&listed.location) {
            return Err(document.wrong(format!("it names the file `{}`", listed.location)));
        }
        if !["sha256", "sha384", "sha512"].contains(&listed.checksum.0.as_str()) {
            let problem = format!(
                "`{}` is pinned by `{}`; sha256, sha384 and sha512 are strong enough",
                listed.location, listed.checksum.0
            );
            return Err(document.wrong(problem));
        }
        Ok(listed)
    }

    /// Whether `bytes` are the file that the list names.
    ///
    /// # Errors
    /// When their size or digest is another.
    pub fn check(&self, bytes: &[u8]) -> Result<(), PackageError> {
        let differs = |found: String, expected: String| PackageError::Differs {
            file: self.location.clone(),
            found,
            expected,
        };
        if let Some(size) = self.size.filter(|size| *size != bytes.len() as u64) {
            return Err(differs(
                format!("{} bytes", bytes.len()),
                format!("{size} bytes"),
            ));
        }
        let (kind, expected) = &self.checksum;
        let found = match kind.as_str() {
            "sha384" => hex(&Sha384::digest(bytes)),
            "sha512" => hex(&Sha512::digest(bytes)),
            _ => hex(&Sha256::digest(bytes)),
        };
        if found == *expected {
            return Ok(());
        }
        Err(differs(
            format!("{kind}:{found}"),
            format!("{kind}:{expected}"),
        ))
    }

    /// How many bytes it may have when it is unpacked.
    pub(super) fn open_limit(&self) -> u64 {
        self.open_size
            .unwrap_or(LARGEST_METADATA)
            .min(LARGEST_METADATA)
    }
}

/// Whether a place stays below the repository's address.
pub(crate) fn is_below(location: &str) -> bool {
    !location.is_empty()
        && !location.starts_with('/')
        && !location.contains(['\\', '?', '#'])
        && !location.contains("://")
        && location.split('/').all(|part| part != "..")
        && !location.chars().any(char::is_control)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Reads the digest of a package, which must be its SHA-256: that is what a lock pins.
pub(super) fn sha256(kind: &str, value: &str) -> Option<Digest> {
    (kind == "sha256").then(|| Digest::parse_hex(&value.trim().to_ascii_lowercase()).ok())?
}

const FILE: &str = "repomd.xml";

#[cfg(test)]
mod tests {
    use super::*;

    fn repomd(kind: &str, location: &str) -> String {
        format!(
            "<repomd><revision>1</revision><data type='primary'><checksum type='{kind}'>{}</checksum>\
             <location href='{location}'/><size>5</size><open-size>9</open-size></data>\
             <data type='primary_db'><location href='x'/></data></repomd>",
            Digest::of(b"bytes").hex()
        )
    }

    #[test]
    fn a_listed_file_is_told_from_another() {
        let read = Repomd::parse(repomd("sha256", "repodata/p.xml.gz").as_bytes()).unwrap();
        let primary = read.primary;
        assert_eq!((primary.size, primary.open_limit()), (Some(5), 9));
        primary.check(b"bytes").unwrap();
        let longer = primary.check(b"bytes!").unwrap_err().to_string();
        assert!(
            longer.contains("6 bytes") && longer.contains("5 bytes"),
            "{longer}"
        );
        let other = primary.check(b"other").unwrap_err().to_string();
        assert!(other.contains(&Digest::of(b"other").hex()), "{other}");
    }

    #[test]
    fn weak_digests_and_places_outside_are_refused() {
        for (kind, location, expected) in [
            ("sha", "repodata/p.xml.gz", "strong enough"),
            ("md5", "repodata/p.xml.gz", "strong enough"),
            ("sha256", "../p.xml.gz", "names the file"),
            ("sha256", "/etc/passwd", "names the file"),
            ("sha256", "http://other.org/p", "names the file"),
            ("sha256", "", "names the file"),
        ] {
            let error = Repomd::parse(repomd(kind, location).as_bytes())
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{kind} {location}: {error}");
        }
        for text in ["", "<repomd/>", "not XML", "<repomd><data type='primary'>"] {
            assert!(Repomd::parse(text.as_bytes()).is_err(), "{text}");
        }
        let twice = repomd("sha256", "a").replace("</repomd>", "") + &repomd("sha256", "b")[8..];
        assert!(Repomd::parse(twice.as_bytes()).is_err());
    }
}
