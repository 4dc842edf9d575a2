//! Two releases, and where they are installed.

use bundle_format::Sealed;
use bundle_format::fake::Fake;
use install_steps::{Choices, Disk, Guard, InstallPlan, Journal, Prefix, audit, install};
use report::{Silent, Trouble};

/// A prefix and what is installed below it.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) fake: Fake,
}

impl World {
    /// Two releases under one key: `1.ferry` and `2.ferry`.
    pub(crate) fn new() -> Self {
        Self::of(4096, |release| {
            vec![
                ("same.bin", b"{}".to_vec()),
                ("data.bin", vec![release; 10_000]),
            ]
        })
    }

    /// The same with files that are large enough for a way of their own to the disk, the one of them no number of whole blocks.
    #[allow(dead_code, reason = "not every test needs them")]
    pub(crate) fn of_large_files() -> Self {
        let byte = |seed: u32, n: u32| (n.wrapping_mul(n).wrapping_add(seed) >> 7) as u8;
        let bytes = |seed: u32, size: u32| (0..size).map(|n| byte(seed, n)).collect();
        Self::of(2 << 20, |release| {
            let seed = u32::from(release);
            vec![
                ("many.bin", bytes(seed, (7 << 20) + 77)),
                ("two.bin", bytes(seed + 9, 4 << 20)),
            ]
        })
    }

    fn of(piece_size: u64, files: impl Fn(u8) -> Vec<(&'static str, Vec<u8>)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut fake = Fake::with_dataset("demo", 1, &files(1));
        fake.options.piece_size = piece_size;
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

    /// Where it installs.
    pub(crate) fn prefix(&self) -> Prefix {
        Prefix::at(&self.folder.path().join("prefix")).unwrap()
    }

    /// Installs a release on a disk that may fail.
    pub(crate) fn install(&self, disk: &dyn Disk, release: &str) -> Result<(), Trouble> {
        let path = self.folder.path().join(format!("{release}.ferry"));
        let bundle = Sealed::open(&path)?.verify(&self.fake.roots())?;
        let prefix = self.prefix();
        let guard = Guard::take(disk, &prefix, "install")?;
        let plan = InstallPlan::compute(&bundle, &prefix, &Choices::default())?;
        install(disk, &guard, &prefix, &bundle, &plan, &Silent)?;
        Ok(())
    }

    /// The number of the current release, every file of which is as signed; `None` where there is none.
    pub(crate) fn whole(&self) -> Option<String> {
        let prefix = self.prefix();
        let name = prefix.current().unwrap()?;
        let journal = Journal::read(&prefix).unwrap();
        let report = audit(&prefix, &name, Some(&journal), &Silent).unwrap();
        // Leftovers of the cut install lie in the store; what is current must be whole.
        let wrong: Vec<_> = report
            .problems()
            .filter(|file| file.path.starts_with("releases/"))
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
        name.as_str().split('-').nth(1).map(str::to_owned)
    }
}
