//! An installed release whose metadata is signed: what follows from it is what must be there.

use bundle_format::SignedMetadata;
use manifest_schema::Backend;

use super::AuditError;
use crate::plan::PlanError;
use crate::prefix::{Prefix, ReleaseName};
use crate::release::ReleaseRecord;
use crate::roots::roots;
use crate::tree::{Tree, tree};

/// An installed release whose metadata is signed under a trusted root.
pub(crate) struct Installed {
    pub(crate) signed: SignedMetadata,
    pub(crate) record: ReleaseRecord,
    pub(crate) tree: Tree,
    pub(super) backend: Option<Backend>,
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
