//! Power may go at any file operation: what was current stays whole, and the next install ends well.

#![expect(clippy::unwrap_used, reason = "what cannot be done is a failed test")]

mod faulty;
#[path = "faulty/world.rs"]
mod world;

use bundle_format::Sealed;
use faulty::FaultyDisk;
use install_steps::{Choices, Guard, InstallPlan, RealDisk, install};
use report::{Silent, Trouble};
use world::World;

#[test]
fn a_power_cut_at_any_operation_leaves_the_old_release_or_the_new() {
    let mut seen_old = 0;
    for cut in 0.. {
        let world = World::new();
        world.install(&RealDisk, "1").unwrap();
        let disk = FaultyDisk::that_dies_after(cut);
        let outcome = world.install(&disk, "2");
        if outcome.is_ok() {
            disk.is_settled();
        }
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
        if outcome.is_ok() {
            disk.is_settled();
        }
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
fn large_files_are_whole_whenever_power_goes_on_their_own_way_to_the_disk() {
    let world = World::of_large_files();
    for cut in (0..).step_by(4) {
        let _ = std::fs::remove_dir_all(world.prefix().path());
        let disk = FaultyDisk::that_dies_after(cut);
        let outcome = world.install(&disk, "1");
        disk.reboot();
        let left = world.whole();
        if outcome.is_ok() {
            assert!(cut > 20, "the disk died only {cut} times");
            assert_eq!(left.as_deref(), Some("1"));
            return;
        }
        assert!(matches!(left.as_deref(), None | Some("1")), "{left:?}");
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
