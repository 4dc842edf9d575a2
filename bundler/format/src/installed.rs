//! The signed metadata of an installed release, checked again: what an audit stands on.
//!
//! A release keeps the bundle's `meta/` as it was. The chain is the same as in the archive: trusted roots,
//! keys of the last, their signatures over the statement, the statement's digest of `SHA256SUMS`, and its lines.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use manifest_schema::{Digest, KeyId, Profiles, Provenance};

use crate::layout::{self, MAX_METADATA, PROFILES, PROVENANCE, Role, STATEMENT, SUMS};
use crate::plain_file::open_plain;
use crate::signatures::{chain_of, held_in, still_enough};
use crate::statement::Statement;
use crate::trusted::TrustedRoots;
use crate::verify_error::{Fault, VerifyError};

/// Metadata that a trusted root vouches for. Only [`SignedMetadata::read`] makes one.
#[derive(Clone, Debug)]
pub struct SignedMetadata {
    /// SHA-256 of the statement.
    pub statement: Digest,
    /// SHA-256 of the trust root.
    pub root: Digest,
    /// Keys whose signatures hold.
    pub key_ids: Vec<KeyId>,
    /// What the bundle could install.
    pub profiles: Profiles,
    /// Where its blobs came from.
    pub provenance: Provenance,
    /// Digest of every file of the release's `meta/` that is signed, by its name.
    pub files: BTreeMap<String, Digest>,
}

impl SignedMetadata {
    /// Reads and checks `meta/` below `release`.
    ///
    /// # Errors
    /// When a file is missing, a signature does not hold, or a digest differs.
    pub fn read(release: &Path, roots: &TrustedRoots) -> Result<Self, VerifyError> {
        let fault = |fault: Fault| fault.of(release);
        let names = names_in(release)?;
        let chain = chain_of(names.iter().map(String::as_str), fault, |name| {
            read(release, name)
        })?;
        let standing = roots.judge(&chain).map_err(fault)?;
        let statement_bytes = read(release, STATEMENT)?;
        let held = held_in(
            &names,
            &standing.root,
            &statement_bytes,
            |name| read(release, name),
            fault,
        )?;
        let key_ids = still_enough(&standing, &held).map_err(fault)?;
        let statement = Statement::parse(&statement_bytes)
            .map_err(|error| malformed(STATEMENT, &error).of(release))?;
        let sums = read(release, SUMS)?;
        let digest = Digest::of(&sums);
        if !statement
            .subject
            .iter()
            .any(|subject| subject.name == SUMS && subject.has(&digest))
        {
            return Err(Fault::MemberDiffers {
                member: SUMS.to_owned(),
            }
            .of(release));
        }
        let mut files: BTreeMap<String, Digest> = String::from_utf8_lossy(&sums)
            .lines()
            .filter_map(|line| {
                let (hex, name) = line.split_once("  ")?;
                Some((name.to_owned(), Digest::parse_hex(hex).ok()?))
            })
            .filter(|(name, _)| name.starts_with("meta/"))
            .collect();
        files.insert(SUMS.to_owned(), digest);
        files.insert(STATEMENT.to_owned(), Digest::of(&statement_bytes));
        for (key, (algorithm, signature)) in &held {
            let member = layout::signature(key, *algorithm);
            files.insert(member, Digest::of(signature));
        }
        Ok(Self {
            files,
            statement: Digest::of(&statement_bytes),
            root: standing.fingerprint,
            key_ids,
            profiles: document_of(release, &sums, PROFILES)?,
            provenance: document_of(release, &sums, PROVENANCE)?,
        })
    }
}

/// Names of the release's roots and signatures.
fn names_in(release: &Path) -> Result<Vec<String>, VerifyError> {
    let mut names = Vec::new();
    let mut folders = vec!["meta/root".to_owned(), "meta/statement.sig".to_owned()];
    while let Some(folder) = folders.pop() {
        let path = release.join(&folder);
        let unreadable = |cause| Fault::Unreadable.because(&path, cause);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(unreadable(error)),
        };
        for entry in entries {
            let entry = entry.map_err(unreadable)?;
            let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
            let inside = entry.file_type().map_err(unreadable)?.is_dir();
            match Role::of(&name) {
                Some(Role::Root | Role::RootSignature | Role::Signature) => names.push(name),
                _ if inside && folder == "meta/root" => folders.push(name),
                _ => {}
            }
        }
    }
    names.sort();
    Ok(names)
}

/// Reads a document whose digest stands in `sums`.
fn document_of<T: serde::de::DeserializeOwned>(
    release: &Path,
    sums: &[u8],
    name: &str,
) -> Result<T, VerifyError> {
    let bytes = read(release, name)?;
    let line = layout::sum_line(&Digest::of(&bytes), name);
    if !sums
        .split_inclusive(|&byte| byte == b'\n')
        .any(|found| found == line.as_bytes())
    {
        return Err(Fault::MemberDiffers {
            member: name.to_owned(),
        }
        .of(release));
    }
    serde_json::from_slice(&bytes).map_err(|error| malformed(name, &error).of(release))
}

fn read(release: &Path, name: &str) -> Result<Vec<u8>, VerifyError> {
    let path = release.join(name);
    let mut bytes = Vec::new();
    let taken =
        open_plain(&path).and_then(|file| file.take(MAX_METADATA + 1).read_to_end(&mut bytes));
    match taken {
        Ok(_) if bytes.len() as u64 <= MAX_METADATA => Ok(bytes),
        Ok(_) => {
            let size = bytes.len() as u64;
            let member = name.to_owned();
            Err(Fault::TooLarge {
                member,
                size,
                limit: MAX_METADATA,
            }
            .of(release))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Fault::Missing {
            member: name.to_owned(),
        }
        .of(release)),
        Err(error) => Err(Fault::Unreadable.because(path, error)),
    }
}

fn malformed(name: &str, error: &serde_json::Error) -> Fault {
    Fault::Malformed {
        member: name.to_owned(),
        cause: error.to_string(),
    }
}
