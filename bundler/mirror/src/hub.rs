//! The Hugging Face Hub: a revision to a commit, a commit to its files, each with the digest the Hub knows.

use manifest_schema::{Digest, RepoName};
use serde::Deserialize;
use sha1::Digest as _;

use crate::filter::Filter;
use crate::page::{Page, parse, shown};
use crate::partial::{git_hasher, hex};
use crate::web::Ask;
use crate::{Cache, MirrorError, Web};

/// Kind of a repository.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HubKind {
    /// Weights.
    Model,
    /// Examples.
    Dataset,
}

impl HubKind {
    pub(crate) fn api(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Model => "",
            Self::Dataset => "datasets/",
        }
    }
}

/// A file of a commit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HubFile {
    /// Its path in the repository.
    pub path: String,
    /// Its bytes.
    pub size: u64,
    /// Git's name of it, of the pointer where it is a large one.
    pub git_sha1: String,
    /// SHA-256 of a large file.
    pub lfs: Option<Digest>,
}

/// A hub, or a mirror that speaks its protocol.
pub struct Hub<'a> {
    web: &'a Web,
    endpoint: String,
}

const LARGEST_ANSWER: u64 = 64 << 20;
const LARGEST_LISTING: usize = 1_000_000;
/// Files without a SHA-256 at the Hub are those kept in git itself, which refuses them above 10 MB.
const LARGEST_PLAIN_FILE: u64 = 64 << 20;

impl<'a> Hub<'a> {
    /// The hub at `endpoint`, such as `https://huggingface.co`.
    pub fn new(web: &'a Web, endpoint: &str) -> Self {
        Self {
            web,
            endpoint: endpoint.trim_end_matches('/').to_owned(),
        }
    }

    /// The commit that a branch, a tag or a commit names.
    ///
    /// # Errors
    /// When there is no such repository or revision, or it is not open to this token.
    pub fn commit(
        &self,
        kind: HubKind,
        repo: &RepoName,
        revision: &str,
    ) -> Result<String, MirrorError> {
        #[derive(Deserialize)]
        struct Answer {
            sha: String,
        }
        if is_commit(revision) {
            return Ok(revision.to_owned());
        }
        let url = format!("{}/api/{}/{repo}/revision/", self.endpoint, kind.api());
        let mut url = parse(&url)?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push(revision);
        }
        let page = self.ask(url.as_str(), &format!("{repo}@{revision}"))?;
        let answer: Answer = read(&page)?;
        if is_commit(&answer.sha) {
            Ok(answer.sha)
        } else {
            Err(MirrorError::Answer {
                url: shown(&page.at),
                problem: format!("`{}` is not a commit", answer.sha),
            })
        }
    }

    /// The files of a commit that `include` takes (all when empty) and `exclude` leaves, ordered by path.
    ///
    /// # Errors
    /// When the hub does not answer, or a pattern is not one.
    pub fn files(
        &self,
        kind: HubKind,
        repo: &RepoName,
        commit: &str,
        include: &[String],
        exclude: &[String],
    ) -> Result<Vec<HubFile>, MirrorError> {
        let filter = Filter::new(include, exclude)?;
        let mut next = Some(format!(
            "{}/api/{}/{repo}/tree/{commit}?recursive=true&expand=false",
            self.endpoint,
            kind.api()
        ));
        let mut files = Vec::new();
        let mut seen = 0;
        let mut pages = std::collections::BTreeSet::new();
        while let Some(url) = next {
            let page = self.ask(&url, &format!("{repo}@{commit}"))?;
            let entries: Vec<Entry> = read(&page)?;
            seen += entries.len();
            next = page.next().map(|link| self.at_home(kind, link));
            // A server that sends in circles must not keep us for ever.
            if seen > LARGEST_LISTING || !pages.insert(url) {
                return Err(MirrorError::Answer {
                    url: shown(&page.at),
                    problem: "the listing does not end".to_owned(),
                });
            }
            for entry in entries {
                if entry.kind == "file" && filter.takes(&entry.path) {
                    files.push(entry.into_file(&page)?);
                }
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }

    /// A listing goes on where it began: mirrors hand on the links of the hub, which may be out of reach.
    fn at_home(&self, kind: HubKind, link: String) -> String {
        let below = format!("/api/{}/", kind.api());
        match link.find(&below) {
            Some(start) => format!("{}{}", self.endpoint, &link[start..]),
            None => link,
        }
    }

    /// Where the bytes of a file are.
    ///
    /// # Errors
    /// When the endpoint is not an address.
    pub fn file_url(
        &self,
        kind: HubKind,
        repo: &RepoName,
        commit: &str,
        path: &str,
    ) -> Result<String, MirrorError> {
        let mut url = parse(&format!(
            "{}/{}{repo}/resolve/{commit}/",
            self.endpoint,
            kind.prefix()
        ))?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path.split('/'));
        }
        Ok(url.into())
    }

    /// Fetches a small file, of which the hub gives only git's name, checks that name, and keeps the file in
    /// `cache` where there is one.
    ///
    /// # Errors
    /// When the bytes are others than the listing promised.
    pub fn take_small(
        &self,
        url: &str,
        file: &HubFile,
        cache: Option<&Cache>,
    ) -> Result<Digest, MirrorError> {
        let page = plain_file(self.web, url, file.size)?;
        let mut hasher = git_hasher(page.body.len() as u64);
        hasher.update(&page.body);
        let found = hex(&hasher.finalize());
        if found != file.git_sha1 {
            return Err(MirrorError::DigestDiffers {
                url: shown(&page.at),
                found,
                expected: file.git_sha1.clone(),
                resumed: false,
            });
        }
        match cache {
            Some(cache) => Ok(cache.take(&mut page.body.as_slice(), file.size)?.digest),
            None => Ok(Digest::of(&page.body)),
        }
    }

    fn ask(&self, url: &str, wanted: &str) -> Result<Page, MirrorError> {
        self.web
            .text(url, Ask::default(), LARGEST_ANSWER)
            .map_err(|error| match error {
                MirrorError::Status {
                    status: 401 | 403 | 404,
                    ..
                } => refused(wanted, &error),
                other => other,
            })
    }
}

/// Fetches a file that has no SHA-256 at its hub.
pub(crate) fn plain_file(web: &Web, url: &str, size: u64) -> Result<Page, MirrorError> {
    if size > LARGEST_PLAIN_FILE {
        return Err(MirrorError::Answer {
            url: url.split('?').next().unwrap_or_default().to_owned(),
            problem: format!("{size} bytes and no SHA-256"),
        });
    }
    web.text(url, Ask::default(), size)
}

/// What a hub's refusal means: not there, or not for this token.
pub(crate) fn refused(wanted: &str, error: &MirrorError) -> MirrorError {
    let (wanted, problem) = (wanted.to_owned(), error.to_string());
    let gated = match error {
        MirrorError::Status { status, reason, .. } => {
            *status == 403 || reason.as_deref() == Some("GatedRepo")
        }
        _ => false,
    };
    if gated {
        MirrorError::Gated { wanted, problem }
    } else {
        MirrorError::Hub { wanted, problem }
    }
}

fn is_commit(text: &str) -> bool {
    text.len() == 40
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn read<T: serde::de::DeserializeOwned>(page: &Page) -> Result<T, MirrorError> {
    serde_json::from_slice(&page.body).map_err(|error| MirrorError::Answer {
        url: shown(&page.at),
        problem: error.to_string(),
    })
}

/// Every entry of a listing's page, for tests that feed it anything.
#[cfg(feature = "testing")]
pub(crate) fn listed(page: &Page) -> Result<Vec<HubFile>, MirrorError> {
    let entries: Vec<Entry> = read(page)?;
    entries
        .into_iter()
        .map(|entry| entry.into_file(page))
        .collect()
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    oid: String,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    oid: String,
    size: u64,
}

impl Entry {
    fn into_file(self, page: &Page) -> Result<HubFile, MirrorError> {
        let answer = |problem: String| MirrorError::Answer {
            url: shown(&page.at),
            problem,
        };
        if !is_commit(&self.oid) {
            return Err(answer(format!(
                "`{}`: `{}` is no git name",
                self.path, self.oid
            )));
        }
        let (size, lfs) = match self.lfs {
            None => (self.size, None),
            Some(lfs) => {
                let digest = Digest::parse_hex(&lfs.oid)
                    .map_err(|error| answer(format!("`{}`: {error}", self.path)))?;
                (lfs.size, Some(digest))
            }
        };
        Ok(HubFile {
            path: self.path,
            size,
            git_sha1: self.oid,
            lfs,
        })
    }
}
