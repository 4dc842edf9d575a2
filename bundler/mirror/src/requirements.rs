//! Files of requirements as pip reads them, as far as they say what to take and not where from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use manifest_schema::Digest;

use crate::tags::same_version;
use crate::{Pin, RequirementError, normalized};

/// Requirements, wherever they were written.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Requirements {
    /// What to have, one requirement a line.
    pub wanted: Vec<String>,
    /// What it must agree with where it comes in.
    pub constraints: Vec<String>,
    /// By project and version: the digests that one of its files must have.
    pub hashes: BTreeMap<(String, String), BTreeSet<Digest>>,
}

/// A file longer than this holds no requirements.
const LARGEST: u64 = 16 << 20;
/// Files that name files that name files: deeper than this is a ring.
const DEEPEST: usize = 8;

impl Requirements {
    /// Adds the requirements of a plan.
    ///
    /// # Errors
    /// When one of them is not a name with versions.
    pub fn add(&mut self, lines: &[String], place: &str) -> Result<(), RequirementError> {
        for line in lines {
            self.line(line, place, None, 0)?;
        }
        Ok(())
    }

    /// Adds a `requirements.txt`, and the files that it names.
    ///
    /// # Errors
    /// When it cannot be read, or asks for more than versions and digests.
    pub fn add_file(&mut self, path: &Path) -> Result<(), RequirementError> {
        self.file(path, false, 0)
    }

    /// The digests that were given for a pin.
    pub fn digests_of(&self, pin: &Pin) -> Option<&BTreeSet<Digest>> {
        let project = normalized(&pin.project);
        let mut hashes = self.hashes.iter();
        let same = |(name, version): &(String, String)| {
            *name == project && same_version(version, &pin.version)
        };
        hashes
            .find(|(key, _)| same(key))
            .map(|(_, digests)| digests)
    }

    /// The exact version that a requirement asks of a project, where one does.
    pub fn pinned(&self, project: &str) -> Option<String> {
        let mut pins = self.wanted.iter().filter_map(|line| pin_of(line));
        pins.find(|(name, _)| name == project)
            .map(|(_, version)| version)
    }

    fn file(&mut self, path: &Path, constrain: bool, depth: usize) -> Result<(), RequirementError> {
        let text = text_of(path)?;
        let shown = path.display();
        let mut logical = String::new();
        let mut first = 1;
        for (number, line) in text.lines().enumerate() {
            let line = without_comment(line);
            if logical.is_empty() {
                first = number + 1;
            }
            if let Some(begun) = line.strip_suffix('\\') {
                logical.push_str(begun);
                logical.push(' ');
                continue;
            }
            logical.push_str(line);
            let whole = std::mem::take(&mut logical);
            let from = Some((path, constrain));
            self.line(whole.trim(), &format!("{shown}:{first}"), from, depth)?;
        }
        self.line(
            logical.trim(),
            &format!("{shown}:{first}"),
            Some((path, constrain)),
            depth,
        )
    }

    /// Takes one logical line. Only files may name other files.
    fn line(
        &mut self,
        line: &str,
        place: &str,
        file: Option<(&Path, bool)>,
        depth: usize,
    ) -> Result<(), RequirementError> {
        let wrong = |found: &str, problem| RequirementError::Line {
            place: place.to_owned(),
            found: found.to_owned(),
            problem,
        };
        if line.is_empty() {
            return Ok(());
        }
        if let Some((other, constrains)) = other_file(line) {
            let Some((path, constrained)) = file else {
                return Err(wrong(line, "belongs in a file of requirements"));
            };
            if depth == DEEPEST {
                return Err(wrong(line, "names files in a ring"));
            }
            let folder = path.parent().unwrap_or(Path::new(""));
            return self.file(&folder.join(other), constrains || constrained, depth + 1);
        }
        if line.starts_with('-') {
            let harmless = ["--require-hashes", "--only-binary", "--prefer-binary"];
            let option = line.split([' ', '=']).next().unwrap_or(line);
            if harmless.contains(&option) {
                return Ok(());
            }
            return Err(wrong(
                option,
                "says where files come from, which the plan and `--index-url` say",
            ));
        }
        let (requirement, options) = line.split_once(" --").unwrap_or((line, ""));
        let requirement = requirement.trim();
        if is_place(requirement) {
            return Err(wrong(
                requirement,
                "is a file and not a project of the index: name its wheel in `python.wheels`",
            ));
        }
        let mut digests = BTreeSet::new();
        for option in options
            .split(" --")
            .map(str::trim)
            .filter(|o| !o.is_empty())
        {
            let digest = option
                .strip_prefix("hash=sha256:")
                .or_else(|| option.strip_prefix("hash sha256:"))
                .and_then(|hex| Digest::parse_hex(hex).ok());
            match digest {
                Some(digest) => digests.insert(digest),
                None => return Err(wrong(option, "is no SHA-256 of a file")),
            };
        }
        if !digests.is_empty() {
            let pin = pin_of(requirement)
                .ok_or_else(|| wrong(requirement, "has digests and no exact version"))?;
            self.hashes.entry(pin).or_default().extend(digests);
        }
        let constrain = file.is_some_and(|(_, constrain)| constrain);
        let list = if constrain {
            &mut self.constraints
        } else {
            &mut self.wanted
        };
        list.push(requirement.to_owned());
        Ok(())
    }
}

/// The text of a small file.
pub(crate) fn text_of(path: &Path) -> Result<String, RequirementError> {
    let read = || {
        if std::fs::metadata(path)?.len() > LARGEST {
            return Err(std::io::Error::other("the file is too long"));
        }
        std::fs::read_to_string(path)
    };
    read().map_err(|source| RequirementError::File {
        path: path.to_owned(),
        source,
    })
}

/// A comment begins a line or follows a blank: addresses hold `#` too.
fn without_comment(line: &str) -> &str {
    let line = line.trim_end();
    if line.trim_start().starts_with('#') {
        return "";
    }
    line.find(" #")
        .map_or(line, |start| line[..start].trim_end())
}

/// `-r FILE` and `-c FILE`: the file, and whether it only constrains.
fn other_file(line: &str) -> Option<(&str, bool)> {
    for (option, constrains) in [
        ("--requirement", false),
        ("--constraint", true),
        ("-r", false),
        ("-c", true),
    ] {
        let rest = line.strip_prefix(option);
        let name = rest
            .filter(|rest| !rest.starts_with('-'))
            .map(|rest| rest.trim_start_matches([' ', '=', '\t']));
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            return Some((name, constrains));
        }
    }
    None
}

/// Whether a requirement is an address or a path.
fn is_place(requirement: &str) -> bool {
    let requirement = requirement.split(';').next().unwrap_or_default();
    requirement.contains('@') || requirement.contains("://") || requirement.contains('/')
}

/// Project and version of `name[extra]==version ; marker`.
pub(crate) fn pin_of(requirement: &str) -> Option<(String, String)> {
    let requirement = requirement.split(';').next()?;
    let (name, version) = requirement.split_once("==")?;
    let name = name.split('[').next()?.trim();
    let version = version.trim_start_matches('=').trim();
    let exact = !version.is_empty() && !version.contains([',', '*', ' ']);
    exact.then(|| (normalized(name), version.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_and_those_it_names_give_requirements_constraints_and_digests() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).unwrap();
        };
        let hash = Digest::of(b"a").hex();
        write(
            "a.txt",
            &format!(
                "# made by hand\n--require-hashes\nNumPy==2.2.6 ; python_version < '3.12' \\\n    --hash=sha256:{hash} \\\n  --hash=sha256:{}\n\n-r deep/b.txt\n-c c.txt\nsix  # a comment\n",
                Digest::of(b"b").hex()
            ),
        );
        std::fs::create_dir(folder.path().join("deep")).unwrap();
        write(
            "deep/b.txt",
            "requests[socks]>=2,<3\n--requirement=../d.txt",
        );
        write("d.txt", "attrs\n");
        write("c.txt", "urllib3<3\n");
        let mut read = Requirements::default();
        read.add(&["torch==2.7.1".to_owned()], "plan").unwrap();
        read.add_file(&folder.path().join("a.txt")).unwrap();
        let wanted = [
            "torch==2.7.1",
            "NumPy==2.2.6 ; python_version < '3.12'",
            "requests[socks]>=2,<3",
            "attrs",
            "six",
        ];
        assert_eq!(read.wanted, wanted);
        assert_eq!(read.constraints, ["urllib3<3"]);
        let digests = &read.hashes[&("numpy".to_owned(), "2.2.6".to_owned())];
        assert_eq!(digests.len(), 2);
    }

    #[test]
    fn what_says_where_from_is_refused_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        for (text, found) in [
            (
                "a\n--extra-index-url https://example.org/simple\n",
                "a.txt:2: `--extra-index-url`",
            ),
            ("-e .\n", "`-e`"),
            ("--find-links x", "`--find-links`"),
            (
                "a @ https://example.org/a.whl\n",
                "`a @ https://example.org/a.whl` is a file",
            ),
            ("./a-1-py3-none-any.whl\n", "is a file"),
            ("git+https://example.org/a\n", "is a file"),
            ("a>1 --hash=sha256:00\n", "`hash=sha256:00` is no SHA-256"),
            ("a==1 --hash=md5:00\n", "is no SHA-256"),
            ("-r a.txt\n", "in a ring"),
            ("-r missing.txt\n", "cannot read"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Requirements::default()
                .add_file(&path)
                .unwrap_err()
                .to_string();
            assert!(error.contains(found), "{text}: {error}");
        }
        let error = Requirements::default().add(&["-r a.txt".to_owned()], "the plan");
        assert!(error.unwrap_err().to_string().contains("belongs in a file"));
        let digits = Digest::of(b"a").hex();
        let error =
            Requirements::default().add(&[format!("a>=1 --hash=sha256:{digits}")], "the plan");
        assert!(error.unwrap_err().to_string().contains("no exact version"));
    }
}
