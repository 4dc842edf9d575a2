//! Everything that reads foreign bytes, ready to be fed anything.
//!
//! ```text
//! target(bytes)    must not panic, hang, or take more memory than the bytes justify
//! seeds            where a fuzzer begins: files that this repository has anyway
//! corpus/<target>  what fuzzers found worth keeping; `tests/corpora.rs` replays all of it in every test run
//! driver/          libFuzzer around these targets, a workspace of its own: `cargo xtask fuzz`
//! ```

#![expect(
    clippy::expect_used,
    reason = "a scratch folder that cannot be written is no finding"
)]

mod archive;
mod datasets;
mod documents;
mod machine;
mod members;
mod prefix;
mod repositories;
mod scratch;
mod servers;
mod weights;

/// Something that reads foreign bytes.
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// Reads the bytes.
    pub run: fn(&[u8]),
    /// Where a fuzzer begins.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub const TARGETS: &[Target] = &[
    archive::BUNDLE,
    archive::INSIDER,
    archive::PARITY,
    datasets::DATASETS,
    documents::MANIFESTS,
    documents::KEYS,
    documents::VENDOR_SIGNATURE,
    documents::SITE_CODE,
    machine::PROBE,
    members::MEMBERS,
    weights::WEIGHTS,
    prefix::PREFIX,
    repositories::REPOSITORIES,
    servers::SERVERS,
];

/// The target of a name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// A file of this repository.
fn file(path: &str) -> Vec<u8> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    std::fs::read(format!("{root}/{path}")).unwrap_or_default()
}

/// The first byte chooses among `count` readers, the rest is theirs.
fn choose(bytes: &[u8], count: u8) -> Option<(u8, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    Some((first % count, rest))
}

/// Bytes for the reader of a number.
fn chosen(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number], bytes].concat()
}
