//! Who is let in at a registry: its challenge, the login that answers it, and the token that comes of it.
//!
//! A token goes to the registry that asked for it, for the repository that it was asked for, and nowhere else: not
//! along a redirect, not to a mirror. A password goes to the registry's own token server.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use serde::Deserialize;

use super::DockerLogins;
use crate::web::{Ask, Credential, parse, shown};
use crate::{MirrorError, Secret, Web};

/// Logins, and the tokens that were given for them.
#[derive(Default)]
pub(crate) struct Doorman {
    pub(crate) logins: Vec<(Url, String, Secret)>,
    pub(crate) files: DockerLogins,
    passes: Mutex<BTreeMap<(String, String), Secret>>,
}

/// What a registry wants to be shown.
#[derive(Debug, Eq, PartialEq)]
enum Challenge {
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
    Basic,
}

impl Doorman {
    /// The value of the header that opens `url`, where one is known.
    pub(crate) fn pass(&self, url: &Url) -> Option<Secret> {
        let passes = self.passes.lock().unwrap_or_else(PoisonError::into_inner);
        passes.get(&door(url)?).cloned()
    }

    /// Answers a 401 of `url`, so that [`Doorman::pass`] knows a pass.
    pub(crate) fn answer(
        &self,
        web: &Web,
        url: &Url,
        headers: &HeaderMap,
    ) -> Result<(), MirrorError> {
        let refused = |problem: &str| MirrorError::Login {
            registry: shown(url),
            problem: problem.to_owned(),
        };
        let door = door(url).ok_or_else(|| refused("it wants a login for something else"))?;
        let login = self.login(url, &door.1);
        let basic = login.map(|(user, password)| {
            let pair = format!("{user}:{}", password.reveal());
            Secret::new(&format!("Basic {}", STANDARD.encode(pair)))
        });
        let pass = match challenge(headers) {
            Some(Challenge::Bearer {
                realm,
                service,
                scope,
            }) => {
                let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", door.1));
                let realm = token_address(url, &realm, service.as_deref(), &scope)?;
                let token = token(web, &realm, basic)?;
                Secret::new(&format!("Bearer {token}"))
            }
            Some(Challenge::Basic) => basic.ok_or_else(|| refused(self.no_login()))?,
            None => return Err(refused("it does not say how to log in")),
        };
        if HeaderValue::from_str(pass.reveal()).is_err() {
            return Err(MirrorError::Credential {
                url: shown(url),
                header: AUTHORIZATION.to_string(),
            });
        }
        let mut passes = self.passes.lock().unwrap_or_else(PoisonError::into_inner);
        passes.insert(door, pass);
        Ok(())
    }

    fn login(&self, url: &Url, repository: &str) -> Option<(&str, &Secret)> {
        let own = self
            .logins
            .iter()
            .find(|(home, _, _)| home.origin() == url.origin());
        if let Some((_, user, password)) = own {
            return Some((user, password));
        }
        let mut host = url.host_str()?.to_owned();
        if let Some(port) = url.port() {
            host = format!("{host}:{port}");
        }
        let (user, password) = self.files.find(&host, repository)?;
        Some((user, password))
    }

    fn no_login(&self) -> &'static str {
        if self.files.has_helper() {
            "it wants a user name and a password; those that a credential helper keeps are not read"
        } else {
            "it wants a user name and a password"
        }
    }
}

/// What a pass opens: a registry's scheme, host and port, and a repository.
fn door(url: &Url) -> Option<(String, String)> {
    let rest = url.path().strip_prefix("/v2/")?;
    let end = ["/manifests/", "/blobs/", "/referrers/", "/tags/"]
        .iter()
        .filter_map(|word| rest.rfind(word))
        .max()?;
    Some((url.origin().ascii_serialization(), rest[..end].to_owned()))
}

/// Where a token is asked for. A registry that is spoken to in secret has no public token server.
fn token_address(
    registry: &Url,
    realm: &str,
    service: Option<&str>,
    scope: &str,
) -> Result<Url, MirrorError> {
    let mut address = parse(realm)?;
    let secret = address.scheme() == "https";
    if !secret && (registry.scheme() == "https" || address.scheme() != "http") {
        return Err(MirrorError::Login {
            registry: shown(registry),
            problem: "its token server is not asked over HTTPS".to_owned(),
        });
    }
    let mut query = address.query_pairs_mut();
    if let Some(service) = service {
        query.append_pair("service", service);
    }
    query.append_pair("scope", scope);
    drop(query);
    Ok(address)
}

fn token(web: &Web, address: &Url, basic: Option<Secret>) -> Result<String, MirrorError> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let with_login = basic.is_some();
    let credentials: Vec<Credential> = basic
        .into_iter()
        .map(|value| Credential {
            home: address.clone(),
            name: AUTHORIZATION.to_string(),
            value,
        })
        .collect();
    let ask = Ask {
        credentials: &credentials,
        ..Ask::default()
    };
    let refused = |problem: &str| MirrorError::Login {
        registry: shown(address),
        problem: problem.to_owned(),
    };
    let page = web
        .text(address.as_str(), ask, LARGEST_TOKEN)
        .map_err(|error| match error {
            MirrorError::Status { status, .. } if status == 401 || status == 403 => {
                refused(if with_login {
                    "it does not take the login"
                } else {
                    "it wants a user name and a password"
                })
            }
            other => other,
        })?;
    let answer: Option<Answer> = serde_json::from_slice(&page.body).ok();
    answer
        .and_then(|answer| answer.token.or(answer.access_token))
        .filter(|token| !token.is_empty())
        .ok_or_else(|| refused("its answer has no token"))
}

const LARGEST_TOKEN: u64 = 1 << 20;

/// The challenge that can be answered; a token before a password.
fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let mut found = None;
    for value in headers.get_all(WWW_AUTHENTICATE) {
        let text = value.to_str().unwrap_or_default();
        let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
        match scheme.to_ascii_lowercase().as_str() {
            "bearer" => {
                let mut values = parameters(rest);
                if let Some(realm) = values.remove("realm") {
                    return Some(Challenge::Bearer {
                        realm,
                        service: values.remove("service"),
                        scope: values.remove("scope"),
                    });
                }
            }
            "basic" => found = Some(Challenge::Basic),
            _ => {}
        }
    }
    found
}

/// Reads `name="value",name=value`, with `\` before a letter of a quoted value.
fn parameters(text: &str) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let mut value = String::new();
        let end = if let Some(quoted) = after.strip_prefix('"') {
            let mut letters = quoted.char_indices();
            loop {
                match letters.next() {
                    None => break after.len(),
                    Some((at, '"')) => break at + 2,
                    Some((_, '\\')) => value.extend(letters.next().map(|(_, letter)| letter)),
                    Some((_, letter)) => value.push(letter),
                }
            }
        } else {
            let end = after.find(',').unwrap_or(after.len());
            after[..end].trim().clone_into(&mut value);
            end
        };
        let name = name.trim_start_matches([',', ' ']).trim();
        values.insert(name.to_ascii_lowercase(), value);
        rest = &after[end..];
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            Some(Challenge::Bearer {
                realm: realm.to_owned(),
                service: service.map(str::to_owned),
                scope: scope.map(str::to_owned),
            })
        };
        let scope = "repository:library/a:pull,push";
        for (lines, expected) in [
            (
                vec![
                    r#"Bearer realm="https://a/token",service="r",scope="repository:library/a:pull,push""#,
                ],
                bearer("https://a/token", Some("r"), Some(scope)),
            ),
            (
                vec!["Basic realm=x", r#"bearer Realm="https://a\/", error=x"#],
                bearer("https://a/", None, None),
            ),
            (vec!["Basic realm=\"x\""], Some(Challenge::Basic)),
            (vec!["Bearer service=x"], None),
            (
                vec![r#"Bearer realm="unended"#],
                bearer("unended", None, None),
            ),
            (vec!["Negotiate", ""], None),
        ] {
            let mut headers = HeaderMap::new();
            for line in &lines {
                headers.append(WWW_AUTHENTICATE, line.parse().unwrap());
            }
            assert_eq!(challenge(&headers), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_pass_is_for_one_repository_of_one_registry() {
        for (url, expected) in [
            ("https://a/v2/x/y/manifests/1", Some("x/y")),
            ("https://a/v2/x/blobs/blobs/sha256:0", Some("x/blobs")),
            (
                "https://a/v2/x/manifests/blobs/sha256:0",
                Some("x/manifests"),
            ),
            ("https://a/storage/x", None),
            ("https://a/v2/", None),
        ] {
            let found = door(&Url::parse(url).unwrap()).map(|(_, repository)| repository);
            assert_eq!(found.as_deref(), expected, "{url}");
        }
    }

    #[test]
    fn a_token_is_not_asked_for_in_the_open() {
        let registry = Url::parse("https://a/v2/").unwrap();
        let address = token_address(&registry, "https://b/t?x=1", Some("s"), "r:a:pull").unwrap();
        assert_eq!(
            address.as_str(),
            "https://b/t?x=1&service=s&scope=r%3Aa%3Apull"
        );
        for realm in ["http://b/t", "ftp://b/t"] {
            assert!(
                token_address(&registry, realm, None, "").is_err(),
                "{realm}"
            );
        }
    }
}
