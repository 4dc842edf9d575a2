//! The logins that docker and podman keep in a file.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::Secret;

/// User names and passwords by registry, as `config.json` or `auth.json` has them.
#[derive(Clone, Debug, Default)]
pub struct DockerLogins {
    /// `host[:port][/namespace]` to user name and password.
    logins: BTreeMap<String, (String, Secret)>,
    /// Some logins are kept by a helper program, which is not run.
    helper: bool,
}

impl DockerLogins {
    /// Reads the file. Entries without a password are passed over.
    ///
    /// # Errors
    /// Says what is wrong; never what stands in the file.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct File {
            #[serde(default)]
            auths: BTreeMap<String, Entry>,
            #[serde(rename = "credsStore")]
            store: Option<IgnoredAny>,
            #[serde(rename = "credHelpers")]
            helpers: Option<IgnoredAny>,
        }
        #[derive(Deserialize)]
        struct Entry {
            auth: Option<String>,
            username: Option<String>,
            password: Option<String>,
        }
        let file: File = serde_json::from_slice(text)
            .map_err(|error| format!("line {}, column {}", error.line(), error.column()))?;
        let mut logins = BTreeMap::new();
        for (registry, entry) in file.auths {
            let encoded = entry.auth.as_deref().and_then(decode);
            let plain = entry.username.zip(entry.password);
            if let Some((user, password)) = encoded.or(plain) {
                logins.insert(place(&registry), (user, Secret::new(&password)));
            }
        }
        Ok(Self {
            logins,
            helper: file.store.is_some() || file.helpers.is_some(),
        })
    }

    /// The login for a repository: that of the longest entry which it lies below.
    pub(crate) fn find(&self, host: &str, repository: &str) -> Option<&(String, Secret)> {
        let mut wanted = place(&format!("{host}/{repository}"));
        loop {
            if let Some(login) = self.logins.get(&wanted) {
                return Some(login);
            }
            let shorter = wanted.rfind('/')?;
            wanted.truncate(shorter);
        }
    }

    /// Whether a helper program may have what the file has not.
    pub(crate) fn has_helper(&self) -> bool {
        self.helper
    }
}

/// `user:password` in base64.
fn decode(text: &str) -> Option<(String, String)> {
    let bytes = STANDARD.decode(text.trim()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.split_once(':')?;
    let password = password.trim_end_matches('\0');
    (!user.is_empty() && !password.is_empty()).then(|| (user.to_owned(), password.to_owned()))
}

/// A key in one form: without a scheme and an API's version; Docker Hub has several names.
fn place(registry: &str) -> String {
    let rest = registry
        .split_once("://")
        .map_or(registry, |(_, rest)| rest);
    let rest = rest.trim_end_matches('/');
    let rest = ["/v1", "/v2"]
        .iter()
        .find_map(|version| rest.strip_suffix(version))
        .unwrap_or(rest);
    let (host, below) = rest.split_once('/').unwrap_or((rest, ""));
    let host = match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    };
    [host, below].join("/").trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_found_by_host_and_namespace_and_not_shown() {
        let encoded = STANDARD.encode("me:hush:hush");
        let text = format!(
            r#"{{"auths":{{"https://index.docker.io/v1/":{{"auth":"{encoded}"}},"quay.io":{{}},
            "quay.io/org":{{"username":"robot","password":"p"}},"localhost:5000":{{"auth":"{encoded}"}}}},
            "credsStore":"desktop"}}"#
        );
        let logins = DockerLogins::parse(text.as_bytes()).unwrap();
        let user = |host, repository| logins.find(host, repository).map(|(user, _)| user.as_str());
        assert_eq!(user("registry-1.docker.io", "library/a"), Some("me"));
        assert_eq!(user("localhost:5000", "a"), Some("me"));
        assert_eq!(user("localhost:5001", "a"), None);
        assert_eq!(user("quay.io", "org/a"), Some("robot"));
        assert_eq!(user("quay.io", "other/a"), None);
        assert!(logins.has_helper());
        assert_eq!(
            logins.find("docker.io", "a").unwrap().1.reveal(),
            "hush:hush"
        );
        assert!(!format!("{logins:?}").contains("hush"));
        let wrong = DockerLogins::parse(br#"{"auths": "hush"}"#).unwrap_err();
        assert!(!wrong.contains("hush"), "{wrong}");
    }
}
