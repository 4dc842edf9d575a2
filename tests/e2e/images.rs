//! Container images on the target: which are laid out, what reads them, what an audit sees.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use e2e::{Site, add_image, say};
use manifest_schema::{Arch, Digest};
use serde_json::Value;

const BOTH: [Arch; 2] = [Arch::Aarch64, Arch::X86_64];

/// A site whose bundle `images` has one image for all, one for this machine's backend, one for another backend and
/// one for another processor.
fn site() -> Site {
    let mut site = Site::new();
    let here: Arch = std::env::consts::ARCH.parse().unwrap();
    let other = BOTH.into_iter().find(|arch| *arch != here).unwrap();
    let fake = site.fake();
    fake.profiles
        .backends
        .push(e2e::backend("other", "ascend-910b", here));
    add_image(fake, "registry.example/for/all", &BOTH, &[]);
    add_image(fake, "registry.example/for/cpu", &[here], &["cpu"]);
    add_image(fake, "registry.example/for/other", &BOTH, &["other"]);
    add_image(fake, "registry.example/for/elsewhere", &[other], &[]);
    site.carry("images");
    site
}

#[test]
fn a_release_holds_the_images_of_its_machine_as_a_layout_of_links() {
    let site = site();
    let words: Vec<String> = [site.words_to_install("images"), vec!["--json".to_owned()]].concat();
    let said = site.installer(&words).ended_with(0);
    let names = ["registry.example/for/all:1", "registry.example/for/cpu:1"];
    assert_eq!(said.json()["images"], serde_json::json!(names));
    let images = site.prefix().join("current/images");
    let read = |name: &str| -> Value {
        serde_json::from_slice(&fs::read(images.join(name)).unwrap()).unwrap()
    };
    let index = read("index.json");
    let entries = index["manifests"].as_array().unwrap();
    let found: Vec<_> = entries
        .iter()
        .map(|entry| {
            entry["annotations"]["org.opencontainers.image.ref.name"]
                .as_str()
                .unwrap()
        })
        .collect();
    assert_eq!(found, names);
    let docker = read("manifest.json");
    assert_eq!(docker[1]["RepoTags"][0], names[1]);
    let layer = format!("blobs/sha256/{}", Digest::of(&[0; 1024]).hex());
    assert_eq!(docker[0]["Layers"][0], layer);
    let stored = site
        .prefix()
        .join("store/sha256")
        .join(Digest::of(&[0; 1024]).hex());
    let inode = |path| fs::metadata(path).unwrap().ino();
    assert_eq!(inode(images.join(&layer)), inode(stored), "no second copy");
    // Index, manifest, configuration of each image, and the layer that they share.
    assert_eq!(
        fs::read_dir(images.join("blobs/sha256")).unwrap().count(),
        2 * 3 + 1
    );
    for name in names {
        let image = format!("oci:{}:{name}", images.display());
        match Command::new("skopeo").args(["inspect", &image]).output() {
            // Under qemu's user emulation a program that is not there seems to start, and ends with 127.
            Ok(read) if read.status.code() != Some(127) => {
                assert!(read.status.success(), "{image}: {read:?}");
            }
            _ => eprintln!("SKIPPED: skopeo is not here, so nobody else has read {image}"),
        }
    }
    let _ = site.installer(&["audit"]).ended_with(0);
}

#[test]
fn an_audit_sees_a_changed_layer_and_a_changed_name() {
    let site = site();
    let _ = site.install("images").ended_with(0);
    let images = site.prefix().join("current/images");
    let layer = images
        .join("blobs/sha256")
        .join(Digest::of(&[0; 1024]).hex());
    for path in [layer, images.join("index.json")] {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes[10] ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    let report = site.installer(&["audit", "--json"]).ended_with(4).json();
    let files = report["audit"]["files"].as_array().unwrap();
    let changed = files.iter().filter(|file| file["standing"] == "changed");
    let changed: Vec<_> = changed.map(|file| file["path"].as_str().unwrap()).collect();
    assert!(
        changed
            .iter()
            .any(|path| path.ends_with("images/index.json")),
        "{changed:?}"
    );
    assert!(
        changed
            .iter()
            .any(|path| path.contains("images/blobs/sha256/")),
        "{changed:?}"
    );
}

#[test]
fn a_bundle_of_images_alone_follows_the_processor_and_says_how_to_load_them() {
    let mut site = site();
    let fake = site.fake();
    fake.profiles.backends.clear();
    fake.profiles.components.clear();
    fake.profiles
        .images
        .retain(|image| image.backends.is_empty());
    let used: Vec<Digest> = fake
        .profiles
        .image_blobs()
        .map(|blob| blob.digest)
        .collect();
    fake.blobs.retain(|bytes| used.contains(&Digest::of(bytes)));
    site.carry("alone");
    let said = site.install("alone").ended_with(0);
    assert!(said.words.contains("docker load"), "{said:?}");
    let current = site.prefix().join("current");
    let record: Value =
        serde_json::from_slice(&fs::read(current.join("release.json")).unwrap()).unwrap();
    assert_eq!(record["arch"], std::env::consts::ARCH);
    let index: Value =
        serde_json::from_slice(&fs::read(current.join("images/index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
    let _ = site.installer(&["audit"]).ended_with(0);
    // What the note says to type, with tar in docker's place.
    let tar = format!(
        "tar -C {} -cf - . | tar -tf -",
        current.join("images").display()
    );
    let listed = say(Command::new("sh").args(["-c", &tar])).ended_with(0);
    assert!(listed.data.contains("./manifest.json"), "{listed:?}");
}
