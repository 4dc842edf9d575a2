//! Manifests and indexes: foreign JSON to types, with every doubt refused.
//!
//! A document that could be read as two things is refused: what one program signs, another might read otherwise.

use std::collections::BTreeMap;

use manifest_schema::{ByteSize, Descriptor, Digest, Platform};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// Bound of a manifest, an index and a configuration; registries refuse larger manifests too.
pub(crate) const LARGEST_DOCUMENT: u64 = 4 << 20;
/// Bound of what one document names. Docker stops at 127 layers.
const MOST_ENTRIES: usize = 1000;

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// With or without a signature in it.
const SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// What is asked for when a manifest or an index is wanted.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// A manifest or an index.
#[derive(Clone, Debug)]
pub(crate) enum Document {
    Index(Vec<Child>),
    Manifest(Manifest),
}

/// An entry of an index.
#[derive(Clone, Debug)]
pub(crate) struct Child {
    pub(crate) descriptor: Descriptor,
    pub(crate) platform: Option<Platform>,
    pub(crate) artifact_type: Option<String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// A manifest.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
    pub(crate) subject: Option<Digest>,
    pub(crate) artifact_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: Option<u64>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    manifests: Option<Vec<RawDescriptor>>,
    subject: Option<RawDescriptor>,
    fs_layers: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<RawPlatform>,
    artifact_type: Option<String>,
    annotations: Option<BTreeMap<String, String>>,
    urls: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct RawPlatform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Document {
    /// Reads `bytes`. `told` is what somebody else says they are: a header, or the entry that led here.
    ///
    /// Returns the document's own media type too.
    pub(crate) fn parse(bytes: &[u8], told: Option<&str>) -> Result<(String, Self), String> {
        let raw: Raw = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let own = raw.media_type.as_deref();
        let old = |kind: Option<&str>| kind.is_some_and(|kind| kind.starts_with(SCHEMA_1));
        if raw.schema_version == Some(1) || raw.fs_layers.is_some() || old(own) || old(told) {
            return Err(
                "it is in Docker's image manifest version 2, schema 1, which has no digests \
                of its own: push it again with a newer program"
                    .to_owned(),
            );
        }
        if raw.schema_version != Some(2) {
            return Err("it has no `schemaVersion` 2".to_owned());
        }
        let (usual, document) = match (raw.manifests, raw.config, raw.layers) {
            (Some(children), None, None) => (OCI_INDEX, Self::Index(entries(children, child)?)),
            (None, Some(config), Some(layers)) => {
                let manifest = Manifest {
                    config: descriptor(config)?,
                    layers: entries(layers, descriptor)?,
                    subject: raw.subject.map(|one| digest(&one.digest)).transpose()?,
                    artifact_type: raw.artifact_type.map(short),
                };
                (OCI_MANIFEST, Self::Manifest(manifest))
            }
            _ => return Err("it is neither a manifest nor an index, or both".to_owned()),
        };
        let is_index = usual == OCI_INDEX;
        let told = told.filter(|told| kind_of(told).is_some());
        for stated in own.into_iter().chain(told) {
            if kind_of(stated) != Some(is_index) {
                let is = if is_index { "an index" } else { "a manifest" };
                return Err(format!("it calls itself `{}` and is {is}", clip(stated)));
            }
        }
        match (own, told) {
            (Some(own), Some(told)) if own != told => {
                let (own, told) = (clip(own), clip(told));
                Err(format!("it is `{own}`, and was announced as `{told}`"))
            }
            _ => Ok((own.or(told).unwrap_or(usual).to_owned(), document)),
        }
    }
}

impl Manifest {
    /// Refuses what is no image, or may not be handed on.
    pub(crate) fn check_image(&self) -> Result<(), String> {
        let config = self.config.media_type.as_str();
        if ![OCI_CONFIG, DOCKER_CONFIG].contains(&config) {
            let kind = self.artifact_type.as_deref().unwrap_or(config);
            return Err(format!("it is no container image, but `{}`", clip(kind)));
        }
        for layer in &self.layers {
            let kind = layer.media_type.as_str();
            let packing = kind
                .strip_prefix(OCI_LAYER)
                .map(|rest| ["", "+gzip", "+zstd"].contains(&rest))
                .or_else(|| {
                    let rest = kind.strip_prefix(DOCKER_LAYER)?;
                    Some(["", ".gzip", ".zstd"].contains(&rest))
                });
            if packing != Some(true) {
                let (digest, kind) = (layer.digest, clip(kind));
                return Err(format!("its layer {digest} is of the kind `{kind}`"));
            }
        }
        Ok(())
    }

    /// Configuration and layers, each digest once. A digest has one size.
    pub(crate) fn check_sizes(&self) -> Result<(), String> {
        let mut sizes = BTreeMap::new();
        let mut total = 0_u64;
        for blob in std::iter::once(&self.config).chain(&self.layers) {
            let size = blob.size.0;
            if *sizes.entry(blob.digest).or_insert(size) != size {
                return Err(format!("it gives {} two sizes", blob.digest));
            }
            total = total
                .checked_add(size)
                .filter(|total| *total <= LARGEST_IMAGE)
                .ok_or_else(|| format!("it would have more than {LARGEST_IMAGE} bytes"))?;
        }
        Ok(())
    }
}

/// More than any disk that an image is unpacked on.
const LARGEST_IMAGE: u64 = 16 << 40;

/// Checks a configuration; returns the platform that it names.
pub(crate) fn read_config(bytes: &[u8], layers: usize) -> Result<Platform, String> {
    #[derive(Deserialize)]
    struct Config {
        os: String,
        architecture: String,
        variant: Option<String>,
        rootfs: RootFs,
    }
    #[derive(Deserialize)]
    struct RootFs {
        diff_ids: Vec<String>,
    }
    let config: Config = serde_json::from_slice(bytes)
        .map_err(|error| format!("its configuration cannot be read: {error}"))?;
    let found = config.rootfs.diff_ids.len();
    if found != layers {
        return Err(format!(
            "its configuration knows {found} layers, its manifest {layers}"
        ));
    }
    platform(&RawPlatform {
        os: config.os,
        architecture: config.architecture,
        variant: config.variant,
    })
    .ok_or_else(|| "its configuration names no platform".to_owned())
}

/// Whether a media type is that of an index; `None` for any other kind of thing.
fn kind_of(media_type: &str) -> Option<bool> {
    match media_type {
        OCI_INDEX | DOCKER_LIST => Some(true),
        OCI_MANIFEST | DOCKER_MANIFEST => Some(false),
        _ => None,
    }
}

/// Whether a media type is that of a manifest or an index, which registries keep apart from blobs.
pub(crate) fn is_document(media_type: &str) -> bool {
    kind_of(media_type).is_some()
}

fn entries<T>(
    raw: Vec<RawDescriptor>,
    read: impl Fn(RawDescriptor) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    if raw.len() > MOST_ENTRIES {
        return Err(format!(
            "it names {} things, more than {MOST_ENTRIES}",
            raw.len()
        ));
    }
    raw.into_iter().map(read).collect()
}

fn child(raw: RawDescriptor) -> Result<Child, String> {
    let platform = raw.platform.as_ref().and_then(platform);
    let annotations = raw.annotations.clone().unwrap_or_default();
    let artifact_type = raw.artifact_type.clone().map(short);
    Ok(Child {
        descriptor: descriptor(raw)?,
        platform,
        artifact_type,
        annotations,
    })
}

fn descriptor(raw: RawDescriptor) -> Result<Descriptor, String> {
    let foreign = raw.urls.is_some_and(|urls| !urls.is_empty());
    if foreign
        || ["foreign", "nondistributable"]
            .iter()
            .any(|word| raw.media_type.contains(word))
    {
        return Err(format!(
            "its layer {} may not be handed on: only its vendor's own server has it",
            clip(&raw.digest)
        ));
    }
    Ok(Descriptor {
        digest: digest(&raw.digest)?,
        size: ByteSize(raw.size),
        media_type: short(raw.media_type),
    })
}

fn digest(text: &str) -> Result<Digest, String> {
    Digest::parse(text)
        .map_err(|_| format!("it names `{}`, which is no SHA-256 digest", clip(text)))
}

/// `None` for a platform that is none, such as `unknown/unknown`.
fn platform(raw: &RawPlatform) -> Option<Platform> {
    let mut text = format!("{}/{}", raw.os, raw.architecture);
    if let Some(variant) = raw.variant.as_ref().filter(|variant| !variant.is_empty()) {
        text.push('/');
        text.push_str(variant);
    }
    Platform::parse(&text)
        .ok()
        .filter(|_| raw.architecture != "unknown")
}

/// A media type, bounded: it is written into locks and bundles.
fn short(text: String) -> String {
    if text.len() <= 255 && text.bytes().all(|b| b.is_ascii_graphic()) {
        text
    } else {
        clip(&text)
    }
}

/// The beginning of a foreign text, for a message.
fn clip(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { '?' } else { c });
    plain.take(120).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn blob(kind: &str) -> Value {
        json!({ "mediaType": kind, "digest": Digest::of(kind.as_bytes()), "size": 7 })
    }

    fn parse(value: &Value, told: Option<&str>) -> Result<(String, Document), String> {
        Document::parse(value.to_string().as_bytes(), told)
    }

    fn image(layer: &str) -> Value {
        json!({ "schemaVersion": 2, "config": blob(OCI_CONFIG), "layers": [blob(layer)] })
    }

    #[test]
    fn a_document_is_one_thing_and_says_which() {
        let manifest = image("application/vnd.oci.image.layer.v1.tar+zstd");
        let (kind, _) = parse(&manifest, Some("application/octet-stream")).unwrap();
        assert_eq!(kind, OCI_MANIFEST);
        assert_eq!(
            parse(&manifest, Some(DOCKER_MANIFEST)).unwrap().0,
            DOCKER_MANIFEST
        );
        let mut both = manifest.clone();
        both["manifests"] = json!([]);
        let mut liar = manifest.clone();
        liar["mediaType"] = OCI_INDEX.into();
        let mut other = manifest.clone();
        other["mediaType"] = OCI_MANIFEST.into();
        let mut many = manifest.clone();
        many["layers"] = json!(vec![blob("x"); 1001]);
        let mut weak = manifest.clone();
        weak["config"]["digest"] = "sha512:00".into();
        let mut negative = manifest.clone();
        negative["layers"][0]["size"] = (-1).into();
        let schema1 = json!({ "schemaVersion": 1, "fsLayers": [] });
        for (value, told, expected) in [
            (&both, None, "or both"),
            (&liar, None, "calls itself"),
            (&manifest, Some(OCI_INDEX), "calls itself"),
            (&other, Some(DOCKER_MANIFEST), "announced"),
            (&many, None, "1001 things"),
            (&weak, None, "no SHA-256"),
            (&negative, None, "-1"),
            (&schema1, None, "schema 1"),
            (&json!({ "schemaVersion": 2 }), None, "neither"),
            (&json!({ "layers": [] }), None, "schemaVersion"),
            (&json!("x"), None, "expected"),
        ] {
            let error = parse(value, told).unwrap_err();
            assert!(error.contains(expected), "{expected}: {error}");
        }
        let twice = br#"{"schemaVersion":2,"manifests":[],"manifests":[]}"#;
        assert!(
            Document::parse(twice, None)
                .unwrap_err()
                .contains("duplicate")
        );
        let deep = [b"{\"config\":".repeat(100_000), b"1".to_vec()].concat();
        assert!(Document::parse(&deep, None).is_err());
    }

    #[test]
    fn layers_that_may_not_be_handed_on_are_refused_and_zstd_ones_are_not() {
        for (kind, expected) in [
            ("application/vnd.oci.image.layer.v1.tar", ""),
            ("application/vnd.oci.image.layer.v1.tar+gzip", ""),
            ("application/vnd.oci.image.layer.v1.tar+zstd", ""),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", ""),
            (
                "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                "handed on",
            ),
            (
                "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
                "handed on",
            ),
            (
                "application/vnd.oci.image.layer.v1.tar+encrypted",
                "of the kind",
            ),
            ("text/plain", "of the kind"),
        ] {
            let checked = match parse(&image(kind), None) {
                Ok((_, Document::Manifest(manifest))) => manifest.check_image(),
                Ok(_) => panic!("an index"),
                Err(error) => Err(error),
            };
            let error = checked.err().unwrap_or_default();
            assert_eq!(error.is_empty(), expected.is_empty(), "{kind}: {error}");
            assert!(error.contains(expected), "{kind}: {error}");
        }
        let mut elsewhere = image("application/vnd.oci.image.layer.v1.tar");
        elsewhere["layers"][0]["urls"] = json!(["https://vendor.example/layer"]);
        assert!(parse(&elsewhere, None).unwrap_err().contains("handed on"));
    }

    #[test]
    fn a_configuration_agrees_with_its_manifest() {
        let config = json!({ "os": "linux", "architecture": "arm64", "variant": "v8",
            "rootfs": { "type": "layers", "diff_ids": ["sha256:0"] } });
        let bytes = config.to_string();
        let read = |layers| read_config(bytes.as_bytes(), layers);
        assert_eq!(read(1).unwrap().as_str(), "linux/arm64/v8");
        assert!(read(2).unwrap_err().contains("knows 1 layers"));
        assert!(read_config(b"{}", 0).is_err());
    }
}
