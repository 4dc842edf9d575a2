//! A release's Python environment, made on site by the bundle's uv from the bundle's wheels.
//!
//! uv is told to look nowhere else: no index, no configuration, no cache outside the staging folder. The
//! environment is relocatable, since the staging folder is renamed when everything has held.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use manifest_schema::PythonEnvironment;
use report::{Args, Diagnose, Outcome};

/// A program that the installer ran did not do its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// The program could not be started.
    #[error("cannot run `{program}`")]
    Start {
        /// Which.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The program ended with an error.
    #[error("`{program}` ended with {status}: {said}")]
    Failed {
        /// Which, with its arguments.
        program: String,
        /// Its exit status.
        status: String,
        /// The end of what it said.
        said: String,
    },
    /// The machine has no such Python, and the bundle brings none.
    #[error("the backend needs Python {version}, and neither the bundle nor this machine has it")]
    NoPython {
        /// Such as `3.11`.
        version: String,
    },
    /// The backend has a Python environment but no uv to make it with.
    #[error("the backend brings a Python environment but not `bin/uv` to make it with")]
    NoUv,
}

impl Diagnose for ProgramError {
    fn code(&self) -> &'static str {
        match self {
            Self::Start { .. } => "install.program-not-started",
            Self::Failed { .. } => "install.program-failed",
            Self::NoPython { .. } => "install.no-python",
            Self::NoUv => "install.no-uv",
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::Start { program, .. } => vec![("program", program.display().to_string())],
            Self::Failed {
                program,
                status,
                said,
            } => vec![
                ("program", program.clone()),
                ("status", status.clone()),
                ("said", said.clone()),
            ],
            Self::NoPython { version } => vec![("version", version.clone())],
            Self::NoUv => Args::new(),
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::NoPython { .. } => Outcome::HardwareUnfit,
            _ => Outcome::Failed,
        }
    }
}

/// Finds Python `version` (such as `3.11`) in `folders`, in their order: the first program of that name that
/// runs and says it is that version.
pub fn find_python(version: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let names = [format!("python{version}"), "python3".to_owned()];
    names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .filter(|program| is_executable(program))
        .find(|program| {
            let asked = Command::new(program)
                .args([
                    "-I",
                    "-S",
                    "-c",
                    "import sys; print('%d.%d' % sys.version_info[:2])",
                ])
                .output();
            asked.is_ok_and(|answer| {
                answer.status.success() && answer.stdout.trim_ascii() == version.as_bytes()
            })
        })
}

pub(crate) fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Makes `<staging>/env` from `<staging>/wheels`.
///
/// `folders` are where the machine keeps its programs; a Python that the backend brings is preferred.
pub(crate) fn make_environment(
    staging: &Path,
    environment: &PythonEnvironment,
    folders: &[PathBuf],
) -> Result<(), ProgramError> {
    let uv = staging.join("backend/bin/uv");
    if !is_executable(&uv) {
        return Err(ProgramError::NoUv);
    }
    let mut places = vec![staging.join("backend/python/bin")];
    places.extend_from_slice(folders);
    let version = &environment.version;
    let python = find_python(version, &places).ok_or_else(|| ProgramError::NoPython {
        version: version.clone(),
    })?;
    let target = staging.join("env");
    run(uv_command(&uv, staging)
        .args(["venv", "--relocatable", "--no-project", "--python"])
        .arg(&python)
        .arg(&target))?;
    if !environment.requirements.is_empty() {
        run(uv_command(&uv, staging)
            .args([
                "pip",
                "install",
                "--offline",
                "--no-index",
                "--no-deps",
                "--no-build",
            ])
            .arg("--find-links")
            .arg(staging.join("wheels"))
            .arg("--python")
            .arg(target.join("bin/python"))
            .arg("--")
            .args(&environment.requirements))?;
    }
    Ok(())
}

/// uv, cut off from whatever the machine's own uv is set to.
fn uv_command(uv: &Path, staging: &Path) -> Command {
    let mut command = Command::new(uv);
    command
        .current_dir(staging)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", staging)
        .env("UV_NO_CONFIG", "1")
        .env("UV_OFFLINE", "1")
        .env("UV_CACHE_DIR", staging.join(UV_CACHE))
        // Out of its own cache, which goes when the environment is made: nothing is written twice.
        .env("UV_LINK_MODE", "hardlink")
        .env("UV_PYTHON_DOWNLOADS", "never")
        .env("UV_NO_PROGRESS", "1");
    command
}

/// Asks the release that is still in staging whether it works on this machine.
pub(crate) fn smoke_test(staging: &Path) -> Result<(), ProgramError> {
    run(Command::new(staging.join("bin/ferry-runtime"))
        .arg("doctor")
        .current_dir(staging))
}

fn run(command: &mut Command) -> Result<(), ProgramError> {
    let program = PathBuf::from(command.get_program());
    let output = command
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|source| ProgramError::Start {
            program: program.clone(),
            source,
        })?;
    if output.status.success() {
        return Ok(());
    }
    let mut words = vec![program.display().to_string()];
    words.extend(
        command
            .get_args()
            .map(|word| word.to_string_lossy().into_owned()),
    );
    let said = if output.stderr.is_empty() {
        &output.stdout
    } else {
        &output.stderr
    };
    let said = String::from_utf8_lossy(said);
    let said: Vec<&str> = said.lines().rev().take(SAID_LINES).collect();
    Err(ProgramError::Failed {
        program: words.join(" "),
        status: output.status.to_string(),
        said: said.into_iter().rev().collect::<Vec<_>>().join("\n"),
    })
}

/// uv's cache while it works; removed with everything in it before the release is complete.
pub(crate) const UV_CACHE: &str = ".uv-cache";
const SAID_LINES: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    fn program(folder: &Path, name: &str, script: &str) {
        let path = folder.join(name);
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_python_is_believed_by_what_it_says_not_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let folders = [folder.path().to_owned()];
        program(folder.path(), "python3.11", "#!/bin/sh\necho 3.9\n");
        assert_eq!(find_python("3.11", &folders), None);
        program(folder.path(), "python3", "#!/bin/sh\necho 3.11\n");
        assert_eq!(
            find_python("3.11", &folders),
            Some(folder.path().join("python3"))
        );
    }

    #[test]
    fn a_program_that_fails_is_quoted() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("bin")).unwrap();
        program(
            folder.path(),
            "bin/ferry-runtime",
            "#!/bin/sh\necho no chip >&2\nexit 3\n",
        );
        let error = smoke_test(folder.path()).unwrap_err();
        assert!(
            error.to_string().contains("no chip") && error.to_string().contains("doctor"),
            "{error}"
        );
    }
}
