//! The licence of everything in a bundle: what was accepted, what wheels say of themselves, and the texts.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;

use bundle_mirror::Cache;
use manifest_schema::lock::{Lock, LockedArtifact};
use manifest_schema::plan::WheelLicenses;
use manifest_schema::{
    Component, Digest, LicenseDecision, LicenseText, PlacedFile, Profiles, Provenance, license,
};
use report::{Args, Diagnose, Outcome, Trouble};

use crate::assembly::Parts;
use crate::error::InputError;

mod wheel;

/// Longest text that is carried; the longest of today's wheels has a third of this.
const LARGEST_TEXT: u64 = 1 << 20;

/// All texts together, and their number: what a reader of bundles takes.
const LARGEST_TEXTS: u64 = 48 << 20;
const MOST_TEXTS: usize = 4096;

/// Something may not be in the bundle under what was accepted.
#[derive(Debug, thiserror::Error)]
#[error("`{what}` has the licence {found}, which was not accepted")]
pub(crate) struct NotAccepted {
    what: String,
    found: String,
    wheel: bool,
}

impl Diagnose for NotAccepted {
    fn code(&self) -> &'static str {
        if self.wheel {
            "license.wheel-not-accepted"
        } else {
            "license.not-accepted"
        }
    }

    fn args(&self) -> Args {
        vec![("what", self.what.clone()), ("found", self.found.clone())]
    }

    fn outcome(&self) -> Outcome {
        Outcome::Usage
    }
}

/// What `build` says of licences.
#[derive(Debug, Default)]
pub(crate) struct Licenses {
    /// The texts.
    pub(crate) texts: BTreeMap<Digest, Vec<u8>>,
    /// Wheels whose licence is not known.
    pub(crate) unknown: Vec<String>,
    /// Texts too long to be carried.
    pub(crate) left_out: Vec<String>,
}

/// Records the licence of every model, dataset and wheel in the provenance, and gathers the texts.
pub(crate) fn licenses(lock: &Lock, parts: &mut Parts, cache: &Cache) -> Result<Licenses, Trouble> {
    let mut work = Work {
        cache,
        found: Licenses::default(),
        bytes: 0,
        named: BTreeSet::new(),
    };
    for component in &parts.profiles.components {
        let decision = decide(component, &lock.accept_licenses)?;
        work.component(component)?;
        parts.provenance.licenses.push(decision);
    }
    let of_backends: BTreeSet<Digest> = files_of_backends(&parts.profiles)
        .map(|file| *file.blob())
        .collect();
    let is_wheel = |artifact: &&LockedArtifact| {
        let ending = Path::new(&artifact.file_name).extension();
        ending.is_some_and(|ending| ending == "whl")
    };
    let used = used_archives(&parts.provenance);
    for artifact in lock.artifacts.iter().filter(is_wheel) {
        if !used.contains(&artifact.digest) {
            continue;
        }
        let papers = work.wheel(artifact)?;
        // What a model or dataset takes out of a wheel has the licence that the plan gives it.
        if !record(
            &mut parts.provenance,
            &artifact.digest,
            &papers,
            &of_backends,
        ) {
            continue;
        }
        let (expression, stated) = (&papers.expression, &papers.stated);
        let name = &artifact.file_name;
        let accepted = expression.as_ref().is_some_and(|expression| {
            license::accepted_by(expression, &lock.accept_licenses).is_some()
        });
        if lock.wheel_licenses == WheelLicenses::Accepted && !accepted {
            let found = expression.clone().or_else(|| stated.clone());
            return Err(NotAccepted {
                what: name.clone(),
                found: found.unwrap_or_else(|| "unknown".to_owned()),
                wheel: true,
            }
            .into());
        }
        if expression.is_none() {
            work.found.unknown.push(name.clone());
        }
    }
    parts.provenance.license_texts = work.named.into_iter().collect();
    Ok(work.found)
}

/// What `inspect` shows: names by licence. What is not known stands under what it says of itself, or under nothing.
pub(crate) fn by_license(
    profiles: &Profiles,
    provenance: &Provenance,
) -> BTreeMap<String, BTreeSet<String>> {
    let mut groups: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for component in &profiles.components {
        let named = groups.entry(component.license.clone()).or_default();
        named.insert(component.name.to_string());
    }
    for file in files_of_backends(profiles) {
        let origin = provenance.blobs.get(file.blob());
        let license = origin.and_then(|origin| {
            let stated = origin.license_stated.as_ref();
            let stated = stated.map(|stated| format!("unknown, stated as \"{stated}\""));
            origin.license.clone().or(stated)
        });
        let name = match origin.and_then(|origin| origin.archive.as_ref()) {
            Some(archive) => archive.file_name.clone(),
            None => file.path.to_string(),
        };
        let license = license.unwrap_or_else(|| "unknown".to_owned());
        groups.entry(license).or_default().insert(name);
    }
    groups
}

fn files_of_backends(profiles: &Profiles) -> impl Iterator<Item = &PlacedFile> {
    profiles.backends.iter().flat_map(|backend| {
        let wheels = backend.python.iter().flat_map(|python| &python.wheels);
        backend.files.iter().chain(wheels)
    })
}

/// Whether a file of this name is a licence or a notice that goes with one.
fn is_license_name(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    ["LICENSE", "LICENCE", "NOTICE", "COPYING", "COPYRIGHT"]
        .iter()
        .any(|front| upper.starts_with(front))
}

fn decide(component: &Component, accepted: &[String]) -> Result<LicenseDecision, NotAccepted> {
    let expression = component.license.clone();
    match license::accepted_by(&expression, accepted) {
        Some(accepted) => Ok(LicenseDecision {
            kind: component.kind,
            component: component.name.clone(),
            expression,
            accepted,
        }),
        None => Err(NotAccepted {
            what: component.name.to_string(),
            found: expression,
            wheel: false,
        }),
    }
}

/// Archives that a blob of the bundle is, or is a member of.
fn used_archives(provenance: &Provenance) -> BTreeSet<Digest> {
    let used = provenance.blobs.iter();
    used.map(|(digest, origin)| {
        let archive = origin.archive.as_ref();
        archive.map_or(*digest, |archive| archive.digest)
    })
    .collect()
}

/// Gives every blob of the archive that a backend uses its licence; says whether there is one.
fn record(
    provenance: &mut Provenance,
    archive: &Digest,
    papers: &wheel::Papers,
    of_backends: &BTreeSet<Digest>,
) -> bool {
    let mut used = false;
    for (digest, origin) in &mut provenance.blobs {
        let of = origin
            .archive
            .as_ref()
            .map_or(digest, |found| &found.digest);
        if of == archive && of_backends.contains(digest) {
            used = true;
            origin.license.clone_from(&papers.expression);
            origin.license_stated.clone_from(&papers.stated);
        }
    }
    used
}

struct Work<'a> {
    cache: &'a Cache,
    found: Licenses,
    bytes: u64,
    named: BTreeSet<LicenseText>,
}

impl Work<'_> {
    fn component(&mut self, component: &Component) -> Result<(), InputError> {
        let own = |file: &&PlacedFile| {
            let path = file.path.as_str();
            is_license_name(path.rsplit('/').next().unwrap_or(path))
        };
        for file in component.files.iter().filter(own) {
            let path = self.cache.path(file.blob());
            let mut text = Vec::new();
            std::fs::File::open(&path)
                .and_then(|file| file.take(LARGEST_TEXT + 1).read_to_end(&mut text))
                .map_err(InputError::file(&path))?;
            self.text(component.name.as_str(), file.path.as_str(), text);
        }
        Ok(())
    }

    fn wheel(&mut self, artifact: &LockedArtifact) -> Result<wheel::Papers, InputError> {
        let path = self.cache.path(&artifact.digest);
        let mut papers = wheel::papers(&path).map_err(InputError::file(&path))?;
        let of = &artifact.file_name;
        for (name, text) in std::mem::take(&mut papers.texts) {
            self.text(of, &name, text);
        }
        let left_out = papers.left_out.iter().map(|name| format!("{of}: {name}"));
        self.found.left_out.extend(left_out);
        Ok(papers)
    }

    /// Takes a text, once for all that bring it.
    fn text(&mut self, of: &str, path: &str, text: Vec<u8>) {
        let (digest, size) = (Digest::of(&text), text.len() as u64);
        let new = !self.found.texts.contains_key(&digest);
        let fits = size <= LARGEST_TEXT
            && (!new || self.bytes + size <= LARGEST_TEXTS && self.found.texts.len() < MOST_TEXTS);
        if !fits {
            self.found.left_out.push(format!("{of}: {path}"));
            return;
        }
        if new {
            self.bytes += size;
            self.found.texts.insert(digest, text);
        }
        self.named.insert(LicenseText {
            digest,
            of: of.to_owned(),
            path: path.to_owned(),
        });
    }
}
