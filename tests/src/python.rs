//! A tiny wheel, the machine's Python, and a uv to put the one before the other.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::{Cursor, Write as _};
use std::path::PathBuf;
use std::process::Command;

use bundle_format::fake::{Fake, placed_file};
use manifest_schema::{Digest, PythonEnvironment};
use zip::write::SimpleFileOptions;

/// A program that makes environments.
pub enum Uv {
    /// The real one.
    Real(Vec<u8>),
    /// A script that does the two things that the installer asks of uv, with the machine's own Python.
    StandIn,
}

impl Uv {
    /// The real uv of this machine: `$FERRY_UV`, else what `cargo xtask` has fetched; `None` where there is none.
    pub fn real() -> Option<Self> {
        let named = env::var_os("FERRY_UV").map(PathBuf::from);
        let program = named.or_else(|| {
            let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
            let cache =
                cache.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")))?;
            let entries = fs::read_dir(cache.join("ferry")).ok()?;
            let mut found: Vec<PathBuf> = entries
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|path| {
                    let name = path
                        .file_name()
                        .map(|name| name.to_string_lossy().into_owned());
                    name.is_some_and(|name| name.starts_with("uv-")) && path.is_file()
                })
                .collect();
            found.sort();
            found.pop()
        })?;
        fs::read(program).ok().map(Self::Real)
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Real(bytes) => bytes.clone(),
            Self::StandIn => STAND_IN.as_bytes().to_vec(),
        }
    }

    /// Gives the first backend of `fake` a Python environment of one wheel, and this uv.
    ///
    /// # Panics
    /// When the bundle has no backend.
    #[expect(clippy::expect_used, reason = "a test gives a bundle with a backend")]
    pub fn add_to(&self, fake: &mut Fake, version: &str) {
        let (uv, wheel) = (self.bytes(), wheel());
        let backend = fake.profiles.backends.first_mut().expect("a backend");
        let mut program = placed_file("bin/uv", &uv);
        program.executable = true;
        backend.files.push(program);
        backend.python = Some(PythonEnvironment {
            version: version.to_owned(),
            requirements: vec!["ferry-hello==1.0".to_owned()],
            wheels: vec![placed_file("ferry_hello-1.0-py3-none-any.whl", &wheel)],
        });
        fake.blobs.extend([uv, wheel]);
    }
}

/// Folder and version of this machine's Python, such as `3.11`; `None` where there is none.
pub fn interpreter() -> Option<(PathBuf, String)> {
    let script = "import sys; print(sys.base_prefix); print('%d.%d' % sys.version_info[:2])";
    let output = Command::new("python3").args(["-c", script]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut lines = text.lines();
    let folder = PathBuf::from(lines.next()?).join("bin");
    Some((folder, lines.next()?.to_owned()))
}

/// A pure wheel with one module and one command.
///
/// # Panics
/// When it cannot be packed in memory.
#[expect(clippy::expect_used, reason = "memory takes what is written to it")]
pub fn wheel() -> Vec<u8> {
    let info = "ferry_hello-1.0.dist-info";
    let members = [
        (
            "ferry_hello/__init__.py".to_owned(),
            "WORD = 'across the water'\n\n\ndef main():\n    print(WORD)\n",
        ),
        (
            format!("{info}/METADATA"),
            "Metadata-Version: 2.1\nName: ferry-hello\nVersion: 1.0\n",
        ),
        (
            format!("{info}/WHEEL"),
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        ),
        (
            format!("{info}/entry_points.txt"),
            "[console_scripts]\nferry-hello = ferry_hello:main\n",
        ),
    ];
    let mut record = String::new();
    for (name, text) in &members {
        let digest = base64_of(&Digest::of(text.as_bytes()).hex());
        let _ = writeln!(record, "{name},sha256={digest},{}", text.len());
    }
    let _ = writeln!(record, "{info}/RECORD,,");
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let record = (format!("{info}/RECORD"), record.as_str());
    for (name, text) in members.iter().map(|(n, t)| (n.clone(), *t)).chain([record]) {
        archive
            .start_file(name, SimpleFileOptions::default())
            .and_then(|()| Ok(archive.write_all(text.as_bytes())?))
            .expect("memory takes what is written to it");
    }
    archive
        .finish()
        .expect("memory takes what is written to it")
        .into_inner()
}

/// URL-safe base64 without padding of bytes given in hexadecimal.
fn base64_of(hex: &str) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bits = String::new();
    for digit in hex.chars() {
        let _ = write!(bits, "{:04b}", digit.to_digit(16).unwrap_or(0));
    }
    let letter = |bits: &str| {
        let bits = format!("{bits:0<6}");
        char::from(LETTERS[usize::from_str_radix(&bits, 2).unwrap_or(0)])
    };
    (0..bits.len())
        .step_by(6)
        .map(|at| letter(&bits[at..bits.len().min(at + 6)]))
        .collect()
}

const STAND_IN: &str = r##"#!/bin/sh
set -eu
case $1 in
    venv)
        while [ "$1" != --python ]; do shift; done
        exec "$2" -m venv --without-pip "$3"
        ;;
    pip)
        while [ "$1" != --find-links ]; do shift; done
        wheels=$2
        python=$4
        shift 5
        exec "$python" - "$wheels" "$@" <<'PY'
import glob, os, re, sys, sysconfig, zipfile
wheels, wanted = sys.argv[1], sys.argv[2:]
packages = sysconfig.get_paths()["purelib"]
for requirement in wanted:
    name, version = requirement.split("==")
    name = re.sub("[-_.]+", "_", name)
    (found,) = glob.glob(f"{wheels}/{name}-{version}-*.whl")
    with zipfile.ZipFile(found) as archive:
        archive.extractall(packages)
    command = os.path.join(os.path.dirname(sys.executable), "ferry-hello")
    with open(command, "w") as script:
        script.write("#!/bin/sh\nexec \"$(dirname \"$0\")/python\" -c 'import ferry_hello; ferry_hello.main()'\n")
    os.chmod(command, 0o755)
PY
        ;;
    *) exit 2 ;;
esac
"##;
