//! Carries out a plan: store, tree, environment, smoke test, name, switch.
//!
//! Until the rename nothing but the store and a staging folder has changed, and until the switch `current`
//! names what it named before. So power may go at any operation: the next install clears what was left and
//! takes up the blobs that are whole.

use std::path::PathBuf;

use bundle_format::{Verified, VerifyError};
use manifest_schema::Digest;
use report::{Args, Diagnose, Outcome, Sink};
use vendor_signature::VendorSignatureError;

use crate::check::check_tree;
use crate::disk::{Disk, DiskError, write_new_unsynced};
use crate::environment::FromWheels;
use crate::fill::fill;
use crate::guard::Guard;
use crate::journal::{Action, Journal, JournalError};
use crate::lay_out::lay_out;
use crate::plan::{InstallPlan, Step};
use crate::prefix::{Prefix, ReleaseName, switch_current};
use crate::program::ProgramError;
use crate::python::{self, UV_CACHE};
use crate::release::{RECORD, ReleaseRecord};
use crate::roots::keep_root;
use crate::store::hash_file;
use crate::vendor;

/// An install did not come to its end. What was current before still is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// The bundle's bytes are not what was signed.
    #[error(transparent)]
    Bundle(#[from] VerifyError),
    /// Filling a template does not give the signed file.
    #[error("filling template {blob} does not give {expected}, which was signed")]
    WrongFill {
        /// The template.
        blob: Digest,
        /// The signed digest of the result.
        expected: Digest,
    },
    /// The release is installed, and is not what was signed any more.
    #[error(
        "release `{release}` is installed, and {count} of its files are not as signed: `{first}`"
    )]
    Damaged {
        /// Its name.
        release: ReleaseName,
        /// How many files.
        count: usize,
        /// The first of them.
        first: String,
    },
    /// A package is not what its vendor signed.
    #[error(transparent)]
    Vendor(#[from] VendorSignatureError),
    /// A program of the bundle failed.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The log could not be continued.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Diagnose for InstallError {
    fn code(&self) -> &'static str {
        match self {
            Self::Bundle(error) => error.code(),
            Self::WrongFill { .. } => "install.wrong-fill",
            Self::Damaged { .. } => "install.release-damaged",
            Self::Vendor(error) => error.code(),
            Self::Program(error) => error.code(),
            Self::Journal(error) => error.code(),
            Self::Disk(error) => error.code(),
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::Bundle(error) => error.args(),
            Self::WrongFill { blob, expected } => {
                vec![("blob", blob.hex()), ("expected", expected.hex())]
            }
            Self::Damaged {
                release,
                count,
                first,
            } => vec![
                ("release", release.to_string()),
                ("count", count.to_string()),
                ("first", first.clone()),
            ],
            Self::Vendor(error) => error.args(),
            Self::Program(error) => error.args(),
            Self::Journal(error) => error.args(),
            Self::Disk(error) => error.args(),
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Bundle(error) => error.outcome(),
            Self::WrongFill { .. } | Self::Damaged { .. } => Outcome::Untrusted,
            Self::Vendor(error) => error.outcome(),
            Self::Program(error) => error.outcome(),
            Self::Journal(error) => error.outcome(),
            Self::Disk(error) => error.outcome(),
        }
    }
}

/// Carries out `plan`, which was computed under the same guard.
///
/// # Errors
/// When any step fails. What the steps before it did is undone; whole blobs stay, so that another try is
/// shorter, unless the bundle itself was wrong: then this call leaves nothing of it.
pub fn install(
    disk: &dyn Disk,
    guard: &Guard,
    prefix: &Prefix,
    bundle: &Verified,
    plan: &InstallPlan,
    sink: &dyn Sink,
) -> Result<(), InstallError> {
    let mut run = Run {
        disk,
        prefix,
        bundle,
        plan,
        sink,
        written: Vec::new(),
    };
    let result = plan.steps.iter().try_for_each(|step| run.step(step));
    if let Err(error) = &result {
        run.undo(error.outcome() == Outcome::Untrusted, guard.made_prefix);
    }
    result
}

struct Run<'a> {
    disk: &'a dyn Disk,
    prefix: &'a Prefix,
    bundle: &'a Verified,
    plan: &'a InstallPlan,
    sink: &'a dyn Sink,
    written: Vec<Digest>,
}

impl Run<'_> {
    fn step(&mut self, step: &Step) -> Result<(), InstallError> {
        let working = |code| report::Step::start(self.sink, code, "", None, "steps");
        match step {
            Step::ClearLeftovers { paths } => self.clear(paths),
            Step::StoreBlobs { .. } => {
                let (written, result) = fill(
                    self.disk,
                    self.bundle,
                    self.prefix,
                    &self.plan.blobs,
                    self.sink,
                );
                self.written = written;
                result
            }
            Step::BuildTree { .. } => {
                self.build_tree()?;
                if let Some(backend) = &self.plan.backend {
                    vendor::check_signatures(&self.staging().join("backend"), backend, self.sink)?;
                }
                Ok(())
            }
            Step::MakeEnvironment { .. } => {
                let working = working("install.working.environment");
                self.make_environment(&|| working.progress(0))?;
                working.finish();
                Ok(())
            }
            Step::SmokeTest => {
                let working = working("install.working.smoke-test");
                python::smoke_test(&self.staging(), &|| working.progress(0))?;
                working.finish();
                Ok(())
            }
            Step::Publish { release } => {
                let working = working("install.working.sync");
                self.publish(release)?;
                working.finish();
                Ok(())
            }
            Step::CheckRelease { release } => self.check_release(release),
            Step::Trust { fingerprint } => self.trust(Action::Trust {
                fingerprint: *fingerprint,
            }),
            Step::FollowRoot {
                fingerprint,
                version,
            } => self.trust(Action::FollowRoot {
                fingerprint: *fingerprint,
                version: *version,
            }),
            Step::Switch { to, .. } => self.switch(to),
        }
    }

    fn staging(&self) -> PathBuf {
        self.prefix.staging(&self.plan.release)
    }

    fn clear(&self, paths: &[PathBuf]) -> Result<(), InstallError> {
        for path in paths {
            if path.is_dir() {
                self.disk.remove_tree(path)?;
            } else {
                self.disk.remove_file(path)?;
            }
        }
        Ok(())
    }

    fn build_tree(&self) -> Result<(), InstallError> {
        let staging = self.staging();
        lay_out(self.disk, self.prefix, &self.plan.tree, &staging, self.sink)?;
        for (name, bytes) in &self.bundle.metadata {
            // The envelope says the statement and its signatures once more.
            if name == ENVELOPE {
                continue;
            }
            let target = staging.join(name);
            self.disk.create_dir(target.parent().unwrap_or(&staging))?;
            write_new_unsynced(self.disk, &target, bytes, 0o444)?;
        }
        Ok(())
    }

    fn make_environment(&self, tick: &dyn Fn()) -> Result<(), InstallError> {
        let environment = self.plan.backend.as_ref().and_then(|b| b.python.as_ref());
        if let Some(environment) = environment {
            let staging = self.staging();
            let folders = &self.plan.program_folders;
            let result = python::make_environment(&staging, environment, folders, tick);
            self.disk.remove_tree(&staging.join(UV_CACHE))?;
            result?;
        }
        Ok(())
    }

    fn publish(&self, release: &ReleaseName) -> Result<(), InstallError> {
        let staging = self.staging();
        let mut record = self.plan.record.clone();
        if let Some(python) = self.plan.backend.as_ref().and_then(|b| b.python.as_ref()) {
            let from_wheels = FromWheels::read(&staging.join("wheels"), python)?;
            record.made_on_site = from_wheels.made_on_site(&staging.join("env"))?;
        }
        let path = staging.join(RECORD);
        write_new_unsynced(self.disk, &path, &record.to_bytes(), 0o444)?;
        self.disk.sync_all(self.prefix.path())?;
        self.disk.rename(&staging, &self.prefix.release(release))?;
        self.disk.sync_dir(&self.prefix.releases())?;
        Ok(())
    }

    fn check_release(&self, release: &ReleaseName) -> Result<(), InstallError> {
        let problems = check_tree(&self.prefix.release(release), &self.plan.tree, self.sink)?;
        let mut wrong: Vec<&str> = problems.iter().map(|problem| &*problem.path).collect();
        if !self.has_its_record(release)? {
            wrong.push(RECORD);
        }
        match wrong.first() {
            None => Ok(()),
            Some(first) => Err(InstallError::Damaged {
                release: release.clone(),
                count: wrong.len(),
                first: (*first).to_owned(),
            }),
        }
    }

    /// Whether the record of a release that is there is the one that the log names; where power went before the log
    /// named it, whether it says what this plan does.
    fn has_its_record(&self, release: &ReleaseName) -> Result<bool, InstallError> {
        if let Some(logged) = Journal::read(self.prefix)?.record_of(release) {
            let found = hash_file(&self.prefix.release(release).join(RECORD));
            return Ok(found.is_ok_and(|found| found == logged));
        }
        let found = ReleaseRecord::read(self.prefix, release);
        Ok(found.is_ok_and(|found| found.agrees_with(&self.plan.record)))
    }

    fn trust(&self, action: Action) -> Result<(), InstallError> {
        let document = self.bundle.root_document();
        Ok(keep_root(self.disk, self.prefix, document, action)?)
    }

    /// The entry comes first: an action may be logged that power cut off, but none happens unlogged.
    fn switch(&self, to: &ReleaseName) -> Result<(), InstallError> {
        let record = &self.plan.record;
        let written = self.prefix.release(to).join(RECORD);
        self.log(Action::Install {
            release: to.clone(),
            statement: record.statement,
            record: hash_file(&written)?,
            keys: record.keys.clone(),
            backend: record.backend.clone(),
            channel: record.channel.clone(),
            number_in_channel: record.release,
            downgrade: self.plan.downgrade,
            waived: self.plan.waived.clone(),
            facts: self.plan.facts.clone(),
        })?;
        switch_current(self.disk, self.prefix, to)?;
        Ok(())
    }

    fn log(&self, action: Action) -> Result<(), JournalError> {
        Journal::read(self.prefix)?.add(self.disk, self.prefix, action)
    }

    /// Takes back what was done. Failing to is no news: the next install clears what is left.
    fn undo(&self, untrusted: bool, made_prefix: bool) {
        let _ = self.disk.remove_tree(&self.staging());
        if !untrusted {
            return;
        }
        for digest in &self.written {
            let _ = self.disk.remove_file(&self.prefix.blob(digest));
        }
        if let Ok(leftovers) = self.prefix.leftovers() {
            let _ = self.clear(&leftovers);
        }
        if made_prefix {
            let _ = self.disk.remove_file(&self.prefix.lock());
            let store = self.prefix.store();
            let folders = [
                store.as_path(),
                store.parent().unwrap_or(&store),
                &self.prefix.releases(),
                self.prefix.path(),
            ];
            for folder in folders {
                let _ = self.disk.remove_empty_dir(folder);
            }
        }
    }
}

const ENVELOPE: &str = "meta/statement.dsse.json";
