//! A site with the machine that its people install on: what is done to the machine itself.

use bundle_format::fake::{Fake, placed_file};

use crate::{Played, RUNTIME, Said, Site, ascend_bundle, backend, host_item};

/// A site, and beside its medium the machine.
pub struct Rig {
    /// The site.
    pub site: Site,
    /// The machine.
    pub played: Played,
}

/// A vendor's file of a backend: kind, version, file name, bytes.
pub type Brought<'a> = (&'a str, &'a str, &'a str, &'a [u8]);

/// Asks for all that the bundle of [`Rig::ascend`] brings, and accepts its terms.
pub const ASCEND_FLAGS: [&str; 6] = [
    "--with-driver",
    "--with-toolkit",
    "--accept-eula",
    "huawei-driver",
    "--accept-eula",
    "huawei-cann",
];

/// What is run then on a machine that has nothing, up to the start.
pub const ASCEND_COMMANDS: [&str; 4] = [
    "groupadd HwHiAiUser",
    "useradd -g HwHiAiUser -d /home/HwHiAiUser -m HwHiAiUser -s /bin/bash",
    "driver --nox11 --full --quiet --install-for-all",
    "firmware --nox11 --full --quiet",
];

impl Rig {
    /// The bundle `fake`, and a copy of the recorded machine `name`.
    pub fn on(name: &str, fake: Fake) -> Self {
        let site = Site::of(fake);
        let played = Played::recorded(name, &site.folder().join("machine"));
        Self { site, played }
    }

    /// The bundle `fake`, and this machine.
    pub fn with(played: Played, fake: Fake) -> Self {
        let site = Site::of(fake);
        Self { site, played }
    }

    /// A bundle with driver, firmware and toolkit, and a machine that has none of them.
    pub fn ascend() -> Self {
        let site = Site::of(ascend_bundle());
        let played = Played::without_driver(&site.folder().join("machine"));
        Self { site, played }
    }

    /// Its people install on another machine without a driver from now on. Returns the one before.
    pub fn moves_to(&mut self, folder: &str) -> Played {
        let other = Played::without_driver(&self.site.folder().join(folder));
        std::mem::replace(&mut self.played, other)
    }

    /// The words that install `bundle` on the machine.
    pub fn words(&self, bundle: &str, more: &[&str]) -> Vec<String> {
        let mut words = self.site.words_to_install(bundle);
        words.extend(["--machine".to_owned(), self.machine()]);
        words.extend(more.iter().map(|word| (*word).to_owned()));
        words
    }

    /// Installs bundle `1`.
    pub fn install(&self, more: &[&str]) -> Said {
        self.install_of("1", more)
    }

    /// Installs a bundle.
    pub fn install_of(&self, bundle: &str, more: &[&str]) -> Said {
        self.site.installer(&self.words(bundle, more))
    }

    /// Goes on after a start of the machine.
    pub fn resume(&self) -> Said {
        self.site.installer(&["install", "--resume", "--yes"])
    }

    /// Asks whether a bundle fits the machine.
    pub fn preflight(&self, bundle: &str, more: &[&str]) -> Said {
        let bundle = self.site.bundle(bundle).display().to_string();
        let (machine, trust) = (self.machine(), self.site.fingerprint());
        let words = ["preflight", &bundle, "--machine", &machine];
        let words = [&words[..], &["--trust-root", &trust], more].concat();
        self.site.installer(&words)
    }

    /// Removes everything that Ferry installed.
    pub fn uninstall(&self, more: &[&str]) -> Said {
        let machine = self.machine();
        let words = ["uninstall", "--machine", &machine];
        self.site.installer(&[&words[..], more].concat())
    }

    fn machine(&self) -> String {
        self.played.folder().display().to_string()
    }
}

/// A bundle with a small dataset and one backend for `chip`, on x86_64, with these versions and vendor's files.
///
/// # Panics
/// When a name is none.
#[expect(clippy::expect_used, reason = "names in the test are well-formed")]
pub fn bundle_for(chip: &str, versions: &[(&str, &str)], host: &[Brought<'_>]) -> Fake {
    let mut fake = Fake::with_dataset("demo", 1, &[("data.json", b"[]\n".to_vec())]);
    let mut made = backend("chip", chip, "x86_64".parse().expect("an architecture"));
    for (name, version) in versions {
        made.versions
            .insert((*name).to_owned(), (*version).to_owned());
    }
    fake.blobs.push(RUNTIME.to_vec());
    for (kind, version, name, bytes) in host {
        made.host
            .push(host_item(kind, version, placed_file(name, bytes)));
        fake.blobs.push(bytes.to_vec());
    }
    fake.profiles.backends.push(made);
    fake
}

/// An installer that notes its words, and leaves `leaves` (a path and its text) for the next start.
pub fn installer_that_leaves(kind: &str, leaves: &[(&str, &str)]) -> Vec<u8> {
    let leave = |(path, text): &(&str, &str)| {
        format!(
            "mkdir -p \"$FERRY_MACHINE/after-start/$(dirname '{path}')\"\n\
            cat > \"$FERRY_MACHINE/after-start/{path}\" <<'EOF'\n{text}EOF\n"
        )
    };
    let leaves: String = leaves.iter().map(leave).collect();
    format!(
        "#!/bin/bash\nset -eu\necho \"{kind} $*\" >> \"$FERRY_MACHINE/ran.txt\"\n{leaves}echo done\n"
    )
    .into_bytes()
}
