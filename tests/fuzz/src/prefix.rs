//! What lies below a prefix, where somebody may have been at it.

use std::fs;
use std::path::Path;

use bundle_format::{SignedMetadata, TrustedRoots};
use install_steps::{Journal, Prefix, ReleaseName, ReleaseRecord, trusted_roots};
use manifest_schema::Digest;

use crate::{Target, choose, chosen, scratch};

/// The log, the record of a release, a trusted root, the statement of an installed release.
pub(crate) const PREFIX: Target = Target {
    name: "prefix",
    run: |bytes| {
        let Some((number, bytes)) = choose(bytes, 4) else {
            return;
        };
        scratch::with(|folder| {
            let write = |path: &str| {
                let path = folder.join(path);
                let parent = path.parent().unwrap_or(folder);
                fs::create_dir_all(parent).expect("the scratch folder can be written");
                fs::write(path, bytes).expect("the scratch folder can be written");
            };
            let prefix = Prefix::at(folder).expect("the scratch folder");
            let name = ReleaseName::parse(RELEASE).expect("a name");
            let release = Path::new("releases").join(RELEASE);
            match number {
                0 => {
                    write("log/actions.jsonl");
                    if let Ok(journal) = Journal::read(&prefix) {
                        let _ = journal.highest("stable");
                        // An empty log has gone through nothing.
                        let empty = journal.entries().is_empty();
                        assert!(empty || journal.went_through(&journal.head()));
                    }
                }
                1 => {
                    write(&format!("releases/{RELEASE}/release.json"));
                    drop(ReleaseRecord::read(&prefix, &name));
                }
                2 => {
                    write(&format!("trust.d/{}.json", Digest::of(bytes).hex()));
                    drop(trusted_roots(&prefix));
                }
                _ => {
                    write(&format!("releases/{RELEASE}/meta/root/001.json"));
                    let roots = TrustedRoots::from_fingerprints([Digest::of(bytes)]);
                    drop(SignedMetadata::read(&folder.join(release), &roots));
                }
            }
        });
    },
    seeds: || {
        let fake = bundle_format::fake::Fake::with_dataset("demo", 1, &[("a", vec![1])]);
        let record = br#"{"name":"demo","release":1,"statement":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}"#;
        let entry = br#"{"number":1,"time":"2026-01-02T03:04:05Z","user":"root","action":"sweep","things":1,"bytes":2,"before":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}"#;
        vec![
            chosen(0, entry),
            chosen(1, record),
            chosen(2, &fake.root()),
            chosen(3, &fake.root()),
        ]
    },
};

const RELEASE: &str = "demo-1-0123456789ab-cpu";
