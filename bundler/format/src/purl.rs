//! Package URLs (ECMA-427): what a part of a bundle is called outside of it.
//!
//! Each is written in the canonical form: qualifiers in order, everything but letters, digits and `.-_~:` encoded.
//! `huggingface` is the type of models alone; datasets of that hub, and all of ModelScope, which has no type, are what
//! these hubs keep them in: git repositories.

use std::fmt::Write as _;

use manifest_schema::{
    ArchiveMember, Component, ComponentKind, Digest, Image, Origin, OriginKind, OsPackage,
    OsPackages, PackageFormat, PlacedFile, PlatformImage, Provenance,
};

/// The name of the repository that a model or dataset was taken from.
pub(crate) fn of_repository(component: &Component, provenance: &Provenance) -> Option<String> {
    let revision = component.revision.as_ref()?;
    let mut origins = component.files.iter();
    let origin = origins.find_map(|file| {
        let origin = provenance.blobs.get(file.blob())?;
        let hub = matches!(
            origin.kind,
            OriginKind::HuggingFace | OriginKind::ModelScope
        );
        (hub && origin.revision.as_ref() == Some(revision)).then_some(origin)
    })?;
    let parts = origin.project.as_ref()?.split('/').map(encoded);
    let repository = parts.collect::<Vec<_>>().join("/");
    let revision = encoded(revision);
    Some(match (&origin.kind, component.kind) {
        (OriginKind::HuggingFace, ComponentKind::Model) => {
            format!("pkg:huggingface/{repository}@{}", revision.to_lowercase())
        }
        (OriginKind::HuggingFace, ComponentKind::Dataset) => {
            format!("pkg:git/huggingface.co/datasets/{repository}@{revision}")
        }
        (_, ComponentKind::Model) => format!("pkg:git/www.modelscope.cn/{repository}@{revision}"),
        (_, ComponentKind::Dataset) => {
            format!("pkg:git/www.modelscope.cn/datasets/{repository}@{revision}")
        }
    })
}

/// The name of an image, or of one of its platforms.
///
/// It says where the image can be found only where it was found at a registry.
pub(crate) fn of_image(
    image: &Image,
    platform: Option<&PlatformImage>,
    provenance: &Provenance,
) -> String {
    let name = image.name.as_str();
    let last = name.rsplit('/').next().unwrap_or(name).to_lowercase();
    let digest = platform.map_or(&image.root.digest, |one| &one.manifest.digest);
    let mut qualifiers = Vec::new();
    if let Some(platform) = platform {
        let (_, arch, _) = platform.platform.parts();
        qualifiers.push(format!("arch={}", encoded(arch)));
    }
    let origin = provenance.blobs.get(digest);
    if origin.is_some_and(|origin| origin.kind == OriginKind::Oci) {
        qualifiers.push(format!("repository_url={}", encoded(name)));
    }
    // A tag names what the image's own digest is, which an index's platform is not.
    if let Some(tag) = image.tag.as_ref().filter(|_| *digest == image.root.digest) {
        qualifiers.push(format!("tag={}", encoded(tag.as_str())));
    }
    let start = if qualifiers.is_empty() { "" } else { "?" };
    let hex = digest.hex();
    format!(
        "pkg:oci/{}@sha256:{hex}{start}{}",
        encoded(&last),
        qualifiers.join("&")
    )
}

/// The name of a package of an operating system.
pub(crate) fn of_package(set: &OsPackages, package: &OsPackage) -> String {
    // Debian counts the epoch as part of the version, rpm's URLs name it apart.
    let (version, epoch) = match (set.format, package.version.as_str().split_once(':')) {
        (PackageFormat::Rpm, Some((epoch, version))) => (version, format!("&epoch={epoch}")),
        _ => (package.version.as_str(), String::new()),
    };
    let distro = set.edition.as_deref().map_or_else(String::new, |edition| {
        format!("&distro={}", encoded(&format!("{}-{edition}", set.os)))
    });
    format!(
        "pkg:{}/{}/{}@{}?arch={}{distro}{epoch}",
        set.format.as_str(),
        set.os,
        encoded(package.name.as_str()),
        encoded(version),
        package.arch,
    )
}

/// The name of what a file is, or is taken from.
pub(crate) fn of_file(origin: &Origin, file: &PlacedFile) -> Option<String> {
    let subpath = |archive: &ArchiveMember| {
        let parts: Vec<_> = archive.member.split('/').map(encoded).collect();
        format!("#{}", parts.join("/"))
    };
    let part = origin.archive.as_ref().map(subpath).unwrap_or_default();
    match origin.kind {
        OriginKind::Pypi => {
            let (project, version) = (origin.project.as_ref()?, origin.version.as_ref()?);
            let version = encoded(version);
            Some(format!("pkg:pypi/{}@{version}{part}", normalized(project)))
        }
        OriginKind::Https => {
            let url = origin.url.as_ref()?;
            let name = url.split(['?', '#']).next().unwrap_or(url);
            let name = name.rsplit('/').find(|part| !part.is_empty())?;
            let digest = origin
                .archive
                .as_ref()
                .map_or(file.blob(), |archive| &archive.digest);
            Some(generic(name, digest, url) + &part)
        }
        _ => None,
    }
}

fn generic(name: &str, digest: &Digest, url: &str) -> String {
    let (name, hex, url) = (encoded(name), digest.hex(), encoded(url));
    format!("pkg:generic/{name}?checksum=sha256:{hex}&download_url={url}")
}

/// A project's name as an index has it: small letters, and one `-` for each run of `-`, `_` and `.`.
pub(crate) fn normalized(project: &str) -> String {
    let parts = project
        .split(['-', '_', '.'])
        .filter(|part| !part.is_empty());
    let parts: Vec<_> = parts.map(str::to_ascii_lowercase).collect();
    parts.join("-")
}

/// Percent-encoded: letters, digits and `.-_~:` stand for themselves.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b".-_~:".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use manifest_schema::{ByteSize, Descriptor};

    use super::*;

    fn origin(kind: OriginKind) -> Origin {
        Origin {
            kind,
            url: None,
            project: Some("org/My.Data".to_owned()),
            version: None,
            revision: Some("AbC".to_owned()),
            archive: None,
            license: None,
            license_stated: None,
        }
    }

    fn knowing(digest: Digest, origin: Origin) -> Provenance {
        Provenance {
            format: 1,
            blobs: BTreeMap::from([(digest, origin)]),
            code_on_load: Vec::new(),
            licenses: Vec::new(),
            license_texts: Vec::new(),
        }
    }

    #[test]
    fn a_repository_has_the_type_of_its_hub_or_is_a_git_repository() {
        let digest = Digest::of(b"a");
        for (kind, of, expected) in [
            (
                OriginKind::HuggingFace,
                ComponentKind::Model,
                Some("pkg:huggingface/org/My.Data@abc"),
            ),
            (
                OriginKind::HuggingFace,
                ComponentKind::Dataset,
                Some("pkg:git/huggingface.co/datasets/org/My.Data@AbC"),
            ),
            (
                OriginKind::ModelScope,
                ComponentKind::Model,
                Some("pkg:git/www.modelscope.cn/org/My.Data@AbC"),
            ),
            (
                OriginKind::ModelScope,
                ComponentKind::Dataset,
                Some("pkg:git/www.modelscope.cn/datasets/org/My.Data@AbC"),
            ),
            (OriginKind::File, ComponentKind::Dataset, None),
        ] {
            let file = serde_json::json!({ "path": "a", "digest": digest, "size": 1 });
            let component = serde_json::json!({ "kind": of, "name": "org/x", "license": "MIT",
                "revision": "AbC", "files": [file] });
            let component: Component = serde_json::from_value(component).unwrap();
            let found = of_repository(&component, &knowing(digest, origin(kind)));
            assert_eq!(found.as_deref(), expected, "{kind:?} {of:?}");
        }
    }

    #[test]
    fn an_image_is_named_by_digest_and_by_its_registry_where_it_came_from_one() {
        let blob = |text: &[u8]| Descriptor {
            media_type: "x/y".to_owned(),
            digest: Digest::of(text),
            size: ByteSize(1),
        };
        let image = Image {
            name: "quay.io:443/ascend/cann".parse().unwrap(),
            tag: Some("8.5_x".parse().unwrap()),
            license: "MIT".to_owned(),
            backends: Vec::new(),
            root: blob(b"index"),
            platforms: vec![PlatformImage {
                platform: "linux/arm64/v8".parse().unwrap(),
                manifest: blob(b"manifest"),
                config: blob(b"config"),
                layers: Vec::new(),
            }],
            attached: Vec::new(),
        };
        let (index, arm) = (Digest::of(b"index"), Digest::of(b"manifest"));
        let (hex, arm_hex) = (index.hex(), arm.hex());
        let at_registry = knowing(index, origin(OriginKind::Oci));
        assert_eq!(
            of_image(&image, None, &at_registry),
            format!(
                "pkg:oci/cann@sha256:{hex}?repository_url=quay.io:443%2Fascend%2Fcann&tag=8.5_x"
            )
        );
        let at_registry = knowing(arm, origin(OriginKind::Oci));
        let platform = image.platforms.first();
        assert_eq!(
            of_image(&image, platform, &at_registry),
            format!(
                "pkg:oci/cann@sha256:{arm_hex}?arch=arm64&repository_url=quay.io:443%2Fascend%2Fcann"
            )
        );
        let from_file = knowing(index, origin(OriginKind::File));
        assert_eq!(
            of_image(&image, None, &from_file),
            format!("pkg:oci/cann@sha256:{hex}?tag=8.5_x")
        );
    }
}
