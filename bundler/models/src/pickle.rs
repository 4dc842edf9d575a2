//! Is this a pickle? Its operations are followed without doing any of them.
//!
//! Protocols 2 to 5 begin with their number, which is what all of today's tools write. Protocols 0 and 1 begin with
//! any operation, so those count only where they import a name and call it: that is what makes a pickle dangerous, and
//! text does not do it by chance.

use std::io::{self, Read, Seek};

use crate::head::Head;

/// Operations that are looked at. A pickle that hides its call behind more of them than this has begun with a
/// protocol number, or is no file that a tool wrote.
const MOST_OPERATIONS: u32 = 1 << 20;

/// Operations that a file which begins like a pickle must go on with to count as one.
const CONVINCING: u32 = 4;

const LONGEST_LINE: u64 = 1 << 16;

/// Whether the bytes from here on are a pickle.
pub(crate) fn is_pickle(head: &mut Head<impl Read + Seek>) -> io::Result<bool> {
    let mut seen = Seen::default();
    for number in 0..MOST_OPERATIONS {
        let Some([operation]) = head.array::<1>()? else {
            return Ok(false);
        };
        if number == 0 && operation == 0x80 {
            let Some([2..=5]) = head.array::<1>()? else {
                return Ok(false);
            };
            seen.numbered = true;
            continue;
        }
        if operation == b'.' {
            return Ok(seen.numbered || seen.calls);
        }
        if !seen.follow(operation, head)? {
            return Ok(false);
        }
        if seen.calls || seen.numbered && number >= CONVINCING {
            return Ok(true);
        }
    }
    Ok(seen.numbered)
}

/// What a pickle has done so far.
#[derive(Default)]
struct Seen {
    /// It began with its protocol's number.
    numbered: bool,
    imports: bool,
    calls: bool,
    depth: usize,
    marks: Vec<usize>,
}

impl Seen {
    /// Follows one operation; `false` where there is no such operation, or it cannot stand here.
    fn follow(&mut self, operation: u8, head: &mut Head<impl Read + Seek>) -> io::Result<bool> {
        let (taken, given) = match operation {
            // Values that stand in the operation, or come from the memo.
            b'K' | b'h' => return self.fixed(1, head),
            b'M' => return self.fixed(2, head),
            b'J' | b'j' => return self.fixed(4, head),
            b'G' => return self.fixed(8, head),
            b'U' | b'C' | 0x8c | 0x8a => return self.counted(head.array::<1>()?, head),
            b'T' | b'B' | b'X' | 0x8b => return self.counted(head.array::<4>()?, head),
            0x8d | 0x8e | 0x96 => return self.counted(head.array::<8>()?, head),
            b'F' | b'I' | b'L' | b'S' | b'V' | b'P' | b'g' => return self.line(1, head),
            b'N' | b']' | b'}' | b')' | 0x88 | 0x89 | 0x8f | 0x97 => (0, 1),
            // Into the memo, frames, a second protocol number.
            b'p' => return self.line(0, head),
            b'q' | 0x80 => return head.skip(1),
            b'r' => return head.skip(4),
            0x95 => return head.skip(8),
            // The stack.
            b'(' => {
                self.marks.push(self.depth);
                return Ok(true);
            }
            0x94 | 0x98 => (0, 0),
            b'0' => (1, 0),
            b'Q' | 0x85 => (1, 1),
            b'2' => (1, 2),
            b'a' | 0x86 => (2, 1),
            b's' | 0x87 => (3, 1),
            b'1' | b'e' | b'u' | 0x90 => return Ok(self.back_to_mark(0)),
            b't' | b'l' | b'd' | 0x91 => return Ok(self.back_to_mark(1)),
            // Imports and calls.
            b'c' if self.import(head)? => (0, 1),
            b'i' if self.import(head)? => {
                self.calls = !self.marks.is_empty();
                return Ok(self.back_to_mark(1));
            }
            0x82..=0x84 => {
                self.imports = true;
                return self.fixed([1, 2, 4][usize::from(operation - 0x82)], head);
            }
            0x93 => {
                self.imports = true;
                (2, 1)
            }
            b'R' | b'b' | 0x81 => {
                self.calls = self.imports && self.depth >= 2;
                (2, 1)
            }
            0x92 => {
                self.calls = self.imports && self.depth >= 3;
                (3, 1)
            }
            b'o' => {
                self.calls = self.imports && !self.marks.is_empty();
                return Ok(self.back_to_mark(1));
            }
            _ => return Ok(false),
        };
        if self.depth < taken {
            return Ok(false);
        }
        self.depth = self.depth - taken + given;
        Ok(true)
    }

    /// A value of `size` bytes.
    fn fixed(&mut self, size: u64, head: &mut Head<impl Read + Seek>) -> io::Result<bool> {
        self.depth += 1;
        head.skip(size)
    }

    /// A value behind its length.
    fn counted<const N: usize>(
        &mut self,
        length: Option<[u8; N]>,
        head: &mut Head<impl Read + Seek>,
    ) -> io::Result<bool> {
        self.depth += 1;
        let Some(length) = length else {
            return Ok(false);
        };
        let mut bytes = [0; 8];
        bytes[..N].copy_from_slice(&length);
        head.skip(u64::from_le_bytes(bytes))
    }

    /// A line that leaves `given` values.
    fn line(&mut self, given: usize, head: &mut Head<impl Read + Seek>) -> io::Result<bool> {
        self.depth += given;
        Ok(head.line(LONGEST_LINE)?.is_some())
    }

    /// Two lines: a module and a name in it.
    fn import(&mut self, head: &mut Head<impl Read + Seek>) -> io::Result<bool> {
        let lines = [head.line(LONGEST_LINE)?, head.line(LONGEST_LINE)?];
        self.imports = lines.iter().flatten().filter(|line| is_name(line)).count() == 2;
        Ok(self.imports)
    }

    /// Takes everything since the last mark and puts `given` in its place.
    fn back_to_mark(&mut self, given: usize) -> bool {
        let Some(mark) = self.marks.pop() else {
            return false;
        };
        self.depth = mark + given;
        true
    }
}

/// A dotted name, as Python has them.
fn is_name(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && !bytes[0].is_ascii_digit()
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._<>".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(bytes: &[u8]) -> bool {
        is_pickle(&mut Head::of(bytes)).unwrap()
    }

    #[test]
    fn pickles_of_every_protocol_are_found() {
        for (bytes, name) in [
            (&b"cos\nsystem\n(S'echo'\ntR."[..], "protocol 0"),
            (b"(S'echo'\nios\nsystem\n.", "protocol 0, an instance"),
            (b"(cos\nsystem\nS'echo'\no.", "protocol 1, an object"),
            (b"cos\nsystem\n(S'echo'\ntR", "no end: the call is made"),
            (b"(lp0\ncos\nsystem\n(S'echo'\ntR", "a list first"),
            (b"\x80\x02]q\x00(K\x01K\x02e.", "protocol 2, a list"),
            (
                b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.",
                "torch's own before 1.6",
            ),
            (
                b"\x80\x04\x95\x17\0\0\0\0\0\0\0\x8c\x02os\x8c\x06system\x93\x8c\x04echo\x85R.",
                "protocol 4",
            ),
            (b"\x80\x05N.", "protocol 5, nothing"),
        ] {
            assert!(found(bytes), "{name}");
        }
    }

    #[test]
    fn other_files_are_not_taken_for_pickles() {
        for (bytes, name) in [
            (&b""[..], "nothing"),
            (b"\x80", "one byte"),
            (
                b"\x80\x02\0\0\0\0\0\0{\"a\":1}",
                "safetensors with a header of 640 bytes",
            ),
            (b"config\nmodel\nREADME\n", "a list of words"),
            (b"caffe\ntorch\n.venv\n", "a list of words with a dot"),
            (b"{\"model_type\": \"qwen2\"}", "JSON"),
            (b"# A model\n\nIt is good.\n", "Markdown"),
            (b"S is a letter.\n", "a sentence"),
            (b"(see below)\n", "brackets"),
            (b"GGUF\x03\0\0\0", "GGUF"),
            (b"T\xff\xff\xff\xff", "a length past the end"),
            (
                b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff",
                "a length past any file",
            ),
            (b"R", "a call of nothing"),
        ] {
            assert!(!found(bytes), "{name}");
        }
    }
}
