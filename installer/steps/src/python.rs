//! A release's Python environment, made on site by the bundle's uv from the bundle's wheels.
//!
//! uv is told to look nowhere else: no index, no configuration, no cache outside the staging folder. The
//! environment is relocatable, since the staging folder is renamed when everything has held.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use host_probe::run_within;
use manifest_schema::PythonEnvironment;

use crate::program::{Ended, ProgramError};

/// Finds Python `version` (such as `3.11`) in `folders`, in their order: the first program of that name that
/// runs and says it is that version.
pub fn find_python(version: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let names = [format!("python{version}"), "python3".to_owned()];
    names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .filter(|program| is_executable(program))
        .find(|program| {
            let mut command = Command::new(program);
            let question = "import sys; print('%d.%d' % sys.version_info[:2])";
            command.args(["-I", "-S", "-c", question]);
            // One that hangs is not the one that is looked for.
            let asked = run_within(&mut command, Some(PYTHON_LIMIT), &|| ());
            asked.is_ok_and(|answer| {
                answer.status.success() && answer.output.trim_ascii() == version.as_bytes()
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
    tick: &dyn Fn(),
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
    run(
        uv_command(&uv, staging)
            .args(["venv", "--relocatable", "--no-project", "--python"])
            .arg(&python)
            .arg(&target),
        UV_LIMIT,
        tick,
    )?;
    if !environment.requirements.is_empty() {
        run(
            uv_command(&uv, staging)
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
                .args(&environment.requirements),
            UV_LIMIT,
            tick,
        )?;
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
pub(crate) fn smoke_test(staging: &Path, tick: &dyn Fn()) -> Result<(), ProgramError> {
    run(
        Command::new(staging.join("bin/ferry-runtime"))
            .arg("doctor")
            .current_dir(staging),
        SMOKE_TEST_LIMIT,
        tick,
    )
}

fn run(command: &mut Command, limit: Duration, tick: &dyn Fn()) -> Result<(), ProgramError> {
    Ended::of(command, Some(limit), tick)?.checked()?;
    Ok(())
}

/// uv's cache while it works; removed with everything in it before the release is complete.
pub(crate) const UV_CACHE: &str = ".uv-cache";
/// A Python answers at once; on a disk that sleeps, or in an emulator, after a while.
const PYTHON_LIMIT: Duration = Duration::from_mins(1);
/// Unpacking some gigabytes of wheels to a slow disk takes minutes.
const UV_LIMIT: Duration = Duration::from_hours(1);
/// The runtime loads libraries of some gigabytes, and asks the device.
const SMOKE_TEST_LIMIT: Duration = Duration::from_mins(10);

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
        let error = smoke_test(folder.path(), &|| ()).unwrap_err();
        assert!(
            error.to_string().contains("no chip") && error.to_string().contains("doctor"),
            "{error}"
        );
    }
}
