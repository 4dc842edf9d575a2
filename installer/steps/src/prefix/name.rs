//! How releases are called.

use std::fmt;

use manifest_schema::{BackendName, Digest, PackageSetName, Profiles};
use serde::{Deserialize, Serialize};

/// Name of an installed release: `<bundle>-<release>-<12 hex of the statement digest>`, and `-<backend>`
/// where the bundle brought one, so that two backends of one bundle are two releases.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReleaseName(String);

impl ReleaseName {
    /// The name under which a bundle, a backend of it and the packages of a system are installed.
    pub fn of(
        profiles: &Profiles,
        statement: &Digest,
        backend: Option<&BackendName>,
        os_packages: Option<&PackageSetName>,
    ) -> Self {
        let mut name = format!(
            "{}-{}-{}",
            profiles.name,
            profiles.release,
            &statement.hex()[..12]
        );
        if let Some(backend) = backend {
            name.push('-');
            name.push_str(backend.as_str());
        }
        if let Some(set) = os_packages {
            name.push_str("-os-");
            name.push_str(set.as_str());
        }
        Self(name)
    }

    /// Takes `text` if it can be the name of a release.
    pub fn parse(text: &str) -> Option<Self> {
        let good = (1..=255).contains(&text.len())
            && !text.starts_with(['.', '-'])
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        good.then(|| Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReleaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ReleaseName {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("`{text}` is not the name of a release"))
    }
}

impl From<ReleaseName> for String {
    fn from(name: ReleaseName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_name_cannot_leave_its_folder() {
        for (text, good) in [
            ("demo-1-0123456789ab-cpu", true),
            ("..", false),
            (".staging-demo", false),
            ("a/b", false),
            ("", false),
        ] {
            assert_eq!(ReleaseName::parse(text).is_some(), good, "{text:?}");
        }
    }
}
