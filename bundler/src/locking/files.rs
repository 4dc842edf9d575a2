//! Files by their sources: each to what pins it.

use std::path::Path;

use bundle_mirror::{Cached, Filter, IndexFile, side_by_side};
use manifest_schema::lock::LockedFile;
use manifest_schema::plan::{
    FolderSource, HttpsSource, OwnSource, PlanFile, PypiSource, Source, WheelTarget,
};
use manifest_schema::{Digest, OriginKind};
use report::Trouble;
use walkdir::WalkDir;

use super::{Locker, path, pinned, relative, whole};
use crate::error::InputError;
use crate::settings;

impl Locker<'_> {
    pub(super) fn file(
        &mut self,
        file: &PlanFile,
        target: Option<&WheelTarget>,
        license: Option<&str>,
    ) -> Result<Vec<LockedFile>, Trouble> {
        let digest = match &file.source {
            Source::Pypi(source) => self.package(source, target, license)?,
            Source::Https(source) => self.pinned_url(source, license)?,
            Source::File(source) => self.local(&self.plan_folder.join(&source.path), license)?,
            Source::Own(source) => self.slot(source, license),
            Source::Folder(source) => return self.folder(file, source, license),
        };
        let mut locked = whole(file.path.clone(), digest);
        locked.executable = file.executable;
        let (member, members, strip) = file.source.taken();
        locked.member = member.map(str::to_owned);
        locked.members = members.to_vec();
        strip.clone_into(&mut locked.strip);
        Ok(vec![locked])
    }

    /// The files of a folder, ordered by path. Links are followed: a bundle holds bytes, not places.
    fn folder(
        &mut self,
        file: &PlanFile,
        source: &FolderSource,
        license: Option<&str>,
    ) -> Result<Vec<LockedFile>, Trouble> {
        let folder = self.plan_folder.join(&source.path);
        let filter = Filter::new(&source.include, &source.exclude)?;
        let mut found = Vec::new();
        for entry in WalkDir::new(&folder).follow_links(true).sort_by_file_name() {
            let entry = entry.map_err(|error| InputError::File {
                path: error.path().unwrap_or(&folder).to_owned(),
                source: error.into(),
            })?;
            let below = entry.path().strip_prefix(&folder).unwrap_or(entry.path());
            let below = below.to_string_lossy();
            if entry.file_type().is_file() && filter.takes(&below) {
                let real = entry.path().canonicalize();
                let real = real.map_err(InputError::file(entry.path()))?;
                found.push((below.into_owned(), real));
            }
        }
        let measured = side_by_side(&found, settings::cores(), |(_, real)| {
            bundle_mirror::measure(real)
        })?;
        let mut files = Vec::new();
        for ((below, real), taken) in found.into_iter().zip(measured) {
            let digest = self.pin_local(&real, &taken, license);
            let mut locked = whole(
                path(&format!("{}/{below}", file.path), &source.path)?,
                digest,
            );
            locked.executable = file.executable;
            files.push(locked);
        }
        if files.is_empty() {
            let repo = source.path.clone();
            return Err(InputError::NothingTaken { repo }.into());
        }
        Ok(files)
    }

    /// A file that is brought when the bundle is built.
    fn slot(&mut self, source: &OwnSource, license: Option<&str>) -> Digest {
        let mut artifact = pinned(
            source.digest,
            source.size.0,
            &source.file_name,
            OriginKind::Own,
        );
        artifact.bring_from = Some(source.from.clone());
        artifact.license = license.map(str::to_owned);
        self.artifacts.entry(source.digest).or_insert(artifact);
        source.digest
    }

    fn package(
        &mut self,
        source: &PypiSource,
        target: Option<&WheelTarget>,
        license: Option<&str>,
    ) -> Result<Digest, Trouble> {
        let (project, version) = (&source.project, &source.version);
        let target = source.target.as_ref().or(target);
        let found = self.index.find(project, version, source.kind, target)?;
        self.pin_package(&found, project, version, license);
        Ok(found.digest)
    }

    pub(super) fn pin_package(
        &mut self,
        file: &IndexFile,
        project: &str,
        version: &str,
        license: Option<&str>,
    ) {
        let size = file.size.unwrap_or_default();
        let mut artifact = pinned(file.digest, size, &file.file_name, OriginKind::Pypi);
        artifact.urls = vec![file.url.clone()];
        artifact.project = Some(project.to_owned());
        artifact.version = Some(version.to_owned());
        artifact.license = license.map(str::to_owned);
        self.artifacts.entry(file.digest).or_insert(artifact);
    }

    fn pinned_url(
        &mut self,
        source: &HttpsSource,
        license: Option<&str>,
    ) -> Result<Digest, Trouble> {
        let mut urls = vec![source.url.clone()];
        urls.extend(source.mirrors.iter().cloned());
        let name = source.url.split(['?', '#']).next().unwrap_or_default();
        let name = name.rsplit('/').next().unwrap_or_default();
        let headers: Vec<_> = source.headers.clone().into_iter().collect();
        let secrets = settings::secrets(name, &source.secret_headers)?;
        let mut size = Ok(0);
        for (number, url) in urls.iter().enumerate() {
            let secrets: &[_] = if number == 0 { &secrets } else { &[] };
            size = bundle_mirror::size_with(self.web, url, &headers, secrets);
            if size.is_ok() {
                break;
            }
        }
        let mut artifact = pinned(source.digest, size?, name, OriginKind::Https);
        artifact.urls = urls;
        artifact.headers.clone_from(&source.headers);
        artifact.secret_headers.clone_from(&source.secret_headers);
        artifact.license = license.map(str::to_owned);
        self.artifacts.entry(source.digest).or_insert(artifact);
        Ok(source.digest)
    }

    pub(super) fn local(&mut self, file: &Path, license: Option<&str>) -> Result<Digest, Trouble> {
        let file = file.canonicalize().map_err(InputError::file(file))?;
        let taken = bundle_mirror::measure(&file)?;
        Ok(self.pin_local(&file, &taken, license))
    }

    /// Pins a file that was only hashed: `build` takes it into the cache.
    fn pin_local(&mut self, file: &Path, taken: &Cached, license: Option<&str>) -> Digest {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let mut artifact = pinned(taken.digest, taken.size, &name, OriginKind::File);
        artifact.path = Some(relative(&self.lock_folder, file));
        artifact.license = license.map(str::to_owned);
        self.artifacts.entry(taken.digest).or_insert(artifact);
        taken.digest
    }
}
