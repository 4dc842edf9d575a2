//! The members that make a bundle, and an installed release, an OCI image layout.
//!
//! ```text
//! oci-layout            that it is one
//! index.json            which manifest or index each name stands for
//! manifest.json         the same as `docker load` reads it; not in a bundle
//! blobs/sha256/<hex>    the blobs, which are there anyway
//! ```
//!
//! All of them follow from the profiles: a reader makes them again and compares.

use std::collections::BTreeSet;

use manifest_schema::{Descriptor, Image};
use serde_json::{Value, json};

/// The bytes of `oci-layout`.
pub const OCI_LAYOUT: &str = "{\"imageLayoutVersion\":\"1.0.0\"}\n";

const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The whole name. containerd and docker read it, and make one up where there is none.
const FULL_NAME: &str = "io.containerd.image.name";

/// The bytes of `index.json` for these images.
///
/// An image with one platform is entered as that manifest, so that no program looks for the others of its index.
pub fn oci_index(images: &[Image]) -> Vec<u8> {
    let mut entries = Vec::new();
    let mut known = BTreeSet::new();
    for image in images {
        let name = image.reference();
        let mut entry = match &image.platforms[..] {
            [only] => {
                let mut entry = descriptor(&only.manifest);
                let (os, architecture, variant) = only.platform.parts();
                let mut platform = json!({ "architecture": architecture, "os": os });
                if let Some(variant) = variant {
                    platform["variant"] = variant.into();
                }
                entry["platform"] = platform;
                entry
            }
            _ => descriptor(&image.root),
        };
        entry["annotations"] = json!({ FULL_NAME: name, REF_NAME: name });
        entries.push(entry);
        for attached in &image.attached {
            if !known.insert((attached.manifest.digest, &attached.tag)) {
                continue;
            }
            let mut entry = descriptor(&attached.manifest);
            if let Some(kind) = &attached.artifact_type {
                entry["artifactType"] = kind.as_str().into();
            }
            if let Some(tag) = &attached.tag {
                entry["annotations"] = json!({ REF_NAME: format!("{}:{tag}", image.name) });
            }
            entries.push(entry);
        }
    }
    line(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": entries,
    }))
}

/// The bytes of `manifest.json` for these images: of each the one platform, where it has just one.
pub fn docker_manifest(images: &[Image]) -> Vec<u8> {
    let path = |blob: &Descriptor| format!("blobs/sha256/{}", blob.digest.hex());
    let entries = images.iter().filter_map(|image| {
        let [only] = &image.platforms[..] else {
            return None;
        };
        let layers: Vec<String> = only.layers.iter().map(path).collect();
        Some(docker_entry(image, &path(&only.config), &layers))
    });
    line(&Value::Array(entries.collect()))
}

/// One entry of `manifest.json`.
pub fn docker_entry(image: &Image, config: &str, layers: &[String]) -> Value {
    // A name without a tag is none that docker could give an image.
    let tags: Vec<String> = image.tag.iter().map(|_| image.reference()).collect();
    json!({ "Config": config, "RepoTags": tags, "Layers": layers })
}

fn descriptor(blob: &Descriptor) -> Value {
    json!({ "mediaType": blob.media_type, "digest": blob.digest, "size": blob.size })
}

/// One line of JSON.
fn line(value: &Value) -> Vec<u8> {
    let mut bytes = value.to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use manifest_schema::{Attached, ByteSize, Digest, PlatformImage};

    use super::*;

    fn blob(text: &str) -> Descriptor {
        Descriptor {
            media_type: format!("x/{text}"),
            digest: Digest::of(text.as_bytes()),
            size: ByteSize(1),
        }
    }

    fn image(platforms: &[&str]) -> Image {
        let platform = |name: &&str| PlatformImage {
            platform: name.parse().unwrap(),
            manifest: blob(name),
            config: blob("config"),
            layers: vec![blob("layer"), blob("layer")],
        };
        Image {
            name: "a.b/c".parse().unwrap(),
            tag: Some("1".parse().unwrap()),
            license: "MIT".to_owned(),
            backends: Vec::new(),
            root: blob("root"),
            platforms: platforms.iter().map(platform).collect(),
            attached: vec![Attached {
                subject: blob("root").digest,
                artifact_type: Some("x/signature".to_owned()),
                tag: Some("sha256-0.sig".parse().unwrap()),
                manifest: blob("signature"),
                blobs: Vec::new(),
            }],
        }
    }

    #[test]
    fn one_platform_is_entered_as_it_is_and_several_by_their_index() {
        let read = |bytes: Vec<u8>| serde_json::from_slice::<Value>(&bytes).unwrap();
        let one = read(oci_index(&[image(&["linux/arm64/v8"])]));
        let entry = &one["manifests"][0];
        assert_eq!(entry["digest"], blob("linux/arm64/v8").digest.to_string());
        assert_eq!(
            entry["platform"],
            json!({ "architecture": "arm64", "os": "linux", "variant": "v8" })
        );
        assert_eq!(entry["annotations"][REF_NAME], "a.b/c:1");
        let beside = &one["manifests"][1];
        assert_eq!(beside["annotations"][REF_NAME], "a.b/c:sha256-0.sig");

        let several = image(&["linux/arm64", "linux/amd64"]);
        let two = read(oci_index(std::slice::from_ref(&several)));
        assert_eq!(
            two["manifests"][0]["digest"],
            blob("root").digest.to_string()
        );
        assert_eq!(read(docker_manifest(&[several])), json!([]));
        let docker = read(docker_manifest(&[image(&["linux/arm64"])]));
        let layer = format!("blobs/sha256/{}", blob("layer").digest.hex());
        assert_eq!(docker[0]["Layers"], json!([layer, layer]));
        assert_eq!(docker[0]["RepoTags"], json!(["a.b/c:1"]));
    }
}
