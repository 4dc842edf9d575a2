//! Files of this machine that a backend needs: a vendor's installers, wheels, a Python.

use std::path::{Path, PathBuf};

use bundle_mirror::measure;
use manifest_schema::plan::{OwnSource, PlanBackend, PlanFile, Source};
use manifest_schema::{BundlePath, ByteSize, HostItem, HostKind, PlainWord};
use report::Trouble;

use super::local::Places;
use super::word;
use crate::error::InputError;

/// Files for the one backend of a plan.
#[derive(clap::Args)]
pub(crate) struct Vendor {
    /// The vendor's installer of a part of the machine, such as `driver=25.5.0=FILE`; with `#MEMBER` behind it, one in
    /// a zip archive (can be repeated)
    ///
    /// The plan pins its size and SHA-256; `build --bring` takes the file itself.
    #[arg(long, value_name = "KIND=VERSION=FILE", value_parser = host)]
    host: Vec<Host>,
    /// Another file that its vendor does not let others pass on; it goes to `vendor/` (can be repeated)
    #[arg(long, value_name = "FILE")]
    own: Vec<PathBuf>,
    /// Where whoever builds gets these files
    #[arg(long, value_name = "TEXT", default_value = "its vendor")]
    from: String,
    /// Wheel that no index has, for the Python environment (can be repeated)
    #[arg(long, value_name = "FILE")]
    wheel: Vec<PathBuf>,
    /// Archive with a Python for the target, such as one of python-build-standalone
    #[arg(long, value_name = "FILE")]
    interpreter: Option<PathBuf>,
}

/// One installer.
#[derive(Clone)]
struct Host {
    kind: HostKind,
    version: PlainWord,
    path: PathBuf,
    member: Option<BundlePath>,
}

impl Vendor {
    /// Gives the files to the one backend of a plan.
    pub(super) fn add_to(
        &self,
        backends: &mut [PlanBackend],
        places: &Places,
    ) -> Result<(), Trouble> {
        if self.is_empty() {
            return Ok(());
        }
        let count = backends.len();
        let [backend] = backends else {
            return Err(word(&count.to_string(), ONE_BACKEND).into());
        };
        for item in &self.host {
            let file = self.slot(&item.path)?;
            backend.host.push(HostItem {
                kind: item.kind.clone(),
                version: item.version.clone(),
                file: PlanFile {
                    path: file_name(&item.path)?,
                    executable: false,
                    source: file,
                },
                member: item.member.clone(),
                signature: None,
                eula: None,
            });
        }
        for path in &self.own {
            let name = format!("vendor/{}", file_name(path)?);
            backend.files.push(PlanFile {
                path: BundlePath::parse(&name).map_err(|error| word(&name, error.expected))?,
                executable: false,
                source: self.slot(path)?,
            });
        }
        if self.wheel.is_empty() && self.interpreter.is_none() {
            return Ok(());
        }
        let Some(python) = &mut backend.python else {
            return Err(word(backend.name.as_str(), WITH_PYTHON).into());
        };
        for wheel in &self.wheel {
            python.wheels.push(places.file(wheel)?);
        }
        if let Some(path) = &self.interpreter {
            python.interpreter = Some(places.file(path)?);
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.host.is_empty()
            && self.own.is_empty()
            && self.wheel.is_empty()
            && self.interpreter.is_none()
    }

    /// A slot for a file, by what the file is now.
    fn slot(&self, path: &Path) -> Result<Source, Trouble> {
        let found = measure(path)?;
        Ok(Source::Own(OwnSource {
            file_name: file_name(path)?.to_string(),
            size: ByteSize(found.size),
            digest: found.digest,
            from: self.from.clone(),
            member: None,
            members: Vec::new(),
            strip: String::new(),
        }))
    }
}

fn file_name(path: &Path) -> Result<BundlePath, InputError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    BundlePath::parse(&name).map_err(|error| word(&name, error.expected))
}

/// Reads `KIND=VERSION=FILE` or `KIND=VERSION=FILE#MEMBER`.
fn host(text: &str) -> Result<Host, String> {
    let shape = "write it as KIND=VERSION=FILE";
    let (kind, rest) = text.split_once('=').ok_or(shape)?;
    let (version, path) = rest.split_once('=').ok_or(shape)?;
    let (path, member) = match path.split_once('#') {
        Some((path, member)) => (path, Some(member)),
        None => (path, None),
    };
    let shown = |error: manifest_schema::IdError| error.to_string();
    Ok(Host {
        kind: HostKind::parse(kind).map_err(shown)?,
        version: PlainWord::parse(version).map_err(shown)?,
        path: PathBuf::from(path),
        member: member.map(BundlePath::parse).transpose().map_err(shown)?,
    })
}

const ONE_BACKEND: &str =
    "the one backend that `--host`, `--own`, `--wheel` and `--interpreter` are for";
const WITH_PYTHON: &str =
    "a backend with a Python environment: name a `--require` or `--require-file`";
