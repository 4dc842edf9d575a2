//! A plan to a lock: every file to an address, a size and a SHA-256. Nothing large is fetched.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use bundle_mirror::{Cache, Hub, ModelScope, PackageIndex, Resolver, Web};
use manifest_schema::lock::{Lock, LockedArtifact, LockedBackend, LockedComponent, LockedFile};
use manifest_schema::plan::{Login, Plan, PlanBackend, PlanComponent, PlanFile, WheelTarget};
use manifest_schema::{
    BundlePath, ByteSize, ComponentKind, Digest, Eula, GlibcVersion, OriginKind,
};
use report::{Sink, Step, Trouble};

use crate::error::InputError;
use crate::gate::Gate;

mod files;
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
