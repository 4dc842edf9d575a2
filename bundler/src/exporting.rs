//! Images out of a bundle, in the forms that container programs read.
//!
//! ```text
//! DIR, FILE.tar     OCI image layout: oci-layout  index.json  blobs/sha256/<hex>
//! docker archive    manifest.json  <hex>.json  <hex>.tar      as `docker save` wrote before it knew OCI
//! ```
//!
//! What is written appears when it is whole. Times and owners are zero: equal images give equal bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bundle_format::{OCI_LAYOUT, Verified, docker_entry, oci_index};
use manifest_schema::{Descriptor, Digest, Image};
use report::{Sink, Step, Trouble};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::error::InputError;
use crate::output::Counted;

/// Writes a layout as a folder.
pub(crate) fn folder(
    bundle: &Verified,
    images: &[Image],
    out: &Path,
    threads: usize,
    sink: &dyn Sink,
) -> Result<(), Trouble> {
    let beside = tempfile::Builder::new()
        .prefix(".ferry-")
        .tempdir_in(parent(out))
        .map_err(InputError::file(out))?;
    let blobs = beside.path().join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(InputError::file(&blobs))?;
    let jobs: Vec<(Digest, PathBuf)> = digests(images)
        .into_iter()
        .map(|digest| (digest, blobs.join(digest.hex())))
        .collect();
    bundle.extract_many(&jobs, threads, sink)?;
    for (name, bytes) in [
        ("oci-layout", OCI_LAYOUT.as_bytes()),
        ("index.json", &oci_index(images)),
    ] {
        let path = beside.path().join(name);
        let written = File::create(&path).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        written.map_err(InputError::file(&path))?;
    }
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(beside.path(), readable)
        .and_then(|()| fs::rename(beside.path(), out))
        .map_err(InputError::file(out))?;
    // The folder has another name now; there is nothing left to remove.
    let _ = beside.keep();
    File::open(parent(out))
        .and_then(|folder| folder.sync_all())
        .map_err(InputError::file(out))?;
    Ok(())
}

/// Writes a layout as a tar, which programs call `oci-archive`.
pub(crate) fn archive(
    bundle: &Verified,
    images: &[Image],
    out: &Path,
    sink: &dyn Sink,
) -> Result<(), Trouble> {
    let mut tar = Tar::create(out)?;
    tar.file("oci-layout", OCI_LAYOUT.as_bytes())?;
    tar.file("index.json", &oci_index(images))?;
    tar.folder("blobs/")?;
    tar.folder("blobs/sha256/")?;
    let blobs = digests(images);
    let total = blobs.iter().map(|digest| size_of(bundle, digest)).sum();
    let step = Step::start(sink, "step.export-images", "", Some(total), "bytes");
    let mut done = 0;
    for digest in &blobs {
        let name = format!("blobs/sha256/{}", digest.hex());
        tar.blob(&name, bundle, digest, &step, &mut done)?;
    }
    step.finish();
    tar.keep(out)
}

/// Writes what every docker, podman and containerd loads. Each image has one platform.
///
/// Layers stay as they are packed, since all of them read gzip; zstd, which older ones do not, is unpacked.
pub(crate) fn docker(
    bundle: &Verified,
    images: &[Image],
    out: &Path,
    sink: &dyn Sink,
) -> Result<(), Trouble> {
    let mut tar = Tar::create(out)?;
    let mut entries = Vec::new();
    // By blob, the member that holds it, perhaps unpacked.
    let mut members: BTreeMap<Digest, String> = BTreeMap::new();
    let layers = images.iter().flat_map(|image| &image.platforms);
    let layers: BTreeSet<Digest> = layers
        .flat_map(|one| one.layers.iter().map(|layer| layer.digest))
        .collect();
    let total = layers.iter().map(|digest| size_of(bundle, digest)).sum();
    let step = Step::start(sink, "step.export-images", "", Some(total), "bytes");
    let mut done = 0;
    for image in images {
        let [one] = &image.platforms[..] else {
            let known: Vec<&str> = image
                .platforms
                .iter()
                .map(|p| p.platform.as_str())
                .collect();
            return Err(InputError::SeveralPlatforms {
                image: image.reference(),
                known: known.join(", "),
            }
            .into());
        };
        let config = format!("{}.json", one.config.digest.hex());
        let bytes = bundle.blob_bytes(&one.config.digest)?;
        let unpacked = unpacked_digests(&bytes);
        if members.insert(one.config.digest, config.clone()).is_none() {
            tar.file(&config, &bytes)?;
        }
        let mut layers = Vec::new();
        for (number, layer) in one.layers.iter().enumerate() {
            let member = match members.get(&layer.digest) {
                Some(member) => member.clone(),
                None if layer.media_type.ends_with("zstd") => {
                    let expected = unpacked.get(number).copied();
                    tar.unpacked(bundle, layer, expected, &step, &mut done)?
                }
                None => {
                    let member = format!("{}.tar", layer.digest.hex());
                    tar.blob(&member, bundle, &layer.digest, &step, &mut done)?;
                    member
                }
            };
            members.insert(layer.digest, member.clone());
            layers.push(member);
        }
        entries.push(docker_entry(image, &config, &layers));
    }
    let mut manifest = serde_json::Value::Array(entries).to_string();
    manifest.push('\n');
    tar.file("manifest.json", manifest.as_bytes())?;
    step.finish();
    tar.keep(out)
}

fn size_of(bundle: &Verified, digest: &Digest) -> u64 {
    bundle.blob(digest).map_or(0, |blob| blob.size.0)
}

fn digests(images: &[Image]) -> BTreeSet<Digest> {
    let blobs = images.iter().flat_map(Image::blobs);
    blobs.map(|blob| blob.digest).collect()
}

/// Digests of the layers as they are unpacked, which a configuration lists.
fn unpacked_digests(config: &[u8]) -> Vec<Digest> {
    #[derive(Deserialize)]
    struct Config {
        rootfs: RootFs,
    }
    #[derive(Deserialize)]
    struct RootFs {
        diff_ids: Vec<Digest>,
    }
    let config: Option<Config> = serde_json::from_slice(config).ok();
    config.map_or_else(Vec::new, |config| config.rootfs.diff_ids)
}

fn parent(out: &Path) -> &Path {
    let parent = out.parent().filter(|parent| *parent != Path::new(""));
    parent.unwrap_or(Path::new("."))
}

/// A tar that grows without a name.
struct Tar {
    out: PathBuf,
    archive: tar::Builder<BufWriter<tempfile::NamedTempFile>>,
    /// What it holds; two layers may be the same once they are unpacked.
    names: BTreeSet<String>,
}

impl Tar {
    fn create(out: &Path) -> Result<Self, InputError> {
        let file = tempfile::Builder::new()
            .prefix(".ferry-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(parent(out))
            .map_err(InputError::file(out))?;
        Ok(Self {
            out: out.to_owned(),
            archive: tar::Builder::new(BufWriter::with_capacity(1 << 20, file)),
            names: BTreeSet::new(),
        })
    }

    fn file(&mut self, name: &str, bytes: &[u8]) -> Result<(), InputError> {
        self.append(name, bytes.len() as u64, bytes)
    }

    fn folder(&mut self, name: &str) -> Result<(), InputError> {
        let mut header = header(0, 0o755, tar::EntryType::Directory);
        let failed = InputError::file(&self.out);
        self.archive
            .append_data(&mut header, name, io::empty())
            .map_err(failed)
    }

    fn append(&mut self, name: &str, size: u64, bytes: impl Read) -> Result<(), InputError> {
        let mut header = header(size, 0o644, tar::EntryType::Regular);
        let failed = InputError::file(&self.out);
        self.archive
            .append_data(&mut header, name, bytes)
            .map_err(failed)
    }

    /// A blob as it is. It is checked while it goes through: a tar with a wrong one is thrown away.
    fn blob(
        &mut self,
        name: &str,
        bundle: &Verified,
        digest: &Digest,
        step: &Step<'_>,
        done: &mut u64,
    ) -> Result<(), Trouble> {
        let size = size_of(bundle, digest);
        let mut header = header(size, 0o644, tar::EntryType::Regular);
        let failed = InputError::file(&self.out);
        header.set_path(name).map_err(failed)?;
        header.set_cksum();
        let out = self.archive.get_mut();
        let failed = |source| InputError::file(&self.out)(source);
        out.write_all(header.as_bytes()).map_err(failed)?;
        let mut counted = Counted { out, step, done };
        bundle.copy_blob(digest, &mut counted)?;
        let out = counted.out;
        let rest = size.next_multiple_of(512) - size;
        out.write_all(&[0; 512][..rest as usize]).map_err(failed)?;
        Ok(())
    }

    /// A zstd layer, unpacked, under the digest that its configuration gives; returns the name.
    fn unpacked(
        &mut self,
        bundle: &Verified,
        layer: &Descriptor,
        expected: Option<Digest>,
        step: &Step<'_>,
        done: &mut u64,
    ) -> Result<String, Trouble> {
        let failed = |source| InputError::file(&self.out)(source);
        let mut spill = tempfile::tempfile_in(parent(&self.out)).map_err(failed)?;
        let mut hashed = Hashed {
            inner: BufWriter::new(&mut spill),
            hasher: Sha256::new(),
            size: 0,
        };
        let mut decoder = zstd::stream::write::Decoder::new(&mut hashed).map_err(failed)?;
        let out = &mut decoder;
        bundle.copy_blob(&layer.digest, &mut Counted { out, step, done })?;
        decoder.flush().map_err(failed)?;
        drop(decoder);
        let found = Digest::from_bytes(hashed.hasher.clone().finalize().into());
        let size = hashed.size;
        hashed.inner.flush().map_err(failed)?;
        drop(hashed);
        if expected != Some(found) {
            return Err(InputError::Changed {
                path: PathBuf::from(layer.digest.to_string()),
                found: found.to_string(),
                expected: expected.map_or_else(|| "—".to_owned(), |one| one.to_string()),
            }
            .into());
        }
        let name = format!("{}.tar", found.hex());
        if self.names.insert(name.clone()) {
            spill.seek(SeekFrom::Start(0)).map_err(failed)?;
            self.append(&name, size, spill)?;
        }
        Ok(name)
    }

    /// Ends the tar, syncs it and gives it its name.
    fn keep(self, out: &Path) -> Result<(), Trouble> {
        let failed = |source| InputError::file(out)(source);
        let writer = self.archive.into_inner().map_err(failed)?;
        let file = writer
            .into_inner()
            .map_err(|error| failed(error.into_error()))?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist_noclobber(out)
            .map_err(|error| failed(error.error))?;
        File::open(parent(out))
            .and_then(|folder| folder.sync_all())
            .map_err(failed)?;
        Ok(())
    }
}

fn header(size: u64, mode: u32, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(mode);
    header.set_entry_type(kind);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// Hashes and counts what goes through.
struct Hashed<W> {
    inner: W,
    hasher: Sha256,
    size: u64,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        if self.size > LARGEST_LAYER {
            return Err(io::Error::other(format!(
                "a layer of more than {LARGEST_LAYER} bytes"
            )));
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A few bytes of zstd can ask for more than a disk has.
const LARGEST_LAYER: u64 = 1 << 40;
