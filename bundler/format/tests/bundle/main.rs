//! Bundles that are built, opened, damaged, forged, and checked by hand with other people's tools.
// The helpers of tests fail as the tests do.
#![allow(clippy::unwrap_used)]

mod align;
mod by_hand;
mod damage;
mod forgery;
mod golden;
mod golden_image;
mod images;
mod large;
mod parity;
mod random;
mod second_reader;
mod shelf;
mod squeeze;
mod texts;
mod trust;
mod volumes;

use std::fs;
use std::path::PathBuf;

use bundle_format::fake::Fake;
use bundle_format::{Sealed, TrustedRoots, Verified, VerifyError};
use manifest_schema::Digest;
use report::{Diagnose as _, Event, Silent, Sink};
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

/// Signatures differ by a byte or two, and now and then by a block: what follows them was in its place before.
#[test]
fn however_long_the_signatures_are_the_content_is_where_the_index_says() {
    let mut bench = Bench::new();
    for number in 0..150 {
        bench.fake.lock = format!("{{\"number\":{number}}}\n").into_bytes();
        bench
            .fake
            .build(bench.folder.path(), &bench.bundle())
            .unwrap();
        bench.verified().verify_all(1, &Silent).unwrap();
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

/// Overwrites a blob's file between its hashing and its copying.
struct Meddler {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Sink for Meddler {
    fn emit(&self, event: &Event) {
        if matches!(event, Event::StepStarted { step, .. } if step == "step.bundle-write") {
            fs::write(&self.path, &self.bytes).unwrap();
        }
    }
}

#[test]
fn a_file_that_changes_while_it_is_packed_is_named_and_no_bundle_is_left() {
    let bench = Bench::new();
    fs::remove_file(bench.bundle()).unwrap();
    let long = bench.fake.blobs.last().unwrap();
    let mut other = long.clone();
    other[9000] ^= 1;
    for (bytes, code) in [
        (other, "bundle.blob-differs"),
        (long[..5000].to_vec(), "bundle.blob-changed"),
    ] {
        let path = bench.folder.path().join(Digest::of(long).hex());
        let meddler = Meddler { path, bytes };
        let error = bench
            .fake
            .build_watched(bench.folder.path(), &bench.bundle(), &meddler)
            .unwrap_err();
        assert_eq!(error.code(), code);
        assert!(
            error.to_string().contains(&Digest::of(long).hex()),
            "{error}"
        );
        let left = fs::read_dir(bench.folder.path()).unwrap();
        let names = left.map(|e| e.unwrap().file_name().into_string().unwrap());
        assert!(names.into_iter().all(|name| !name.contains(".ferry")));
    }
}

#[test]
fn the_name_of_the_output_is_in_none_of_its_bytes() {
    let bench = Bench::new();
    let other = bench.folder.path().join("other name.ferry");
    bench.fake.build(bench.folder.path(), &other).unwrap();
    assert!(fs::read(other).unwrap() == bench.bytes());
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
