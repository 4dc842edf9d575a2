//! An aligned bundle on XFS is installed without its blobs being copied, and still checked.
//!
//! Needs root, loop devices and `mkfs.xfs`; where they are not there, it says so and passes.

#![expect(clippy::unwrap_used, reason = "what cannot be done is a failed test")]
#![expect(clippy::print_stderr, reason = "a test that is skipped says so")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use bundle_format::Sealed;
use bundle_format::fake::Fake;
use install_steps::{Choices, Guard, InstallPlan, Journal, Prefix, RealDisk, audit, install};
use manifest_schema::Digest;
use report::{Silent, Trouble};

/// A file system in a file, until it is dropped.
struct Xfs {
    folder: tempfile::TempDir,
}

impl Xfs {
    fn mount(options: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        File::create(&image).unwrap().set_len(400 << 20).unwrap();
        let place = folder.path().join("mount");
        fs::create_dir(&place).unwrap();
        let run = |program: &str, words: &[&str], paths: &[&Path]| {
            let made = Command::new(program).args(words).args(paths).output();
            let made = made.is_ok_and(|output| output.status.success());
            if !made {
                eprintln!("skipped: `{program}` cannot make an XFS here");
            }
            made.then_some(())
        };
        run("mkfs.xfs", &["-q", "-m", options], &[&image])?;
        run("mount", &["-o", "loop"], &[&image, &place])?;
        Some(Self { folder })
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("mount")
    }

    fn free(&self) -> u64 {
        let synced = Command::new("sync").arg("-f").arg(self.path()).status();
        assert!(synced.unwrap().success());
        let found = rustix::fs::statvfs(self.path()).unwrap();
        found.f_bavail * found.f_frsize
    }
}

impl Drop for Xfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

const SIZE: usize = (24 << 20) + 12_345;

struct World {
    xfs: Xfs,
    fake: Fake,
    prefix: Prefix,
}

impl World {
    fn new(options: &str) -> Option<Self> {
        let xfs = Xfs::mount(options)?;
        let noise = (0..=SIZE as u32 / 32).flat_map(|n| *Digest::of(&n.to_le_bytes()).as_bytes());
        let files = [
            ("weights.bin", noise.take(SIZE).collect()),
            ("small.txt", b"ferry\n".to_vec()),
        ];
        let mut fake = Fake::with_dataset("demo", 1, &files);
        fake.options.align = true;
        fake.options.piece_size = 1 << 20;
        fake.build(xfs.folder.path(), &xfs.path().join("1.ferry"))
            .unwrap();
        let prefix = Prefix::at(&xfs.path().join("prefix")).unwrap();
        Some(Self { xfs, fake, prefix })
    }

    fn install(&self) -> Result<(), Trouble> {
        let bundle = Sealed::open(&self.xfs.path().join("1.ferry"))?.verify(&self.fake.roots())?;
        let guard = Guard::take(&RealDisk, &self.prefix, "install")?;
        let plan = InstallPlan::compute(&bundle, &self.prefix, &Choices::default())?;
        install(&RealDisk, &guard, &self.prefix, &bundle, &plan, &Silent)?;
        Ok(())
    }

    fn assert_whole(&self) {
        let name = self.prefix.current().unwrap().unwrap();
        let journal = Journal::read(&self.prefix).unwrap();
        let report = audit(&self.prefix, &name, Some(&journal), &Silent).unwrap();
        assert_eq!(report.problems().count(), 0);
    }
}

#[test]
fn blocks_are_shared_and_the_bundle_may_go() {
    let Some(world) = World::new("reflink=1") else {
        return;
    };
    let before = world.xfs.free();
    world.install().unwrap();
    let taken = before - world.xfs.free();
    assert!(taken < SIZE as u64 / 4, "{taken} bytes were taken");
    world.assert_whole();
    // What is shared is not tied to the bundle: written to or gone, the release stays.
    let bundle = world.xfs.path().join("1.ferry");
    let file = File::options().write(true).open(&bundle).unwrap();
    file.write_all_at(&vec![0; SIZE], 0).unwrap();
    drop(file);
    world.assert_whole();
    fs::remove_file(bundle).unwrap();
    world.assert_whole();
}

#[test]
fn a_damaged_bundle_is_found_although_nothing_is_copied() {
    let Some(world) = World::new("reflink=1") else {
        return;
    };
    let path = world.xfs.path().join("1.ferry");
    let file = File::options().read(true).write(true).open(path).unwrap();
    let place = file.metadata().unwrap().len() - (10 << 20);
    let mut byte = [0];
    file.read_exact_at(&mut byte, place).unwrap();
    file.write_all_at(&[byte[0] ^ 1], place).unwrap();
    let error = world.install().unwrap_err();
    assert_eq!(error.diagnose().code(), "bundle.piece-differs");
    assert!(world.prefix.current().unwrap().is_none());
    let left = fs::read_dir(world.prefix.store()).map_or(0, Iterator::count);
    assert_eq!(left, 0);
}

#[test]
fn a_file_system_that_cannot_share_gets_a_copy() {
    let Some(world) = World::new("reflink=0") else {
        return;
    };
    let before = world.xfs.free();
    world.install().unwrap();
    assert!(before - world.xfs.free() >= SIZE as u64);
    world.assert_whole();
}
