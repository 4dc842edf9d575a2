//! Members of wheels and source archives, each taken into the cache as a file of its own.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use flate2::read::GzDecoder;
use globset::{Glob, GlobSet, GlobSetBuilder};
use manifest_schema::Digest;

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
        taken.push(take(&mut member, &member_name, size, name, cache)?);
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
    for entry in archive.entries().map_err(|error| damaged(name, error))? {
        let mut entry = entry.map_err(|error| damaged(name, error))?;
        let path = entry.path().map_err(|error| damaged(name, error))?;
        let Some((_, member)) = path.to_str().and_then(|path| path.split_once('/')) else {
            continue;
        };
        let member = member.to_owned();
        if !entry.header().entry_type().is_file() || !wanted.has(&member) {
            continue;
        }
        let size = entry.size();
        taken.push(take(&mut entry, &member, size, name, cache)?);
    }
    Ok(taken)
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

/// One matcher of several patterns. `*` goes across `/`, as the Hub's own client has it.
pub(crate) fn globs(patterns: &[String]) -> Result<GlobSet, MirrorError> {
    let bad = |pattern: &str, source| MirrorError::Pattern {
        pattern: pattern.to_owned(),
        source,
    };
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(Glob::new(pattern).map_err(|error| bad(pattern, error))?);
    }
    set.build()
        .map_err(|error| bad(&patterns.join(", "), error))
}
