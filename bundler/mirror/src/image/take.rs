//! From the document that a name stands for to everything that belongs to the image.

use std::collections::BTreeSet;

use manifest_schema::{Attached, ByteSize, Descriptor, Digest, ImageTag, Platform, PlatformImage};

use super::manifest::{Child, LARGEST_DOCUMENT, Manifest, read_config};
use super::{Document, Referrer, Shelf, wrong};
use crate::MirrorError;

/// What to take of an image.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Platforms; all when empty.
    pub platforms: &'a [Platform],
    /// Whether to take signatures, bills of materials and attestations.
    pub referrers: bool,
}

/// An image that was found, with the documents that were read on the way.
#[derive(Clone, Debug)]
pub struct Taken {
    /// What the name stands for.
    pub root: Descriptor,
    /// Its platforms, in the order of the index.
    pub platforms: Vec<PlatformImage>,
    /// What speaks of the image, each behind what it speaks of.
    pub attached: Vec<Attached>,
    /// Indexes, manifests and configurations.
    pub documents: Vec<(Digest, Vec<u8>)>,
}

/// Bound of what may be attached to an image, and how long the chains may be.
const MOST_ATTACHED: usize = 1000;
/// Bound of all documents of an image: they are held in memory while it is locked.
const MOST_BYTES: u64 = 256 << 20;

/// Follows `bytes`, the document that a name stands for. `told` is what the place says that it is.
///
/// # Errors
/// When a document is missing, is not what its digest says, is no image, or has not the platform.
pub(super) fn take(
    shelf: &dyn Shelf,
    bytes: Vec<u8>,
    told: Option<&str>,
    wanted: Wanted<'_>,
) -> Result<Taken, MirrorError> {
    let image = shelf.image();
    let (media_type, document) =
        Document::parse(&bytes, told).map_err(|problem| wrong(image, problem))?;
    let root = Descriptor {
        media_type,
        digest: Digest::of(&bytes),
        size: ByteSize(bytes.len() as u64),
    };
    let mut work = Work {
        shelf,
        taken: Taken {
            root: root.clone(),
            platforms: Vec::new(),
            attached: Vec::new(),
            documents: vec![(root.digest, bytes)],
        },
        seen: BTreeSet::from([root.digest]),
    };
    match document {
        Document::Manifest(manifest) => {
            work.platform(root, manifest, None)?;
            let found = vec![work.taken.platforms[0].platform.clone()];
            missing(wanted.platforms, &found, image)?;
        }
        Document::Index(children) => {
            let listed = work.index(children, wanted.platforms)?;
            if wanted.referrers {
                work.attestations(&listed)?;
            }
        }
    }
    if wanted.referrers {
        work.referrers()?;
    }
    Ok(work.taken)
}

struct Work<'a> {
    shelf: &'a dyn Shelf,
    taken: Taken,
    seen: BTreeSet<Digest>,
}

impl Work<'_> {
    fn image(&self) -> &str {
        self.shelf.image()
    }

    /// Takes the wanted platforms of an index. Returns its entries.
    fn index(
        &mut self,
        children: Vec<Child>,
        wanted: &[Platform],
    ) -> Result<Vec<Child>, MirrorError> {
        let known: Vec<_> = children.iter().filter_map(|c| c.platform.clone()).collect();
        missing(wanted, &known, self.image())?;
        for child in &children {
            let Some(platform) = &child.platform else {
                continue;
            };
            if !wanted.is_empty() && !wanted.iter().any(|one| one.means(platform)) {
                continue;
            }
            match self.open(&child.descriptor)? {
                Some(Document::Manifest(manifest)) => {
                    self.platform(child.descriptor.clone(), manifest, Some(platform))?;
                }
                Some(Document::Index(_)) => {
                    let (digest, image) = (child.descriptor.digest, self.image());
                    return Err(wrong(
                        image,
                        format!("{digest} is an index within an index"),
                    ));
                }
                None => {}
            }
        }
        if self.taken.platforms.is_empty() {
            return Err(wrong(self.image(), "its index names no platform"));
        }
        Ok(children)
    }

    /// Reads a document that an entry names; `None` when it was read before.
    fn open(&mut self, wanted: &Descriptor) -> Result<Option<Document>, MirrorError> {
        let bytes = self.read(wanted)?;
        if !self.seen.insert(wanted.digest) {
            return Ok(None);
        }
        let (_, document) = Document::parse(&bytes, Some(&wanted.media_type))
            .map_err(|problem| wrong(self.image(), problem))?;
        self.taken.documents.push((wanted.digest, bytes));
        Ok(Some(document))
    }

    fn read(&self, wanted: &Descriptor) -> Result<Vec<u8>, MirrorError> {
        if wanted.size.0 > LARGEST_DOCUMENT {
            let (digest, size) = (wanted.digest, wanted.size);
            let problem = format!("{digest} would have {size}, and documents have less");
            return Err(wrong(self.image(), problem));
        }
        let read: usize = self
            .taken
            .documents
            .iter()
            .map(|(_, bytes)| bytes.len())
            .sum();
        if read as u64 > MOST_BYTES {
            let problem = format!("its documents have more than {MOST_BYTES} bytes together");
            return Err(wrong(self.image(), problem));
        }
        self.shelf.document(wanted)
    }

    /// Takes a manifest as the image of a platform.
    fn platform(
        &mut self,
        descriptor: Descriptor,
        manifest: Manifest,
        listed: Option<&Platform>,
    ) -> Result<(), MirrorError> {
        let sound = manifest.check_image().and_then(|()| manifest.check_sizes());
        sound.map_err(|problem| wrong(self.image(), problem))?;
        let config = self.read(&manifest.config)?;
        let own = read_config(&config, manifest.layers.len())
            .map_err(|problem| wrong(self.image(), problem))?;
        self.taken.documents.push((manifest.config.digest, config));
        self.taken.platforms.push(PlatformImage {
            platform: listed.cloned().unwrap_or(own),
            manifest: descriptor,
            config: manifest.config,
            layers: manifest.layers,
        });
        Ok(())
    }

    /// Attestations that docker's builder keeps in the index itself.
    fn attestations(&mut self, children: &[Child]) -> Result<(), MirrorError> {
        let subjects: Vec<Digest> = self.subjects();
        for child in children {
            let of = child.annotations.get("vnd.docker.reference.digest");
            let of = of.and_then(|text| Digest::parse(text).ok());
            if let Some(subject) = of.filter(|subject| subjects.contains(subject)) {
                let referrer = Referrer {
                    manifest: child.descriptor.clone(),
                    artifact_type: child.artifact_type.clone(),
                    tag: None,
                    says_so: false,
                };
                self.attach(subject, &referrer)?;
            }
        }
        Ok(())
    }

    fn subjects(&self) -> Vec<Digest> {
        let manifests = self.taken.platforms.iter().map(|one| one.manifest.digest);
        let mut subjects = vec![self.taken.root.digest];
        subjects.extend(manifests.filter(|digest| *digest != self.taken.root.digest));
        subjects
    }

    /// What speaks of the image, and what speaks of that.
    fn referrers(&mut self) -> Result<(), MirrorError> {
        for subject in self.subjects() {
            for referrer in self.shelf.referrers(&subject, false)? {
                self.attach(subject, &referrer)?;
            }
        }
        let mut next = 0;
        while let Some(one) = self.taken.attached.get(next) {
            let subject = one.manifest.digest;
            for referrer in self.shelf.referrers(&subject, true)? {
                self.attach(subject, &referrer)?;
            }
            next += 1;
        }
        Ok(())
    }

    fn attach(&mut self, subject: Digest, referrer: &Referrer) -> Result<(), MirrorError> {
        if self.taken.attached.len() >= MOST_ATTACHED {
            let problem = format!("more than {MOST_ATTACHED} things speak of it");
            return Err(wrong(self.image(), problem));
        }
        let descriptor = &referrer.manifest;
        let manifest = match self.open(descriptor)? {
            Some(Document::Manifest(manifest)) => manifest,
            Some(Document::Index(_)) => {
                let problem = format!("{} speaks of it, and is an index", descriptor.digest);
                return Err(wrong(self.image(), problem));
            }
            None => return Ok(()),
        };
        if referrer.says_so && manifest.subject != Some(subject) {
            let problem = format!("{} does not speak of {subject}", descriptor.digest);
            return Err(wrong(self.image(), problem));
        }
        let sizes = manifest.check_sizes();
        sizes.map_err(|problem| wrong(self.image(), problem))?;
        let listed = referrer.artifact_type.clone();
        let tag = referrer
            .tag
            .as_deref()
            .and_then(|tag| ImageTag::parse(tag).ok());
        let mut blobs = vec![manifest.config];
        blobs.extend(manifest.layers);
        self.taken.attached.push(Attached {
            subject,
            artifact_type: manifest.artifact_type.or(listed),
            tag,
            manifest: descriptor.clone(),
            blobs,
        });
        Ok(())
    }
}

/// Fails where a wanted platform is none of those that are known.
pub(super) fn missing(
    wanted: &[Platform],
    known: &[Platform],
    image: &str,
) -> Result<(), MirrorError> {
    let absent = |one: &&Platform| !known.iter().any(|found| one.means(found));
    match wanted.iter().find(absent) {
        None => Ok(()),
        Some(one) => {
            let names: Vec<&str> = known.iter().map(Platform::as_str).collect();
            Err(MirrorError::NoPlatform {
                image: image.to_owned(),
                wanted: one.to_string(),
                known: names.join(", "),
            })
        }
    }
}
