//! The DSSE envelope: statement and signatures once more, for tools that read that format.
//!
//! A signature may be added later without a byte of the rest moving. So the envelope lists all keys that may sign, each
//! in a place of its own, and the signature of one that has not signed is empty:
//!
//! ```text
//! {"payload":"…","payloadType":"…","signatures":[        spaces up to a multiple of 512
//! {"keyid":"…","sig":"…"},                               spaces up to 255, line end; one for each key, ascending
//! {"keyid":"…","sig":""}
//! ]}
//! ```
//!
//! The compact form of the first bundles has the keys that signed and no spaces.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use manifest_schema::KeyId;
use serde_json::json;

use crate::layout::ROOM;
use crate::statement::PAYLOAD_TYPE;

/// Bytes of a signature's place: two lie in one block, and none crosses the border of one.
pub(crate) const PLACE: usize = 256;

/// An envelope with a place for every key that may sign.
#[derive(Debug)]
pub(crate) struct Envelope<'a> {
    head: Vec<u8>,
    keys: Vec<&'a KeyId>,
}

impl<'a> Envelope<'a> {
    /// The envelope of a statement that these keys may sign, in the order of their identifiers.
    pub(crate) fn new(statement: &[u8], keys: Vec<&'a KeyId>) -> Self {
        let payload = STANDARD.encode(statement);
        let head = format!(
            "{{\"payload\":\"{payload}\",\"payloadType\":\"{PAYLOAD_TYPE}\",\"signatures\":["
        );
        let mut head = head.into_bytes();
        // The last byte of the block is a line end.
        head.resize((head.len() + 1).next_multiple_of(ROOM as usize) - 1, b' ');
        head.push(b'\n');
        Self { head, keys }
    }

    /// The bytes, with the signatures that are there.
    pub(crate) fn bytes(&self, signature: impl Fn(&KeyId) -> Option<Vec<u8>>) -> Vec<u8> {
        let mut bytes = self.head.clone();
        for (number, key) in self.keys.iter().enumerate() {
            bytes.extend(self.place(number, signature(key).as_deref()));
        }
        bytes.extend(END);
        bytes
    }

    /// Whether `bytes` are in this form, rather than the compact one.
    pub(crate) fn begins(&self, bytes: &[u8]) -> bool {
        bytes.starts_with(&self.head)
    }

    /// Where the place of key `number` begins.
    pub(crate) fn offset(&self, number: usize) -> u64 {
        (self.head.len() + number * PLACE) as u64
    }

    /// The place of key `number`.
    pub(crate) fn place(&self, number: usize, signature: Option<&[u8]>) -> Vec<u8> {
        let signature = STANDARD.encode(signature.unwrap_or_default());
        let comma = if number + 1 < self.keys.len() {
            ","
        } else {
            ""
        };
        let entry = json!({ "keyid": self.keys[number], "sig": signature });
        let mut place = format!("{entry}{comma}").into_bytes();
        place.resize(PLACE - 1, b' ');
        place.push(b'\n');
        place
    }

    /// Whether `bytes` are this envelope with these signatures. One may be missing in it: power may have gone between
    /// the signature and its entry here.
    pub(crate) fn agrees(
        &self,
        bytes: &[u8],
        signature: impl Fn(&KeyId) -> Option<Vec<u8>>,
    ) -> bool {
        let Some(places) = bytes
            .strip_prefix(self.head.as_slice())
            .and_then(|rest| rest.strip_suffix(END))
        else {
            return false;
        };
        let fits = |(number, (key, found)): (usize, (&&KeyId, &[u8]))| {
            found == self.place(number, signature(key).as_deref())
                || found == self.place(number, None)
        };
        places.len() == self.keys.len() * PLACE
            && self
                .keys
                .iter()
                .zip(places.chunks(PLACE))
                .enumerate()
                .all(fits)
    }
}

/// The compact form, with the keys that signed only.
pub(crate) fn compact<'a>(
    kind: &str,
    payload: &[u8],
    signatures: impl IntoIterator<Item = (&'a KeyId, &'a [u8])>,
) -> Vec<u8> {
    let signatures: Vec<_> = signatures
        .into_iter()
        .map(|(key, signature)| json!({ "keyid": key, "sig": STANDARD.encode(signature) }))
        .collect();
    let envelope = json!({
        "payload": STANDARD.encode(payload),
        "payloadType": kind,
        "signatures": signatures,
    });
    let mut bytes = envelope.to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}

const END: &[u8] = b"]}\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_added_in_one_block_and_the_envelope_is_json_throughout() {
        let keys = ["1", "2", "3"].map(|digit| KeyId::parse(&digit.repeat(64)).unwrap());
        for size in 0..600 {
            let statement = vec![b'x'; size];
            let envelope = Envelope::new(&statement, keys.iter().collect());
            let signed = |key: &KeyId| (*key != keys[1]).then(|| vec![0xff; 72]);
            let mut bytes = envelope.bytes(signed);
            let read: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(read["payload"], STANDARD.encode(&statement));
            assert_eq!(read["signatures"][1]["sig"], "");
            assert!(envelope.agrees(&bytes, signed));
            let offset = envelope.offset(1);
            assert_eq!(offset / ROOM, (offset + PLACE as u64 - 1) / ROOM);
            let place = envelope.place(1, Some(&[0xff; 72]));
            bytes[offset as usize..][..PLACE].copy_from_slice(&place);
            let all = |_: &KeyId| Some(vec![0xff; 72]);
            assert_eq!(bytes, envelope.bytes(all));
            // An entry that no signature bears out is refused; a signature without its entry is not.
            assert!(!envelope.agrees(&bytes, signed) && envelope.agrees(&bytes, all));
            assert!(envelope.agrees(&envelope.bytes(|_| None), all));
            bytes.insert(offset as usize, b' ');
            assert!(!envelope.agrees(&bytes, all));
        }
    }
}
