//! ASN.1 elements as they came: a tag, a value, and the bytes of both.

use std::borrow::Cow;

use der::{AnyRef, Decode, Reader, SliceReader, Tag, Tagged};
use x509_cert::time::Time;

/// One element.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a> {
    pub(crate) tag: Tag,
    /// What is inside.
    pub(crate) value: &'a [u8],
    /// All of it.
    pub(crate) whole: &'a [u8],
}

/// The elements of a constructed value, one after the other.
pub(crate) struct Elements<'a>(SliceReader<'a>);

impl<'a> Elements<'a> {
    /// The elements that `value` consists of.
    pub(crate) fn of(value: &'a [u8]) -> Result<Self, der::Error> {
        SliceReader::new(value).map(Self)
    }

    /// The next one, where there is one.
    pub(crate) fn next(&mut self) -> Result<Option<Element<'a>>, der::Error> {
        if self.0.is_finished() {
            return Ok(None);
        }
        let whole = self.0.tlv_bytes()?;
        let any = AnyRef::from_der(whole)?;
        Ok(Some(Element {
            tag: any.tag(),
            value: any.value(),
            whole,
        }))
    }

    /// The next one, which must be there and have this tag.
    pub(crate) fn expect(&mut self, tag: Tag) -> Result<Element<'a>, der::Error> {
        let element = self.next()?.ok_or(der::ErrorKind::Incomplete {
            expected_len: 1u8.into(),
            actual_len: 0u8.into(),
        })?;
        element.tag.assert_eq(tag)?;
        Ok(element)
    }

    /// The next one if it has this tag; another one stays.
    pub(crate) fn with_tag(&mut self, tag: Tag) -> Result<Option<Element<'a>>, der::Error> {
        if self.0.is_finished() || Tag::peek(&self.0)? != tag {
            return Ok(None);
        }
        self.next()
    }

    /// The next one if it is a time, in seconds since 1970; another one stays.
    pub(crate) fn time(&mut self) -> Result<Option<u64>, der::Error> {
        for tag in [Tag::UtcTime, Tag::GeneralizedTime] {
            if let Some(time) = self.with_tag(tag)? {
                return Ok(Some(
                    Time::from_der(time.whole)?.to_unix_duration().as_secs(),
                ));
            }
        }
        Ok(None)
    }

    /// The next one if it is the context's own `number`, constructed; another one stays.
    pub(crate) fn optional(&mut self, number: u32) -> Result<Option<Element<'a>>, der::Error> {
        let is = |tag: Tag| tag.is_context_specific() && tag.number().value() == number;
        if self.0.is_finished() || !is(Tag::peek(&self.0)?) {
            return Ok(None);
        }
        self.next()
    }

    /// All that are left, at most `most`.
    pub(crate) fn all(mut self, most: usize) -> Result<Vec<Element<'a>>, der::Error> {
        let mut all = Vec::new();
        while let Some(element) = self.next()? {
            if all.len() == most {
                return Err(der::ErrorKind::Overlength.into());
            }
            all.push(element);
        }
        Ok(all)
    }
}

/// The first element of `bytes`, with every length written out.
///
/// Some signers write the outer layers in BER, where an element may end at a mark instead of having a length. What
/// has a length everywhere comes back as it is; certificates and signed attributes always have one.
pub(crate) fn definite(bytes: &[u8]) -> Result<Cow<'_, [u8]>, &'static str> {
    let mut rest = bytes;
    let element = rewritten(&mut rest, 0)?;
    Ok(element)
}

/// Deeper nesting than any real message has.
const DEEPEST: u32 = 32;
const INDEFINITE: u8 = 0x80;

fn rewritten<'a>(rest: &mut &'a [u8], depth: u32) -> Result<Cow<'a, [u8]>, &'static str> {
    const CUT: &str = "it ends too early";
    if depth == DEEPEST {
        return Err("it is nested too deeply");
    }
    let start = *rest;
    let (&tag, after) = start.split_first().ok_or(CUT)?;
    if tag & 0x1f == 0x1f {
        return Err("a tag has more than one byte");
    }
    let constructed = tag & 0x20 != 0;
    let (&first, after) = after.split_first().ok_or(CUT)?;
    let mut inside = if first == INDEFINITE {
        if !constructed {
            return Err("a plain value has no length");
        }
        after
    } else {
        let (length, after) = length(first, after).ok_or(CUT)?;
        let value = after.get(..length).ok_or(CUT)?;
        *rest = &after[length..];
        value
    };
    if first != INDEFINITE && !constructed {
        return Ok(Cow::Borrowed(&start[..start.len() - rest.len()]));
    }
    let mut children = Vec::new();
    let mut changed = first == INDEFINITE;
    loop {
        if first == INDEFINITE {
            if let Some(after) = inside.strip_prefix(&[0, 0]) {
                *rest = after;
                break;
            }
        } else if inside.is_empty() {
            break;
        }
        let child = rewritten(&mut inside, depth + 1)?;
        changed |= matches!(child, Cow::Owned(_));
        children.push(child);
    }
    if !changed {
        return Ok(Cow::Borrowed(&start[..start.len() - rest.len()]));
    }
    let value = children.concat();
    let mut whole = vec![tag];
    write_length(&mut whole, value.len());
    whole.extend(value);
    Ok(Cow::Owned(whole))
}

fn length(first: u8, after: &[u8]) -> Option<(usize, &[u8])> {
    if first < INDEFINITE {
        return Some((first.into(), after));
    }
    let count = usize::from(first & 0x7f);
    let bytes = after.get(..count).filter(|_| count <= 4)?;
    let length = bytes.iter().fold(0, |n, b| n << 8 | usize::from(*b));
    Some((length, &after[count..]))
}

fn write_length(whole: &mut Vec<u8>, length: usize) {
    if length < usize::from(INDEFINITE) {
        whole.push(length as u8);
        return;
    }
    let bytes = length.to_be_bytes();
    let skip = bytes.iter().take_while(|byte| **byte == 0).count();
    whole.push(INDEFINITE | (bytes.len() - skip) as u8);
    whole.extend(&bytes[skip..]);
}

/// Bytes as lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or('0');
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_written_out_where_it_was_left_open() {
        for (found, expected) in [
            (&[0x30, 0x03, 0x02, 0x01, 0x05][..], &[0x30, 3, 2, 1, 5][..]),
            (&[0x30, 0x80, 2, 1, 5, 0, 0], &[0x30, 3, 2, 1, 5]),
            (
                &[0x30, 7, 0x31, 0x80, 2, 1, 5, 0, 0],
                &[0x30, 5, 0x31, 3, 2, 1, 5],
            ),
            (
                &[0x30, 0x80, 0x30, 0x80, 0, 0, 0, 0, 0xff],
                &[0x30, 2, 0x30, 0],
            ),
            // What comes after the first element is not looked at.
            (&[0x30, 0, 0xff, 0xff], &[0x30, 0]),
        ] {
            assert_eq!(definite(found).unwrap(), expected, "{found:02x?}");
        }
        let long = [&[0x30, 0x80, 4, 0x81, 200][..], &[7; 200], &[0, 0]].concat();
        let written = [&[0x30, 0x81, 203, 4, 0x81, 200][..], &[7; 200]].concat();
        assert_eq!(definite(&long).unwrap(), written);
    }

    #[test]
    fn a_message_that_is_cut_or_nested_without_end_is_refused() {
        for bytes in [
            &[][..],
            &[0x30],
            &[0x30, 5, 2],
            &[0x30, 0x80, 2, 1, 5],
            &[0x30, 0x85, 1, 1, 1, 1, 1],
            &[0x02, 0x80, 0, 0],
            &[0x3f, 0x81, 0, 0],
        ] {
            assert!(definite(bytes).is_err(), "{bytes:02x?}");
        }
        let deep: Vec<u8> = [0x30, 0x80].repeat(100_000);
        assert!(definite(&deep).is_err());
    }
}
