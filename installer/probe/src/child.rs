//! Running another program: not for ever, and not keeping all that it may say.
//!
//! A child stays in the group of whoever runs it, so that Ctrl-C in a terminal ends both. Where it has to be ended, all
//! that descends from it is ended too, whatever groups that made for itself.

use std::fs;
use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::host::READ_LIMIT;

/// What a program said, and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// How it ended.
    pub status: ExitStatus,
    /// The beginning of its standard output.
    pub output: Vec<u8>,
    /// The beginning of its standard error.
    pub errors: Vec<u8>,
}

impl Ran {
    /// All that it said; text that is not UTF-8 is mended.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&[self.output.as_slice(), &self.errors].concat()).into_owned()
    }
}

/// Runs `command` with nothing to read. After `limit` it is ended with all that it started; without one it may take as
/// long as it does. Calls `tick` about once a second meanwhile.
///
/// # Errors
/// When it cannot be started, and, as [`io::ErrorKind::TimedOut`], when it had to be ended.
pub fn run_within(
    command: &mut Command,
    limit: Option<Duration>,
    tick: &dyn Fn(),
) -> io::Result<Ran> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let output = drain(child.stdout.take());
    let errors = drain(child.stderr.take());
    let Some(status) = wait_within(&mut child, limit, tick)? else {
        end_with_all(&mut child);
        let seconds = limit.unwrap_or_default().as_secs();
        let said = format!("no answer within {seconds} s");
        return Err(io::Error::new(io::ErrorKind::TimedOut, said));
    };
    Ok(Ran {
        status,
        output: all_of(&output),
        errors: all_of(&errors),
    })
}

/// Waits for a child; `None` where it has not ended within `limit`.
///
/// # Errors
/// When the system does not say how it ended.
pub fn wait_within(
    child: &mut Child,
    limit: Option<Duration>,
    tick: &dyn Fn(),
) -> io::Result<Option<ExitStatus>> {
    let began = Instant::now();
    let mut told = Duration::ZERO;
    // Most programs are done in a moment.
    let mut pause = Duration::from_micros(250);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let waited = began.elapsed();
        if limit.is_some_and(|limit| waited >= limit) {
            return Ok(None);
        }
        if waited.saturating_sub(told) >= Duration::from_secs(1) {
            told = waited;
            tick();
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

/// Ends a child and all that descends from it. One that is held in a driver does not end even so, and is not waited for.
pub fn end_with_all(child: &mut Child) {
    let mut found = vec![child.id()];
    let mut seen = 0;
    while let Some(&process) = found.get(seen) {
        // Stopped, it starts no other while its children are looked for.
        send(process, Signal::STOP);
        found.extend(children_of(process));
        seen += 1;
    }
    for process in found {
        send(process, Signal::KILL);
    }
    let _ = wait_within(child, Some(AFTER_THE_END), &|| ());
}

fn send(process: u32, signal: Signal) {
    if let Some(process) = i32::try_from(process).ok().and_then(Pid::from_raw) {
        // One that has ended needs no signal.
        let _ = kill_process(process, signal);
    }
}

/// The processes whose parent is `process`.
fn children_of(process: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let named = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    named
        .filter(|&other: &u32| {
            let stat = fs::read_to_string(format!("/proc/{other}/stat"));
            stat.is_ok_and(|stat| parent_in(&stat) == Some(process))
        })
        .collect()
}

/// The parent that a line of `/proc/*/stat` tells: `pid (name) state parent …`, where the name may hold anything.
fn parent_in(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(1)?.parse().ok()
}

/// Reads a pipe to its end, so that nobody waits for room in it, and keeps its beginning.
fn drain<R: Read + Send + 'static>(pipe: Option<R>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let Some(mut pipe) = pipe else { return };
        let (mut run, mut left) = (vec![0; 64 * 1024], KEPT);
        // A pipe that breaks ends the text; what came before is still worth reading.
        while let Ok(count @ 1..) = pipe.read(&mut run) {
            let kept = count.min(left);
            left -= kept;
            if kept > 0 && sender.send(run[..kept].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// What came through a pipe whose program has ended. Something that it left running may hold the pipe open for ever:
/// that is not waited for.
fn all_of(pipe: &Receiver<Vec<u8>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Ok(run) = pipe.recv_timeout(AFTER_THE_END) {
        bytes.extend(run);
    }
    bytes
}

/// Bytes of the longest text that is kept; who reads a list tells by it that the list was cut.
const KEPT: usize = READ_LIMIT as usize;
/// How long something that must end at once is waited for: a silent pipe, a process that was ended.
const AFTER_THE_END: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_program_that_hangs_is_ended_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let noted = folder.path().join("pids");
        // One that is started by another, and one with a session of its own.
        let script = format!(
            "sh -c 'sleep 3600 & echo $! >> {0}; wait' & setsid sleep 3600 & echo $! >> {0}; wait",
            noted.display()
        );
        // As long as it takes to note both.
        let mut limit = Duration::from_millis(200);
        let pids = loop {
            let _ = fs::remove_file(&noted);
            let error = run_within(&mut shell(&script), Some(limit), &|| ()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            let pids = fs::read_to_string(&noted).unwrap_or_default();
            if pids.lines().count() == 2 {
                break pids;
            }
            limit *= 2;
        };
        for pid in pids.lines() {
            let runs = || {
                let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
                // Ended, and perhaps not yet collected by whoever is its parent now.
                stat.is_ok_and(|stat| !stat.contains(") Z "))
            };
            let began = Instant::now();
            while runs() && began.elapsed() < Duration::from_mins(1) {
                thread::sleep(Duration::from_millis(5));
            }
            assert!(!runs(), "{pid}");
        }
    }

    #[test]
    fn a_program_that_says_much_does_not_wait_for_room() {
        let ran = run_within(
            &mut shell("head -c 9000000 /dev/zero; echo end >&2"),
            None,
            &|| (),
        )
        .unwrap();
        assert!(ran.status.success());
        assert_eq!(
            (ran.output.len(), ran.errors.as_slice()),
            (KEPT, &b"end\n"[..])
        );
    }

    #[test]
    fn a_parent_is_read_whatever_a_process_is_called() {
        for (stat, parent) in [
            ("7 (sh) S 5 7 7", Some(5)),
            ("7 (a) b) S 5 7 7", Some(5)),
            ("7 (sh", None),
            ("", None),
        ] {
            assert_eq!(parent_in(stat), parent, "{stat}");
        }
    }
}
