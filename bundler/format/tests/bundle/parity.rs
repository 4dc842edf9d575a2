//! What is lost up to parity's share comes back; beyond it that is said, and nothing is written.

use std::fs;
use std::path::PathBuf;

use bundle_format::{repair, write_parity};
use proptest::prelude::*;
use report::{Diagnose as _, Silent};
use tempfile::TempDir;

struct Discs {
    folder: TempDir,
    files: Vec<(PathBuf, Vec<u8>)>,
    parity: Vec<PathBuf>,
    block: usize,
    recovery: usize,
}

fn bytes(seed: u32, size: usize) -> Vec<u8> {
    (0..size as u32)
        .map(|n| (n.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 13) as u8)
        .collect()
}

impl Discs {
    fn new(file_size: Option<u64>) -> Self {
        Self::of([400_000, 390_001, 70_000], file_size)
    }

    fn of(sizes: [usize; 3], file_size: Option<u64>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<_> = (1..)
            .zip(sizes)
            .map(|(number, size)| {
                let path = folder.path().join(format!("demo-1.vol{number:03}.ferry"));
                let bytes = bytes(number, size);
                fs::write(&path, &bytes).unwrap();
                (path, bytes)
            })
            .collect();
        let paths: Vec<_> = files.iter().map(|(path, _)| path.clone()).collect();
        let made = write_parity(&paths, 20, file_size, 2, &Silent).unwrap();
        Self {
            folder,
            files,
            parity: made.paths,
            block: made.block as usize,
            recovery: made.recovery,
        }
    }

    fn damage(&self, file: usize, block: usize) {
        let (path, _) = &self.files[file];
        let mut bytes = fs::read(path).unwrap();
        bytes[block * self.block + 5] ^= 0x55;
        fs::write(path, bytes).unwrap();
    }

    fn assert_whole(&self) {
        for (path, bytes) in &self.files {
            assert!(fs::read(path).unwrap() == *bytes, "{}", path.display());
        }
        for entry in fs::read_dir(self.folder.path()).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(!name.ends_with("partial"), "{name}");
        }
    }
}

#[test]
fn nothing_is_written_where_nothing_is_lost() {
    let discs = Discs::new(None);
    let done = repair(discs.folder.path(), &Silent).unwrap();
    assert!(done.files.is_empty());
    assert_eq!(done.spare, discs.recovery);
    assert_eq!(discs.recovery, (25_usize + 24 + 5).div_ceil(5));
    discs.assert_whole();
}

#[test]
fn every_loss_up_to_the_share_is_restored_wherever_it_is() {
    for shift in 0..3 {
        let discs = Discs::new(None);
        for number in 0..discs.recovery {
            let file = number % 2;
            discs.damage(file, (number / 2 * 3 + shift) % 24);
        }
        let done = repair(discs.folder.path(), &Silent).unwrap();
        assert_eq!((done.files.len(), done.spare), (2, 0));
        discs.assert_whole();
    }
}

#[test]
fn a_missing_a_cut_and_a_longer_file_are_restored() {
    let discs = Discs::new(None);
    fs::remove_file(&discs.files[2].0).unwrap();
    fs::write(
        &discs.files[1].0,
        &discs.files[1].1[..discs.files[1].1.len() - 20_000],
    )
    .unwrap();
    let mut longer = discs.files[0].1.clone();
    longer.extend(vec![9; 40_000]);
    fs::write(&discs.files[0].0, longer).unwrap();
    let done = repair(discs.folder.path(), &Silent).unwrap();
    assert_eq!(done.files.len(), 3);
    discs.assert_whole();
}

#[test]
fn beyond_the_share_it_is_said_how_much_is_lost_and_nothing_is_written() {
    let discs = Discs::new(None);
    for block in 0..=discs.recovery {
        discs.damage(0, block);
    }
    fs::remove_file(&discs.files[2].0).unwrap();
    let before = fs::read(&discs.files[0].0).unwrap();
    let error = repair(discs.folder.path(), &Silent).unwrap_err();
    assert_eq!(error.code(), "bundle.parity-exceeded");
    let lost = discs.recovery + 1 + 5;
    assert!(
        error.args().contains(&("lost", lost.to_string())),
        "{error}"
    );
    assert!(fs::read(&discs.files[0].0).unwrap() == before);
    assert!(!discs.files[2].0.exists());
}

#[test]
fn parity_that_is_itself_damaged_gives_what_is_left_of_it() {
    let discs = Discs::new(Some(260_000));
    assert!(discs.parity.len() > 1, "{:?}", discs.parity);
    // The first descriptor of one file, and a recovery block of it.
    let mut parity = fs::read(&discs.parity[0]).unwrap();
    parity[100] ^= 1;
    let middle = parity.len() / 2;
    parity[middle] ^= 1;
    fs::write(&discs.parity[0], parity).unwrap();
    for block in 0..discs.recovery - 1 {
        discs.damage(1, block);
    }
    let done = repair(discs.folder.path(), &Silent).unwrap();
    assert_eq!(done.spare, 0);
    discs.assert_whole();
    discs.damage(0, 0);
    for path in &discs.parity {
        fs::remove_file(path).unwrap();
    }
    assert_eq!(
        repair(discs.folder.path(), &Silent).unwrap_err().code(),
        "bundle.parity-none"
    );
}

/// Another bundle's file and its parity in the same folder.
fn beside(discs: &Discs) -> (PathBuf, Vec<u8>) {
    let path = discs.folder.path().join("other-7.ferry");
    let bytes = bytes(9, 60_000);
    fs::write(&path, &bytes).unwrap();
    write_parity(std::slice::from_ref(&path), 50, None, 1, &Silent).unwrap();
    (path, bytes)
}

#[test]
fn parity_of_another_bundle_in_the_folder_is_not_taken_for_this_ones() {
    let discs = Discs::new(None);
    let (other, whole) = beside(&discs);
    let mut damaged = whole.clone();
    damaged[20_000] ^= 1;
    fs::write(&other, damaged).unwrap();
    discs.damage(0, 3);
    let error = repair(discs.folder.path(), &Silent).unwrap_err();
    assert_eq!(error.code(), "bundle.parity-several");
    for told in [("one", "demo-1.vol001.ferry"), ("other", "other-7.ferry")] {
        let told = (told.0, told.1.to_owned());
        assert!(error.args().contains(&told), "{:?}", error.args());
    }
    // Each is repaired by its name, from its own parity, also where it is missing or its parity is named.
    let done = repair(&other, &Silent).unwrap();
    assert_eq!(done.files, [(other.clone(), 1)]);
    assert!(fs::read(&other).unwrap() == whole);
    let done = repair(&discs.parity[0], &Silent).unwrap();
    assert_eq!(done.files, [(discs.files[0].0.clone(), 1)]);
    fs::remove_file(&discs.files[2].0).unwrap();
    repair(&discs.files[2].0, &Silent).unwrap();
    discs.assert_whole();
    let stranger = discs.folder.path().join("third-1.ferry");
    let error = repair(&stranger, &Silent).unwrap_err();
    assert_eq!(error.code(), "bundle.parity-none");
    assert!(error.to_string().contains("third-1.ferry"), "{error}");
}

#[test]
fn older_parity_of_the_same_bundle_is_no_other_bundles() {
    let discs = Discs::new(None);
    fs::copy(&discs.parity[0], discs.folder.path().join("demo-1.par002")).unwrap();
    let paths: Vec<_> = discs.files.iter().map(|(path, _)| path.clone()).collect();
    write_parity(&paths, 10, None, 1, &Silent).unwrap();
    discs.damage(1, 1);
    let done = repair(discs.folder.path(), &Silent).unwrap();
    assert_eq!(done.files.len(), 1);
    discs.assert_whole();
}

/// A descriptor that says this, under a digest that is right.
fn descriptor(json: &str) -> Vec<u8> {
    let digest = manifest_schema::Digest::of(json.as_bytes()).hex();
    let mut bytes = format!("ferry-parity 1\n{digest}\n{:020}\n{json}", json.len()).into_bytes();
    bytes.resize(bytes.len().next_multiple_of(4096), 0);
    bytes
}

#[test]
fn a_descriptor_that_lies_under_a_right_digest_is_none() {
    let digest = manifest_schema::Digest::of(b"").to_string();
    let of = |block: u64, size: u64, first: u64, name: &str| {
        descriptor(&format!(
            r#"{{"format":1,"block":{block},"files":[{{"name":"{name}","size":{size},"blocks":["{digest}"]}}],"recovery":1,"first":{first},"blocks":["{digest}"]}}"#
        ))
    };
    for (case, bytes) in [
        ("no block", of(0, 1, 0, "a.ferry")),
        ("half a slice", of(8192, 1, 0, "a.ferry")),
        ("a block of 2^63", of(1 << 63, 1, 0, "a.ferry")),
        ("a last recovery block", of(16_384, 1, u64::MAX, "a.ferry")),
        ("a size of 2^64", of(16_384, u64::MAX, 0, "a.ferry")),
        ("a name that leaves", of(16_384, 1, 0, "../a.ferry")),
        ("a hidden name", of(16_384, 1, 0, ".profile")),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.par001"), bytes).unwrap();
        let error = repair(folder.path(), &Silent).unwrap_err();
        assert_eq!(error.code(), "bundle.parity-none", "{case}");
    }
}

#[test]
fn a_share_that_is_none_is_refused() {
    for share in [0, 101] {
        let error = write_parity(&[], share, None, 1, &Silent).unwrap_err();
        assert_eq!(error.code(), "bundle.parity-share");
    }
}

/// What may happen to one block of a file.
#[derive(Clone, Copy, Debug)]
enum Harm {
    Flipped,
    Zeroed,
    Overwritten,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_blocks_up_to_the_share_come_back_and_one_more_is_told(
        lost in prop::sample::subsequence((0..16).collect::<Vec<usize>>(), 1..=5),
        harm in prop::sample::select(vec![Harm::Flipped, Harm::Zeroed, Harm::Overwritten]),
    ) {
        // Blocks of 16 KiB: eight, six and two of them.
        let discs = Discs::of([120_000, 90_001, 20_000], None);
        prop_assert_eq!((discs.block, discs.recovery), (16_384, 4));
        for number in &lost {
            let (file, block) = match number {
                0..8 => (0, *number),
                8..14 => (1, number - 8),
                _ => (2, number - 14),
            };
            let (path, _) = &discs.files[file];
            let mut bytes = fs::read(path).unwrap();
            let end = bytes.len().min((block + 1) * discs.block);
            let run = &mut bytes[block * discs.block..end];
            match harm {
                Harm::Flipped => run[number * 7] ^= 1,
                Harm::Zeroed => run.fill(0),
                Harm::Overwritten => run.fill(0x5a),
            }
            fs::write(path, bytes).unwrap();
        }
        let repaired = repair(discs.folder.path(), &Silent);
        if lost.len() <= discs.recovery {
            prop_assert_eq!(repaired.unwrap().spare, discs.recovery - lost.len());
            discs.assert_whole();
        } else {
            let error = repaired.unwrap_err();
            prop_assert_eq!(error.code(), "bundle.parity-exceeded");
            let told = ("lost", lost.len().to_string());
            prop_assert!(error.args().contains(&told), "{:?}", error.args());
        }
    }
}
