//! Bundles in volumes, and deltas.

use std::fs;
use std::path::PathBuf;

use bundle_format::fake::Fake;
use e2e::{RUNTIME, Site, backend};
use manifest_schema::{ByteSize, Digest, RequiredBlob};

fn noise(size: usize) -> Vec<u8> {
    let mut state = 7_u64;
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}

fn fake(release: u64) -> Fake {
    let files = [
        ("weights.bin", noise(200_000)),
        ("readme.bin", vec![release as u8; 3000]),
    ];
    let mut fake = Fake::with_dataset("demo", release, &files);
    let here = std::env::consts::ARCH.parse().unwrap();
    fake.profiles.backends.push(backend("cpu", "cpu", here));
    fake.blobs.push(RUNTIME.to_vec());
    fake
}

/// A site whose medium also has the bundle in volumes, and their paths.
fn in_volumes() -> (Site, PathBuf, Vec<PathBuf>) {
    let mut site = Site::of(fake(1));
    site.fake().options.volume_size = Some(96 * 1024);
    site.carry("set");
    let folder = site.folder().join("discs");
    fs::create_dir(&folder).unwrap();
    let mut volumes = Vec::new();
    for number in 1.. {
        let name = format!("set.vol{number:03}.ferry");
        let Ok(()) = fs::rename(site.folder().join(&name), folder.join(&name)) else {
            break;
        };
        volumes.push(folder.join(name));
    }
    assert!(volumes.len() > 2, "{volumes:?}");
    (site, folder, volumes)
}

#[test]
fn a_folder_or_any_volume_of_a_set_installs() {
    let (site, folder, volumes) = in_volumes();
    let fingerprint = site.fingerprint();
    for named in [&folder, &volumes[1]] {
        let path = named.display().to_string();
        let _ = site
            .installer(&["verify", &path, "--trust-root", &fingerprint])
            .ended_with(0);
        let words = ["install", &path, "--yes", "--trust-root", &fingerprint];
        let _ = site.installer(&words).ended_with(0);
        let _ = site.installer(&["audit"]).ended_with(0);
        let _ = site.installer(&["uninstall", "--yes"]).ended_with(0);
    }
}

#[test]
fn a_volume_that_is_not_there_or_of_another_set_is_named_before_anything_is_written() {
    let (mut site, folder, volumes) = in_volumes();
    let (path, fingerprint) = (folder.display().to_string(), site.fingerprint());
    let words = ["install", &path, "--yes", "--trust-root", &fingerprint];
    let third = fs::read(&volumes[2]).unwrap();
    fs::remove_file(&volumes[2]).unwrap();
    let said = site.installer(&words);
    assert!(said.words.contains("bundle.volumes-missing"), "{said:?}");
    assert!(!site.prefix().exists());
    // The same volume of another release, signed by the same key.
    let other = fake(2);
    site.fake().profiles = other.profiles;
    site.fake().blobs = other.blobs;
    site.carry("other");
    let swapped = site.folder().join("other.vol003.ferry");
    fs::rename(swapped, &volumes[2]).unwrap();
    let said = site.installer(&words).ended_with(4);
    assert!(said.words.contains("bundle.volume-differs"), "{said:?}");
    assert!(!site.prefix().exists());
    fs::write(&volumes[2], third).unwrap();
    let _ = site.installer(&words).ended_with(0);
}

#[test]
fn a_delta_installs_over_its_base_and_nowhere_else() {
    let mut site = Site::of(fake(1));
    let weights = noise(200_000);
    let mut delta = fake(2);
    let digest = Digest::of(&weights);
    let left_out = RequiredBlob {
        digest,
        size: ByteSize(weights.len() as u64),
    };
    delta.blobs.retain(|blob| *blob != weights);
    site.fake().profiles = delta.profiles;
    site.fake().blobs = delta.blobs;
    site.fake().requires.push(left_out);
    site.carry("delta");
    let before = site.listing();
    let said = site.install("delta").ended_with(1);
    assert!(
        said.words.contains("install.delta-base-missing"),
        "{said:?}"
    );
    assert!(said.words.contains(&digest.hex()), "{said:?}");
    assert_eq!(site.listing(), before);
    let _ = site.install("1").ended_with(0);
    let _ = site.install("delta").ended_with(0);
    assert_eq!(site.current().as_deref(), Some("2"));
    let _ = site.installer(&["audit", "--deep"]).ended_with(0);
}
