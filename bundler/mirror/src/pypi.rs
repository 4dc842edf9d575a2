//! A Python package index: PEP 691 JSON, or the HTML of PEP 503, which is all that some mirrors speak.

use std::collections::BTreeSet;

use manifest_schema::Digest;
use manifest_schema::plan::{ArchiveKind, WheelTarget};
use reqwest::Url;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE};
use serde::Deserialize;

use crate::page::{Page, header, parse, shown};
use crate::tags::{WheelName, same_version};
use crate::web::{Ask, Credential};
use crate::{MirrorError, Pin, RequirementError, Secret, Web};

/// A project's name as the index spells it (PEP 503).
pub fn normalized(name: &str) -> String {
    name.split(['-', '_', '.'])
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("-")
        .to_ascii_lowercase()
}

/// A file that an index offers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IndexFile {
    /// Its name.
    pub file_name: String,
    /// Where it is.
    pub url: String,
    /// Its SHA-256.
    pub digest: Digest,
    /// Its bytes, where the index says how many.
    pub size: Option<u64>,
    /// Whether its publisher withdrew it.
    pub yanked: bool,
}

/// One index.
pub struct PackageIndex<'a> {
    web: &'a Web,
    url: String,
}

const ACCEPT: &str = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01";
/// The page of a project with ten thousand files has 20 MB.
const LARGEST_PAGE: u64 = 256 << 20;

impl<'a> PackageIndex<'a> {
    /// The index at `url`, such as `https://pypi.org/simple`.
    pub fn new(web: &'a Web, url: &str) -> Self {
        Self {
            web,
            url: url.trim_end_matches('/').to_owned(),
        }
    }

    /// The one file of `project` `version` that suits: the source archive, or the fittest wheel.
    ///
    /// # Errors
    /// When the index does not answer, or has none.
    pub fn find(
        &self,
        project: &str,
        version: &str,
        kind: ArchiveKind,
        target: Option<&WheelTarget>,
    ) -> Result<IndexFile, MirrorError> {
        let best = best(self.files(project)?, project, version, kind, target);
        self.complete(best, project, version, &wanted(kind, target))
    }

    /// The fittest wheel of a pin for `target`, among those with one of the digests that were given for it.
    ///
    /// # Errors
    /// When the index does not answer, or has none.
    pub fn find_pinned(
        &self,
        pin: &Pin,
        target: &WheelTarget,
        digests: Option<&BTreeSet<Digest>>,
    ) -> Result<IndexFile, MirrorError> {
        let (project, version) = (&pin.project, &pin.version);
        let mut files = self.files(project)?;
        if let Some(digests) = digests {
            let there = fittest(files.clone(), project, version, target).is_some();
            files.retain(|file| digests.contains(&file.digest));
            if there && fittest(files.clone(), project, version, target).is_none() {
                return Err(MirrorError::Requirement(RequirementError::Hash {
                    project: project.clone(),
                    version: version.clone(),
                    target: described(target),
                }));
            }
        }
        let wheel = fittest(files, project, version, target);
        let wanted = wanted(ArchiveKind::Wheel, Some(target));
        self.complete(wheel, project, version, &wanted)
    }

    /// A file with its size, or the error that there is none.
    fn complete(
        &self,
        found: Option<IndexFile>,
        project: &str,
        version: &str,
        wanted: &str,
    ) -> Result<IndexFile, MirrorError> {
        let Some(mut file) = found else {
            return Err(MirrorError::NoFile {
                index: parse(&self.url).map_or_else(|_| self.url.clone(), |url| shown(&url)),
                project: project.to_owned(),
                version: version.to_owned(),
                wanted: wanted.to_owned(),
            });
        };
        if file.size.is_none() {
            file.size = Some(size_of(self.web, &file.url)?);
        }
        Ok(file)
    }

    /// Every file of a project whose SHA-256 the index gives.
    ///
    /// # Errors
    /// When the index does not answer, or not as its protocol says.
    pub fn files(&self, project: &str) -> Result<Vec<IndexFile>, MirrorError> {
        let url = format!("{}/{}/", self.url, normalized(project));
        let ask = Ask {
            accept: Some(ACCEPT),
            ..Ask::default()
        };
        let page = self.web.text(&url, ask, LARGEST_PAGE)?;
        if page.content_type().contains("json") {
            from_json(&page)
        } else {
            let text = String::from_utf8_lossy(&page.body);
            Ok(from_html(&page.at, &text))
        }
    }
}

/// The file of `project` `version` that suits best.
fn best(
    files: impl IntoIterator<Item = IndexFile>,
    project: &str,
    version: &str,
    kind: ArchiveKind,
    target: Option<&WheelTarget>,
) -> Option<IndexFile> {
    let suits = |file: &IndexFile| match kind {
        ArchiveKind::Wheel => WheelName::parse(&file.file_name)
            .filter(|wheel| wheel.is(project, version))
            .and_then(|wheel| wheel.fitness(target)),
        ArchiveKind::Sdist => is_sdist(&file.file_name, project, version).then_some((0, 0, 0)),
    };
    files
        .into_iter()
        .filter_map(|file| Some((suits(&file)?, !file.yanked, file)))
        // Names differ, so that there is one answer whatever order the index lists them in.
        .max_by(|(a, a_kept, a_file), (b, b_kept, b_file)| {
            (a_kept, a, &b_file.file_name).cmp(&(b_kept, b, &a_file.file_name))
        })
        .map(|(_, _, file)| file)
}

/// The wheel of `project` `version` that suits `target` best.
pub(crate) fn fittest(
    files: impl IntoIterator<Item = IndexFile>,
    project: &str,
    version: &str,
    target: &WheelTarget,
) -> Option<IndexFile> {
    best(files, project, version, ArchiveKind::Wheel, Some(target))
}

/// A target in words.
pub(crate) fn described(target: &WheelTarget) -> String {
    format!(
        "Python {} on {} with glibc {}",
        target.python, target.arch, target.glibc
    )
}

fn wanted(kind: ArchiveKind, target: Option<&WheelTarget>) -> String {
    match (kind, target) {
        (ArchiveKind::Sdist, _) => "source archive".to_owned(),
        (ArchiveKind::Wheel, None) => "wheel for every machine".to_owned(),
        (ArchiveKind::Wheel, Some(target)) => format!("wheel for {}", described(target)),
    }
}

fn is_sdist(file_name: &str, project: &str, version: &str) -> bool {
    file_name
        .strip_suffix(".tar.gz")
        .or_else(|| file_name.strip_suffix(".zip"))
        .and_then(|stem| stem.rsplit_once('-'))
        .is_some_and(|(name, found)| {
            normalized(name) == normalized(project) && same_version(found, version)
        })
}

/// How many bytes a file has: asked for by its first byte, since not every server answers HEAD.
///
/// # Errors
/// When the server does not answer, or does not say.
pub fn size_of(web: &Web, url: &str) -> Result<u64, MirrorError> {
    size_with(web, url, &[], &[])
}

/// [`size_of`] a file whose server asks for headers; `secrets` are shown to that server alone.
///
/// # Errors
/// When the server does not answer, or does not say.
pub fn size_with(
    web: &Web,
    url: &str,
    headers: &[(String, String)],
    secrets: &[(String, Secret)],
) -> Result<u64, MirrorError> {
    let home = parse(url)?;
    let credential = |(name, value): &(String, Secret)| Credential {
        home: home.clone(),
        name: name.clone(),
        value: value.clone(),
    };
    let credentials: Vec<Credential> = secrets.iter().map(credential).collect();
    let plain = Ask {
        headers,
        credentials: &credentials,
        ..Ask::default()
    };
    let first_byte = Ask {
        range: Some((0, Some(0))),
        ..plain
    };
    let response = match web.patiently(url, first_byte) {
        // An empty file has no first byte.
        Err(MirrorError::Status { status: 416, .. }) => web.patiently(url, plain)?,
        other => other?,
    };
    let told = match header(response.headers(), CONTENT_RANGE.as_str()) {
        Some(range) if response.status().as_u16() == 206 => {
            range.rsplit_once('/').map(|(_, total)| total.to_owned())
        }
        _ => header(response.headers(), CONTENT_LENGTH.as_str()),
    };
    told.and_then(|told| told.parse().ok())
        .ok_or_else(|| MirrorError::Answer {
            url: shown(response.url()),
            problem: "does not say how many bytes the file has".to_owned(),
        })
}

#[derive(Deserialize)]
struct JsonPage {
    files: Vec<JsonFile>,
}

#[derive(Deserialize)]
struct JsonFile {
    filename: String,
    url: String,
    #[serde(default)]
    hashes: std::collections::BTreeMap<String, String>,
    size: Option<u64>,
    /// `true`, `false`, or the reason.
    #[serde(default)]
    yanked: serde_json::Value,
}

pub(crate) fn from_json(page: &Page) -> Result<Vec<IndexFile>, MirrorError> {
    let answer = |problem: String| MirrorError::Answer {
        url: shown(&page.at),
        problem,
    };
    let parsed: JsonPage =
        serde_json::from_slice(&page.body).map_err(|error| answer(error.to_string()))?;
    let mut files = Vec::new();
    for file in parsed.files {
        let digest = file.hashes.get("sha256").map(|hex| Digest::parse_hex(hex));
        let Some(Ok(digest)) = digest else { continue };
        let url = page
            .at
            .join(&file.url)
            .map_err(|error| answer(error.to_string()))?;
        files.push(IndexFile {
            file_name: file.filename,
            url: plain(url),
            digest,
            size: file.size,
            yanked: file.yanked == serde_json::Value::Bool(true) || file.yanked.is_string(),
        });
    }
    Ok(files)
}

/// Reads the anchors of a PEP 503 page; what is not an anchor with a SHA-256 is passed over.
pub(crate) fn from_html(base: &Url, text: &str) -> Vec<IndexFile> {
    let mut files = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("<a") {
        let tag = &rest[start + 2..];
        if !tag.starts_with(char::is_whitespace) {
            rest = tag;
            continue;
        }
        let Some((attributes, after)) = attributes(tag) else {
            break;
        };
        rest = after;
        let attribute = |name: &str| {
            let mut found = attributes.iter().filter(|(key, _)| *key == name);
            found.next().map(|(_, value)| value.as_str())
        };
        let file = attribute("href")
            .and_then(|href| base.join(href).ok())
            .and_then(|url| {
                let digest = Digest::parse_hex(url.fragment()?.strip_prefix("sha256=")?).ok()?;
                let file_name = plain_name(url.path_segments()?.next_back()?);
                Some(IndexFile {
                    file_name,
                    url: plain(url),
                    digest,
                    size: None,
                    yanked: attribute("data-yanked").is_some(),
                })
            });
        files.extend(file);
    }
    files
}

/// File names of packages need no escapes but for `+` and `!`.
pub(crate) fn plain_name(segment: &str) -> String {
    segment
        .replace("%2B", "+")
        .replace("%2b", "+")
        .replace("%21", "!")
}

/// An address as a lock may have it: a login that stands in it belongs to who asked, and is sent by [`Web`] alone.
fn plain(mut url: Url) -> String {
    url.set_fragment(None);
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}

/// The attributes of a tag, and what follows it. `None` where it does not end.
fn attributes(tag: &str) -> Option<(Vec<(&str, String)>, &str)> {
    let mut found = Vec::new();
    let mut rest = tag;
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('>') {
            return Some((found, after));
        }
        let ends = |c: char| c.is_whitespace() || c == '=' || c == '>';
        let (name, after) = rest.split_at(rest.find(ends)?);
        rest = after.trim_start();
        let mut value = String::new();
        if let Some(after) = rest.strip_prefix('=') {
            let after = after.trim_start();
            let quote = after.chars().next().filter(|c| ['"', '\''].contains(c));
            let (text, after) = match quote {
                Some(quote) => after[1..].split_once(quote)?,
                None => after.split_at(after.find(|c: char| c.is_whitespace() || c == '>')?),
            };
            value = unescaped(text);
            rest = after;
        }
        found.push((name, value));
    }
}

fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&#43;", "+")
        .replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_html_page_gives_names_addresses_and_digests() {
        let base = Url::parse("https://example.org/simple/demo/").unwrap();
        let digest = Digest::of(b"demo");
        let page = format!(
            "<html><abbr>x</abbr><a data-requires-python='>=3.9' href='../../files/demo-1.0%2Bcpu-py3-none-any.whl#sha256={0}'>x</a>\
             <a href=\"https://me:hush@other.example/demo-1.0.tar.gz#sha256={0}\" data-yanked>y</a>\
             <a href=\"demo-2.0.tar.gz\">no digest</a><a href=\"unfinished",
            digest.hex()
        );
        let files = from_html(&base, &page);
        assert_eq!(files.len(), 2);
        assert_eq!(files[0].file_name, "demo-1.0+cpu-py3-none-any.whl");
        assert_eq!(
            files[0].url,
            "https://example.org/files/demo-1.0%2Bcpu-py3-none-any.whl"
        );
        assert_eq!((files[0].digest, files[0].yanked), (digest, false));
        assert!(files[1].yanked);
        assert_eq!(files[1].url, "https://other.example/demo-1.0.tar.gz");
    }

    proptest::proptest! {
        #[test]
        fn no_page_makes_the_reader_stumble(page in "(<a|href=|[\"'#=> a-z0-9&;%/:.]|sha256=){0,60}") {
            let base = Url::parse("https://example.org/simple/demo/").unwrap();
            for file in from_html(&base, &page) {
                proptest::prop_assert!(!file.url.contains('#'));
            }
        }

        #[test]
        fn a_page_that_is_cut_anywhere_gives_no_file_that_was_not_there(cut in 0_usize..200) {
            let base = Url::parse("https://example.org/simple/demo/").unwrap();
            let digest = Digest::of(b"demo").hex();
            let page = format!("<a href=\"demo-1.0.tar.gz#sha256={digest}\">a</a><a href='b-é.whl#sha256={digest}'>b</a>");
            let cut = (0..=cut.min(page.len())).rev().find(|at| page.is_char_boundary(*at)).unwrap_or(0);
            for file in from_html(&base, &page[..cut]) {
                proptest::prop_assert_eq!(file.digest, Digest::of(b"demo"));
            }
        }
    }

    #[test]
    fn a_project_has_one_name() {
        for name in ["Torch_NPU", "torch-npu", "torch.npu", "torch--npu"] {
            assert_eq!(normalized(name), "torch-npu");
        }
    }

    #[test]
    fn a_source_archive_is_known_by_its_name() {
        assert!(is_sdist(
            "llamafactory-0.9.5.tar.gz",
            "LLaMAFactory",
            "0.9.5"
        ));
        assert!(!is_sdist(
            "llamafactory-0.9.50.tar.gz",
            "llamafactory",
            "0.9.5"
        ));
    }
}
