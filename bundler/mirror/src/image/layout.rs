//! An OCI image layout on this machine: a folder, or a tar of one.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use manifest_schema::{Descriptor, Digest, PlatformImage};
use serde::Deserialize;

use super::manifest::{Child, Document, LARGEST_DOCUMENT};
use super::take::{Taken, Wanted, take};
use super::tarball::{Tarball, blob_member};
use super::{Referrer, Shelf, checked, wrong};
use crate::MirrorError;

/// A layout whose index was read.
pub struct Layout {
    name: String,
    place: Place,
    children: Vec<Child>,
}

enum Place {
    Folder(PathBuf),
    Tar(PathBuf, Tarball),
}

/// Where a blob of a layout lies.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Blob {
    /// The file, or the tar.
    pub path: PathBuf,
    /// Its name in the tar.
    pub member: Option<String>,
    /// Its bytes.
    pub size: u64,
}

const MARK: &str = "oci-layout";
const INDEX: &str = "index.json";
/// The annotations that name an entry: the standard's, and the one that has the whole name.
const NAMES: [&str; 2] = [
    "org.opencontainers.image.ref.name",
    "io.containerd.image.name",
];

impl Layout {
    /// Opens a layout.
    ///
    /// # Errors
    /// When it cannot be read, or is none.
    pub fn open(path: &Path) -> Result<Self, MirrorError> {
        let place = if path.is_dir() {
            Place::Folder(path.to_owned())
        } else {
            Place::Tar(path.to_owned(), Tarball::open(path)?)
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let mut layout = Self {
            name: name.into_owned(),
            place,
            children: Vec::new(),
        };
        layout.check_mark()?;
        let bytes = layout.read(INDEX)?;
        match Document::parse(&bytes, None) {
            Ok((_, Document::Index(children))) => layout.children = children,
            Ok(_) => return Err(layout.wrong("its `index.json` is no index")),
            Err(problem) => return Err(layout.wrong(format!("its `index.json`: {problem}"))),
        }
        Ok(layout)
    }

    /// Takes the image that `reference` names, or the only one.
    ///
    /// # Errors
    /// When there is no such image, a blob is missing or has another size, or it is no image.
    pub fn take(&self, reference: Option<&str>, wanted: Wanted<'_>) -> Result<Taken, MirrorError> {
        let root = &self.choose(reference)?.descriptor;
        if root.size.0 > LARGEST_DOCUMENT {
            let (digest, size) = (root.digest, root.size);
            return Err(self.wrong(format!("{digest} would have {size}")));
        }
        let taken = take(self, self.document(root)?, Some(&root.media_type), wanted)?;
        let platforms = taken.platforms.iter().flat_map(PlatformImage::blobs);
        let attached = taken.attached.iter().flat_map(|one| &one.blobs);
        for blob in platforms.chain(attached) {
            let found = self.blob(&blob.digest)?.size;
            if found != blob.size.0 {
                return Err(MirrorError::SizeDiffers {
                    url: format!("{}#{}", self.name, blob_member(&blob.digest)),
                    found,
                    expected: blob.size.0,
                });
            }
        }
        Ok(taken)
    }

    /// Where a blob lies.
    ///
    /// # Errors
    /// When it is not there.
    pub fn blob(&self, digest: &Digest) -> Result<Blob, MirrorError> {
        let member = blob_member(digest);
        match &self.place {
            Place::Folder(folder) => {
                let path = folder.join(member);
                let found = path.metadata();
                let size = found
                    .map_err(|source| MirrorError::file(&path, source))?
                    .len();
                Ok(Blob {
                    path,
                    member: None,
                    size,
                })
            }
            Place::Tar(path, tarball) => {
                let (member, size) = tarball.resolve(&member)?;
                Ok(Blob {
                    path: path.clone(),
                    member: Some(member),
                    size,
                })
            }
        }
    }

    fn choose(&self, reference: Option<&str>) -> Result<&Child, MirrorError> {
        let named = |child: &&Child| match reference {
            Some(text) => {
                let mut names = NAMES.iter().filter_map(|key| child.annotations.get(*key));
                names.any(|name| name == text) || child.descriptor.digest.to_string() == text
            }
            None => true,
        };
        let found: Vec<&Child> = self.children.iter().filter(named).collect();
        match found[..] {
            [only] => Ok(only),
            [] => Err(self.wrong(format!(
                "it has no image `{}`; it has {}",
                reference.unwrap_or_default(),
                self.names()
            ))),
            _ => Err(self.wrong(format!(
                "it has several images, and `reference` must name one: {}",
                self.names()
            ))),
        }
    }

    fn names(&self) -> String {
        let name = |child: &Child| {
            let mut names = NAMES.iter().filter_map(|key| child.annotations.get(*key));
            let name = names.next().cloned();
            name.unwrap_or_else(|| child.descriptor.digest.to_string())
        };
        let names: Vec<String> = self.children.iter().take(20).map(name).collect();
        names.join(", ")
    }

    fn check_mark(&self) -> Result<(), MirrorError> {
        #[derive(Deserialize)]
        struct Mark {
            #[serde(rename = "imageLayoutVersion")]
            version: String,
        }
        let mark: Option<Mark> = serde_json::from_slice(&self.read(MARK)?).ok();
        match mark {
            Some(mark) if mark.version.starts_with("1.") => Ok(()),
            _ => Err(self.wrong("its `oci-layout` does not say version 1")),
        }
    }

    fn read(&self, member: &str) -> Result<Vec<u8>, MirrorError> {
        match &self.place {
            Place::Tar(_, tarball) => tarball.read(member, LARGEST_DOCUMENT),
            Place::Folder(folder) => {
                let path = folder.join(member);
                let mut bytes = Vec::new();
                File::open(&path)
                    .and_then(|file| file.take(LARGEST_DOCUMENT + 1).read_to_end(&mut bytes))
                    .map_err(|source| MirrorError::file(&path, source))?;
                if bytes.len() as u64 > LARGEST_DOCUMENT {
                    let problem = format!("`{member}` has more than {LARGEST_DOCUMENT} bytes");
                    return Err(self.wrong(problem));
                }
                Ok(bytes)
            }
        }
    }

    fn wrong(&self, problem: impl std::fmt::Display) -> MirrorError {
        wrong(&self.name, problem)
    }
}

impl Shelf for Layout {
    fn image(&self) -> &str {
        &self.name
    }

    fn document(&self, wanted: &Descriptor) -> Result<Vec<u8>, MirrorError> {
        let member = blob_member(&wanted.digest);
        let bytes = self.read(&member)?;
        checked(&format!("{}#{member}", self.name), wanted, bytes)
    }

    /// A layout lists what speaks of an image beside it, or under a tag of the digest.
    fn referrers(&self, subject: &Digest, _deep: bool) -> Result<Vec<Referrer>, MirrorError> {
        let tagged = format!("sha256-{}.", subject.hex());
        let mut found = Vec::new();
        for child in &self.children {
            let name = NAMES.iter().find_map(|key| child.annotations.get(*key));
            let tag = name.and_then(|name| Some(&name[name.find(&tagged)?..]));
            let says_so = match tag {
                Some(_) => false,
                None if child.descriptor.size.0 > LARGEST_DOCUMENT => continue,
                None => {
                    let bytes = self.document(&child.descriptor)?;
                    let document = Document::parse(&bytes, Some(&child.descriptor.media_type));
                    match document {
                        Ok((_, Document::Manifest(manifest)))
                            if manifest.subject == Some(*subject) => {}
                        _ => continue,
                    }
                    true
                }
            };
            found.push(Referrer {
                manifest: child.descriptor.clone(),
                artifact_type: child.artifact_type.clone(),
                tag: tag.map(str::to_owned),
                says_so,
            });
        }
        Ok(found)
    }
}

/// Whether a tar is a layout, whatever else it is.
pub(super) fn is_layout(tarball: &Tarball) -> bool {
    tarball.has(MARK) && tarball.has(INDEX)
}
