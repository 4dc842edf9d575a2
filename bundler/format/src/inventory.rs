//! An inventory under the signature of its site, so that nobody changes on the way what a delta is made from.
//!
//! A site makes its key by itself, and shows the key's identifier. Whoever noted that identifier can tell this
//! site's inventory from any other; whoever did not still sees that the bytes are those that some site signed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use manifest_schema::plan::ManifestError;
use manifest_schema::site::Inventory;
use manifest_schema::{Digest, KeyId};
use p256::ecdsa::signature::{Signer as _, Verifier as _};
use p256::ecdsa::{Signature, SigningKey, VerifyingKey};
use p256::elliptic_curve::rand_core::OsRng;
use pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _};
use pkcs8::{EncodePublicKey as _, LineEnding};
use report::{Args, Diagnose, Outcome};
use serde::Deserialize;

use crate::envelope::compact;
use crate::statement::pre_authentication;

/// The key of one site. It stays there.
pub struct SiteKey {
    key: SigningKey,
    id: KeyId,
    pem: String,
}

impl SiteKey {
    /// Makes a new key from the system's random numbers.
    ///
    /// # Errors
    /// When the key cannot be encoded.
    pub fn generate() -> Result<Self, InventoryError> {
        Self::new(SigningKey::random(&mut OsRng))
    }

    /// Reads a PKCS#8 PEM.
    ///
    /// # Errors
    /// When the text is no such key.
    pub fn from_pem(pem: &str) -> Result<Self, InventoryError> {
        Self::new(SigningKey::from_pkcs8_pem(pem).map_err(|_| InventoryError::Key)?)
    }

    /// The key as PKCS#8 PEM, not encrypted: whoever may read it may sign as this site.
    ///
    /// # Errors
    /// When the key cannot be encoded.
    pub fn to_pem(&self) -> Result<String, InventoryError> {
        let pem = self.key.to_pkcs8_pem(LineEnding::LF);
        Ok(pem.map_err(|_| InventoryError::Key)?.to_string())
    }

    /// What people note to know this site again: SHA-256 of the public key's SPKI DER.
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// The inventory in a DSSE envelope.
    pub fn sign(&self, inventory: Inventory) -> Vec<u8> {
        let key = Some(self.pem.clone());
        let inventory = Inventory { key, ..inventory };
        // An inventory is made of strings, numbers, lists and maps by strings.
        let payload = serde_json::to_vec(&inventory).unwrap_or_default();
        let signature: Signature = self.key.sign(&pre_authentication(KIND, &payload));
        compact(KIND, &payload, [(&self.id, signature.to_der().as_bytes())])
    }

    fn new(key: SigningKey) -> Result<Self, InventoryError> {
        let (id, pem) = name(key.verifying_key()).ok_or(InventoryError::Key)?;
        Ok(Self { key, id, pem })
    }
}

/// An inventory as it arrived.
#[derive(Clone, Debug)]
pub struct Received {
    /// What the site has.
    pub inventory: Inventory,
    /// The key whose signature holds; `None` where nobody signed.
    pub signed_by: Option<KeyId>,
}

impl Received {
    /// Reads an inventory, signed or not.
    ///
    /// # Errors
    /// When it is no inventory, or its signature does not hold.
    pub fn read(bytes: &[u8]) -> Result<Self, InventoryError> {
        let Ok(envelope) = serde_json::from_slice::<Envelope>(bytes) else {
            return Ok(Self {
                inventory: Inventory::parse(bytes)?,
                signed_by: None,
            });
        };
        if envelope.kind != KIND {
            return Err(InventoryError::Envelope("it is about something else"));
        }
        let [signed] = envelope.signatures.as_slice() else {
            return Err(InventoryError::Envelope("it must have one signature"));
        };
        let decode = |text: &str| STANDARD.decode(text);
        let (Ok(payload), Ok(signature)) = (decode(&envelope.payload), decode(&signed.sig)) else {
            return Err(InventoryError::Envelope("it is not base64"));
        };
        let inventory = Inventory::parse(&payload)?;
        let pem = inventory.key.as_deref().unwrap_or_default();
        let key = VerifyingKey::from_public_key_pem(pem)
            .map_err(|_| InventoryError::Envelope("it names no key"))?;
        let holds = Signature::from_der(&signature).is_ok_and(|found| {
            key.verify(&pre_authentication(KIND, &payload), &found)
                .is_ok()
        });
        match name(&key) {
            Some((id, _)) if holds && id == signed.keyid => Ok(Self {
                inventory,
                signed_by: Some(id),
            }),
            _ => Err(InventoryError::Signature),
        }
    }
}

/// Identifier and PEM of a public key.
fn name(key: &VerifyingKey) -> Option<(KeyId, String)> {
    let der = key.to_public_key_der().ok()?;
    let id = KeyId::parse(&Digest::of(der.as_bytes()).hex()).ok()?;
    Some((id, key.to_public_key_pem(LineEnding::LF).ok()?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    payload: String,
    #[serde(rename = "payloadType")]
    kind: String,
    signatures: Vec<Signed>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    keyid: KeyId,
    sig: String,
}

/// Why an inventory cannot be signed or believed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InventoryError {
    /// The site's key cannot be used.
    #[error("the site's key is not a P-256 key in PKCS#8 PEM")]
    Key,
    /// The envelope is not as it must be.
    #[error("the envelope is no signed inventory: {0}")]
    Envelope(&'static str),
    /// The signature does not hold.
    #[error("the signature does not hold: the inventory was changed after it was signed")]
    Signature,
    /// The inventory itself is wrong.
    #[error(transparent)]
    Content(#[from] ManifestError),
}

impl Diagnose for InventoryError {
    fn code(&self) -> &'static str {
        match self {
            Self::Key => "bundle.site-key",
            Self::Envelope(_) => "bundle.inventory-envelope",
            Self::Signature => "bundle.inventory-signature",
            Self::Content(_) => "bundle.inventory-content",
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::Key | Self::Signature => Args::new(),
            Self::Envelope(cause) => vec![("cause", (*cause).to_owned())],
            Self::Content(problem) => vec![("cause", problem.to_string())],
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Signature => Outcome::Untrusted,
            _ => Outcome::Usage,
        }
    }
}

/// DSSE's name of what is signed.
const KIND: &str = "application/vnd.ferry.inventory+json";

#[cfg(test)]
mod tests {
    use super::*;

    fn inventory() -> Inventory {
        Inventory {
            format: 1,
            blobs: vec![Digest::of(b"a blob")],
            ..Inventory::default()
        }
    }

    #[test]
    fn a_signed_inventory_is_read_back_under_its_sites_key() {
        let key = SiteKey::from_pem(&SiteKey::generate().unwrap().to_pem().unwrap()).unwrap();
        let read = Received::read(&key.sign(inventory())).unwrap();
        assert_eq!(read.signed_by.as_ref(), Some(key.id()));
        assert_eq!(read.inventory.blobs, inventory().blobs);
        let plain = serde_json::to_vec_pretty(&inventory()).unwrap();
        assert_eq!(Received::read(&plain).unwrap().signed_by, None);
    }

    #[test]
    fn no_changed_byte_and_no_other_key_passes() {
        let key = SiteKey::generate().unwrap();
        let good = key.sign(inventory());
        for spot in 0..good.len() - 1 {
            let mut bytes = good.clone();
            bytes[spot] ^= 1;
            let error = Received::read(&bytes)
                .map(|read| read.signed_by)
                .unwrap_err();
            assert!(
                error.code().starts_with("bundle.inventory-"),
                "{spot}: {error}"
            );
        }
        // An insider's own key under this site's name.
        let other = SiteKey::generate().unwrap();
        let text = String::from_utf8(other.sign(inventory())).unwrap();
        let forged = text.replace(other.id().as_str(), key.id().as_str());
        let error = Received::read(forged.as_bytes()).unwrap_err();
        assert!(matches!(error, InventoryError::Signature), "{error}");
        assert!(SiteKey::from_pem("-----BEGIN PRIVATE KEY-----").is_err());
    }
}
