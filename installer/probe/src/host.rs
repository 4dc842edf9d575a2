//! The machine behind a trait: the real one below a root folder, or one recorded as a folder.
//!
//! ```text
//! etc/ proc/ sys/ usr/       files as they were
//! dev.txt                    names under /dev, one a line
//! there.txt                  paths that are there without being kept, one a line
//! cmd/<program args>.txt     what a program printed; `/` becomes `_`
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::child::run_within;

/// Everything the probe may ask of a machine. Answers are bounded, and text that is not UTF-8 is mended.
pub trait Host {
    /// Text of a file, by absolute path.
    fn read(&self, path: &str) -> io::Result<String>;
    /// What a program printed, whatever its exit status: vendors' tools explain their failures there.
    fn run(&self, program: &str, args: &[&str], libraries: &[String]) -> io::Result<String>;
    /// Programs that will be asked for soon, each without libraries of its own: they may run meanwhile, all at once.
    fn foresee(&self, _programs: &[(&str, &[&str])]) {}
    /// Names in a folder, sorted.
    fn list(&self, path: &str) -> io::Result<Vec<String>>;
    /// Whether something is at the path.
    fn exists(&self, path: &str) -> bool;
}

/// The machine this program runs on, or another's root mounted at `sysroot`.
pub struct RealHost {
    /// `/`, or where the other root is mounted. No program is run below another root.
    sysroot: PathBuf,
    /// Programs that run already, by their words. Each answers once.
    running: Mutex<BTreeMap<Vec<String>, JoinHandle<io::Result<String>>>>,
}

impl RealHost {
    /// The machine whose root is mounted at `sysroot`.
    pub fn at(sysroot: PathBuf) -> Self {
        Self {
            sysroot,
            running: Mutex::default(),
        }
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<Vec<String>, JoinHandle<io::Result<String>>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for RealHost {
    fn default() -> Self {
        Self::at(PathBuf::from("/"))
    }
}

impl Host for RealHost {
    fn read(&self, path: &str) -> io::Result<String> {
        read_bounded(&below(&self.sysroot, path)?)
    }

    fn run(&self, program: &str, args: &[&str], libraries: &[String]) -> io::Result<String> {
        if self.sysroot != Path::new("/") {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "no program is run below another root",
            ));
        }
        let mut command = command(program, args);
        if !libraries.is_empty() {
            command.env("LD_LIBRARY_PATH", libraries.join(":"));
            return run_bounded(command);
        }
        let begun = self.running().remove(&words(program, args));
        match begun.map(JoinHandle::join) {
            Some(Ok(answer)) => answer,
            _ => run_bounded(command),
        }
    }

    fn foresee(&self, programs: &[(&str, &[&str])]) {
        if self.sysroot != Path::new("/") {
            return;
        }
        let mut running = self.running();
        for (program, args) in programs {
            let command = command(program, args);
            running
                .entry(words(program, args))
                .or_insert_with(|| thread::spawn(|| run_bounded(command)));
        }
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        list_bounded(&below(&self.sysroot, path)?)
    }

    fn exists(&self, path: &str) -> bool {
        below(&self.sysroot, path).is_ok_and(|path| path.exists())
    }
}

/// A machine recorded as a folder.
pub struct RecordedHost {
    /// The folder.
    pub root: PathBuf,
}

impl Host for RecordedHost {
    fn read(&self, path: &str) -> io::Result<String> {
        read_bounded(&below(&self.root, path)?)
    }

    fn run(&self, program: &str, args: &[&str], _libraries: &[String]) -> io::Result<String> {
        read_bounded(&self.root.join("cmd").join(command_file(program, args)))
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        if path == "/dev" {
            let names = read_bounded(&self.root.join("dev.txt"))?;
            return Ok(names.lines().map(str::to_owned).collect());
        }
        list_bounded(&below(&self.root, path)?)
    }

    fn exists(&self, path: &str) -> bool {
        let noted = || {
            let noted = read_bounded(&self.root.join("there.txt")).unwrap_or_default();
            noted.lines().any(|line| line == path)
        };
        below(&self.root, path).is_ok_and(|path| path.exists()) || noted()
    }
}

/// Name of the file that keeps a program's answer.
pub(crate) fn command_file(program: &str, args: &[&str]) -> String {
    let mut words = vec![program];
    words.extend(args);
    format!("{}.txt", words.join(" ").replace('/', "_"))
}

/// Paths may come from a file of the machine, so they must not climb out of the root.
pub(crate) fn below(root: &Path, path: &str) -> io::Result<PathBuf> {
    let wrong = |why| io::Error::new(io::ErrorKind::InvalidInput, why);
    let path = Path::new(path);
    if !path.is_absolute() {
        return Err(wrong("not an absolute path"));
    }
    let mut joined = root.to_owned();
    for part in path.components() {
        match part {
            Component::RootDir => {}
            Component::Normal(name) => joined.push(name),
            _ => return Err(wrong("the path climbs with `..`")),
        }
    }
    Ok(joined)
}

fn read_bounded(path: &Path) -> io::Result<String> {
    // A named pipe or a terminal would block, or never end.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(READ_LIMIT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn list_bounded(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)?.take(LIST_LIMIT) {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Vendors put their tools into folders that a plain shell does not search.
fn search_path() -> String {
    let inherited = std::env::var("PATH").unwrap_or_default();
    format!("{inherited}:/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin")
}

fn command(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(args)
        .env("LC_ALL", "C")
        .env("PATH", search_path());
    command
}

fn words(program: &str, args: &[&str]) -> Vec<String> {
    let words = std::iter::once(&program).chain(args);
    words.map(|word| (*word).to_owned()).collect()
}

/// A tool hangs when its driver does, so it gets a time limit.
fn run_bounded(mut command: Command) -> io::Result<String> {
    let ran = run_within(&mut command, Some(RUN_LIMIT), &|| ())?;
    Ok(ran.said())
}

/// Bytes of the longest file, and of the longest answer of a program; what is longer is cut.
pub(crate) const READ_LIMIT: u64 = 4 * 1024 * 1024;
const LIST_LIMIT: usize = 65_536;
const RUN_LIMIT: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leaves_the_root() {
        let root = Path::new("/recorded");
        assert_eq!(
            below(root, "/etc/os-release").unwrap(),
            root.join("etc/os-release")
        );
        for path in ["/../etc/passwd", "/etc/../../x", "etc/os-release", ""] {
            assert!(below(root, path).is_err(), "{path}");
        }
    }

    #[test]
    fn what_is_not_a_file_is_not_read() {
        let host = RealHost::default();
        assert!(host.read("/dev/zero").is_err());
        assert!(host.read("/etc").is_err());
    }

    #[test]
    fn a_program_that_leaves_another_one_running_is_not_waited_for() {
        let began = std::time::Instant::now();
        let host = RealHost::default();
        let said = host.run("sh", &["-c", "sleep 60 & echo out"], &[]).unwrap();
        assert_eq!(said, "out\n");
        assert!(began.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_program_that_was_foreseen_runs_once_for_its_answer() {
        let folder = tempfile::tempdir().unwrap();
        let count = folder.path().join("count");
        let script = format!("echo x >> {0}; wc -l < {0}", count.display());
        let args = ["-c", script.as_str()];
        let host = RealHost::default();
        host.foresee(&[("sh", &args), ("no-such-program-anywhere", &[])]);
        assert_eq!(host.run("sh", &args, &[]).unwrap().trim(), "1");
        assert!(host.run("no-such-program-anywhere", &[], &[]).is_err());
        // What was not foreseen, or is asked again, runs anew.
        assert_eq!(host.run("sh", &args, &[]).unwrap().trim(), "2");
        let elsewhere = RealHost::at(PathBuf::from("/mnt"));
        elsewhere.foresee(&[("sh", &args)]);
        drop(elsewhere);
        assert_eq!(fs::read_to_string(&count).unwrap(), "x\nx\n");
    }

    #[test]
    fn a_failing_program_still_says_why() {
        let host = RealHost::default();
        let said = host
            .run("sh", &["-c", "echo out; echo err >&2; exit 3"], &[])
            .unwrap();
        assert_eq!(said, "out\nerr\n");
        assert!(host.run("no-such-program-anywhere", &[], &[]).is_err());
        let elsewhere = RealHost::at(PathBuf::from("/mnt"));
        assert!(elsewhere.run("true", &[], &[]).is_err());
    }
}
