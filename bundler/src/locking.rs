//! A plan to a lock: every file to an address, a size and a SHA-256. Nothing large is fetched.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use bundle_mirror::{
    Cache, Cached, Filter, Hub, IndexFile, ModelScope, PackageIndex, Resolver, Web, side_by_side,
};
use manifest_schema::lock::{Lock, LockedArtifact, LockedBackend, LockedComponent, LockedFile};
use manifest_schema::plan::{
    FolderSource, HttpsSource, Login, OwnSource, Plan, PlanBackend, PlanComponent, PlanFile,
    PypiSource, Source, WheelTarget,
};
use manifest_schema::{
    BundlePath, ByteSize, ComponentKind, Digest, Eula, GlibcVersion, OriginKind,
};
use report::{Sink, Step, Trouble};
use walkdir::WalkDir;

use crate::error::InputError;
use crate::gate::Gate;
use crate::settings;

mod hubs;
mod images;
mod packages;
mod python;

/// What locking needs, and what it has pinned so far.
pub(crate) struct Locker<'a> {
    pub(crate) index: PackageIndex<'a>,
    pub(crate) hub: Hub<'a>,
    pub(crate) modelscope: ModelScope<'a>,
    pub(crate) web: &'a Web,
    /// Takes what is fetched on the way; `None` where nothing may be written.
    pub(crate) cache: Option<&'a Cache>,
    pub(crate) resolver: Resolver,
    /// The program that checks signatures of repositories.
    pub(crate) gpgv: PathBuf,
    pub(crate) plan_folder: PathBuf,
    pub(crate) lock_folder: PathBuf,
    pub(crate) sink: &'a dyn Sink,
    pub(crate) artifacts: BTreeMap<Digest, LockedArtifact>,
    pub(crate) logins: BTreeMap<String, Login>,
}

/// The glibc of a backend that names none: what the oldest supported systems have.
const OLDEST_GLIBC: GlibcVersion = GlibcVersion {
    major: 2,
    minor: 28,
};

impl Locker<'_> {
    pub(crate) fn lock(&mut self, plan: &Plan, plan_digest: Digest) -> Result<Lock, Trouble> {
        let mut components = Vec::new();
        for (kind, list) in [
            (ComponentKind::Model, &plan.models),
            (ComponentKind::Dataset, &plan.datasets),
        ] {
            for component in list {
                let step = Step::start(
                    self.sink,
                    "step.lock",
                    component.name.to_string(),
                    None,
                    "files",
                );
                components.push(self.component(kind, component)?);
                step.finish();
            }
        }
        let mut backends = Vec::new();
        for backend in &plan.backends {
            let step = Step::start(
                self.sink,
                "step.lock",
                backend.name.to_string(),
                None,
                "files",
            );
            backends.push(self.backend(backend)?);
            step.finish();
        }
        let mut images = Vec::new();
        for image in &plan.images {
            let name = image.name.to_string();
            let step = Step::start(self.sink, "step.lock", name, None, "files");
            images.push(self.image(image)?);
            step.finish();
        }
        let mut installers = BTreeMap::new();
        for (arch, source) in &plan.installers {
            let file = PlanFile {
                path: path(&format!("installer/{arch}"), "installers")?,
                executable: true,
                source: source.clone(),
            };
            // `Plan::parse` made sure that it is one file.
            installers.extend(
                self.file(&file, None, None)?
                    .pop()
                    .map(|file| (*arch, file)),
            );
        }
        let mut os_packages = Vec::new();
        for set in &plan.os_packages {
            let step = Step::start(self.sink, "step.lock", set.name.to_string(), None, "files");
            os_packages.push(self.os_packages(set, plan.site_key.as_ref())?);
            step.finish();
        }
        Ok(Lock {
            format: 1,
            plan_digest,
            name: plan.name.clone(),
            release: plan.release,
            channel: plan.channel.clone(),
            accept_licenses: plan.accept_licenses.clone(),
            wheel_licenses: plan.wheel_licenses,
            site_key: plan.site_key.clone(),
            components,
            backends,
            installers,
            images,
            logins: std::mem::take(&mut self.logins),
            os_packages,
            artifacts: std::mem::take(&mut self.artifacts).into_values().collect(),
        })
    }

    fn component(
        &mut self,
        kind: ComponentKind,
        component: &PlanComponent,
    ) -> Result<LockedComponent, Trouble> {
        let mut files = Vec::new();
        for file in &component.files {
            files.extend(self.file(file, None, Some(&component.license))?);
        }
        let revision = self.repositories(kind, component, &mut files)?;
        let locked = LockedComponent {
            kind,
            name: component.name.clone(),
            license: component.license.clone(),
            revision,
            files,
            allow_code_on_load: component.allow_code_on_load.clone(),
            fill: component.fill.clone(),
            dataset_info: component.dataset_info.clone(),
            eulas: self.eulas(&component.eulas)?,
        };
        Gate::of(&locked)?.names(named(&locked))?;
        Ok(locked)
    }

    fn eulas(&mut self, eulas: &[Eula<PlanFile>]) -> Result<Vec<Eula<LockedFile>>, Trouble> {
        eulas
            .iter()
            .map(|eula| eula.try_map(|file| self.one_file(file, None)))
            .collect()
    }

    /// A file that `Plan::parse` made sure to be one.
    fn one_file(
        &mut self,
        file: &PlanFile,
        target: Option<&WheelTarget>,
    ) -> Result<LockedFile, Trouble> {
        let mut locked = self.file(file, target, None)?;
        let repo = file.path.to_string();
        locked
            .pop()
            .ok_or_else(|| InputError::NothingTaken { repo }.into())
    }

    fn backend(&mut self, backend: &PlanBackend) -> Result<LockedBackend, Trouble> {
        let python = backend.python.as_ref().map_or("3.11", |p| &p.version);
        let target = WheelTarget {
            arch: backend.arch,
            python: python.to_owned(),
            glibc: backend.glibc.unwrap_or(OLDEST_GLIBC),
        };
        let mut files = Vec::new();
        for file in &backend.files {
            files.extend(self.file(file, Some(&target), None)?);
        }
        let python = match &backend.python {
            None => None,
            Some(python) => {
                files.extend(self.makers(backend, python, &target)?);
                Some(self.python(backend, python, &target)?)
            }
        };
        let mut host = Vec::new();
        for item in &backend.host {
            host.push(item.try_map(|file| self.one_file(file, Some(&target)))?);
        }
        Ok(LockedBackend {
            eulas: self.eulas(&backend.eulas)?,
            host,
            ports: backend.ports.clone(),
            name: backend.name.clone(),
            chip: backend.chip.clone(),
            arch: backend.arch,
            glibc: backend.glibc,
            versions: backend.versions.clone(),
            files,
            python,
            signatures: backend.signatures.clone(),
        })
    }

    fn file(
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

    fn pin_package(
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

    fn local(&mut self, file: &Path, license: Option<&str>) -> Result<Digest, Trouble> {
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

/// The paths of a component whose files are known by name before anything is fetched.
pub(crate) fn named(component: &LockedComponent) -> impl Iterator<Item = &str> {
    let files = component.files.iter();
    let single = files.filter(|file| file.members.is_empty());
    single.map(|file| file.path.as_str())
}

fn whole(path: BundlePath, artifact: Digest) -> LockedFile {
    LockedFile {
        path,
        executable: false,
        artifact,
        member: None,
        members: Vec::new(),
        strip: String::new(),
    }
}

fn pinned(digest: Digest, size: u64, file_name: &str, kind: OriginKind) -> LockedArtifact {
    LockedArtifact {
        digest,
        size: ByteSize(size),
        file_name: file_name.to_owned(),
        kind,
        urls: Vec::new(),
        headers: BTreeMap::new(),
        secret_headers: BTreeMap::new(),
        bring_from: None,
        path: None,
        project: None,
        version: None,
        revision: None,
        license: None,
        git_sha1: None,
        member_of: None,
        text: None,
    }
}

fn path(text: &str, owner: &str) -> Result<BundlePath, InputError> {
    BundlePath::parse(text).map_err(|_| InputError::Path {
        path: owner.to_owned(),
        found: text.to_owned(),
    })
}

/// The way from `folder` to `file`, both absolute.
pub(crate) fn relative(folder: &Path, file: &Path) -> String {
    let (from, to): (Vec<Component>, Vec<Component>) =
        (folder.components().collect(), file.components().collect());
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n("..".to_owned(), from.len() - shared);
    let down = to[shared..]
        .iter()
        .map(|part| part.as_os_str().to_string_lossy().into_owned());
    up.chain(down).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locked_path_is_relative_to_the_lock() {
        for (folder, file, way) in [
            ("/a/b", "/a/b/c", "c"),
            ("/a/b", "/a/c/d", "../c/d"),
            ("/a", "/b", "../b"),
        ] {
            assert_eq!(relative(Path::new(folder), Path::new(file)), way);
        }
    }
}
