//! The files of a release: which of them are signed, and which the installer writes itself.
//!
//! ```text
//! backend/…                       the chosen backend's files
//! bin/ferry-runtime               starts backend/bin/ferry-runtime with its libraries
//! models/<org>/<name>/…           each model, as plain folders
//! hub/models--<org>--<name>/      the same files as a Hugging Face cache (HF_HUB_CACHE)
//!     refs/main                   the revision
//!     snapshots/<revision>/…
//! datasets/<name>/…               each dataset
//! datasets/dataset_info.json      what LLaMA-Factory knows of them
//! wheels/…                        what env/ is made from
//! eulas/<name>.txt                terms that a person accepted, or that stand before an installer of the vendor
//! systemd/ferry-…                 units, linked into systemd where that is asked for
//! images/                         the container images of this machine, as an OCI image layout
//!     oci-layout  index.json      what makes it one
//!     manifest.json               the same for `docker load`
//!     blobs/sha256/…
//! os/<set>/…                      packages of this operating system, as a repository
//! env.sh                          to be read by a shell
//! ```
//!
//! Installing and auditing compute the same tree from the signed profiles, so an audit knows every byte that
//! should be there, also of the files that nobody signed because they follow from signed ones.

use std::collections::BTreeMap;
use std::path::Path;

use bundle_format::{OCI_LAYOUT, docker_manifest, oci_index};
use manifest_schema::{
    Arch, Backend, BundlePath, Component, ComponentKind, Digest, Image, OsPackages, PlacedFile,
    Profiles, RepoName,
};
use serde_json::{Map, Value};

use crate::repository;
use crate::units::{UNITS, units};

/// Files by their path below the release.
pub(crate) type Tree = BTreeMap<String, File>;

/// One file of a release.
#[derive(Clone, Debug)]
pub(crate) enum File {
    /// Pinned by the signed profiles.
    Signed {
        /// What it is.
        placed: PlacedFile,
        /// The model or dataset that it belongs to.
        owner: Option<Owner>,
    },
    /// Follows from the signed profiles.
    Derived {
        /// All of it.
        bytes: Vec<u8>,
        /// Whether it may be run.
        executable: bool,
    },
}

/// What a file of a model or dataset belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub(crate) kind: ComponentKind,
    pub(crate) name: RepoName,
    pub(crate) license: String,
}

impl Owner {
    fn of(component: &Component) -> Self {
        Self {
            kind: component.kind,
            name: component.name.clone(),
            license: component.license.clone(),
        }
    }
}

/// Two things want the same place, or one lies inside the other.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Clash {
    /// The place.
    pub(crate) path: String,
}

/// The tree of `profiles` with `backend`, to be installed below `prefix` on a machine of architecture `arch`. A backend
/// knows its architecture itself.
pub(crate) fn tree(
    profiles: &Profiles,
    backend: Option<&Backend>,
    arch: Option<Arch>,
    os_packages: Option<&OsPackages>,
    prefix: &Path,
) -> Result<Tree, Clash> {
    let mut files = Files(Tree::new());
    let mut datasets = Map::new();
    for component in &profiles.components {
        match component.kind {
            ComponentKind::Model => files.model(component)?,
            ComponentKind::Dataset => files.dataset(component, &mut datasets)?,
        }
    }
    if !datasets.is_empty() {
        let mut bytes = serde_json::to_vec_pretty(&Value::Object(datasets)).unwrap_or_default();
        bytes.push(b'\n');
        files.derived("datasets/dataset_info.json", bytes, false)?;
    }
    if let Some(backend) = backend {
        for placed in &backend.files {
            files.signed(format!("backend/{}", placed.path), placed, None)?;
        }
        if files.0.contains_key("backend/bin/ferry-runtime") {
            files.derived("bin/ferry-runtime", LAUNCHER.into(), true)?;
            for (name, text) in units(prefix) {
                files.derived(&format!("{UNITS}/{name}"), text.into_bytes(), false)?;
            }
        }
        for placed in backend.python.iter().flat_map(|python| &python.wheels) {
            files.signed(format!("wheels/{}", placed.path), placed, None)?;
        }
    }
    let eulas = profiles.eulas(backend.map(|one| &one.name));
    let eulas = eulas.map_err(|name| Clash {
        path: format!("eulas/{name}.txt"),
    })?;
    for (name, text) in eulas {
        files.signed(format!("eulas/{name}.txt"), text, None)?;
    }
    files.images(&images_of(profiles, backend, arch))?;
    if let Some(set) = os_packages {
        files.os_packages(set, prefix)?;
    }
    files.derived("env.sh", environment(prefix).into_bytes(), false)?;
    files.check_nesting()?;
    Ok(files.0)
}

/// The images that belong on the machine.
pub(crate) fn images_of(
    profiles: &Profiles,
    backend: Option<&Backend>,
    arch: Option<Arch>,
) -> Vec<Image> {
    let arch = backend.map(|backend| backend.arch).or(arch);
    let named = backend.map(|backend| &backend.name);
    arch.map_or_else(Vec::new, |arch| profiles.images_for(arch, named))
}

struct Files(Tree);

impl Files {
    fn model(&mut self, model: &Component) -> Result<(), Clash> {
        let owner = Some(Owner::of(model));
        let cache = format!("hub/models--{}", model.name.as_str().replace('/', "--"));
        let revision = revision(model);
        for placed in &model.files {
            let path = &placed.path;
            if model.signature.as_ref() == Some(path) {
                // The cache holds what its readers know from the hub, and nothing else.
                self.signed(format!("models/{}/{path}", model.name), placed, None)?;
                continue;
            }
            self.signed(
                format!("models/{}/{path}", model.name),
                placed,
                owner.clone(),
            )?;
            self.signed(
                format!("{cache}/snapshots/{revision}/{path}"),
                placed,
                owner.clone(),
            )?;
        }
        self.derived(&format!("{cache}/refs/main"), revision.into_bytes(), false)
    }

    fn dataset(&mut self, dataset: &Component, info: &mut Map<String, Value>) -> Result<(), Clash> {
        for placed in &dataset.files {
            let path = format!("datasets/{}/{}", dataset.name, placed.path);
            self.signed(path, placed, Some(Owner::of(dataset)))?;
        }
        if let Some(mut entry) = dataset.dataset_info.clone() {
            if let Some(Value::String(file)) = entry.get_mut("file_name") {
                *file = format!("{}/{file}", dataset.name);
            }
            info.insert(dataset.name.to_string(), entry);
        }
        Ok(())
    }

    /// Images share blobs; each is there once.
    fn images(&mut self, images: &[Image]) -> Result<(), Clash> {
        if images.is_empty() {
            return Ok(());
        }
        for image in images {
            for blob in image.blobs() {
                let path = format!("images/blobs/sha256/{}", blob.digest.hex());
                if self.0.contains_key(&path) {
                    continue;
                }
                let placed = PlacedFile {
                    path: BundlePath::parse(&blob.digest.hex())
                        .map_err(|_| Clash { path: path.clone() })?,
                    executable: false,
                    size: blob.size,
                    digest: blob.digest,
                    made_from: None,
                };
                // Its licence is that of its origin.
                self.signed(path, &placed, None)?;
            }
        }
        self.derived("images/oci-layout", OCI_LAYOUT.into(), false)?;
        self.derived("images/index.json", oci_index(images), false)?;
        self.derived("images/manifest.json", docker_manifest(images), false)
    }

    fn os_packages(&mut self, set: &OsPackages, prefix: &Path) -> Result<(), Clash> {
        let folder = repository::folder_of(&set.name);
        for package in &set.packages {
            let path = format!("{folder}/{}", package.file.path);
            self.signed(path, &package.file, None)?;
        }
        for placed in &set.metadata {
            self.signed(format!("{folder}/{}", placed.path), placed, None)?;
        }
        let place = repository::current_folder(prefix, &set.name);
        let (name, text) = repository::source_file(set, &place);
        self.derived(&format!("{folder}/{name}"), text.into_bytes(), false)
    }

    fn signed(
        &mut self,
        path: String,
        placed: &PlacedFile,
        owner: Option<Owner>,
    ) -> Result<(), Clash> {
        let placed = placed.clone();
        self.put(path, File::Signed { placed, owner })
    }

    fn derived(&mut self, path: &str, bytes: Vec<u8>, executable: bool) -> Result<(), Clash> {
        self.put(path.to_owned(), File::Derived { bytes, executable })
    }

    fn put(&mut self, path: String, file: File) -> Result<(), Clash> {
        if self.0.contains_key(&path) {
            return Err(Clash { path });
        }
        self.0.insert(path, file);
        Ok(())
    }

    /// No file may lie where another needs a folder.
    fn check_nesting(&self) -> Result<(), Clash> {
        for path in self.0.keys() {
            let inside = path
                .match_indices('/')
                .map(|(end, _)| &path[..end])
                .find(|parent| self.0.contains_key(*parent));
            if let Some(parent) = inside {
                return Err(Clash {
                    path: parent.to_owned(),
                });
            }
        }
        Ok(())
    }
}

/// The commit that the cache names. A model without one gets a name made of what is in it, since the
/// readers of the cache want some.
fn revision(model: &Component) -> String {
    let plain = |text: &&String| {
        (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    model
        .revision
        .as_ref()
        .filter(plain)
        .cloned()
        .unwrap_or_else(|| {
            let lines = model.files.iter();
            let lines =
                lines.map(|file| [&file.digest.hex(), "  ", file.path.as_str(), "\n"].concat());
            Digest::of(lines.collect::<String>().as_bytes()).hex()[..40].to_owned()
        })
}

/// What a shell reads to use the current release: `. <prefix>/current/env.sh`.
fn environment(prefix: &Path) -> String {
    let quoted = prefix.display().to_string().replace('\'', r"'\''");
    format!(
        r#"# Puts the current release into a shell that reads this file with `.`
FERRY_PREFIX='{quoted}'
FERRY_HOME="$FERRY_PREFIX/current"
FERRY_CACHE="${{FERRY_CACHE:-$FERRY_PREFIX/cache}}"
PATH="$FERRY_HOME/bin:$PATH"
HF_HUB_CACHE="$FERRY_HOME/hub"
HF_HUB_OFFLINE=1
HF_DATASETS_OFFLINE=1
TRANSFORMERS_OFFLINE=1
HF_HUB_DISABLE_TELEMETRY=1
PYTHONPYCACHEPREFIX="$FERRY_CACHE/pycache"
export FERRY_HOME FERRY_CACHE PATH HF_HUB_CACHE HF_HUB_OFFLINE HF_DATASETS_OFFLINE
export TRANSFORMERS_OFFLINE HF_HUB_DISABLE_TELEMETRY PYTHONPYCACHEPREFIX
if [ -d "$FERRY_HOME/env/bin" ]; then
    PATH="$FERRY_HOME/env/bin:$PATH"
fi
"#
    )
}

/// Finds its release from its own place, so a release works before it is current, and under a moved prefix.
const LAUNCHER: &str = r#"#!/bin/sh
# Runs this release's ferry-runtime with its own libraries, models and datasets.
set -eu
self=$(readlink -f "$0")
FERRY_HOME=$(dirname "$(dirname "$self")")
FERRY_CACHE=${FERRY_CACHE:-$(dirname "$(dirname "$FERRY_HOME")")/cache}
HF_HUB_CACHE="$FERRY_HOME/hub"
HF_HUB_OFFLINE=1
LD_LIBRARY_PATH="$FERRY_HOME/backend/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
# Threads sleep while they wait. Without this the program would set it and start itself anew.
OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
export FERRY_HOME FERRY_CACHE HF_HUB_CACHE HF_HUB_OFFLINE LD_LIBRARY_PATH OMP_WAIT_POLICY
exec "$FERRY_HOME/backend/bin/ferry-runtime" "$@"
"#;

#[cfg(test)]
mod tests {
    use manifest_schema::ByteSize;

    use super::*;

    fn placed(path: &str) -> PlacedFile {
        PlacedFile {
            path: path.parse().unwrap(),
            executable: false,
            size: ByteSize(1),
            digest: Digest::of(path.as_bytes()),
            made_from: None,
        }
    }

    fn profiles(kind: ComponentKind, name: &str, files: &[&str]) -> Profiles {
        Profiles {
            format: 1,
            name: "demo".parse().unwrap(),
            release: 1,
            channel: "stable".into(),
            components: vec![Component {
                kind,
                name: name.parse().unwrap(),
                license: "Apache-2.0".into(),
                revision: None,
                files: files.iter().map(|path| placed(path)).collect(),
                signature: None,
                dataset_info: Some(serde_json::json!({"file_name": "data.json"})),
                eulas: vec![],
            }],
            backends: vec![],
            images: vec![],
            os_packages: vec![],
        }
    }

    #[test]
    fn a_model_is_a_folder_and_a_cache_of_the_same_files() {
        let profiles = profiles(ComponentKind::Model, "org/small", &["config.json"]);
        let tree = tree(&profiles, None, None, None, Path::new("/opt/ferry")).unwrap();
        let revision = revision(&profiles.components[0]);
        assert_eq!(revision.len(), 40);
        let paths: Vec<&String> = tree.keys().collect();
        assert_eq!(
            paths,
            [
                "env.sh",
                "hub/models--org--small/refs/main",
                &format!("hub/models--org--small/snapshots/{revision}/config.json"),
                "models/org/small/config.json",
            ]
        );
    }

    #[test]
    fn a_models_signature_lies_in_the_folder_and_not_in_the_cache() {
        let mut profiles = profiles(
            ComponentKind::Model,
            "org/small",
            &["config.json", "model.sig"],
        );
        profiles.components[0].signature = Some("model.sig".parse().unwrap());
        let tree = tree(&profiles, None, None, None, Path::new("/opt/ferry")).unwrap();
        let signatures: Vec<_> = tree
            .keys()
            .filter(|path| path.contains("model.sig"))
            .collect();
        assert_eq!(signatures, ["models/org/small/model.sig"]);
    }

    #[test]
    fn the_dataset_table_names_files_from_the_datasets_folder() {
        let profiles = profiles(ComponentKind::Dataset, "identity", &["data.json"]);
        let tree = tree(&profiles, None, None, None, Path::new("/opt/ferry")).unwrap();
        let File::Derived { bytes, .. } = &tree["datasets/dataset_info.json"] else {
            panic!("not derived");
        };
        let info: Value = serde_json::from_slice(bytes).unwrap();
        assert_eq!(info["identity"]["file_name"], "identity/data.json");
        assert!(tree.contains_key("datasets/identity/data.json"));
    }

    #[test]
    fn a_file_where_another_needs_a_folder_is_refused() {
        for files in [&["a", "a/b"][..], &["a", "a"], &["a/b/c", "a"]] {
            let profiles = profiles(ComponentKind::Model, "org/small", files);
            assert!(
                tree(&profiles, None, None, None, Path::new("/opt")).is_err(),
                "{files:?}"
            );
        }
    }

    #[test]
    fn a_prefix_with_a_quote_stays_one_word() {
        let text = environment(Path::new("/o'pt; rm -rf"));
        assert!(text.contains(r"FERRY_PREFIX='/o'\''pt; rm -rf'"), "{text}");
    }
}
