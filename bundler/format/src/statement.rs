//! The signed statement: in-toto v1 with a SLSA provenance predicate, and what of it a key signs.

use std::collections::BTreeMap;

use manifest_schema::{Digest, OriginKind, Profiles, Provenance};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// DSSE's name of what is signed.
pub(crate) const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// What a root is called when it is signed: no signature of a statement can be taken for one of a root.
pub(crate) const ROOT_TYPE: &str = "application/vnd.ferry.root+json";
pub(crate) const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
const PREDICATE_TYPE: &str = "https://slsa.dev/provenance/v1";

/// An in-toto Statement v1.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    /// The files that the statement is about.
    pub(crate) subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    pub(crate) predicate: serde_json::Value,
}

/// One file of a [`Statement`].
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Subject {
    /// Name of the member.
    pub(crate) name: String,
    digest: Sha256Only,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Sha256Only {
    sha256: String,
}

impl Subject {
    /// A subject with its digest.
    pub(crate) fn new(name: &str, digest: &Digest) -> Self {
        Self {
            name: name.to_owned(),
            digest: Sha256Only {
                sha256: digest.hex(),
            },
        }
    }

    /// The digest, where it is one.
    pub(crate) fn digest(&self) -> Option<Digest> {
        Digest::parse_hex(&self.digest.sha256).ok()
    }

    /// Whether this names `digest`.
    pub(crate) fn has(&self, digest: &Digest) -> bool {
        self.digest.sha256 == digest.hex()
    }
}

impl Statement {
    /// States that `subject` was built from what `lock` and `provenance` name. Without a time, so that
    /// building again gives the same bytes.
    pub(crate) fn new(
        subject: Vec<Subject>,
        profiles: &Profiles,
        lock: &Digest,
        provenance: &Provenance,
    ) -> Self {
        let dependencies = dependencies(provenance);
        let predicate = json!({
            "buildDefinition": {
                "buildType": "urn:ferry:build:bundle:1",
                "externalParameters": {
                    "name": profiles.name,
                    "release": profiles.release,
                    "channel": profiles.channel,
                    "lock": { "sha256": lock.hex() },
                },
                "resolvedDependencies": dependencies,
            },
            "runDetails": {
                "builder": {
                    "id": "urn:ferry:bundler",
                    "version": { "ferry-bundler": env!("CARGO_PKG_VERSION") },
                },
            },
        });
        Self {
            kind: STATEMENT_TYPE.to_owned(),
            subject,
            predicate_type: PREDICATE_TYPE.to_owned(),
            predicate,
        }
    }

    /// Makes this statement differ from the one of an earlier attempt at the layout.
    pub(crate) fn note_attempt(&mut self, attempt: u32) {
        self.predicate["buildDefinition"]["internalParameters"] = json!({
            "attempt": attempt, "filler": " ".repeat(64 * attempt as usize),
        });
    }

    /// Reads a statement; the text says what is wrong with it.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let statement: Self = serde_json::from_slice(bytes)?;
        for (found, expected) in [
            (&statement.kind, STATEMENT_TYPE),
            (&statement.predicate_type, PREDICATE_TYPE),
        ] {
            if found != expected {
                return Err(serde::de::Error::custom(format!(
                    "`{found}` is not `{expected}`"
                )));
            }
        }
        Ok(statement)
    }
}

/// What the bundle was built from, each once and in the order of the digests: whole files as their upstreams publish
/// them. A blob that is a member of an archive stands here as the archive, because that is what lies at the address.
fn dependencies(provenance: &Provenance) -> Vec<Value> {
    let mut found = BTreeMap::new();
    for (blob, origin) in &provenance.blobs {
        if origin.kind == OriginKind::Built {
            continue;
        }
        let (digest, name) = match &origin.archive {
            Some(archive) => (&archive.digest, Some(archive.file_name.clone())),
            None => (blob, None),
        };
        found.entry(*digest).or_insert_with(|| {
            let mut one = json!({ "digest": { "sha256": digest.hex() } });
            if let Some(url) = &origin.url {
                one["uri"] = url.as_str().into();
            }
            let name = name.or_else(|| origin.url.is_none().then(|| origin.line()));
            if let Some(name) = name {
                one["name"] = name.into();
            }
            if let Some(revision) = &origin.revision {
                one["annotations"] = json!({ "revision": revision });
            }
            one
        });
    }
    found.into_values().collect()
}

/// DSSE's pre-authentication encoding: what a key signs.
pub(crate) fn pre_authentication(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let (kind, size) = (payload_type.len(), payload.len());
    let mut bytes = format!("DSSEv1 {kind} {payload_type} {size} ").into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_has_the_form_of_the_dsse_protocol() {
        assert_eq!(
            pre_authentication(PAYLOAD_TYPE, b"hello world"),
            b"DSSEv1 28 application/vnd.in-toto+json 11 hello world"
        );
    }
}
