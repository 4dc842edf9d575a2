//! Tiny signed bundles for tests. A test's own mistake panics here.
#![allow(clippy::missing_panics_doc)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use manifest_schema::{
    Arch, BundleName, BundlePath, ByteSize, CodeOnLoad, Component, ComponentKind, Digest, Origin,
    OriginKind, PlacedFile, Profiles, Provenance, RepoName, RequiredBlob,
};
use report::{Silent, Sink};

use crate::{
    Algorithm, BuildError, BuildOptions, BundleInput, RootChain, RootDocument, SigningKey, Squeeze,
    TrustedRoots, build,
};

/// What a fake bundle is made of.
pub struct Fake {
    /// What it can install.
    pub profiles: Profiles,
    /// The bytes of its blobs; their digests follow.
    pub blobs: Vec<Vec<u8>>,
    /// The keys of its root, all of which sign.
    pub keys: Vec<SigningKey>,
    /// Its roots, where they are not one of all its keys, all of which must sign.
    pub roots: Option<RootChain>,
    /// Keys that sign, by their place in `keys`, where it is not all of them.
    pub signers: Option<Vec<usize>>,
    /// The lock's bytes.
    pub lock: Vec<u8>,
    /// Bytes of the installers.
    pub installers: BTreeMap<Arch, Vec<u8>>,
    /// How it is built.
    pub options: BuildOptions,
    /// Blobs that it leaves to the target.
    pub requires: Vec<RequiredBlob>,
    /// Texts of licences.
    pub licenses: BTreeMap<Digest, Vec<u8>>,
    /// What its provenance says of files that run code.
    pub code_on_load: Vec<CodeOnLoad>,
}

impl Fake {
    /// A bundle of these profiles and blobs, with one new key.
    pub fn new(profiles: Profiles, blobs: Vec<Vec<u8>>) -> Self {
        let key = SigningKey::generate(Algorithm::P256).expect("a new key can be encoded");
        let installers = [Arch::Aarch64, Arch::X86_64].map(|arch| {
            (
                arch,
                format!("#!/bin/sh\necho {arch} \"$@\"\n").into_bytes(),
            )
        });
        Self {
            profiles,
            blobs,
            keys: vec![key],
            roots: None,
            signers: None,
            lock: b"{}\n".to_vec(),
            installers: installers.into(),
            requires: Vec::new(),
            licenses: BTreeMap::new(),
            code_on_load: Vec::new(),
            options: BuildOptions {
                threads: 2,
                piece_size: 4096,
                volume_size: None,
                // So that a test finds a blob's own bytes in the archive.
                compress: false,
                squeeze: Squeeze::default(),
                align: false,
                sign_later: false,
            },
        }
    }

    /// A bundle with one dataset whose files are `files`.
    pub fn with_dataset(name: &str, release: u64, files: &[(&str, Vec<u8>)]) -> Self {
        let placed = files
            .iter()
            .map(|(path, bytes)| placed_file(path, bytes))
            .collect();
        let component = Component {
            kind: ComponentKind::Dataset,
            name: RepoName::parse("demo").expect("`demo` is a repository name"),
            license: "CC0-1.0".to_owned(),
            revision: None,
            files: placed,
            signature: None,
            dataset_info: None,
            eulas: Vec::new(),
        };
        let profiles = Profiles {
            format: 1,
            name: BundleName::parse(name).expect("the test gives a bundle name"),
            release,
            channel: "stable".to_owned(),
            components: vec![component],
            os_packages: Vec::new(),
            backends: Vec::new(),
            images: Vec::new(),
        };
        Self::new(
            profiles,
            files.iter().map(|(_, bytes)| bytes.clone()).collect(),
        )
    }

    /// The bytes of its newest root.
    pub fn root(&self) -> Vec<u8> {
        self.chain().last_bytes().to_vec()
    }

    /// Its roots.
    pub fn chain(&self) -> RootChain {
        if let Some(roots) = &self.roots {
            return roots.clone();
        }
        let keys: Vec<_> = self.keys.iter().map(SigningKey::public).collect();
        RootDocument::new(1, keys.len() as u32, &keys)
            .and_then(|root| RootChain::first(root.to_bytes()?))
            .expect("as many keys sign as the root asks for")
    }

    /// Roots that trust the bundle.
    pub fn roots(&self) -> TrustedRoots {
        TrustedRoots::from_fingerprints([Digest::of(&self.root())])
    }

    /// Builds the bundle at `out`; `folder` takes the files that it is made of.
    ///
    /// # Errors
    /// Those of [`build`].
    pub fn build(&self, folder: &Path, out: &Path) -> Result<(), BuildError> {
        self.build_watched(folder, out, &Silent)
    }

    /// The same, and tells `sink` how it goes.
    ///
    /// # Errors
    /// Those of [`build`].
    pub fn build_watched(
        &self,
        folder: &Path,
        out: &Path,
        sink: &dyn Sink,
    ) -> Result<(), BuildError> {
        let write = |name: String, bytes: &[u8]| -> PathBuf {
            let path = folder.join(name);
            fs::write(&path, bytes).expect("the test's folder can be written");
            path
        };
        let blobs: Vec<_> = self
            .blobs
            .iter()
            .map(|bytes| {
                let digest = Digest::of(bytes);
                (digest, write(digest.hex(), bytes))
            })
            .collect();
        let installers = self
            .installers
            .iter()
            .map(|(arch, bytes)| {
                let path = write(format!("installer-{arch}"), bytes);
                (*arch, (Digest::of(bytes), path))
            })
            .collect();
        let origin = |digest: &Digest| Origin {
            kind: OriginKind::Https,
            url: Some(format!("https://example.org/{}", digest.hex())),
            project: None,
            version: None,
            revision: None,
            archive: None,
            license: None,
            license_stated: None,
        };
        let provenance = Provenance {
            format: 1,
            blobs: blobs
                .iter()
                .map(|(digest, _)| (*digest, origin(digest)))
                .collect(),
            code_on_load: self.code_on_load.clone(),
            licenses: Vec::new(),
            license_texts: Vec::new(),
        };
        let input = BundleInput {
            lock: &self.lock,
            profiles: &self.profiles,
            provenance: &provenance,
            blobs: &blobs,
            installers: &installers,
            roots: &self.chain(),
            licenses: &self.licenses,
            requires: &self.requires,
        };
        let signs = |number: &usize| match &self.signers {
            Some(signers) => signers.contains(number),
            None => true,
        };
        let signers = (0..self.keys.len()).filter(signs);
        let signers: Vec<_> = signers.map(|number| &self.keys[number]).collect();
        build(&input, &signers, out, self.options, sink).map(drop)
    }
}

/// A file at `path` that is a blob as it is.
///
/// # Panics
/// When `path` is not a [`BundlePath`].
pub fn placed_file(path: &str, bytes: &[u8]) -> PlacedFile {
    PlacedFile {
        path: BundlePath::parse(path).expect("the test gives a relative path"),
        executable: false,
        size: ByteSize(bytes.len() as u64),
        digest: Digest::of(bytes),
        made_from: None,
    }
}

/// A safetensors file of these tensors: name, kind and bytes of each.
///
/// # Panics
/// When a name cannot be written as JSON.
pub fn safetensors(tensors: &[(&str, &str, Vec<u8>)]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for (name, kind, bytes) in tensors {
        let begin = data.len();
        data.extend_from_slice(bytes);
        let width = match *kind {
            "BF16" | "F16" => 2,
            "F32" => 4,
            _ => 1,
        };
        let entry = serde_json::json!({
            "dtype": kind, "shape": [bytes.len() / width], "data_offsets": [begin, data.len()],
        });
        header.insert((*name).to_owned(), entry);
    }
    let mut header = serde_json::to_vec(&header).expect("names are strings");
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend(data);
    file
}

/// Numbers as trained weights are: normally distributed, the upper `width` bytes of 32-bit floats.
pub fn weights(seed: u64, count: usize, width: usize) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(count * width);
    for _ in 0..count {
        let mut sum = -6.0_f32;
        for _ in 0..12 {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
            sum += (state >> 40) as f32 / 16_777_216.0;
        }
        bytes.extend_from_slice(&(sum * 0.02).to_le_bytes()[4 - width..]);
    }
    bytes
}
