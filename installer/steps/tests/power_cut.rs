//! Power may go at any file operation: what was current stays whole, and the next install ends well.

#![expect(clippy::unwrap_used, reason = "what cannot be done is a failed test")]

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bundle_format::fake::Fake;
use bundle_format::{Extent, Sealed};
use install_steps::{
    Choices, Disk, DiskError, Guard, InstallPlan, NewFile, Prefix, RealDisk, audit, install,
};
use report::{Silent, Trouble};

static REAL: RealDisk = RealDisk;

/// A disk whose operations fail from the n-th on. What was not settled by then loses its second half.
struct FaultyDisk {
    left: AtomicUsize,
    /// It is full, not dead: removing still works.
    full: bool,
    unsettled: Mutex<Vec<PathBuf>>,
}

impl FaultyDisk {
    fn that_dies_after(operations: usize) -> Self {
        Self {
            left: AtomicUsize::new(operations),
            full: false,
            unsettled: Mutex::default(),
        }
    }

    fn that_is_full_after(operations: usize) -> Self {
        Self {
            full: true,
            ..Self::that_dies_after(operations)
        }
    }

    /// An operation that frees space or takes none.
    fn operate_freely(&self, path: &Path) -> Result<(), DiskError> {
        if self.full {
            Ok(())
        } else {
            self.operate(path)
        }
    }

    fn operate(&self, path: &Path) -> Result<(), DiskError> {
        let alive = |left: usize| left.checked_sub(1);
        match self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, alive)
        {
            Ok(_) => Ok(()),
            Err(_) => Err(DiskError {
                action: "reach",
                path: path.to_owned(),
                source: if self.full {
                    io::ErrorKind::StorageFull.into()
                } else {
                    io::Error::other("no power")
                },
            }),
        }
    }

    fn reboot(self) {
        for path in self.unsettled.into_inner().unwrap() {
            if let Ok(file) = std::fs::OpenOptions::new().write(true).open(&path) {
                let length = file.metadata().unwrap().len();
                file.set_len(length / 2).unwrap();
            }
        }
    }
}

struct FaultyFile<'a> {
    disk: &'a FaultyDisk,
    inner: Box<dyn NewFile + 'a>,
    path: PathBuf,
}

impl Write for FaultyFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.disk
            .operate(&self.path)
            .map_err(|error| error.source)?;
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl NewFile for FaultyFile<'_> {
    fn share(&mut self, extents: &[Extent<'_>]) -> Result<Option<&File>, DiskError> {
        self.disk.operate(&self.path)?;
        self.inner.share(extents)
    }

    fn settle(self: Box<Self>, mode: u32) -> Result<(), DiskError> {
        self.disk.operate(&self.path)?;
        self.inner.settle(mode)?;
        let mut unsettled = self.disk.unsettled.lock().unwrap();
        unsettled.retain(|path| *path != self.path);
        Ok(())
    }
}

impl Disk for FaultyDisk {
    fn create_dir(&self, path: &Path) -> Result<(), DiskError> {
        self.operate(path)?;
        RealDisk.create_dir(path)
    }

    fn create(&self, path: &Path) -> Result<Box<dyn NewFile + '_>, DiskError> {
        self.operate(path)?;
        self.unsettled.lock().unwrap().push(path.to_owned());
        Ok(Box::new(FaultyFile {
            disk: self,
            inner: REAL.create(path)?,
            path: path.to_owned(),
        }))
    }

    fn append(&self, path: &Path, length: u64, bytes: &[u8]) -> Result<(), DiskError> {
        if let Err(error) = self.operate(path) {
            // The cruellest moment: half of the entry is on the disk.
            if !self.full && self.left.load(Ordering::SeqCst) == 0 && path.exists() {
                RealDisk.append(path, length, &bytes[..bytes.len() / 2])?;
            }
            return Err(error);
        }
        RealDisk.append(path, length, bytes)
    }

    fn hard_link(&self, existing: &Path, new: &Path) -> Result<(), DiskError> {
        self.operate(new)?;
        RealDisk.hard_link(existing, new)
    }

    fn symlink(&self, target: &Path, link: &Path) -> Result<(), DiskError> {
        self.operate(link)?;
        RealDisk.symlink(target, link)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.operate_freely(to)?;
        RealDisk.rename(from, to)
    }

    fn set_mode(&self, path: &Path, mode: u32) -> Result<(), DiskError> {
        self.operate_freely(path)?;
        RealDisk.set_mode(path, mode)
    }

    fn remove_file(&self, path: &Path) -> Result<(), DiskError> {
        self.operate_freely(path)?;
        RealDisk.remove_file(path)
    }

    fn remove_tree(&self, path: &Path) -> Result<(), DiskError> {
        self.operate_freely(path)?;
        RealDisk.remove_tree(path)
    }

    fn remove_empty_dir(&self, path: &Path) -> Result<(), DiskError> {
        self.operate_freely(path)?;
        RealDisk.remove_empty_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> Result<(), DiskError> {
        self.operate_freely(path)?;
        RealDisk.sync_dir(path)
    }

    fn sync_all(&self, path: &Path) -> Result<(), DiskError> {
        self.operate_freely(path)?;
        RealDisk.sync_all(path)
    }
}

struct World {
    folder: tempfile::TempDir,
    fake: Fake,
}

impl World {
    /// Two releases under one key: `1.ferry` and `2.ferry`.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = |release: u8| {
            [
                ("same.bin", b"{}".to_vec()),
                ("data.bin", vec![release; 10_000]),
            ]
        };
        let mut fake = Fake::with_dataset("demo", 1, &files(1));
        let second = Fake::with_dataset("demo", 2, &files(2));
        for release in ["1", "2"] {
            let blobs = folder.path().join(format!("blobs-{release}"));
            std::fs::create_dir(&blobs).unwrap();
            let out = folder.path().join(format!("{release}.ferry"));
            fake.build(&blobs, &out).unwrap();
            fake.profiles = second.profiles.clone();
            fake.blobs.clone_from(&second.blobs);
        }
        Self { folder, fake }
    }

    fn prefix(&self) -> Prefix {
        Prefix::at(&self.folder.path().join("prefix")).unwrap()
    }

    fn install(&self, disk: &dyn Disk, release: &str) -> Result<(), Trouble> {
        let path = self.folder.path().join(format!("{release}.ferry"));
        let bundle = Sealed::open(&path)?.verify(&self.fake.roots())?;
        let prefix = self.prefix();
        let guard = Guard::take(disk, &prefix, "install")?;
        let plan = InstallPlan::compute(&bundle, &prefix, &Choices::default())?;
        install(disk, &guard, &prefix, &bundle, &plan, &Silent)?;
        Ok(())
    }

    /// The number of the current release, every file of which is as signed; `None` where there is none.
    fn whole(&self) -> Option<String> {
        let prefix = self.prefix();
        let name = prefix.current().unwrap()?;
        let report = audit(&prefix, &name, &Silent).unwrap();
        // Leftovers of the cut install lie in the store; what is current must be whole.
        let wrong: Vec<_> = report
            .problems()
            .filter(|file| file.path.starts_with("releases/"))
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
        name.as_str().split('-').nth(1).map(str::to_owned)
    }
}

#[test]
fn a_power_cut_at_any_operation_leaves_the_old_release_or_the_new() {
    let mut seen_old = 0;
    for cut in 0.. {
        let world = World::new();
        world.install(&RealDisk, "1").unwrap();
        let disk = FaultyDisk::that_dies_after(cut);
        let outcome = world.install(&disk, "2");
        disk.reboot();
        let left = world.whole();
        match left.as_deref() {
            Some("1") => seen_old += 1,
            Some("2") => {}
            other => panic!("after {cut} operations: {other:?}"),
        }
        if outcome.is_ok() {
            assert_eq!(left.as_deref(), Some("2"));
            assert!(seen_old > 10, "the disk died only {seen_old} times");
            return;
        }
        world.install(&RealDisk, "2").unwrap_or_else(|error| {
            panic!("install after a cut at {cut}: {error:?}");
        });
        assert_eq!(world.whole().as_deref(), Some("2"), "after {cut}");
    }
}

#[test]
fn a_first_install_that_is_cut_off_leaves_nothing_current_or_all() {
    for cut in 0.. {
        let world = World::new();
        let disk = FaultyDisk::that_dies_after(cut);
        let outcome = world.install(&disk, "1");
        disk.reboot();
        if outcome.is_ok() {
            assert_eq!(world.whole().as_deref(), Some("1"));
            return;
        }
        assert!(
            matches!(world.whole().as_deref(), None | Some("1")),
            "{cut}"
        );
        world.install(&RealDisk, "1").unwrap();
        assert_eq!(world.whole().as_deref(), Some("1"), "after {cut}");
    }
}

#[test]
fn a_disk_that_fills_up_at_any_operation_is_said_and_leaves_no_half_release() {
    for cut in 0.. {
        let world = World::new();
        world.install(&RealDisk, "1").unwrap();
        let outcome = world.install(&FaultyDisk::that_is_full_after(cut), "2");
        let Err(error) = outcome else {
            assert!(cut > 10, "the disk was full only {cut} times");
            assert_eq!(world.whole().as_deref(), Some("2"));
            return;
        };
        assert_eq!(
            error.diagnose().code(),
            "install.disk-full",
            "{cut}: {error:?}"
        );
        assert_eq!(error.diagnose().outcome(), report::Outcome::HostFault);
        let left = world.whole();
        assert!(
            matches!(left.as_deref(), Some("1" | "2")),
            "{cut}: {left:?}"
        );
        let releases = std::fs::read_dir(world.prefix().releases()).unwrap();
        let staged = releases.filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().starts_with(".staging")
        });
        assert_eq!(staged.count(), 0, "after {cut} operations");
        world.install(&RealDisk, "2").unwrap();
        assert_eq!(world.whole().as_deref(), Some("2"), "after {cut}");
    }
}

#[test]
fn a_stick_that_is_pulled_out_leaves_the_old_release_and_a_retry_finishes() {
    let world = World::new();
    world.install(&RealDisk, "1").unwrap();
    let path = world.folder.path().join("2.ferry");
    let good = std::fs::read(&path).unwrap();
    let bundle = Sealed::open(&path)
        .unwrap()
        .verify(&world.fake.roots())
        .unwrap();
    let prefix = world.prefix();
    let plan = InstallPlan::compute(&bundle, &prefix, &Choices::default()).unwrap();
    // All was checked but the blobs, and now their end is gone.
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(good.len() as u64 - 12_000).unwrap();
    let guard = Guard::take(&RealDisk, &prefix, "install").unwrap();
    let error = install(&RealDisk, &guard, &prefix, &bundle, &plan, &Silent).unwrap_err();
    drop(guard);
    let error = Trouble::from(error);
    assert_eq!(error.diagnose().code(), "bundle.unreadable");
    assert_eq!(error.diagnose().outcome(), report::Outcome::HostFault);
    assert_eq!(world.whole().as_deref(), Some("1"));
    std::fs::write(&path, good).unwrap();
    world.install(&RealDisk, "2").unwrap();
    assert_eq!(world.whole().as_deref(), Some("2"));
}

#[test]
fn a_flipped_byte_leaves_nothing_of_a_first_install() {
    let world = World::new();
    let path = world.folder.path().join("1.ferry");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.len() - 4096;
    let spot = bytes[..at].iter().rposition(|byte| *byte == 1).unwrap();
    bytes[spot] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = world.install(&RealDisk, "1").unwrap_err();
    assert_eq!(error.diagnose().outcome(), report::Outcome::Untrusted);
    assert!(!world.prefix().path().exists());
}

#[test]
fn an_older_release_is_refused() {
    let world = World::new();
    world.install(&RealDisk, "2").unwrap();
    let error = world.install(&RealDisk, "1").unwrap_err();
    assert_eq!(error.diagnose().code(), "install.downgrade");
    assert_eq!(world.whole().as_deref(), Some("2"));
}
