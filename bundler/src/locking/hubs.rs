//! Repositories on hubs. Where two hold the same bytes, either may supply them.

use std::collections::BTreeMap;

use bundle_mirror::{Filter, HubKind, MirrorError, QUESTIONS, side_by_side};
use manifest_schema::lock::LockedFile;
use manifest_schema::plan::{HubSource, PlanComponent};
use manifest_schema::{ComponentKind, Digest, OriginKind};
use report::Trouble;

use super::{Locker, path, pinned, whole};
use crate::error::InputError;

/// A file of ModelScope: its digest, its size, its address.
type Found = (Digest, u64, String);

impl Locker<'_> {
    /// Pins what a component takes from hubs; returns the revision.
    pub(super) fn repositories(
        &mut self,
        kind: ComponentKind,
        component: &PlanComponent,
        files: &mut Vec<LockedFile>,
    ) -> Result<Option<String>, Trouble> {
        let kind = match kind {
            ComponentKind::Model => HubKind::Model,
            ComponentKind::Dataset => HubKind::Dataset,
        };
        let license = component.license.as_str();
        match (&component.hub, &component.modelscope) {
            (None, None) => Ok(None),
            (None, Some(source)) => self.pin_modelscope(kind, source, license, files).map(Some),
            (Some(hub), second) => {
                let commit = self.pin_hub(kind, hub, license, files)?;
                if let Some(second) = second {
                    self.second_places(kind, second)?;
                }
                Ok(Some(commit))
            }
        }
    }

    fn pin_hub(
        &mut self,
        kind: HubKind,
        source: &HubSource,
        license: &str,
        files: &mut Vec<LockedFile>,
    ) -> Result<String, Trouble> {
        let repo = &source.repo;
        let revision = source.revision.as_deref().unwrap_or("main");
        let commit = self.hub.commit(kind, repo, revision)?;
        let found = self
            .hub
            .files(kind, repo, &commit, &source.include, &source.exclude)?;
        if found.is_empty() {
            let repo = repo.to_string();
            return Err(InputError::NothingTaken { repo }.into());
        }
        // A repository may have thousands of small files, of which the listing has no SHA-256.
        let pinned_files = side_by_side(&found, QUESTIONS, |file| {
            let url = self.hub.file_url(kind, repo, &commit, &file.path)?;
            let digest = match file.lfs {
                Some(digest) => digest,
                None => self.hub.take_small(&url, file, self.cache)?,
            };
            Ok::<_, MirrorError>((url, digest))
        })?;
        for (file, (url, digest)) in found.iter().zip(pinned_files) {
            let name = file.path.rsplit('/').next().unwrap_or(&file.path);
            let mut artifact = pinned(digest, file.size, name, OriginKind::HuggingFace);
            artifact.urls = vec![url];
            artifact.project = Some(repo.to_string());
            artifact.revision = Some(commit.clone());
            artifact.git_sha1 = file.lfs.is_none().then(|| file.git_sha1.clone());
            artifact.license = Some(license.to_owned());
            self.artifacts.entry(digest).or_insert(artifact);
            files.push(whole(path(&file.path, repo.as_str())?, digest));
        }
        Ok(commit)
    }

    fn pin_modelscope(
        &mut self,
        kind: HubKind,
        source: &HubSource,
        license: &str,
        files: &mut Vec<LockedFile>,
    ) -> Result<String, Trouble> {
        let (repo, revision) = (&source.repo, revision_of(source));
        let found = self.modelscope_files(kind, source, true)?;
        if found.is_empty() {
            let repo = repo.to_string();
            return Err(InputError::NothingTaken { repo }.into());
        }
        for (file, (digest, size, url)) in found {
            let name = file.rsplit('/').next().unwrap_or(&file);
            let mut artifact = pinned(digest, size, name, OriginKind::ModelScope);
            artifact.urls = vec![url];
            artifact.project = Some(repo.to_string());
            artifact.revision = Some(revision.to_owned());
            artifact.license = Some(license.to_owned());
            self.artifacts.entry(digest).or_insert(artifact);
            files.push(whole(path(&file, repo.as_str())?, digest));
        }
        Ok(revision.to_owned())
    }

    /// Adds ModelScope as a place of what was pinned already and has the same digest there.
    fn second_places(&mut self, kind: HubKind, source: &HubSource) -> Result<(), Trouble> {
        for (digest, size, url) in self.modelscope_files(kind, source, false)?.into_values() {
            let same = |artifact: &&mut manifest_schema::lock::LockedArtifact| {
                artifact.size.0 == size && artifact.kind == OriginKind::HuggingFace
            };
            if let Some(artifact) = self.artifacts.get_mut(&digest).filter(same) {
                artifact.urls.push(url);
            }
        }
        Ok(())
    }

    /// The files by path. Without `all`, only those whose digest the listing has.
    fn modelscope_files(
        &self,
        kind: HubKind,
        source: &HubSource,
        all: bool,
    ) -> Result<BTreeMap<String, Found>, Trouble> {
        let (repo, revision) = (&source.repo, revision_of(source));
        let filter = Filter::new(&source.include, &source.exclude)?;
        let mut files = self.modelscope.files(kind, repo, revision, &filter)?;
        files.retain(|file| file.digest.is_some() || all);
        let found = side_by_side(&files, QUESTIONS, |file| {
            let url = self.modelscope.file_url(kind, repo, revision, &file.path)?;
            let (digest, size) = self.modelscope.complete(&url, file, self.cache)?;
            Ok::<_, MirrorError>((file.path.clone(), (digest, size, url)))
        })?;
        Ok(found.into_iter().collect())
    }
}

fn revision_of(source: &HubSource) -> &str {
    source.revision.as_deref().unwrap_or("master")
}
