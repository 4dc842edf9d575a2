//! Who is let in at a registry: its challenge, the login that answers it, and the token that comes of it.
//!
//! A token goes to the registry that asked for it, for the repository that it was asked for, and nowhere else: not
//! along a redirect, not to a mirror. A password or an identity token goes to the registry's own token server.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use serde::Deserialize;

use super::DockerLogins;
use super::login::Login;
use crate::page::{parse, shown};
use crate::web::{Ask, Credential};
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
        let (login, _) = self.login(url, &door.1);
        let pass = match challenge(headers) {
            Some(Challenge::Bearer {
                realm,
                service,
                scope,
            }) => {
                let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", door.1));
                let server = token_server(url, &realm)?;
                let token = match &login {
                    Some(Login::Registry(token)) => token.reveal().to_owned(),
                    Some(Login::Identity(token)) => {
                        exchange(web, &server, service.as_deref(), &scope, token)?
                    }
                    Some(Login::Password(..)) | None => {
                        let server = asked(server, service.as_deref(), &scope);
                        let basic = login.as_ref().and_then(basic);
                        token(web, &server, basic).map_err(|error| self.explained(error, url))?
                    }
                };
                Secret::new(&format!("Bearer {token}"))
            }
            Some(Challenge::Basic) => match &login {
                Some(login) => basic(login)
                    .ok_or_else(|| refused("it wants a user name and a password, not a token"))?,
                None => return Err(self.explained(refused(NO_LOGIN), url)),
            },
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

    /// Adds to a refusal by the registry at `url` why a credential helper could not be asked.
    pub(crate) fn explained(&self, error: MirrorError, url: &Url) -> MirrorError {
        let MirrorError::Login { registry, problem } = error else {
            return error;
        };
        let repository = door(url).map(|door| door.1).unwrap_or_default();
        let problem = match self.login(url, &repository) {
            (None, Some(helper)) => format!("{problem}; {helper}"),
            _ => problem,
        };
        MirrorError::Login { registry, problem }
    }

    fn login(&self, url: &Url, repository: &str) -> (Option<Login>, Option<String>) {
        let own = self
            .logins
            .iter()
            .find(|(home, _, _)| home.origin() == url.origin());
        if let Some((_, user, password)) = own {
            return (Some(Login::Password(user.clone(), password.clone())), None);
        }
        let Some(host) = url.host_str() else {
            return (None, None);
        };
        match url.port() {
            Some(port) => self.files.find(&format!("{host}:{port}"), repository),
            None => self.files.find(host, repository),
        }
    }
}

/// The header for a user name and a password.
fn basic(login: &Login) -> Option<Secret> {
    let Login::Password(user, password) = login else {
        return None;
    };
    let pair = format!("{user}:{}", password.reveal());
    Some(Secret::new(&format!("Basic {}", STANDARD.encode(pair))))
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
fn token_server(registry: &Url, realm: &str) -> Result<Url, MirrorError> {
    let address = parse(realm)?;
    let secret = address.scheme() == "https";
    if !secret && (registry.scheme() == "https" || address.scheme() != "http") {
        return Err(MirrorError::Login {
            registry: shown(registry),
            problem: "its token server is not asked over HTTPS".to_owned(),
        });
    }
    Ok(address)
}

/// The address with its question, as a server that is asked by `GET` wants it.
fn asked(mut server: Url, service: Option<&str>, scope: &str) -> Url {
    let mut query = server.query_pairs_mut();
    if let Some(service) = service {
        query.append_pair("service", service);
    }
    query.append_pair("scope", scope);
    drop(query);
    server
}

/// Asks for a token with a user name and a password, or for one that everybody gets.
fn token(web: &Web, address: &Url, basic: Option<Secret>) -> Result<String, MirrorError> {
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
    let why = if with_login {
        "it does not take the login"
    } else {
        NO_LOGIN
    };
    given(web, address, ask, why)
}

/// Has a token made of an identity token, as OAuth 2 refreshes one.
fn exchange(
    web: &Web,
    server: &Url,
    service: Option<&str>,
    scope: &str,
    identity: &Secret,
) -> Result<String, MirrorError> {
    // The address' own way to write a form.
    let mut form = server.clone();
    form.set_query(None);
    form.query_pairs_mut()
        .append_pair("grant_type", "refresh_token")
        .append_pair("service", service.unwrap_or_default())
        .append_pair("client_id", "ferry-bundler")
        .append_pair("scope", scope)
        .append_pair("refresh_token", identity.reveal());
    let form = Secret::new(form.query().unwrap_or_default());
    let ask = Ask {
        form: Some(&form),
        ..Ask::default()
    };
    given(web, server, ask, "it does not take the identity token")
}

/// The token in a server's answer. `why` says what it means that the server gives none.
fn given(web: &Web, server: &Url, ask: Ask, why: &str) -> Result<String, MirrorError> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let refused = |problem: &str| MirrorError::Login {
        registry: shown(server),
        problem: problem.to_owned(),
    };
    let page = web
        .text(server.as_str(), ask, LARGEST_TOKEN)
        .map_err(|error| match error {
            // A refresh token that is too old is a bad request.
            MirrorError::Status { status: 400, .. } if ask.form.is_some() => refused(why),
            MirrorError::Status {
                status: 401 | 403, ..
            } => refused(why),
            other => other,
        })?;
    let answer: Option<Answer> = serde_json::from_slice(&page.body).ok();
    answer
        .and_then(|answer| answer.token.or(answer.access_token))
        .filter(|token| !token.is_empty())
        .ok_or_else(|| refused("its answer has no token"))
}

const NO_LOGIN: &str = "it wants a user name and a password";
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
        let server = token_server(&registry, "https://b/t?x=1").unwrap();
        let address = asked(server, Some("s"), "r:a:pull");
        assert_eq!(
            address.as_str(),
            "https://b/t?x=1&service=s&scope=r%3Aa%3Apull"
        );
        for realm in ["http://b/t", "ftp://b/t"] {
            assert!(token_server(&registry, realm).is_err(), "{realm}");
        }
    }
}
