//! Who may use the page.
//!
//! Beside what [`Door`] asks: a name that leads here is taken only where it is known, so that no page elsewhere can reach the
//! server by a name of its own; and what changes something must come from our own page, or show the token itself.

use hyper::Method;
use hyper::header::{AUTHORIZATION, COOKIE, HOST, HeaderMap, ORIGIN};

use super::error::WebError;
use crate::http::{Door, is_this_machine};

/// What our page sends, and a page of another server cannot send unasked.
const MARK: &str = "x-ferry";
/// Where a browser says from where a request comes.
const SITE: &str = "sec-fetch-site";

/// Who may use the page.
pub(super) struct Gate {
    pub(super) door: Door,
    /// Names by which this machine is known to browsers.
    pub(super) names: Vec<String>,
    /// Of the cookie that holds the token: cookies know no ports.
    pub(super) cookie: String,
}

impl Gate {
    /// Whether the request means this server.
    pub(super) fn is_meant(&self, headers: &HeaderMap) -> Result<(), WebError> {
        let host = header(headers, HOST.as_str()).unwrap_or_default();
        let meant = is_this_machine(host)
            || match &self.door {
                Door::ForThisMachine => false,
                Door::Token(_) => is_number(host) || self.knows(host),
            };
        meant.then_some(()).ok_or(WebError::ForeignHost)
    }

    /// Lets a request for data in, or says why not.
    pub(super) fn check(&self, method: &Method, headers: &HeaderMap) -> Result<(), WebError> {
        let bearer = header(headers, AUTHORIZATION.as_str());
        let bearer = bearer.and_then(|shown| shown.strip_prefix("Bearer "));
        if bearer.is_some_and(|token| self.door.opens_by(token.trim())) {
            return Ok(());
        }
        if let Door::Token(_) = self.door
            && !self.cookies(headers).any(|token| self.door.opens_by(token))
        {
            return Err(WebError::NoToken);
        }
        Gate::is_own(method, headers)
    }

    /// Whether the request comes from our own page.
    pub(super) fn is_own(method: &Method, headers: &HeaderMap) -> Result<(), WebError> {
        let site = header(headers, SITE);
        let own_site = site.is_none_or(|site| matches!(site, "same-origin" | "none"));
        let marked = *method == Method::GET || headers.contains_key(MARK);
        let origin = header(headers, ORIGIN.as_str());
        let origin = origin.map(|origin| origin.split_once("://").map(|(_, host)| host));
        let own_origin = origin.is_none_or(|origin| origin == header(headers, HOST.as_str()));
        let own = own_site && marked && own_origin;
        own.then_some(()).ok_or(WebError::ForeignPage)
    }

    fn cookies<'a>(&'a self, headers: &'a HeaderMap) -> impl Iterator<Item = &'a str> {
        let all = headers.get_all(COOKIE).iter();
        let all = all.filter_map(|value| value.to_str().ok());
        let all = all.flat_map(|value| value.split(';'));
        all.filter_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            (name == self.cookie).then_some(value)
        })
    }

    fn knows(&self, host: &str) -> bool {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        self.names
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name))
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Whether a `Host` is an address in numbers: no name leads to it, so none can be made to.
fn is_number(host: &str) -> bool {
    use std::net::{IpAddr, SocketAddr};
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.parse::<SocketAddr>().is_ok() || bare.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, value.parse().unwrap());
        }
        headers
    }

    fn gate(door: Door) -> Gate {
        Gate {
            door,
            names: vec!["trainer".to_owned()],
            cookie: "ferry-7860".to_owned(),
        }
    }

    #[test]
    fn only_known_names_lead_here() {
        let (open, closed) = (gate(Door::ForThisMachine), gate(Door::of("secret")));
        for (host, without, with) in [
            ("localhost:7860", true, true),
            ("127.0.0.1:7860", true, true),
            ("[::1]:7860", true, true),
            ("10.0.0.7:7860", false, true),
            ("[fe80::1]:7860", false, true),
            ("Trainer:7860", false, true),
            ("trainer", false, true),
            ("trainer.evil.org", false, false),
            ("evil.org:7860", false, false),
            ("", false, false),
        ] {
            let headers = headers(&[("host", host)]);
            assert_eq!(open.is_meant(&headers).is_ok(), without, "{host}");
            assert_eq!(closed.is_meant(&headers).is_ok(), with, "{host}");
        }
    }

    #[test]
    fn what_changes_something_comes_from_our_page() {
        let gate = gate(Door::ForThisMachine);
        let host = ("host", "localhost:7860");
        for (what, method, pairs, right) in [
            ("a look", Method::GET, &[][..], true),
            ("an unmarked change", Method::POST, &[], false),
            ("a marked change", Method::POST, &[("x-ferry", "1")], true),
            (
                "our own origin",
                Method::POST,
                &[("x-ferry", "1"), ("origin", "http://localhost:7860")],
                true,
            ),
            (
                "another origin",
                Method::POST,
                &[("x-ferry", "1"), ("origin", "http://evil.org")],
                false,
            ),
            (
                "another port",
                Method::POST,
                &[("x-ferry", "1"), ("origin", "http://localhost:1")],
                false,
            ),
            (
                "no origin",
                Method::POST,
                &[("x-ferry", "1"), ("origin", "null")],
                false,
            ),
            (
                "another site's look",
                Method::GET,
                &[("sec-fetch-site", "cross-site")],
                false,
            ),
        ] {
            let mut all = vec![host];
            all.extend(pairs);
            assert_eq!(gate.check(&method, &headers(&all)).is_ok(), right, "{what}");
        }
    }

    #[test]
    fn a_token_comes_in_a_cookie_or_by_itself() {
        let gate = gate(Door::of("secret"));
        for (what, pairs, right) in [
            ("nothing", &[][..], false),
            ("the cookie", &[("cookie", "a=b; ferry-7860=secret")], true),
            ("another cookie", &[("cookie", "ferry-1=secret")], false),
            ("a wrong cookie", &[("cookie", "ferry-7860=secre")], false),
            ("the token", &[("authorization", "Bearer secret")], true),
            ("a wrong token", &[("authorization", "Bearer x")], false),
        ] {
            let found = gate.check(&Method::GET, &headers(pairs));
            assert_eq!(found.is_ok(), right, "{what}");
        }
        // A script that shows the token itself is no page.
        let script = headers(&[("authorization", "Bearer secret")]);
        assert!(gate.check(&Method::POST, &script).is_ok());
        let page = headers(&[("cookie", "ferry-7860=secret")]);
        assert!(gate.check(&Method::POST, &page).is_err());
    }
}
