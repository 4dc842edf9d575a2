//! Power may go, or the disk be full, while a release is gone back to or removed: what is current stays whole, the log
//! can be read, and the same call ends well afterwards.

#![expect(clippy::unwrap_used, reason = "what cannot be done is a failed test")]

mod faulty;
#[path = "faulty/world.rs"]
mod world;

use faulty::FaultyDisk;
use install_steps::{
    Disk, Guard, Journal, ManageError, Prefix, RealDisk, ReleaseName, Unlogged, remove, remove_all,
    rollback, unlogged,
};
use report::{Diagnose as _, Silent};
use world::World;

/// What is done, on a disk that may fail.
type Act = fn(&dyn Disk, &Prefix, &ReleaseName) -> Result<(), ManageError>;

fn go_back(disk: &dyn Disk, prefix: &Prefix, first: &ReleaseName) -> Result<(), ManageError> {
    let guard = Guard::take(&RealDisk, prefix, "rollback").unwrap();
    rollback(disk, &guard, prefix, first, &Silent)
}

fn take_first(disk: &dyn Disk, prefix: &Prefix, first: &ReleaseName) -> Result<(), ManageError> {
    let guard = Guard::take(&RealDisk, prefix, "uninstall").unwrap();
    remove(disk, &guard, prefix, first).map(drop)
}

fn take_all(disk: &dyn Disk, prefix: &Prefix, _: &ReleaseName) -> Result<(), ManageError> {
    let guard = Guard::take(&RealDisk, prefix, "uninstall").unwrap();
    remove_all(disk, &guard, prefix)
}

/// Both releases, the second one current; the name of the first.
fn both() -> (World, ReleaseName) {
    let world = World::new();
    world.install(&RealDisk, "1").unwrap();
    let first = world.prefix().current().unwrap().unwrap();
    world.install(&RealDisk, "2").unwrap();
    (world, first)
}

/// The log holds, and tells of all that is there.
fn log_holds(prefix: &Prefix, when: &str) {
    let journal = Journal::read(prefix).unwrap_or_else(|error| panic!("{when}: {error}"));
    let mut found = unlogged(prefix, &journal).unwrap();
    // The entry comes before the link is switched.
    found.retain(|found| !matches!(found, Unlogged::Current { .. }));
    assert_eq!(found, [], "{when}");
}

#[test]
fn a_power_cut_at_any_operation_of_managing_leaves_a_whole_release_or_none() {
    let none = "-".to_owned();
    let acts: [(Act, [&str; 2], &str); 3] = [
        (go_back, ["1", "2"], "1"),
        (take_first, ["2", "2"], "2"),
        (take_all, ["2", "-"], "-"),
    ];
    for (act, allowed, last) in acts {
        for cut in 0.. {
            let (world, first) = both();
            let left = || world.whole().unwrap_or_else(|| none.clone());
            let disk = FaultyDisk::that_dies_after(cut);
            let outcome = act(&disk, &world.prefix(), &first);
            if outcome.is_ok() {
                disk.is_settled();
            }
            disk.reboot();
            let now = left();
            assert!(allowed.contains(&now.as_str()), "{cut}: {now}");
            log_holds(&world.prefix(), &format!("after {cut} operations"));
            if outcome.is_ok() {
                assert_eq!(now, last);
                assert!(cut > 3, "only {cut} operations");
                break;
            }
            // The same again; a removal may already have been done.
            match act(&RealDisk, &world.prefix(), &first) {
                Ok(()) => {}
                Err(error) => assert_eq!(error.code(), "install.no-release", "{cut}"),
            }
            assert_eq!(left(), last, "after {cut}");
            // And all can be installed anew.
            world.install(&RealDisk, "2").unwrap();
            assert_eq!(left(), "2", "after {cut}");
        }
    }
}

#[test]
fn on_a_disk_that_is_full_a_release_can_be_removed_and_the_log_tells_it() {
    let acts: [(Act, Option<&str>); 2] = [(take_first, Some("2")), (take_all, None)];
    for (act, last) in acts {
        for room in 0..4 {
            let (world, first) = both();
            let prefix = world.prefix();
            let disk = FaultyDisk::that_is_full_until_freed(room);
            act(&disk, &prefix, &first).unwrap_or_else(|error| panic!("{room}: {error}"));
            assert_eq!(world.whole().as_deref(), last, "{room}");
            assert!(!prefix.release(&first).exists(), "{room}");
            let log = std::fs::read_to_string(prefix.path().join("log/actions.jsonl")).unwrap();
            let gone = usize::from(last.is_none()) + 1;
            let told = log
                .lines()
                .filter(|line| line.contains(r#""action":"remove""#));
            assert_eq!(told.count(), gone, "{room}: {log}");
            log_holds(&prefix, &format!("room for {room}"));
        }
    }
}
