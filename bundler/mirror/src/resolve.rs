//! Requirements to exact versions, for another machine than this one: uv resolves, Ferry picks the files.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use manifest_schema::plan::WheelTarget;

use crate::filter::globs;
use crate::pylock::{self, Locked};
use crate::{MirrorError, RequirementError, normalized};

/// One distribution at one version.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pin {
    /// The project.
    pub project: String,
    /// Its exact version.
    pub version: String,
}

/// Runs `uv`.
pub struct Resolver {
    /// The `uv` program.
    pub program: PathBuf,
    /// The package index.
    pub index_url: String,
}

/// What to resolve, for which machine.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// What to have, one requirement a line.
    pub wanted: &'a [String],
    /// What it must agree with where it comes in.
    pub constraints: &'a [String],
    /// Projects that are there already and not to be looked for.
    pub there: &'a [String],
    /// The machine and its Python.
    pub target: &'a WheelTarget,
}

impl Resolver {
    /// Resolves a wish, with wheels only. What comes out is ordered by project.
    ///
    /// # Errors
    /// When `uv` is missing, or finds no solution.
    pub fn resolve(&self, wish: &Wish) -> Result<Vec<Pin>, MirrorError> {
        let target = wish.target;
        let platform = format!(
            "{}-manylinux_{}_{}",
            target.arch, target.glibc.major, target.glibc.minor
        );
        let mut command = Command::new(&self.program);
        command
            .args(["pip", "compile", "-", "--quiet", "--no-config"])
            .args(["--color", "never", "--python-platform", &platform])
            .args(["--python-version", &target.python])
            .args(["--only-binary", ":all:", "--no-header", "--no-annotate"]);
        let folder = tempfile::tempdir().map_err(|error| MirrorError::file("", error))?;
        for (option, lines) in [
            ("--constraints", wish.constraints),
            ("--excludes", wish.there),
        ] {
            if lines.is_empty() {
                continue;
            }
            let path = folder.path().join(&option[2..]);
            std::fs::write(&path, lines.join("\n") + "\n")
                .map_err(|error| MirrorError::file(&path, error))?;
            command.arg(option).arg(path);
        }
        let output = self.ask(&mut command, &wish.wanted.join("\n"))?;
        if !output.status.success() {
            return Err(MirrorError::Unsolvable {
                target: format!("{platform}, Python {}", target.python),
                problem: without_login(&String::from_utf8_lossy(&output.stderr)),
            });
        }
        Ok(pins(&String::from_utf8_lossy(&output.stdout)))
    }

    /// Turns the `uv.lock` at `path` into what the target uses of it: without development groups and extras, and
    /// without the project itself, which has no wheel.
    ///
    /// # Errors
    /// When `uv` is missing or cannot read the lock, or the lock is for other machines.
    pub fn read_uv_lock(
        &self,
        path: &Path,
        target: &WheelTarget,
    ) -> Result<Vec<Locked>, MirrorError> {
        let folder = path.parent().filter(|folder| *folder != Path::new(""));
        let mut command = Command::new(&self.program);
        command
            .args(["export", "--frozen", "--offline", "--quiet", "--no-config"])
            .args(["--format", "pylock.toml", "--no-header", "--color", "never"])
            .args(["--no-default-groups", "--no-emit-workspace", "--directory"])
            .arg(folder.unwrap_or(Path::new(".")));
        let output = self.ask(&mut command, "")?;
        if !output.status.success() {
            let said = without_login(&String::from_utf8_lossy(&output.stderr));
            return Err(MirrorError::Requirement(RequirementError::Lock {
                path: path.to_owned(),
                problem: said,
            }));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(pylock::read(path, &text, target)?)
    }

    /// Runs uv with `text` on its standard input.
    fn ask(&self, command: &mut Command, text: &str) -> Result<Output, MirrorError> {
        for other in OTHER_PLACES {
            command.env_remove(other);
        }
        let mut child = command
            // Not an argument: every user of this machine may read those, and the address may hold a password.
            .env("UV_DEFAULT_INDEX", &self.index_url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| self.not_run(source))?;
        if let Some(mut input) = child.stdin.take() {
            // When uv has gone already, its exit status and its words say why.
            let _ = input.write_all(format!("{text}\n").as_bytes());
        }
        child
            .wait_with_output()
            .map_err(|source| self.not_run(source))
    }

    fn not_run(&self, source: std::io::Error) -> MirrorError {
        MirrorError::NoResolver {
            program: self.program.clone(),
            source,
        }
    }
}

/// What would have uv look elsewhere, or add something: the plan says what is wanted, and files come from one index.
const OTHER_PLACES: [&str; 11] = [
    "UV_BUILD_CONSTRAINT",
    "UV_CONSTRAINT",
    "UV_EXCLUDE",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_INDEX",
    "UV_INDEX_STRATEGY",
    "UV_INDEX_URL",
    "UV_NO_INDEX",
    "UV_OVERRIDE",
    "UV_TORCH_BACKEND",
];

/// What uv said, in one line, with user names and passwords taken out of addresses.
fn without_login(text: &str) -> String {
    // The last `@`: a password may have one.
    let word = |word: &str| match (word.find("://"), word.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => {
            format!("{}{}", &word[..scheme + 3], &word[at + 1..])
        }
        _ => word.to_owned(),
    };
    text.split_whitespace()
        .map(word)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Reads `name[extra]==version ; marker` lines; comments and options are passed over.
pub(crate) fn pins(text: &str) -> Vec<Pin> {
    text.lines()
        .filter_map(|line| {
            let line = line.split([';', '#', '\\']).next()?.trim();
            let (name, version) = line.split_once("==")?;
            let name = name.split('[').next()?.trim();
            (!name.starts_with('-')).then(|| Pin {
                project: name.to_owned(),
                version: version.trim().to_owned(),
            })
        })
        .collect()
}

/// Refuses pins of projects that a pattern names.
///
/// # Errors
/// Names the first such pin and its pattern.
pub fn refuse(pins: &[Pin], forbid: &[String]) -> Result<(), MirrorError> {
    for pattern in forbid {
        let set = globs(std::slice::from_ref(pattern))?;
        if let Some(pin) = pins
            .iter()
            .find(|pin| set.is_match(normalized(&pin.project)))
        {
            return Err(MirrorError::Forbidden {
                project: format!("{}=={}", pin.project, pin.version),
                pattern: pattern.clone(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_repeated() {
        let said = "  x Failed to fetch: `https://me:hu@sh@example.org/simple/`\n  a@b https://c/ ";
        let expected = "x Failed to fetch: `https://example.org/simple/` a@b https://c/";
        assert_eq!(without_login(said), expected);
    }

    #[test]
    fn pins_are_read_and_forbidden_ones_refused() {
        let pins = pins(
            "# made by uv\n--index-url x\ntorch==2.7.1\nnvidia-nccl-cu12==2.26.2 ; sys_platform == 'linux'\nrequests[socks]==2.32.0\n",
        );
        let names: Vec<_> = pins.iter().map(|p| (&*p.project, &*p.version)).collect();
        assert_eq!(
            names,
            [
                ("torch", "2.7.1"),
                ("nvidia-nccl-cu12", "2.26.2"),
                ("requests", "2.32.0")
            ]
        );
        assert!(refuse(&pins, &["triton".to_owned()]).is_ok());
        let error = refuse(&pins, &["nvidia-*".to_owned()]).unwrap_err();
        assert!(
            error.to_string().contains("nvidia-nccl-cu12==2.26.2"),
            "{error}"
        );
    }
}
