//! `meta/sbom.cdx.json`: what is in a bundle, as a `CycloneDX` 1.6 bill of materials.
//!
//! Made of the profiles and the provenance alone, without a time, so that equal bundles have equal bills. A model is a
//! `machine-learning-model`, a dataset is `data`, a wheel and a package of an operating system a `library`, an image a
//! `container`; each has its licence and package URL where they
//! are known, and lists its files with their SHA-256.

use manifest_schema::{
    Backend, Component, ComponentKind, Digest, Eula, Image, OsPackages, PlacedFile, Profiles,
    Provenance,
};
use serde_json::{Value, json};

use crate::purl;

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
        components.push(image_of(image, provenance));
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
    if let Some(purl) = purl::of_repository(component, provenance) {
        value["purl"] = purl.into();
    }
    value
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

fn image_of(image: &Image, provenance: &Provenance) -> Value {
    let own = format!("image:{}", image.reference());
    let platforms = image.platforms.iter().map(|one| {
        json!({
            "type": "container",
            "bom-ref": format!("{own}/{}", one.platform),
            "name": one.platform,
            "purl": purl::of_image(image, Some(one), provenance),
            "hashes": [{ "alg": "SHA-256", "content": one.manifest.digest.hex() }],
        })
    });
    let platforms: Vec<Value> = platforms.collect();
    json!({
        "type": "container",
        "bom-ref": own,
        "name": image.name,
        "version": image.version(),
        "purl": purl::of_image(image, None, provenance),
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
        value["type"] = "library".into();
        value["name"] = package.name.as_str().into();
        value["version"] = package.version.as_str().into();
        value["purl"] = purl::of_package(set, package).into();
        if let Some(license) = &package.license {
            // The packager's words are seldom an SPDX expression.
            value["licenses"] = json!([{ "license": { "name": license } }]);
        }
        parts.push(value);
    }
    json!({ "type": "operating-system", "bom-ref": own, "name": set.os, "components": parts })
}

fn wheel_of(wheel: &PlacedFile, owner: &str, provenance: &Provenance) -> Value {
    let mut value = file(wheel, owner, provenance);
    let origin = provenance.blobs.get(wheel.blob());
    let known = origin.and_then(|origin| origin.project.as_ref().zip(origin.version.as_ref()));
    if let Some((project, version)) = known {
        value["type"] = "library".into();
        value["name"] = purl::normalized(project).into();
        value["version"] = version.as_str().into();
    }
    value
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
    if let Some(purl) = purl::of_file(origin, file) {
        value["purl"] = purl.into();
    }
    if let Some(url) = &origin.url {
        value["externalReferences"] = json!([{ "type": "distribution", "url": url }]);
    }
    value
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
