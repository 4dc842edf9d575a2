//! The disk below the prefix: what kind of file system, and what it does not allow.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use report::{Args, Diagnose, Outcome};
use serde::Serialize;

use crate::disk::DiskError;
use crate::prefix::Prefix;

/// Where the prefix lies, or would lie.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Place {
    /// The mount point.
    pub mount: PathBuf,
    /// The file system, as the kernel names it.
    pub kind: String,
    /// Something that an install needs and this place does not allow.
    pub obstacle: Option<Obstacle>,
}

/// What a place does not allow.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Obstacle {
    /// It is mounted read-only.
    ReadOnly,
    /// No program may run from it.
    NoPrograms,
    /// It knows no links, or no permission bits.
    NoLinks,
    /// A part of it is another file system, and no file can have a name in both.
    Apart,
    /// This user may not write there.
    NotPermitted,
}

impl Obstacle {
    /// Catalogue code of the check that says so.
    pub fn code(self) -> &'static str {
        match self {
            Self::ReadOnly => "install.place-read-only",
            Self::NoPrograms => "install.place-no-programs",
            Self::NoLinks => "install.place-no-links",
            Self::Apart => "install.place-apart",
            Self::NotPermitted => "install.place-not-permitted",
        }
    }
}

impl Place {
    /// Looks at the file system of `prefix`, or of its nearest parent that is there.
    ///
    /// # Errors
    /// When the kernel's list of mounts cannot be read.
    pub fn of(prefix: &Prefix) -> Result<Self, DiskError> {
        let there = nearest(prefix.path());
        let mounts = Path::new("/proc/self/mounts");
        let text = fs::read_to_string(mounts).map_err(DiskError::of("read", mounts))?;
        let mut place = find(&text, there);
        if place.obstacle.is_none()
            && let Some(part) = part_elsewhere(&text, prefix, &place.mount)
        {
            place = part;
        }
        let writable = rustix::fs::access(there, rustix::fs::Access::WRITE_OK).is_ok();
        if place.obstacle.is_none() && !writable {
            place.obstacle = Some(Obstacle::NotPermitted);
        }
        Ok(place)
    }

    /// What keeps an install from this place. Where none of its programs is run, it need not allow any.
    pub fn obstacle_to(&self, runs_programs: bool) -> Option<Obstacle> {
        let minded = |obstacle: &Obstacle| runs_programs || *obstacle != Obstacle::NoPrograms;
        self.obstacle.filter(minded)
    }

    /// The file system and its mount point, for people.
    pub fn found(&self) -> String {
        format!("{} {}", self.kind, self.mount.display())
    }
}

/// The prefix lies where it cannot be installed to.
#[derive(Debug, thiserror::Error)]
#[error("`{}` lies on {}, which does not allow an install", prefix.display(), place.found())]
pub struct PlaceError {
    /// The prefix.
    pub prefix: PathBuf,
    /// Where it lies.
    pub place: Place,
    /// What is not allowed there.
    pub obstacle: Obstacle,
}

impl Diagnose for PlaceError {
    fn code(&self) -> &'static str {
        self.obstacle.code()
    }

    fn args(&self) -> Args {
        vec![
            ("found", self.place.found()),
            ("mount", self.place.mount.display().to_string()),
            ("prefix", self.prefix.display().to_string()),
        ]
    }

    fn outcome(&self) -> Outcome {
        Outcome::HostFault
    }
}

fn nearest(path: &Path) -> &Path {
    path.ancestors()
        .find(|candidate| candidate.exists())
        .unwrap_or(Path::new("/"))
}

/// The mount that has only one of the store and the releases, which are links to each other's files. The same disk behind
/// two mounts is two here.
fn part_elsewhere(mounts: &str, prefix: &Prefix, home: &Path) -> Option<Place> {
    let parts = [prefix.store(), prefix.releases()];
    let [store, releases] = parts.each_ref().map(|part| nearest(part));
    let [of_store, of_releases] = [store, releases].map(|part| find(mounts, part));
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev()).ok();
    if of_store.mount == of_releases.mount && device(store) == device(releases) {
        return None;
    }
    let mut part = if of_store.mount == home {
        of_releases
    } else {
        of_store
    };
    part.obstacle = Some(Obstacle::Apart);
    Some(part)
}

/// The mount that holds `path`: the longest mount point above it, and of equal ones the last, which hides the others.
fn find(mounts: &str, path: &Path) -> Place {
    let mut best = Place {
        mount: PathBuf::from("/"),
        kind: "?".to_owned(),
        obstacle: None,
    };
    for line in mounts.lines() {
        let mut fields = line.split(' ');
        let (Some(_), Some(point), Some(kind), Some(options)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let mount = PathBuf::from(unescape(point));
        if !path.starts_with(&mount) || mount.as_os_str().len() < best.mount.as_os_str().len() {
            continue;
        }
        let has = |wanted: &str| options.split(',').any(|option| option == wanted);
        let obstacle = if has("ro") {
            Some(Obstacle::ReadOnly)
        } else if NO_LINKS.contains(&kind) {
            Some(Obstacle::NoLinks)
        } else if has("noexec") {
            Some(Obstacle::NoPrograms)
        } else {
            None
        };
        best = Place {
            mount,
            kind: kind.to_owned(),
            obstacle,
        };
    }
    best
}

/// The kernel writes a blank in a path as `\040`.
fn unescape(text: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (code, plain)| {
        text.replace(code, plain)
    })
}

/// File systems without hard links, symbolic links or permission bits: sticks and cameras.
const NO_LINKS: [&str; 6] = ["vfat", "msdos", "exfat", "ntfs", "fuseblk", "iso9660"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_no_program_is_run_none_need_be_allowed() {
        let place = |options: &str| {
            let mounts = format!("tmpfs /data tmpfs {options} 0 0\n");
            find(&mounts, Path::new("/data/ferry"))
        };
        for (options, with, without) in [
            ("rw,noexec", Some(Obstacle::NoPrograms), None),
            ("ro", Some(Obstacle::ReadOnly), Some(Obstacle::ReadOnly)),
            ("rw", None, None),
        ] {
            let place = place(options);
            assert_eq!(place.obstacle_to(true), with, "{options}");
            assert_eq!(place.obstacle_to(false), without, "{options}");
        }
    }

    #[test]
    fn the_nearest_mount_decides() {
        let mounts = "/dev/a / ext4 rw,relatime 0 0\n\
            tmpfs /tmp tmpfs rw,nosuid,noexec 0 0\n\
            /dev/b /mnt/my\\040stick vfat rw,noexec 0 0\n\
            /dev/c /opt xfs ro 0 0\n\
            /dev/d /opt xfs rw 0 0\n\
            garbage\n";
        for (path, mount, obstacle) in [
            ("/opt/ferry", "/opt", None),
            ("/optional", "/", None),
            ("/tmp/x", "/tmp", Some(Obstacle::NoPrograms)),
            (
                "/mnt/my stick/ferry",
                "/mnt/my stick",
                Some(Obstacle::NoLinks),
            ),
        ] {
            let place = find(mounts, Path::new(path));
            assert_eq!(
                (place.mount.as_path(), place.obstacle),
                (Path::new(mount), obstacle),
                "{path}"
            );
        }
        assert_eq!(
            find("/dev/a / ext4 ro 0 0\n", Path::new("/x")).obstacle,
            Some(Obstacle::ReadOnly)
        );
    }
}
