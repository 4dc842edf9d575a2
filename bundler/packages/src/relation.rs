//! Who needs, provides and excludes what: `name`, or a name with a range of versions.

use std::cmp::Ordering;
use std::fmt;

use manifest_schema::PackageFormat;

use crate::version::{compare, compare_rpm};

/// How a version is compared.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Op {
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `=`
    Equal,
    /// `>=`
    GreaterOrEqual,
    /// `>`
    Greater,
}

impl Op {
    /// Reads the operator as either package manager writes it.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "<<" | "<" | "LT" => Self::Less,
            "<=" | "LE" => Self::LessOrEqual,
            "=" | "==" | "EQ" => Self::Equal,
            ">=" | "GE" => Self::GreaterOrEqual,
            ">>" | ">" | "GT" => Self::Greater,
            _ => return None,
        })
    }

    fn less(self) -> bool {
        matches!(self, Self::Less | Self::LessOrEqual)
    }

    fn equal(self) -> bool {
        matches!(self, Self::LessOrEqual | Self::Equal | Self::GreaterOrEqual)
    }

    fn greater(self) -> bool {
        matches!(self, Self::Greater | Self::GreaterOrEqual)
    }

    fn text(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Equal => "=",
            Self::GreaterOrEqual => ">=",
            Self::Greater => ">",
        }
    }
}

/// A name, and the versions of it that are meant.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Relation {
    /// The name: of a package, of something virtual, of a library, or the path of a file.
    pub name: String,
    /// Which versions; all of them when absent.
    pub range: Option<(Op, String)>,
}

impl Relation {
    /// Any version of `name`.
    pub fn any(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            range: None,
        }
    }

    /// Exactly `version` of `name`.
    pub fn exact(name: &str, version: &str) -> Self {
        Self {
            name: name.to_owned(),
            range: Some((Op::Equal, version.to_owned())),
        }
    }

    /// Reads rpm's notation: `name`, or `name >= 1.2`.
    pub fn parse_rpm(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let name = words.next()?;
        let range = match (words.next(), words.next(), words.next()) {
            (None, ..) => None,
            (Some(op), Some(version), None) => Some((Op::parse(op)?, version.to_owned())),
            _ => return None,
        };
        Some(Self {
            name: name.to_owned(),
            range,
        })
    }

    /// Reads Debian's notation: `name`, `name:any`, `name (>= 1.2)`, with architectures in brackets ignored.
    pub fn parse_deb(text: &str) -> Option<Self> {
        let (text, _) = text
            .split_once(['[', '<'])
            .filter(|(head, _)| !head.contains('('))
            .unwrap_or((text, ""));
        let (name, range) = match text.split_once('(') {
            None => (text, None),
            Some((name, range)) => {
                let (range, _) = range.split_once(')')?;
                let range = range.trim();
                let split = range.find(|c| !"<>=".contains(c))?;
                let (op, version) = range.split_at(split);
                // In old files `<` and `>` mean `<=` and `>=`.
                let op = match op {
                    "<" => Op::LessOrEqual,
                    ">" => Op::GreaterOrEqual,
                    other => Op::parse(other)?,
                };
                (name, Some((op, version.trim().to_owned())))
            }
        };
        let name = name.trim();
        let name = name.split_once(':').map_or(name, |(name, _)| name);
        if name.is_empty() || name.contains(char::is_whitespace) {
            return None;
        }
        Some(Self {
            name: name.to_owned(),
            range,
        })
    }

    /// Whether what is provided as `self` is what `wanted` asks for; the names are the same already.
    pub(crate) fn satisfies(&self, wanted: &Self, format: PackageFormat) -> bool {
        let Some((asked, bound)) = &wanted.range else {
            return true;
        };
        match (&self.range, format) {
            // rpm takes what has no version for every version, dpkg for none.
            (None, PackageFormat::Rpm) => true,
            (None, PackageFormat::Deb) => false,
            (Some((given, version)), PackageFormat::Rpm) => {
                match compare_rpm(version, bound, false) {
                    Ordering::Less => given.greater() || asked.less(),
                    Ordering::Greater => given.less() || asked.greater(),
                    Ordering::Equal => {
                        given.equal() && asked.equal()
                            || given.less() && asked.less()
                            || given.greater() && asked.greater()
                    }
                }
            }
            (Some((_, version)), PackageFormat::Deb) => match compare(format, version, bound) {
                Ordering::Less => asked.less(),
                Ordering::Greater => asked.greater(),
                Ordering::Equal => asked.equal(),
            },
        }
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.range {
            None => f.write_str(&self.name),
            Some((op, version)) => write!(f, "{} {} {version}", self.name, op.text()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_notations_are_read() {
        for (text, shown) in [
            ("gcc", Some("gcc")),
            (
                "libc.so.6(GLIBC_2.4)(64bit)",
                Some("libc.so.6(GLIBC_2.4)(64bit)"),
            ),
            ("glibc >= 1:2.28-1", Some("glibc >= 1:2.28-1")),
            ("glibc ~ 2", None),
            ("glibc >=", None),
            ("a = 1 b", None),
            ("", None),
        ] {
            let read = Relation::parse_rpm(text).map(|relation| relation.to_string());
            assert_eq!(read.as_deref(), shown, "{text}");
        }
        for (text, shown) in [
            ("gcc", Some("gcc")),
            (" python3:any (>= 3.11~) ", Some("python3 >= 3.11~")),
            ("libc6 (<< 2.37)", Some("libc6 < 2.37")),
            ("old (< 2)", Some("old <= 2")),
            ("linux-headers [amd64 arm64]", Some("linux-headers")),
            ("debhelper (>= 9) <!nocheck>", Some("debhelper >= 9")),
            ("a (>= 1", None),
            ("a (1)", None),
            ("a b", None),
            ("(= 1)", None),
            ("", None),
        ] {
            let read = Relation::parse_deb(text).map(|relation| relation.to_string());
            assert_eq!(read.as_deref(), shown, "{text}");
        }
    }

    #[test]
    fn a_range_is_satisfied_as_each_package_manager_says() {
        let rpm = |text: &str| Relation::parse_rpm(text).unwrap();
        for (given, wanted, in_rpm, in_deb) in [
            ("a = 1.0-2", "a", true, true),
            ("a = 1.0-2", "a = 1.0", true, false),
            ("a = 1.0-2", "a = 1.0-2", true, true),
            ("a = 1.0-2", "a >= 1.0-3", false, false),
            ("a = 1.0-2", "a < 1.0", false, false),
            ("a = 1.0-2", "a <= 1.0", true, false),
            ("a = 1.0-2", "a > 1.0", false, true),
            ("a", "a >= 2", true, false),
            ("a = 1:1.0-1", "a >= 5", true, true),
            ("a = 2:1.0-1", "a = 2:1.0-1", true, true),
        ] {
            let met = |format| rpm(given).satisfies(&rpm(wanted), format);
            assert_eq!(met(PackageFormat::Rpm), in_rpm, "rpm: {given} for {wanted}");
            assert_eq!(met(PackageFormat::Deb), in_deb, "deb: {given} for {wanted}");
        }
    }
}
