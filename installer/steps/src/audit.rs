//! Is each installed file what was signed, by whom, and where did it come from?
//!
//! An audit trusts the roots in `trust.d/` and nothing else: it checks the release's signatures again, computes
//! the tree that follows from them, and reads every file that is there. Whatever is left over is named.

mod error;
mod finding;
mod installed;

use std::collections::BTreeMap;
use std::fs;
use std::io;

use manifest_schema::Digest;
use report::{Sink, Step};

pub use error::AuditError;
pub use finding::{Audit, AuditedFile, Standing};
pub(crate) use installed::Installed;

use crate::check::check_file;
use crate::converted;
use crate::disk::DiskError;
use crate::environment::{FromWheels, digest_of, walk};
use crate::journal::Journal;
use crate::prefix::{Prefix, ReleaseName};
use crate::release::RECORD;
use crate::store::hash_file;
use crate::tree::File;

/// Checks every file of `name`, of the conversion cache, and of the prefix itself. Without a log that holds, nothing
/// vouches for the release's record.
///
/// # Errors
/// When the release's metadata is not signed under a trusted root, its record cannot be read, or a folder cannot be
/// listed. Files that are not as they should be, or cannot be read, are no error: they are in the report.
pub fn audit(
    prefix: &Prefix,
    name: &ReleaseName,
    journal: Option<&Journal>,
    sink: &dyn Sink,
) -> Result<Audit, AuditError> {
    let installed = Installed::open(prefix, name)?;
    let mut work = Work {
        prefix,
        name,
        installed: &installed,
        files: Vec::new(),
    };
    let total = Some(installed.tree.len() as u64);
    let step = Step::start(sink, "install.working.check", "", total, "files");
    work.tree(&step);
    step.finish();
    work.metadata(journal)?;
    work.environment()?;
    work.leftovers()?;
    work.converted()?;
    work.strangers()?;
    let mut files = work.files;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Audit {
        release: name.clone(),
        statement: installed.signed.statement,
        root: installed.signed.root,
        keys: installed.signed.key_ids,
        files,
        log_entries: journal.map(|journal| journal.entries().len()),
    })
}

struct Work<'a> {
    prefix: &'a Prefix,
    name: &'a ReleaseName,
    installed: &'a Installed,
    files: Vec<AuditedFile>,
}

impl Work<'_> {
    fn path(&self, inside: &str) -> String {
        format!("releases/{}/{inside}", self.name)
    }

    fn add(&mut self, path: String, standing: Standing) -> &mut AuditedFile {
        let position = self.files.len();
        self.files.push(AuditedFile {
            path,
            standing,
            digest: None,
            origin: None,
            made_from: None,
            license: None,
            code_on_load: None,
        });
        &mut self.files[position]
    }

    fn tree(&mut self, step: &Step<'_>) {
        let installed = self.installed;
        let folder = self.prefix.release(self.name);
        for (count, (path, file)) in installed.tree.iter().enumerate() {
            let found = check_file(&folder.join(path), file);
            let path = self.path(path);
            match file {
                File::Derived { .. } => {
                    self.add(path, Standing::Derived.unless(found));
                }
                File::Signed { placed, owner } => {
                    let provenance = &installed.signed.provenance;
                    let origin = provenance.blobs.get(placed.blob()).cloned();
                    let code = owner.as_ref().and_then(|owner| {
                        provenance.code_of(owner.kind, &owner.name, &placed.path)
                    });
                    let entry = self.add(path, Standing::Signed.unless(found));
                    entry.digest = Some(placed.digest);
                    entry.code_on_load = code.cloned();
                    entry.license = owner
                        .as_ref()
                        .map(|owner| owner.license.clone())
                        .or_else(|| origin.as_ref().and_then(|origin| origin.license.clone()));
                    entry.made_from = placed.made_from.as_ref().map(|made| made.blob.to_string());
                    entry.origin = origin;
                }
            }
            step.progress(count as u64 + 1);
        }
    }

    fn metadata(&mut self, journal: Option<&Journal>) -> Result<(), AuditError> {
        let installed = self.installed;
        let folder = self.prefix.release(self.name);
        let there = walk(&folder.join("meta"))?;
        let there: Vec<String> = there.iter().map(|path| format!("meta/{path}")).collect();
        for path in &there {
            let found = digest_of(&folder.join(path));
            let expected = installed.signed.files.get(path).copied();
            let standing = Standing::of(Standing::Signed, expected, found);
            self.add(self.path(path), standing);
        }
        let signed = installed.signed.files.keys();
        for path in signed.filter(|path| !there.contains(path)) {
            self.add(self.path(path), Standing::Missing);
        }
        let logged = journal.and_then(|journal| journal.record_of(self.name));
        let standing = match logged {
            None => Standing::Changed,
            logged => {
                let found = digest_of(&folder.join(RECORD));
                Standing::of(Standing::MadeOnSite, logged, found)
            }
        };
        let path = self.path(RECORD);
        self.add(path, standing).made_from = Some("ferry-installer".to_owned());
        Ok(())
    }

    fn environment(&mut self) -> Result<(), AuditError> {
        let installed = self.installed;
        let python = installed.backend.as_ref().and_then(|b| b.python.as_ref());
        let Some(python) = python else {
            return Ok(());
        };
        let folder = self.prefix.release(self.name);
        let intact = python.wheels.iter().all(|wheel| {
            let path = self.path(&format!("wheels/{}", wheel.path));
            self.files
                .iter()
                .any(|file| file.path == path && file.standing == Standing::Signed)
        });
        // A list that lies in a changed wheel says nothing.
        let from_wheels = if intact {
            FromWheels::read(&folder.join("wheels"), python)?
        } else {
            FromWheels {
                files: BTreeMap::new(),
            }
        };
        let env = folder.join("env");
        let there = walk(&env)?;
        for path in &there {
            let found = digest_of(&env.join(path));
            let (expected, made_from, right) = match from_wheels.files.get(path) {
                Some((digest, wheel)) => (Some(*digest), wheel.clone(), Standing::FromWheel),
                None => (
                    installed.record.made_on_site.get(path).copied(),
                    "uv".to_owned(),
                    Standing::MadeOnSite,
                ),
            };
            let standing = Standing::of(right, expected, found);
            let path = self.path(&format!("env/{path}"));
            let entry = self.add(path, standing);
            entry.digest = expected;
            entry.made_from = expected.is_some().then_some(made_from);
        }
        let expected = from_wheels
            .files
            .keys()
            .chain(installed.record.made_on_site.keys());
        let missing: Vec<String> = expected
            .filter(|path| there.binary_search(path).is_err())
            .map(|path| self.path(&format!("env/{path}")))
            .collect();
        for path in missing {
            self.add(path, Standing::Missing);
        }
        Ok(())
    }

    /// Files of the release that nobody signed.
    fn leftovers(&mut self) -> Result<(), AuditError> {
        let has_environment = self
            .installed
            .backend
            .as_ref()
            .is_some_and(|b| b.python.is_some());
        for path in walk(&self.prefix.release(self.name))? {
            let known = self.installed.tree.contains_key(&path)
                || path == RECORD
                || path.starts_with("meta/")
                || (has_environment && path.starts_with("env/"));
            if !known {
                let path = self.path(&path);
                self.add(path, Standing::Unsigned);
            }
        }
        Ok(())
    }

    fn converted(&mut self) -> Result<(), AuditError> {
        let signed: Vec<Digest> = self
            .installed
            .tree
            .values()
            .filter_map(|file| match file {
                File::Signed { placed, .. } => Some(placed.digest),
                File::Derived { .. } => None,
            })
            .collect();
        let mut found = converted::check(self.prefix, &signed)?;
        self.files.append(&mut found);
        Ok(())
    }

    /// What lies in the prefix besides the things that the installer and the runtime put there.
    fn strangers(&mut self) -> Result<(), AuditError> {
        let root = self.prefix.path();
        let entries = fs::read_dir(root).map_err(DiskError::of("list", root))?;
        for entry in entries {
            let name = entry.map_err(DiskError::of("list", root))?.file_name();
            let name = name.to_string_lossy().into_owned();
            if !KNOWN.contains(&name.as_str()) {
                self.add(name, Standing::Unsigned);
            }
        }
        let store = self.prefix.store();
        for path in walk(&store)? {
            let expected = Digest::parse_hex(&path).ok();
            let found = hash_file_or_link(&store.join(&path));
            let standing = Standing::of(Standing::Signed, expected, found);
            if standing.is_wrong() {
                self.add(format!("store/sha256/{path}"), standing);
            }
        }
        Ok(())
    }
}

fn hash_file_or_link(path: &std::path::Path) -> Result<Digest, DiskError> {
    match hash_file(path) {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => digest_of(path),
        other => other,
    }
}

/// What the installer and the runtime make right below the prefix.
const KNOWN: [&str; 10] = [
    "keys",
    "store",
    "releases",
    "current",
    "cache",
    "log",
    "trust.d",
    "host",
    "lock",
    ".current.next",
];
