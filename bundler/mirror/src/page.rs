//! Addresses and answers, as everything that asks a server reads them.

use reqwest::Url;
use reqwest::header::{CONTENT_TYPE, HeaderMap};

use crate::MirrorError;

/// An answer that was read to its end.
pub(crate) struct Page {
    pub(crate) at: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Page {
    pub(crate) fn content_type(&self) -> String {
        header(&self.headers, CONTENT_TYPE.as_str()).unwrap_or_default()
    }

    /// Where the answer goes on, as `Link: <…>; rel="next"` says.
    pub(crate) fn next(&self) -> Option<String> {
        let link = header(&self.headers, "link")?;
        let next = link
            .split(',')
            .find(|part| part.contains("rel=\"next\"") || part.contains("rel=next"))?;
        let (_, rest) = next.split_once('<')?;
        let (target, _) = rest.split_once('>')?;
        self.at.join(target).ok().map(String::from)
    }
}

pub(crate) fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

pub(crate) fn parse(url: &str) -> Result<Url, MirrorError> {
    // Where it cannot be told apart, a password may stand anywhere before the last `@`.
    let shown = || match url.rsplit_once('@') {
        Some((_, rest)) => rest,
        None => url,
    };
    Url::parse(url).map_err(|error| MirrorError::Answer {
        url: shown()
            .split(['?', '#'])
            .next()
            .unwrap_or_default()
            .to_owned(),
        problem: error.to_string(),
    })
}

/// An address without its query, password and fragment: those may be secrets.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}

/// Undoes `%XX` in a user name or password.
pub(crate) fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_what_may_be_secret() {
        let shown = |url| shown(&Url::parse(url).unwrap());
        assert_eq!(
            shown("https://me:hush@a.example/x?token=hush#hush"),
            "https://a.example/x"
        );
        for url in [
            "https://me:hu#sh@a.example/x",
            "https://me:hush@a.example:port/x?hush",
            "//me:hush@a.example",
            "https://a.example:port/?hush#hush",
        ] {
            let error = parse(url).unwrap_err().to_string();
            assert!(error.contains("a.example"), "{error}");
            assert!(!error.contains("hu"), "{error}");
        }
    }
}
