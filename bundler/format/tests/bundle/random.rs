//! Whatever is done to a bundle's bytes, it is found, and nothing panics.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use bundle_format::{Sealed, TrustedRoots, VerifyError, repair};
use manifest_schema::Digest;
use proptest::prelude::*;
use proptest::sample::Index;
use report::{Diagnose as _, Silent};
use tempfile::TempDir;

/// The golden volumes and their parity, by name.
fn golden() -> &'static Vec<(String, Vec<u8>)> {
    static FILES: OnceLock<Vec<(String, Vec<u8>)>> = OnceLock::new();
    FILES.get_or_init(|| {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden-bundle");
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if name.starts_with("many.") {
                files.push((name, fs::read(entry.path()).unwrap()));
            }
        }
        files.sort();
        files
    })
}

/// The golden volumes in a folder of their own, file number `changed` with other bytes.
fn with(changed: usize, bytes: &[u8]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (number, (name, whole)) in golden().iter().enumerate() {
        let bytes = if number == changed { bytes } else { whole };
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn check(folder: &TempDir, volume: usize) -> Result<(), VerifyError> {
    let root = include_str!("../../../../tests/golden-bundle/fingerprint");
    let trusted = TrustedRoots::from_fingerprints([Digest::parse_hex(root.trim()).unwrap()]);
    let path = folder
        .path()
        .join(format!("many.vol{:03}.ferry", volume + 1));
    Sealed::open(&path)?
        .verify(&trusted)?
        .verify_all(1, &Silent)
}

/// The volumes stand after the parity, which sorts first.
const FIRST_VOLUME: usize = 1;

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_changed_byte_of_any_volume_is_found(
        volume in 0_usize..2, read_from in 0_usize..2, place: Index, change in 1_u8..=255,
    ) {
        let mut bytes = golden()[FIRST_VOLUME + volume].1.clone();
        let place = place.index(bytes.len());
        bytes[place] ^= change;
        let folder = with(FIRST_VOLUME + volume, &bytes);
        let error = check(&folder, read_from).unwrap_err();
        let named = error.path.to_string_lossy().into_owned();
        prop_assert!(named.contains("many.vol"), "{}", error);
    }

    #[test]
    fn any_cut_of_any_volume_is_found_and_named(volume in 0_usize..2, read_from in 0_usize..2, place: Index) {
        let whole = &golden()[FIRST_VOLUME + volume].1;
        let folder = with(FIRST_VOLUME + volume, &whole[..place.index(whole.len())]);
        let error = check(&folder, read_from).unwrap_err();
        let expected = format!("many.vol{:03}.ferry", volume + 1);
        prop_assert!(error.path.ends_with(expected), "{}", error);
        prop_assert!(["bundle.not-a-bundle", "bundle.cut-short"].contains(&error.code()), "{}", error);
    }

    #[test]
    fn a_run_of_other_bytes_anywhere_is_repaired_from_parity(volume in 0_usize..2, place: Index, run in 1_usize..3000, byte: u8) {
        let mut bytes = golden()[FIRST_VOLUME + volume].1.clone();
        let place = place.index(bytes.len());
        // A run within one block: the golden parity pays for one.
        let end = (place + run).min(bytes.len()).min((place / 16_384 + 1) * 16_384);
        bytes[place..end].fill(byte);
        let folder = with(FIRST_VOLUME + volume, &bytes);
        repair(folder.path(), &Silent).unwrap();
        for (name, whole) in golden() {
            prop_assert!(fs::read(folder.path().join(name)).unwrap() == *whole, "{}", name);
        }
    }

    #[test]
    fn damaged_parity_never_harms_the_bundle(place: Index, change in 1_u8..=255, cut: Index) {
        let mut bytes = golden()[0].1.clone();
        let place = place.index(bytes.len());
        bytes[place] ^= change;
        bytes.truncate(cut.index(bytes.len()) + 1);
        let folder = with(0, &bytes);
        if let Err(error) = repair(folder.path(), &Silent) {
            prop_assert_eq!(error.code(), "bundle.parity-none");
        }
        prop_assert!(check(&folder, 0).is_ok());
    }

    #[test]
    fn bytes_that_were_never_a_bundle_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.ferry");
        fs::write(&path, bytes).unwrap();
        prop_assert_eq!(Sealed::open(&path).unwrap_err().code(), "bundle.not-a-bundle");
    }
}
