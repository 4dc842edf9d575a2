//! The front of a GGUF file, value by value.

use std::fs::File;
use std::io;

use super::GgufValue;
use crate::error::Flaw;
use crate::head::Head;

/// What a header may ask for.
pub(super) struct Bounds {
    pub(super) tensors: u64,
    pub(super) settings: u64,
    /// Elements of a list.
    elements: u64,
    /// Bytes of a text.
    text: u64,
}

/// Of a file that is only checked, values are passed over.
pub(super) const PASSED: Bounds = Bounds {
    tensors: 1 << 20,
    settings: 1 << 20,
    elements: 1 << 28,
    text: 1 << 30,
};

/// Of a file that is read, they are kept.
pub(super) const KEPT: Bounds = Bounds {
    tensors: 1 << 16,
    settings: 1 << 16,
    elements: 4_000_000,
    text: 4 << 20,
};

const LONGEST_NAME: u64 = 1 << 16;

/// Bytes of all names together. A million tensors have a quarter of it.
const NAMES: u64 = 256 << 20;

/// Lists in lists.
const DEEPEST: u32 = 4;

/// Why the walk ends early.
pub(super) enum Stop {
    Disk(io::Error),
    /// Flaw, place, found, expected.
    Flaw(Flaw, String, String, String),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

pub(super) struct Walk<'f> {
    pub(super) head: Head<&'f File>,
    pub(super) bounds: Bounds,
    /// Bytes of memory that values may still take; `None` where they are passed over.
    memory: Option<u64>,
    /// Bytes that names may still have.
    names: u64,
}

impl<'f> Walk<'f> {
    pub(super) fn new(head: Head<&'f File>, memory: Option<u64>) -> Self {
        Self {
            head,
            bounds: if memory.is_some() { KEPT } else { PASSED },
            memory,
            names: NAMES,
        }
    }

    /// Reads a value, or passes over it where nothing is kept.
    pub(super) fn value(&mut self, kind: u32, depth: u32) -> Result<Option<GgufValue>, Stop> {
        match (kind, width(kind)) {
            (_, Some(size)) if self.memory.is_none() => self.skip(size).map(|()| None),
            (_, Some(_)) => self.number(kind).map(Some),
            (8, _) => self.text(),
            (9, _) if depth < DEEPEST => self.list(depth),
            _ => Err(self.flaw(Flaw::Kind, format!("a value of type {kind}"), "0 to 12")),
        }
    }

    fn number(&mut self, kind: u32) -> Result<GgufValue, Stop> {
        Ok(match kind {
            0 => GgufValue::Integer(i64::from(u8::from_le_bytes(self.array()?))),
            1 => GgufValue::Integer(i64::from(i8::from_le_bytes(self.array()?))),
            2 => GgufValue::Integer(i64::from(u16::from_le_bytes(self.array()?))),
            3 => GgufValue::Integer(i64::from(i16::from_le_bytes(self.array()?))),
            4 => GgufValue::Integer(i64::from(self.u32()?)),
            5 => GgufValue::Integer(i64::from(i32::from_le_bytes(self.array()?))),
            6 => GgufValue::Number(f64::from(f32::from_le_bytes(self.array()?))),
            7 => GgufValue::Truth(self.array::<1>()? != [0]),
            10 => {
                let number = self.u64()?;
                let small = i64::try_from(number).ok().map(GgufValue::Integer);
                small.ok_or_else(|| self.flaw(Flaw::Bound, number.to_string(), "below 2^63"))?
            }
            11 => GgufValue::Integer(i64::from_le_bytes(self.array()?)),
            _ => GgufValue::Number(f64::from_le_bytes(self.array()?)),
        })
    }

    fn text(&mut self) -> Result<Option<GgufValue>, Stop> {
        let length = self.count(self.bounds.text, "bytes of text")?;
        if self.memory.is_none() {
            return self.skip(length).map(|()| None);
        }
        self.keep(length)?;
        let text = self.utf8(length, "a text that is not UTF-8")?;
        Ok(Some(GgufValue::Text(text)))
    }

    fn list(&mut self, depth: u32) -> Result<Option<GgufValue>, Stop> {
        let kind = self.u32()?;
        let count = self.count(self.bounds.elements, "elements")?;
        if self.memory.is_none()
            && let Some(size) = width(kind)
        {
            return self.skip(count * size).map(|()| None);
        }
        self.keep(count * size_of::<GgufValue>() as u64)?;
        let mut list = Vec::new();
        for _ in 0..count {
            list.extend(self.value(kind, depth + 1)?);
        }
        Ok(self.memory.map(|_| GgufValue::List(list)))
    }

    /// Counts bytes that will stay in memory.
    fn keep(&mut self, bytes: u64) -> Result<(), Stop> {
        let Some(left) = self.memory else {
            return Ok(());
        };
        let Some(left) = left.checked_sub(bytes) else {
            let found = "settings without end".to_owned();
            return Err(self.flaw(Flaw::Bound, found, "settings that memory holds"));
        };
        self.memory = Some(left);
        Ok(())
    }

    pub(super) fn name(&mut self) -> Result<String, Stop> {
        let length = self.count(LONGEST_NAME.min(self.names), "bytes of a name")?;
        self.names -= length;
        self.utf8(length, "a name that is not UTF-8")
    }

    fn utf8(&mut self, length: u64, otherwise: &str) -> Result<String, Stop> {
        match self.head.bytes(length)? {
            Some(bytes) => {
                String::from_utf8(bytes).map_err(|_| self.flaw(Flaw::Json, otherwise, "UTF-8"))
            }
            None => Err(self.cut(length)),
        }
    }

    pub(super) fn count(&mut self, most: u64, what: &str) -> Result<u64, Stop> {
        let count = self.u64()?;
        if count > most {
            let (found, expected) = (format!("{count} {what}"), format!("at most {most}"));
            return Err(self.flaw(Flaw::Bound, found, expected));
        }
        Ok(count)
    }

    fn skip(&mut self, count: u64) -> Result<(), Stop> {
        if self.head.skip(count)? {
            Ok(())
        } else {
            Err(self.cut(count))
        }
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        match self.head.array()? {
            Some(bytes) => Ok(bytes),
            None => Err(self.cut(N as u64)),
        }
    }

    pub(super) fn u32(&mut self) -> Result<u32, Stop> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Stop> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn cut(&self, needed: u64) -> Stop {
        let found = format!("{} bytes", self.head.size);
        let expected = format!("at least {}", self.head.at.saturating_add(needed));
        self.flaw(Flaw::CutShort, found, expected)
    }

    pub(super) fn flaw(
        &self,
        flaw: Flaw,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Stop {
        let at = format!("byte {}", self.head.at);
        Stop::Flaw(flaw, at, found.into(), expected.into())
    }
}

/// Bytes of a value of fixed size.
fn width(kind: u32) -> Option<u64> {
    Some(match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        10..=12 => 8,
        _ => return None,
    })
}
