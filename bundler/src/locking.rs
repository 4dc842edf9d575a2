//! A plan to a lock: every file to an address, a size and a SHA-256. Nothing large is fetched.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use bundle_mirror::{Cache, Hub, HubKind, IndexFile, PackageIndex, Resolver, Web};
use manifest_schema::lock::{
    Lock, LockedArtifact, LockedBackend, LockedComponent, LockedFile, LockedPython,
};
use manifest_schema::plan::{
    ArchiveKind, FileSource, HttpsSource, HubSource, Plan, PlanBackend, PlanComponent, PlanFile,
    PypiSource, Source, WheelTarget,
};
use manifest_schema::{BundlePath, ByteSize, ComponentKind, Digest, GlibcVersion, OriginKind};
use report::{Sink, Step, Trouble};

use crate::error::InputError;

/// What locking needs, and what it has pinned so far.
pub(crate) struct Locker<'a> {
    pub(crate) index: PackageIndex<'a>,
    pub(crate) hub: Hub<'a>,
    pub(crate) web: &'a Web,
    /// Takes what is fetched on the way; `None` where nothing may be written.
    pub(crate) cache: Option<&'a Cache>,
    pub(crate) resolver: Resolver,
    pub(crate) plan_folder: PathBuf,
    pub(crate) lock_folder: PathBuf,
    pub(crate) sink: &'a dyn Sink,
    pub(crate) artifacts: BTreeMap<Digest, LockedArtifact>,
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
        let mut installers = BTreeMap::new();
        for (arch, source) in &plan.installers {
            let file = PlanFile {
                path: path(&format!("installer/{arch}"), "installers")?,
                executable: true,
                source: source.clone(),
            };
            installers.insert(*arch, self.file(&file, None, None)?);
        }
        Ok(Lock {
            format: 1,
            plan_digest,
            name: plan.name.clone(),
            release: plan.release,
            channel: plan.channel.clone(),
            components,
            backends,
            installers,
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
            files.push(self.file(file, None, Some(&component.license))?);
        }
        let mut revision = None;
        if let Some(hub) = &component.hub {
            revision = Some(self.repository(kind, hub, &component.license, &mut files)?);
        }
        Ok(LockedComponent {
            kind,
            name: component.name.clone(),
            license: component.license.clone(),
            revision,
            files,
            fill: component.fill.clone(),
            dataset_info: component.dataset_info.clone(),
        })
    }

    fn repository(
        &mut self,
        kind: ComponentKind,
        source: &HubSource,
        license: &str,
        files: &mut Vec<LockedFile>,
    ) -> Result<String, Trouble> {
        let kind = match kind {
            ComponentKind::Model => HubKind::Model,
            ComponentKind::Dataset => HubKind::Dataset,
        };
        let repo = &source.repo;
        let commit = self.hub.commit(kind, repo, &source.revision)?;
        let found = self
            .hub
            .files(kind, repo, &commit, &source.include, &source.exclude)?;
        if found.is_empty() {
            let repo = repo.to_string();
            return Err(InputError::NothingTaken { repo }.into());
        }
        for file in found {
            let url = self.hub.file_url(kind, repo, &commit, &file.path)?;
            let (digest, git_sha1) = if let Some(digest) = file.lfs {
                (digest, None)
            } else {
                let digest = self.hub.take_small(&url, &file, self.cache)?;
                (digest, Some(file.git_sha1.clone()))
            };
            let name = file.path.rsplit('/').next().unwrap_or(&file.path);
            let mut artifact = pinned(digest, file.size, name, OriginKind::HuggingFace);
            artifact.urls = vec![url];
            artifact.project = Some(repo.to_string());
            artifact.revision = Some(commit.clone());
            artifact.git_sha1 = git_sha1;
            artifact.license = Some(license.to_owned());
            self.artifacts.entry(digest).or_insert(artifact);
            files.push(whole(path(&file.path, repo.as_str())?, digest));
        }
        Ok(commit)
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
            files.push(self.file(file, Some(&target), None)?);
        }
        let python = match &backend.python {
            None => None,
            Some(python) => {
                let pins = self
                    .resolver
                    .resolve(&python.requirements, &target, &python.forbid)?;
                let (mut requirements, mut wheels) = (Vec::new(), Vec::new());
                for pin in pins {
                    let (project, version) = (&pin.project, &pin.version);
                    let wheel =
                        self.index
                            .find(project, version, ArchiveKind::Wheel, Some(&target))?;
                    requirements.push(format!("{project}=={version}"));
                    wheels.push(whole(path(&wheel.file_name, project)?, wheel.digest));
                    self.pin_package(&wheel, project, version, None);
                }
                Some(LockedPython {
                    version: python.version.clone(),
                    requirements,
                    wheels,
                })
            }
        };
        Ok(LockedBackend {
            name: backend.name.clone(),
            chip: backend.chip.clone(),
            arch: backend.arch,
            glibc: backend.glibc,
            versions: backend.versions.clone(),
            files,
            python,
        })
    }

    fn file(
        &mut self,
        file: &PlanFile,
        target: Option<&WheelTarget>,
        license: Option<&str>,
    ) -> Result<LockedFile, Trouble> {
        let digest = match &file.source {
            Source::Pypi(source) => self.package(source, target, license)?,
            Source::Https(source) => self.pinned_url(source, license)?,
            Source::File(source) => self.local(source, license)?,
        };
        let mut locked = whole(file.path.clone(), digest);
        locked.executable = file.executable;
        if let Source::Pypi(source) = &file.source {
            locked.member.clone_from(&source.member);
            locked.members.clone_from(&source.members);
            locked.strip.clone_from(&source.strip);
        }
        Ok(locked)
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
        let mut size = Err(None);
        for url in &urls {
            size = bundle_mirror::size_of(self.web, url).map_err(Some);
            if size.is_ok() {
                break;
            }
        }
        let size = match size {
            Ok(size) => size,
            Err(Some(error)) => return Err(error.into()),
            Err(None) => 0,
        };
        let name = source.url.split(['?', '#']).next().unwrap_or_default();
        let name = name.rsplit('/').next().unwrap_or_default();
        let mut artifact = pinned(source.digest, size, name, OriginKind::Https);
        artifact.urls = urls;
        artifact.license = license.map(str::to_owned);
        self.artifacts.entry(source.digest).or_insert(artifact);
        Ok(source.digest)
    }

    fn local(&mut self, source: &FileSource, license: Option<&str>) -> Result<Digest, Trouble> {
        let file = self.plan_folder.join(&source.path);
        let file = file.canonicalize().map_err(InputError::file(&file))?;
        // Only hashed here: `build` takes it into the cache.
        let taken = bundle_mirror::measure(&file)?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let mut artifact = pinned(taken.digest, taken.size, &name, OriginKind::File);
        artifact.path = Some(relative(&self.lock_folder, &file));
        artifact.license = license.map(str::to_owned);
        self.artifacts.entry(taken.digest).or_insert(artifact);
        Ok(taken.digest)
    }
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
        path: None,
        project: None,
        version: None,
        revision: None,
        license: None,
        git_sha1: None,
    }
}

fn path(text: &str, owner: &str) -> Result<BundlePath, InputError> {
    BundlePath::parse(text).map_err(|_| InputError::Path {
        path: owner.to_owned(),
        found: text.to_owned(),
    })
}

/// The way from `folder` to `file`, both absolute.
fn relative(folder: &Path, file: &Path) -> String {
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
