//! Bundles, and the parity beside them.

use std::fs;
use std::path::Path;

use bundle_format::{Sealed, TrustedRoots, repair};
use e2e::Forge;
use manifest_schema::Digest;
use report::Silent;

use crate::{Target, choose, chosen, file, scratch};

/// A file that may be a bundle, from nobody.
pub(crate) const BUNDLE: Target = Target {
    name: "bundle",
    run: |bytes| {
        scratch::with(|folder| {
            let path = folder.join("x.ferry");
            fs::write(&path, bytes).expect("the scratch folder can be written");
            read(&path);
            let _ = Sealed::open_alone(&path).map(|sealed| sealed.complete());
        });
    },
    seeds: || {
        let whole = file("tests/golden-bundle/one.ferry");
        vec![whole[..whole.len().min(4096)].to_vec(), whole]
    },
};

/// A bundle under good signatures, whose documents somebody with a key made to do harm.
pub(crate) const INSIDER: Target = Target {
    name: "insider",
    run: |bytes| {
        let Some((number, rest)) = choose(bytes, 2 * DOCUMENTS.len() as u8) else {
            return;
        };
        let mut forge = Forge::of(Path::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../golden-bundle/one.ferry"
        )));
        let document = DOCUMENTS[usize::from(number) / 2];
        let content = &mut forge.member(document).bytes;
        if number % 2 == 0 {
            *content = rest.to_vec();
        } else {
            for edit in rest.chunks_exact(3) {
                let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % content.len();
                content[at] = edit[2];
            }
        }
        // Where it stays a document, its offsets follow what was changed, as an insider would see to.
        forge.settles = serde_json::from_slice::<serde_json::Value>(&forge.member(INDEX).bytes)
            .is_ok_and(|index| index["blobs"].is_array());
        if serde_json::from_slice::<serde_json::Value>(&forge.member(STATEMENT).bytes)
            .is_ok_and(|statement| statement.is_object())
        {
            let forge = forge.signed();
            scratch::with(|folder| {
                let path = folder.join("x.ferry");
                forge.write(&path);
                read(&path);
            });
        }
    },
    seeds: || {
        let whole = Forge::of(Path::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../golden-bundle/one.ferry"
        )));
        let edits = (0..DOCUMENTS.len() as u8).map(|number| chosen(number * 2 + 1, &[40, 0, b'9']));
        let mut seeds: Vec<Vec<u8>> = edits.collect();
        for (number, document) in DOCUMENTS.iter().enumerate() {
            let place = whole.place(document);
            seeds.push(chosen(number as u8 * 2, &whole.members[place].bytes));
        }
        seeds
    },
};

/// Parity files beside a damaged file.
pub(crate) const PARITY: Target = Target {
    name: "parity",
    run: |bytes| {
        // No fuzzer guesses a digest: a description alone stands under the right one.
        let described = bytes.starts_with(b"{").then(|| descriptor(bytes));
        scratch::with(|folder| {
            let bytes = described.as_deref().unwrap_or(bytes);
            fs::write(folder.join("many.par001"), bytes)
                .expect("the scratch folder can be written");
            let damaged = vec![7; 20_000];
            fs::write(folder.join("many.vol001.ferry"), damaged)
                .expect("the scratch folder can be written");
            let _ = repair(folder, &Silent);
        });
    },
    seeds: || {
        let whole = file("tests/golden-bundle/many.par001");
        let text = &whole[DESCRIPTION..];
        let length = text.iter().position(|byte| *byte == 0);
        vec![
            whole[..whole.len().min(4096)].to_vec(),
            text[..length.unwrap_or(text.len())].to_vec(),
            whole,
        ]
    },
};

/// Where the description begins in a descriptor.
const DESCRIPTION: usize = 15 + 65 + 21;

/// The descriptor of a description.
fn descriptor(json: &[u8]) -> Vec<u8> {
    let head = format!(
        "ferry-parity 1\n{}\n{:020}\n",
        Digest::of(json).hex(),
        json.len()
    );
    let mut bytes = [head.as_bytes(), json].concat();
    bytes.resize(bytes.len().next_multiple_of(4096), 0);
    bytes
}

/// Everything that a reader does with a bundle, as far as it lets itself be read.
fn read(path: &Path) {
    let Ok(sealed) = Sealed::open(path) else {
        return;
    };
    let Ok(offered) = sealed.fingerprint_offered() else {
        return;
    };
    let Ok(bundle) = sealed.verify(&TrustedRoots::from_fingerprints([offered])) else {
        return;
    };
    let _ = bundle.verify_all(1, &Silent);
    for arch in bundle.installers() {
        let _ = bundle.installer(arch);
    }
    let _ = (bundle.requires().len(), bundle.release_name());
}

/// What an insider may write.
const DOCUMENTS: [&str; 6] = [
    INDEX,
    "meta/profiles.json",
    "meta/provenance.json",
    STATEMENT,
    "meta/plan.lock",
    "README.txt",
];
const INDEX: &str = "meta/index.json";
const STATEMENT: &str = "meta/statement.json";
