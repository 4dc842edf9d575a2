//! Requirements to exact versions, for another machine than this one: uv resolves, Ferry picks the files.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use manifest_schema::plan::WheelTarget;

use crate::filter::globs;
use crate::{MirrorError, normalized};

/// One distribution at one version.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pin {
    /// The project.
    pub project: String,
    /// Its exact version.
    pub version: String,
}

/// Runs `uv pip compile`.
pub struct Resolver {
    /// The `uv` program.
    pub program: PathBuf,
    /// The package index.
    pub index_url: String,
}

impl Resolver {
    /// Resolves `requirements` for `target`, with wheels only.
    ///
    /// # Errors
    /// When `uv` is missing, finds no solution, or the solution needs what `forbid` names.
    pub fn resolve(
        &self,
        requirements: &[String],
        target: &WheelTarget,
        forbid: &[String],
    ) -> Result<Vec<Pin>, MirrorError> {
        let platform = format!(
            "{}-manylinux_{}_{}",
            target.arch, target.glibc.major, target.glibc.minor
        );
        let mut child = Command::new(&self.program)
            .args([
                "pip",
                "compile",
                "-",
                "--quiet",
                "--no-config",
                "--color",
                "never",
            ])
            .args([
                "--python-platform",
                &platform,
                "--python-version",
                &target.python,
            ])
            .args(["--only-binary", ":all:", "--no-header", "--no-annotate"])
            // Not an argument: every user of this machine may read those, and the address may hold a password.
            .env("UV_DEFAULT_INDEX", &self.index_url)
            .env_remove("UV_INDEX_URL")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| self.not_run(source))?;
        if let Some(mut input) = child.stdin.take() {
            let text = requirements.join("\n") + "\n";
            // When uv has gone already, its exit status and its words say why.
            let _ = input.write_all(text.as_bytes());
        }
        let output = child
            .wait_with_output()
            .map_err(|source| self.not_run(source))?;
        if !output.status.success() {
            return Err(MirrorError::Unsolvable {
                target: format!("{platform}, Python {}", target.python),
                problem: without_login(&String::from_utf8_lossy(&output.stderr)),
            });
        }
        let pins = pins(&String::from_utf8_lossy(&output.stdout));
        refuse(&pins, forbid)?;
        Ok(pins)
    }

    fn not_run(&self, source: std::io::Error) -> MirrorError {
        MirrorError::NoResolver {
            program: self.program.clone(),
            source,
        }
    }
}

/// What uv said, in one line, with user names and passwords taken out of addresses.
fn without_login(text: &str) -> String {
    let word = |word: &str| match (word.find("://"), word.find('@')) {
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
fn pins(text: &str) -> Vec<Pin> {
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

fn refuse(pins: &[Pin], forbid: &[String]) -> Result<(), MirrorError> {
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
        let said = "  x Failed to fetch: `https://me:hush@example.org/simple/`\n  a@b https://c/ ";
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
