//! What a wheel says of its licence, and the licence texts in it.

use std::fs::File;
use std::io;
use std::path::Path;

use manifest_schema::license;
use model_files::Zip;

use super::{LARGEST_TEXT, is_license_name};

/// Longest `METADATA` that is read: the description is in it too.
const LONGEST_METADATA: u64 = 8 << 20;

/// Longest word on a licence that is no SPDX expression. Some paste the whole text there.
const LONGEST_STATED: usize = 120;

/// The papers of one wheel.
#[derive(Debug, Default)]
pub(crate) struct Papers {
    /// Its licence, where it says it in a way that leaves no doubt.
    pub(crate) expression: Option<String>,
    /// What it says instead.
    pub(crate) stated: Option<String>,
    /// Licence texts by their names below `.dist-info`.
    pub(crate) texts: Vec<(String, Vec<u8>)>,
    /// Texts too long to be carried.
    pub(crate) left_out: Vec<String>,
}

/// Reads the papers of the wheel at `path`. What cannot be read is not there.
pub(crate) fn papers(path: &Path) -> io::Result<Papers> {
    let file = File::open(path)?;
    let Ok(zip) = Zip::open(&file)? else {
        return Ok(Papers::default());
    };
    let mut papers = Papers::default();
    for member in zip.members() {
        let Some((folder, name)) = member.name.split_once('/') else {
            continue;
        };
        if !folder.ends_with(".dist-info") {
            continue;
        }
        if name == "METADATA" {
            let text = zip.read(member, LONGEST_METADATA)?.unwrap_or_default();
            (papers.expression, papers.stated) = license_of(&String::from_utf8_lossy(&text));
        } else if name.starts_with("licenses/") || !name.contains('/') && is_license_name(name) {
            match zip.read(member, LARGEST_TEXT + 1)? {
                Some(text) if text.is_empty() => {}
                Some(text) if text.len() as u64 <= LARGEST_TEXT => {
                    papers.texts.push((name.to_owned(), text));
                }
                _ => papers.left_out.push(name.to_owned()),
            }
        }
    }
    papers.texts.sort();
    Ok(papers)
}

/// The licence in `METADATA` (core metadata 2.4 and before) as an SPDX expression, or else as it is stated.
fn license_of(metadata: &str) -> (Option<String>, Option<String>) {
    let (mut expression, mut license, mut classifiers) = (None, None, Vec::new());
    for line in metadata.lines().take_while(|line| !line.is_empty()) {
        // A line that goes on another's is none of these.
        let Some((key, value)) = line
            .split_once(':')
            .filter(|_| !line.starts_with([' ', '\t']))
        else {
            continue;
        };
        let value = value.trim();
        match key.to_ascii_lowercase().as_str() {
            "license-expression" => expression = Some(value),
            "license" => license = Some(value),
            "classifier" => classifiers.extend(value.strip_prefix("License :: ")),
            _ => {}
        }
    }
    let stated = [expression, license].into_iter().flatten();
    let stated = stated.filter(|text| !text.is_empty() && *text != "UNKNOWN");
    if let Some(good) = stated.clone().find(|text| license::parse(text).is_ok()) {
        return (Some(good.to_owned()), None);
    }
    // Two classifiers do not say whether both hold or either does.
    if let [only] = classifiers.as_slice()
        && let Some(id) = of_classifier(only)
    {
        return (Some(id.to_owned()), None);
    }
    let words = stated.chain(classifiers.iter().copied()).next();
    (
        None,
        words.map(|text| text.chars().take(LONGEST_STATED).collect()),
    )
}

/// The licence of a classifier that can mean one only. "BSD License" and "Apache Software License" cannot.
fn of_classifier(classifier: &str) -> Option<&'static str> {
    let name = classifier
        .strip_prefix("OSI Approved :: ")
        .unwrap_or(classifier);
    let known = CLASSIFIERS.iter().find(|(text, _)| *text == name);
    known.map(|(_, id)| *id)
}

const CLASSIFIERS: [(&str, &str); 22] = [
    ("Boost Software License 1.0 (BSL-1.0)", "BSL-1.0"),
    (
        "CC0 1.0 Universal (CC0 1.0) Public Domain Dedication",
        "CC0-1.0",
    ),
    ("European Union Public Licence 1.2 (EUPL 1.2)", "EUPL-1.2"),
    ("GNU Affero General Public License v3", "AGPL-3.0-only"),
    (
        "GNU Affero General Public License v3 or later (AGPLv3+)",
        "AGPL-3.0-or-later",
    ),
    ("GNU General Public License v2 (GPLv2)", "GPL-2.0-only"),
    (
        "GNU General Public License v2 or later (GPLv2+)",
        "GPL-2.0-or-later",
    ),
    ("GNU General Public License v3 (GPLv3)", "GPL-3.0-only"),
    (
        "GNU General Public License v3 or later (GPLv3+)",
        "GPL-3.0-or-later",
    ),
    (
        "GNU Lesser General Public License v2 (LGPLv2)",
        "LGPL-2.0-only",
    ),
    (
        "GNU Lesser General Public License v2 or later (LGPLv2+)",
        "LGPL-2.0-or-later",
    ),
    (
        "GNU Lesser General Public License v3 (LGPLv3)",
        "LGPL-3.0-only",
    ),
    (
        "GNU Lesser General Public License v3 or later (LGPLv3+)",
        "LGPL-3.0-or-later",
    ),
    ("Historical Permission Notice and Disclaimer (HPND)", "HPND"),
    ("ISC License (ISCL)", "ISC"),
    ("MIT License", "MIT"),
    ("MIT No Attribution License (MIT-0)", "MIT-0"),
    ("Mozilla Public License 2.0 (MPL 2.0)", "MPL-2.0"),
    ("Python Software Foundation License", "PSF-2.0"),
    ("The Unlicense (Unlicense)", "Unlicense"),
    ("Universal Permissive License (UPL)", "UPL-1.0"),
    ("zlib/libpng License", "Zlib"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_licence_is_read_and_never_guessed() {
        for (text, expression, stated) in [
            (
                "License-Expression: MIT OR Apache-2.0\nLicense: BSD",
                Some("MIT OR Apache-2.0"),
                None,
            ),
            ("License: Apache-2.0\n", Some("Apache-2.0"), None),
            ("License: Apache 2.0\n", None, Some("Apache 2.0")),
            (
                "License: UNKNOWN\nClassifier: License :: OSI Approved :: MIT License\n",
                Some("MIT"),
                None,
            ),
            (
                "Classifier: License :: OSI Approved :: BSD License\n",
                None,
                Some("OSI Approved :: BSD License"),
            ),
            (
                "Classifier: License :: OSI Approved :: MIT License\nClassifier: License :: OSI Approved :: ISC License (ISCL)\n",
                None,
                Some("OSI Approved :: MIT License"),
            ),
            ("License: BSD\n  License: MIT\n", None, Some("BSD")),
            ("Name: a\n\nLicense: MIT\n", None, None),
            ("", None, None),
        ] {
            let found = license_of(text);
            let found = (found.0.as_deref(), found.1.as_deref());
            assert_eq!(found, (expression, stated), "{text}");
        }
    }

    #[test]
    fn every_classifier_names_a_licence_of_the_list() {
        for (_, id) in CLASSIFIERS {
            assert!(license::parse(id).is_ok(), "{id}");
        }
    }
}
