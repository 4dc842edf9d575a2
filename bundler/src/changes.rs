//! What one lock has that another has not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use manifest_schema::lock::{Lock, LockedFile, LockedOsPackages};
use manifest_schema::{BackendName, BundlePath, ByteSize, Digest, Eula};
use serde::Serialize;

/// The differences between two locks.
#[derive(Debug, Serialize)]
pub(crate) struct Changes {
    /// Models, datasets, backends and installers that differ, ordered by kind and name.
    pub(crate) things: Vec<Thing>,
    /// Artifacts that the old lock does not pin.
    pub(crate) new_artifacts: usize,
    /// Their bytes.
    pub(crate) new_bytes: u64,
}

/// One thing that differs.
#[derive(Debug, Serialize)]
pub(crate) struct Thing {
    pub(crate) change: Change,
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    /// Values such as the revision or the version of a distribution.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) values: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) files: Vec<FileChange>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Change {
    Added,
    Removed,
    Changed,
}

#[derive(Debug, Serialize)]
pub(crate) struct Value {
    pub(crate) name: String,
    pub(crate) old: Option<String>,
    pub(crate) new: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct FileChange {
    pub(crate) change: Change,
    pub(crate) path: String,
}

/// A thing of a lock, flattened to what can be compared.
#[derive(Default)]
struct Flat {
    values: BTreeMap<String, String>,
    files: BTreeMap<String, String>,
}

impl Changes {
    pub(crate) fn between(old: &Lock, new: &Lock) -> Self {
        let (before, after) = (flatten(old), flatten(new));
        let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
        let things = keys
            .into_iter()
            .filter_map(|key| thing(key, before.get(key), after.get(key)))
            .collect();
        let known: BTreeSet<Digest> = old.artifacts.iter().map(|a| a.digest).collect();
        let fresh = new.artifacts.iter().filter(|a| !known.contains(&a.digest));
        Self {
            things,
            new_artifacts: fresh.clone().count(),
            new_bytes: fresh.map(|artifact| artifact.size.0).sum(),
        }
    }

    /// One line a difference: `+` added, `-` removed, `~` changed. `sum` says what is new.
    pub(crate) fn lines(&self, sum: impl Fn(usize, ByteSize) -> String) -> String {
        let mut text = String::new();
        for thing in &self.things {
            let _ = writeln!(
                text,
                "{} {} {}",
                thing.change.sign(),
                thing.kind,
                thing.name
            );
            for value in &thing.values {
                let shown =
                    |value: &Option<String>| value.clone().unwrap_or_else(|| "—".to_owned());
                let (old, new) = (shown(&value.old), shown(&value.new));
                let _ = writeln!(text, "    {}: {old} → {new}", value.name);
            }
            for file in &thing.files {
                let _ = writeln!(text, "    {} {}", file.change.sign(), file.path);
            }
        }
        text.push_str(&sum(self.new_artifacts, ByteSize(self.new_bytes)));
        text
    }
}

impl Change {
    fn sign(self) -> char {
        match self {
            Self::Added => '+',
            Self::Removed => '-',
            Self::Changed => '~',
        }
    }
}

fn thing(key: &(&'static str, String), old: Option<&Flat>, new: Option<&Flat>) -> Option<Thing> {
    let none = Flat::default();
    let change = match (old, new) {
        (None, _) => Change::Added,
        (_, None) => Change::Removed,
        _ => Change::Changed,
    };
    let (before, after) = (old.unwrap_or(&none), new.unwrap_or(&none));
    let mut values = Vec::new();
    for (name, old, new) in differing(&before.values, &after.values) {
        values.push(Value {
            name: name.clone(),
            old: old.cloned(),
            new: new.cloned(),
        });
    }
    let mut files = Vec::new();
    for (path, old, new) in differing(&before.files, &after.files) {
        let change = match (old, new) {
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
            _ => Change::Changed,
        };
        let path = path.clone();
        files.push(FileChange { change, path });
    }
    let differs = change != Change::Changed || !values.is_empty() || !files.is_empty();
    differs.then(|| Thing {
        change,
        kind: key.0,
        name: key.1.clone(),
        values,
        files,
    })
}

/// The keys under which two maps differ, with both values.
fn differing<'a>(
    old: &'a BTreeMap<String, String>,
    new: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = (&'a String, Option<&'a String>, Option<&'a String>)> {
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    keys.into_iter()
        .map(|key| (key, old.get(key), new.get(key)))
        .filter(|(_, old, new)| old != new)
}

fn flatten(lock: &Lock) -> BTreeMap<(&'static str, String), Flat> {
    let mut flat = BTreeMap::new();
    let mut bundle = Flat::default();
    bundle.value("release", Some(lock.release));
    bundle.value("channel", Some(&lock.channel));
    flat.insert(("bundle", lock.name.to_string()), bundle);
    for component in &lock.components {
        let mut one = Flat::default();
        one.value("license", Some(&component.license));
        one.value("revision", component.revision.as_ref());
        for (key, value) in &component.fill {
            one.value(&format!("fill {key}"), Some(value));
        }
        one.value("dataset_info", component.dataset_info.as_ref());
        one.terms(&component.eulas);
        one.files(&component.files);
        let kind = match component.kind {
            manifest_schema::ComponentKind::Model => "model",
            manifest_schema::ComponentKind::Dataset => "dataset",
        };
        flat.insert((kind, component.name.to_string()), one);
    }
    for backend in &lock.backends {
        let mut one = Flat::default();
        one.value("chip", Some(&backend.chip));
        one.value("arch", Some(backend.arch));
        one.value("glibc", backend.glibc);
        for (name, version) in &backend.versions {
            one.value(name, Some(version));
        }
        one.files(&backend.files);
        one.terms(&backend.eulas);
        for port in &backend.ports {
            one.value(&format!("port {}", port.number), Some(&port.service));
        }
        for item in &backend.host {
            one.value(item.kind.as_str(), Some(&item.version));
            for (field, file) in item.files() {
                let mut file = file.clone();
                file.path =
                    BundlePath::parse(&format!("{}/{field}", item.kind)).unwrap_or(file.path);
                one.files(&[file]);
            }
        }
        if let Some(python) = &backend.python {
            one.value("python", Some(&python.version));
            for requirement in &python.requirements {
                let (name, version) = requirement.split_once("==").unwrap_or((requirement, ""));
                one.value(&format!("wheel {name}"), Some(version));
            }
            one.files(&python.wheels);
        }
        flat.insert(("backend", backend.name.to_string()), one);
    }
    for image in &lock.images {
        let mut one = Flat::default();
        one.value("license", Some(&image.license));
        one.value("digest", Some(image.root.digest));
        let backends: Vec<&str> = image.backends.iter().map(BackendName::as_str).collect();
        one.value("backends", Some(backends.join(", ")));
        for found in &image.platforms {
            let what = found.manifest.digest.to_string();
            one.files.insert(found.platform.to_string(), what);
        }
        for attached in &image.attached {
            let kind = attached.artifact_type.as_deref().unwrap_or("attached");
            let (name, what) = (attached.manifest.digest, attached.subject);
            one.files.insert(format!("{kind} {name}"), what.to_string());
        }
        flat.insert(("image", image.reference()), one);
    }
    for set in &lock.os_packages {
        flat.insert(("os-packages", set.name.to_string()), packages(set));
    }
    for (arch, file) in &lock.installers {
        let mut one = Flat::default();
        one.files(std::slice::from_ref(file));
        flat.insert(("installer", arch.to_string()), one);
    }
    flat
}

/// A set of packages of an operating system.
fn packages(set: &LockedOsPackages) -> Flat {
    let mut one = Flat::default();
    let edition = set.edition.as_deref().unwrap_or_default();
    let system = format!("{} {edition} {}", set.os, set.arch);
    one.value("system", Some(system.replace("  ", " ")));
    one.value("kernel", set.kernel.as_ref());
    for wanted in &set.wanted {
        let version = wanted
            .version
            .as_ref()
            .map_or("*", |version| version.as_str());
        one.value(&format!("wanted {}", wanted.name), Some(version));
    }
    for repository in &set.repositories {
        let signed_by = repository.signed_by.as_deref().unwrap_or("nobody");
        one.value(&format!("{} signed by", repository.url), Some(signed_by));
    }
    for package in &set.packages {
        // Several kernels may stand side by side.
        let all = set
            .packages
            .iter()
            .filter(|other| other.name == package.name);
        let versions: Vec<&str> = all.map(|one| one.version.as_str()).collect();
        one.value(
            &format!("package {}", package.name),
            Some(versions.join(", ")),
        );
    }
    one.files(&set.keys);
    one
}

impl Flat {
    fn value(&mut self, name: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.values.insert(name.to_owned(), value.to_string());
        }
    }

    fn terms(&mut self, eulas: &[Eula<LockedFile>]) {
        for eula in eulas {
            let member = eula.text.member.as_deref().unwrap_or_default();
            let text = format!("{}#{member}", eula.text.artifact);
            self.value(&format!("terms {}", eula.name), Some(text));
        }
    }

    /// Groups share a folder, so what they take is part of their name.
    fn files(&mut self, files: &[LockedFile]) {
        for file in files {
            let mut name = file.path.to_string();
            if !file.members.is_empty() {
                let _ = write!(name, "/{{{}}}", file.members.join(","));
            }
            let member = file.member.as_deref().unwrap_or_default();
            let what = format!(
                "{}#{member} {} {}",
                file.artifact, file.strip, file.executable
            );
            self.files.insert(name, what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(revision: &str, wheel: &str, file: &str) -> Lock {
        let digest = |text: &str| Digest::of(text.as_bytes());
        let artifact = |text: &str| {
            serde_json::json!({ "digest": digest(text), "size": 10, "file_name": text, "kind": "https",
                "urls": [format!("https://example.org/{text}")] })
        };
        let lock = serde_json::json!({
            "format": 1, "plan_digest": digest("plan"), "name": "demo", "release": 1, "channel": "stable",
            "components": [{ "kind": "model", "name": "org/model", "license": "MIT", "revision": revision,
                "files": [{ "path": "a", "artifact": digest(file) }] }],
            "backends": [{ "name": "cpu", "chip": "cpu", "arch": "x86_64", "files": [],
                "python": { "version": "3.11", "requirements": [format!("numpy=={wheel}")],
                    "wheels": [{ "path": format!("numpy-{wheel}.whl"), "artifact": digest(wheel) }] } }],
            "artifacts": [artifact(file), artifact(wheel)],
        });
        Lock::parse(&serde_json::to_vec(&lock).unwrap()).unwrap()
    }

    fn sum(count: usize, size: ByteSize) -> String {
        format!("= +{count} artifacts, {size}")
    }

    #[test]
    fn equal_locks_have_no_differences() {
        let changes = Changes::between(&lock("1", "2.0", "x"), &lock("1", "2.0", "x"));
        assert_eq!(changes.lines(sum), "= +0 artifacts, 0 B");
    }

    #[test]
    fn a_revision_a_wheel_and_a_file_are_named_with_both_values() {
        let changes = Changes::between(&lock("1", "2.0", "x"), &lock("2", "2.1", "y"));
        let expected = "\
~ backend cpu
    wheel numpy: 2.0 → 2.1
    - numpy-2.0.whl
    + numpy-2.1.whl
~ model org/model
    revision: 1 → 2
    ~ a
= +2 artifacts, 20 B";
        assert_eq!(changes.lines(sum), expected);
    }

    #[test]
    fn what_comes_and_goes_is_said_so() {
        let (one, mut two) = (lock("1", "2.0", "x"), lock("1", "2.0", "x"));
        two.components.clear();
        let gone = Changes::between(&one, &two);
        assert_eq!(
            (gone.things[0].change, gone.things[0].kind),
            (Change::Removed, "model")
        );
        let come = Changes::between(&two, &one);
        assert_eq!((come.things[0].change, come.new_bytes), (Change::Added, 0));
    }
}
