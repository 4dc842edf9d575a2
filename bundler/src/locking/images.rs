//! Container images: from a registry, a layout or a `docker save`, each blob to an artifact.

use std::path::Path;

use bundle_mirror::{Layout, Registry, Taken, Wanted, docker_archive, measure, registry_address};
use manifest_schema::lock::LockedArtifact;
use manifest_schema::plan::{ImageSource, LocalImage, OciSource, PlanImage};
use manifest_schema::{ArchiveMember, Descriptor, Digest, Image, ImageTag, OriginKind};
use report::Trouble;

use super::{Locker, pinned, relative};
use crate::error::InputError;

impl Locker<'_> {
    /// Pins an image, its index and manifests byte for byte.
    pub(super) fn image(&mut self, plan: &PlanImage) -> Result<Image, Trouble> {
        let wanted = Wanted {
            platforms: &plan.platforms,
            referrers: plan.referrers,
        };
        let image = match &plan.source {
            ImageSource::Oci(source) => self.of_registry(plan, source, wanted)?,
            ImageSource::OciLayout(local) => self.of_layout(plan, local, wanted)?,
            ImageSource::DockerArchive(local) => self.of_docker(plan, local, wanted)?,
        };
        Ok(image)
    }

    fn of_registry(
        &mut self,
        plan: &PlanImage,
        source: &OciSource,
        wanted: Wanted<'_>,
    ) -> Result<Image, Trouble> {
        let registry = Registry::new(self.web, &plan.name, source, self.sink)?;
        let taken = registry.take(plan.tag.as_ref(), source.digest, wanted)?;
        if let Some(cache) = self.cache {
            for (_, bytes) in &taken.documents {
                cache.take(&mut bytes.as_slice(), bytes.len() as u64)?;
            }
        }
        if let Some(login) = &source.login {
            let usual = registry_address(&plan.name);
            let home = source.endpoint.clone().unwrap_or(usual);
            self.logins.insert(home, login.clone());
        }
        let image = image_of(plan, taken);
        for (blob, what) in parts(&image) {
            let mut artifact = part(plan, blob, &what, OriginKind::Oci);
            artifact.urls = registry.urls(blob);
            let accept = Registry::accept(blob).map(str::to_owned);
            artifact.headers = accept
                .map(|kind| ("Accept".to_owned(), kind))
                .into_iter()
                .collect();
            self.artifacts.entry(blob.digest).or_insert(artifact);
        }
        Ok(image)
    }

    fn of_layout(
        &mut self,
        plan: &PlanImage,
        local: &LocalImage,
        wanted: Wanted<'_>,
    ) -> Result<Image, Trouble> {
        let path = self.plan_folder.join(&local.path);
        let path = path.canonicalize().map_err(InputError::file(&path))?;
        let layout = Layout::open(&path)?;
        let image = image_of(plan, layout.take(local.reference.as_deref(), wanted)?);
        let archive = if path.is_file() {
            Some(measure(&path)?.digest)
        } else {
            None
        };
        for (blob, what) in parts(&image) {
            let place = layout.blob(&blob.digest)?;
            let mut artifact = part(plan, blob, &what, OriginKind::File);
            artifact.path = Some(relative(&self.lock_folder, &place.path));
            artifact.member_of = archive
                .zip(place.member)
                .map(|(digest, member)| member_of(&path, digest, member));
            self.artifacts.entry(blob.digest).or_insert(artifact);
        }
        Ok(image)
    }

    fn of_docker(
        &mut self,
        plan: &PlanImage,
        local: &LocalImage,
        wanted: Wanted<'_>,
    ) -> Result<Image, Trouble> {
        let path = self.plan_folder.join(&local.path);
        let path = path.canonicalize().map_err(InputError::file(&path))?;
        let Some(saved) = docker_archive(&path, local.reference.as_deref(), wanted)? else {
            return self.of_layout(plan, local, wanted);
        };
        let archive = measure(&path)?.digest;
        let image = image_of(plan, saved.taken);
        for (blob, what) in parts(&image) {
            let artifact = if let Some(member) = saved.members.get(&blob.digest) {
                let mut artifact = part(plan, blob, &what, OriginKind::File);
                artifact.path = Some(relative(&self.lock_folder, &path));
                artifact.member_of = Some(member_of(&path, archive, member.clone()));
                artifact
            } else {
                // Written by us for the layers of that file, and so said.
                let mut artifact = part(plan, blob, &what, OriginKind::Built);
                artifact.text = Some(saved.manifest.clone());
                artifact.member_of = Some(member_of(&path, archive, "manifest.json".to_owned()));
                artifact
            };
            self.artifacts.entry(blob.digest).or_insert(artifact);
        }
        Ok(image)
    }
}

fn image_of(plan: &PlanImage, taken: Taken) -> Image {
    Image {
        name: plan.name.clone(),
        tag: plan.tag.clone(),
        license: plan.license.clone(),
        backends: plan.backends.clone(),
        root: taken.root,
        platforms: taken.platforms,
        attached: taken.attached,
    }
}

/// Every blob, and what it is in a few words.
fn parts(image: &Image) -> Vec<(&Descriptor, String)> {
    let mut parts = Vec::new();
    for one in &image.platforms {
        parts.push((&one.manifest, format!("{} manifest", one.platform)));
        parts.push((&one.config, format!("{} configuration", one.platform)));
        for (number, layer) in one.layers.iter().enumerate() {
            let (number, of) = (number + 1, one.layers.len());
            parts.push((layer, format!("{} layer {number}/{of}", one.platform)));
        }
    }
    // Behind the manifests: it may be one of them.
    parts.push((&image.root, "index".to_owned()));
    for one in &image.attached {
        let kind = one.artifact_type.as_deref();
        let kind = kind.or(one.tag.as_ref().map(ImageTag::as_str));
        let what = format!("attached {}", kind.unwrap_or("manifest"));
        let blobs = std::iter::once(&one.manifest).chain(&one.blobs);
        parts.extend(blobs.map(|blob| (blob, what.clone())));
    }
    parts
}

fn part(plan: &PlanImage, blob: &Descriptor, what: &str, kind: OriginKind) -> LockedArtifact {
    let last = plan.name.repository().rsplit('/').next();
    let name = format!("{} {what}", last.unwrap_or_default());
    let mut artifact = pinned(blob.digest, blob.size.0, &name, kind);
    artifact.project = Some(plan.name.to_string());
    artifact.version = plan.tag.as_ref().map(ToString::to_string);
    artifact.license = Some(plan.license.clone());
    artifact
}

fn member_of(path: &Path, digest: Digest, member: String) -> ArchiveMember {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    ArchiveMember {
        file_name: name.into_owned(),
        digest,
        member,
    }
}
