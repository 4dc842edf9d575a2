//! Vendors' version files: `key=value` lines, some of them lists of ranges.

use std::collections::BTreeMap;

use manifest_schema::site::{Release, VersionRange};

/// Reads `key=value` lines; keys are lower-cased, since driver and toolkit spell them differently.
/// Quotes around a value are taken off. The first of two equal keys counts.
pub(crate) fn keys(text: &str) -> BTreeMap<String, String> {
    let mut keys = BTreeMap::new();
    for line in text.lines().take(LINE_LIMIT) {
        if let Some((key, value)) = line.split_once('=') {
            let value = value.trim().trim_matches(['"', '\'']);
            keys.entry(key.trim().to_lowercase())
                .or_insert_with(|| value.to_owned());
        }
    }
    keys
}

/// Reads a version file; a file without a version is none.
pub(crate) fn parse(text: &str) -> Option<Release> {
    let keys = keys(text);
    let version = keys
        .get("version")
        .filter(|version| !version.is_empty())?
        .clone();
    let accepts = keys
        .iter()
        .filter(|(key, _)| key.starts_with("compatible_version"))
        .map(|(key, value)| (key.clone(), VersionRange::list(value)))
        .collect();
    Some(Release {
        version,
        inner: keys.get("innerversion").cloned(),
        accepts,
    })
}

/// More lines than any of these files has.
const LINE_LIMIT: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_file_and_a_toolkit_file_read_alike() {
        let driver = parse(
            "Version=25.0.rc1\nInnerversion=V100R001C21SPC001B100\n\
             compatible_version=[V100R001C17],[V100R001C18,V100R001C21]\n\
             compatible_version_fw=[7.0.0,7.7.99]\n",
        )
        .unwrap();
        assert_eq!(driver.version, "25.0.rc1");
        assert_eq!(driver.inner.as_deref(), Some("V100R001C21SPC001B100"));
        assert_eq!(driver.accepts["compatible_version"].len(), 2);
        assert_eq!(driver.accepts["compatible_version"][1].high, "V100R001C21");
        assert_eq!(driver.accepts["compatible_version_fw"][0].low, "7.0.0");
    }

    #[test]
    fn broken_files_are_no_release_or_lose_the_broken_range() {
        for text in ["", "nonsense", "Version=", "Innerversion=V1R1C1"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        let cut = parse("version=8.5.0\ncompatible_version=[V100R001C15],[V100R0").unwrap();
        assert_eq!(cut.accepts["compatible_version"].len(), 1);
    }
}
