//! What `docker save` writes.
//!
//! ```text
//! before version 25:  manifest.json  <hex>.json  <hex>/layer.tar          no digests of what would be in a registry
//! since:              the same manifest.json beside an OCI layout         taken as the layout that it is
//! ```
//!
//! The older form has no manifest that a registry would know. One is written here, in one way only, from the bytes as
//! they are: uncompressed layers stay uncompressed.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use manifest_schema::{ByteSize, Descriptor, Digest, PlatformImage};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::layout::is_layout;
use super::manifest::{LARGEST_DOCUMENT, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, read_config};
use super::take::{Taken, Wanted, missing};
use super::tarball::Tarball;
use crate::MirrorError;

/// An image of the older form.
#[derive(Clone, Debug)]
pub struct Saved {
    /// The image. Its root is the manifest that was written here.
    pub taken: Taken,
    /// The manifest.
    pub manifest: String,
    /// The member that holds each other blob.
    pub members: BTreeMap<Digest, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

const MANIFEST: &str = "manifest.json";
const MOST_LAYERS: usize = 1000;

/// Reads the image that `reference` names, or the only one. `None` for the newer form, which is a layout.
///
/// # Errors
/// When it is no such archive, or holds no such image.
pub fn docker_archive(
    path: &Path,
    reference: Option<&str>,
    wanted: Wanted<'_>,
) -> Result<Option<Saved>, MirrorError> {
    let tarball = Tarball::open(path)?;
    if is_layout(&tarball) {
        return Ok(None);
    }
    let entry = choose(&tarball, reference)?;
    let bytes = tarball.read(&entry.config, LARGEST_DOCUMENT)?;
    let mut members = BTreeMap::new();
    let config = Descriptor {
        media_type: OCI_CONFIG.to_owned(),
        digest: Digest::of(&bytes),
        size: ByteSize(bytes.len() as u64),
    };
    members.insert(config.digest, tarball.resolve(&entry.config)?.0);
    let platform =
        read_config(&bytes, entry.layers.len()).map_err(|problem| tarball.wrong(problem))?;
    missing(
        wanted.platforms,
        std::slice::from_ref(&platform),
        &entry.config,
    )?;
    let mut layers = Vec::new();
    for layer in &entry.layers {
        let (member, size) = tarball.resolve(layer)?;
        let (digest, packing) =
            hash(tarball.reader(&member)?).map_err(|source| MirrorError::file(path, source))?;
        layers.push(Descriptor {
            media_type: format!("{OCI_LAYER}{packing}"),
            digest,
            size: ByteSize(size),
        });
        members.insert(digest, member);
    }
    let manifest = manifest(&config, &layers);
    let root = Descriptor {
        media_type: OCI_MANIFEST.to_owned(),
        digest: Digest::of(manifest.as_bytes()),
        size: ByteSize(manifest.len() as u64),
    };
    let documents = vec![(config.digest, bytes)];
    let taken = Taken {
        root: root.clone(),
        platforms: vec![PlatformImage {
            platform,
            manifest: root,
            config,
            layers,
        }],
        attached: Vec::new(),
        documents,
    };
    Ok(Some(Saved {
        taken,
        manifest,
        members,
    }))
}

fn choose(tarball: &Tarball, reference: Option<&str>) -> Result<Entry, MirrorError> {
    let bytes = tarball.read(MANIFEST, LARGEST_DOCUMENT)?;
    let mut entries: Vec<Entry> = serde_json::from_slice(&bytes)
        .map_err(|error| tarball.wrong(format!("its `{MANIFEST}`: {error}")))?;
    let all: Vec<String> = entries
        .iter()
        .flat_map(|entry| entry.repo_tags.iter().flatten().cloned())
        .take(20)
        .collect();
    if let Some(wanted) = reference {
        let wanted = familiar(wanted);
        entries.retain(|entry| {
            let mut tags = entry.repo_tags.iter().flatten();
            tags.any(|tag| familiar(tag) == wanted)
        });
    }
    let all = all.join(", ");
    if entries.len() > 1 {
        let problem = format!("it has several images, and `reference` must name one: {all}");
        return Err(tarball.wrong(problem));
    }
    let wanted = reference.unwrap_or_default();
    let entry = entries.pop();
    let entry =
        entry.ok_or_else(|| tarball.wrong(format!("it has no image `{wanted}`; it has {all}")))?;
    if entry.layers.len() > MOST_LAYERS {
        let problem = format!(
            "it names {} layers, more than {MOST_LAYERS}",
            entry.layers.len()
        );
        return Err(tarball.wrong(problem));
    }
    Ok(entry)
}

/// A name as docker shortens it.
fn familiar(name: &str) -> &str {
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    name.strip_prefix("library/").unwrap_or(name)
}

/// A layer's digest, and how its media type goes on.
fn hash(mut layer: impl Read) -> std::io::Result<(Digest, &'static str)> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut start = Vec::new();
    loop {
        match layer.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                let missing = 4_usize.saturating_sub(start.len()).min(count);
                start.extend_from_slice(&buffer[..missing]);
                hasher.update(&buffer[..count]);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let packing = match start.as_slice() {
        [0x1f, 0x8b, ..] => "+gzip",
        [0x28, 0xb5, 0x2f, 0xfd] => "+zstd",
        _ => "",
    };
    Ok((Digest::from_bytes(hasher.finalize().into()), packing))
}

/// The one manifest of a configuration and layers.
fn manifest(config: &Descriptor, layers: &[Descriptor]) -> String {
    let entry = |one: &Descriptor| json!({ "mediaType": one.media_type, "digest": one.digest, "size": one.size });
    let layers: Vec<_> = layers.iter().map(entry).collect();
    json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": entry(config), "layers": layers,
    })
    .to_string()
}
