//! A registry, and its mirrors: the OCI distribution protocol as far as pulling goes.

use manifest_schema::plan::OciSource;
use manifest_schema::{ByteSize, Descriptor, Digest, ImageName, ImageTag};
use report::{Event, Sink};

use super::manifest::{ACCEPT, Document, LARGEST_DOCUMENT, OCI_INDEX, is_document};
use super::take::{Taken, Wanted, take};
use super::{Referrer, Shelf, checked, wrong};
use crate::page::{Page, header, parse, shown};
use crate::web::Ask;
use crate::{MirrorError, Web};

/// The places of one image.
pub struct Registry<'a> {
    web: &'a Web,
    sink: &'a dyn Sink,
    image: String,
    /// Addresses such as `https://host/v2/prefix/repository`, in the order to try.
    places: Vec<String>,
}

/// Suffixes of the tags under which cosign keeps what it says of a digest.
const COSIGN: [&str; 3] = ["sig", "att", "sbom"];
/// Pages of a list of referrers.
const MOST_PAGES: usize = 100;

/// Where a registry answers, unless a plan says otherwise.
pub fn registry_address(name: &ImageName) -> String {
    match name.registry() {
        // The name that everybody writes is a web page.
        "docker.io" => "https://registry-1.docker.io".to_owned(),
        registry => format!("https://{registry}"),
    }
}

impl<'a> Registry<'a> {
    /// The image `name` at its registry and its mirrors.
    ///
    /// # Errors
    /// When an address is none.
    pub fn new(
        web: &'a Web,
        name: &ImageName,
        source: &OciSource,
        sink: &'a dyn Sink,
    ) -> Result<Self, MirrorError> {
        let usual = registry_address(name);
        let first = source.endpoint.as_ref().unwrap_or(&usual);
        let mut places = Vec::new();
        for address in std::iter::once(first).chain(&source.mirrors) {
            let mut url = parse(address)?;
            let prefix = url.path().trim_matches('/').to_owned();
            let below = [prefix.as_str(), name.repository()].join("/");
            url.set_path(&format!("/v2/{}", below.trim_start_matches('/')));
            places.push(url.into());
        }
        Ok(Self {
            web,
            sink,
            image: name.to_string(),
            places,
        })
    }

    /// Takes what a digest names, or else what a tag names now.
    ///
    /// # Errors
    /// When no place has it, or what is there is no image.
    pub fn take(
        &self,
        tag: Option<&ImageTag>,
        digest: Option<Digest>,
        wanted: Wanted<'_>,
    ) -> Result<Taken, MirrorError> {
        let name = digest.map(|digest| digest.to_string());
        let name = name.or_else(|| tag.map(ToString::to_string));
        let name = name.unwrap_or_default();
        let (_, page) = self.any(&format!("manifests/{name}"), |page| honest(page, digest))?;
        let told = page.content_type();
        let told = told.split(';').next().unwrap_or_default().trim();
        take(self, page.body, Some(told), wanted)
    }

    /// Where a blob, a manifest or an index is.
    pub fn urls(&self, wanted: &Descriptor) -> Vec<String> {
        let path = path_of(wanted);
        let places = self.places.iter();
        places.map(|place| format!("{place}/{path}")).collect()
    }

    /// The header that a registry wants to see before it gives a manifest as it is.
    pub fn accept(wanted: &Descriptor) -> Option<&str> {
        is_document(&wanted.media_type).then_some(wanted.media_type.as_str())
    }

    /// The first answer that is good; the place that gave it.
    fn any(
        &self,
        path: &str,
        good: impl Fn(&Page) -> Result<(), MirrorError>,
    ) -> Result<(String, Page), MirrorError> {
        let mut failures = Vec::new();
        for (number, place) in self.places.iter().enumerate() {
            let url = format!("{place}/{path}");
            let answer = self.text(&url).and_then(|page| {
                good(&page)?;
                Ok(page)
            });
            match answer {
                Ok(page) => return Ok((place.clone(), page)),
                Err(error) => {
                    if number + 1 < self.places.len() {
                        self.warn(&error);
                    }
                    failures.push(error);
                }
            }
        }
        Err(self.none(path, failures))
    }

    /// What it means that no place gave `path`.
    fn none(&self, path: &str, mut failures: Vec<MirrorError>) -> MirrorError {
        let absent = |error: &MirrorError| matches!(error, MirrorError::Status { status: 404, .. });
        if failures.len() == 1 && !absent(&failures[0]) {
            return failures.remove(0);
        }
        let name = path.rsplit('/').next().unwrap_or_default();
        let mark = if name.contains(':') { "@" } else { ":" };
        let lines: Vec<String> = failures.iter().map(MirrorError::line).collect();
        MirrorError::NoImage {
            wanted: format!("{}{mark}{name}", self.image),
            problem: lines.join("; "),
        }
    }

    fn text(&self, url: &str) -> Result<Page, MirrorError> {
        let ask = Ask {
            accept: (!url.contains("/blobs/")).then_some(ACCEPT),
            registry: true,
            ..Ask::default()
        };
        self.web.text(url, ask, LARGEST_DOCUMENT)
    }

    fn warn(&self, error: &MirrorError) {
        self.sink.emit(&Event::Warned {
            code: "mirror.place-failed".to_owned(),
            args: vec![
                ("file".to_owned(), self.image.clone()),
                ("problem".to_owned(), error.line()),
            ],
        });
    }

    /// An answer of the first place that has one; `None` where each says that there is nothing, or that it does not
    /// know the question.
    fn perhaps(&self, path: &str) -> Result<Option<Page>, MirrorError> {
        let mut failed = None;
        for place in &self.places {
            match self.text(&format!("{place}/{path}")) {
                Ok(page) => return Ok(Some(page)),
                Err(MirrorError::Status {
                    status: 400 | 404 | 405 | 406 | 501,
                    ..
                }) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(None), Err)
    }

    /// The list of an index, page by page.
    fn listed(&self, first: Page) -> Result<Vec<Referrer>, MirrorError> {
        let mut found = Vec::new();
        let mut page = first;
        for _ in 0..MOST_PAGES {
            let (_, document) =
                Document::parse(&page.body, None).map_err(|problem| wrong(&self.image, problem))?;
            let Document::Index(children) = document else {
                return Err(wrong(&self.image, "its list of referrers is a manifest"));
            };
            found.extend(children.into_iter().map(|child| Referrer {
                manifest: child.descriptor,
                artifact_type: child.artifact_type,
                tag: None,
                says_so: true,
            }));
            match page.next() {
                None => return Ok(found),
                Some(next) => page = self.text(&next)?,
            }
        }
        Err(wrong(&self.image, "its list of referrers does not end"))
    }
}

impl Shelf for Registry<'_> {
    fn image(&self) -> &str {
        &self.image
    }

    fn document(&self, wanted: &Descriptor) -> Result<Vec<u8>, MirrorError> {
        let good = |page: &Page| checked(&shown(&page.at), wanted, page.body.clone()).map(drop);
        let (_, page) = self.any(&path_of(wanted), good)?;
        Ok(page.body)
    }

    fn referrers(&self, subject: &Digest, deep: bool) -> Result<Vec<Referrer>, MirrorError> {
        let hex = subject.hex();
        let is_list = |page: &Page| page.content_type().starts_with(OCI_INDEX);
        let answer = self.perhaps(&format!("referrers/{subject}"))?;
        let list = match answer.filter(is_list) {
            Some(list) => Some(list),
            // An older registry: whoever pushed keeps the same list under a tag.
            None => self.perhaps(&format!("manifests/sha256-{hex}"))?,
        };
        let mut found = list.map_or(Ok(Vec::new()), |list| self.listed(list))?;
        for suffix in COSIGN.iter().filter(|_| !deep) {
            let tag = format!("sha256-{hex}.{suffix}");
            let Some(page) = self.perhaps(&format!("manifests/{tag}"))? else {
                continue;
            };
            let (media_type, _) =
                Document::parse(&page.body, None).map_err(|problem| wrong(&self.image, problem))?;
            found.push(Referrer {
                manifest: Descriptor {
                    media_type,
                    digest: Digest::of(&page.body),
                    size: ByteSize(page.body.len() as u64),
                },
                artifact_type: None,
                tag: Some(tag),
                says_so: false,
            });
        }
        Ok(found)
    }
}

fn path_of(wanted: &Descriptor) -> String {
    let kind = if is_document(&wanted.media_type) {
        "manifests"
    } else {
        "blobs"
    };
    format!("{kind}/{}", wanted.digest)
}

/// Bytes that are what the registry says that they are, and what the plan wants.
fn honest(page: &Page, digest: Option<Digest>) -> Result<(), MirrorError> {
    let found = Digest::of(&page.body);
    let said = header(&page.headers, "docker-content-digest");
    let said = said.and_then(|said| Digest::parse(said.trim()).ok());
    match digest.or(said).filter(|expected| *expected != found) {
        None => Ok(()),
        Some(expected) => Err(MirrorError::DigestDiffers {
            url: shown(&page.at),
            found: found.to_string(),
            expected: expected.to_string(),
            resumed: false,
        }),
    }
}
