//! Signs as a distribution does: an OpenPGP key of version 4 on the curve P-256, made in memory.
//!
//! Just enough of RFC 4880 and RFC 6637 for `gpgv` to say yes or no.

#![allow(dead_code, reason = "each test takes what it needs of it")]
#![allow(clippy::print_stderr, reason = "a test says when it is skipped")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::ecdsa::Signature;
use p256::ecdsa::SigningKey;
use p256::ecdsa::signature::hazmat::PrehashSigner;
use sha1::{Digest as _, Sha1};
use sha2::Sha256;

/// A key that signs.
pub struct Key {
    secret: SigningKey,
    body: Vec<u8>,
}

impl Key {
    /// The key of a number: the same number is the same key.
    pub fn new(number: u8) -> Self {
        let secret = SigningKey::from_slice(&[number; 32]).unwrap();
        let point = secret.verifying_key().to_encoded_point(false);
        // Version, time, algorithm ECDSA, curve, point.
        let mut body = vec![4, 0x5e, 0x0b, 0xe1, 0x00, 19];
        body.extend([8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07]);
        body.extend(number_of(point.as_bytes()));
        Self { secret, body }
    }

    /// The public key, armoured.
    pub fn public(&self) -> Vec<u8> {
        let mut all = packet(6, &self.body);
        let name = b"Test <test@example.org>";
        all.extend(packet(13, name));
        let mut signed = self.framed();
        signed.push(0xb4);
        signed.extend((name.len() as u32).to_be_bytes());
        signed.extend(name);
        // A certificate of itself, for a key that signs.
        all.extend(self.signature(0x13, &signed, 8));
        armoured("PUBLIC KEY BLOCK", &all)
    }

    /// A signature beside `data`, armoured.
    pub fn detached(&self, data: &[u8]) -> Vec<u8> {
        armoured("SIGNATURE", &self.signature(0x00, data, 8))
    }

    /// A signature beside `data` over its SHA-1.
    pub fn weak(&self, data: &[u8]) -> Vec<u8> {
        armoured("SIGNATURE", &self.signature(0x00, data, 2))
    }

    /// `text` signed in place.
    pub fn inline(&self, text: &str) -> Vec<u8> {
        let lines: Vec<&str> = text
            .trim_end_matches('\n')
            .split('\n')
            .map(str::trim_end)
            .collect();
        let signature = self.signature(0x01, lines.join("\r\n").as_bytes(), 8);
        let mut signed = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n".to_owned();
        signed += &(lines.join("\n") + "\n");
        [signed.into_bytes(), armoured("SIGNATURE", &signature)].concat()
    }

    fn framed(&self) -> Vec<u8> {
        let mut framed = vec![0x99];
        framed.extend((self.body.len() as u16).to_be_bytes());
        framed.extend(&self.body);
        framed
    }

    fn signature(&self, class: u8, data: &[u8], hash: u8) -> Vec<u8> {
        let fingerprint = Sha1::digest(self.framed());
        // Time, what the key may do, fingerprint of the issuer.
        let mut hashed = vec![5, 2, 0x5e, 0x0b, 0xe1, 0x01, 2, 27, 3, 22, 33, 4];
        hashed.extend(fingerprint);
        let mut body = vec![4, class, 19, hash];
        body.extend((hashed.len() as u16).to_be_bytes());
        body.extend(hashed);
        let mut trailer = vec![4, 0xff];
        trailer.extend((body.len() as u32).to_be_bytes());
        let signed = [data, &body, &trailer].concat();
        let digest = match hash {
            2 => Sha1::digest(&signed).to_vec(),
            _ => <Sha256 as sha2::Digest>::digest(&signed).to_vec(),
        };
        // A shorter digest is filled up on the left, as ECDSA has it.
        let mut padded = vec![0; 32 - digest.len()];
        padded.extend(&digest);
        let signature: Signature = self.secret.sign_prehash(&padded).unwrap();
        // Nobody signed the issuer's number, so it stands apart.
        let mut unhashed = vec![9, 16];
        unhashed.extend(&fingerprint[12..]);
        body.extend((unhashed.len() as u16).to_be_bytes());
        body.extend(unhashed);
        body.extend(&digest[..2]);
        body.extend(number_of(&signature.r().to_bytes()));
        body.extend(number_of(&signature.s().to_bytes()));
        packet(2, &body)
    }
}

/// Whether `gpgv` is here; a test that needs it says so and ends where it is not.
pub fn gpgv_is_here() -> bool {
    let here = std::process::Command::new("gpgv")
        .arg("--version")
        .output()
        .is_ok();
    if !here {
        eprintln!("skipped: gpgv is not on this machine");
    }
    here
}

fn packet(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80 | tag << 2 | 1];
    packet.extend((body.len() as u16).to_be_bytes());
    packet.extend(body);
    packet
}

/// A number with its length in bits.
fn number_of(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let bytes = &bytes[zeros..];
    let bits = bytes.len() * 8
        - bytes
            .first()
            .map_or(0, |byte| byte.leading_zeros() as usize);
    [&(bits as u16).to_be_bytes()[..], bytes].concat()
}

fn armoured(kind: &str, bytes: &[u8]) -> Vec<u8> {
    let body = STANDARD.encode(bytes);
    let lines: Vec<&str> = body
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    let crc = bytes.iter().fold(0xb7_04ce_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << 16, |crc, _| {
            let next = crc << 1;
            if next & 0x100_0000 == 0 {
                next
            } else {
                next ^ 0x186_4cfb
            }
        })
    });
    let crc = STANDARD.encode(&crc.to_be_bytes()[1..]);
    format!(
        "-----BEGIN PGP {kind}-----\n\n{}\n={crc}\n-----END PGP {kind}-----\n",
        lines.join("\n")
    )
    .into_bytes()
}
