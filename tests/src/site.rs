//! A throw-away world: a medium with bundles, and a prefix that the real installer works on.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use bundle_format::fake::{Fake, placed_file};
use manifest_schema::{Arch, Backend, Digest};

/// One machine beyond the gap.
pub struct Site {
    folder: tempfile::TempDir,
    fake: Fake,
    /// Words that start the installer.
    program: Vec<OsString>,
    /// Where its shell looks for programs.
    path: String,
}

/// What a program said and how it ended.
#[derive(Debug)]
pub struct Said {
    /// Exit status.
    pub status: i32,
    /// Standard output.
    pub data: String,
    /// Standard error.
    pub words: String,
}

impl Said {
    /// The last line of standard output as JSON.
    ///
    /// # Panics
    /// When it is not JSON.
    pub fn json(&self) -> serde_json::Value {
        let last = self.data.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// All of it as one text for a snapshot.
    pub fn shown(&self) -> String {
        let Self {
            status,
            data,
            words,
        } = self;
        format!("exit status {status}\n----- stdout\n{data}----- stderr\n{words}")
    }

    /// Fails the test unless the program ended with `status`.
    ///
    /// # Panics
    /// When it ended otherwise.
    #[must_use]
    pub fn ended_with(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{self:#?}");
        self
    }
}

#[expect(
    clippy::missing_panics_doc,
    clippy::expect_used,
    reason = "a site that cannot be made is a failed test"
)]
impl Site {
    /// A site with `1.ferry` and `2.ferry` on its medium: a dataset and a runtime that answers `doctor`.
    pub fn new() -> Self {
        let mut site = Self::of(contents(1));
        let second = contents(2);
        site.fake.profiles = second.profiles;
        site.fake.blobs = second.blobs;
        site.carry("2");
        site
    }

    /// A site with this bundle as `1.ferry` on its medium.
    pub fn of(fake: Fake) -> Self {
        let site = Self {
            folder: tempfile::tempdir().expect("a scratch folder"),
            fake,
            program: vec![installer().into()],
            path: "/usr/bin:/bin".to_owned(),
        };
        site.carry("1");
        site
    }

    /// Starts the installer with these words from now on.
    #[must_use]
    pub fn with_program(mut self, words: Vec<OsString>) -> Self {
        self.program = words;
        self
    }

    /// Puts a folder in front of those that the site's programs are looked for in.
    #[must_use]
    pub fn with_programs_of(mut self, folder: &Path) -> Self {
        self.path = format!("{}:{}", folder.display(), self.path);
        self
    }

    /// The folder that holds everything of this site.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What the bundles are made of.
    pub fn fake(&mut self) -> &mut Fake {
        &mut self.fake
    }

    /// Builds the bundle `name` from what [`Site::fake`] holds now.
    pub fn carry(&self, name: &str) {
        let blobs = self.folder.path().join(format!("made-{name}"));
        fs::create_dir(&blobs).expect("a scratch folder can be written");
        self.fake
            .build(&blobs, &self.bundle(name))
            .expect("a good bundle");
    }

    /// Where a bundle lies.
    pub fn bundle(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.ferry"))
    }

    /// Copies bundle `1` to `name`, changed by `change`.
    pub fn spoil(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.bundle("1")).expect("the bundle is there");
        change(&mut bytes);
        fs::write(self.bundle(name), bytes).expect("the medium can be written");
    }

    /// The prefix.
    pub fn prefix(&self) -> PathBuf {
        self.folder.path().join("prefix")
    }

    /// The fingerprint that its people were given.
    pub fn fingerprint(&self) -> String {
        Digest::of(&self.fake.root()).hex()
    }

    /// Runs the installer on this site's prefix.
    pub fn installer<S: AsRef<str>>(&self, words: &[S]) -> Said {
        let mut command = self.command();
        command.args(words.iter().map(AsRef::as_ref));
        say(command.arg("--prefix").arg(self.prefix()))
    }

    /// Runs the installer with these words and no others.
    pub fn bare<S: AsRef<str>>(&self, words: &[S]) -> Said {
        say(self.command().args(words.iter().map(AsRef::as_ref)))
    }

    /// Everything below the site's folder but what changes by being looked at, with sizes: to compare before
    /// and after.
    pub fn listing(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut open = vec![self.folder.path().to_owned()];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(&folder).expect("the site can be listed") {
                let path = entry.expect("the site can be listed").path();
                let kind = fs::symlink_metadata(&path).expect("an entry has a kind");
                let name = path.strip_prefix(self.folder.path()).unwrap_or(&path);
                if kind.is_dir() {
                    open.push(path.clone());
                    lines.push(format!("{}/", name.display()));
                } else if kind.is_symlink() {
                    let target = fs::read_link(&path).expect("a link can be read");
                    lines.push(format!("{} -> {}", name.display(), target.display()));
                } else if path != self.prefix().join("lock") {
                    // A pipe that somebody put there would keep whoever reads it.
                    let bytes = kind.is_file().then(|| fs::read(&path).unwrap_or_default());
                    let digest = Digest::of(&bytes.unwrap_or_default());
                    lines.push(format!("{} {}", name.display(), digest.hex()));
                }
            }
        }
        lines.sort();
        lines
    }

    /// The installer with a cleared environment and no terminal.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program[0]);
        command
            .args(&self.program[1..])
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", &self.path)
            .env("HOME", self.folder.path())
            .env("LANG", "C")
            .stdin(Stdio::null());
        command
    }

    /// Words that install a bundle of this site without a question.
    pub fn words_to_install(&self, name: &str) -> Vec<String> {
        let bundle = self.bundle(name).display().to_string();
        let words = [
            "install",
            &bundle,
            "--yes",
            "--trust-root",
            &self.fingerprint(),
        ];
        words.map(str::to_owned).to_vec()
    }

    /// Installs a bundle of this site.
    pub fn install(&self, name: &str) -> Said {
        self.installer(&self.words_to_install(name))
    }

    /// The number of the current release.
    pub fn current(&self) -> Option<String> {
        let target = fs::read_link(self.prefix().join("current")).ok()?;
        let name = target.file_name()?.to_str()?.to_owned();
        name.split('-').nth(1).map(str::to_owned)
    }
}

/// Runs a program to its end.
///
/// # Panics
/// When it cannot be started.
#[expect(
    clippy::expect_used,
    reason = "a program that cannot be started is a failed test"
)]
pub fn say(command: &mut Command) -> Said {
    let output = command.output().expect("the program starts");
    Said {
        status: output.status.code().unwrap_or(-1),
        data: String::from_utf8_lossy(&output.stdout).into_owned(),
        words: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Default for Site {
    fn default() -> Self {
        Self::new()
    }
}

/// A dataset, and a runtime for this machine's processor that answers `doctor`.
#[expect(clippy::expect_used, reason = "names in the test are well-formed")]
fn contents(release: u64) -> Fake {
    let data = format!("[{{\"release\": {release}}}]\n")
        .repeat(700)
        .into_bytes();
    let mut fake = Fake::with_dataset("demo", release, &[("data.json", data)]);
    let here = env::consts::ARCH.parse().expect("a known architecture");
    fake.profiles.backends.push(backend("cpu", "cpu", here));
    fake.blobs.push(RUNTIME.to_vec());
    fake
}

/// A runtime that knows one command.
pub const RUNTIME: &[u8] =
    b"#!/bin/sh\nset -eu\n[ \"$1\" = doctor ]\n[ -d \"$FERRY_HOME/datasets\" ]\n";

/// A backend that is [`RUNTIME`] and nothing else.
///
/// # Panics
/// When `name` is no name.
#[expect(clippy::expect_used, reason = "names in the test are well-formed")]
pub fn backend(name: &str, chip: &str, arch: Arch) -> Backend {
    let mut file = placed_file("bin/ferry-runtime", RUNTIME);
    file.executable = true;
    Backend {
        name: name.parse().expect("a backend name"),
        chip: chip.to_owned(),
        arch,
        glibc: None,
        versions: std::collections::BTreeMap::new(),
        files: vec![file],
        python: None,
        signatures: Vec::new(),
        eulas: Vec::new(),
        host: Vec::new(),
        ports: Vec::new(),
    }
}

/// The static installer where one was built, else one built here once.
///
/// # Panics
/// When it cannot be built.
pub fn installer() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| match env::var_os("FERRY_STATIC_INSTALLER") {
        Some(path) => path.into(),
        None => built("ferry-installer"),
    })
}

/// The bundler, built once where it is not there.
///
/// # Panics
/// When it cannot be built.
pub fn bundler() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        // A run over the whole workspace builds it for its own tests.
        let beside = beside("ferry-bundler");
        if beside.is_file() {
            beside
        } else {
            built("ferry-bundler")
        }
    })
}

#[expect(
    clippy::expect_used,
    reason = "a program that does not build is a failed test"
)]
fn built(package: &str) -> PathBuf {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "-p", package])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .status()
        .expect("cargo starts");
    assert!(built.success(), "{package} does not build");
    beside(package)
}

/// Where cargo puts a program that belongs to the test that runs: `<target>/debug/deps/e2e-<hash>`.
#[expect(clippy::expect_used, reason = "cargo's own layout")]
fn beside(program: &str) -> PathBuf {
    let here = env::current_exe().expect("a test knows its own path");
    let profile = here.ancestors().nth(2);
    profile
        .expect("a test lies below target/<profile>/deps")
        .join(program)
}
