//! A bundle that nobody has checked: its headers are walked, nothing in it is parsed or believed.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use manifest_schema::Digest;

use crate::layout::{self, MAX_KEYS, MAX_MEMBERS, MAX_METADATA, Role};
use crate::ustar::{BLOCK, Header, MAX_SIZE, padding};
use crate::verify_error::{Fault, VerifyError};

/// Bytes from a disk or a USB stick that nobody has checked.
#[derive(Debug)]
pub struct Sealed {
    pub(crate) path: PathBuf,
    /// All later reading goes through this open file, never through its path again.
    pub(crate) file: File,
    pub(crate) members: Vec<Member>,
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
    /// # Errors
    /// When the file cannot be read, is cut short, or has a form that no bundle has.
    pub fn open(path: &Path) -> Result<Self, VerifyError> {
        let unreadable = |cause| Fault::Unreadable.because(path, cause);
        let file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(Fault::NotABundle.of(path));
        }
        let mut sealed = Self {
            path: path.to_owned(),
            file,
            members: Vec::new(),
        };
        sealed.walk(metadata.len())?;
        for name in layout::REQUIRED {
            if !sealed.members.iter().any(|member| member.name == name) {
                return Err(Fault::Missing {
                    member: name.to_owned(),
                }
                .of(path));
            }
        }
        Ok(sealed)
    }

    /// Fingerprint of the root that the bundle offers: what a person compares before trusting it.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn fingerprint_offered(&self) -> Result<Digest, VerifyError> {
        Ok(Digest::of(&self.read(layout::ROOT)?))
    }

    /// The bundle's file.
    pub fn path(&self) -> &Path {
        &self.path
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
            let mut zeros = vec![0; (padded - end) as usize];
            self.file
                .read_exact_at(&mut zeros, end)
                .map_err(|cause| Fault::Unreadable.because(&self.path, cause))?;
            if zeros.iter().any(|byte| *byte != 0) {
                return Err(Fault::Padding {
                    member: member.name,
                    offset: end,
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
        let ascends = self
            .members
            .last()
            .is_none_or(|last| (last.role, last.name.as_str()) < (role, name.as_str()));
        let alike = self
            .members
            .iter()
            .rev()
            .take_while(|member| member.role == role)
            .take(MAX_KEYS);
        let too_many =
            self.members.len() >= MAX_MEMBERS || (role != Role::Blob && alike.count() == MAX_KEYS);
        if !ascends || too_many || executable != role.executable() {
            return Err(unexpected());
        }
        let limit = if role == Role::Blob {
            MAX_SIZE
        } else {
            MAX_METADATA
        };
        if size > limit {
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
