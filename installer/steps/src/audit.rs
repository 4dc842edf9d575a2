//! Is each installed file what was signed, by whom, and where did it come from?
//!
//! An audit trusts the roots in `trust.d/` and nothing else: it checks the release's signatures again, computes
//! the tree that follows from them, and reads every file that is there. Whatever is left over is named.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use bundle_format::{KeyError, SignedMetadata, VerifyError};
use manifest_schema::{Backend, CodeOnLoad, Digest, KeyId, Origin};
use report::{Args, Diagnose, Outcome, Sink, Step};
use serde::Serialize;

use crate::check::{Wrong, check_file};
use crate::converted;
use crate::disk::DiskError;
use crate::environment::{FromWheels, digest_of, walk};
use crate::journal::{Journal, JournalError};
use crate::plan::PlanError;
use crate::prefix::{Prefix, ReleaseName};
use crate::release::{RECORD, ReleaseRecord};
use crate::roots::roots;
use crate::store::hash_file;
use crate::tree::{File, Tree, tree};

/// Nothing can be said about an installed release.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// Nothing is installed.
    #[error("nothing is installed below `{prefix}`")]
    NothingInstalled {
        /// Where.
        prefix: std::path::PathBuf,
    },
    /// There is no such release.
    #[error("release `{release}` is not installed")]
    NoRelease {
        /// What was asked for.
        release: ReleaseName,
    },
    /// The release's record does not agree with what was signed.
    #[error("`release.json` of `{release}` does not agree with the signed metadata beside it")]
    Record {
        /// Which.
        release: ReleaseName,
    },
    /// The release's metadata is not signed.
    #[error(transparent)]
    Metadata(#[from] VerifyError),
    /// The trusted roots cannot be read.
    #[error(transparent)]
    Roots(#[from] KeyError),
    /// The tree cannot be computed.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The log is damaged.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Diagnose for AuditError {
    fn code(&self) -> &'static str {
        match self {
            Self::NothingInstalled { .. } => "install.nothing-installed",
            Self::NoRelease { .. } => "install.no-release",
            Self::Record { .. } => "install.record-differs",
            Self::Metadata(error) => error.code(),
            Self::Roots(error) => error.code(),
            Self::Plan(error) => error.code(),
            Self::Journal(error) => error.code(),
            Self::Disk(error) => error.code(),
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::NothingInstalled { prefix } => vec![("prefix", prefix.display().to_string())],
            Self::NoRelease { release } | Self::Record { release } => {
                vec![("release", release.to_string())]
            }
            Self::Metadata(error) => error.args(),
            Self::Roots(error) => error.args(),
            Self::Plan(error) => error.args(),
            Self::Journal(error) => error.args(),
            Self::Disk(error) => error.args(),
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::NothingInstalled { .. } | Self::NoRelease { .. } => Outcome::Failed,
            Self::Record { .. } => Outcome::Untrusted,
            Self::Metadata(error) => error.outcome(),
            Self::Roots(error) => error.outcome(),
            Self::Plan(error) => error.outcome(),
            Self::Journal(error) => error.outcome(),
            Self::Disk(error) => error.outcome(),
        }
    }
}

/// What is known of one release.
#[derive(Clone, Debug, Serialize)]
pub struct Audit {
    /// Its name.
    pub release: ReleaseName,
    /// SHA-256 of the signed statement.
    pub statement: Digest,
    /// SHA-256 of the trust root.
    pub root: Digest,
    /// Keys whose signatures hold.
    pub keys: Vec<KeyId>,
    /// Every file that is there or should be, by its path below the prefix.
    pub files: Vec<AuditedFile>,
    /// Entries of the log, whose chain holds.
    pub log_entries: usize,
}

impl Audit {
    /// The files that are not as they should be.
    pub fn problems(&self) -> impl Iterator<Item = &AuditedFile> {
        self.files.iter().filter(|file| file.standing.is_wrong())
    }
}

/// One file of an audit.
#[derive(Clone, Debug, Serialize)]
pub struct AuditedFile {
    /// Where, below the prefix.
    pub path: String,
    /// Whether it is as it should be, and by what right.
    pub standing: Standing,
    /// SHA-256 of what was signed, where it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Where it came from, or the template that it was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// What it was made from on site: a wheel, a blob.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made_from: Option<String>,
    /// Its licence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// How it runs code when it is loaded, and what allows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code_on_load: Option<CodeOnLoad>,
}

/// How a file stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// The signed digest, byte for byte.
    Signed,
    /// Follows from signed metadata, byte for byte.
    Derived,
    /// A member of a signed wheel, byte for byte.
    FromWheel,
    /// Made on site by a named program, and unchanged since.
    MadeOnSite,
    /// Should be there and is not.
    Missing,
    /// There, but not what it should be.
    Changed,
    /// Should be runnable and is not.
    NotExecutable,
    /// Nobody signed it.
    Unsigned,
}

impl Standing {
    /// Whether the file is not as it should be.
    pub fn is_wrong(self) -> bool {
        matches!(
            self,
            Self::Missing | Self::Changed | Self::NotExecutable | Self::Unsigned
        )
    }

    fn or_wrong(self, wrong: Option<Wrong>) -> Self {
        match wrong {
            None => self,
            Some(Wrong::Missing) => Self::Missing,
            Some(Wrong::Changed) => Self::Changed,
            Some(Wrong::NotExecutable) => Self::NotExecutable,
        }
    }
}

/// An installed release whose metadata is signed under a trusted root.
pub(crate) struct Installed {
    pub(crate) signed: SignedMetadata,
    pub(crate) record: ReleaseRecord,
    pub(crate) tree: Tree,
    backend: Option<Backend>,
}

impl Installed {
    /// Opens `name` and checks its metadata.
    pub(crate) fn open(prefix: &Prefix, name: &ReleaseName) -> Result<Self, AuditError> {
        let folder = prefix.release(name);
        if !folder.is_dir() {
            let release = name.clone();
            return Err(AuditError::NoRelease { release });
        }
        let roots = roots(prefix)?;
        let signed = SignedMetadata::read(&folder, &roots)?;
        let record = ReleaseRecord::read(prefix, name)?;
        let differs = || AuditError::Record {
            release: name.clone(),
        };
        let backend = match &record.backend {
            None => None,
            Some(wanted) => {
                let known = &signed.profiles.backends;
                let found = known.iter().find(|backend| &backend.name == wanted);
                Some(found.ok_or_else(differs)?.clone())
            }
        };
        let os_packages = match &record.os_packages {
            None => None,
            Some(wanted) => {
                let known = &signed.profiles.os_packages;
                let found = known.iter().find(|set| &set.name == wanted);
                Some(found.ok_or_else(differs)?.clone())
            }
        };
        let right = ReleaseName::of(
            &signed.profiles,
            &signed.statement,
            record.backend.as_ref(),
            record.os_packages.as_ref(),
        );
        if right != *name || record.statement != signed.statement {
            return Err(differs());
        }
        let tree = tree(
            &signed.profiles,
            backend.as_ref(),
            record.arch,
            os_packages.as_ref(),
            prefix.path(),
        )
        .map_err(|clash| PlanError::Clash { path: clash.path })?;
        Ok(Self {
            signed,
            record,
            tree,
            backend,
        })
    }
}

/// Checks every file of `name`, of the conversion cache, and of the prefix itself.
///
/// # Errors
/// When the release's metadata is not signed under a trusted root, or the disk fails. Files that are not as
/// they should be are no error: they are in the report.
pub fn audit(prefix: &Prefix, name: &ReleaseName, sink: &dyn Sink) -> Result<Audit, AuditError> {
    let journal = Journal::read(prefix)?;
    let installed = Installed::open(prefix, name)?;
    let mut work = Work {
        prefix,
        name,
        installed: &installed,
        files: Vec::new(),
    };
    let total = Some(installed.tree.len() as u64);
    let step = Step::start(sink, "install.working.check", "", total, "files");
    work.tree(&step)?;
    step.finish();
    work.metadata(&journal)?;
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
        log_entries: journal.entries().len(),
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

    fn tree(&mut self, step: &Step<'_>) -> Result<(), AuditError> {
        let installed = self.installed;
        let folder = self.prefix.release(self.name);
        for (count, (path, file)) in installed.tree.iter().enumerate() {
            let wrong = check_file(&folder.join(path), file)?;
            let path = self.path(path);
            match file {
                File::Derived { .. } => {
                    self.add(path, Standing::Derived.or_wrong(wrong));
                }
                File::Signed { placed, owner } => {
                    let provenance = &installed.signed.provenance;
                    let origin = provenance.blobs.get(placed.blob()).cloned();
                    let code = owner.as_ref().and_then(|owner| {
                        provenance.code_of(owner.kind, &owner.name, &placed.path)
                    });
                    let entry = self.add(path, Standing::Signed.or_wrong(wrong));
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
        Ok(())
    }

    fn metadata(&mut self, journal: &Journal) -> Result<(), AuditError> {
        let installed = self.installed;
        let folder = self.prefix.release(self.name);
        let there = walk(&folder.join("meta"))?;
        let there: Vec<String> = there.iter().map(|path| format!("meta/{path}")).collect();
        for path in &there {
            let found = digest_of(&folder.join(path))?;
            let standing = match installed.signed.files.get(path) {
                Some(digest) if *digest == found => Standing::Signed,
                Some(_) => Standing::Changed,
                None => Standing::Unsigned,
            };
            self.add(self.path(path), standing);
        }
        let signed = installed.signed.files.keys();
        for path in signed.filter(|path| !there.contains(path)) {
            self.add(self.path(path), Standing::Missing);
        }
        let record = digest_of(&folder.join(RECORD))?;
        let standing = if journal.record_of(self.name) == Some(record) {
            Standing::MadeOnSite
        } else {
            Standing::Changed
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
            let found = digest_of(&env.join(path))?;
            let (expected, made_from, right) = match from_wheels.files.get(path) {
                Some((digest, wheel)) => (Some(*digest), wheel.clone(), Standing::FromWheel),
                None => (
                    installed.record.made_on_site.get(path).copied(),
                    "uv".to_owned(),
                    Standing::MadeOnSite,
                ),
            };
            let standing = match expected {
                Some(digest) if digest == found => right,
                Some(_) => Standing::Changed,
                None => Standing::Unsigned,
            };
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
            let standing = match Digest::parse_hex(&path) {
                Ok(digest) if hash_file_or_link(&store.join(&path))? == digest => continue,
                Ok(_) => Standing::Changed,
                Err(_) => Standing::Unsigned,
            };
            self.add(format!("store/sha256/{path}"), standing);
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
