//! Trusted roots: which there are, how one is added or taken away by hand, and how a newer one takes its place.
//!
//! Of each chain the newest root is kept: its document names all earlier ones, so none of them can come back, and
//! what they signed can still be audited. The machine's own folder counts too and is never written.

mod error;
mod list;

use std::path::{Path, PathBuf};

use bundle_format::{Fault, KeyError, RootChain, RootDocument, TrustedRoots, VerifyError};
use manifest_schema::Digest;

pub use error::RootError;
use list::describe;
pub use list::{RootList, TrustedRoot, trusted_roots};

use crate::disk::{Disk, read_small, write_new};
use crate::guard::Guard;
use crate::journal::{Action, Journal, JournalError};
use crate::prefix::Prefix;
use crate::release::ReleaseRecord;

/// Every root that counts below `prefix`: its own and the machine's.
///
/// # Errors
/// When a document cannot be read, or is not the root that its name says.
pub fn roots(prefix: &Prefix) -> Result<TrustedRoots, KeyError> {
    let mut roots = TrustedRoots::read_folder(prefix.system_trust())?;
    roots.join(TrustedRoots::read_folder(&prefix.trust())?);
    Ok(roots)
}

/// Trusts the root `document`, whose fingerprint a person has compared.
///
/// # Errors
/// When the document is no root, has another fingerprint, or a newer one or another of its version is trusted.
pub fn add_root(
    disk: &dyn Disk,
    _guard: &Guard,
    prefix: &Prefix,
    document: &[u8],
    compared: Digest,
) -> Result<TrustedRoot, RootError> {
    let found = Digest::of(document);
    if found != compared {
        return Err(RootError::Other {
            found,
            named: compared,
        });
    }
    let root = RootDocument::parse(document)?;
    let trusted = roots(prefix)?;
    trusted
        .check_lineage(&root, found)
        .map_err(|fault| chain_error(prefix, fault))?;
    if let Some((_, newer)) = trusted.newer_than(&found) {
        return Err(RootError::Older {
            found: root.version,
            version: newer.version,
        });
    }
    keep_root(disk, prefix, document, Action::Trust { fingerprint: found })?;
    Ok(describe(document, own_file(prefix, &found, "json"))?)
}

/// How a chain of roots came to be trusted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Acceptance {
    /// One of its roots is trusted already.
    Followed,
    /// A person compared the fingerprint of one of its roots.
    Compared(Digest),
}

/// Trusts the last root of a chain, one of which is trusted already or was compared by a person.
///
/// # Errors
/// When none is, the chain is another than the trusted one, or a newer root is trusted.
pub fn add_chain(
    disk: &dyn Disk,
    _guard: &Guard,
    prefix: &Prefix,
    chain: &RootChain,
    acceptance: Acceptance,
) -> Result<TrustedRoot, RootError> {
    let mut trusted = roots(prefix)?;
    let (fingerprint, version) = (chain.fingerprint(), chain.last().version);
    let mut action = Action::FollowRoot {
        fingerprint,
        version,
    };
    if let Acceptance::Compared(compared) = acceptance {
        if !chain.fingerprints().any(|root| root == compared) {
            return Err(RootError::Other {
                found: fingerprint,
                named: compared,
            });
        }
        trusted.trust(compared);
        action = Action::Trust { fingerprint };
    }
    let older = trusted
        .knows_newer(chain)
        .map_err(|fault| chain_error(prefix, fault))?;
    if let (true, Some((_, newer))) = (older, trusted.newer_than(&fingerprint)) {
        return Err(RootError::Older {
            found: version,
            version: newer.version,
        });
    }
    keep_root(disk, prefix, chain.last_bytes(), action)?;
    let path = own_file(prefix, &fingerprint, "json");
    Ok(describe(chain.last_bytes(), path)?)
}

/// Trusts the root with a fingerprint that a person typed; its document comes with the first bundle.
///
/// # Errors
/// When it cannot be noted.
pub fn expect_root(
    disk: &dyn Disk,
    _guard: &Guard,
    prefix: &Prefix,
    fingerprint: Digest,
) -> Result<(), RootError> {
    if let Some((_, newer)) = roots(prefix)?.newer_than(&fingerprint) {
        let place = newer.previous.iter().position(|root| *root == fingerprint);
        return Err(RootError::Older {
            found: place.map_or(0, |place| place as u32 + 1),
            version: newer.version,
        });
    }
    if is_named(prefix, &fingerprint) {
        return Ok(());
    }
    let path = own_file(prefix, &fingerprint, "expected");
    put(disk, prefix, &path, b"", Action::Trust { fingerprint })?;
    Ok(())
}

/// Keeps a root that is trusted, and then takes away the earlier ones that it names. One that is kept already, or is
/// older than one that is, changes nothing.
pub(crate) fn keep_root(
    disk: &dyn Disk,
    prefix: &Prefix,
    document: &[u8],
    action: Action,
) -> Result<(), JournalError> {
    let fingerprint = Digest::of(document);
    let superseded = roots(prefix).is_ok_and(|roots| roots.newer_than(&fingerprint).is_some());
    if superseded {
        return Ok(());
    }
    let path = own_file(prefix, &fingerprint, "json");
    if !is_kept(prefix, &fingerprint) {
        put(disk, prefix, &path, document, action)?;
    }
    let earlier = RootDocument::parse(document).map_or(Vec::new(), |root| root.previous);
    let gone = earlier
        .iter()
        .flat_map(|root| ["json", "expected"].map(|ending| own_file(prefix, root, ending)))
        .chain([own_file(prefix, &fingerprint, "expected")]);
    let mut changed = false;
    for path in gone.filter(|path| path.exists()) {
        disk.remove_file(&path)?;
        changed = true;
    }
    if changed {
        disk.sync_dir(&prefix.trust())?;
    }
    Ok(())
}

/// Writes a file of `trust.d` in one step. The entry in the log comes first.
fn put(
    disk: &dyn Disk,
    prefix: &Prefix,
    path: &Path,
    bytes: &[u8],
    action: Action,
) -> Result<(), JournalError> {
    let folder = prefix.trust();
    disk.create_dir(&folder)?;
    let next = folder.join(".next");
    disk.remove_file(&next)?;
    write_new(disk, &next, bytes, 0o444)?;
    Journal::read(prefix)?.add(disk, prefix, action)?;
    disk.rename(&next, path)?;
    disk.sync_dir(&folder)?;
    Ok(())
}

/// Fails where [`remove_root`] would not take this root.
///
/// # Errors
/// When it is not trusted, is the machine's own, or an installed release stands on it or an earlier one: an audit could
/// say nothing of that any more.
pub fn removable_root(prefix: &Prefix, fingerprint: Digest) -> Result<(), RootError> {
    let files = own_files(prefix, &fingerprint);
    let mut chain = vec![fingerprint];
    if files[0].exists() {
        let bytes = read_small(&files[0], LONGEST_ROOT)?;
        // A file that is no root can go as well.
        chain.extend(RootDocument::parse(&bytes).map_or(Vec::new(), |root| root.previous));
    }
    // What the machine trusts would still count, and an earlier root would count again.
    for root in &chain {
        let path = system_file(prefix, root);
        if path.exists() {
            return Err(RootError::System { path });
        }
    }
    if !files.iter().any(|file| file.exists()) {
        return Err(RootError::Unknown { fingerprint });
    }
    for release in prefix.installed()? {
        if chain.contains(&ReleaseRecord::read(prefix, &release)?.root) {
            return Err(RootError::InUse { release });
        }
    }
    Ok(())
}

/// Trusts a root no more.
///
/// # Errors
/// As [`removable_root`], and when the log or the disk fails.
pub fn remove_root(
    disk: &dyn Disk,
    _guard: &Guard,
    prefix: &Prefix,
    fingerprint: Digest,
) -> Result<(), RootError> {
    removable_root(prefix, fingerprint)?;
    let action = Action::Distrust { fingerprint };
    Journal::read(prefix)?.add(disk, prefix, action)?;
    for file in &own_files(prefix, &fingerprint) {
        disk.remove_file(file)?;
    }
    disk.sync_dir(&prefix.trust())?;
    Ok(())
}

/// Whether the document of a root is kept here, or by the machine.
pub(crate) fn is_kept(prefix: &Prefix, root: &Digest) -> bool {
    own_file(prefix, root, "json").exists() || system_file(prefix, root).exists()
}

/// Whether a root is kept, or named before its document came.
pub(crate) fn is_named(prefix: &Prefix, root: &Digest) -> bool {
    is_kept(prefix, root) || own_file(prefix, root, "expected").exists()
}

fn own_files(prefix: &Prefix, root: &Digest) -> [PathBuf; 2] {
    ["json", "expected"].map(|ending| own_file(prefix, root, ending))
}

fn own_file(prefix: &Prefix, root: &Digest, ending: &str) -> PathBuf {
    prefix.trust().join(format!("{}.{ending}", root.hex()))
}

fn system_file(prefix: &Prefix, root: &Digest) -> PathBuf {
    prefix.system_trust().join(format!("{}.json", root.hex()))
}

fn chain_error(prefix: &Prefix, fault: Fault) -> RootError {
    let path = prefix.trust();
    let fault = Box::new(VerifyError {
        path,
        fault,
        cause: None,
    });
    RootError::Chain { fault }
}

const LONGEST_ROOT: u64 = 64 * 1024;
