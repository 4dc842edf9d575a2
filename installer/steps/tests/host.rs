//! The machine's own layer: power may go at any file operation, and a command may end in any way.

#![expect(clippy::unwrap_used, reason = "what cannot be done is a failed test")]

mod faulty;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use bundle_format::Sealed;
use bundle_format::fake::{Fake, placed_file};
use faulty::FaultyDisk;
use host_probe::{RecordedHost, probe};
use install_steps::{
    Action, Command, Disk, Ended, Guard, HostPlan, HostWork, Journal, Places, Prefix, RealDisk,
    Resume, Runner, Wanted, run_host,
};
use manifest_schema::{Backend, HostItem, HostKind};
use report::{Silent, Trouble};

const KINDS: [(&str, &str); 3] = [
    ("driver", "driver/version.info"),
    ("firmware", "firmware/version.info"),
    ("toolkit", "cann/aarch64-linux/ascend_toolkit_install.info"),
];

/// A machine with one device and no software, and a bundle that brings all of it.
struct World {
    folder: tempfile::TempDir,
    fake: Fake,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut fake = Fake::with_dataset("demo", 1, &[("data.json", b"[]".to_vec())]);
        let mut host = Vec::new();
        for (kind, _) in KINDS {
            let bytes = format!("#!/bin/bash\n# {kind}\n").repeat(400).into_bytes();
            host.push(HostItem {
                kind: kind.parse().unwrap(),
                version: "1.0".parse().unwrap(),
                file: placed_file(&format!("{kind}.run"), &bytes),
                member: None,
                signature: None,
                eula: None,
            });
            fake.blobs.push(bytes);
        }
        fake.profiles.backends.push(Backend {
            name: "ascend".parse().unwrap(),
            chip: "ascend-910b".to_owned(),
            arch: "aarch64".parse().unwrap(),
            glibc: None,
            versions: std::collections::BTreeMap::new(),
            files: Vec::new(),
            python: None,
            signatures: Vec::new(),
            eulas: Vec::new(),
            host,
            ports: Vec::new(),
        });
        let world = Self { folder, fake };
        world.write("cmd/uname -m.txt", "aarch64\n");
        world.write("etc/group", "HwHiAiUser:x:1:\n");
        world.write("etc/passwd", "HwHiAiUser:x:1:1::/:/bin/sh\n");
        world.start(0);
        let blobs = world.folder.path().join("blobs");
        std::fs::create_dir(&blobs).unwrap();
        world.fake.build(&blobs, &world.bundle()).unwrap();
        world
    }

    fn bundle(&self) -> PathBuf {
        self.folder.path().join("1.ferry")
    }

    fn machine(&self) -> PathBuf {
        self.folder.path().join("machine")
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.machine().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn start(&self, number: usize) {
        self.write("proc/sys/kernel/random/boot_id", &format!("{number}\n"));
    }

    fn prefix(&self) -> Prefix {
        Prefix::at(&self.folder.path().join("prefix")).unwrap()
    }

    fn run(
        &self,
        disk: &dyn Disk,
        runner: &dyn Runner,
        stop: &dyn Fn() -> bool,
    ) -> Result<Vec<HostKind>, Trouble> {
        let bundle = Sealed::open(&self.bundle())?.verify(&self.fake.roots())?;
        let prefix = self.prefix();
        let host = RecordedHost {
            root: self.machine(),
        };
        let backend = &bundle.profiles.backends[0];
        let wanted = Wanted {
            driver: true,
            toolkit: true,
        };
        let guard = Guard::take(disk, &prefix, "install")?;
        let plan = HostPlan::compute(backend, wanted, &probe(&host), &host, &prefix)?;
        let work = HostWork {
            disk,
            runner,
            host: &host,
            prefix: &prefix,
            bundle: &bundle,
            backend,
            resume: Some(Resume::default()),
            stop,
            sink: &Silent,
        };
        Ok(run_host(&work, &guard, &plan)?)
    }

    /// Goes on, starting the machine anew where that is asked for, until nothing is left.
    fn finish(&self, runner: &dyn Runner) {
        for number in 1..10 {
            if self.run(&RealDisk, runner, &|| false).unwrap().is_empty() {
                return;
            }
            self.start(number);
        }
        panic!("it wants to be started for ever");
    }

    /// What is in the log about commands: `run KIND` and `end KIND HOW`.
    fn logged(&self) -> Vec<String> {
        let journal = Journal::read(&self.prefix()).unwrap();
        let lines = journal
            .entries()
            .iter()
            .filter_map(|entry| match &entry.action {
                Action::HostRun { what, .. } => Some(format!("run {what}")),
                Action::HostEnd { what, ended, .. } => {
                    Some(format!("end {what} {}", ended.as_str()))
                }
                _ => None,
            });
        lines.collect()
    }
}

/// What a command does instead of running.
type Deed = dyn Fn(&str, &Command) -> io::Result<Ended> + Send + Sync;

/// A runner that does deeds, and refuses a file that is not whole.
struct Puppet<'a> {
    machine: PathBuf,
    deed: &'a Deed,
    ran: Mutex<Vec<String>>,
}

impl<'a> Puppet<'a> {
    fn of(world: &World, deed: &'a Deed) -> Self {
        Self {
            machine: world.machine(),
            deed,
            ran: Mutex::default(),
        }
    }

    fn good(world: &World) -> Puppet<'static> {
        Puppet::of(world, &|_, _| Ok(Ended::Status(0)))
    }

    fn ran(self) -> Vec<String> {
        self.ran.into_inner().unwrap()
    }
}

impl Runner for Puppet<'_> {
    fn run(&self, command: &Command, places: &Places<'_>, limit: Duration) -> io::Result<Ended> {
        assert!(limit >= Duration::from_mins(1));
        let path = Path::new(&command.words()[1]);
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let whole = format!("#!/bin/bash\n# {name}\n").repeat(400);
        assert_eq!(
            std::fs::read_to_string(path).unwrap(),
            whole,
            "half a file is run"
        );
        self.ran
            .lock()
            .unwrap()
            .push(format!("{name} {}", command.words()[2..].join(" ")));
        std::fs::write(places.log, format!("{name} says why\n")).unwrap();
        let ended = (self.deed)(&name, command)?;
        if ended == Ended::Status(0) && command.words()[2] != "--uninstall" {
            let (_, mark) = KINDS.iter().find(|(kind, _)| *kind == name).unwrap();
            let mark = self.machine.join("usr/local/Ascend").join(mark);
            std::fs::create_dir_all(mark.parent().unwrap()).unwrap();
            std::fs::write(mark, "version=1.0\n").unwrap();
        }
        Ok(ended)
    }
}

#[test]
fn a_power_cut_at_any_operation_runs_no_half_file_and_is_taken_up_again() {
    for cut in 0.. {
        let world = World::new();
        let disk = FaultyDisk::that_dies_after(cut);
        let runner = Puppet::good(&world);
        let outcome = world.run(&disk, &runner, &|| false);
        disk.reboot();
        world.start(100 + cut);
        // Nothing ran that the log does not tell of.
        let runs = world
            .logged()
            .iter()
            .filter(|line| line.starts_with("run"))
            .count();
        assert!(
            runner.ran().len() <= runs,
            "after {cut}: {:?}",
            world.logged()
        );
        let runner = Puppet::good(&world);
        world.finish(&runner);
        for (_, mark) in KINDS {
            assert!(
                world.machine().join("usr/local/Ascend").join(mark).exists(),
                "{cut}: {mark}"
            );
        }
        assert!(!world.prefix().path().join("host").exists(), "after {cut}");
        if let Ok(waits) = outcome {
            assert!(cut > 20, "only {cut} operations");
            assert_eq!(waits.len(), 2);
            // What was done before the cut is not done twice.
            assert_eq!(
                runner.ran(),
                ["toolkit --nox11 --install --quiet --install-for-all"]
            );
            return;
        }
    }
}

#[test]
fn a_command_that_hangs_or_dies_is_taken_back_or_says_that_it_cannot_be() {
    for (ended, code) in [
        (Ended::TimedOut, "install.host-timed-out"),
        (Ended::Signal(9), "install.host-failed-undone"),
        (Ended::Status(1), "install.host-failed-undone"),
    ] {
        let world = World::new();
        let deed = move |_: &str, command: &Command| {
            Ok(if command.words()[2] == "--uninstall" {
                Ended::Status(0)
            } else {
                ended
            })
        };
        let runner = Puppet::of(&world, &deed);
        let error = world.run(&RealDisk, &runner, &|| false).unwrap_err();
        assert_eq!(error.diagnose().code(), code, "{error:?}");
        assert_eq!(runner.ran()[1], "driver --uninstall");
        let logged = world.logged();
        assert_eq!(logged[logged.len() - 1], "end driver undone", "{logged:?}");
        world.finish(&Puppet::good(&world));
    }
    // Firmware stays where it was written.
    let world = World::new();
    let runner = Puppet::of(&world, &|name, _| {
        Ok(Ended::Status(i32::from(name == "firmware") * 7))
    });
    let error = world.run(&RealDisk, &runner, &|| false).unwrap_err();
    assert_eq!(error.diagnose().code(), "install.host-failed");
    assert!(
        error.diagnose().to_string().contains("firmware says why"),
        "{error:?}"
    );
    // The way back may be closed too.
    let world = World::new();
    let runner = Puppet::of(&world, &|_, _| Ok(Ended::Status(3)));
    let error = world.run(&RealDisk, &runner, &|| false).unwrap_err();
    assert_eq!(error.diagnose().code(), "install.host-failed-undo-failed");
}

#[test]
fn a_status_that_the_vendor_calls_success_is_one_and_the_machine_is_asked_after_all() {
    let world = World::new();
    // The driver's 2 is success, but nothing came of it.
    let runner = Puppet::of(&world, &|_, _| Ok(Ended::Status(2)));
    let error = world.run(&RealDisk, &runner, &|| false).unwrap_err();
    assert_eq!(error.diagnose().code(), "install.host-not-there");
}

#[test]
fn a_person_who_asks_to_stop_is_heard_between_two_commands() {
    let world = World::new();
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let stop = || asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 1;
    let runner = Puppet::good(&world);
    let error = world.run(&RealDisk, &runner, &stop).unwrap_err();
    assert_eq!(error.diagnose().code(), "install.host-stopped");
    assert_eq!(runner.ran().len(), 1);
    let runner = Puppet::good(&world);
    world.finish(&runner);
    assert_eq!(runner.ran().len(), 2);
}

#[test]
fn what_others_may_write_is_not_run_from() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    std::fs::create_dir(world.prefix().path()).unwrap();
    let loose = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(world.prefix().path(), loose).unwrap();
    let runner = Puppet::good(&world);
    let error = world.run(&RealDisk, &runner, &|| false).unwrap_err();
    assert_eq!(error.diagnose().code(), "install.host-place");
    assert!(runner.ran().is_empty());
}
