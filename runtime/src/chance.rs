//! Numbers that nobody can guess, from the kernel.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};

/// Fills `bytes`.
fn fill(bytes: &mut [u8]) -> io::Result<()> {
    File::open("/dev/urandom")?.read_exact(bytes)
}

/// A token of 32 bytes, in hexadecimal digits.
pub(crate) fn token() -> io::Result<String> {
    let mut bytes = [0; 32];
    fill(&mut bytes)?;
    let mut text = String::new();
    for byte in bytes {
        let _never_fails = write!(text, "{byte:02x}");
    }
    Ok(text)
}

/// A seed for draws that shall differ each time. They still are drawn where the kernel has none to give.
pub(crate) fn any_seed() -> u64 {
    let mut bytes = [0; 8];
    let _same = fill(&mut bytes);
    u64::from_le_bytes(bytes)
}
