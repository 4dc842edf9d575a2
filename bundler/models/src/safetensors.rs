//! The header of a safetensors file, against the file's size.
//!
//! ```text
//! u64 length N | N bytes of JSON, filled up with blanks | data
//! {"__metadata__": {text: text}, name: {"dtype": "BF16", "shape": [2, 3], "data_offsets": [from, to]}, …}
//! ```
//!
//! The data of all tensors lies one after the other and fills the rest of the file. The JSON is read into types that
//! nest no deeper than they are written, and a name may stand once: readers differ in which of two they take.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use crate::error::{Flaw, ModelFileError};
use crate::head::Head;

/// What the safetensors library itself allows.
const LONGEST_HEADER: u64 = 100_000_000;

const MOST_SIDES: usize = 64;

const MOST_TENSORS: usize = 1_000_000;

/// Bits of one value, by the name of its number format: all that version 0.8 of the library knows.
const KINDS: [(&str, u64); 22] = [
    ("BOOL", 8),
    ("F4", 4),
    ("F6_E2M3", 6),
    ("F6_E3M2", 6),
    ("U8", 8),
    ("I8", 8),
    ("F8_E5M2", 8),
    ("F8_E4M3", 8),
    ("F8_E5M2FNUZ", 8),
    ("F8_E4M3FNUZ", 8),
    ("F8_E8M0", 8),
    ("I16", 16),
    ("U16", 16),
    ("F16", 16),
    ("BF16", 16),
    ("I32", 32),
    ("U32", 32),
    ("F32", 32),
    ("C64", 64),
    ("F64", 64),
    ("I64", 64),
    ("U64", 64),
];

/// What the header of a safetensors file says. Every byte of the data is one tensor's.
#[derive(Clone, Debug)]
pub struct Safetensors {
    /// Where the data begins in the file.
    pub data: u64,
    /// What it says of each tensor.
    pub tensors: BTreeMap<String, SafetensorsTensor>,
}

/// What the header says of one tensor.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SafetensorsTensor {
    /// Name of its number format.
    pub dtype: String,
    /// Its sides, the slowest first.
    pub shape: Vec<u64>,
    /// Where its bytes begin and end, from the start of the data.
    pub data_offsets: [u64; 2],
}

impl Safetensors {
    /// Reads the header of the file that messages call `path`, and holds it against the file's size.
    ///
    /// # Errors
    /// When the file cannot be read, or its header lies.
    pub fn read(file: &File, path: &str) -> Result<Self, ModelFileError> {
        let unreadable = || ModelFileError::unreadable(path);
        let flawed = |flaw, at: &str, found: String, expected: String| {
            ModelFileError::flawed(path, flaw, at, found, expected)
        };
        let mut head = Head::open(file).map_err(unreadable())?;
        let Some(length) = head.array::<8>().map_err(unreadable())? else {
            let found = format!("{} bytes", head.size);
            return Err(flawed(
                Flaw::CutShort,
                "byte 0",
                found,
                "at least 8".to_owned(),
            ));
        };
        if length == *b"version " {
            let found = "a pointer of Git LFS".to_owned();
            let expected = "the file that it points to".to_owned();
            return Err(flawed(Flaw::Magic, "byte 0", found, expected));
        }
        let length = u64::from_le_bytes(length);
        if length > LONGEST_HEADER {
            let found = format!("a header of {length} bytes");
            let expected = format!("at most {LONGEST_HEADER}");
            return Err(flawed(Flaw::Bound, "byte 0", found, expected));
        }
        if length > head.left() {
            let found = format!("{} bytes", head.size);
            let expected = format!("at least {}", 8 + length);
            return Err(flawed(Flaw::CutShort, "byte 8", found, expected));
        }
        let text = head
            .bytes(length)
            .map_err(unreadable())?
            .unwrap_or_default();
        if text.first() != Some(&b'{') {
            let found = format!("byte {:#04x}", text.first().copied().unwrap_or_default());
            return Err(flawed(Flaw::Magic, "byte 8", found, "`{`".to_owned()));
        }
        let header: Header = serde_json::from_slice(&text).map_err(|error| {
            let column = error.column().saturating_sub(1);
            let at = format!("byte {}", 8 + column);
            let expected = "names with `dtype`, `shape` and `data_offsets`, each once".to_owned();
            flawed(Flaw::Json, &at, error.to_string(), expected)
        })?;
        let (data, tensors) = (head.at, header.0);
        check_data(&tensors, head.left(), path)?;
        Ok(Self { data, tensors })
    }
}

/// Every tensor has the bytes that it asks for, and all of them fill the data without a hole.
fn check_data(
    tensors: &BTreeMap<String, SafetensorsTensor>,
    data: u64,
    path: &str,
) -> Result<(), ModelFileError> {
    let mut order = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let at = format!("tensor `{}`", name.chars().take(120).collect::<String>());
        let flawed = |flaw, found: String, expected: String| {
            ModelFileError::flawed(path, flaw, &at, found, expected)
        };
        let Some((_, bits)) = KINDS.iter().find(|(kind, _)| *kind == tensor.dtype) else {
            let known: Vec<&str> = KINDS.iter().map(|(kind, _)| *kind).collect();
            let found = format!("`{}`", tensor.dtype);
            return Err(flawed(Flaw::Kind, found, known.join(", ")));
        };
        let [from, to] = tensor.data_offsets;
        let sides = tensor.shape.iter();
        let count = sides
            .clone()
            .try_fold(1_u64, |count, side| count.checked_mul(*side));
        let asked = count.and_then(|count| count.checked_mul(*bits));
        let Some(asked) = asked.filter(|_| tensor.shape.len() <= MOST_SIDES) else {
            let found = format!("shape {:?}", &tensor.shape[..tensor.shape.len().min(8)]);
            let expected = "at most 64 sides and 2^64 bits".to_owned();
            return Err(flawed(Flaw::Bound, found, expected));
        };
        let Some(bytes) = to.checked_sub(from) else {
            let found = format!("bytes {from} to {to}");
            return Err(flawed(
                Flaw::Offsets,
                found,
                "an end after the start".to_owned(),
            ));
        };
        if asked % 8 != 0 || bytes != asked / 8 {
            let found = format!("{bytes} bytes");
            let expected = format!("{} bits of {} in {:?}", asked, tensor.dtype, tensor.shape);
            return Err(flawed(Flaw::Bytes, found, expected));
        }
        order.push((from, to, at));
    }
    order.sort();
    let mut end = 0;
    for (from, to, at) in order {
        if from != end {
            let (found, expected) = (format!("a start at {from}"), end.to_string());
            return Err(ModelFileError::flawed(
                path,
                Flaw::Offsets,
                at,
                found,
                expected,
            ));
        }
        end = to;
    }
    let flaw = match data.cmp(&end) {
        std::cmp::Ordering::Equal => return Ok(()),
        std::cmp::Ordering::Less => Flaw::CutShort,
        std::cmp::Ordering::Greater => Flaw::TooLong,
    };
    let (found, expected) = (format!("{data} bytes of data"), end.to_string());
    Err(ModelFileError::flawed(
        path,
        flaw,
        "behind the header",
        found,
        expected,
    ))
}

struct Header(BTreeMap<String, SafetensorsTensor>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tensors by name")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let (mut tensors, mut described) = (BTreeMap::new(), false);
                while let Some(name) = map.next_key::<String>()? {
                    let twice = if name == "__metadata__" {
                        map.next_value::<BTreeMap<String, String>>()?;
                        std::mem::replace(&mut described, true)
                    } else {
                        tensors.insert(name.clone(), map.next_value()?).is_some()
                    };
                    if twice {
                        return Err(A::Error::custom(format_args!("`{name}` a second time")));
                    }
                    if tensors.len() > MOST_TENSORS {
                        let most = format_args!("more than {MOST_TENSORS} tensors");
                        return Err(A::Error::custom(most));
                    }
                }
                Ok(Header(tensors))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2,1],"data_offsets":[4,12]},"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]},"none":{"dtype":"I8","shape":[0,9],"data_offsets":[12,12]}}   "#;

    fn of(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.bytes());
        bytes.resize(bytes.len() + data, 7);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Safetensors, ModelFileError> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Safetensors::read(&file, "model.safetensors")
    }

    #[test]
    fn a_good_file_gives_its_tensors() {
        let read_back = read(&of(GOOD, 12)).unwrap();
        let names: Vec<_> = read_back.tensors.keys().collect();
        assert_eq!(names, ["a", "b", "none"]);
        assert_eq!(read_back.data, 8 + GOOD.len() as u64);
        let b = &read_back.tensors["b"];
        assert_eq!(
            (b.dtype.as_str(), &b.shape[..], b.data_offsets),
            ("F32", &[2, 1][..], [4, 12])
        );
        assert!(read(&of("{}", 0)).unwrap().tensors.is_empty());
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn every_lie_of_a_header_is_named_with_its_place() {
        let tensor = |text: &str| of(&format!(r#"{{"a":{text}}}"#), 4);
        let deep = format!(r#"{{"a":{}1{}}}"#, "[".repeat(5000), "]".repeat(5000));
        let cases: [(&str, Vec<u8>, Flaw, &str); 20] = [
            ("nothing", vec![], Flaw::CutShort, "byte 0"),
            ("seven bytes", vec![0; 7], Flaw::CutShort, "byte 0"),
            (
                "cut in the header",
                of(GOOD, 0)[..90].to_vec(),
                Flaw::CutShort,
                "byte 8",
            ),
            (
                "cut in the data",
                of(GOOD, 11),
                Flaw::CutShort,
                "behind the header",
            ),
            (
                "bytes behind the data",
                of(GOOD, 13),
                Flaw::TooLong,
                "behind the header",
            ),
            (
                "a header of 2^64 bytes",
                vec![0xff; 64],
                Flaw::Bound,
                "byte 0",
            ),
            (
                "a header of 100 MB and one",
                [&100_000_001_u64.to_le_bytes()[..], b"{}"].concat(),
                Flaw::Bound,
                "byte 0",
            ),
            ("no header", of("", 0), Flaw::Magic, "byte 8"),
            ("blanks first", of("  {}", 0), Flaw::Magic, "byte 8"),
            (
                "a pointer",
                b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n".to_vec(),
                Flaw::Magic,
                "byte 0",
            ),
            ("not JSON", of("{\"a\":", 0), Flaw::Json, "byte"),
            ("lists in lists", of(&deep, 0), Flaw::Json, "byte"),
            (
                "an unknown field",
                tensor(r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}"#),
                Flaw::Json,
                "byte",
            ),
            (
                "one name twice",
                of(
                    r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#,
                    4,
                ),
                Flaw::Json,
                "byte",
            ),
            (
                "a number format of its own",
                tensor(r#"{"dtype":"Q4","shape":[8],"data_offsets":[0,4]}"#),
                Flaw::Kind,
                "tensor `a`",
            ),
            (
                "sides that multiply past 2^64",
                tensor(r#"{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}"#),
                Flaw::Bound,
                "tensor `a`",
            ),
            (
                "an end before the start",
                tensor(r#"{"dtype":"F32","shape":[1],"data_offsets":[4,0]}"#),
                Flaw::Offsets,
                "tensor `a`",
            ),
            (
                "too few bytes",
                tensor(r#"{"dtype":"F32","shape":[2],"data_offsets":[0,4]}"#),
                Flaw::Bytes,
                "tensor `a`",
            ),
            (
                "a hole",
                of(
                    r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[1,5]}}"#,
                    5,
                ),
                Flaw::Offsets,
                "tensor `a`",
            ),
            (
                "an overlap",
                of(
                    r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#,
                    6,
                ),
                Flaw::Offsets,
                "tensor `b`",
            ),
        ];
        for (name, bytes, expected, place) in cases {
            match read(&bytes).unwrap_err() {
                ModelFileError::Flawed { flaw, at, .. } => {
                    assert_eq!(flaw, expected, "{name}");
                    assert!(at.contains(place), "{name}: {at}");
                }
                other => panic!("{name}: {other}"),
            }
        }
    }

    proptest! {
        #[test]
        fn damage_is_an_error_or_harmless(at in 0_usize..300, byte: u8) {
            let mut bytes = of(GOOD, 12);
            let length = bytes.len();
            bytes[at % length] = byte;
            let _ = read(&bytes);
        }
    }
}
