//! `filelists.xml`: which package has a file that `primary.xml` does not name.

use std::collections::{BTreeMap, BTreeSet};

use super::repomd::Listed;
use super::xml::{Document, Node};
use crate::error::PackageError;
use crate::unpacked::unpacked;

/// Names of the packages that have each of `paths`, from the file that the list names.
///
/// By name rather than by version: a path that others rely on stays with its package.
///
/// # Errors
/// When `bytes` are not that file, or it is not in its format.
pub fn owners(
    listed: &Listed,
    bytes: &[u8],
    paths: &BTreeSet<String>,
) -> Result<BTreeMap<String, BTreeSet<String>>, PackageError> {
    listed.check(bytes)?;
    let file = listed.location.as_str();
    let source = unpacked(file, bytes, listed.open_limit());
    let source = source.map_err(|error| PackageError::metadata(file, error))?;
    let mut document = Document::new(file, source);
    let mut owners: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut package = String::new();
    loop {
        match document.next()? {
            Node::Open(mut element) if element.name == "package" => {
                package = element.take("name").unwrap_or_default();
            }
            Node::Open(element) if element.name == "file" => {
                let path = document.text()?;
                if paths.contains(&path) {
                    owners.entry(path).or_default().insert(package.clone());
                }
            }
            Node::End => return Ok(owners),
            _ => {}
        }
    }
}
