//! Before anything else: what libraries must see as they are loaded.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use manifest_schema::policy::Policy;

/// libgomp reads it once, as it is loaded.
pub(crate) const WAITING: (&str, &str) = ("OMP_WAIT_POLICY", "passive");

/// The loader's list of libraries that come before all others.
const PRELOAD: &str = "LD_PRELOAD";

/// Starts this program anew with the variables that `policy` and sleeping threads need, where one of them is missing.
///
/// Threads that spin burn their cores whenever another program takes one of them away. A variable that is set, to whatever,
/// is left alone. If the new start fails, the program goes on as it is.
pub(crate) fn again_where_needed(policy: &Policy, folders: &[PathBuf]) {
    if cfg!(not(feature = "native")) {
        return;
    }
    let missing = missing(policy, folders, &|name| env::var_os(name));
    if missing.is_empty() {
        return;
    }
    if let Ok(program) = env::current_exe() {
        let mut again = Command::new(program);
        let _failed = again.args(env::args_os().skip(1)).envs(missing).exec();
    }
}

/// Variables that `policy` wants and the environment lacks.
fn missing(
    policy: &Policy,
    folders: &[PathBuf],
    read: &dyn Fn(&str) -> Option<OsString>,
) -> Vec<(String, OsString)> {
    let rows = policy.environment.iter().filter(|row| row.certain);
    let rows = rows.map(|row| (row.name.as_str(), row.value.as_str()));
    let mut missing: Vec<(String, OsString)> = [WAITING]
        .into_iter()
        .chain(rows)
        .filter(|(name, _)| read(name).is_none())
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    missing.extend(preload(policy, folders, read));
    missing
}

/// The loader's list with what `policy` wants loaded before all others, where that is not in it yet.
pub(crate) fn preload(
    policy: &Policy,
    folders: &[PathBuf],
    read: &dyn Fn(&str) -> Option<OsString>,
) -> Option<(String, OsString)> {
    let before = read(PRELOAD).unwrap_or_default();
    let mut preload: Vec<OsString> = Vec::new();
    for file in preloads(policy, folders) {
        let name = file.to_string_lossy().into_owned();
        if !before.to_string_lossy().contains(&name) {
            preload.push(file.into_os_string());
        }
    }
    if preload.is_empty() {
        return None;
    }
    preload.extend((!before.is_empty()).then_some(before));
    Some((PRELOAD.to_owned(), preload.join(&OsString::from(":"))))
}

/// The files that `policy` wants loaded before all others on this machine.
pub(crate) fn preloads(policy: &Policy, folders: &[PathBuf]) -> Vec<PathBuf> {
    let rows = policy.preload.iter().filter(|row| {
        let here = |arch: &manifest_schema::Arch| arch.as_str() == env::consts::ARCH;
        row.certain && row.arch.as_ref().is_none_or(here)
    });
    let file = |starts: &str| {
        folders.iter().find_map(|folder| {
            let entries = fs::read_dir(folder).ok()?.flatten();
            let mut names: Vec<OsString> = entries
                .map(|entry| entry.file_name())
                .filter(|name| name.to_string_lossy().starts_with(starts))
                .collect();
            names.sort_unstable();
            Some(folder.join(names.first()?))
        })
    };
    rows.filter_map(|row| file(&row.starts)).collect()
}

#[cfg(test)]
mod tests {
    use manifest_schema::policy::{Preload, Variable};

    use super::*;

    fn policy() -> Policy {
        let mut policy = Policy::of_family("cpu").unwrap().clone();
        let variable = |name: &str, certain| Variable {
            name: name.to_owned(),
            value: "2".to_owned(),
            because: String::new(),
            source: String::new(),
            certain,
        };
        policy.environment = vec![variable("QUEUE", true), variable("GUESSED", false)];
        policy.preload = vec![Preload {
            arch: None,
            starts: "libgomp".to_owned(),
            because: String::new(),
            source: String::new(),
            certain: true,
        }];
        policy
    }

    #[test]
    fn what_is_set_is_left_alone_and_what_is_not_certain_is_not_set() {
        let names = |read: &dyn Fn(&str) -> Option<OsString>| -> Vec<String> {
            let missing = missing(&policy(), &[], read);
            missing.into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names(&|_| None), ["OMP_WAIT_POLICY", "QUEUE"]);
        assert_eq!(
            names(&|name| (name == "QUEUE").then(|| "1".into())),
            ["OMP_WAIT_POLICY"]
        );
    }

    #[test]
    fn a_library_to_load_first_is_named_once_and_before_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("libgomp-a49a.so.1");
        fs::write(&file, "").unwrap();
        let folders = [folder.path().to_owned()];
        let preload = |before: &str| {
            let before = OsString::from(before);
            let read = move |name: &str| match name {
                PRELOAD => Some(before.clone()).filter(|before| !before.is_empty()),
                _ => Some("set".into()),
            };
            missing(&policy(), &folders, &read)
                .pop()
                .map(|(_, value)| value)
        };
        let path = file.display().to_string();
        assert_eq!(preload(""), Some(path.clone().into()));
        assert_eq!(preload("/a.so"), Some(format!("{path}:/a.so").into()));
        assert_eq!(preload(&path), None);
    }
}
