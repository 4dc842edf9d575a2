//! Bundles that are built, opened, damaged, forged, and checked by hand with other people's tools.
// The helpers of tests fail as the tests do.
#![allow(clippy::unwrap_used)]

mod by_hand;
mod damage;
mod forgery;
mod texts;

use std::fs;
use std::path::PathBuf;

use bundle_format::fake::Fake;
use bundle_format::{Sealed, TrustedRoots, Verified, VerifyError};
use manifest_schema::Digest;
use report::{Diagnose as _, Silent};
use tempfile::TempDir;

/// A folder with one bundle of three blobs: empty, of one piece, of three pieces.
struct Bench {
    folder: TempDir,
    fake: Fake,
}

impl Bench {
    fn new() -> Self {
        let long: Vec<u8> = (0..10_000_u32).map(|n| ((n * n) >> 3) as u8).collect();
        let files = [
            ("a/empty", vec![]),
            ("a/短.txt", b"ferry\n".to_vec()),
            ("long.bin", long),
        ];
        let bench = Self {
            folder: tempfile::tempdir().unwrap(),
            fake: Fake::with_dataset("demo", 1, &files),
        };
        bench
            .fake
            .build(bench.folder.path(), &bench.bundle())
            .unwrap();
        bench
    }

    fn bundle(&self) -> PathBuf {
        self.folder.path().join("demo-1.ferry")
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(self.bundle()).unwrap()
    }

    /// Writes `bytes` as a bundle and checks all of it.
    fn check(&self, bytes: &[u8]) -> Result<(), VerifyError> {
        let path = self.folder.path().join("changed.ferry");
        fs::write(&path, bytes).unwrap();
        Sealed::open(&path)?
            .verify(&self.fake.roots())?
            .verify_all(2, &Silent)
    }

    fn verified(&self) -> Verified {
        Sealed::open(&self.bundle())
            .unwrap()
            .verify(&self.fake.roots())
            .unwrap()
    }
}

#[test]
fn the_same_input_gives_the_same_bytes_on_any_number_of_threads() {
    let mut bench = Bench::new();
    let first = bench.bytes();
    for threads in [1, 2, 7] {
        bench.fake.options.threads = threads;
        bench.fake.blobs.reverse();
        bench
            .fake
            .build(bench.folder.path(), &bench.bundle())
            .unwrap();
        assert!(bench.bytes() == first, "{threads} threads");
    }
}

#[test]
fn blobs_come_out_as_they_went_in() {
    let bench = Bench::new();
    let bundle = bench.verified();
    bundle.verify_all(2, &Silent).unwrap();
    let jobs: Vec<_> = bench
        .fake
        .blobs
        .iter()
        .map(|bytes| Digest::of(bytes))
        .map(|digest| {
            (
                digest,
                bench.folder.path().join(format!("out-{}", digest.hex())),
            )
        })
        .collect();
    bundle.extract_many(&jobs, 3, &Silent).unwrap();
    for ((digest, path), bytes) in jobs.iter().zip(&bench.fake.blobs) {
        assert!(fs::read(path).unwrap() == *bytes);
        assert!(bundle.blob_bytes(digest).unwrap() == *bytes);
        let mut read = Vec::new();
        bundle
            .read_blob(digest, |run| read.extend_from_slice(run))
            .unwrap();
        assert!(read == *bytes);
    }
    let again = bundle.extract_many(&jobs, 3, &Silent).unwrap_err();
    assert_eq!(again.code(), "bundle.unwritable");
    let stranger = bundle.blob_bytes(&Digest::of(b"stranger")).unwrap_err();
    assert_eq!(stranger.code(), "bundle.blob-unknown");
}

#[test]
fn a_failed_build_leaves_no_bundle() {
    let bench = Bench::new();
    fs::remove_file(bench.bundle()).unwrap();
    let mut fake = bench.fake;
    fake.blobs.pop();
    let error = fake
        .build(
            bench.folder.path(),
            &bench.folder.path().join("demo-1.ferry"),
        )
        .unwrap_err();
    assert_eq!(error.code(), "bundle.blob-not-given");
    assert!(!bench.folder.path().join("demo-1.ferry").exists());
}

#[test]
fn a_root_that_nobody_accepted_is_refused_with_its_fingerprint() {
    let bench = Bench::new();
    let sealed = Sealed::open(&bench.bundle()).unwrap();
    let offered = sealed.fingerprint_offered().unwrap();
    let error = sealed.verify(&TrustedRoots::default()).unwrap_err();
    assert_eq!(error.code(), "bundle.root-untrusted");
    assert!(error.args().contains(&("fingerprint", offered.hex())));
}
