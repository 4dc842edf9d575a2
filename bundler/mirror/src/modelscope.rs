//! ModelScope: a revision to its files, each with the SHA-256 that it knows.
//!
//! Three things it does silently, and what is done about each:
//! - a listing of models ends after 3000 entries: a listing that long is taken folder by folder;
//! - a page of a dataset's listing may answer 403 though others do not: it is asked for again;
//! - files kept in git ignore `Range`: the downloader sees that and starts over.
//!
//! A revision here is a name that may move. So a lock pins each file's SHA-256, and other bytes are an error.

use std::collections::{BTreeMap, BTreeSet};

use manifest_schema::{Digest, RepoName};
use serde::Deserialize;

use crate::filter::Filter;
use crate::hub::{HubKind, plain_file, refused};
use crate::page::{Page, parse, shown};
use crate::pypi::size_of;
use crate::web::Ask;
use crate::{Cache, MirrorError, Web};

/// A file of a repository.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ScopeFile {
    /// Its path in the repository.
    pub path: String,
    /// Its bytes. 0 may mean that the listing does not know.
    pub size: u64,
    /// Its SHA-256, where the listing has one.
    pub digest: Option<Digest>,
}

/// ModelScope, or a server that speaks its protocol.
pub struct ModelScope<'a> {
    web: &'a Web,
    endpoint: String,
}

/// Where the server cuts a listing of models.
const CUT: usize = 3000;
const PAGE: usize = 200;
const LARGEST_ANSWER: u64 = 64 << 20;
const MOST_LISTINGS: usize = 5000;

impl<'a> ModelScope<'a> {
    /// The server at `endpoint`, such as `https://www.modelscope.cn`.
    pub fn new(web: &'a Web, endpoint: &str) -> Self {
        Self {
            web,
            endpoint: endpoint.trim_end_matches('/').to_owned(),
        }
    }

    /// The files of a revision that `filter` takes, ordered by path.
    ///
    /// # Errors
    /// When the repository or the revision is not there or not open, or the listing cannot be had in full.
    pub fn files(
        &self,
        kind: HubKind,
        repo: &RepoName,
        revision: &str,
        filter: &Filter,
    ) -> Result<Vec<ScopeFile>, MirrorError> {
        let entries = match kind {
            HubKind::Model => self.walk(repo, revision)?,
            HubKind::Dataset => self.pages(repo, revision)?,
        };
        let mut files = BTreeMap::new();
        for entry in entries {
            if entry.kind == "tree" || !filter.takes(&entry.path) {
                continue;
            }
            let digest = entry.sha256.as_deref().unwrap_or_default();
            let file = ScopeFile {
                size: entry.size,
                digest: Digest::parse_hex(&digest.to_ascii_lowercase()).ok(),
                path: entry.path.clone(),
            };
            files.insert(entry.path, file);
        }
        Ok(files.into_values().collect())
    }

    /// Where the bytes of a file are.
    ///
    /// # Errors
    /// When the endpoint is not an address.
    pub fn file_url(
        &self,
        kind: HubKind,
        repo: &RepoName,
        revision: &str,
        path: &str,
    ) -> Result<String, MirrorError> {
        let query = [("Revision", revision), ("FilePath", path)];
        self.url(kind, repo, "repo", &query)
    }

    /// Fills in what the listing left open: the size, or the digest of a small file, which is fetched for it.
    ///
    /// # Errors
    /// When the file does not come, or is too large to be fetched just for its digest.
    pub fn complete(
        &self,
        url: &str,
        file: &ScopeFile,
        cache: Option<&Cache>,
    ) -> Result<(Digest, u64), MirrorError> {
        let size = match (file.size, file.digest) {
            (0, Some(digest)) if digest == Digest::of(b"") => 0,
            (0, _) => size_of(self.web, url)?,
            (size, _) => size,
        };
        if let Some(digest) = file.digest {
            return Ok((digest, size));
        }
        let page = plain_file(self.web, url, size)?;
        let digest = Digest::of(&page.body);
        if let Some(cache) = cache {
            cache.take(&mut page.body.as_slice(), size)?;
        }
        Ok((digest, page.body.len() as u64))
    }

    /// A model's listing. Where it may be cut, its folders are listed one by one.
    fn walk(&self, repo: &RepoName, revision: &str) -> Result<Vec<Entry>, MirrorError> {
        let mut found = Vec::new();
        let mut folders = vec![String::new()];
        let mut seen = BTreeSet::new();
        let mut authorized = false;
        while let Some(folder) = folders.pop() {
            if !seen.insert(folder.clone()) {
                continue;
            }
            let deep = self.list(repo, revision, &folder, true, authorized)?;
            authorized = true;
            if deep.len() < CUT {
                found.extend(deep);
                continue;
            }
            let flat = self.list(repo, revision, &folder, false, authorized)?;
            if flat.len() >= CUT || seen.len() > MOST_LISTINGS {
                return Err(MirrorError::Answer {
                    url: format!("{}/{repo}", self.endpoint),
                    problem: format!(
                        "the folder `{folder}` has {} entries or more, of which it lists no more",
                        flat.len()
                    ),
                });
            }
            for entry in flat {
                if entry.kind == "tree" {
                    folders.push(entry.path.clone());
                }
                found.push(entry);
            }
        }
        Ok(found)
    }

    fn list(
        &self,
        repo: &RepoName,
        revision: &str,
        folder: &str,
        recursive: bool,
        authorized: bool,
    ) -> Result<Vec<Entry>, MirrorError> {
        let recursive = if recursive { "True" } else { "False" };
        let mut query = vec![("Revision", revision), ("Recursive", recursive)];
        if !folder.is_empty() {
            query.push(("Root", folder));
        }
        let url = self.url(HubKind::Model, repo, "repo/files", &query)?;
        self.ask(&url, repo, revision, authorized)
    }

    /// A dataset's listing, page by page.
    fn pages(&self, repo: &RepoName, revision: &str) -> Result<Vec<Entry>, MirrorError> {
        let mut found = Vec::new();
        for page in 1..=MOST_LISTINGS {
            let (number, size) = (page.to_string(), PAGE.to_string());
            let query = [
                ("Revision", revision),
                ("Recursive", "True"),
                ("PageNumber", &number),
                ("PageSize", &size),
            ];
            let url = self.url(HubKind::Dataset, repo, "repo/tree", &query)?;
            let entries = self.ask(&url, repo, revision, page > 1)?;
            let last = entries.len() < PAGE;
            found.extend(entries);
            if last {
                return Ok(found);
            }
        }
        Err(MirrorError::Answer {
            url: format!("{}/{repo}", self.endpoint),
            problem: "the listing does not end".to_owned(),
        })
    }

    /// One listing. `authorized`: an earlier one was answered, so that a 403 now is the server's own trouble.
    fn ask(
        &self,
        url: &str,
        repo: &RepoName,
        revision: &str,
        authorized: bool,
    ) -> Result<Vec<Entry>, MirrorError> {
        let wanted = format!("{repo}@{revision}");
        let mut failure = 0;
        loop {
            match self.web.text(url, Ask::default(), LARGEST_ANSWER) {
                Ok(page) => return entries(&page, &wanted),
                Err(error @ MirrorError::Status { status: 403, .. })
                    if authorized && failure + 1 < self.web.patience.attempts =>
                {
                    std::thread::sleep(self.web.patience.pause(failure, &error));
                    failure += 1;
                }
                Err(
                    error @ MirrorError::Status {
                        status: 401 | 403 | 404,
                        ..
                    },
                ) => {
                    return Err(refused(&wanted, &error));
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn url(
        &self,
        kind: HubKind,
        repo: &RepoName,
        what: &str,
        query: &[(&str, &str)],
    ) -> Result<String, MirrorError> {
        let text = format!("{}/api/v1/{}/{repo}/{what}", self.endpoint, kind.api());
        let mut url = parse(&text)?;
        url.query_pairs_mut().extend_pairs(query);
        Ok(url.into())
    }
}

/// An entry of a listing.
#[derive(Deserialize)]
pub(crate) struct Entry {
    #[serde(rename = "Path")]
    path: String,
    #[serde(rename = "Type", default)]
    kind: String,
    #[serde(rename = "Size", default)]
    size: u64,
    #[serde(rename = "Sha256", default)]
    sha256: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Success", default = "yes")]
    success: bool,
    #[serde(rename = "Message", default)]
    message: Option<String>,
    #[serde(rename = "Data")]
    data: Option<Data>,
}

fn yes() -> bool {
    true
}

/// Seen in both forms.
#[derive(Deserialize)]
#[serde(untagged)]
enum Data {
    Bare(Vec<Entry>),
    Wrapped {
        #[serde(rename = "Files", default)]
        files: Option<Vec<Entry>>,
    },
}

pub(crate) fn entries(page: &Page, wanted: &str) -> Result<Vec<Entry>, MirrorError> {
    let answer: Answer =
        serde_json::from_slice(&page.body).map_err(|error| MirrorError::Answer {
            url: shown(&page.at),
            problem: error.to_string(),
        })?;
    if !answer.success {
        return Err(MirrorError::Hub {
            wanted: wanted.to_owned(),
            problem: answer.message.unwrap_or_default(),
        });
    }
    Ok(match answer.data {
        Some(Data::Bare(files)) => files,
        Some(Data::Wrapped { files }) => files.unwrap_or_default(),
        None => Vec::new(),
    })
}
