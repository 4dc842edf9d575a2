//! The logins that docker and podman keep: in a file, or by way of the programs that the file names.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::Helpers;
use crate::Secret;

/// What opens a registry.
#[derive(Clone, Debug)]
pub(super) enum Login {
    /// A user name and a password.
    Password(String, Secret),
    /// What a token server takes instead of a password, as a refresh token.
    Identity(Secret),
    /// What the registry itself takes.
    Registry(Secret),
}

/// What helpers said, by program and server.
type Answers = BTreeMap<(String, String), Result<Option<Login>, String>>;

/// Logins by registry, from files such as `config.json` and `auth.json`, each asked where the ones before have none.
#[derive(Debug, Default)]
pub struct DockerLogins {
    files: Vec<LoginFile>,
    /// How helpers are run. Without it none is.
    programs: Option<Helpers>,
    /// Each is asked once.
    asked: Mutex<Answers>,
}

/// What one file has.
#[derive(Debug)]
struct LoginFile {
    /// `host[:port][/namespace]` to its login.
    logins: BTreeMap<String, Login>,
    /// The helper of a registry, by its name.
    helpers: BTreeMap<String, String>,
    /// The helper of all others.
    store: Option<String>,
}

impl DockerLogins {
    /// Reads a file, to be asked after those that were read before. Entries that are no login are passed over.
    ///
    /// # Errors
    /// Says what is wrong; never what stands in the file.
    pub fn add(&mut self, text: &[u8]) -> Result<(), String> {
        #[derive(Deserialize)]
        struct File {
            #[serde(default)]
            auths: BTreeMap<String, Entry>,
            #[serde(rename = "credsStore")]
            store: Option<String>,
            #[serde(rename = "credHelpers", default)]
            helpers: BTreeMap<String, String>,
        }
        let file: File = serde_json::from_slice(text)
            .map_err(|error| format!("line {}, column {}", error.line(), error.column()))?;
        let logins = file.auths.into_iter();
        let logins =
            logins.filter_map(|(registry, entry)| Some((place(&registry), entry.login()?)));
        let helpers = file.helpers.into_iter();
        self.files.push(LoginFile {
            logins: logins.collect(),
            helpers: helpers
                .map(|(registry, name)| (place(&registry), name))
                .collect(),
            store: file.store.filter(|name| !name.is_empty()),
        });
        Ok(())
    }

    /// Runs the credential helpers that the files name.
    #[must_use]
    pub fn with_helpers(mut self, helpers: Helpers) -> Self {
        self.programs = Some(helpers);
        self
    }

    /// The login for a repository, from the first file that has one: what the registry's helper has, else the file's
    /// entry for the longest name that begins the repository's. The second value says why helpers could not be asked,
    /// which matters only where the login is missed.
    pub(super) fn find(&self, host: &str, repository: &str) -> (Option<Login>, Option<String>) {
        let mut problems = Vec::new();
        let found = self.files.iter().find_map(|file| {
            let helper = self.of_helper(file, &place(host));
            let helper = helper.unwrap_or_else(|problem| {
                problems.push(problem);
                None
            });
            helper.or_else(|| file.find(host, repository))
        });
        (found, (!problems.is_empty()).then(|| problems.join("; ")))
    }

    /// Asks the helper that a file has for a registry, once.
    fn of_helper(&self, file: &LoginFile, registry: &str) -> Result<Option<Login>, String> {
        let name = file.helpers.get(registry).or(file.store.as_ref());
        let (Some(name), Some(programs)) = (name, &self.programs) else {
            return Ok(None);
        };
        // The name under which docker keeps the login of its own registry.
        let server = match registry {
            "docker.io" => "https://index.docker.io/v1/",
            other => other,
        };
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (name.clone(), server.to_owned());
        let answer = asked.entry(key);
        answer.or_insert_with(|| programs.ask(name, server)).clone()
    }
}

impl LoginFile {
    fn find(&self, host: &str, repository: &str) -> Option<Login> {
        let mut wanted = place(&format!("{host}/{repository}"));
        loop {
            if let Some(login) = self.logins.get(&wanted) {
                return Some(login.clone());
            }
            wanted.truncate(wanted.rfind('/')?);
        }
    }
}

/// What the file has of a registry.
#[derive(Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl Entry {
    /// A token is newer than the password that it was given for.
    fn login(self) -> Option<Login> {
        let secret = |text: Option<String>| text.filter(|text| !text.is_empty());
        if let Some(token) = secret(self.identitytoken) {
            return Some(Login::Identity(Secret::new(&token)));
        }
        if let Some(token) = secret(self.registrytoken) {
            return Some(Login::Registry(Secret::new(&token)));
        }
        let encoded = self.auth.as_deref().and_then(decode);
        let (user, password) = encoded.or(self.username.zip(self.password))?;
        let password = Secret::new(&password);
        Some(match user.as_str() {
            "<token>" => Login::Identity(password),
            _ => Login::Password(user, password),
        })
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
            "quay.io/org":{{"username":"robot","password":"p"}},"localhost:5000":{{"auth":"{encoded}"}},
            "a.azurecr.io":{{"auth":"{encoded}","identitytoken":"hush"}},"b.example":{{"registrytoken":"hush"}}}},
            "credsStore":"desktop"}}"#
        );
        let mut logins = DockerLogins::default();
        logins.add(text.as_bytes()).unwrap();
        let found = |host, repository| logins.find(host, repository).0;
        let user = |host, repository| match found(host, repository) {
            Some(Login::Password(user, _)) => Some(user),
            _ => None,
        };
        assert_eq!(
            user("registry-1.docker.io", "library/a").as_deref(),
            Some("me")
        );
        assert_eq!(user("localhost:5000", "a").as_deref(), Some("me"));
        assert_eq!(user("localhost:5001", "a"), None);
        assert_eq!(user("quay.io", "org/a").as_deref(), Some("robot"));
        assert_eq!(user("quay.io", "other/a"), None);
        assert!(matches!(
            found("a.azurecr.io", "x"),
            Some(Login::Identity(_))
        ));
        assert!(matches!(found("b.example", "x"), Some(Login::Registry(_))));
        assert!(matches!(found("docker.io", "a"),
            Some(Login::Password(_, password)) if password.reveal() == "hush:hush"));
        assert!(!format!("{logins:?}").contains("hush"));
        let wrong = logins.add(br#"{"auths": "hush"}"#).unwrap_err();
        assert!(!wrong.contains("hush"), "{wrong}");
    }

    #[test]
    fn a_file_is_asked_where_those_before_it_have_no_login() {
        let login = |user: &str| format!(r#"{{"username":"{user}","password":"p"}}"#);
        let mut logins = DockerLogins::default();
        for text in [
            r#"{"credsStore":"absent"}"#.to_owned(),
            format!(
                r#"{{"auths":{{"a.example":{},"b.example":{{}}}}}}"#,
                login("one")
            ),
            format!(
                r#"{{"auths":{{"a.example/org":{0},"b.example":{0}}}}}"#,
                login("two")
            ),
        ] {
            logins.add(text.as_bytes()).unwrap();
        }
        let logins = logins.with_helpers(Helpers {
            folders: Vec::new(),
            patience: std::time::Duration::ZERO,
        });
        for (host, expected) in [
            ("a.example", Some("one")),
            ("b.example", Some("two")),
            ("c.example", None),
        ] {
            let (login, problem) = logins.find(host, "org/x");
            let user = login.map(|login| match login {
                Login::Password(user, _) => user,
                other => format!("{other:?}"),
            });
            assert_eq!(user.as_deref(), expected, "{host}");
            assert!(problem.unwrap().contains("docker-credential-absent"));
        }
    }
}
