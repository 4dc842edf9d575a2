//! Who may come in.
//!
//! Without a token the server answers this machine alone. A page in a browser on it could still send requests, or reach the
//! server by a name of its own that leads here: so requests must be JSON, which a page cannot send unasked, and must name
//! this machine.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use hyper::header::{AUTHORIZATION, HOST, HeaderMap};
use sha2::{Digest as _, Sha256};

use super::listener::Address;
use crate::chance;
use crate::error::RuntimeError;

/// The longest token that is read.
const LONGEST: u64 = 4096;

/// What a request must show.
#[derive(Clone)]
pub(crate) enum Door {
    /// That it was meant for this machine.
    ForThisMachine,
    /// The token with this digest.
    Token([u8; 32]),
}

/// Why a request is not let in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Shut {
    /// It was meant for another machine.
    ForeignHost,
    /// It does not show the token.
    NoToken,
}

impl Door {
    /// The token in a file, else that in the environment's `variable`. Where neither is there, one is made if the server
    /// is for others than this machine, and returned to be told once.
    pub(crate) fn settle(
        file: Option<&Path>,
        variable: &str,
        address: &Address,
    ) -> Result<(Self, Option<String>), RuntimeError> {
        let given = match file {
            Some(path) => Some(read(path)?),
            None => std::env::var(variable).ok().filter(|key| !key.is_empty()),
        };
        if let Some(token) = given {
            return Ok((Self::of(&token), None));
        }
        if address.is_of_this_machine() {
            return Ok((Self::ForThisMachine, None));
        }
        let token = chance::token().map_err(|source| RuntimeError::Listen {
            address: address.to_string(),
            source,
        })?;
        Ok((Self::of(&token), Some(token)))
    }

    pub(crate) fn of(token: &str) -> Self {
        Self::Token(Sha256::digest(token.as_bytes()).into())
    }

    /// Lets a request in, or says why not.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Shut> {
        match self {
            Self::ForThisMachine => {
                let host = headers.get(HOST).and_then(|host| host.to_str().ok());
                let meant = host.is_some_and(is_this_machine);
                meant.then_some(()).ok_or(Shut::ForeignHost)
            }
            Self::Token(_) => {
                let shown = headers.get(AUTHORIZATION);
                let shown = shown.and_then(|value| value.to_str().ok());
                let shown = shown.and_then(|value| value.split_once(' '));
                let shown = shown.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
                let opens = shown.is_some_and(|(_, token)| self.opens_by(token.trim()));
                opens.then_some(()).ok_or(Shut::NoToken)
            }
        }
    }

    /// Whether it has a token, and this is it.
    pub(crate) fn opens_by(&self, token: &str) -> bool {
        let Self::Token(wanted) = self else {
            return false;
        };
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        // Of digests, and all of it each time: how long it takes tells nothing about the token.
        let differing = digest.iter().zip(wanted);
        differing.fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
    }
}

fn read(path: &Path) -> Result<String, RuntimeError> {
    let wrong = |reason: String| RuntimeError::TokenFile {
        path: path.to_owned(),
        reason,
    };
    let size = fs::metadata(path)
        .map_err(|error| wrong(error.to_string()))?
        .len();
    if size > LONGEST {
        return Err(wrong(format!("it has more than {LONGEST} bytes")));
    }
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong(
            "it must hold one line of letters, digits and signs".to_owned(),
        ));
    }
    Ok(token.to_owned())
}

/// Whether a `Host` means this machine, whatever the port.
pub(crate) fn is_this_machine(host: &str) -> bool {
    let port = |rest: &str| rest.is_empty() || rest.starts_with(':');
    if let Some(rest) = host.strip_prefix('[') {
        let Some((inside, rest)) = rest.split_once(']') else {
            return false;
        };
        return port(rest) && inside.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    }
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    #[test]
    fn only_the_token_opens() {
        let door = Door::of("secret");
        assert!(door.check(&with("authorization", "Bearer secret")).is_ok());
        assert!(door.check(&with("authorization", "bearer  secret")).is_ok());
        for wrong in [
            "Bearer secre",
            "Bearer ",
            "secret",
            "Basic secret",
            "Bearer",
        ] {
            let refused = door.check(&with("authorization", wrong)).unwrap_err();
            assert_eq!(refused, Shut::NoToken, "{wrong}");
        }
        assert!(door.check(&with("host", "localhost")).is_err());
    }

    #[test]
    fn without_a_token_only_this_machine_is_meant() {
        for (host, open) in [
            ("localhost:8000", true),
            ("LOCALHOST", true),
            ("127.0.0.1:1", true),
            ("127.9.9.9", true),
            ("[::1]:8000", true),
            ("[::1", false),
            ("[::2]:80", false),
            ("10.0.0.1:80", false),
            ("localhost.evil.org", false),
            ("127.0.0.1.evil.org:8000", false),
            ("", false),
        ] {
            let found = Door::ForThisMachine.check(&with("host", host));
            assert_eq!(found.is_ok(), open, "{host}");
        }
        assert!(Door::ForThisMachine.check(&HeaderMap::new()).is_err());
    }

    #[test]
    fn a_token_file_holds_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        for (text, right) in [
            ("abc\n", true),
            ("", false),
            ("a b", false),
            ("a\nb", false),
            ("钥匙", false),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(read(&path).is_ok(), right, "{text:?}");
        }
        fs::write(&path, "a".repeat(5000)).unwrap();
        assert!(read(&path).is_err());
        assert!(read(&folder.path().join("none")).is_err());
    }
}
