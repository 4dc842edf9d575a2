//! The metadata of a repository, made from the packages themselves: the same packages give the same bytes.

use std::fmt::Write as _;

use manifest_schema::Digest;

use super::stanza::Stanza;
use crate::error::PackageError;

/// A package that a repository is made of.
#[derive(Debug)]
pub struct Carried {
    control: Stanza,
    location: String,
    size: u64,
    digest: Digest,
}

impl Carried {
    /// Takes a package at `location`, with the text of its control file.
    ///
    /// # Errors
    /// When that is not one paragraph.
    pub fn new(
        control: &str,
        location: &str,
        size: u64,
        digest: Digest,
    ) -> Result<Self, PackageError> {
        let stanza =
            Stanza::parse(control.trim()).filter(|stanza| stanza.field("Package").is_some());
        let wrong =
            || PackageError::package(location, "its control file is not one paragraph of fields");
        Ok(Self {
            control: stanza.ok_or_else(wrong)?,
            location: location.to_owned(),
            size,
            digest,
        })
    }

    fn field(&self, name: &str) -> &str {
        self.control.field(name).unwrap_or_default()
    }

    /// Name of the package.
    pub fn name(&self) -> &str {
        self.field("Package")
    }

    /// Its version.
    pub fn version(&self) -> &str {
        self.field("Version")
    }

    /// Its architecture.
    pub fn arch(&self) -> &str {
        self.field("Architecture")
    }
}

/// Makes `Packages` and `Release` of a folder without components.
pub fn repository(packages: &[Carried], arch: &str) -> Vec<(String, Vec<u8>)> {
    let mut index = String::new();
    for package in packages {
        for (name, value) in &package.control.fields {
            let ours = ["filename", "size", "sha256", "sha512", "sha1", "md5sum"];
            if !ours.contains(&name.to_ascii_lowercase().as_str()) {
                let _ = writeln!(index, "{name}: {value}");
            }
        }
        let (location, size, digest) = (&package.location, package.size, package.digest.hex());
        let _ = write!(
            index,
            "Filename: ./{location}\nSize: {size}\nSHA256: {digest}\n\n"
        );
    }
    let release = format!(
        // A time must be there; that of the build would make other bytes every time.
        "Origin: Ferry\nLabel: Ferry\nDate: Thu, 01 Jan 1970 00:00:00 UTC\nArchitectures: {arch} all\n\
         Description: packages of a Ferry bundle\nSHA256:\n {} {} Packages\n",
        Digest::of(index.as_bytes()).hex(),
        index.len()
    );
    vec![
        ("Packages".to_owned(), index.into_bytes()),
        ("Release".to_owned(), release.into_bytes()),
    ]
}
