//! Container images in a fake bundle.

use bundle_format::fake::Fake;
use manifest_schema::{Arch, ByteSize, Descriptor, Digest, Image, PlatformImage};
use serde_json::{Value, json};

/// An image whose one layer is an empty tar, which all its platforms share.
///
/// # Panics
/// When `name` is no name, or a backend is none.
#[expect(clippy::expect_used, reason = "names in the test are well-formed")]
pub fn add_image(fake: &mut Fake, name: &str, architectures: &[Arch], backends: &[&str]) {
    let layer = blob(fake, "layer.v1.tar", vec![0; 1024]);
    let mut platforms = Vec::new();
    let mut entries = Vec::new();
    for arch in architectures {
        let arch = match arch {
            Arch::Aarch64 => "arm64",
            Arch::X86_64 => "amd64",
        };
        let config = json!({ "architecture": arch, "os": "linux", "config": { "Labels": { "of": name } },
            "rootfs": { "type": "layers", "diff_ids": [layer.digest] } });
        let config = blob(fake, "config.v1+json", config.to_string().into_bytes());
        let manifest = json!({ "schemaVersion": 2, "mediaType": KIND.replace("{}", "manifest.v1+json"),
            "config": entry(&config), "layers": [entry(&layer)] });
        let manifest = blob(fake, "manifest.v1+json", manifest.to_string().into_bytes());
        let mut listed = entry(&manifest);
        listed["platform"] = json!({ "architecture": arch, "os": "linux" });
        entries.push(listed);
        platforms.push(PlatformImage {
            platform: format!("linux/{arch}").parse().expect("a platform"),
            manifest,
            config,
            layers: vec![layer.clone()],
        });
    }
    let kind = KIND.replace("{}", "index.v1+json");
    let index = json!({ "schemaVersion": 2, "mediaType": kind, "manifests": entries });
    let root = blob(fake, "index.v1+json", index.to_string().into_bytes());
    fake.profiles.images.push(Image {
        name: name.parse().expect("an image name"),
        tag: Some("1".parse().expect("a tag")),
        license: "MIT".to_owned(),
        backends: backends
            .iter()
            .map(|backend| backend.parse().expect("a backend name"))
            .collect(),
        root,
        platforms,
        attached: Vec::new(),
    });
}

const KIND: &str = "application/vnd.oci.image.{}";

fn blob(fake: &mut Fake, kind: &str, bytes: Vec<u8>) -> Descriptor {
    let made = Descriptor {
        media_type: KIND.replace("{}", kind),
        digest: Digest::of(&bytes),
        size: ByteSize(bytes.len() as u64),
    };
    if !fake.blobs.contains(&bytes) {
        fake.blobs.push(bytes);
    }
    made
}

fn entry(blob: &Descriptor) -> Value {
    json!({ "mediaType": blob.media_type, "digest": blob.digest, "size": blob.size })
}
