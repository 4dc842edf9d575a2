//! Volumes, compressed text and deltas: read as one, each checked alone, missed and mixed up.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bundle_format::fake::Fake;
use bundle_format::{Sealed, Verified, VerifyError};
use manifest_schema::{Codec, Digest, RequiredBlob};
use report::{Diagnose as _, Silent};
use tempfile::TempDir;

/// A bundle of some raw and some compressible blobs, one of them of many pieces, in volumes.
struct Shelf {
    folder: TempDir,
    fake: Fake,
}

fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}

impl Shelf {
    fn new(volume_size: Option<u64>) -> Self {
        let lines: Vec<String> = (0..6000).map(|n| format!("{{\"line\": {n}}}\n")).collect();
        let files = [
            ("weights.bin", noise(1, 150_000)),
            ("other.bin", noise(2, 9_000)),
            ("train.jsonl", lines.concat().into_bytes()),
            ("small.txt", b"ferry\n".to_vec()),
            ("empty", Vec::new()),
        ];
        let mut fake = Fake::with_dataset("demo", 1, &files);
        fake.options.volume_size = volume_size;
        fake.options.compress = true;
        let shelf = Self {
            folder: tempfile::tempdir().unwrap(),
            fake,
        };
        fs::create_dir(shelf.out()).unwrap();
        shelf
            .fake
            .build(shelf.folder.path(), &shelf.out().join("demo-1.ferry"))
            .unwrap();
        shelf
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> = fs::read_dir(self.out())
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        files.sort();
        files
    }

    fn check(&self, path: &Path) -> Result<Verified, VerifyError> {
        let verified = Sealed::open(path)?.verify(&self.fake.roots())?;
        verified.verify_all(2, &Silent)?;
        Ok(verified)
    }

    fn assert_comes_out(&self, bundle: &Verified) {
        for bytes in &self.fake.blobs {
            let digest = Digest::of(bytes);
            let out = self.folder.path().join(format!("x-{}", digest.hex()));
            bundle
                .extract_many(&[(digest, out.clone())], 2, &Silent)
                .unwrap();
            assert!(fs::read(&out).unwrap() == *bytes);
            fs::remove_file(out).unwrap();
            let mut read = Vec::new();
            bundle.copy_blob(&digest, &mut read).unwrap();
            assert!(read == *bytes);
        }
    }
}

const VOLUME: u64 = 72_000;

#[test]
fn volumes_are_read_as_one_from_any_of_them_or_from_their_folder() {
    let shelf = Shelf::new(Some(VOLUME));
    let files = shelf.files();
    assert!(files.len() > 3, "{files:?}");
    for path in files.iter().chain([&shelf.out()]) {
        let bundle = shelf.check(path).unwrap();
        assert_eq!(bundle.index.volumes as usize, files.len());
        shelf.assert_comes_out(&bundle);
    }
    for path in &files {
        assert!(fs::metadata(path).unwrap().len() <= VOLUME);
    }
    let mut elsewhere = files.clone();
    elsewhere.reverse();
    let bundle = Sealed::open_volumes(&elsewhere)
        .unwrap()
        .verify(&shelf.fake.roots())
        .unwrap();
    bundle.verify_all(1, &Silent).unwrap();
}

#[test]
fn a_bundle_that_fits_is_one_file_and_the_same_as_without_a_bound() {
    let (one, bounded) = (Shelf::new(None), Shelf::new(Some(1 << 30)));
    assert_eq!(bounded.files().len(), 1);
    // Other keys sign, so only the sizes can be the same.
    let size = |shelf: &Shelf| fs::metadata(&shelf.files()[0]).unwrap().len();
    assert!(size(&one).abs_diff(size(&bounded)) <= 1024);
}

#[test]
fn volumes_too_are_the_same_bytes_on_any_number_of_threads() {
    let mut shelf = Shelf::new(Some(VOLUME));
    let bytes = |shelf: &Shelf| -> Vec<Vec<u8>> {
        shelf
            .files()
            .iter()
            .map(|path| fs::read(path).unwrap())
            .collect()
    };
    let first = bytes(&shelf);
    for threads in [1, 3] {
        shelf.fake.options.threads = threads;
        shelf
            .fake
            .build(shelf.folder.path(), &shelf.out().join("demo-1.ferry"))
            .unwrap();
        assert!(bytes(&shelf) == first, "{threads} threads");
    }
}

#[test]
fn each_volume_can_be_checked_alone() {
    let shelf = Shelf::new(Some(VOLUME));
    let files = shelf.files();
    let aside = shelf.folder.path().join("aside.ferry");
    for path in &files {
        fs::rename(path, &aside).unwrap();
        let bundle = Sealed::open_alone(&aside)
            .unwrap()
            .verify(&shelf.fake.roots())
            .unwrap();
        bundle.verify_all(2, &Silent).unwrap();
        let mut bytes = fs::read(&aside).unwrap();
        let last = bytes.len() - 1025;
        bytes[last] ^= 1;
        fs::write(&aside, &bytes).unwrap();
        let damaged = Sealed::open_alone(&aside)
            .and_then(|sealed| sealed.verify(&shelf.fake.roots()))
            .and_then(|bundle| bundle.verify_all(2, &Silent));
        assert!(damaged.is_err(), "{}", path.display());
        bytes[last] ^= 1;
        fs::write(path, &bytes).unwrap();
    }
    shelf.check(&files[0]).unwrap();
}

#[test]
fn a_missing_volume_is_named() {
    let shelf = Shelf::new(Some(VOLUME));
    let files = shelf.files();
    for (number, path) in (1..).zip(&files) {
        let aside = shelf.folder.path().join("aside");
        fs::rename(path, &aside).unwrap();
        let other = files.iter().find(|other| *other != path).unwrap();
        let error = shelf.check(other).unwrap_err();
        assert_eq!(error.code(), "bundle.volumes-missing");
        assert!(
            error.args().contains(&("missing", number.to_string())),
            "{error}"
        );
        fs::rename(aside, path).unwrap();
    }
}

#[test]
fn a_volume_of_another_build_or_in_the_place_of_another_is_named() {
    let (shelf, other) = (Shelf::new(Some(VOLUME)), Shelf::new(Some(VOLUME)));
    let (ours, theirs) = (shelf.files(), other.files());
    let good = fs::read(&ours[1]).unwrap();
    fs::copy(&theirs[1], &ours[1]).unwrap();
    let error = shelf.check(&ours[0]).unwrap_err();
    assert_eq!(
        (error.code(), &error.path),
        ("bundle.volume-differs", &ours[1])
    );
    fs::copy(&ours[2], &ours[1]).unwrap();
    let error = shelf.check(&ours[0]).unwrap_err();
    assert_eq!(error.code(), "bundle.volume-stray");
    // The right content under another number.
    let needle = b"{\"format\":1,\"volume\":2,";
    let at = good
        .windows(needle.len())
        .position(|run| run == needle)
        .unwrap();
    let mut renumbered = good.clone();
    renumbered[at + needle.len() - 2] = b'3';
    fs::write(&ours[1], &renumbered).unwrap();
    fs::write(&ours[2], &good).unwrap();
    let error = shelf.check(&ours[0]).unwrap_err();
    assert!(
        ["bundle.volume-stray", "bundle.member-missing"].contains(&error.code()),
        "{error}"
    );
}

#[test]
fn two_volumes_under_each_others_names_are_the_same_bundle_or_named() {
    let shelf = Shelf::new(Some(VOLUME));
    let files = shelf.files();
    let aside = shelf.folder.path().join("aside");
    let (one, other, third) = (&files[0], &files[1], &files[2]);
    fs::rename(one, &aside).unwrap();
    fs::rename(other, one).unwrap();
    fs::rename(&aside, other).unwrap();
    // What a volume holds decides, not its name.
    let bundle = shelf.check(third).unwrap();
    assert_eq!(bundle.index.volumes as usize, files.len());
    // Under a name that is not its own it does not know where the others are.
    for opened in [one, other] {
        let error = shelf.check(opened).unwrap_err();
        assert_eq!(error.code(), "bundle.volumes-missing", "{error}");
        assert_eq!(error.path, *opened);
    }
}

#[test]
fn a_folder_with_two_bundles_is_not_guessed_at() {
    let shelf = Shelf::new(None);
    fs::copy(&shelf.files()[0], shelf.out().join("zebra-1.ferry")).unwrap();
    assert_eq!(
        Sealed::open(&shelf.out()).unwrap_err().code(),
        "bundle.several"
    );
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(
        Sealed::open(empty.path()).unwrap_err().code(),
        "bundle.not-a-bundle"
    );
}

#[test]
fn a_volume_that_is_too_small_says_how_large_it_must_be() {
    let mut shelf = Shelf::new(None);
    let out = shelf.out().join("demo-1.ferry");
    for size in [1, 4096, 20_000, 25_000, 30_000] {
        shelf.fake.options.volume_size = Some(size);
        let Err(error) = shelf.fake.build(shelf.folder.path(), &out) else {
            assert!(size > 20_000, "{size} bytes are enough");
            continue;
        };
        assert_eq!(error.code(), "bundle.volume-too-small");
        let (_, needed) = error
            .args()
            .into_iter()
            .find(|(name, _)| *name == "needed")
            .unwrap();
        let exact = needed.split_once('(').unwrap().1.split(' ').next().unwrap();
        let needed: u64 = exact.parse().unwrap();
        assert!(needed > size);
        // More volumes make a longer index: that is counted already.
        shelf.fake.options.volume_size = Some(needed);
        shelf.fake.build(shelf.folder.path(), &out).unwrap();
    }
}

#[test]
fn a_pipe_in_the_place_of_a_bundle_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(folder.path().join("x.ferry"))
        .status();
    assert!(made.unwrap().success());
    for place in [folder.path().to_owned(), folder.path().join("x.ferry")] {
        let error = Sealed::open(&place).unwrap_err();
        assert_eq!(error.code(), "bundle.not-a-bundle");
    }
}

#[test]
fn text_is_compressed_where_it_pays_and_nothing_else_is() {
    let shelf = Shelf::new(None);
    let bundle = shelf.check(&shelf.files()[0]).unwrap();
    let codecs: BTreeMap<_, _> = bundle
        .index
        .blobs
        .iter()
        .map(|b| (b.digest, b.codec))
        .collect();
    let of = |number: usize| codecs[&Digest::of(&shelf.fake.blobs[number])];
    assert_eq!(
        [of(0), of(1), of(2), of(3)],
        [Codec::Raw, Codec::Raw, Codec::Zstd, Codec::Raw]
    );
    let text = bundle.blob(&Digest::of(&shelf.fake.blobs[2])).unwrap();
    assert!(text.pieces.len() > 10 && text.stored_size() < text.size.0 / 4);
    shelf.assert_comes_out(&bundle);

    // `zstd`, where the machine has it, makes the file of it that its name promises.
    let member = text.member.as_str();
    let script = format!("tar -xOf demo-1.ferry {member} | zstd -dc | sha256sum | cut -c 1-64");
    let made = std::process::Command::new("sh")
        .args(["-c", &script])
        .current_dir(shelf.out())
        .output()
        .unwrap();
    if std::process::Command::new("zstd")
        .arg("--version")
        .output()
        .is_ok()
    {
        assert_eq!(
            String::from_utf8(made.stdout).unwrap().trim(),
            text.digest.hex()
        );
    }
}

#[test]
fn a_delta_names_what_it_leaves_to_the_target() {
    let mut shelf = Shelf::new(None);
    let full = fs::metadata(&shelf.files()[0]).unwrap().len();
    let weights = shelf.fake.blobs.remove(0);
    let digest = Digest::of(&weights);
    let out = shelf.out().join("demo-1.ferry");
    let error = shelf.fake.build(shelf.folder.path(), &out).unwrap_err();
    assert_eq!(error.code(), "bundle.blob-not-given");

    let size = manifest_schema::ByteSize(weights.len() as u64);
    shelf.fake.requires.push(RequiredBlob { digest, size });
    shelf.fake.build(shelf.folder.path(), &out).unwrap();
    assert!(fs::metadata(&out).unwrap().len() + 140_000 < full);
    let bundle = shelf.check(&out).unwrap();
    assert_eq!(bundle.requires().get(&digest), Some(&150_000));
    assert_eq!(
        bundle.blob_bytes(&digest).unwrap_err().code(),
        "bundle.blob-required"
    );
    shelf.assert_comes_out(&bundle);

    shelf.fake.requires.push(RequiredBlob {
        digest: Digest::of(b"nobody's"),
        size,
    });
    let error = shelf.fake.build(shelf.folder.path(), &out).unwrap_err();
    assert_eq!(error.code(), "bundle.blob-unused");
}
