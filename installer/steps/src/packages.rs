//! The system's package manager, which installs packages from a set's repository.
//!
//! It decides and resolves, from this repository alone; it is never told to ignore a dependency.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use manifest_schema::{OsPackages, PackageFormat, PackageSetName};

use crate::disk::Disk;
use crate::guard::Guard;
use crate::journal::{Action, Journal, JournalError};
use crate::prefix::Prefix;
use crate::program::{Ended, ProgramError};
use crate::python::is_executable;
use crate::repository::{LIST, folder_of};

/// A package manager, told to install a set.
#[derive(Clone, Debug)]
pub struct Manager {
    set: PackageSetName,
    format: PackageFormat,
    wanted: Vec<String>,
    program: PathBuf,
    /// Where the set's repository lies.
    folder: PathBuf,
}

impl Manager {
    /// Finds the package manager of `set`, which the current release has, in `folders`; where there is none, the usual
    /// one is named.
    pub fn find(set: &OsPackages, prefix: &Prefix, folders: &[PathBuf]) -> Self {
        let names: &[&str] = match set.format {
            PackageFormat::Rpm => &["dnf", "yum"],
            PackageFormat::Deb => &["apt-get"],
        };
        let places = names
            .iter()
            .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
        let found = places.into_iter().find(|program| is_executable(program));
        Self {
            set: set.name.clone(),
            format: set.format,
            wanted: set
                .wanted
                .iter()
                .map(|one| one.argument(set.format))
                .collect(),
            program: found.unwrap_or_else(|| PathBuf::from(names[0])),
            folder: prefix.current_link().join(folder_of(&set.name)),
        }
    }

    /// The same, for a repository that lies in `folder`.
    #[must_use]
    pub fn reading(mut self, folder: &Path) -> Self {
        folder.clone_into(&mut self.folder);
        self
    }

    /// Whether whoever runs this may install packages.
    pub fn may_install() -> bool {
        rustix::process::geteuid().is_root()
    }

    /// Where the packages lie.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is installed, as the package manager is told.
    pub fn wanted(&self) -> &[String] {
        &self.wanted
    }

    /// The command for a person to type.
    pub fn command(&self) -> String {
        let name = self
            .program
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        let line = |args: &[String]| {
            let words = args.iter().map(|word| quoted(word));
            [name.to_string()]
                .into_iter()
                .chain(words)
                .collect::<Vec<_>>()
                .join(" ")
        };
        match self.format {
            PackageFormat::Rpm => line(&self.install(&[])),
            PackageFormat::Deb => [line(&self.update()), line(&self.install(&[]))].join(" && "),
        }
    }

    /// What the package manager would do, in its own words. It changes nothing but its notes of repositories.
    ///
    /// # Errors
    /// When it cannot install the packages.
    pub fn preview(&self, tick: &dyn Fn()) -> Result<String, ProgramError> {
        let run = |args: &[String]| self.run(args, Some(PREVIEW_LIMIT), tick);
        match self.format {
            PackageFormat::Rpm => {
                let ran = run(&self.install(&["--assumeno"]))?;
                let said = ran.said();
                // Having said no for us, it ends with an error, whatever it would have done.
                let refused = said.lines().any(|line| {
                    ["Error:", "No package ", "No match for"]
                        .iter()
                        .any(|mark| line.starts_with(mark))
                });
                if ran.is_good() || !refused {
                    Ok(said)
                } else {
                    Err(ran.failed())
                }
            }
            PackageFormat::Deb => {
                run(&self.update())?.checked()?;
                Ok(run(&self.install(&["--simulate"]))?.checked()?.said())
            }
        }
    }

    /// Lets the package manager install, and logs that: once before, once with how it ended. It takes as long as it does:
    /// one that is stopped leaves packages half installed.
    ///
    /// # Errors
    /// When it fails, or the log cannot be written: then nothing is installed.
    pub fn install_all(
        &self,
        disk: &dyn Disk,
        _guard: &Guard,
        prefix: &Prefix,
        tick: &dyn Fn(),
    ) -> Result<(), PackagesError> {
        let log = |result: &str| {
            Journal::read(prefix)?.add(
                disk,
                prefix,
                Action::OsPackages {
                    set: self.set.clone(),
                    manager: self.program.display().to_string(),
                    packages: self.wanted.clone(),
                    result: result.to_owned(),
                },
            )
        };
        log("begun")?;
        let yes = match self.format {
            PackageFormat::Rpm => "--assumeyes",
            PackageFormat::Deb => "--assume-yes",
        };
        let result = self.run(&self.install(&[yes]), None, tick);
        let result = result.and_then(Ended::checked);
        log(match &result {
            Ok(_) => "done",
            Err(_) => "failed",
        })?;
        result?;
        Ok(())
    }

    fn install(&self, more: &[&str]) -> Vec<String> {
        let mut args = self.places();
        args.extend(more.iter().map(|word| (*word).to_owned()));
        args.push("install".to_owned());
        if self.format == PackageFormat::Deb {
            // What was not computed when the bundle was made is not in it; and nothing of the machine is to go.
            args.extend(["--no-install-recommends", "--no-remove"].map(str::to_owned));
        }
        args.extend(self.wanted.iter().cloned());
        args
    }

    fn update(&self) -> Vec<String> {
        let mut args = self.places();
        args.push("update".to_owned());
        args
    }

    /// Options that leave the set's repository as the only one.
    fn places(&self) -> Vec<String> {
        let folder = self.folder.display();
        match self.format {
            // Understood by yum 3 as well, unlike `--repofrompath`.
            PackageFormat::Rpm => vec![
                format!("--setopt=reposdir={folder}"),
                "--disablerepo=*".to_owned(),
                "--enablerepo=ferry".to_owned(),
            ],
            PackageFormat::Deb => [
                format!("Dir::Etc::sourcelist={folder}/{LIST}"),
                "Dir::Etc::sourceparts=-".to_owned(),
                // The lists of the machine's own repositories stay.
                "APT::Get::List-Cleanup=0".to_owned(),
            ]
            .into_iter()
            .flat_map(|option| ["-o".to_owned(), option])
            .collect(),
        }
    }

    fn run(
        &self,
        args: &[String],
        limit: Option<Duration>,
        tick: &dyn Fn(),
    ) -> Result<Ended, ProgramError> {
        let mut command = Command::new(&self.program);
        command
            .args(args)
            .env("LC_ALL", "C")
            .env("DEBIAN_FRONTEND", "noninteractive");
        Ended::of(&mut command, limit, tick)
    }
}

/// The packages were not installed.
#[derive(Debug, thiserror::Error)]
pub enum PackagesError {
    /// The package manager failed.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The log could not be continued.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl report::Diagnose for PackagesError {
    fn code(&self) -> &'static str {
        match self {
            Self::Program(error) => error.code(),
            Self::Journal(error) => error.code(),
        }
    }

    fn args(&self) -> report::Args {
        match self {
            Self::Program(error) => error.args(),
            Self::Journal(error) => error.args(),
        }
    }

    fn outcome(&self) -> report::Outcome {
        match self {
            Self::Program(error) => error.outcome(),
            Self::Journal(error) => error.outcome(),
        }
    }
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~+=:,".contains(&byte);
    if word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// What a package manager reads before it says what it would do is on this disk; another one that works keeps it waiting.
const PREVIEW_LIMIT: Duration = Duration::from_mins(10);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use manifest_schema::Arch;

    use super::*;
    use crate::disk::RealDisk;

    fn set(format: PackageFormat) -> OsPackages {
        OsPackages {
            name: "kylin".parse().unwrap(),
            os: "kylin-v10".into(),
            edition: None,
            arch: Arch::Aarch64,
            format,
            kernel: None,
            wanted: vec!["gcc".parse().unwrap(), "tar=2:1.30".parse().unwrap()],
            packages: vec![],
            metadata: vec![],
        }
    }

    fn program(folder: &Path, name: &str, script: &str) {
        let path = folder.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn the_command_names_this_repository_alone_and_keeps_every_dependency() {
        let prefix = Prefix::at(Path::new("/o'pt/fer ry")).unwrap();
        let command = |format| Manager::find(&set(format), &prefix, &[]).command();
        assert_eq!(
            command(PackageFormat::Rpm),
            r"dnf '--setopt=reposdir=/o'\''pt/fer ry/current/os/kylin' '--disablerepo=*' --enablerepo=ferry install gcc tar-2:1.30"
        );
        let apt = command(PackageFormat::Deb);
        assert!(apt.contains(" update && apt-get -o "), "{apt}");
        assert!(
            apt.ends_with("install --no-install-recommends --no-remove gcc tar=2:1.30"),
            "{apt}"
        );
    }

    #[test]
    fn a_refusal_is_told_from_a_no_that_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let prefix = Prefix::at(folder.path()).unwrap();
        let folders = [folder.path().to_owned()];
        let preview = |said: &str| {
            program(folder.path(), "dnf", &format!("echo '{said}'; exit 1"));
            Manager::find(&set(PackageFormat::Rpm), &prefix, &folders).preview(&|| ())
        };
        assert!(
            preview("Installing: gcc\nOperation aborted.")
                .unwrap()
                .contains("gcc")
        );
        let error = preview("Error: nothing provides cpp needed by gcc").unwrap_err();
        assert!(
            error.to_string().contains("nothing provides cpp"),
            "{error}"
        );
    }

    #[test]
    fn what_was_done_is_logged_before_and_after() {
        let folder = tempfile::tempdir().unwrap();
        let prefix = Prefix::at(&folder.path().join("prefix")).unwrap();
        let guard = Guard::take(&RealDisk, &prefix, "test").unwrap();
        let folders = [folder.path().to_owned()];
        for (end, expected) in [("exit 0", "done"), ("echo no >&2; exit 100", "failed")] {
            program(
                folder.path(),
                "apt-get",
                &format!("echo \"$@\" > {}/args; {end}", folder.path().display()),
            );
            let manager = Manager::find(&set(PackageFormat::Deb), &prefix, &folders);
            let result = manager.install_all(&RealDisk, &guard, &prefix, &|| ());
            assert_eq!(result.is_ok(), expected == "done");
            let journal = Journal::read(&prefix).unwrap();
            let results = journal
                .entries()
                .iter()
                .filter_map(|entry| match &entry.action {
                    Action::OsPackages {
                        result, packages, ..
                    } => Some((result.clone(), packages.len())),
                    _ => None,
                });
            let results: Vec<_> = results.collect();
            let last = &results[results.len() - 2..];
            assert_eq!(last, [("begun".to_owned(), 2), (expected.to_owned(), 2)]);
        }
        let args = std::fs::read_to_string(folder.path().join("args")).unwrap();
        assert!(
            args.contains("--assume-yes install") && args.contains("--no-remove"),
            "{args}"
        );
    }
}
