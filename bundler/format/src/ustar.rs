//! One 512-byte ustar header, in the only encoding that a bundle may hold.
//!
//! ```text
//!   0 name[100]  100 mode[8]   108 uid[8]    116 gid[8]      124 size[12]   136 mtime[12]
//! 148 sum[8]     156 type '0'  157 link[100] 257 "ustar\0"   263 "00"       265 names, device, prefix: zero
//! ```

/// Bytes of a header, and what members are padded to.
pub(crate) const BLOCK: u64 = 512;

/// Largest member: eleven octal digits.
pub(crate) const MAX_SIZE: u64 = 0o777_7777_7777;

/// Longest name.
pub(crate) const MAX_NAME: usize = 100;

/// What a header says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Header {
    /// Name of the member.
    pub(crate) name: String,
    /// Bytes of the member.
    pub(crate) size: u64,
    /// Whether its mode is 0755 rather than 0644.
    pub(crate) executable: bool,
}

impl Header {
    /// The header's bytes. The caller keeps to [`MAX_NAME`] and [`MAX_SIZE`]; what goes past is cut.
    pub(crate) fn encode(&self) -> [u8; BLOCK as usize] {
        let mut block = [0_u8; BLOCK as usize];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        let name = self.name.as_bytes();
        put(0, &name[..name.len().min(MAX_NAME)]);
        put(
            100,
            if self.executable {
                b"0000755\0"
            } else {
                b"0000644\0"
            },
        );
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(
            124,
            format!("{:011o}\0", self.size.min(MAX_SIZE)).as_bytes(),
        );
        put(136, b"00000000000\0");
        put(148, b"        ");
        put(156, b"0");
        put(257, b"ustar\x0000");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }

    /// Reads a header, or says no to any that this program would not have written.
    pub(crate) fn decode(block: &[u8; BLOCK as usize]) -> Option<Self> {
        let end = block[..MAX_NAME]
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(MAX_NAME);
        let name = std::str::from_utf8(&block[..end]).ok()?;
        let size = std::str::from_utf8(&block[124..135]).ok()?;
        let header = Self {
            name: name.to_owned(),
            size: u64::from_str_radix(size, 8).ok()?,
            executable: &block[100..107] == b"0000755",
        };
        (is_member_name(name) && header.encode() == *block).then_some(header)
    }
}

/// Zero bytes after a member of `size` bytes.
pub(crate) fn padding(size: u64) -> u64 {
    (BLOCK - size % BLOCK) % BLOCK
}

/// Letters, digits and `._+@=,-` in parts joined by `/`; no part is empty, `.` or `..`.
fn is_member_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name.split('/').all(|part| {
            !matches!(part, "" | "." | "..")
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"._+@=,-".contains(&b))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str) -> Header {
        Header {
            name: name.into(),
            size: 1_234_567,
            executable: false,
        }
    }

    #[test]
    fn a_header_survives_the_round_trip() {
        for executable in [false, true] {
            let header = Header {
                executable,
                ..header("blobs/sha256/abc")
            };
            assert_eq!(Header::decode(&header.encode()), Some(header));
        }
    }

    #[test]
    fn names_outside_the_grammar_are_refused() {
        for name in [
            "", "/a", "a/", "a//b", "../a", "a/./b", "a b", "a\u{e9}", "a\\b",
        ] {
            assert_eq!(Header::decode(&header(name).encode()), None, "{name:?}");
        }
    }

    #[test]
    fn no_bit_of_a_header_can_change() {
        let good = header("meta/index.json").encode();
        for position in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good;
                bad[position] ^= 1 << bit;
                assert_eq!(Header::decode(&bad), None, "byte {position}, bit {bit}");
            }
        }
    }

    #[test]
    fn a_link_or_a_pax_header_is_refused_even_with_a_right_checksum() {
        for kind in *b"1235xgLKSV\0" {
            let mut block = header("a").encode();
            block[156] = kind;
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            assert_eq!(Header::decode(&block), None, "{}", kind as char);
        }
    }
}
