//! Does a wheel suit a machine? Its file name says so: `name-version[-build]-python-abi-platform.whl`.

use std::str::FromStr;

use manifest_schema::plan::WheelTarget;
use manifest_schema::{Arch, GlibcVersion};
use pep508_rs::pep440_rs::Version;

use crate::pypi::{described, normalized};
use crate::{Pin, RequirementError};

/// The parts of a wheel's file name.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct WheelName<'a> {
    pub(crate) project: &'a str,
    pub(crate) version: &'a str,
    build: &'a str,
    python: &'a str,
    abi: &'a str,
    platform: &'a str,
}

/// The distribution that a wheel is, by its file name.
///
/// # Errors
/// When the name is not a wheel's, or the wheel does not suit `target`.
pub fn pin_of_wheel(file_name: &str, target: &WheelTarget) -> Result<Pin, RequirementError> {
    let wheel = WheelName::parse(file_name).filter(|wheel| wheel.fitness(Some(target)).is_some());
    let wheel = wheel.ok_or_else(|| RequirementError::NotForTarget {
        file_name: file_name.to_owned(),
        target: described(target),
    })?;
    Ok(Pin {
        project: normalized(wheel.project),
        version: wheel.version.replace('_', "-"),
    })
}

/// How well a wheel suits; the greatest is best.
pub(crate) type Fitness = (u32, u32, u32);

impl<'a> WheelName<'a> {
    pub(crate) fn parse(file_name: &'a str) -> Option<Self> {
        let parts: Vec<&str> = file_name.strip_suffix(".whl")?.split('-').collect();
        let (build, tags) = match parts.len() {
            5 => ("", &parts[2..]),
            6 => (parts[2], &parts[3..]),
            _ => return None,
        };
        Some(Self {
            project: parts[0],
            version: parts[1],
            build,
            python: tags[0],
            abi: tags[1],
            platform: tags[2],
        })
    }

    pub(crate) fn is(&self, project: &str, version: &str) -> bool {
        normalized(self.project) == normalized(project) && same_version(self.version, version)
    }

    /// How well the wheel suits `target`, or `None`. Without a target only a wheel for every machine suits.
    pub(crate) fn fitness(&self, target: Option<&WheelTarget>) -> Option<Fitness> {
        let build = self
            .build
            .chars()
            .take_while(char::is_ascii_digit)
            .collect::<String>()
            .parse()
            .unwrap_or(0);
        let Some(target) = target else {
            let any = self.abi == "none" && self.platform == "any" && self.python.contains("py3");
            return any.then_some((0, 0, build));
        };
        let minor: u32 = target.python.split_once('.')?.1.parse().ok()?;
        let platforms = || self.platform.split('.');
        let abis = || self.abi.split('.');
        self.python
            .split('.')
            .flat_map(|python| abis().map(move |abi| (python, abi)))
            .flat_map(|(python, abi)| platforms().map(move |platform| (python, abi, platform)))
            .filter_map(|(python, abi, platform)| {
                let platform = platform_fitness(platform, target.arch, target.glibc)?;
                let python = python_fitness(python, abi, platform == ANY, minor)?;
                Some((python, platform, build))
            })
            .max()
    }
}

/// The order of `packaging.tags.sys_tags`, which pip and uv follow: this Python's own wheels, its stable ABI, plain
/// libraries for it, stable ABIs of older Pythons, wheels for a platform without an ABI, wheels for any.
fn python_fitness(python: &str, abi: &str, any: bool, minor: u32) -> Option<u32> {
    let number = |prefix: &str| -> Option<u32> { python.strip_prefix(prefix)?.parse().ok() };
    let cpython = number("cp3");
    match (cpython, abi) {
        (Some(found), _) if found == minor && abi == format!("cp3{minor}") => Some(1000),
        // A stable-ABI wheel for an older Python runs on a newer one.
        (Some(found), "abi3") if found == minor => Some(900),
        (Some(found), "abi3") if found < minor => Some(500 + found),
        (Some(found), "none") if found == minor && !any => Some(800),
        (Some(found), "none") if found == minor => Some(199),
        _ if abi != "none" => None,
        _ => {
            let rank = match number("py3") {
                _ if python == "py3" => 97,
                Some(found) if found == minor => 98,
                Some(found) if found < minor => found.min(96),
                _ => return None,
            };
            Some(if any { 100 + rank } else { 200 + rank })
        }
    }
}

/// Fitness of the platform `any`.
const ANY: u32 = 0;

fn platform_fitness(platform: &str, arch: Arch, glibc: GlibcVersion) -> Option<u32> {
    if platform == "any" {
        return Some(ANY);
    }
    let tag = platform
        .strip_suffix(arch.as_str())
        .and_then(|tag| tag.strip_suffix('_'))?;
    let needs: u16 = match tag {
        "linux" => return Some(1),
        "manylinux1" => 5,
        "manylinux2010" => 12,
        "manylinux2014" => 17,
        _ => tag.strip_prefix("manylinux_2_")?.parse().ok()?,
    };
    (needs <= glibc.minor).then_some(2 + u32::from(needs))
}

/// Whether two spellings name one version, as PEP 440 reads them. A file's name has `_` where the version has `-`.
pub(crate) fn same_version(one: &str, other: &str) -> bool {
    let read = |text: &str| Version::from_str(&text.replace('_', "-"));
    match (read(one), read(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => one.eq_ignore_ascii_case(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(arch: Arch, python: &str) -> WheelTarget {
        WheelTarget {
            arch,
            python: python.to_owned(),
            glibc: "2.28".parse().unwrap(),
        }
    }

    #[test]
    fn a_wheel_suits_by_python_platform_and_glibc() {
        let target = target(Arch::X86_64, "3.11");
        for (name, suits) in [
            (
                "a-1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
                true,
            ),
            ("a-1-cp311-cp311-manylinux_2_28_x86_64.whl", true),
            ("a-1-cp38-abi3-manylinux_2_17_x86_64.whl", true),
            ("a-1-py3-none-any.whl", true),
            ("a-1-py2.py3-none-any.whl", true),
            ("a-1-py39-none-any.whl", true),
            ("a-1-7b-py3-none-manylinux1_x86_64.whl", true),
            ("a-1-cp311-cp311-linux_x86_64.whl", true),
            ("a-1-cp311-cp311-manylinux_2_31_x86_64.whl", false),
            ("a-1-cp311-cp311-manylinux_2_28_aarch64.whl", false),
            ("a-1-cp311-cp311-musllinux_1_2_x86_64.whl", false),
            ("a-1-cp313-cp313t-manylinux_2_28_x86_64.whl", false),
            ("a-1-cp312-abi3-manylinux_2_17_x86_64.whl", false),
            ("a-1-py312-none-any.whl", false),
            ("a-1-py2-none-any.whl", false),
            ("a-1-cp311-cp311-win_amd64.whl", false),
        ] {
            let wheel = WheelName::parse(name).unwrap();
            assert_eq!(wheel.fitness(Some(&target)).is_some(), suits, "{name}");
        }
    }

    #[test]
    fn the_nearest_wheel_is_the_fittest() {
        let target = target(Arch::Aarch64, "3.11");
        let fitness = |name| WheelName::parse(name).unwrap().fitness(Some(&target));
        // As `packaging.tags` and uv order them, from the last to the first.
        let order = [
            "a-1-py39-none-any.whl",
            "a-1-py310-none-any.whl",
            "a-1-py3-none-any.whl",
            "a-1-py311-none-any.whl",
            "a-1-cp311-none-any.whl",
            "a-1-py310-none-manylinux_2_17_aarch64.whl",
            "a-1-py3-none-linux_aarch64.whl",
            "a-1-py3-none-manylinux_2_17_aarch64.whl",
            "a-1-py3-none-manylinux_2_28_aarch64.whl",
            "a-1-cp38-abi3-manylinux_2_17_aarch64.whl",
            "a-1-cp310-abi3-manylinux_2_17_aarch64.whl",
            "a-1-cp311-none-manylinux_2_17_aarch64.whl",
            "a-1-cp311-abi3-manylinux_2_17_aarch64.whl",
            "a-1-cp311-cp311-manylinux_2_17_aarch64.whl",
            "a-1-cp311-cp311-manylinux_2_28_aarch64.whl",
            "a-1-2-cp311-cp311-manylinux_2_28_aarch64.whl",
        ];
        for pair in order.windows(2) {
            assert!(fitness(pair[0]) < fitness(pair[1]), "{pair:?}");
        }
    }

    #[test]
    fn versions_are_the_same_in_any_spelling() {
        for (one, other, same) in [
            ("1.0", "1.0.0", true),
            ("2.7.1.post4", "2.7.1-post4", true),
            ("v1.2", "1.2", true),
            ("1.10", "1.1", false),
            ("2.7.1", "2.7.1.post4", false),
            ("1.0rc1", "1.0", false),
            ("1.0.0-alpha.1", "1.0a1", true),
            ("1.0-1", "1.0.post1", true),
            ("2.7.1+CPU.cxx11_abi", "2.7.1+cpu.cxx11.abi", true),
            ("2.7.1+cpu", "2.7.1", false),
            ("not a version", "Not a version", true),
        ] {
            assert_eq!(same_version(one, other), same, "{one} {other}");
        }
    }
}
