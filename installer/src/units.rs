//! `--systemd` on the command line: which folder, the links, and systemd told to read them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use console::View;
use host_probe::run_within;
use install_steps::{Guard, InstallPlan, Prefix, RealDisk, UnitFolder};
use report::{Event, Sink as _, Trouble};

/// Whether systemd is given the units of a release.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub(crate) struct UnitFlags {
    /// Also link the release's units into systemd, so that training goes on when a terminal closes
    #[arg(long)]
    systemd: bool,
    /// With `--systemd`: into this user's systemd instead of the system's
    #[arg(long, requires = "systemd")]
    user: bool,
}

impl UnitFlags {
    /// What would be done, each step as a line.
    pub(crate) fn lines(
        self,
        view: &View,
        root: &Path,
        prefix: &Prefix,
        plan: &InstallPlan,
    ) -> Vec<String> {
        let Some(folder) = self.folder(root).filter(|_| self.systemd) else {
            return Vec::new();
        };
        let links = folder.links(prefix, &plan.units()).into_iter();
        let line = |(link, target): (PathBuf, PathBuf)| {
            let args = [
                ("link", link.display().to_string()),
                ("target", target.display().to_string()),
            ];
            format!("  - {}", view.text("installer.unit-link", &args))
        };
        links.map(line).collect()
    }

    /// Links the units where that was asked for, and lets systemd read what changed.
    pub(crate) fn settle(
        self,
        view: &View,
        root: &Path,
        guard: &Guard,
        prefix: &Prefix,
        plan: &InstallPlan,
    ) -> Result<(), Trouble> {
        if self.systemd
            && let Some(folder) = self.folder(root)
        {
            folder.link(&RealDisk, guard, prefix, &plan.units())?;
        }
        reread(view, root, prefix)
    }

    fn folder(self, root: &Path) -> Option<UnitFolder> {
        if self.user {
            settings().map(|settings| UnitFolder::user(&settings))
        } else {
            Some(UnitFolder::system(root))
        }
    }
}

/// Removes every link to this install, the system's and this user's.
pub(crate) fn unlink_all(
    view: &View,
    root: &Path,
    guard: &Guard,
    prefix: &Prefix,
) -> Result<(), Trouble> {
    for (user, folder) in folders(root) {
        if folder.unlink(&RealDisk, guard, prefix)? > 0 {
            reload(view, root, user);
        }
    }
    Ok(())
}

/// Lets systemd read the units again, where it has any of this install: a switch put others behind the same links.
pub(crate) fn reread(view: &View, root: &Path, prefix: &Prefix) -> Result<(), Trouble> {
    for (user, folder) in folders(root) {
        if !folder.linked(prefix)?.is_empty() {
            reload(view, root, user);
        }
    }
    Ok(())
}

/// The folders that may hold links to this install; `true` stands for the user's own.
fn folders(root: &Path) -> Vec<(bool, UnitFolder)> {
    let own = settings().map(|settings| (true, UnitFolder::user(&settings)));
    std::iter::once((false, UnitFolder::system(root)))
        .chain(own)
        .collect()
}

fn settings() -> Option<PathBuf> {
    let read = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let own = read("XDG_CONFIG_HOME").map(PathBuf::from);
    own.or_else(|| Some(PathBuf::from(read("HOME")?).join(".config")))
}

/// A machine without systemd has nothing to be told; one that cannot be told now reads the units when it starts.
fn reload(view: &View, root: &Path, user: bool) {
    let Some(program) = systemctl(root) else {
        return;
    };
    let mut command = Command::new(&program);
    command.args(user.then_some("--user")).arg("daemon-reload");
    command.env("FERRY_MACHINE", root);
    let ended = run_within(&mut command, Some(RELOAD_LIMIT), &|| ());
    if !ended.is_ok_and(|ran| ran.status.success()) {
        let flag = if user { " --user" } else { "" };
        view.emit(&Event::Warned {
            code: "installer.units-not-read".to_owned(),
            args: vec![(
                "command".to_owned(),
                format!("systemctl{flag} daemon-reload"),
            )],
        });
    }
}

/// A machine that a folder plays has its programs there and no others.
fn systemctl(root: &Path) -> Option<PathBuf> {
    let folders = if root == Path::new("/") {
        &["usr/bin", "bin"][..]
    } else {
        &["bin"]
    };
    let found = folders
        .iter()
        .map(|folder| root.join(folder).join("systemctl"));
    found.into_iter().find(|path| path.is_file())
}

/// systemd reads its units in a moment, or does not answer at all.
const RELOAD_LIMIT: Duration = Duration::from_mins(1);
