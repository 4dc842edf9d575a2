//! A container registry, honest unless told otherwise.

#![allow(dead_code, reason = "each test takes what it needs of it")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use manifest_schema::Digest;
use serde_json::{Value, json};

use crate::server::{Answer, Asked, Server, honest};

pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// What a registry holds of the repository `demo/app`.
#[derive(Clone, Default)]
pub struct Shelf {
    pub blobs: BTreeMap<String, Vec<u8>>,
    /// By digest and by tag: media type and bytes.
    pub manifests: BTreeMap<String, (String, Vec<u8>)>,
    /// By subject. `None` where the registry does not know the question.
    pub referrers: Option<BTreeMap<String, Vec<Value>>>,
}

/// Bytes that differ from layer to layer.
pub fn layer(name: &str) -> Vec<u8> {
    let seed = u32::from_str_radix(&Digest::of(name.as_bytes()).hex()[..7], 16).unwrap();
    (seed..seed + 300_000).flat_map(u32::to_le_bytes).collect()
}

pub fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": kind, "digest": Digest::of(bytes), "size": bytes.len() })
}

impl Shelf {
    pub fn blob(&mut self, kind: &str, bytes: Vec<u8>) -> Value {
        let entry = descriptor(kind, &bytes);
        self.blobs.insert(Digest::of(&bytes).to_string(), bytes);
        entry
    }

    /// A manifest under its digest, and under a tag where there is one.
    pub fn manifest(&mut self, kind: &str, value: &Value, tag: Option<&str>) -> Value {
        let bytes = value.to_string().into_bytes();
        let entry = descriptor(kind, &bytes);
        let names = [Some(Digest::of(&bytes).to_string()), tag.map(str::to_owned)];
        for name in names.into_iter().flatten() {
            self.manifests
                .insert(name, (kind.to_owned(), bytes.clone()));
        }
        entry
    }

    /// An image of one layer for an architecture.
    pub fn image(&mut self, arch: &str, tag: Option<&str>) -> Value {
        let config = json!({ "architecture": arch, "os": "linux", "config": { "Cmd": ["/app"] },
            "rootfs": { "type": "layers", "diff_ids": [Digest::of(arch.as_bytes())] } });
        let config = self.blob(CONFIG, config.to_string().into_bytes());
        let layer = self.blob(LAYER, layer(arch));
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config,
            "layers": [layer] });
        let mut entry = self.manifest(MANIFEST, &manifest, tag);
        entry["platform"] = json!({ "architecture": arch, "os": "linux" });
        entry
    }

    /// Both architectures under one tag; returns the index' entry.
    pub fn both(&mut self, tag: &str) -> Value {
        let entries = [self.image("amd64", None), self.image("arm64", None)];
        self.index(&entries, Some(tag))
    }

    pub fn index(&mut self, entries: &[Value], tag: Option<&str>) -> Value {
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
        self.manifest(INDEX, &index, tag)
    }

    /// A manifest that speaks of `subject`.
    pub fn attached(&mut self, subject: &Value, what: &str, tag: Option<&str>) -> Value {
        let config = self.blob("application/vnd.oci.empty.v1+json", b"{}".to_vec());
        let payload = self.blob("application/json", format!("{{\"{what}\":1}}").into_bytes());
        let mut manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST,
            "artifactType": format!("x/{what}"), "config": config, "layers": [payload] });
        if tag.is_none() {
            let keys =
                ["mediaType", "digest", "size"].map(|key| (key.to_owned(), subject[key].clone()));
            manifest["subject"] = Value::Object(keys.into_iter().collect());
        }
        self.manifest(MANIFEST, &manifest, tag)
    }

    pub fn answer(&self, asked: &Asked) -> Answer {
        let path = asked.path.split('?').next().unwrap();
        if path == "/v2/" {
            return Answer::new(200, b"{}");
        }
        let Some(rest) = path.strip_prefix("/v2/demo/app/") else {
            return unknown("NAME_UNKNOWN");
        };
        let (kind, name) = rest.split_once('/').unwrap();
        match kind {
            "manifests" => match self.manifests.get(name) {
                Some((kind, bytes)) => honest(asked, bytes)
                    .with("Content-Type", kind)
                    .with("Docker-Content-Digest", &Digest::of(bytes).to_string()),
                None => unknown("MANIFEST_UNKNOWN"),
            },
            "blobs" => match self.blobs.get(name) {
                Some(bytes) => honest(asked, bytes),
                None => unknown("BLOB_UNKNOWN"),
            },
            "tags" => Answer::new(200, br#"{"name":"demo/app","tags":["1"]}"#),
            "referrers" => match &self.referrers {
                Some(known) => {
                    let list = known.get(name).cloned().unwrap_or_default();
                    let index =
                        json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": list });
                    Answer::new(200, index.to_string().as_bytes()).with("Content-Type", INDEX)
                }
                None => Answer::new(404, b"404 page not found"),
            },
            _ => Answer::new(404, b""),
        }
    }

    pub fn serve(self) -> Server {
        Server::new(move |_, asked| self.answer(asked))
    }
}

pub fn unknown(code: &str) -> Answer {
    let body = json!({ "errors": [{ "code": code, "message": "not here", "detail": null }] });
    Answer::new(404, body.to_string().as_bytes()).with("Content-Type", "application/json")
}

/// A registry with a token server beside it, each on its own port, and blobs on a third.
pub struct Guarded {
    pub registry: Server,
    pub tokens: Server,
    pub storage: Server,
}

impl Guarded {
    /// `login` is what the token server wants, `user:password`, or `<token>:` and an identity token; without one it
    /// gives tokens to all. Each token is good for `uses` requests.
    pub fn new(shelf: Shelf, login: Option<&str>, uses: usize) -> Self {
        let identity = login.and_then(|pair| pair.strip_prefix("<token>:"));
        let identity = identity.map(|token| format!("refresh_token={token}"));
        let wanted = login.map(|pair| {
            use base64::Engine as _;
            let pair = base64::engine::general_purpose::STANDARD.encode(pair);
            format!("Basic {pair}")
        });
        let good: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
        let given = Arc::clone(&good);
        let tokens = Server::new(move |number, asked| {
            let (question, right) = match &identity {
                Some(identity) => {
                    let mut fields = asked.body.split('&');
                    let refresh = asked.body.contains("grant_type=refresh_token");
                    let right = asked.method == "POST" && refresh;
                    (&asked.body, right && fields.any(|field| field == identity))
                }
                None => {
                    let shown = asked.header("authorization");
                    let right = wanted.as_deref().is_none_or(|w| shown == Some(w));
                    (&asked.path, right && asked.method == "GET")
                }
            };
            let scope = question.contains("scope=repository%3Ademo%2Fapp%3Apull");
            if !right || !scope || !question.contains("service=demo") {
                return Answer::new(401, b"{}");
            }
            let token = format!("token-{number}");
            given.lock().unwrap().insert(token.clone(), uses);
            Answer::new(200, json!({ "token": token }).to_string().as_bytes())
        });
        let blobs = shelf.blobs.clone();
        let storage = Server::new(move |_, asked| {
            let name = asked.path.trim_start_matches('/').replace('-', ":");
            blobs
                .get(&name)
                .map_or_else(|| Answer::new(404, b""), |bytes| honest(asked, bytes))
        });
        let challenge = format!(
            r#"Bearer realm="{}/token",service="demo",scope="repository:demo/app:pull""#,
            tokens.url
        );
        let elsewhere = storage.url.clone();
        let registry = Server::new(move |_, asked| {
            let token = asked
                .header("authorization")
                .and_then(|v| v.strip_prefix("Bearer "));
            let mut good = good.lock().unwrap();
            let left = token
                .and_then(|token| good.get_mut(token))
                .filter(|left| **left > 0);
            let Some(left) = left else {
                return Answer::new(401, b"{}").with("WWW-Authenticate", &challenge);
            };
            *left -= 1;
            match asked.path.split_once("/blobs/") {
                Some((_, digest)) => {
                    let place = format!("{elsewhere}/{}", digest.replace(':', "-"));
                    Answer::new(307, b"").with("Location", &place)
                }
                None => shelf.answer(asked),
            }
        });
        Self {
            registry,
            tokens,
            storage,
        }
    }
}
