//! `meta/sbom.cdx.json`: what is in a bundle, as a `CycloneDX` 1.6 bill of materials.
//!
//! Made of the profiles and the provenance alone, without a time, so that equal bundles have equal bills. A model is a
//! `machine-learning-model`, a dataset is `data`, a wheel and a package of an operating system a `library`, an image a
//! `container`; each has its licence and package URL where they
//! are known, and lists its files with their SHA-256.

use std::fmt::Write as _;

use manifest_schema::{
    ArchiveMember, Backend, Component, ComponentKind, Digest, Eula, Image, Origin, OriginKind,
    OsPackages, PackageFormat, PlacedFile, Profiles, Provenance,
};
use serde_json::{Value, json};

/// The bill of a bundle whose lock has digest `lock`.
pub(crate) fn bill(profiles: &Profiles, provenance: &Provenance, lock: &Digest) -> Value {
    let mut components: Vec<Value> = Vec::new();
    for component in &profiles.components {
        components.push(model_or_data(component, provenance));
    }
    for backend in &profiles.backends {
        components.push(backend_of(backend, provenance));
    }
    for image in &profiles.images {
        components.push(image_of(image));
    }
    for set in &profiles.os_packages {
        components.push(packages_of(set, provenance));
    }
    let name = profiles.name.as_str();
    json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": format!("urn:uuid:{}", uuid(lock)),
        "version": 1,
        "metadata": {
            "tools": { "components": [{
                "type": "application", "name": "ferry-bundler", "version": env!("CARGO_PKG_VERSION"),
            }] },
            "component": {
                "type": "application", "bom-ref": "bundle", "name": name,
                "version": profiles.release.to_string(),
            },
        },
        "components": components,
    })
}

fn model_or_data(component: &Component, provenance: &Provenance) -> Value {
    let (kind, prefix) = match component.kind {
        ComponentKind::Model => ("machine-learning-model", "model"),
        ComponentKind::Dataset => ("data", "dataset"),
    };
    let own = format!("{prefix}:{}", component.name);
    let mut value = json!({
        "type": kind,
        "bom-ref": own,
        "name": component.name,
        "licenses": [{ "expression": component.license }],
        "components": files(&component.files, &own, provenance),
    });
    terms(&mut value, &component.eulas, &own, provenance);
    if let Some(revision) = &component.revision {
        value["version"] = revision.as_str().into();
    }
    if let Some(purl) = purl_of_repository(component, provenance) {
        value["purl"] = purl.into();
    }
    value
}

/// The package URL of a model that the Hugging Face Hub has: `pkg:huggingface/org/name@commit`. The type is for models
/// alone, and no other hub has one.
fn purl_of_repository(component: &Component, provenance: &Provenance) -> Option<String> {
    let revision = component.revision.as_ref()?;
    let mut origins = component.files.iter();
    let origin = origins.find_map(|file| {
        let origin = provenance.blobs.get(file.blob())?;
        let from_there =
            origin.kind == OriginKind::HuggingFace && origin.revision.as_ref() == Some(revision);
        from_there.then_some(origin)
    })?;
    let repository = origin.project.as_ref()?;
    let model = component.kind == ComponentKind::Model;
    model.then(|| format!("pkg:huggingface/{repository}@{}", revision.to_lowercase()))
}

fn backend_of(backend: &Backend, provenance: &Provenance) -> Value {
    let own = format!("backend:{}", backend.name);
    let mut parts = files(&backend.files, &own, provenance);
    for wheel in backend.python.iter().flat_map(|python| &python.wheels) {
        parts.push(wheel_of(wheel, &own, provenance));
    }
    for item in &backend.host {
        let own = format!("{own}/host/{}", item.kind);
        let inside: Vec<Value> = item
            .files()
            .map(|(field, one)| file(one, &format!("{own}/{field}"), provenance))
            .collect();
        parts.push(json!({
            "type": "application", "bom-ref": own, "name": item.kind, "version": item.version,
            "components": inside,
        }));
    }
    let mut value =
        json!({ "type": "platform", "bom-ref": own, "name": backend.name, "components": parts });
    terms(&mut value, &backend.eulas, &own, provenance);
    value
}

/// Adds the texts that a person must accept to what they stand before.
fn terms(value: &mut Value, eulas: &[Eula<PlacedFile>], own: &str, provenance: &Provenance) {
    for eula in eulas {
        let text = file(
            &eula.text,
            &format!("{own}/eulas/{}", eula.name),
            provenance,
        );
        if let Some(parts) = value["components"].as_array_mut() {
            parts.push(text);
        }
    }
}

fn image_of(image: &Image) -> Value {
    let own = format!("image:{}", image.reference());
    let platforms = image.platforms.iter().map(|one| {
        json!({
            "type": "container",
            "bom-ref": format!("{own}/{}", one.platform),
            "name": one.platform,
            "hashes": [{ "alg": "SHA-256", "content": one.manifest.digest.hex() }],
        })
    });
    let platforms: Vec<Value> = platforms.collect();
    let name = image.name.as_str();
    let last = name.rsplit('/').next().unwrap_or(name);
    let (hex, repository) = (image.root.digest.hex(), name.replace(':', "%3A"));
    let mut purl = format!("pkg:oci/{last}@sha256%3A{hex}?repository_url={repository}");
    if let Some(tag) = &image.tag {
        purl = format!("{purl}&tag={tag}");
    }
    json!({
        "type": "container",
        "bom-ref": own,
        "name": name,
        "version": image.version(),
        "purl": purl,
        "hashes": [{ "alg": "SHA-256", "content": image.root.digest.hex() }],
        "licenses": [{ "expression": image.license }],
        "components": platforms,
    })
}

/// A system's packages, each a `library` with its package URL.
fn packages_of(set: &OsPackages, provenance: &Provenance) -> Value {
    let own = format!("os:{}", set.name);
    let mut parts = files(&set.metadata, &own, provenance);
    for package in &set.packages {
        let mut value = file(&package.file, &own, provenance);
        // Debian counts the epoch as part of the version, rpm's URLs name it apart.
        let (version, epoch) = match (set.format, package.version.as_str().split_once(':')) {
            (PackageFormat::Rpm, Some((epoch, version))) => (version, format!("&epoch={epoch}")),
            _ => (package.version.as_str(), String::new()),
        };
        let version = escaped(version);
        let distro = set.edition.as_deref().map_or_else(String::new, |edition| {
            format!("&distro={}", escaped(&format!("{}-{edition}", set.os)))
        });
        value["type"] = "library".into();
        value["name"] = package.name.as_str().into();
        value["version"] = package.version.as_str().into();
        value["purl"] = format!(
            "pkg:{}/{}/{}@{version}?arch={}{epoch}{distro}",
            set.format.as_str(),
            set.os,
            escaped(package.name.as_str()),
            package.arch,
        )
        .into();
        if let Some(license) = &package.license {
            // The packager's words are seldom an SPDX expression.
            value["licenses"] = json!([{ "license": { "name": license } }]);
        }
        parts.push(value);
    }
    json!({ "type": "operating-system", "bom-ref": own, "name": set.os, "components": parts })
}

/// A part of a package URL.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte);
    let one = |byte: u8| {
        if plain(byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(one).collect()
}

fn wheel_of(wheel: &PlacedFile, owner: &str, provenance: &Provenance) -> Value {
    let mut value = file(wheel, owner, provenance);
    let origin = provenance.blobs.get(wheel.blob());
    let known = origin.and_then(|origin| origin.project.as_ref().zip(origin.version.as_ref()));
    if let Some((project, version)) = known {
        value["type"] = "library".into();
        value["name"] = normalized(project).into();
        value["version"] = version.as_str().into();
    }
    value
}

/// A project's name as an index has it: small letters, and one `-` for each run of `-`, `_` and `.`.
fn normalized(project: &str) -> String {
    let parts = project
        .split(['-', '_', '.'])
        .filter(|part| !part.is_empty());
    let parts: Vec<_> = parts.map(str::to_ascii_lowercase).collect();
    parts.join("-")
}

fn files(files: &[PlacedFile], owner: &str, provenance: &Provenance) -> Vec<Value> {
    files
        .iter()
        .map(|one| file(one, owner, provenance))
        .collect()
}

fn file(file: &PlacedFile, owner: &str, provenance: &Provenance) -> Value {
    let mut value = json!({
        "type": "file",
        "bom-ref": format!("{owner}/{}", file.path),
        "name": file.path,
        "hashes": [{ "alg": "SHA-256", "content": file.digest.hex() }],
    });
    let Some(origin) = provenance.blobs.get(file.blob()) else {
        return value;
    };
    if let Some(expression) = &origin.license {
        value["licenses"] = json!([{ "expression": expression }]);
    } else if let Some(stated) = &origin.license_stated {
        // Said so by its maker, and no identifier of the list.
        value["licenses"] = json!([{ "license": { "name": stated } }]);
    }
    if let Some(purl) = purl(origin, file) {
        value["purl"] = purl.into();
    }
    if let Some(url) = &origin.url {
        value["externalReferences"] = json!([{ "type": "distribution", "url": url }]);
    }
    value
}

/// The package URL of what a file is or is taken from.
fn purl(origin: &Origin, file: &PlacedFile) -> Option<String> {
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
            let (hex, url) = (digest.hex(), encoded(url));
            let name = encoded(name);
            Some(format!(
                "pkg:generic/{name}?checksum=sha256:{hex}&download_url={url}{part}"
            ))
        }
        _ => None,
    }
}

/// Percent-encoded as package URLs are: letters, digits and `.-_~:` stand for themselves.
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

/// A UUID of version 8 (RFC 9562) that follows from a digest.
fn uuid(digest: &Digest) -> String {
    let hex = digest.hex();
    let variant = match &hex[16..17] {
        "0" | "4" | "8" | "c" => '8',
        "1" | "5" | "9" | "d" => '9',
        "2" | "6" | "a" | "e" => 'a',
        _ => 'b',
    };
    format!(
        "{}-{}-8{}-{variant}{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[13..16],
        &hex[17..20],
        &hex[20..32]
    )
}
