//! A bundle with container images that was written once and must open for ever. `FERRY_WRITE_GOLDEN_IMAGE=1` writes it
//! anew: only for a new version of the format, and then beside the old one.

use std::process::Command;

use bundle_format::fake::Fake;
use bundle_format::{OCI_LAYOUT, Sealed, TrustedRoots};
use manifest_schema::{Attached, ByteSize, Codec, Descriptor, Digest, Image, PlatformImage};
use report::Silent;
use serde_json::{Value, json};

use crate::golden::{FINGERPRINT, folder, golden_key};

const BUNDLE: &str = "image.ferry";
const KIND: &str = "application/vnd.oci.image";

/// Images, and the bytes of every blob that they name.
#[derive(Default)]
struct Shelf {
    images: Vec<Image>,
    blobs: Vec<Vec<u8>>,
}

impl Shelf {
    fn blob(&mut self, kind: &str, bytes: &[u8]) -> Descriptor {
        if !self.blobs.iter().any(|known| known == bytes) {
            self.blobs.push(bytes.to_vec());
        }
        Descriptor {
            media_type: kind.to_owned(),
            digest: Digest::of(bytes),
            size: ByteSize(bytes.len() as u64),
        }
    }

    fn document(&mut self, kind: &str, value: &Value) -> Descriptor {
        self.blob(kind, value.to_string().as_bytes())
    }

    /// An image of two layers, of which all platforms have the first one.
    fn platform(&mut self, arch: &str) -> PlatformImage {
        let layers = [vec![0; 1024], tar("etc/arch", arch.as_bytes())];
        let ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
        let config = json!({ "architecture": arch, "os": "linux", "config": { "Cmd": ["/app"] },
            "rootfs": { "type": "layers", "diff_ids": ids } });
        let config = self.document(&format!("{KIND}.config.v1+json"), &config);
        let layers = layers.map(|layer| self.blob(&format!("{KIND}.layer.v1.tar"), &layer));
        let manifest = json!({ "schemaVersion": 2, "mediaType": format!("{KIND}.manifest.v1+json"),
            "config": config, "layers": layers });
        PlatformImage {
            platform: format!("linux/{arch}").parse().unwrap(),
            manifest: self.document(&format!("{KIND}.manifest.v1+json"), &manifest),
            config,
            layers: layers.into(),
        }
    }
}

/// One image for two platforms with a signature that cosign would find, and one of a single platform without a tag.
fn shelf() -> Shelf {
    let mut shelf = Shelf::default();
    let platforms = ["amd64", "arm64"].map(|arch| shelf.platform(arch));
    let entries = platforms.iter().map(|one| {
        let (os, architecture, _) = one.platform.parts();
        let platform = json!({ "architecture": architecture, "os": os });
        json!({ "mediaType": one.manifest.media_type, "digest": one.manifest.digest,
            "size": one.manifest.size, "platform": platform })
    });
    let index = json!({ "schemaVersion": 2, "mediaType": format!("{KIND}.index.v1+json"),
        "manifests": entries.collect::<Vec<_>>() });
    let root = shelf.document(&format!("{KIND}.index.v1+json"), &index);
    let payload = shelf.blob("application/vnd.dev.cosign.simplesigning.v1+json", b"{}");
    let empty = shelf.blob("application/vnd.oci.empty.v1+json", b"{}");
    let signature = json!({ "schemaVersion": 2, "mediaType": format!("{KIND}.manifest.v1+json"),
        "config": empty, "layers": [payload] });
    let signature = shelf.document(&format!("{KIND}.manifest.v1+json"), &signature);
    let image = |name: &str, tag: Option<&str>, root: &Descriptor| Image {
        name: name.parse().unwrap(),
        tag: tag.map(|tag| tag.parse().unwrap()),
        license: "MIT".to_owned(),
        backends: Vec::new(),
        root: root.clone(),
        platforms: platforms.to_vec(),
        attached: Vec::new(),
    };
    let mut both = image("registry.example/demo/app", Some("1"), &root);
    both.attached.push(Attached {
        subject: root.digest,
        artifact_type: None,
        tag: format!("sha256-{}.sig", root.digest.hex()).parse().ok(),
        manifest: signature,
        blobs: vec![empty, payload],
    });
    let mut one = image("registry.example/demo/one", None, &platforms[1].manifest);
    one.platforms.remove(0);
    shelf.images = vec![both, one];
    shelf
}

/// A tar of one file.
fn tar(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut block = vec![0; 512];
    let mut put =
        |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644");
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{:011o}", bytes.len()));
    put(136, "00000000000");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block.extend_from_slice(bytes);
    block.resize(block.len().next_multiple_of(512) + 1024, 0);
    block
}

/// The empty layer is a file of a dataset, too: what is shared is there once.
fn write() {
    let scratch = tempfile::tempdir().unwrap();
    let mut fake = Fake::with_dataset("golden", 3, &[("empty.tar", vec![0; 1024])]);
    let shelf = shelf();
    fake.profiles.images = shelf.images;
    fake.blobs = shelf.blobs;
    fake.keys = vec![golden_key("private.pem")];
    fake.options.compress = true;
    fake.build(scratch.path(), &folder().join(BUNDLE)).unwrap();
}

/// The bytes of a member, as stock tar takes them out.
fn member(name: &str) -> Vec<u8> {
    let mut tar = Command::new("tar");
    let read = tar.arg("-xOf").arg(folder().join(BUNDLE)).arg(name);
    let read = read.output().unwrap();
    assert!(read.status.success(), "{name}");
    read.stdout
}

#[test]
fn images_of_format_1_open_for_ever() {
    if std::env::var_os("FERRY_WRITE_GOLDEN_IMAGE").is_some() {
        write();
    }
    let trusted = TrustedRoots::from_fingerprints([Digest::parse_hex(FINGERPRINT.trim()).unwrap()]);
    let sealed = Sealed::open(&folder().join(BUNDLE)).unwrap();
    let bundle = sealed.verify(&trusted).unwrap();
    bundle.verify_all(2, &Silent).unwrap();
    let shelf = shelf();
    assert_eq!(bundle.profiles.images, shelf.images);
    assert_eq!(bundle.index.blobs.len(), shelf.blobs.len());
    for bytes in &shelf.blobs {
        let digest = Digest::of(bytes);
        assert!(bundle.blob_bytes(&digest).unwrap() == *bytes, "{digest}");
        assert_eq!(bundle.blob(&digest).unwrap().codec, Codec::Raw);
    }

    // Whoever reads image layouts finds both images in what tar takes out, down to the layers.
    assert_eq!(member("oci-layout"), OCI_LAYOUT.as_bytes());
    let index: Value = serde_json::from_slice(&member("index.json")).unwrap();
    let name = |entry: &Value| entry["annotations"]["org.opencontainers.image.ref.name"].clone();
    let entries = index["manifests"].as_array().unwrap();
    let root = &shelf.images[0].root.digest;
    let arm = &shelf.images[1].root.digest;
    let names: Vec<_> = entries.iter().map(name).collect();
    assert_eq!(
        names,
        [
            json!("registry.example/demo/app:1"),
            json!(format!(
                "registry.example/demo/app:sha256-{}.sig",
                root.hex()
            )),
            json!(format!("registry.example/demo/one@{arm}")),
        ]
    );
    let blob = |entry: &Value| {
        let digest = Digest::parse(entry["digest"].as_str().unwrap()).unwrap();
        let bytes = member(&format!("blobs/sha256/{}", digest.hex()));
        assert_eq!(Digest::of(&bytes), digest);
        bytes
    };
    let read = |entry: &Value| -> Value { serde_json::from_slice(&blob(entry)).unwrap() };
    let manifest = read(&read(&entries[0])["manifests"][1]);
    assert_eq!(manifest, read(&entries[2]));
    assert_eq!(blob(&manifest["layers"][1]), tar("etc/arch", b"arm64"));
}
