//! Lets two files share blocks instead of copying them, on file systems that can.

use std::fs::File;
use std::io;

use crate::extract::Extent;
use crate::layout::ALIGN;

/// Lets `to`, from its byte `at` on, have the blocks of `extents`, one after the other. Says whether it did; where it did
/// not, anything may be there.
///
/// Both ends must begin at multiples of 4 KiB, or the kernel copies. Nothing is checked: a disk may give other bytes for the
/// one file than for the other later, so who needs to know what `to` holds reads `to`.
pub fn share_blocks(extents: &[Extent<'_>], to: &File, at: u64) -> bool {
    let kind = kind_of(to).filter(|kind| SHARING.contains(kind));
    kind.is_some()
        && extents.iter().all(|extent| kind_of(extent.file) == kind)
        && share(extents, to, at).is_ok()
}

/// The number of the kind of file system that a file is on; `linux/magic.h`.
pub(crate) fn kind_of(file: &File) -> Option<u32> {
    Some(rustix::fs::fstatfs(file).ok()?.f_type as u32)
}

/// XFS, btrfs and bcachefs.
const SHARING: [u32; 3] = [0x5846_5342, 0x9123_683E, 0xCA45_1A4E];

/// The kernel shares whole blocks where it can and copies the rest; an end that is no whole block is asked for by
/// itself, since older kernels share all or nothing.
fn share(extents: &[Extent<'_>], to: &File, mut at: u64) -> io::Result<()> {
    for extent in extents {
        let whole = extent.size - extent.size % ALIGN;
        for (start, size) in [(0, whole), (whole, extent.size - whole)] {
            let (mut from, mut left) = (extent.offset + start, size);
            while left > 0 {
                let run = left.min(LONGEST_RUN) as usize;
                let file = extent.file;
                match rustix::fs::copy_file_range(file, Some(&mut from), to, Some(&mut at), run)? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    copied => left -= copied as u64,
                }
            }
        }
    }
    Ok(())
}

/// Most bytes that the kernel is asked to share at once.
const LONGEST_RUN: u64 = 1 << 30;
