//! `NumPy` arrays: `\x93NUMPY`, version, length of the header, a Python dictionary with `descr`.

use crate::code::MAGIC_NUMPY;

/// Longest header that is looked at; `NumPy` itself refuses 10,000 bytes without being told otherwise.
pub(crate) const LONGEST_HEADER: u64 = 1 << 16;

/// Whether the array that begins with these bytes holds Python objects, which are a pickle.
pub(crate) fn has_objects(front: &[u8]) -> bool {
    let Some(rest) = front.strip_prefix(MAGIC_NUMPY) else {
        return false;
    };
    let (length, text) = match rest {
        [1, _, a, b, text @ ..] => (usize::from(u16::from_le_bytes([*a, *b])), text),
        [_, _, a, b, c, d, text @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, text),
        _ => return false,
    };
    let text = &text[..length.min(text.len())];
    // A number format is written `'<f4'`; objects are `'|O'`, in records too. A header that goes on past what was
    // read could have them later, so it counts as having them.
    let object = text
        .windows(2)
        .any(|pair| matches!(pair, [b'|' | b'\'' | b'"' | b'<' | b'>' | b'=', b'O']));
    object || length > text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(version: u8, descr: &str) -> Vec<u8> {
        let text = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (3,), }}\n");
        let mut bytes = MAGIC_NUMPY.to_vec();
        bytes.extend([version, 0]);
        if version == 1 {
            bytes.extend((text.len() as u16).to_le_bytes());
        } else {
            bytes.extend((text.len() as u32).to_le_bytes());
        }
        bytes.extend(text.bytes());
        bytes
    }

    #[test]
    fn objects_are_told_from_numbers() {
        for (descr, objects) in [
            ("'<f4'", false),
            ("'|O'", true),
            ("[('a', '<i8'), ('b', '|O')]", true),
            ("[('a', '<i8')]", false),
            ("'O'", true),
        ] {
            for version in [1, 2, 3] {
                assert_eq!(
                    has_objects(&array(version, descr)),
                    objects,
                    "{version} {descr}"
                );
            }
        }
        assert!(
            has_objects(b"\x93NUMPY\x01\0\xff\xff{'descr':"),
            "a header that goes on"
        );
        assert!(!has_objects(b"\x93NUMPY"));
    }
}
