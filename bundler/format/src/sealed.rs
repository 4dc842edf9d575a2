//! A bundle that nobody has checked: its headers are walked, nothing in it is parsed or believed.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use manifest_schema::Digest;

use crate::layout::{self, ALIGN, MAX_MEMBERS, MAX_METADATA, Role};
use crate::ustar::{BLOCK, Header, MAX_SIZE, padding};
use crate::verify_error::{Fault, VerifyError};

/// Bytes from a disk or a USB stick that nobody has checked: one file, or the volumes that are at hand.
#[derive(Debug)]
pub struct Sealed {
    /// The volume that was named, then the others in their order. All have the same metadata, or are refused later.
    pub(crate) volumes: Vec<Volume>,
    /// Whether volumes may be missing.
    pub(crate) alone: bool,
}

/// One archive.
#[derive(Debug)]
pub(crate) struct Volume {
    pub(crate) path: PathBuf,
    /// All later reading goes through this open file, never through its path again.
    pub(crate) file: File,
    pub(crate) members: Vec<Member>,
    /// Its number, counted from 1, and how many there are.
    pub(crate) number: u32,
    pub(crate) of: u32,
}

/// Where a member lies.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) role: Role,
    pub(crate) name: String,
    /// Of its first byte, after the header.
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

impl Sealed {
    /// Opens a bundle and walks its headers: strict ustar, known names in the one order, no gap, no byte more.
    ///
    /// `path` is a bundle, one of its volumes, or the folder that they are in. Volumes beside the named one are
    /// opened too.
    ///
    /// # Errors
    /// When a file cannot be read, is cut short, or has a form that no bundle has.
    pub fn open(path: &Path) -> Result<Self, VerifyError> {
        Ok(Self {
            volumes: volumes_at(path)?,
            alone: false,
        })
    }

    /// Opens volumes that lie in several places, such as mounted discs.
    ///
    /// # Errors
    /// Those of [`Sealed::open`]; [`Fault::NotABundle`] when `paths` is empty.
    pub fn open_volumes(paths: &[PathBuf]) -> Result<Self, VerifyError> {
        let Some((first, rest)) = paths.split_first() else {
            return Err(Fault::NotABundle.of(""));
        };
        Self::gather(Volume::open(first)?, rest)
    }

    /// Opens one volume alone: what it holds can be checked, what it does not hold is not missed.
    ///
    /// # Errors
    /// Those of [`Sealed::open`].
    pub fn open_alone(path: &Path) -> Result<Self, VerifyError> {
        Ok(Self {
            volumes: vec![Volume::open(path)?],
            alone: true,
        })
    }

    fn gather(first: Volume, rest: &[PathBuf]) -> Result<Self, VerifyError> {
        Ok(Self {
            volumes: gather(first, rest)?,
            alone: false,
        })
    }

    /// Fingerprint of the newest root that the bundle offers: what a person compares before trusting it.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn fingerprint_offered(&self) -> Result<Digest, VerifyError> {
        let mut all = self.fingerprints_offered()?;
        all.pop().ok_or_else(|| {
            let member = layout::ROOT.to_owned();
            Fault::Missing { member }.of(self.path())
        })
    }

    /// Fingerprints of all roots that the bundle offers, the oldest first. A person may know any of them.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn fingerprints_offered(&self) -> Result<Vec<Digest>, VerifyError> {
        let named = self.named();
        let roots = named.members.iter().filter(|m| m.role == Role::Root);
        roots
            .map(|root| Ok(Digest::of(&named.read(&root.name)?)))
            .collect()
    }

    /// The bundle's file, or the volume that was named.
    pub fn path(&self) -> &Path {
        &self.named().path
    }

    /// The files of the bundle in the order of their numbers, none missing. Nothing in them is checked.
    ///
    /// # Errors
    /// When a volume is not there.
    pub fn complete(&self) -> Result<Vec<PathBuf>, VerifyError> {
        let mut volumes: Vec<&Volume> = self.volumes.iter().collect();
        volumes.sort_by_key(|volume| volume.number);
        let of = self.named().of;
        let there = |number: &u32| volumes.iter().any(|volume| volume.number == *number);
        let missing: Vec<_> = (1..=of)
            .filter(|n| !there(n))
            .map(|n| n.to_string())
            .collect();
        if missing.is_empty() {
            return Ok(volumes.iter().map(|volume| volume.path.clone()).collect());
        }
        let missing = missing.join(", ");
        Err(Fault::VolumesMissing { missing, of }.of(self.path()))
    }

    /// The volume that was named: its metadata speaks for all.
    pub(crate) fn named(&self) -> &Volume {
        // There is always one: both doors put it there.
        &self.volumes[0]
    }
}

/// The volumes at `place`, a bundle, one of its volumes, or the folder that they are in: the named one first.
pub(crate) fn volumes_at(place: &Path) -> Result<Vec<Volume>, VerifyError> {
    let named = if place.is_dir() {
        first_of(place)?
    } else {
        place.to_owned()
    };
    let first = Volume::open(&named)?;
    let mut paths = Vec::new();
    for number in (1..=first.of).filter(|number| *number != first.number) {
        let beside = sibling(&named, first.number, number);
        paths.extend(beside.filter(|beside| beside.exists()));
    }
    gather(first, &paths)
}

fn gather(first: Volume, rest: &[PathBuf]) -> Result<Vec<Volume>, VerifyError> {
    let mut others = Vec::new();
    for path in rest {
        others.push(Volume::open(path)?);
    }
    others.sort_by_key(|volume| volume.number);
    Ok(std::iter::once(first).chain(others).collect())
}

/// The bundle in a folder: the only one, or the first of the only set of volumes.
fn first_of(folder: &Path) -> Result<PathBuf, VerifyError> {
    let unreadable = |cause| Fault::Unreadable.because(folder, cause);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|ending| ending == "ferry") {
            found.push(path);
        }
    }
    found.sort();
    let stem = |path: &Path| {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        name.rsplit_once(".vol")
            .map_or(name.clone(), |(stem, _)| stem.to_owned())
    };
    let Some(first) = found.first() else {
        return Err(Fault::NotABundle.of(folder));
    };
    match found.iter().find(|path| stem(path) != stem(first)) {
        Some(other) => {
            let name = |path: &Path| {
                path.file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned()
            };
            let (one, other) = (name(first), name(other));
            Err(Fault::Several { one, other }.of(folder))
        }
        None => Ok(first.clone()),
    }
}

/// The path of another volume of the set that `path` belongs to.
fn sibling(path: &Path, own: u32, number: u32) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let stem = name.strip_suffix(&format!(".vol{own:03}.ferry"))?;
    Some(path.with_file_name(format!("{stem}.vol{number:03}.ferry")))
}

impl Volume {
    fn open(path: &Path) -> Result<Self, VerifyError> {
        let unreadable = |cause| Fault::Unreadable.because(path, cause);
        let file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(Fault::NotABundle.of(path));
        }
        let mut volume = Self {
            path: path.to_owned(),
            file,
            members: Vec::new(),
            number: 1,
            of: 1,
        };
        volume.walk(metadata.len())?;
        for name in layout::REQUIRED {
            if volume.member(name).is_none() {
                let member = name.to_owned();
                return Err(Fault::Missing { member }.of(path));
            }
        }
        if volume.member(layout::VOLUME).is_some() {
            let bytes = volume.read(layout::VOLUME)?;
            let member = layout::VOLUME.to_owned();
            let cause = "not in its one encoding".to_owned();
            (volume.number, volume.of) = layout::parse_volume(&bytes)
                .ok_or_else(|| Fault::Malformed { member, cause }.of(path))?;
        }
        Ok(volume)
    }

    /// The member called `name`.
    pub(crate) fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }

    /// The bytes of a member that is not a blob.
    pub(crate) fn read(&self, name: &str) -> Result<Vec<u8>, VerifyError> {
        let member = self.member(name).ok_or_else(|| {
            Fault::Missing {
                member: name.to_owned(),
            }
            .of(&self.path)
        })?;
        let mut bytes = vec![0; member.size as usize];
        self.file
            .read_exact_at(&mut bytes, member.offset)
            .map_err(|cause| Fault::Unreadable.because(&self.path, cause))?;
        Ok(bytes)
    }

    fn walk(&mut self, size: u64) -> Result<(), VerifyError> {
        let mut offset = 0;
        loop {
            let before = self
                .members
                .last()
                .map_or_else(String::new, |last| last.name.clone());
            let block = self.block(offset, size, &before)?;
            if block == [0; BLOCK as usize] && !self.members.is_empty() {
                return self.end(offset, size);
            }
            let Some(header) = Header::decode(&block) else {
                return Err(if self.members.is_empty() {
                    Fault::NotABundle.of(&self.path)
                } else {
                    Fault::Header {
                        member: before,
                        offset,
                    }
                    .of(&self.path)
                });
            };
            let member = self.admit(header, offset)?;
            let end = member.offset + member.size;
            let padded = end + padding(member.size);
            if padded > size {
                return Err(cut(&member.name, size, padded).of(&self.path));
            }
            // A filler is all padding.
            let begin = if member.role == Role::Filler {
                member.offset
            } else {
                end
            };
            let mut zeros = vec![0; (padded - begin) as usize];
            self.file
                .read_exact_at(&mut zeros, begin)
                .map_err(|cause| Fault::Unreadable.because(&self.path, cause))?;
            if zeros.iter().any(|byte| *byte != 0) {
                return Err(Fault::Padding {
                    member: member.name,
                    offset: begin,
                }
                .of(&self.path));
            }
            self.members.push(member);
            offset = padded;
        }
    }

    /// A member of a known name, in its place, of a size that its role may have.
    fn admit(&self, header: Header, offset: u64) -> Result<Member, VerifyError> {
        let Header {
            name,
            size,
            executable,
        } = header;
        let unexpected = || {
            Fault::Unexpected {
                member: name.clone(),
                offset,
            }
            .of(&self.path)
        };
        let role = Role::of(&name).ok_or_else(unexpected)?;
        let fills = self.members.last().map(|last| last.role) == Some(Role::Filler);
        let mut before = self.members.iter().rev();
        let before = before.find(|member| member.role != Role::Filler);
        let ascends = match role {
            // Its name is where the content behind it begins, and that has the next order.
            Role::Filler => !fills && name == layout::filler(offset + 2 * BLOCK + size),
            _ => before.is_none_or(|last| {
                layout::order(last.role, &last.name) < layout::order(role, &name)
            }),
        };
        let alike = self
            .members
            .iter()
            .rev()
            .take_while(|member| !role.payload() && member.role == role);
        let (count, bytes) = alike.fold((0, size), |(count, bytes), member| {
            (count + 1, member.size.saturating_add(bytes))
        });
        let too_many =
            self.members.len() >= MAX_MEMBERS || (!role.payload() && count >= role.most());
        if !ascends || too_many || executable != role.executable() {
            return Err(unexpected());
        }
        let limit = match role {
            Role::Content => MAX_SIZE,
            Role::Filler => ALIGN - 2 * BLOCK,
            _ => role.largest(),
        };
        // All licence texts together are held in memory as one other member is.
        let all_too_large = role == Role::License && bytes > MAX_METADATA;
        if size > limit || all_too_large {
            return Err(Fault::TooLarge {
                member: name,
                size,
                limit,
            }
            .of(&self.path));
        }
        Ok(Member {
            role,
            name,
            offset: offset + BLOCK,
            size,
        })
    }

    /// Two blocks of zeros, and then nothing.
    fn end(&self, offset: u64, size: u64) -> Result<(), VerifyError> {
        let block = self.block(offset + BLOCK, size, "end")?;
        if block != [0; BLOCK as usize] {
            let member = "end".to_owned();
            return Err(Fault::Padding {
                member,
                offset: offset + BLOCK,
            }
            .of(&self.path));
        }
        let end = offset + 2 * BLOCK;
        if end == size {
            Ok(())
        } else {
            Err(Fault::Trailing { end, size }.of(&self.path))
        }
    }

    fn block(&self, at: u64, size: u64, member: &str) -> Result<[u8; BLOCK as usize], VerifyError> {
        if at + BLOCK > size {
            let fault = if at == 0 {
                Fault::NotABundle
            } else {
                cut(member, size, at + BLOCK)
            };
            return Err(fault.of(&self.path));
        }
        let mut block = [0; BLOCK as usize];
        self.file
            .read_exact_at(&mut block, at)
            .map_err(|cause| Fault::Unreadable.because(&self.path, cause))?;
        Ok(block)
    }
}

fn cut(member: &str, size: u64, needed: u64) -> Fault {
    Fault::CutShort {
        member: member.to_owned(),
        size,
        needed,
    }
}
