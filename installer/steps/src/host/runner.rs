//! Running a command that changes the machine: its words, a bound on its time, all that it says kept.

use std::fs::File;
use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use host_probe::{end_with_all, wait_within};
use rustix::process::{Pid, Signal, kill_process_group};

use super::command::Command;

/// How a command ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// By itself, with this status.
    Status(i32),
    /// By a signal.
    Signal(i32),
    /// It was stopped after the limit, with all that it had started.
    TimedOut,
}

/// Runs the commands of a [`HostPlan`](super::HostPlan). A test brings its own.
pub trait Runner: Send + Sync {
    /// Runs `command` in `folder`, its temporary files in `temporary`, all that it says in the new file `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    fn run(&self, command: &Command, places: &Places<'_>, limit: Duration) -> io::Result<Ended>;
}

/// Where a command works.
#[derive(Clone, Copy, Debug)]
pub struct Places<'a> {
    /// Its working folder.
    pub folder: &'a Path,
    /// Folder for its temporary files.
    pub temporary: &'a Path,
    /// New file that takes all that it says.
    pub log: &'a Path,
}

/// The system's own programs.
#[derive(Clone, Debug, Default)]
pub struct ShellRunner {
    /// A machine that is played by a folder: programs are looked for in its `bin` first, and its path is in
    /// `FERRY_MACHINE`.
    pub machine: Option<PathBuf>,
}

impl Runner for ShellRunner {
    fn run(&self, command: &Command, places: &Places<'_>, limit: Duration) -> io::Result<Ended> {
        let [program, words @ ..] = command.words() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no words"));
        };
        let log = File::create_new(places.log)?;
        let mut process = std::process::Command::new(self.find(program)?);
        process
            .args(words)
            .current_dir(places.folder)
            .env_clear()
            .env("PATH", self.search_path())
            .env("HOME", "/root")
            .env("LC_ALL", "C")
            // Vendors' installers unpack themselves here; `/tmp` is often small, or forbids programs.
            .env("TMPDIR", places.temporary)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C in a terminal must not reach a firmware that is being written.
            .process_group(0);
        if let Some(machine) = &self.machine {
            process.env("FERRY_MACHINE", machine);
        }
        wait(process.spawn()?, limit)
    }
}

impl ShellRunner {
    fn search_path(&self) -> String {
        match &self.machine {
            Some(machine) => format!("{}:{SYSTEM_PATH}", machine.join("bin").display()),
            None => SYSTEM_PATH.to_owned(),
        }
    }

    /// The whole path of a program: what `PATH` of whoever calls says does not count.
    fn find(&self, program: &str) -> io::Result<PathBuf> {
        let path = self.search_path();
        let found = path
            .split(':')
            .map(|folder| Path::new(folder).join(program))
            .find(|path| path.is_file());
        found.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("`{program}` is in none of {SYSTEM_PATH}"),
            )
        })
    }
}

fn wait(mut child: Child, limit: Duration) -> io::Result<Ended> {
    if let Some(status) = wait_within(&mut child, Some(limit), &|| ())? {
        return Ok(match (status.code(), status.signal()) {
            (Some(code), _) => Ended::Status(code),
            (None, signal) => Ended::Signal(signal.unwrap_or_default()),
        });
    }
    // Installers start others: those that descend from this one, and those that only its group tells of.
    end_with_all(&mut child);
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    Ok(Ended::TimedOut)
}

const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[cfg(test)]
mod tests {
    use super::*;

    fn run(words: &[&str], limit: Duration) -> (io::Result<Ended>, String) {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log.txt");
        let places = Places {
            folder: folder.path(),
            temporary: folder.path(),
            log: &log,
        };
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        let ended = ShellRunner::default().run(&Command::of(words), &places, limit);
        (ended, std::fs::read_to_string(&log).unwrap_or_default())
    }

    #[test]
    fn a_command_ends_by_itself_by_a_signal_or_by_the_limit() {
        let minute = Duration::from_mins(1);
        for (script, limit, ended) in [
            ("exit 3", minute, Ended::Status(3)),
            ("kill -9 $$", minute, Ended::Signal(9)),
            // What it started goes with it, or waiting for it would last an hour.
            (
                "sleep 3600 & sleep 3600",
                Duration::from_millis(100),
                Ended::TimedOut,
            ),
        ] {
            assert_eq!(
                run(&["sh", "-c", script], limit).0.unwrap(),
                ended,
                "{script}"
            );
        }
    }

    #[test]
    fn it_gets_an_environment_of_its_own_and_all_it_says_is_kept() {
        let script =
            "echo out; echo err >&2; echo \"$HOME $LC_ALL ${CARGO:-none}\"; test -d \"$TMPDIR\"";
        let (ended, said) = run(&["sh", "-c", script], Duration::from_mins(1));
        assert_eq!(ended.unwrap(), Ended::Status(0));
        assert_eq!(said, "out\nerr\n/root C none\n");
    }

    #[test]
    fn a_program_is_looked_for_where_systems_keep_theirs() {
        assert!(run(&["no-such-program"], Duration::from_secs(1)).0.is_err());
    }
}
