//! Takes what an install needs from discs that come one after the other, in any order.
//!
//! Each blob goes into the store as soon as all its pieces are there, so an install that is stopped between two discs
//! does not ask for the first again, but for a blob that lay on both. What lies on several discs is written in place
//! as its pieces come.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use bundle_format::{Fault, Verified, VerifyError};
use manifest_schema::Digest;
use report::{Args, Diagnose, Outcome, Sink, Step};

use crate::disk::{Disk, DiskError, NewFile};
use crate::guard::Guard;
use crate::host::HostPlan;
use crate::install::InstallError;
use crate::plan::{InstallPlan, StoredBlob, is_stored};
use crate::prefix::Prefix;

/// Discs could not be taken in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiscsError {
    /// As in any install.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// The next disc could not be asked for.
    #[error("{0}")]
    Asked(Box<dyn Diagnose>),
}

impl DiscsError {
    fn one(&self) -> &dyn Diagnose {
        match self {
            Self::Install(error) => error,
            Self::Asked(error) => &**error,
        }
    }
}

impl Diagnose for DiscsError {
    fn code(&self) -> &'static str {
        self.one().code()
    }

    fn args(&self) -> Args {
        self.one().args()
    }

    fn outcome(&self) -> Outcome {
        self.one().outcome()
    }
}

/// What is still needed, for the one who puts discs in.
#[derive(Debug)]
pub struct Need<'a> {
    /// Volumes that hold something of it.
    pub volumes: BTreeSet<u32>,
    /// How many volumes there are.
    pub of: u32,
    /// Why what was put in last did not help.
    pub wrong: Option<&'a VerifyError>,
    /// Volumes that were put in last and held nothing that is needed.
    pub idle: Vec<u32>,
}

/// Asks for the place of another disc.
pub type Next<'a> = dyn FnMut(&Need<'_>) -> Result<PathBuf, Box<dyn Diagnose>> + 'a;

/// The volumes that are not at hand and hold something that this install has to read.
///
/// # Errors
/// When a blob is in no volume and not in the store.
pub fn needed_volumes(
    bundle: &Verified,
    prefix: &Prefix,
    plan: &InstallPlan,
    host: &HostPlan,
) -> Result<BTreeSet<u32>, VerifyError> {
    let missing = bundle.missing();
    let mut needed = BTreeSet::new();
    for blob in wanted(bundle, prefix, plan, host) {
        needed.extend(bundle.volumes_of(&source(&blob), &BTreeSet::new())?);
    }
    Ok(needed.intersection(&missing).copied().collect())
}

/// Takes everything into the store that `plan` and `host` need. `next` is asked for the place of another disc until
/// nothing is missing; the files of the last one are closed by then.
///
/// # Errors
/// When a disc cannot be read or is damaged, the disk fails, or `next` does. What was taken in stays.
pub fn collect(
    disk: &dyn Disk,
    _guard: &Guard,
    prefix: &Prefix,
    bundle: &mut Verified,
    (plan, host): (&InstallPlan, &HostPlan),
    sink: &dyn Sink,
    next: &mut Next<'_>,
) -> Result<(), DiscsError> {
    let blobs = wanted(bundle, prefix, plan, host);
    let mut open: Vec<Pending<'_>> = blobs.into_iter().map(Pending::of).collect();
    let store = prefix.store();
    disk.create_dir(&store).map_err(InstallError::from)?;
    let (mut wrong, mut idle) = (None, Vec::new());
    loop {
        let before: usize = open.iter().map(|one| one.done.len()).sum::<usize>() + open.len();
        let mut left = Vec::new();
        for mut one in open {
            if !one.advance(disk, prefix, bundle, sink)? {
                left.push(one);
            }
        }
        open = left;
        let volumes = missing(bundle, &open).map_err(InstallError::from)?;
        if volumes.is_empty() {
            disk.sync_dir(&store).map_err(InstallError::from)?;
            return Ok(());
        }
        let after: usize = open.iter().map(|one| one.done.len()).sum::<usize>() + open.len();
        if before != after {
            idle.clear();
        }
        bundle.let_go().map_err(InstallError::from)?;
        let need = Need {
            volumes,
            of: bundle.volumes(),
            wrong: wrong.as_ref(),
            idle: std::mem::take(&mut idle),
        };
        let place = next(&need).map_err(DiscsError::Asked)?;
        (wrong, idle) = match bundle.take(&place) {
            Ok(numbers) => {
                let helps = numbers.iter().any(|number| need.volumes.contains(number));
                (None, if helps { Vec::new() } else { numbers })
            }
            Err(error) => (Some(error), Vec::new()),
        };
    }
}

/// What the store lacks: of the release, and of the vendors' files.
fn wanted(
    bundle: &Verified,
    prefix: &Prefix,
    plan: &InstallPlan,
    host: &HostPlan,
) -> Vec<StoredBlob> {
    let of_host = host.files().map(|file| StoredBlob {
        digest: file.digest,
        size: file.size.0,
        executable: false,
        made_from: None,
    });
    let mut seen = BTreeSet::new();
    plan.blobs
        .iter()
        .cloned()
        .chain(of_host)
        .filter(|blob| bundle.blob(&source(blob)).is_some() && !is_stored(prefix, blob))
        .filter(|blob| seen.insert(blob.digest))
        .collect()
}

/// The blob of the bundle that a blob of the store is, or is made from.
fn source(blob: &StoredBlob) -> Digest {
    blob.made_from
        .as_ref()
        .map_or(blob.digest, |made| made.blob)
}

fn missing(bundle: &Verified, open: &[Pending<'_>]) -> Result<BTreeSet<u32>, VerifyError> {
    let mut volumes = BTreeSet::new();
    for one in open {
        volumes.extend(bundle.volumes_of(&source(&one.blob), &one.done)?);
    }
    Ok(volumes)
}

/// A blob whose pieces come from one disc or from several.
struct Pending<'d> {
    blob: StoredBlob,
    done: BTreeSet<usize>,
    file: Option<Box<dyn NewFile + 'd>>,
    /// A template: its file is made when all of it is there.
    text: Vec<u8>,
}

impl<'d> Pending<'d> {
    fn of(blob: StoredBlob) -> Self {
        Self {
            blob,
            done: BTreeSet::new(),
            file: None,
            text: Vec::new(),
        }
    }

    /// Takes in what is at hand. Returns whether the blob is in the store now.
    fn advance(
        &mut self,
        disk: &'d dyn Disk,
        prefix: &Prefix,
        bundle: &Verified,
        sink: &dyn Sink,
    ) -> Result<bool, InstallError> {
        let digest = source(&self.blob);
        let needed = bundle.volumes_of(&digest, &self.done)?;
        if !needed.is_empty() && needed.is_subset(&bundle.missing()) {
            return Ok(false);
        }
        let unfinished = prefix.unfinished_blob(&self.blob.digest);
        if self.file.is_none() {
            disk.remove_file(&unfinished)?;
            self.file = Some(disk.create(&unfinished)?);
        }
        let Some(file) = &mut self.file else {
            return Ok(false);
        };
        let step = Step::start(
            sink,
            "install.working.disc",
            self.blob.digest.hex()[..12].to_owned(),
            Some(self.blob.size),
            "bytes",
        );
        let template = self.blob.made_from.is_some();
        let (text, mut failed, mut count) = (&mut self.text, None, 0);
        let read = bundle.read_at_hand(&digest, &mut self.done, |offset, run| {
            count += run.len() as u64;
            step.progress(count);
            if template {
                return keep(text, offset, run).map_err(|cause| unwritable(&unfinished, cause));
            }
            file.write_at(offset, run).map_err(|cause| {
                let kind = cause.kind();
                failed = Some(cause);
                unwritable(&unfinished, kind.into())
            })
        });
        // A full disk is the disk's fault, not the disc's.
        if let Some(source) = failed {
            return Err(DiskError::of("write", &unfinished)(source).into());
        }
        let whole = read?;
        step.finish();
        if whole {
            self.settle(disk, prefix, &unfinished)?;
        }
        Ok(whole)
    }

    fn settle(
        &mut self,
        disk: &dyn Disk,
        prefix: &Prefix,
        unfinished: &Path,
    ) -> Result<(), InstallError> {
        let Some(file) = self.file.take() else {
            return Ok(());
        };
        if let Some(made) = &self.blob.made_from {
            let bytes = crate::store::fill_template(&self.blob, made, &self.text)?;
            file.write_at(0, &bytes)
                .map_err(DiskError::of("write", unfinished))?;
        }
        file.settle(if self.blob.executable { 0o555 } else { 0o444 })?;
        let target = prefix.blob(&self.blob.digest);
        disk.remove_file(&target)?;
        disk.rename(unfinished, &target)?;
        Ok(())
    }
}

/// Puts a run of a template in its place in memory, which a hostile bundle cannot make large.
fn keep(text: &mut Vec<u8>, offset: u64, run: &[u8]) -> io::Result<()> {
    let end = usize::try_from(offset)
        .unwrap_or(usize::MAX)
        .saturating_add(run.len());
    if end > crate::store::LONGEST_TEMPLATE {
        return Err(io::Error::other("a template that long is none"));
    }
    if text.len() < end {
        text.resize(end, 0);
    }
    text[end - run.len()..end].copy_from_slice(run);
    Ok(())
}

fn unwritable(path: &Path, cause: io::Error) -> VerifyError {
    VerifyError {
        path: path.to_owned(),
        fault: Fault::Unwritable,
        cause: Some(cause),
    }
}
