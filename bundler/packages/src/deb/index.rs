//! `Packages`: every package, what it needs and what it provides.

use std::io::{BufRead, Read};

use manifest_schema::Digest;

use super::release::Listed;
use super::stanza::Stanza;
use crate::error::PackageError;
use crate::formula::Formula;
use crate::package::{Offer, Package};
use crate::relation::Relation;
use crate::rpm::is_below;
use crate::unpacked::{LARGEST_METADATA, unpacked};

/// The packages of a list.
///
/// # Errors
/// When `bytes` are not the file that was listed, or it is not in its format.
pub fn packages(
    listed: &Listed,
    bytes: &[u8],
    repository: usize,
) -> Result<Vec<Package>, PackageError> {
    listed.check(bytes)?;
    let file = listed.location.as_str();
    let wrong = |problem: String| PackageError::metadata(file, problem);
    let source = unpacked(file, bytes, LARGEST_METADATA);
    let mut source = source.map_err(|error| wrong(error.to_string()))?;
    let (mut packages, mut paragraph, mut line) = (Vec::new(), String::new(), Vec::new());
    loop {
        line.clear();
        let count = (&mut source)
            .take(LONGEST_PARAGRAPH as u64)
            .read_until(b'\n', &mut line)
            .map_err(|error| wrong(error.to_string()))?;
        if count > 1 && paragraph.len() + count <= LONGEST_PARAGRAPH {
            paragraph.push_str(&String::from_utf8_lossy(&line));
            continue;
        }
        if count > 1 {
            return Err(wrong("a paragraph is too long".to_owned()));
        }
        if !paragraph.trim().is_empty() {
            let package = package(&paragraph, repository);
            packages.push(package.map_err(|problem| {
                let first = paragraph.lines().next().unwrap_or_default();
                wrong(format!("`{first}`: {problem}"))
            })?);
            paragraph.clear();
        }
        if count == 0 {
            return Ok(packages);
        }
    }
}

fn package(paragraph: &str, repository: usize) -> Result<Package, &'static str> {
    let stanza = Stanza::parse(paragraph).ok_or("a line is not a field")?;
    let text = |name: &str| stanza.field(name).map(str::to_owned);
    let needed = |name: &'static str| text(name).filter(|text| !text.is_empty());
    let location = needed("Filename").filter(|location| is_below(location));
    let digest = needed("SHA256").and_then(|hex| Digest::parse_hex(&hex.to_ascii_lowercase()).ok());
    let size = needed("Size").and_then(|size| size.parse().ok());
    let offer = Offer {
        repository,
        location: location.ok_or("it has no place")?,
        size: size.ok_or("it has no size")?,
        digest: digest.ok_or("it has no SHA-256")?,
    };
    let mut package = Package {
        name: needed("Package").ok_or("it has no name")?,
        version: needed("Version").ok_or("it has no version")?,
        arch: needed("Architecture").ok_or("it has no architecture")?,
        offer: Some(offer),
        ..Package::default()
    };
    relate(&mut package, |name| stanza.field(name).unwrap_or_default());
    Ok(package)
}

/// Takes in the relations of a control file's fields.
pub(crate) fn relate<'a>(package: &mut Package, field: impl Fn(&str) -> &'a str) {
    for name in ["Pre-Depends", "Depends"] {
        match Formula::parse_deb(field(name)) {
            Some(needs) => package.requires.extend(needs),
            None => package
                .requires
                .push(Formula::Beyond(field(name).to_owned())),
        }
    }
    package.recommends = Formula::parse_deb(field("Recommends")).unwrap_or_default();
    package.provides = relations(field("Provides"));
    package.conflicts = relations(field("Conflicts"));
    package.conflicts.extend(relations(field("Breaks")));
}

pub(crate) fn relations(field: &str) -> Vec<Relation> {
    field.split(',').filter_map(Relation::parse_deb).collect()
}

/// More than the longest list of dependencies that any package has.
const LONGEST_PARAGRAPH: usize = 1 << 20;
