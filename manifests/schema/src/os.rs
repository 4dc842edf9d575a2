//! Operating systems as data: `manifests/oses/*.toml`.
//!
//! ```text
//! name, title, [[when]]    which os-release this file is about
//! [[editions]]             service packs and flavours, the first whose [[when]] holds wins
//! ```
//!
//! `VERSION_ID` alone tells little on several of these systems, so a rule may look at any key.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use crate::GlibcVersion;

/// One file of `manifests/oses/`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OsTable {
    /// Stable name, such as `kylin-v10`.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// All must hold.
    pub when: Vec<Condition>,
    /// Service packs and flavours.
    pub editions: Vec<Edition>,
}

/// One service pack or flavour.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edition {
    /// Such as `SP3` or `e`.
    pub name: String,
    /// All must hold.
    pub when: Vec<Condition>,
    /// Chips that the vendor's own tool supports here.
    #[serde(default)]
    pub chips: Vec<String>,
    /// Not meant for this use: a desktop.
    #[serde(default)]
    pub refused: bool,
    /// How the release of its own kernel begins: what drivers bring ready-made modules for.
    pub kernel: Option<String>,
    /// Its glibc, for plans that are made far from the machine; the probe measures it.
    pub glibc: Option<GlibcVersion>,
    /// Where the row was read.
    pub source: String,
    /// Whether two independent sources agree.
    pub certain: bool,
}

/// What a key of `/etc/os-release` must say. Exactly one of the three is set.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// The key.
    pub key: String,
    /// The whole value.
    pub equals: Option<String>,
    /// A part of the value.
    pub contains: Option<String>,
    /// The key is missing.
    #[serde(default)]
    pub absent: bool,
}

impl Condition {
    /// Whether the condition holds for these keys.
    pub fn holds(&self, release: &BTreeMap<String, String>) -> bool {
        match (release.get(&self.key), &self.equals, &self.contains) {
            (Some(value), Some(wanted), None) => value == wanted,
            (Some(value), None, Some(part)) => value.contains(part.as_str()),
            (None, None, None) => self.absent,
            _ => false,
        }
    }
}

impl OsTable {
    /// Every system this build knows.
    pub fn all() -> &'static [OsTable] {
        &TABLES
    }

    /// The system that wrote this os-release.
    pub fn recognise(release: &BTreeMap<String, String>) -> Option<&'static OsTable> {
        TABLES.iter().find(|table| all_hold(&table.when, release))
    }

    /// The table of a name.
    pub fn named(name: &str) -> Option<&'static OsTable> {
        TABLES.iter().find(|table| table.name == name)
    }

    /// The service pack or flavour.
    pub fn edition(&self, release: &BTreeMap<String, String>) -> Option<&Edition> {
        self.editions
            .iter()
            .find(|edition| all_hold(&edition.when, release))
    }
}

fn all_hold(conditions: &[Condition], release: &BTreeMap<String, String>) -> bool {
    conditions.iter().all(|condition| condition.holds(release))
}

static TABLES: LazyLock<Vec<OsTable>> = LazyLock::new(|| {
    FILES
        .iter()
        .map(|(_, text)| toml::from_str(text).expect("a test parses every embedded system file"))
        .collect()
});

/// Name and text of every file, listed by the build script.
const FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/oses.rs"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_parses_is_named_for_its_system_and_names_known_chips() {
        for (name, text) in FILES {
            let table: OsTable = toml::from_str(text).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(*name, format!("{}.toml", table.name));
            for edition in &table.editions {
                assert!(!edition.source.is_empty(), "{name} {}", edition.name);
                for chip in &edition.chips {
                    assert!(crate::chip::Chip::named(chip).is_some(), "{name}: {chip}");
                }
            }
        }
    }

    #[test]
    fn service_packs_and_flavours_come_from_the_keys_that_tell_them_apart() {
        for (keys, expected) in [
            (
                &[("ID", "kylin"), ("VERSION", "V10 (Tercel)")][..],
                Some(("kylin-v10", Some("SP1"))),
            ),
            (
                &[("ID", "kylin"), ("VERSION", "V10 (Sword)")],
                Some(("kylin-v10", Some("SP2"))),
            ),
            (
                &[("ID", "kylin"), ("VERSION", "V10 (Lance)")],
                Some(("kylin-v10", Some("SP3"))),
            ),
            (
                &[("ID", "kylin"), ("VERSION", "V10 (Halberd)")],
                Some(("kylin-v10", Some("SP3 2403"))),
            ),
            (
                &[("ID", "kylin"), ("VERSION", "V10 (Unheard)")],
                Some(("kylin-v10", None)),
            ),
            (
                &[("ID", "kylin"), ("VERSION", "V11 (Swan25)")],
                Some(("kylin-v11", Some("2503"))),
            ),
            (
                &[("ID", "openEuler"), ("VERSION", "22.03 (LTS-SP4)")],
                Some(("openeuler", Some("22.03 SP4"))),
            ),
            (
                &[("ID", "openEuler"), ("VERSION", "22.03 LTS")],
                Some(("openeuler", Some("22.03"))),
            ),
            (
                &[("ID", "openEuler"), ("VERSION", "22.03 (LTS-SP3)")],
                Some(("openeuler", Some("22.03 SP3"))),
            ),
            (
                &[("ID", "anolis"), ("PLATFORM_ID", "platform:an8")],
                Some(("anolis", Some("8"))),
            ),
            (
                &[("ID", "ubuntu"), ("VERSION_ID", "22.04")],
                Some(("ubuntu", Some("22.04"))),
            ),
            (
                &[
                    ("ID", "uos"),
                    ("NAME", "UOS Server 20"),
                    ("PLATFORM_ID", "platform:uel20"),
                ],
                Some(("uos-20", Some("e"))),
            ),
            (
                &[
                    ("ID", "uos"),
                    ("NAME", "UOS Server 20"),
                    ("PLATFORM_ID", "platform:uelc20"),
                ],
                Some(("uos-20", Some("a"))),
            ),
            (
                &[("ID", "uos"), ("NAME", "UnionTech OS Server 20")],
                Some(("uos-20", Some("d"))),
            ),
            (
                &[("ID", "uos"), ("NAME", "uos")],
                Some(("uos-20", Some("desktop"))),
            ),
            (
                &[("ID", "debian"), ("VERSION_ID", "12")],
                Some(("debian", Some("12"))),
            ),
            (&[("ID", "plan9")], None),
        ] {
            let release: BTreeMap<_, _> = keys
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .chain((keys[0].1 == "uos").then(|| ("VERSION_ID".into(), "20".into())))
                .collect();
            let found = OsTable::recognise(&release).map(|table| {
                (
                    table.name.as_str(),
                    table.edition(&release).map(|edition| edition.name.as_str()),
                )
            });
            assert_eq!(found, expected, "{keys:?}");
        }
    }
}
