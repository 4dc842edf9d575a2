//! Comparing vendors' versions: `25.0.rc1.1`, `7.7.0.1.231`, `V100R001C23SPC002B212`.

use std::cmp::Ordering;

use manifest_schema::chip::Pairing;
use manifest_schema::site::VersionRange;

/// Parts of a dotted version. Numbers compare as numbers, words without case and above all numbers.
fn parts(version: &str) -> impl Iterator<Item = (u64, String)> {
    version
        .split(['.', '-'])
        .filter(|part| !part.is_empty())
        .map(|part| match part.parse() {
            Ok(number) => (number, String::new()),
            Err(_) => (u64::MAX, part.to_lowercase()),
        })
}

/// Whether `version` begins with all parts of `prefix`: `25.0` covers `25.0.rc1.1`, not `25.01`.
pub(crate) fn begins_with(version: &str, prefix: &str) -> bool {
    let mut rest = parts(version);
    parts(prefix).next().is_some() && parts(prefix).all(|part| rest.next() == Some(part))
}

/// Whether a range holds a dotted version, or one of the vendor's base tokens.
///
/// A range `24.1,24.1.` is the vendor's way to write a prefix, so the ends count as prefixes too.
pub(crate) fn holds(range: &VersionRange, version: &str) -> bool {
    if let (Some(low), Some(high)) = (Token::parse(&range.low), Token::parse(&range.high)) {
        return Token::parse(version).is_some_and(|token| low <= token && token <= high);
    }
    begins_with(version, &range.low)
        || begins_with(version, &range.high)
        || (compare(&range.low, version) != Ordering::Greater
            && compare(version, &range.high) != Ordering::Greater)
}

/// The rows of a table for a toolkit: those that name most parts of its version.
pub(crate) fn rows<'a>(table: &'a [Pairing], toolkit: &str) -> Vec<&'a Pairing> {
    let depth = |pairing: &Pairing| parts(&pairing.toolkit).count();
    let mut rows: Vec<&Pairing> = table
        .iter()
        .filter(|pairing| begins_with(toolkit, &pairing.toolkit))
        .collect();
    let deepest = rows.iter().map(|row| depth(row)).max();
    rows.retain(|row| Some(depth(row)) == deepest);
    rows
}

/// Whether `version` is `least` or newer.
pub(crate) fn at_least(version: &str, least: &str) -> bool {
    begins_with(version, least) || compare(version, least) != Ordering::Less
}

fn compare(one: &str, other: &str) -> Ordering {
    parts(one).cmp(parts(other))
}

/// The part of an inner version that the vendor's ranges speak about: `V100R001C23` of
/// `V100R001C23SPC002B212`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Token(u32, u32, u32);

impl Token {
    fn parse(text: &str) -> Option<Self> {
        let (version, rest) = number_after(text, 'V')?;
        let (release, rest) = number_after(rest, 'R')?;
        let (change, _) = number_after(rest, 'C')?;
        Some(Self(version, release, change))
    }
}

fn number_after(text: &str, letter: char) -> Option<(u32, &str)> {
    let text = text.strip_prefix(letter)?;
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_what_the_vendor_means() {
        for (low, high, version, expected) in [
            ("V100R001C19", "V100R001C19", "V100R001C19SPC002B212", true),
            ("V100R001C15", "V100R001C18", "V100R001C17B214", true),
            ("V100R001C15", "V100R001C18", "V100R001C19B001", false),
            ("V100R003C11", "V100R003C11", "V100R001C11", false),
            ("7.0.0", "7.7.99", "7.7.0.1.231", true),
            ("7.0.0", "7.7.99", "7.8.0.1.220", false),
            ("7.0.0", "7.7.99", "6.4.12", false),
            ("25.0", "25.0.", "25.0.rc1.1", true),
            ("24.1", "24.1.", "24.10.0", false),
            ("V100R001C19", "V100R001C19", "", false),
            ("V99999999999R1C1", "V1R1C1", "V1R1C1", true),
        ] {
            let range = VersionRange {
                low: low.into(),
                high: high.into(),
            };
            assert_eq!(
                holds(&range, version),
                expected,
                "{version} in {low}..{high}"
            );
        }
    }

    #[test]
    fn prefixes_go_by_whole_parts_whatever_the_case() {
        for (version, prefix, expected) in [
            ("25.0.rc1.1", "25.0.RC1", true),
            ("25.01", "25.0", false),
            ("9.0.0", "9.0", true),
            ("9", "9.0", false),
            ("9", "", false),
        ] {
            assert_eq!(begins_with(version, prefix), expected, "{version} {prefix}");
        }
    }

    #[test]
    fn a_newer_driver_is_enough() {
        for (version, least, expected) in [
            ("535.104.05", "525.60.13", true),
            ("525", "525", true),
            ("470.57", "525", false),
            ("6.3.31-V1.5.0a", "6.3.31", true),
            ("6.2.13-V1.0", "6.3", false),
        ] {
            assert_eq!(at_least(version, least), expected, "{version} {least}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(low in ".{0,40}", high in ".{0,40}", version in ".{0,40}") {
            holds(&VersionRange { low, high }, &version);
        }
    }
}
