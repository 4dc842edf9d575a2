//! The steps of an install, worked out before anything is written.

mod error;
mod step;

use std::collections::BTreeMap;
use std::path::PathBuf;

use bundle_format::{RootDocument, Verified};
use manifest_schema::{
    Arch, Backend, BackendName, ByteSize, Digest, Image, MadeFrom, PackageSetName,
};

pub use error::PlanError;
pub use step::Step;

use crate::disk::{FreeSpace, free_space};
use crate::journal::Journal;
use crate::prefix::{Prefix, ReleaseName};
use crate::program::ProgramError;
use crate::python::find_python;
use crate::release::ReleaseRecord;
use crate::roots::{is_kept, is_named};
use crate::tree::{File, Tree, images_of, tree};

/// What the person who installs has decided.
#[derive(Clone, Debug, Default)]
pub struct Choices {
    /// The backend, where the bundle has one.
    pub backend: Option<BackendName>,
    /// The machine's architecture: where no backend says it, images are chosen by it.
    pub arch: Option<Arch>,
    /// The set of packages for the machine's operating system, where the bundle has one.
    pub os_packages: Option<PackageSetName>,
    /// Let an older release replace a newer one.
    pub allow_downgrade: bool,
    /// Where this machine keeps its programs: a Python is looked for there.
    pub program_folders: Vec<PathBuf>,
    /// Codes of checks that would have stopped the install and were waived by name.
    pub waived: Vec<String>,
    /// Facts that were stated instead of measured.
    pub facts: BTreeMap<String, String>,
}

/// An install, worked out in full.
#[derive(Clone, Debug)]
pub struct InstallPlan {
    /// Name of the release.
    pub release: ReleaseName,
    /// The chosen backend.
    pub backend: Option<Backend>,
    /// What is done, in this order.
    pub steps: Vec<Step>,
    /// Bytes that the disk must have free.
    pub needed: ByteSize,
    /// Bytes that it has.
    pub free: ByteSize,
    /// An older release replaces a newer one.
    pub downgrade: bool,
    /// Container images that the release will hold, by name and tag.
    pub images: Vec<String>,
    pub(crate) tree: Tree,
    pub(crate) blobs: Vec<StoredBlob>,
    pub(crate) record: ReleaseRecord,
    pub(crate) program_folders: Vec<PathBuf>,
    pub(crate) waived: Vec<String>,
    pub(crate) facts: BTreeMap<String, String>,
}

/// A blob that the store must have.
#[derive(Clone, Debug)]
pub(crate) struct StoredBlob {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) executable: bool,
    pub(crate) made_from: Option<MadeFrom>,
}

impl InstallPlan {
    /// Works out how to install `bundle` below `prefix`. Reads, and writes nothing.
    ///
    /// # Errors
    /// When the install cannot succeed: no such backend, no space, no Python, an older release.
    pub fn compute(
        bundle: &Verified,
        prefix: &Prefix,
        choices: &Choices,
    ) -> Result<Self, PlanError> {
        let profiles = &bundle.profiles;
        let backend = choose(&profiles.backends, choices.backend.as_ref())?;
        let statement = bundle.statement_digest;
        let os_packages = choices.os_packages.as_ref();
        // Who chose the set took it from these profiles; one that is not there is not installed.
        let set = profiles
            .os_packages
            .iter()
            .find(|set| Some(&set.name) == os_packages);
        let name = ReleaseName::of(
            profiles,
            &statement,
            backend.map(|found| &found.name),
            set.map(|set| &set.name),
        );
        let arch = backend.is_none().then_some(choices.arch).flatten();
        let arch = arch.filter(|_| !profiles.images.is_empty());
        let images = images_of(profiles, backend, arch);
        let tree = tree(profiles, backend, arch, set, prefix.path())
            .map_err(|clash| PlanError::Clash { path: clash.path })?;
        let newest = Journal::read(prefix)?.highest(&profiles.channel);
        let downgrade = newest.is_some_and(|newest| profiles.release < newest);
        if let (true, false, Some(newest)) = (downgrade, choices.allow_downgrade, newest) {
            return Err(PlanError::Downgrade {
                channel: profiles.channel.clone(),
                found: profiles.release,
                newest,
            });
        }
        let mut plan = Self {
            record: ReleaseRecord {
                format: 1,
                name: profiles.name.clone(),
                release: profiles.release,
                channel: profiles.channel.clone(),
                statement,
                root: bundle.fingerprint,
                keys: bundle.key_ids.clone(),
                backend: backend.map(|found| found.name.clone()),
                arch,
                os_packages: set.map(|set| set.name.clone()),
                installer: env!("CARGO_PKG_VERSION").to_owned(),
                made_on_site: BTreeMap::new(),
            },
            release: name,
            backend: backend.cloned(),
            steps: Vec::new(),
            needed: ByteSize(0),
            free: ByteSize(0),
            downgrade,
            images: images.iter().map(Image::reference).collect(),
            blobs: blobs_of(&tree),
            tree,
            program_folders: choices.program_folders.clone(),
            waived: choices.waived.clone(),
            facts: choices.facts.clone(),
        };
        plan.check_delta(bundle, prefix)?;
        plan.add_steps(bundle, prefix)?;
        Ok(plan)
    }

    /// Whether a program of the release is run while it is installed.
    pub fn runs_programs(&self) -> bool {
        let runs = |step: &Step| matches!(step, Step::MakeEnvironment { .. } | Step::SmokeTest);
        self.steps.iter().any(runs)
    }

    /// Names of the units that the release brings for systemd.
    pub fn units(&self) -> Vec<String> {
        let names = self
            .tree
            .keys()
            .filter_map(|path| path.strip_prefix("systemd/"));
        names.map(str::to_owned).collect()
    }

    /// Fails where the disk has no room for `more` bytes beside this install.
    ///
    /// # Errors
    /// [`PlanError::NoSpace`], with what both need together.
    pub fn room_for(&self, prefix: &Prefix, more: ByteSize) -> Result<(), PlanError> {
        let needed = ByteSize(self.needed.0.saturating_add(more.0));
        if more.0 == 0 || needed <= self.free {
            return Ok(());
        }
        Err(PlanError::NoSpace {
            path: prefix.path().to_owned(),
            free: self.free,
            needed,
        })
    }

    /// What a delta leaves out must be in the store before anything is touched.
    fn check_delta(&self, bundle: &Verified, prefix: &Prefix) -> Result<(), PlanError> {
        let source = |blob: &StoredBlob| blob.made_from.as_ref().map_or(blob.digest, |m| m.blob);
        let missing: Vec<Digest> = self
            .blobs
            .iter()
            .filter(|blob| bundle.blob(&source(blob)).is_none() && !is_stored(prefix, blob))
            .map(|blob| blob.digest)
            .collect();
        match missing.first() {
            None => Ok(()),
            Some(first) => Err(PlanError::DeltaBase {
                count: missing.len(),
                first: *first,
            }),
        }
    }

    fn add_steps(&mut self, bundle: &Verified, prefix: &Prefix) -> Result<(), PlanError> {
        let leftovers = prefix.leftovers()?;
        if !leftovers.is_empty() {
            self.steps.push(Step::ClearLeftovers { paths: leftovers });
        }
        let space = free_space(prefix.path())?;
        self.free = ByteSize(space.bytes);
        if prefix.release(&self.release).exists() {
            self.steps.push(Step::CheckRelease {
                release: self.release.clone(),
            });
        } else {
            self.add_build_steps(prefix, &space)?;
        }
        self.steps.extend(root_step(bundle, prefix));
        let from = prefix.current()?;
        if from.as_ref() != Some(&self.release) {
            let to = self.release.clone();
            self.steps.push(Step::Switch { from, to });
        }
        Ok(())
    }

    fn add_build_steps(&mut self, prefix: &Prefix, space: &FreeSpace) -> Result<(), PlanError> {
        let (mut blobs, mut bytes, mut kept, mut needed) = (0, 0, 0, 0);
        let whole_blocks = |size: u64| size.div_ceil(space.block).saturating_mul(space.block);
        for blob in &self.blobs {
            if is_stored(prefix, blob) {
                kept += 1;
            } else {
                blobs += 1;
                bytes += blob.size;
                needed += whole_blocks(blob.size);
            }
        }
        for file in self.tree.values() {
            // Every path may need a folder of its own; a link needs no more than its name in one.
            needed += space.block;
            if let File::Derived { bytes, .. } = file {
                needed += whole_blocks(bytes.len() as u64);
            }
        }
        let python = self.backend.as_ref().and_then(|b| b.python.as_ref());
        if let Some(python) = python {
            let packed: u64 = python.wheels.iter().map(|wheel| wheel.size.0).sum();
            needed += packed.saturating_mul(UNPACKED_WHEEL);
        }
        needed += METADATA_ROOM;
        self.needed = ByteSize(needed);
        if needed > space.bytes {
            return Err(PlanError::NoSpace {
                path: prefix.path().to_owned(),
                free: self.free,
                needed: self.needed,
            });
        }
        if let Some(free) = space.entries.filter(|left| *left < self.entries()) {
            return Err(PlanError::NoEntries {
                path: prefix.path().to_owned(),
                free,
                needed: self.entries(),
            });
        }
        self.steps.push(Step::StoreBlobs {
            blobs,
            bytes: ByteSize(bytes),
            kept,
        });
        self.steps.push(Step::BuildTree {
            files: self.tree.len(),
        });
        if let Some(python) = python {
            let brought = self.tree.contains_key("backend/python/bin/python3");
            if !brought && find_python(&python.version, &self.program_folders).is_none() {
                let version = python.version.clone();
                return Err(ProgramError::NoPython { version }.into());
            }
            if !self.tree.contains_key("backend/bin/uv") {
                return Err(ProgramError::NoUv.into());
            }
            self.steps.push(Step::MakeEnvironment {
                python: python.version.clone(),
                wheels: python.wheels.len(),
            });
        }
        if self.tree.contains_key("bin/ferry-runtime") {
            self.steps.push(Step::SmokeTest);
        }
        self.steps.push(Step::Publish {
            release: self.release.clone(),
        });
        Ok(())
    }

    /// Files and folders that the install makes, at most.
    fn entries(&self) -> u64 {
        2 * (self.blobs.len() + self.tree.len()) as u64
    }
}

/// How the bundle's newest root is remembered: not at all where it or a newer one is.
fn root_step(bundle: &Verified, prefix: &Prefix) -> Option<Step> {
    let fingerprint = bundle.fingerprint;
    if bundle.newer_root.is_some() || is_kept(prefix, &fingerprint) {
        return None;
    }
    let earlier = RootDocument::parse(bundle.root_document())
        .map(|root| root.previous)
        .unwrap_or_default();
    let version = bundle.root_version;
    if earlier.iter().any(|earlier| is_named(prefix, earlier)) {
        Some(Step::FollowRoot {
            fingerprint,
            version,
        })
    } else {
        Some(Step::Trust { fingerprint })
    }
}

/// Whether the store has a blob, by its name and size; its bytes are read when it is used.
pub(crate) fn is_stored(prefix: &Prefix, blob: &StoredBlob) -> bool {
    std::fs::symlink_metadata(prefix.blob(&blob.digest))
        .is_ok_and(|found| found.is_file() && found.len() == blob.size)
}

/// The chosen backend; a bundle with exactly one needs no choice, one with none has none.
fn choose<'a>(
    backends: &'a [Backend],
    wanted: Option<&BackendName>,
) -> Result<Option<&'a Backend>, PlanError> {
    let Some(wanted) = wanted else {
        return Ok(match backends {
            [only] => Some(only),
            _ => None,
        });
    };
    let found = backends.iter().find(|backend| &backend.name == wanted);
    found.map(Some).ok_or_else(|| {
        let names: Vec<&str> = backends.iter().map(|b| b.name.as_str()).collect();
        PlanError::NoBackend {
            wanted: wanted.clone(),
            known: names.join(", "),
        }
    })
}

/// Every blob of the tree once. One that any file runs may be run wherever it is linked: the links share
/// their permission bits.
fn blobs_of(tree: &Tree) -> Vec<StoredBlob> {
    let mut blobs = BTreeMap::new();
    for file in tree.values() {
        let File::Signed { placed, .. } = file else {
            continue;
        };
        blobs
            .entry(placed.digest)
            .or_insert_with(|| StoredBlob {
                digest: placed.digest,
                size: placed.size.0,
                executable: false,
                made_from: placed.made_from.clone(),
            })
            .executable |= placed.executable;
    }
    blobs.into_values().collect()
}

/// Wheels are deflated archives. Taken to grow at most four times; uv unpacks them into its cache and links them from there.
const UNPACKED_WHEEL: u64 = 4;
/// Statement, signatures, index, log: more than they ever take.
const METADATA_ROOM: u64 = 4 * 1024 * 1024;
