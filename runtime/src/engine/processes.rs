//! The processes of a run, however they were started and whoever is their parent.
//!
//! torchrun gives each of its workers a session of its own, so neither a process group nor a parent names them all. Every
//! process of a run inherits a variable with the run's folder, and `/proc` tells who has it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::environment::MARK;

/// More than any environment takes.
const LARGEST: u64 = 4 << 20;

/// How long processes may take to be gone after they were killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// A process of a run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Member {
    pid: i32,
    parent: i32,
    /// torchrun started it, or something below it.
    is_worker: bool,
}

/// The processes of the run in `folder` that live.
pub(crate) fn living(folder: &Path) -> Vec<i32> {
    members(folder).iter().map(|member| member.pid).collect()
}

/// Asks the processes that train to end: torchrun's workers, or else the one that was started. Helpers of theirs, such as
/// those that load data, are left alone.
pub(crate) fn ask(folder: &Path, signal: Signal) {
    for pid in trainers(&members(folder)) {
        send(pid, signal);
    }
}

/// Whether there are processes of the run, and none that `pid` started.
pub(crate) fn are_orphaned(folder: &Path, pid: u32) -> bool {
    let members = members(folder);
    let started = |member: &Member| member.parent.unsigned_abs() == pid;
    !members.is_empty() && !members.iter().any(started)
}

/// Sends a signal to every process of the run.
pub(crate) fn tell_all(folder: &Path, signal: Signal) {
    for member in members(folder) {
        send(member.pid, signal);
    }
}

/// Ends what is left of the run, and waits until it is gone.
pub(crate) fn end_all(folder: &Path) {
    let until = Instant::now() + PATIENCE;
    loop {
        let living = living(folder);
        if living.is_empty() || Instant::now() > until {
            return;
        }
        for pid in living {
            send(pid, Signal::KILL);
        }
        sleep(Duration::from_millis(20));
    }
}

fn send(pid: i32, signal: Signal) {
    // One that has ended in between is not there any more, which is what is wanted.
    if let Some(pid) = Pid::from_raw(pid) {
        let _gone = kill_process(pid, signal);
    }
}

/// The topmost of torchrun's workers, or else of all.
fn trainers(members: &[Member]) -> Vec<i32> {
    let any = members.iter().any(|member| member.is_worker);
    let meant: Vec<&Member> = members.iter().filter(|one| one.is_worker == any).collect();
    let top = meant.iter().filter(|one| {
        let mut others = meant.iter();
        !others.any(|other| other.pid == one.parent)
    });
    top.map(|one| one.pid).collect()
}

fn members(folder: &Path) -> Vec<Member> {
    let mark = [MARK.as_bytes(), b"=", folder.as_os_str().as_bytes()].concat();
    let own = std::process::id();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &i32| pid.unsigned_abs() != own)
        .filter_map(|pid| member(pid, &mark))
        .collect()
}

fn member(pid: i32, mark: &[u8]) -> Option<Member> {
    let mut environment = Vec::new();
    let file = File::open(format!("/proc/{pid}/environ")).ok()?;
    file.take(LARGEST).read_to_end(&mut environment).ok()?;
    let mut variables = environment.split(|byte| *byte == 0);
    variables.clone().find(|variable| *variable == mark)?;
    let is_worker = variables.any(|variable| variable.starts_with(b"RANK="));
    let status = fs::read(format!("/proc/{pid}/stat")).ok()?;
    Some(Member {
        pid,
        parent: parent(OsStr::from_bytes(&status).to_str().unwrap_or_default())?,
        is_worker,
    })
}

/// The parent in a line of `/proc/<pid>/stat`; the name before it may hold anything, also brackets. None for a process that
/// has ended and that nobody has looked at yet.
fn parent(stat: &str) -> Option<i32> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut words = rest.split_whitespace();
    let state = words.next()?;
    let parent = words.next()?.parse().ok()?;
    (!["Z", "X"].contains(&state)).then_some(parent)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn whoever_trains_is_asked_and_nobody_below() {
        let member = |pid, parent, is_worker| Member {
            pid,
            parent,
            is_worker,
        };
        // One process and what loads its data; a launcher, torchrun, two workers, and what loads the data of one.
        let one = [member(10, 1, false), member(11, 10, false)];
        let many = [
            member(10, 1, false),
            member(11, 10, false),
            member(12, 11, true),
            member(13, 11, true),
            member(14, 13, true),
        ];
        assert_eq!(trainers(&one), [10]);
        assert_eq!(trainers(&many), [12, 13]);
        assert!(trainers(&[]).is_empty());
    }

    #[test]
    fn a_parent_is_found_behind_any_name() {
        for (stat, expected) in [
            ("7 (python) S 3 7 7 0", Some(3)),
            ("7 (a) b) R 4 7", Some(4)),
            ("7 (python) Z 3 7", None),
            ("", None),
        ] {
            assert_eq!(parent(stat), expected, "{stat}");
        }
    }

    #[test]
    fn a_process_of_a_run_is_found_in_a_session_of_its_own_and_ended() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new("sh")
            .args(["-c", "setsid sleep 600 & wait"])
            .env(MARK, folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        while living(folder.path()).len() < 2 && began.elapsed() < Duration::from_mins(1) {
            sleep(Duration::from_millis(10));
        }
        assert_eq!(living(folder.path()).len(), 2);
        assert!(living(&folder.path().join("other")).is_empty());
        end_all(folder.path());
        child.wait().unwrap();
        assert!(living(folder.path()).is_empty());
    }
}
