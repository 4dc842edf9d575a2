//! A machine that a folder plays: facts that the installer reads, programs that it runs, and what they left behind.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use bundle_format::fake::{Fake, placed_file};
use manifest_schema::{Backend, Eula, HostItem, PlacedFile};

use crate::{RUNTIME, backend};

/// A copy of a recorded machine that programs may change.
pub struct Played {
    folder: PathBuf,
}

#[expect(
    clippy::missing_panics_doc,
    clippy::expect_used,
    reason = "a machine that cannot be played is a failed test"
)]
impl Played {
    /// A virtual machine with an Ascend 910B and no driver, with all that a driver's installer needs. It lies in
    /// `folder`, which must not be there.
    pub fn without_driver(folder: &Path) -> Self {
        let hosts = Path::new(env!("CARGO_MANIFEST_DIR")).join("hosts");
        copy(&hosts.join("vm-910b-no-driver"), folder);
        let played = Self {
            folder: folder.to_owned(),
        };
        let headers = format!("/lib/modules/{}/build", played.kernel());
        played.has(&["/usr/bin/tar", "/usr/bin/gcc", &headers]);
        played.write("etc/group", "root:x:0:\n");
        played.write("etc/passwd", "root:x:0:0:root:/root:/bin/bash\n");
        played.program(
            "groupadd",
            "echo \"$1:x:1000:\" >> \"$FERRY_MACHINE/etc/group\"",
        );
        played.program(
            "useradd",
            "echo \"$6:x:1000:1000::/home/$6:/bin/bash\" >> \"$FERRY_MACHINE/etc/passwd\"",
        );
        played.start("first");
        played
    }

    /// A copy of the recorded machine `name` with root at its keyboard, in `folder`, which must not be there.
    pub fn recorded(name: &str, folder: &Path) -> Self {
        let hosts = Path::new(env!("CARGO_MANIFEST_DIR")).join("hosts");
        copy(&hosts.join(name), folder);
        let played = Self {
            folder: folder.to_owned(),
        };
        played.write("cmd/id -un.txt", "root\n");
        played.write("cmd/id -nG.txt", "root\n");
        played.start("first");
        played
    }

    /// A machine of this one's processor without anything else. It lies in `folder`, which must not be there.
    pub fn plain(folder: &Path) -> Self {
        let played = Self {
            folder: folder.to_owned(),
        };
        let arch = format!("{}\n", std::env::consts::ARCH);
        played.write("cmd/uname -m.txt", &arch);
        played
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The text of one of its files; empty where there is none.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.folder.join(path)).unwrap_or_default()
    }

    /// Takes a file or folder away. Returns the text of the file.
    pub fn forget(&self, path: &str) -> String {
        let text = self.read(path);
        let path = self.folder.join(path);
        if path.is_dir() {
            fs::remove_dir_all(&path).expect("the machine can be written");
        } else {
            fs::remove_file(&path).expect("it was there");
        }
        text
    }

    /// Says that these are there too.
    pub fn has(&self, paths: &[&str]) {
        let there = self.read("there.txt");
        self.write("there.txt", &format!("{there}\n{}\n", paths.join("\n")));
    }

    /// Release of its kernel.
    pub fn kernel(&self) -> String {
        self.read("proc/sys/kernel/osrelease").trim().to_owned()
    }

    /// Writes one of its files.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.folder.join(path);
        let parent = path.parent().expect("a file has a folder");
        fs::create_dir_all(parent).expect("the machine can be written");
        fs::write(path, text).expect("the machine can be written");
    }

    /// Puts a program into its `bin`, which notes its words and then runs `script`.
    pub fn program(&self, name: &str, script: &str) {
        let path = self.folder.join("bin").join(name);
        let text = format!(
            "#!/bin/sh\nset -eu\necho \"{name} $*\" >> \"$FERRY_MACHINE/ran.txt\"\n{script}\n"
        );
        self.write(&format!("bin/{name}"), &text);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode can be set");
    }

    /// Starts it anew: another name of the start, a driver that is there now serves the device, and what an installer left
    /// in `after-start` comes up.
    pub fn start(&self, name: &str) {
        self.write("proc/sys/kernel/random/boot_id", &format!("{name}\n"));
        let comes_up = self.folder.join("after-start");
        if comes_up.exists() {
            copy(&comes_up, &self.folder);
        }
        if !self.read("usr/local/Ascend/driver/version.info").is_empty() {
            self.write(
                "dev.txt",
                "davinci0\ndavinci_manager\ndevmm_svm\nhisi_hdc\nnull\n",
            );
        }
    }

    /// The commands that ran on it, in their order, without the folders of their files.
    pub fn ran(&self) -> Vec<String> {
        self.read("ran.txt").lines().map(str::to_owned).collect()
    }
}

/// A vendor's installer: notes its words, says something, writes its version file unless it is taken back.
pub fn installer_of(kind: &str, version: &str) -> Vec<u8> {
    let mark = match kind {
        "toolkit" => "cann/aarch64-linux/ascend_toolkit_install.info".to_owned(),
        _ => format!("{kind}/version.info"),
    };
    let key = if kind == "toolkit" {
        "version"
    } else {
        "Version"
    };
    format!(
        "#!/bin/bash\nset -eu\n\
        echo \"{kind} $*\" >> \"$FERRY_MACHINE/ran.txt\"\n\
        mark=\"$FERRY_MACHINE/usr/local/Ascend/{mark}\"\n\
        if [ \"${{1:-}}\" = --uninstall ]; then rm -rf \"$(dirname \"$mark\")\"; exit 0; fi\n\
        mkdir -p \"$(dirname \"$mark\")\"\n\
        [ -e \"$FERRY_MACHINE/fail-{kind}\" ] && {{ echo half > \"$mark\"; echo no space for {kind}; exit 5; }}\n\
        echo {key}={version} > \"$mark\"\necho {kind} installed\n"
    )
    .into_bytes()
}

/// A backend for an Ascend 910B that brings driver, firmware and toolkit, and terms for the first and the last.
/// Returns the blobs of its files too.
///
/// # Panics
/// When a name of this function is no name.
#[expect(clippy::expect_used, reason = "names in the test are well-formed")]
pub fn ascend_backend() -> (Backend, Vec<Vec<u8>>) {
    let mut blobs = vec![RUNTIME.to_vec()];
    let mut made = backend("ascend", "ascend-910b", "aarch64".parse().expect("a name"));
    for (name, version) in [
        ("torch_npu", "2.9.0"),
        ("cann", "8.5.0"),
        ("torch", "2.9.0"),
    ] {
        made.versions.insert(name.to_owned(), version.to_owned());
    }
    // In no order: the vendor's is data.
    for (kind, version, terms) in [
        (
            "toolkit",
            "8.5.0",
            Some(("huawei-cann", "Terms of the toolkit.\n许可条款\n")),
        ),
        ("firmware", "7.7.0.2.220", None),
        (
            "driver",
            "25.5.0",
            Some(("huawei-driver", "Terms of the driver.\n")),
        ),
    ] {
        let bytes = installer_of(kind, version);
        let file = placed_file(&format!("Ascend-{kind}_{version}.run"), &bytes);
        blobs.push(bytes);
        let mut item = host_item(kind, version, file);
        if let Some((name, text)) = terms {
            let file = placed_file(&format!("{name}.txt"), text.as_bytes());
            blobs.push(text.as_bytes().to_vec());
            item.eula = Some(Eula {
                name: name.parse().expect("a name"),
                text: file,
            });
        }
        made.host.push(item);
    }
    (made, blobs)
}

/// An installer without terms and without a signature.
///
/// # Panics
/// When `kind` or `version` is none.
#[expect(clippy::expect_used, reason = "names in the test are well-formed")]
pub fn host_item(kind: &str, version: &str, file: PlacedFile) -> HostItem<PlacedFile> {
    HostItem {
        kind: kind.parse().expect("a kind"),
        version: version.parse().expect("a version"),
        file,
        member: None,
        signature: None,
        eula: None,
    }
}

/// A bundle with a small dataset and [`ascend_backend`].
pub fn ascend_bundle() -> Fake {
    let mut fake = Fake::with_dataset("demo", 1, &[("data.json", b"[]\n".to_vec())]);
    let (made, blobs) = ascend_backend();
    fake.profiles.backends.push(made);
    fake.blobs.extend(blobs);
    fake
}

#[expect(
    clippy::expect_used,
    reason = "a recording that cannot be copied is a failed test"
)]
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a scratch folder can be written");
    for entry in fs::read_dir(from).expect("the recording is there") {
        let path = entry.expect("the recording can be listed").path();
        let target = to.join(path.file_name().expect("an entry has a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("a scratch folder can be written");
        }
    }
}
