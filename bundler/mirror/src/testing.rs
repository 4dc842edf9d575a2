//! The readers of what servers answer, without a server: for tests that feed them anything.

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderValue};

use crate::page::Page;
use crate::tags::WheelName;
use crate::{IndexFile, hub, modelscope, pypi, resolve};

/// Files of a package index's page, as JSON or else as HTML; `None` where it is no such page.
pub fn index_page(json: bool, body: &[u8]) -> Option<Vec<IndexFile>> {
    let page = page(body, None)?;
    if json {
        pypi::from_json(&page).ok()
    } else {
        Some(pypi::from_html(&page.at, &String::from_utf8_lossy(body)))
    }
}

/// How many files the Hugging Face Hub's listing names; `None` where it is no listing.
pub fn hub_listing(body: &[u8]) -> Option<usize> {
    hub::listed(&page(body, None)?)
        .ok()
        .map(|files| files.len())
}

/// How many files ModelScope's listing names; `None` where it is no listing.
pub fn scope_listing(body: &[u8]) -> Option<usize> {
    let page = page(body, None)?;
    modelscope::entries(&page, "org/name")
        .ok()
        .map(|files| files.len())
}

/// Where a listing goes on, by the header `link`.
pub fn next_page(link: &[u8]) -> Option<String> {
    page(b"", Some(link))?.next()
}

/// How many packages a resolver's answer pins, and whether `text` is the name of a wheel.
pub fn names(text: &str) -> (usize, bool) {
    (resolve::pins(text).len(), WheelName::parse(text).is_some())
}

fn page(body: &[u8], link: Option<&[u8]>) -> Option<Page> {
    let mut headers = HeaderMap::new();
    if let Some(link) = link {
        headers.insert("link", HeaderValue::from_bytes(link).ok()?);
    }
    Some(Page {
        at: Url::parse("https://example.org/simple/demo/").ok()?,
        headers,
        body: body.to_vec(),
    })
}
