//! `primary.xml`: every package, what it needs and what it provides.

use super::repomd::{Listed, is_below, sha256};
use super::xml::{Document, Element, Node};
use crate::error::PackageError;
use crate::formula::Formula;
use crate::package::{Offer, Package};
use crate::relation::{Op, Relation};
use crate::unpacked::unpacked;

/// The packages for `arch` and for every architecture, from the file that the list names.
///
/// # Errors
/// When `bytes` are not that file, or it is not in its format.
pub fn packages(
    listed: &Listed,
    bytes: &[u8],
    arch: &str,
    repository: usize,
) -> Result<Vec<Package>, PackageError> {
    listed.check(bytes)?;
    let file = listed.location.as_str();
    let source = unpacked(file, bytes, listed.open_limit());
    let source = source.map_err(|error| PackageError::metadata(file, error))?;
    let mut document = Document::new(file, source);
    let mut packages = Vec::new();
    loop {
        match document.next()? {
            Node::Open(element) if element.name == "package" => {
                let read = Reading::default().package(&mut document, repository)?;
                packages.extend(
                    read.filter(|package| [arch, "noarch"].contains(&package.arch.as_str())),
                );
                if packages.len() > MOST_PACKAGES {
                    return Err(document.wrong("it lists more packages than any distribution has"));
                }
            }
            Node::End => return Ok(packages),
            _ => {}
        }
    }
}

#[derive(Default)]
struct Reading {
    package: Package,
    digest: (String, String),
    size: u64,
    location: String,
    elsewhere: bool,
}

impl Reading {
    /// Reads up to the end of the package. `None` for one that this list only points at, in another place.
    fn package(
        mut self,
        document: &mut Document,
        repository: usize,
    ) -> Result<Option<Package>, PackageError> {
        loop {
            match document.next()? {
                Node::Open(element) => self.element(element, document)?,
                Node::Close(name) if name == "package" => break,
                Node::End => return Err(document.wrong("it ends in the middle")),
                _ => {}
            }
        }
        let mut package = self.package;
        if package.arch == "src" || package.arch == "nosrc" || self.elsewhere {
            return Ok(None);
        }
        let of = package.name.clone();
        if package.name.is_empty() || package.version.is_empty() || !is_below(&self.location) {
            return Err(document.wrong(format!("the package `{of}` lacks a version or a place")));
        }
        let digest = sha256(&self.digest.0, &self.digest.1).ok_or_else(|| {
            let found = &self.digest.0;
            document.wrong(format!(
                "the package `{of}` is pinned by `{found}`, not by sha256"
            ))
        })?;
        package.offer = Some(Offer {
            repository,
            location: self.location,
            size: self.size,
            digest,
        });
        Ok(Some(package))
    }

    fn element(
        &mut self,
        mut element: Element,
        document: &mut Document,
    ) -> Result<(), PackageError> {
        let package = &mut self.package;
        match element.name.as_str() {
            "name" => package.name = document.text()?,
            "arch" => package.arch = document.text()?,
            "version" => package.version = version(&element).unwrap_or_default(),
            "checksum" => {
                let kind = element.take("type").unwrap_or_default();
                self.digest = (kind, document.text()?);
            }
            "size" => {
                let size = element
                    .attribute("package")
                    .and_then(|size| size.parse().ok());
                self.size = size.unwrap_or_default();
            }
            "location" => {
                // `xml:base` sends to another server.
                self.elsewhere = element.attribute("base").is_some();
                self.location = element.take("href").unwrap_or_default();
            }
            "license" => package.license = Some(document.text()?).filter(|text| !text.is_empty()),
            "file" => {
                let path = document.text()?;
                package.files.push(path);
            }
            "provides" => package.provides = entries(document, "provides")?.collect(),
            "conflicts" => package.conflicts = entries(document, "conflicts")?.collect(),
            "obsoletes" => package.obsoletes = entries(document, "obsoletes")?.collect(),
            "requires" => package.requires = needs(document, "requires")?,
            "recommends" => package.recommends = needs(document, "recommends")?,
            _ => {}
        }
        Ok(())
    }
}

fn needs(document: &mut Document, until: &str) -> Result<Vec<Formula>, PackageError> {
    let needs = entries(document, until)?
        // What the rpm program itself must be able to do.
        .filter(|need| !need.name.starts_with("rpmlib("))
        .map(|need| {
            let text = need.name.clone();
            if text.starts_with('(') {
                Formula::parse_rpm(&text).unwrap_or(Formula::Beyond(text))
            } else {
                Formula::Is(need)
            }
        });
    Ok(needs.collect())
}

fn entries(
    document: &mut Document,
    until: &str,
) -> Result<impl Iterator<Item = Relation>, PackageError> {
    let mut relations = Vec::new();
    loop {
        match document.next()? {
            Node::Open(mut element) if element.name == "entry" => {
                let flags = element.take("flags");
                let range = flags.and_then(|flags| Some((Op::parse(&flags)?, version(&element)?)));
                let name = element.take("name").unwrap_or_default();
                let relation = Relation { name, range };
                if !relation.name.is_empty() && relations.last() != Some(&relation) {
                    relations.push(relation);
                }
                if relations.len() > MOST_ENTRIES {
                    return Err(document.wrong("a package has more entries than any can have"));
                }
            }
            Node::Close(name) if name == until => return Ok(relations.into_iter()),
            Node::End => return Err(document.wrong("it ends in the middle")),
            _ => {}
        }
    }
}

/// `epoch:version-release` of the attributes.
fn version(element: &Element) -> Option<String> {
    let mut text = String::new();
    if let Some(epoch) = element
        .attribute("epoch")
        .filter(|epoch| *epoch != "0" && !epoch.is_empty())
    {
        text = format!("{epoch}:");
    }
    text.push_str(
        element
            .attribute("ver")
            .filter(|version| !version.is_empty())?,
    );
    if let Some(release) = element
        .attribute("rel")
        .filter(|release| !release.is_empty())
    {
        text.push('-');
        text.push_str(release);
    }
    Some(text)
}

/// Several times what the largest distributions have.
const MOST_PACKAGES: usize = 500_000;
const MOST_ENTRIES: usize = 1_000_000;
