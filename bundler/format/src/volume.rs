//! One archive: strict ustar, known names in the one order, no gap and no byte more.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::layout::{self, ALIGN, MAX_MEMBERS, MAX_METADATA, Role};
use crate::ustar::{BLOCK, Header, MAX_SIZE, padding};
use crate::verify_error::{Fault, VerifyError};

/// One archive: a bundle, or a volume of it.
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

impl Volume {
    /// Opens an archive and walks its headers.
    pub(crate) fn open(path: &Path) -> Result<Self, VerifyError> {
        let unreadable = |cause| Fault::Unreadable.because(path, cause);
        // Before it is opened: a pipe among the files of a stick would wait for whoever writes into it.
        if !path.metadata().map_err(unreadable)?.is_file() {
            return Err(Fault::NotABundle.of(path));
        }
        let file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
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
