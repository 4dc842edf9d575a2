//! A throw-away world: a medium with bundles, and a prefix that the real installer works on.

use std::env;
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
        let folder = tempfile::tempdir().expect("a scratch folder");
        let fake = contents(1);
        let mut site = Self { folder, fake };
        site.carry("1");
        let second = contents(2);
        site.fake.profiles = second.profiles;
        site.fake.blobs = second.blobs;
        site.carry("2");
        site
    }

    fn carry(&self, name: &str) {
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
        let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
        let mut command = self.command();
        command.args(&words).arg("--prefix").arg(self.prefix());
        let output = command.output().expect("the installer starts");
        Said {
            status: output.status.code().unwrap_or(-1),
            data: String::from_utf8_lossy(&output.stdout).into_owned(),
            words: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The installer with a cleared environment and no terminal.
    pub fn command(&self) -> Command {
        let mut command = Command::new(installer());
        command
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
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

impl Default for Site {
    fn default() -> Self {
        Self::new()
    }
}

#[expect(clippy::expect_used, reason = "names in the test are well-formed")]
fn contents(release: u64) -> Fake {
    let data = format!("[{{\"release\": {release}}}]\n")
        .repeat(700)
        .into_bytes();
    let mut fake = Fake::with_dataset("demo", release, &[("data.json", data)]);
    let runtime = b"#!/bin/sh\nset -eu\n[ \"$1\" = doctor ]\n[ -d \"$FERRY_HOME/datasets\" ]\n";
    let mut file = placed_file("bin/ferry-runtime", runtime);
    file.executable = true;
    fake.profiles.backends.push(Backend {
        name: "cpu".parse().expect("a backend name"),
        chip: "cpu".to_owned(),
        arch: env::consts::ARCH
            .parse::<Arch>()
            .expect("a known architecture"),
        glibc: None,
        versions: std::collections::BTreeMap::new(),
        files: vec![file],
        python: None,
    });
    fake.blobs.push(runtime.to_vec());
    fake
}

/// The static installer where one was built, else one built here once.
#[expect(
    clippy::expect_used,
    reason = "an installer that does not build is a failed test"
)]
fn installer() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        if let Some(path) = env::var_os("FERRY_STATIC_INSTALLER") {
            return path.into();
        }
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "-p", "ferry-installer"])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .status()
            .expect("cargo starts");
        assert!(built.success(), "the installer does not build");
        // <target>/debug/deps/e2e-<hash>
        let here = env::current_exe().expect("a test knows its own path");
        let profile = here
            .ancestors()
            .nth(2)
            .expect("a test lies below target/<profile>/deps");
        profile.join("ferry-installer")
    })
}
