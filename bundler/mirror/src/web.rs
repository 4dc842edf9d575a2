//! One HTTP client: redirects by hand, so that a token stays with its host; patience with busy servers.

use std::io::Read;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use reqwest::blocking::{Client, Response};
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, COOKIE, HeaderValue, LOCATION, RANGE,
};
use reqwest::redirect::Policy;
use serde::Deserialize;

use crate::image::{DockerLogins, Doorman};
use crate::page::{Page, header, parse, percent_decode, shown};
use crate::patience::{Paced, Patience, wait};
use crate::{MirrorError, Secret};

/// A client for every source. Proxies come from the environment (`HTTPS_PROXY`, `NO_PROXY`, …).
pub struct Web {
    /// Reading this machine's certificates takes longer than laying out a bundle.
    client: OnceLock<Client>,
    credentials: Vec<Credential>,
    doorman: Doorman,
    pub(crate) patience: Patience,
}

/// A header that only one scheme, host and port may see.
#[derive(Clone, Debug)]
pub(crate) struct Credential {
    pub(crate) home: Url,
    pub(crate) name: String,
    pub(crate) value: Secret,
}

/// What to ask for.
#[derive(Clone, Copy, Default)]
pub(crate) struct Ask<'a> {
    /// Headers for every server on the way.
    pub(crate) headers: &'a [(String, String)],
    /// Headers for one server alone.
    pub(crate) credentials: &'a [Credential],
    pub(crate) accept: Option<&'a str>,
    /// First byte wanted, and last, when not all of them.
    pub(crate) range: Option<(u64, Option<u64>)>,
    /// Whether a container registry is asked: its challenge is answered.
    pub(crate) registry: bool,
    /// A form to send; it holds a secret, so no redirect may have it.
    pub(crate) form: Option<&'a Secret>,
}

impl Web {
    /// A client without any token, ready to ask.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(patience: Patience) -> Result<Self, MirrorError> {
        let web = Self::on_demand(patience);
        web.client()?;
        Ok(web)
    }

    /// The same for one who may find everything in the cache: TLS is set up when a server is asked first.
    pub fn on_demand(patience: Patience) -> Self {
        Self {
            client: OnceLock::new(),
            credentials: Vec::new(),
            doorman: Doorman::default(),
            patience,
        }
    }

    fn client(&self) -> Result<&Client, MirrorError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = Client::builder()
            .user_agent(concat!("ferry-bundler/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .connect_timeout(Duration::from_secs(30))
            // Of each read, not of the whole transfer.
            .timeout(self.patience.silence)
            .build()
            .map_err(|source| MirrorError::Connection {
                url: "TLS".to_owned(),
                source: Box::new(source),
            })?;
        Ok(self.client.get_or_init(|| client))
    }

    /// Logs in at the scheme, host and port of `registry`, and at no other.
    ///
    /// # Errors
    /// When `registry` is not an address.
    pub fn with_registry_login(
        mut self,
        registry: &str,
        user: &str,
        password: &Secret,
    ) -> Result<Self, MirrorError> {
        let login = (parse(registry)?, user.to_owned(), password.clone());
        self.doorman.logins.push(login);
        Ok(self)
    }

    /// Logs in at registries as docker or podman would.
    #[must_use]
    pub fn with_docker_logins(mut self, logins: DockerLogins) -> Self {
        self.doorman.files = logins;
        self
    }

    /// Sends `token` to the scheme, host and port of `endpoint`, and to no other.
    ///
    /// # Errors
    /// When `endpoint` is not an address.
    pub fn with_token(self, endpoint: &str, token: &Secret) -> Result<Self, MirrorError> {
        let value = Secret::new(&format!("Bearer {}", token.reveal()));
        self.with_header(endpoint, AUTHORIZATION.as_str(), value)
    }

    /// Sends a cookie to the scheme, host and port of `endpoint`, and to no other.
    ///
    /// # Errors
    /// When `endpoint` is not an address.
    pub fn with_cookie(
        self,
        endpoint: &str,
        name: &str,
        value: &Secret,
    ) -> Result<Self, MirrorError> {
        let value = Secret::new(&format!("{name}={}", value.reveal()));
        self.with_header(endpoint, COOKIE.as_str(), value)
    }

    /// Takes the user name and password out of an address, sends them to its host and to no other, and returns the
    /// address without them.
    ///
    /// # Errors
    /// When `address` is not an address.
    pub fn with_login(self, address: &str) -> Result<(Self, String), MirrorError> {
        let mut url = parse(address)?;
        if url.username().is_empty() && url.password().is_none() {
            return Ok((self, address.to_owned()));
        }
        let plain = |text: &str| percent_decode(text);
        let login = [
            plain(url.username()),
            plain(url.password().unwrap_or_default()),
        ]
        .join(":");
        let _ = url.set_username("");
        let _ = url.set_password(None);
        let value = Secret::new(&format!("Basic {}", STANDARD.encode(login)));
        let web = self.with_header(url.as_str(), AUTHORIZATION.as_str(), value)?;
        Ok((web, url.into()))
    }

    fn with_header(mut self, home: &str, name: &str, value: Secret) -> Result<Self, MirrorError> {
        self.credentials.push(Credential {
            home: parse(home)?,
            name: name.to_owned(),
            value,
        });
        Ok(self)
    }

    /// One request; redirects are followed, anything but success is an error.
    pub(crate) fn once(&self, url: &str, ask: Ask) -> Result<Response, MirrorError> {
        let mut at = parse(url)?;
        let home = at.origin();
        let mut answered = !ask.registry;
        for _ in 0..10 {
            let response = self.send(&at, ask)?;
            let status = response.status();
            if status.as_u16() == 401 && !answered && at.origin() == home {
                self.doorman.answer(self, &at, response.headers())?;
                answered = true;
                continue;
            }
            if !status.is_redirection() || status.as_u16() == 304 {
                if status.is_success() {
                    return Ok(response);
                }
                let refused = refusal(&at, response, ask.registry);
                if ask.registry && answered && at.origin() == home {
                    return Err(self.doorman.explained(refused, &at));
                }
                return Err(refused);
            }
            if ask.form.is_some() {
                return Err(MirrorError::Redirect {
                    url: shown(&at),
                    problem: "with a token that is for this server alone".to_owned(),
                });
            }
            let location = header(response.headers(), LOCATION.as_str()).unwrap_or_default();
            let next = at.join(&location).map_err(|error| MirrorError::Redirect {
                url: shown(&at),
                problem: error.to_string(),
            })?;
            if at.scheme() == "https" && next.scheme() != "https" {
                return Err(MirrorError::Redirect {
                    url: shown(&at),
                    problem: "from HTTPS to plain HTTP".to_owned(),
                });
            }
            at = next;
        }
        Err(MirrorError::Redirect {
            url: shown(&at),
            problem: "more than 10 times".to_owned(),
        })
    }

    /// A request that is tried again while trying again may help.
    pub(crate) fn patiently(&self, url: &str, ask: Ask) -> Result<Response, MirrorError> {
        self.again(|| self.once(url, ask))
    }

    /// A whole answer of at most `limit` bytes.
    pub(crate) fn text(&self, url: &str, ask: Ask, limit: u64) -> Result<Page, MirrorError> {
        self.again(|| self.read_all(url, ask, limit))
    }

    fn again<T>(&self, ask: impl Fn() -> Result<T, MirrorError>) -> Result<T, MirrorError> {
        let mut failure = 0;
        loop {
            match ask() {
                Err(error) if error.may_pass() && failure + 1 < self.patience.attempts => {
                    thread::sleep(self.patience.pause(failure, &error));
                    failure += 1;
                }
                done => return done,
            }
        }
    }

    fn read_all(&self, url: &str, ask: Ask, limit: u64) -> Result<Page, MirrorError> {
        let response = self.once(url, ask)?;
        let at = response.url().clone();
        let headers = response.headers().clone();
        let mut body = Vec::new();
        Paced::new(response, self.patience)
            .take(limit + 1)
            .read_to_end(&mut body)
            .map_err(|source| MirrorError::Connection {
                url: shown(&at),
                source: Box::new(source),
            })?;
        if body.len() as u64 > limit {
            return Err(MirrorError::Answer {
                url: shown(&at),
                problem: format!("more than {limit} bytes"),
            });
        }
        Ok(Page { at, headers, body })
    }

    fn send(&self, url: &Url, ask: Ask) -> Result<Response, MirrorError> {
        let client = self.client()?;
        let mut request = match ask.form {
            None => client.get(url.clone()),
            Some(form) => client
                .post(url.clone())
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form.reveal().to_owned()),
        };
        // The lock pins bytes, so no server may repack them on the way.
        request = request.header(ACCEPT_ENCODING, "identity");
        if let Some(accept) = ask.accept {
            request = request.header(ACCEPT, accept);
        }
        if let Some((first, last)) = ask.range {
            let last = last.map_or_else(String::new, |last| last.to_string());
            request = request.header(RANGE, format!("bytes={first}-{last}"));
        }
        for (name, value) in ask.headers {
            request = request.header(name, value);
        }
        let pass = ask.registry.then(|| self.doorman.pass(url)).flatten();
        let pass = pass.map(|value| Credential {
            home: url.clone(),
            name: AUTHORIZATION.to_string(),
            value,
        });
        let credentials = self.credentials.iter().chain(ask.credentials).chain(&pass);
        for credential in credentials.filter(|one| one.home.origin() == url.origin()) {
            let value = HeaderValue::from_str(credential.value.reveal());
            let mut value = value.map_err(|_| MirrorError::Credential {
                url: shown(url),
                header: credential.name.clone(),
            })?;
            value.set_sensitive(true);
            request = request.header(&credential.name, value);
        }
        request.send().map_err(|source| MirrorError::Connection {
            url: shown(url),
            source: Box::new(source.without_url()),
        })
    }
}

/// What an answer that is no success means.
fn refusal(at: &Url, response: Response, registry: bool) -> MirrorError {
    let (status, url) = (response.status().as_u16(), shown(at));
    let wait = wait(response.headers());
    let mut reason = header(response.headers(), "x-error-code");
    if registry {
        reason = registry_reason(response);
        if status == 401 || status == 403 {
            let problem = reason.unwrap_or_else(|| format!("it answered {status}"));
            let registry = url;
            return MirrorError::Login { registry, problem };
        }
    }
    MirrorError::Status {
        url,
        status,
        reason,
        wait,
    }
}

/// The first of the errors that a registry lists.
fn registry_reason(response: Response) -> Option<String> {
    #[derive(Deserialize)]
    struct Answer {
        errors: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        code: String,
        message: Option<String>,
    }
    let mut body = Vec::new();
    response.take(64 << 10).read_to_end(&mut body).ok()?;
    let answer: Answer = serde_json::from_slice(&body).ok()?;
    let first = answer.errors.into_iter().next()?;
    let text = match first.message.filter(|message| !message.is_empty()) {
        Some(message) => format!("{}: {message}", first.code),
        None => first.code,
    };
    let plain = text.chars().map(|c| if c.is_control() { '?' } else { c });
    Some(plain.take(200).collect())
}
