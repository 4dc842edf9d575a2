//! The signature of a model by itself, in the form of the `OpenSSF` model signing specification, version 1.0.
//!
//! ```text
//! sigstore bundle 0.3 { hint: SHA-256 of the public key's PEM, DSSE envelope { in-toto Statement v1 {
//!     subject: name, SHA-256 over the digests of all files
//!     predicate: how files are hashed, and the SHA-256 of each } } }
//! ```
//!
//! It says of one model what the bundle's statement says of everything, in a file that `model_signing verify key` and
//! others who know the specification check without knowing bundles. It is signed over the same pre-authentication
//! encoding; its predicate's type keeps it from ever being taken for a bundle's statement.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use manifest_schema::{BundlePath, Component, Digest};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::keys::SigningKey;
use crate::statement::{PAYLOAD_TYPE, STATEMENT_TYPE, pre_authentication};

const PREDICATE_TYPE: &str = "https://model_signing/signature/v1.0";
const BUNDLE_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// What the tool passes over unless it is told otherwise.
const IGNORED: [&str; 4] = [".git", ".gitattributes", ".github", ".gitignore"];

/// The signature over the files of `model`, which will lie beside them at `place`.
pub fn model_signature(model: &Component, place: &BundlePath, key: &SigningKey) -> Vec<u8> {
    let payload = statement(model, place).to_string().into_bytes();
    let message = pre_authentication(PAYLOAD_TYPE, &payload);
    let bundle = json!({
        "mediaType": BUNDLE_TYPE,
        "verificationMaterial": {
            "publicKey": { "hint": Digest::of(key.public().pem().as_bytes()).hex() },
            "tlogEntries": [],
        },
        "dsseEnvelope": {
            "payload": STANDARD.encode(&payload),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{ "sig": STANDARD.encode(key.sign(&message)), "keyid": "" }],
        },
    });
    let mut bytes = bundle.to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}

fn statement(model: &Component, place: &BundlePath) -> Value {
    let ignored = |path: &BundlePath| {
        path == place
            || IGNORED
                .iter()
                .any(|ignored| Path::new(path.as_str()).starts_with(ignored))
    };
    let mut files: Vec<_> = model
        .files
        .iter()
        .filter(|file| !ignored(&file.path))
        .collect();
    // By parts, not by letters: `a/b` stands before `a.b`.
    files.sort_by(|a, b| a.path.as_str().split('/').cmp(b.path.as_str().split('/')));
    let mut all = Sha256::new();
    let mut resources = Vec::new();
    for file in files {
        all.update(file.digest.bytes());
        let digest = file.digest.hex();
        resources.push(json!({ "name": file.path, "algorithm": "sha256", "digest": digest }));
    }
    let name = model.name.as_str();
    let name = name.rsplit('/').next().unwrap_or(name);
    let all = Digest::from_bytes(all.finalize().into());
    let paths: Vec<&str> = IGNORED.into_iter().chain([place.as_str()]).collect();
    json!({
        "_type": STATEMENT_TYPE,
        "subject": [{ "name": name, "digest": { "sha256": all.hex() } }],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": false,
                "ignore_paths": paths,
            },
            "resources": resources,
        },
    })
}

#[cfg(test)]
mod tests {
    use manifest_schema::{ByteSize, ComponentKind, PlacedFile};

    use super::*;
    use crate::statement::Statement;

    fn model() -> Component {
        let placed = |path: &str| PlacedFile {
            path: path.parse().unwrap(),
            executable: false,
            size: ByteSize(1),
            digest: Digest::of(path.as_bytes()),
            made_from: None,
        };
        Component {
            kind: ComponentKind::Model,
            name: "org/small".parse().unwrap(),
            license: "MIT".into(),
            revision: None,
            files: ["a.b", "a/b", ".gitattributes", "model.sig", "c"]
                .map(placed)
                .to_vec(),
            signature: None,
            dataset_info: None,
            eulas: Vec::new(),
        }
    }

    #[test]
    fn a_model_signature_states_its_files_and_is_no_statement_of_a_bundle() {
        let key = SigningKey::generate(crate::Algorithm::P256).unwrap();
        let place = "model.sig".parse().unwrap();
        let signature = model_signature(&model(), &place, &key);
        assert_eq!(signature, model_signature(&model(), &place, &key));
        let bundle: Value = serde_json::from_slice(&signature).unwrap();
        let envelope = &bundle["dsseEnvelope"];
        let payload = STANDARD
            .decode(envelope["payload"].as_str().unwrap())
            .unwrap();
        let text = envelope["signatures"][0]["sig"].as_str().unwrap();
        let message = pre_authentication(PAYLOAD_TYPE, &payload);
        let signature = STANDARD.decode(text).unwrap();
        assert_eq!(key.public().check(&message, &signature), Ok(()));
        let stated: Value = serde_json::from_slice(&payload).unwrap();
        let files = stated["predicate"]["resources"].as_array().unwrap();
        let names: Vec<_> = files
            .iter()
            .map(|file| file["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["a/b", "a.b", "c"]);
        assert!(Statement::parse(&payload).is_err());
    }
}
