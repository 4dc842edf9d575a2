//! The container images of a plan.

use std::path::{Path, PathBuf};

use manifest_schema::plan::{ImageSource, LocalImage, OciSource, PlanBackend, PlanImage};
use manifest_schema::{Arch, Digest, ImageName, ImageTag, Platform};
use report::Trouble;

use super::local::Places;
use super::word;
use crate::error::InputError;

/// What a plan takes of container images.
#[derive(clap::Args)]
pub(crate) struct Images {
    /// Container image with its registry, such as `quay.io/org/name:tag` or `…@sha256:…` (can be repeated)
    #[arg(long = "image", value_name = "REFERENCE")]
    registry: Vec<String>,
    /// Container image in an OCI layout, a folder or a tar of one (can be repeated)
    #[arg(long = "image-layout", value_name = "REFERENCE=PATH", value_parser = placed)]
    layouts: Vec<(String, PathBuf)>,
    /// Container image in what `docker save` wrote (can be repeated)
    #[arg(long = "image-archive", value_name = "REFERENCE=FILE", value_parser = placed)]
    archives: Vec<(String, PathBuf)>,
    /// Platform to take of the images [default: those of the backends, else all] (can be repeated)
    #[arg(long = "platform", value_name = "OS/ARCH")]
    platforms: Vec<Platform>,
    /// Registry that has the same bytes, tried after the first (can be repeated)
    #[arg(long, value_name = "URL")]
    registry_mirror: Vec<String>,
    /// Take signatures, bills of materials and attestations of the images too
    #[arg(long)]
    referrers: bool,
}

/// An image that was named, before its licence is known.
pub(super) struct Named {
    /// As it was named.
    pub(super) reference: String,
    name: ImageName,
    tag: Option<ImageTag>,
    source: ImageSource,
}

impl Images {
    /// Whether any flag names an image.
    pub(super) fn is_empty(&self) -> bool {
        self.registry.is_empty() && self.layouts.is_empty() && self.archives.is_empty()
    }

    /// The images of the flags, and of `asked`, which a person typed.
    pub(super) fn named(&self, asked: &[String], places: &Places) -> Result<Vec<Named>, Trouble> {
        let mut named = Vec::new();
        for reference in self.registry.iter().chain(asked) {
            let (name, tag, digest) = parts(reference)?;
            // What a registry may have renamed since is better named by a tag than by nothing.
            let usual = || "latest".parse().ok();
            let source = ImageSource::Oci(OciSource {
                digest,
                endpoint: None,
                mirrors: self.registry_mirror.clone(),
                login: None,
            });
            named.push(Named {
                reference: reference.clone(),
                name,
                tag: if digest.is_some() {
                    tag
                } else {
                    tag.or_else(usual)
                },
                source,
            });
        }
        let layouts = self.layouts.iter().map(|one| (one, true));
        for ((reference, path), layout) in
            layouts.chain(self.archives.iter().map(|one| (one, false)))
        {
            let (name, tag, digest) = parts(reference)?;
            if digest.is_some() {
                return Err(word(reference, REFERENCE_OF_FILE).into());
            }
            let local = LocalImage {
                path: places.of(path)?,
                reference: None,
            };
            named.push(Named {
                reference: reference.clone(),
                name,
                tag,
                source: if layout {
                    ImageSource::OciLayout(local)
                } else {
                    ImageSource::DockerArchive(local)
                },
            });
        }
        Ok(named)
    }

    /// The images in a plan with these backends, each under its licence.
    pub(super) fn planned(
        &self,
        named: Vec<Named>,
        licenses: Vec<String>,
        backends: &[PlanBackend],
    ) -> Vec<PlanImage> {
        let mut platforms = self.platforms.clone();
        if platforms.is_empty() {
            let mut archs: Vec<Arch> = backends.iter().map(|backend| backend.arch).collect();
            archs.sort_unstable();
            archs.dedup();
            let of = |arch| match arch {
                Arch::X86_64 => "linux/amd64",
                Arch::Aarch64 => "linux/arm64",
            };
            platforms = archs
                .into_iter()
                .filter_map(|arch| of(arch).parse().ok())
                .collect();
        }
        let image = |(named, license): (Named, String)| PlanImage {
            name: named.name,
            tag: named.tag,
            license,
            backends: Vec::new(),
            platforms: platforms.clone(),
            referrers: self.referrers,
            source: named.source,
        };
        named.into_iter().zip(licenses).map(image).collect()
    }
}

/// Name, tag and digest of `registry/name:tag@digest`.
fn parts(text: &str) -> Result<(ImageName, Option<ImageTag>, Option<Digest>), InputError> {
    let wrong = || word(text, REFERENCE);
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(Digest::parse(digest).map_err(|_| wrong())?)),
        None => (text, None),
    };
    // A colon before the last slash is that of a port.
    let colon = rest.rfind(':').filter(|at| !rest[*at..].contains('/'));
    let (name, tag) = match colon {
        Some(at) => {
            let tag = ImageTag::parse(&rest[at + 1..]).map_err(|_| wrong())?;
            (&rest[..at], Some(tag))
        }
        None => (rest, None),
    };
    Ok((ImageName::parse(name).map_err(|_| wrong())?, tag, digest))
}

/// Reads `REFERENCE=PATH`.
fn placed(text: &str) -> Result<(String, PathBuf), String> {
    let (reference, path) = text.split_once('=').ok_or("write it as REFERENCE=PATH")?;
    Ok((reference.to_owned(), Path::new(path).to_owned()))
}

const REFERENCE: &str = "an image with its registry, such as `quay.io/org/name:tag`";
const REFERENCE_OF_FILE: &str = "the name of an image in a file, which has no digest yet";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_has_a_registry_and_perhaps_a_tag_and_a_digest() {
        let digest = Digest::of(b"");
        for (text, expected) in [
            ("quay.io/a/b:1", Some(("quay.io/a/b", Some("1"), false))),
            ("localhost:5000/a", Some(("localhost:5000/a", None, false))),
            (
                &format!("a.b:1/c:d@{digest}"),
                Some(("a.b:1/c", Some("d"), true)),
            ),
            ("ubuntu", None),
            ("quay.io/a:", None),
            ("quay.io/a@sha256:1", None),
        ] {
            let found = parts(text).ok();
            let found = found.as_ref().map(|(name, tag, digest)| {
                (
                    name.as_str(),
                    tag.as_ref().map(ImageTag::as_str),
                    digest.is_some(),
                )
            });
            assert_eq!(found, expected, "{text}");
        }
    }
}
