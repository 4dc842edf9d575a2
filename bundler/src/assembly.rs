//! A lock and a full cache to what a bundle is built from: profiles, provenance, blobs.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bundle_mirror::{
    Cache, Cached, Download, Extracted, MirrorError, Selection, Tarball, side_by_side,
};
use manifest_schema::lock::{Lock, LockedArtifact, LockedFile};
use manifest_schema::{
    Arch, ArchiveMember, Backend, BundlePath, ByteSize, Component, Digest, MadeFrom, Origin,
    OriginKind, PlacedFile, Profiles, Provenance, PythonEnvironment,
};
use report::{Sink, Step, Trouble};
use walkdir::WalkDir;

use crate::error::InputError;
use crate::gate::Gate;
use crate::settings;

mod packages;

/// Reads a lock and the cache.
pub(crate) struct Assembler<'a> {
    pub(crate) lock: &'a Lock,
    pub(crate) lock_folder: PathBuf,
    pub(crate) cache: &'a Cache,
}

/// What a bundle is built from.
pub(crate) struct Parts {
    pub(crate) profiles: Profiles,
    pub(crate) provenance: Provenance,
    pub(crate) blobs: Vec<(Digest, PathBuf)>,
    pub(crate) installers: BTreeMap<Arch, (Digest, PathBuf)>,
}

/// A text longer than this has no placeholders: it is data.
const LARGEST_TEXT: u64 = 64 << 20;

impl Assembler<'_> {
    /// Takes the files of this machine into the cache, and checks that they are still those that were locked.
    ///
    /// `brought` are folders with files that the lock pins and only their vendors may hand out.
    pub(crate) fn take_files(&self, brought: &[PathBuf]) -> Result<(), Trouble> {
        self.take_brought(brought)?;
        let here = |artifact: &&LockedArtifact| artifact.text.is_some() || artifact.path.is_some();
        let missing = |artifact: &&LockedArtifact| {
            here(artifact) && !self.cache.holds(&artifact.digest, artifact.size.0)
        };
        let missing: Vec<_> = self.lock.artifacts.iter().filter(missing).collect();
        let mut tarballs = BTreeMap::new();
        for artifact in &missing {
            if artifact.text.is_none() && artifact.member_of.is_some() {
                let path = self.path_of(artifact);
                if let Entry::Vacant(new) = tarballs.entry(path) {
                    let tarball = Tarball::open(new.key())?;
                    new.insert(tarball);
                }
            }
        }
        let taken = side_by_side(&missing, settings::cores(), |artifact| {
            self.take_file(artifact, &tarballs)
        })?;
        let mut both = missing.iter().zip(taken);
        match both.find(|(artifact, taken)| taken.digest != artifact.digest) {
            None => Ok(()),
            Some((artifact, taken)) => Err(InputError::Changed {
                path: self.path_of(artifact),
                found: taken.digest.to_string(),
                expected: artifact.digest.to_string(),
            }
            .into()),
        }
    }

    fn path_of(&self, artifact: &LockedArtifact) -> PathBuf {
        let path = artifact.path.as_ref().unwrap_or(&artifact.file_name);
        self.lock_folder.join(path)
    }

    fn take_file(
        &self,
        artifact: &LockedArtifact,
        tarballs: &BTreeMap<PathBuf, Tarball>,
    ) -> Result<Cached, MirrorError> {
        let path = self.path_of(artifact);
        let member = artifact.member_of.as_ref().zip(tarballs.get(&path));
        if let Some(text) = &artifact.text {
            self.cache.take(&mut text.as_bytes(), text.len() as u64)
        } else if let Some((place, tarball)) = member {
            tarball.copy(&place.member, self.cache)
        } else {
            self.cache.take_file(&path)
        }
    }

    /// Finds each file that must be brought by its size and SHA-256, whatever its name is.
    fn take_brought(&self, folders: &[PathBuf]) -> Result<(), Trouble> {
        let missing = |artifact: &&LockedArtifact| {
            artifact.bring_from.is_some() && !self.cache.holds(&artifact.digest, artifact.size.0)
        };
        let mut wanted: Vec<_> = self.lock.artifacts.iter().filter(missing).collect();
        for entry in folders
            .iter()
            .flat_map(|f| WalkDir::new(f).follow_links(true))
        {
            let entry = entry.map_err(|error| InputError::File {
                path: error.path().map_or_else(PathBuf::new, Path::to_owned),
                source: error.into(),
            })?;
            let size = entry.metadata().map_or(0, |found| found.len());
            if !entry.file_type().is_file() || !wanted.iter().any(|a| a.size.0 == size) {
                continue;
            }
            let found = bundle_mirror::measure(entry.path())?.digest;
            if wanted.iter().any(|artifact| artifact.digest == found) {
                self.cache.take_file(entry.path())?;
                wanted.retain(|artifact| artifact.digest != found);
            }
        }
        match wanted.first() {
            None => Ok(()),
            Some(artifact) => Err(InputError::NotBrought {
                file_name: artifact.file_name.clone(),
                digest: artifact.digest.to_string(),
                size: artifact.size.to_string(),
                from: artifact.bring_from.clone().unwrap_or_default(),
            }
            .into()),
        }
    }

    /// What must be fetched from elsewhere.
    pub(crate) fn downloads(&self) -> Result<Vec<Download>, Trouble> {
        let mut downloads = Vec::new();
        for artifact in &self.lock.artifacts {
            if artifact.urls.is_empty() || self.cache.holds(&artifact.digest, artifact.size.0) {
                continue;
            }
            let name = &artifact.file_name;
            downloads.push(Download {
                digest: artifact.digest,
                size: artifact.size.0,
                file_name: name.clone(),
                urls: artifact.urls.clone(),
                git_sha1: artifact.git_sha1.clone(),
                headers: artifact.headers.clone().into_iter().collect(),
                secret_headers: settings::secrets(name, &artifact.secret_headers)?,
                registry: artifact.kind == OriginKind::Oci,
            });
        }
        Ok(downloads)
    }

    /// Takes members out of archives, fills placeholders, and lists everything.
    pub(crate) fn assemble(&self, sink: &dyn Sink) -> Result<Parts, Trouble> {
        let mut work = Work {
            cache: self.cache,
            artifacts: self.lock.artifacts.iter().map(|a| (a.digest, a)).collect(),
            origins: BTreeMap::new(),
            sink,
        };
        let empty = BTreeMap::new();
        let (mut components, mut code_on_load) = (Vec::new(), Vec::new());
        for component in &self.lock.components {
            let owner = component.name.as_str();
            let files = work.place(&component.files, &component.fill, owner)?;
            let blob = |file: &PlacedFile| self.cache.path(file.blob());
            code_on_load.extend(Gate::of(component)?.files(&files, blob)?);
            components.push(Component {
                kind: component.kind,
                name: component.name.clone(),
                license: component.license.clone(),
                revision: component.revision.clone(),
                files,
                signature: None,
                dataset_info: component.dataset_info.clone(),
                eulas: work.eulas(&component.eulas)?,
            });
        }
        let mut backends = Vec::new();
        for backend in &self.lock.backends {
            let owner = backend.name.as_str();
            let python = match &backend.python {
                None => None,
                Some(python) => Some(PythonEnvironment {
                    version: python.version.clone(),
                    requirements: python.requirements.clone(),
                    wheels: work.place(&python.wheels, &empty, owner)?,
                }),
            };
            let mut host = Vec::new();
            for item in &backend.host {
                host.push(item.try_map(|file| work.one_file(file))?);
                host.last().map_or(Ok(()), |item| work.check_vendor(item))?;
                if let Some(eula) = host.last().and_then(|item| item.eula.as_ref()) {
                    work.check_terms(eula)?;
                }
            }
            backends.push(Backend {
                eulas: work.eulas(&backend.eulas)?,
                host,
                ports: backend.ports.clone(),
                name: backend.name.clone(),
                chip: backend.chip.clone(),
                arch: backend.arch,
                glibc: backend.glibc,
                versions: backend.versions.clone(),
                files: work.place(&backend.files, &empty, owner)?,
                python,
                signatures: backend.signatures.clone(),
            });
        }
        for image in &self.lock.images {
            for blob in image.blobs() {
                // `Lock::parse` made sure that every blob is pinned.
                let artifact = work.artifacts[&blob.digest];
                work.origins.insert(blob.digest, origin(artifact, None));
            }
        }
        let os_packages = work.os_packages(&self.lock.os_packages)?;
        let blobs = work.origins.keys().map(|d| (*d, self.cache.path(d)));
        let blobs = blobs.collect();
        let origins = std::mem::take(&mut work.origins);
        let mut installers = BTreeMap::new();
        for (arch, file) in &self.lock.installers {
            let taken = work.members(file)?;
            let digest = taken
                .first()
                .map_or(file.artifact, |(_, member)| member.digest);
            installers.insert(*arch, (digest, self.cache.path(&digest)));
        }
        let profiles = Profiles {
            format: 1,
            name: self.lock.name.clone(),
            release: self.lock.release,
            channel: self.lock.channel.clone(),
            components,
            backends,
            images: self.lock.images.clone(),
            os_packages,
        };
        terms::one_text_a_name(&profiles)?;
        Ok(Parts {
            profiles,
            provenance: Provenance {
                format: 1,
                blobs: origins,
                code_on_load,
                licenses: Vec::new(),
                license_texts: Vec::new(),
            },
            blobs,
            installers,
        })
    }
}

mod terms;

struct Work<'a> {
    cache: &'a Cache,
    artifacts: BTreeMap<Digest, &'a LockedArtifact>,
    origins: BTreeMap<Digest, Origin>,
    sink: &'a dyn Sink,
}

impl Work<'_> {
    fn place(
        &mut self,
        files: &[LockedFile],
        fill: &BTreeMap<String, String>,
        owner: &str,
    ) -> Result<Vec<PlacedFile>, Trouble> {
        let mut placed = Vec::new();
        let mut paths = BTreeSet::new();
        for file in files {
            for (path, member) in self.members(file)? {
                if !paths.insert(path.clone()) {
                    return Err(InputError::Twice {
                        owner: owner.to_owned(),
                        path: path.to_string(),
                    }
                    .into());
                }
                let executable = file.executable || member.executable;
                placed.push(self.fill(path, executable, &member, fill)?);
            }
        }
        placed.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(placed)
    }

    /// The files that a locked file stands for, each with its place.
    fn members(&mut self, file: &LockedFile) -> Result<Vec<(BundlePath, Extracted)>, Trouble> {
        // `Lock::parse` made sure that every file's artifact is pinned.
        let artifact = self.artifacts[&file.artifact];
        let selection = match &file.member {
            Some(member) => Selection::One(member.clone()),
            None if !file.members.is_empty() => Selection::Matching(file.members.clone()),
            None => {
                let whole = Extracted {
                    member: String::new(),
                    digest: artifact.digest,
                    size: artifact.size.0,
                    executable: false,
                };
                self.origins.insert(artifact.digest, origin(artifact, None));
                return Ok(vec![(file.path.clone(), whole)]);
            }
        };
        let step = Step::start(
            self.sink,
            "step.take-members",
            artifact.file_name.clone(),
            None,
            "files",
        );
        // The lock pins the archive; its members are only as good as that.
        self.cache.check(&artifact.digest)?;
        let archive = self.cache.path(&artifact.digest);
        let taken = bundle_mirror::extract(&archive, &artifact.file_name, &selection, self.cache)?;
        step.finish();
        let mut placed = Vec::new();
        for member in taken {
            let path = if file.member.is_some() {
                file.path.clone()
            } else {
                let rest = member.member.strip_prefix(&file.strip);
                let below = format!("{}/{}", file.path, rest.unwrap_or(&member.member));
                BundlePath::parse(&below).map_err(|_| InputError::Path {
                    path: file.path.to_string(),
                    found: below,
                })?
            };
            let came_from = origin(artifact, Some(&member.member));
            self.origins.insert(member.digest, came_from);
            placed.push((path, member));
        }
        Ok(placed)
    }

    /// Fills placeholders where the file has any.
    fn fill(
        &self,
        path: BundlePath,
        executable: bool,
        source: &Extracted,
        fill: &BTreeMap<String, String>,
    ) -> Result<PlacedFile, Trouble> {
        let mut placed = PlacedFile {
            path,
            executable,
            size: ByteSize(source.size),
            digest: source.digest,
            made_from: None,
        };
        if fill.is_empty() || source.size > LARGEST_TEXT {
            return Ok(placed);
        }
        let blob = self.cache.path(&source.digest);
        let bytes = std::fs::read(&blob).map_err(InputError::file(&blob))?;
        let Ok(text) = std::str::from_utf8(&bytes) else {
            return Ok(placed);
        };
        let made = MadeFrom {
            blob: source.digest,
            fill: fill.clone(),
        };
        let filled = made.fill(text);
        if filled != text {
            placed.size = ByteSize(filled.len() as u64);
            placed.digest = Digest::of(filled.as_bytes());
            placed.made_from = Some(made);
        }
        Ok(placed)
    }
}

/// The origin of something that was made for `owner` while the bundle was built.
fn built(kind: OriginKind, owner: &str) -> Origin {
    Origin {
        kind,
        url: None,
        project: Some(owner.to_owned()),
        version: None,
        revision: None,
        archive: None,
        license: None,
        license_stated: None,
    }
}

fn origin(artifact: &LockedArtifact, member: Option<&str>) -> Origin {
    // A packager of a distribution seldom writes SPDX.
    let (license, license_stated) = match artifact.kind {
        OriginKind::OsRepository => (None, artifact.license.clone()),
        _ => (artifact.license.clone(), None),
    };
    Origin {
        kind: artifact.kind,
        url: artifact.urls.first().cloned(),
        project: artifact.project.clone().or_else(|| {
            // A local file has no address; its name is all that can be told.
            artifact.path.is_some().then(|| artifact.file_name.clone())
        }),
        version: artifact.version.clone(),
        revision: artifact.revision.clone(),
        archive: member
            .map(|member| ArchiveMember {
                file_name: artifact.file_name.clone(),
                digest: artifact.digest,
                member: member.to_owned(),
            })
            .or_else(|| artifact.member_of.clone()),
        license,
        license_stated,
    }
}
