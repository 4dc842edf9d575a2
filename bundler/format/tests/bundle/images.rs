//! A bundle with images is an OCI image layout.

use std::fs;
use std::path::Path;

use bundle_format::fake::Fake;
use bundle_format::{OCI_LAYOUT, Sealed, oci_index};
use manifest_schema::{ByteSize, Codec, Descriptor, Digest, Image, PlatformImage, RequiredBlob};

/// A text that a model's file and an image's configuration both are.
fn shared() -> Vec<u8> {
    "{\"a\": 1}\n".repeat(500).into_bytes()
}

fn with_image() -> Fake {
    let mut fake = Fake::with_dataset("demo", 1, &[("config.json", shared())]);
    let layer: Vec<u8> = (0..5000_u32)
        .flat_map(|n| Digest::of(&n.to_le_bytes()).hex().into_bytes())
        .collect();
    let manifest = b"{\"schemaVersion\": 2}".to_vec();
    let blob = |bytes: &[u8]| Descriptor {
        media_type: "x/y".to_owned(),
        digest: Digest::of(bytes),
        size: ByteSize(bytes.len() as u64),
    };
    fake.profiles.images.push(Image {
        name: "a.b/c".parse().unwrap(),
        tag: None,
        license: "MIT".to_owned(),
        backends: Vec::new(),
        root: blob(&manifest),
        platforms: vec![PlatformImage {
            platform: "linux/arm64".parse().unwrap(),
            manifest: blob(&manifest),
            config: blob(&shared()),
            layers: vec![blob(&layer)],
        }],
        attached: Vec::new(),
    });
    fake.blobs.extend([layer, manifest]);
    fake.options.compress = true;
    fake
}

fn member(bundle: &Path, name: &str) -> Option<Vec<u8>> {
    let mut tar = std::process::Command::new("tar");
    let read = tar.arg("-xOf").arg(bundle).arg(name).output().unwrap();
    read.status.success().then_some(read.stdout)
}

#[test]
fn its_blobs_stay_as_they_are_and_two_members_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("a.ferry");
    let mut fake = with_image();
    fake.build(folder.path(), &out).unwrap();
    let verified = Sealed::open(&out).unwrap().verify(&fake.roots()).unwrap();
    assert_eq!(
        verified.blob(&Digest::of(&shared())).unwrap().codec,
        Codec::Raw
    );
    assert_eq!(member(&out, "oci-layout").unwrap(), OCI_LAYOUT.as_bytes());
    assert_eq!(
        member(&out, "index.json").unwrap(),
        oci_index(&fake.profiles.images)
    );

    fake.profiles.images.clear();
    fake.blobs.truncate(1);
    let plain = folder.path().join("b.ferry");
    fake.build(folder.path(), &plain).unwrap();
    let verified = Sealed::open(&plain).unwrap().verify(&fake.roots()).unwrap();
    assert_eq!(
        verified.blob(&Digest::of(&shared())).unwrap().codec,
        Codec::Zstd
    );
    assert_eq!(
        (member(&plain, "oci-layout"), member(&plain, "index.json")),
        (None, None)
    );
}

#[test]
fn it_may_be_in_volumes_or_leave_blobs_to_the_target() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("a.ferry");
    let mut fake = with_image();
    fake.options.volume_size = Some(200_000);
    fake.build(folder.path(), &out).unwrap();
    let first = folder.path().join("a.vol001.ferry");
    let second = folder.path().join("a.vol002.ferry");
    assert_eq!(member(&first, "index.json"), member(&second, "index.json"));
    Sealed::open(&first).unwrap().verify(&fake.roots()).unwrap();

    fake.options.volume_size = None;
    let left_out = fake.blobs.remove(1);
    fake.requires.push(RequiredBlob {
        digest: Digest::of(&left_out),
        size: ByteSize(left_out.len() as u64),
    });
    let delta = folder.path().join("delta.ferry");
    fake.build(folder.path(), &delta).unwrap();
    let verified = Sealed::open(&delta).unwrap().verify(&fake.roots()).unwrap();
    assert_eq!(verified.requires().len(), 1);
    fake.requires[0].size.0 += 1;
    assert!(
        fake.build(folder.path(), &folder.path().join("x.ferry"))
            .is_err()
    );
    assert!(fs::metadata(folder.path().join("x.ferry")).is_err());
}
