//! Members of wheels and source archives, each taken into the cache as a file of its own.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use flate2::read::GzDecoder;
use globset::GlobSet;
use manifest_schema::Digest;

use crate::filter::globs;
use crate::{Cache, MirrorError};

/// Which members to take.
#[derive(Clone, Debug)]
pub enum Selection {
    /// The one of this name.
    One(String),
    /// All that match one of these patterns; each pattern must match something.
    Matching(Vec<String>),
}

/// A member in the cache.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Extracted {
    /// Its name in the archive. The top folder of a source archive is not part of it.
    pub member: String,
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// How many bytes.
    pub size: u64,
    /// Whether the archive marks it as a program.
    pub executable: bool,
}

/// More than any library or model file that is shipped inside a package; less than a disk.
const LARGEST_MEMBER: u64 = 64 << 30;

/// Takes the members that `selection` names out of the archive at `path`, ordered by name.
///
/// # Errors
/// When the archive is damaged, or lacks a member.
pub fn extract(
    path: &Path,
    file_name: &str,
    selection: &Selection,
    cache: &Cache,
) -> Result<Vec<Extracted>, MirrorError> {
    let wanted = Wanted::new(selection)?;
    let file = File::open(path).map_err(|source| MirrorError::file(path, source))?;
    let is = |ending: &str| file_name.to_ascii_lowercase().ends_with(ending);
    let mut taken = if is(".whl") || is(".zip") {
        from_zip(file, file_name, &wanted, cache)?
    } else if is(".tar.gz") || is(".tgz") {
        from_tar(file, file_name, &wanted, cache)?
    } else {
        return Err(damaged(file_name, "neither .whl, .zip nor .tar.gz"));
    };
    taken.sort_by(|a, b| a.member.cmp(&b.member));
    if let Some(twice) = taken
        .windows(2)
        .find(|pair| pair[0].member == pair[1].member)
    {
        let problem = format!("holds `{}` twice", twice[0].member);
        return Err(damaged(file_name, problem));
    }
    wanted.all_found(&taken, file_name)?;
    Ok(taken)
}

fn from_zip(
    file: File,
    name: &str,
    wanted: &Wanted,
    cache: &Cache,
) -> Result<Vec<Extracted>, MirrorError> {
    let mut archive =
        zip::ZipArchive::new(BufReader::new(file)).map_err(|error| damaged(name, error))?;
    let mut taken = Vec::new();
    for position in 0..archive.len() {
        let mut member = archive
            .by_index(position)
            .map_err(|error| damaged(name, error))?;
        let member_name = member.name().to_owned();
        if !member.is_file() || !wanted.has(&member_name) {
            continue;
        }
        let size = member.size();
        let executable = member.unix_mode().is_some_and(|mode| mode & 0o111 != 0);
        let mut one = take(&mut member, &member_name, size, name, cache)?;
        one.executable = executable;
        taken.push(one);
    }
    Ok(taken)
}

fn from_tar(
    file: File,
    name: &str,
    wanted: &Wanted,
    cache: &Cache,
) -> Result<Vec<Extracted>, MirrorError> {
    let mut archive = tar::Archive::new(GzDecoder::new(BufReader::new(file)));
    let mut taken = Vec::new();
    let mut links = Vec::new();
    for entry in archive.entries().map_err(|error| damaged(name, error))? {
        let mut entry = entry.map_err(|error| damaged(name, error))?;
        let path = entry.path().map_err(|error| damaged(name, error))?;
        let Some((_, member)) = path.to_str().and_then(|path| path.split_once('/')) else {
            continue;
        };
        let member = member.to_owned();
        if !wanted.has(&member) {
            continue;
        }
        let kind = entry.header().entry_type();
        if kind.is_symlink() || kind.is_hard_link() {
            let target = entry.link_name().map_err(|error| damaged(name, error))?;
            let target = target.as_deref().and_then(Path::to_str).unwrap_or_default();
            links.push((
                member.clone(),
                points_to(&member, target, kind.is_symlink()),
            ));
        } else if kind.is_file() {
            let size = entry.size();
            let mode = entry.header().mode().unwrap_or_default();
            let mut one = take(&mut entry, &member, size, name, cache)?;
            one.executable = mode & 0o111 != 0;
            taken.push(one);
        }
    }
    follow(links, &mut taken, name)?;
    Ok(taken)
}

/// The member that a link stands for; `None` where it leaves the archive.
fn points_to(member: &str, target: &str, symbolic: bool) -> Option<String> {
    if target.starts_with('/') {
        return None;
    }
    // A hard link names a member from the top, whose own folder is not part of our names.
    let mut parts: Vec<&str> = Vec::new();
    let target = if symbolic {
        parts.extend(member.split('/'));
        parts.pop();
        target
    } else {
        target.split_once('/')?.1
    };
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Gives each link the bytes of the file that it leads to. A bundle holds files only, and equal files once.
///
/// Links to folders, and links to what was not wanted, are left out: what needs them is found missing on its own.
fn follow(
    mut links: Vec<(String, Option<String>)>,
    taken: &mut Vec<Extracted>,
    archive: &str,
) -> Result<(), MirrorError> {
    if let Some((member, _)) = links.iter().find(|(_, target)| target.is_none()) {
        let problem = format!("the link `{member}` leads out of it");
        return Err(damaged(archive, problem));
    }
    // Each round resolves at least one link of a chain, or none is left that can be.
    loop {
        let before = links.len();
        links.retain(|(member, target)| {
            let found = taken
                .iter()
                .find(|one| Some(&one.member) == target.as_ref());
            let Some(found) = found.cloned() else {
                return true;
            };
            taken.push(Extracted {
                member: member.clone(),
                ..found
            });
            false
        });
        if links.len() == before {
            return Ok(());
        }
    }
}

fn take(
    reader: &mut dyn Read,
    member: &str,
    size: u64,
    archive: &str,
    cache: &Cache,
) -> Result<Extracted, MirrorError> {
    if size > LARGEST_MEMBER {
        let problem = format!("`{member}` would have {size} bytes");
        return Err(damaged(archive, problem));
    }
    let cached = cache.take(reader, size).map_err(|error| match error {
        MirrorError::File { source, .. } => damaged(archive, format!("`{member}`: {source}")),
        other => other,
    })?;
    if cached.size != size {
        let problem = format!("`{member}` has {} bytes, not {size}", cached.size);
        return Err(damaged(archive, problem));
    }
    Ok(Extracted {
        member: member.to_owned(),
        digest: cached.digest,
        size,
        executable: false,
    })
}

fn damaged(archive: &str, problem: impl std::fmt::Display) -> MirrorError {
    MirrorError::Archive {
        archive: archive.to_owned(),
        problem: problem.to_string(),
    }
}

enum Wanted<'a> {
    One(&'a str),
    Matching(&'a [String], GlobSet),
}

impl<'a> Wanted<'a> {
    fn new(selection: &'a Selection) -> Result<Self, MirrorError> {
        Ok(match selection {
            Selection::One(name) => Self::One(name),
            Selection::Matching(patterns) => Self::Matching(patterns, globs(patterns)?),
        })
    }

    fn has(&self, member: &str) -> bool {
        match self {
            Self::One(name) => *name == member,
            Self::Matching(_, globs) => globs.is_match(member),
        }
    }

    fn all_found(&self, taken: &[Extracted], archive: &str) -> Result<(), MirrorError> {
        let missing = match self {
            Self::One(name) => taken.is_empty().then_some(*name),
            Self::Matching(patterns, globs) => {
                let mut found = vec![false; patterns.len()];
                for extracted in taken {
                    for position in globs.matches(&extracted.member) {
                        found[position] = true;
                    }
                }
                found
                    .iter()
                    .position(|found| !found)
                    .map(|position| patterns[position].as_str())
            }
        };
        missing.map_or(Ok(()), |member| {
            Err(MirrorError::NoMember {
                archive: archive.to_owned(),
                member: member.to_owned(),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_to_a_member_or_out() {
        for (member, target, symbolic, expected) in [
            ("bin/python3", "python3.11", true, Some("bin/python3.11")),
            ("lib/a/b.so", "../c.so", true, Some("lib/c.so")),
            ("lib/b.so", "../../etc/passwd", true, None),
            ("lib/b.so", "/etc/passwd", true, None),
            ("bin/x", "python/bin/y", false, Some("bin/y")),
        ] {
            let found = points_to(member, target, symbolic);
            assert_eq!(found.as_deref(), expected, "{member} -> {target}");
        }
    }

    #[test]
    fn links_of_links_are_followed_and_circles_end() {
        let file = Extracted {
            member: "a".to_owned(),
            digest: Digest::of(b"a"),
            size: 1,
            executable: true,
        };
        let link = |from: &str, to: &str| (from.to_owned(), Some(to.to_owned()));
        let links = vec![
            link("c", "b"),
            link("b", "a"),
            link("x", "y"),
            link("y", "x"),
        ];
        let mut taken = vec![file];
        follow(links, &mut taken, "t").unwrap();
        let names: Vec<_> = taken.iter().map(|one| one.member.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert!(taken[2].executable);
        assert!(follow(vec![("z".to_owned(), None)], &mut taken, "t").is_err());
    }
}
