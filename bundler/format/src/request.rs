//! A statement that was carried to the machine with the key.

use manifest_schema::Digest;

use crate::chain::RootChain;
use crate::keys::SigningKey;
use crate::layout;
use crate::sign_error::SignError;
use crate::statement::{PAYLOAD_TYPE, Statement, pre_authentication};

/// A statement apart from its bundle: what a key on another machine signs.
#[derive(Clone, Debug)]
pub struct Request {
    bytes: Vec<u8>,
    /// Name, release and channel of the bundle.
    pub title: String,
    /// Fingerprint of the newest root that the statement names.
    pub root: Digest,
    /// Number of files that the statement is about.
    pub files: usize,
}

impl Request {
    /// Reads a statement as [`Draft::statement`] gives it.
    ///
    /// # Errors
    /// When the bytes are not the statement of a bundle.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, SignError> {
        let malformed = |cause: String| SignError::Malformed { cause };
        let statement = Statement::parse(&bytes).map_err(|error| malformed(error.to_string()))?;
        let roots = statement.subject.iter().filter_map(|subject| {
            let file = subject.name.strip_prefix("meta/root/")?;
            let version = layout::root_version(file.strip_suffix(".json")?)?;
            Some((version, subject.digest()?))
        });
        let (_, root) = roots
            .max_by_key(|(version, _)| *version)
            .ok_or_else(|| malformed("it names no trust root".to_owned()))?;
        let built = &statement.predicate["buildDefinition"]["externalParameters"];
        let text = |name: &str| match &built[name] {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        Ok(Self {
            title: format!("{} {} ({})", text("name"), text("release"), text("channel")),
            root,
            files: statement.subject.len(),
            bytes,
        })
    }

    /// Digest of the statement: the bundle's identity, which two people can compare.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// Signs the statement. `roots` is what the key's own folder knows.
    ///
    /// # Errors
    /// When the statement stands under another root, or the key is not one of it.
    pub fn sign(&self, key: &SigningKey, roots: &RootChain) -> Result<Vec<u8>, SignError> {
        if roots.fingerprint() != self.root {
            return Err(SignError::OtherRoot {
                stated: self.root,
                known: roots.fingerprint(),
            });
        }
        if !roots.last().counts(key.key_id()) {
            let key = key.key_id().to_string();
            return Err(SignError::KeyNotInRoot { key });
        }
        Ok(key.sign(&pre_authentication(PAYLOAD_TYPE, &self.bytes)))
    }
}
