//! Documents that somebody hands over: plans, locks, inventories, keys, vendors' signatures, typed letters.

use bundle_format::{PublicKey, Received, RootDocument, SigningKey, SiteKey};
use manifest_schema::lock::Lock;
use manifest_schema::plan::Plan;
use manifest_schema::site::{Inventory, Site};
use manifest_schema::site_code::{SiteCode, SitePart, decode};
use manifest_schema::{Index, Profiles, Provenance, Requires};

use crate::{Target, choose, chosen, file};

/// JSON documents.
pub(crate) const MANIFESTS: Target = Target {
    name: "manifests",
    run: |bytes| {
        let Some((number, bytes)) = choose(bytes, 8) else {
            return;
        };
        match number {
            0 => drop(Plan::parse(bytes)),
            1 => drop(Lock::parse(bytes)),
            2 => drop(Inventory::parse(bytes)),
            3 => drop(serde_json::from_slice::<Index>(bytes)),
            4 => drop(serde_json::from_slice::<Profiles>(bytes)),
            5 => drop(serde_json::from_slice::<Provenance>(bytes)),
            6 => drop(serde_json::from_slice::<Requires>(bytes)),
            _ => {
                // What was read and is written again is the same machine.
                if let Ok(site) = serde_json::from_slice::<Site>(bytes) {
                    let again = serde_json::to_vec(&site).expect("a site has a JSON form");
                    assert_eq!(serde_json::from_slice::<Site>(&again).ok(), Some(site));
                }
            }
        }
    },
    seeds: || {
        let index = br#"{"format":1,"piece_size":4096,"blobs":[{"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0,"codec":"raw","pieces":[],"member":"blobs/sha256/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","volume":1,"offset":512}]}"#;
        let inventory = br#"{"format":1,"site":{"programs":[],"devices":[],"vendors":[]},"interpreters":[{"interpreter":"cp311","abi":"cp311","markers":{"os_name":"posix"}}],"releases":[],"blobs":[]}"#;
        let site = br#"{"cpu":{"value":{"vendor":"0x48","part":"0xd01","processors":4},"source":"x"},"programs":[],"devices":[],"vendors":[]}"#;
        vec![
            chosen(0, &file("tests/plans/demo.json")),
            chosen(2, inventory),
            chosen(3, index),
            chosen(7, site),
        ]
    },
};

/// Keys, roots and signed inventories.
pub(crate) const KEYS: Target = Target {
    name: "keys",
    run: |bytes| {
        let Some((number, bytes)) = choose(bytes, 4) else {
            return;
        };
        let text = String::from_utf8_lossy(bytes);
        match number {
            0 => drop(RootDocument::parse(bytes)),
            1 => drop(PublicKey::from_pem(&text)),
            2 => {
                drop(SiteKey::from_pem(&text));
                // A key's file says itself how many rounds its password takes; hours would be no finding here.
                if !text.contains("ENCRYPTED") {
                    drop(SigningKey::from_encrypted_pem(&text, b"password"));
                }
            }
            _ => drop(Received::read(bytes)),
        }
    },
    seeds: || {
        let key = SiteKey::generate().expect("a new key");
        let pem = key.to_pem().expect("a new key in PEM");
        let inventory = Inventory {
            format: 1,
            ..Inventory::default()
        };
        let fake = bundle_format::fake::Fake::with_dataset("demo", 1, &[("a", vec![1])]);
        vec![
            chosen(0, &fake.root()),
            chosen(2, pem.as_bytes()),
            chosen(3, &key.sign(inventory)),
        ]
    },
};

/// Signatures of vendors over their packages: CMS with certificates and revocation lists.
pub(crate) const VENDOR_SIGNATURE: Target = Target {
    name: "vendor-signature",
    run: |bytes| {
        let (list, message) = bytes.split_at(bytes.len().min(1));
        let middle = message.len() * usize::from(list.first().copied().unwrap_or_default()) / 255;
        let (front, back) = message.split_at(middle);
        let file = &b"a package"[..];
        drop(vendor_signature::verify_detached(file, message, &[], &[]));
        drop(vendor_signature::verify_detached(
            file,
            front,
            &[back],
            &[back],
        ));
    },
    seeds: || vec![b"\0\x30\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02".to_vec()],
};

/// A site code, scanned or typed.
pub(crate) const SITE_CODE: Target = Target {
    name: "site-code",
    run: |bytes| {
        let Ok(site) = decode(&String::from_utf8_lossy(bytes)) else {
            return;
        };
        // What was read can be shown again, and is then the same machine.
        let parts = SiteCode::of(&site).parts(600);
        let text: Option<String> = parts.map(|parts| parts.iter().map(SitePart::text).collect());
        if let Some(Ok(again)) = text.map(|text| decode(&text)) {
            assert_eq!(again, site);
        }
    },
    seeds: || {
        let site = Site::default();
        let parts = SiteCode::of(&site).parts(100).expect("a small site");
        let recorded = crate::machine::recorded("kunpeng-910b-kylin");
        let more = SiteCode::of(&recorded)
            .parts(400)
            .expect("a site of a few parts");
        [parts, more]
            .iter()
            .map(|parts| {
                parts
                    .iter()
                    .map(SitePart::text)
                    .collect::<String>()
                    .into_bytes()
            })
            .collect()
    },
};
