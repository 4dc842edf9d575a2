//! Vendors' signatures: over packages of a backend, checked on site before anything of the release is used, and over all
//! that a backend brings, checked while it is still in the bundle.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use bundle_format::{Fault, Verified};
use manifest_schema::{
    Backend, BundlePath, Digest, HostItem, HostKind, HostSignature, PlacedFile, VendorSignature,
};
use report::{Sink, Step};
use vendor_signature::{Signer, VendorSignatureError, verify_detached};

use crate::disk::{DiskError, read_small};
use crate::host::HostError;
use crate::prefix::Prefix;

/// Checks every signature of `backend`, whose files lie in `folder`.
///
/// # Errors
/// When a package is not what its vendor signed, or its signer was revoked.
pub(crate) fn check_signatures(
    folder: &Path,
    backend: &Backend,
    sink: &dyn Sink,
) -> Result<(), VendorSignatureError> {
    for signature in &backend.signatures {
        let package = signature.package.to_string();
        let step = Step::start(sink, "step.vendor-signature", package, None, "files");
        let open = |path: &BundlePath| File::open(folder.join(path.as_str()));
        vendor_signature::check(signature, open)?.warn(sink);
        step.finish();
    }
    Ok(())
}

/// A file of a vendor, and what the vendor's own signature says of it before anything was written.
#[derive(Debug)]
pub struct VendorFile {
    /// The file, as the bundle names it.
    pub file: String,
    /// What it installs on the machine itself; none for a package of the backend.
    pub kind: Option<HostKind>,
    /// Who signed it, or why that does not hold or cannot be told.
    pub signed: Result<Signer, HostError>,
}

/// Checks every vendor's signature that `backend` brings, while its files are still in the bundle, or in the store where
/// the bundle leaves them out. Each file is read once.
pub fn vendor_files(
    bundle: &Verified,
    prefix: &Prefix,
    backend: &Backend,
    sink: &dyn Sink,
) -> Vec<VendorFile> {
    let at = Source {
        bundle,
        prefix,
        sink,
    };
    let of_host = backend.host.iter().filter_map(|item| {
        let proof = at.proof(item.signature.as_ref()?);
        Some(VendorFile {
            file: item.file.path.to_string(),
            kind: Some(item.kind.clone()),
            signed: proof.and_then(|proof| at.check(&item.file, &proof)),
        })
    });
    let of_packages = backend.signatures.iter().map(|signature| VendorFile {
        file: signature.package.to_string(),
        kind: None,
        signed: at.package(backend, signature),
    });
    of_host.chain(of_packages).collect()
}

/// Checks the vendor's signature over `path`, where the file of `item` lies, right before it is run as root.
pub(crate) fn check_staged(
    bundle: &Verified,
    prefix: &Prefix,
    item: &HostItem<PlacedFile>,
    path: &Path,
    sink: &dyn Sink,
) -> Result<(), HostError> {
    let Some(signature) = &item.signature else {
        return Ok(());
    };
    let at = Source {
        bundle,
        prefix,
        sink,
    };
    let proof = at.proof(signature)?;
    let mut file = File::open(path).map_err(DiskError::of("read", path))?;
    let verified = proof.verify(&mut file);
    let signer = verified.map_err(|source| HostError::VendorSignature {
        file: item.file.path.to_string(),
        source: Box::new(source),
    })?;
    signer.warn(sink);
    Ok(())
}

fn differs(path: &Path, expected: &Digest) -> HostError {
    let source = io::Error::other(format!("its bytes are not {expected}"));
    DiskError::of("check", path)(source).into()
}

/// What a signature is checked with.
struct Proof {
    cms: Vec<u8>,
    lists: Vec<Vec<u8>>,
    root: Vec<u8>,
    /// The root that must be it, where it is not pinned by the digest of its file.
    pinned: Option<Digest>,
}

impl Proof {
    /// Checks that it is a signature over exactly the bytes of `file`, by somebody whose certificate leads to the root
    /// and was not revoked.
    fn verify(&self, file: &mut dyn Read) -> Result<Signer, VendorSignatureError> {
        let lists: Vec<&[u8]> = self.lists.iter().map(Vec::as_slice).collect();
        verify_detached(file, &self.cms, &lists, &[&self.root])
    }
}

/// Where files come from.
#[derive(Clone, Copy)]
struct Source<'a> {
    bundle: &'a Verified,
    prefix: &'a Prefix,
    sink: &'a dyn Sink,
}

impl Source<'_> {
    fn package(&self, backend: &Backend, signature: &VendorSignature) -> Result<Signer, HostError> {
        let placed = |path: &BundlePath| {
            let found = backend.files.iter().find(|file| file.path == *path);
            found.ok_or_else(|| HostError::VendorSignature {
                file: signature.package.to_string(),
                source: Box::new(VendorSignatureError::File {
                    path: path.to_string(),
                    source: io::ErrorKind::NotFound.into(),
                }),
            })
        };
        let lists = signature.lists.iter();
        let lists = lists.map(|list| self.small(placed(list)?));
        let proof = Proof {
            cms: self.small(placed(&signature.signature)?)?,
            lists: lists.collect::<Result<_, _>>()?,
            root: self.small(placed(&signature.root)?)?,
            pinned: Some(signature.root_digest),
        };
        self.check(placed(&signature.package)?, &proof)
    }

    fn proof(&self, signature: &HostSignature<PlacedFile>) -> Result<Proof, HostError> {
        let lists = signature.crl.iter().map(|crl| self.small(crl));
        Ok(Proof {
            cms: self.small(&signature.cms)?,
            lists: lists.collect::<Result<_, _>>()?,
            root: self.small(&signature.root)?,
            pinned: None,
        })
    }

    /// A signature, a list or a certificate: kilobytes.
    fn small(&self, file: &PlacedFile) -> Result<Vec<u8>, HostError> {
        let path = self.prefix.blob(&file.digest);
        if !path.is_file() {
            return Ok(self.bundle.blob_bytes(&file.digest)?);
        }
        let bytes = read_small(&path, LARGEST_PROOF)?;
        if Digest::of(&bytes) != file.digest {
            return Err(differs(&path, &file.digest));
        }
        Ok(bytes)
    }

    fn check(&self, file: &PlacedFile, proof: &Proof) -> Result<Signer, HostError> {
        let name = file.path.as_str();
        let broken = |source| HostError::VendorSignature {
            file: name.to_owned(),
            source: Box::new(source),
        };
        let total = Some(file.size.0);
        let step = Step::start(self.sink, "step.vendor-signature", name, total, "bytes");
        let path = self.prefix.blob(&file.digest);
        let signer = if path.is_file() {
            let mut stored = File::open(&path).map_err(DiskError::of("read", &path))?;
            let signer = proof.verify(&mut stored).map_err(broken)?;
            if signer.package != file.digest {
                return Err(differs(&path, &file.digest));
            }
            signer
        } else {
            self.read_through(&file.digest, &step, proof, broken)?
        };
        if let Some(pinned) = proof.pinned.filter(|root| *root != signer.root_digest) {
            return Err(broken(VendorSignatureError::RootDiffers {
                root: signer.root,
                found: signer.root_digest.to_string(),
                expected: pinned.to_string(),
            }));
        }
        step.finish();
        Ok(signer)
    }

    /// Hands a blob to the check of its signature while it is read and checked by another thread.
    fn read_through(
        &self,
        digest: &Digest,
        step: &Step<'_>,
        proof: &Proof,
        broken: impl FnOnce(VendorSignatureError) -> HostError,
    ) -> Result<Signer, HostError> {
        let (sender, receiver) = sync_channel(RUNS_AHEAD);
        let (copied, verified) = thread::scope(|scope| {
            let mut runs = Sent {
                to: sender,
                step,
                done: 0,
            };
            let copying = scope.spawn(move || self.bundle.copy_blob(digest, &mut runs));
            let mut reader = Received {
                from: receiver,
                run: Vec::new(),
                at: 0,
            };
            let verified = proof.verify(&mut reader);
            // Whoever stops early is not waited for.
            drop(reader);
            (copying.join(), verified)
        });
        match copied {
            // That the reader stopped is no fault of the bundle.
            Ok(Err(error)) if !matches!(error.fault, Fault::Unwritable) => Err(error.into()),
            _ => verified.map_err(broken),
        }
    }
}

/// Sends what is written to a reader on another thread.
struct Sent<'a> {
    to: SyncSender<Vec<u8>>,
    step: &'a Step<'a>,
    done: u64,
}

impl Write for Sent<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.to.send(bytes.to_vec());
        sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
        self.done += bytes.len() as u64;
        self.step.progress(self.done);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads what another thread sends.
struct Received {
    from: Receiver<Vec<u8>>,
    run: Vec<u8>,
    at: usize,
}

impl Read for Received {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.run.len() {
            match self.from.recv() {
                Ok(run) => (self.run, self.at) = (run, 0),
                Err(_) => return Ok(0),
            }
        }
        let count = buffer.len().min(self.run.len() - self.at);
        buffer[..count].copy_from_slice(&self.run[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// Runs of bytes that are read before they are asked for.
const RUNS_AHEAD: usize = 8;
/// Signatures, certificates and lists are kilobytes.
const LARGEST_PROOF: u64 = 16 * 1024 * 1024;
