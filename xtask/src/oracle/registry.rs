//! Images from a registry that somebody else wrote, read by a program that somebody else wrote.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use manifest_schema::Digest;
use serde_json::{Value, json};

use crate::{programs, shell};

const NAME: &str = "registry.example/demo/app";

/// Pushes an image to `docker-registry`, mirrors, packs and installs it; skopeo must find the same image in the
/// extracted bundle, in an export and in the installed release.
pub(crate) fn images(place: &Path) -> Result<()> {
    for program in ["skopeo", "docker-registry"] {
        ensure!(
            shell::is_there(program),
            "{program} is not here: `apt-get install skopeo docker-registry`"
        );
    }
    let registry = Registry::start(place)?;
    let digest = push(place, &registry.host)?;
    let (bundler, installer) = (programs::bundler()?, programs::installer()?);
    let source = json!({ "oci": { "endpoint": format!("http://{}", registry.host) } });
    let plan = json!({
        "format": 1, "name": "images", "release": 1, "accept_licenses": ["MIT"],
        "images": [{ "name": NAME, "tag": "1", "license": "MIT", "source": source }],
    });
    fs::write(place.join("images.json"), plan.to_string())?;
    fs::write(place.join("passphrase"), "a key of this folder\n")?;
    let ferry = |program: &Path, words: &[&str]| {
        let mut ferry = shell::command(program);
        ferry.env("FERRY_CACHE", place.join("images-cache"));
        shell::run(ferry.current_dir(place).args(words))
    };
    let passphrase = ["--passphrase-file", "passphrase"];
    ferry(
        &bundler,
        &[&["keygen", "images-key"], &passphrase[..]].concat(),
    )?;
    ferry(&bundler, &["lock", "images.json", "-o", "images.lock"])?;
    let build = [
        "build",
        "images.lock",
        "--key",
        "images-key",
        "-o",
        "images.ferry",
    ];
    ferry(&bundler, &[&build, &passphrase[..]].concat())?;
    drop(registry);

    let fingerprint = fs::read_to_string(place.join("images-key/fingerprint"))?;
    let trust = ["--trust-root", fingerprint.trim()];
    let export = ["export", "oci", "images.ferry", "-o", "export.tar"];
    ferry(&bundler, &[&export, &trust[..]].concat())?;
    let install = [
        "install",
        "images.ferry",
        "--yes",
        "--prefix",
        "images-prefix",
    ];
    ferry(&installer, &[&install, &trust[..]].concat())?;
    fs::create_dir(place.join("apart"))?;
    let mut tar = shell::command("tar");
    shell::run(
        tar.current_dir(place)
            .args(["-xf", "images.ferry", "-C", "apart"]),
    )?;

    for (what, image) in [
        ("the bundle, taken apart", format!("oci:apart:{NAME}:1")),
        ("an export", format!("oci-archive:export.tar:{NAME}:1")),
    ] {
        let mut skopeo = shell::command("skopeo");
        skopeo.current_dir(place).args(["inspect", &image]);
        let shown: Value = serde_json::from_str(&shell::output(&mut skopeo)?)?;
        ensure!(
            shown["Digest"] == digest,
            "{what} holds {}",
            shown["Digest"]
        );
    }
    let laid_out = format!("oci:images-prefix/current/images:{NAME}:1");
    let mut skopeo = shell::command("skopeo");
    skopeo.current_dir(place).args(["inspect", &laid_out]);
    shell::run(&mut skopeo)
}

/// A registry on a port of this machine, until it is dropped.
struct Registry {
    child: Child,
    host: String,
}

impl Registry {
    fn start(place: &Path) -> Result<Self> {
        let host = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let storage = json!({ "filesystem": { "rootdirectory": place.join("registry") } });
        let settings = json!({ "version": 0.1, "storage": storage, "http": { "addr": host } });
        let path = place.join("registry.json");
        fs::write(&path, settings.to_string())?;
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start docker-registry")?;
        let mut registry = Self { child, host };
        for _ in 0..600 {
            if std::net::TcpStream::connect(&registry.host).is_ok() {
                return Ok(registry);
            }
            if let Some(status) = registry.child.try_wait()? {
                bail!("docker-registry ended with {status}");
            }
            thread::sleep(Duration::from_millis(50));
        }
        bail!("docker-registry does not answer at {}", registry.host)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes an image for both processors and pushes it; returns the digest of its index.
fn push(place: &Path, host: &str) -> Result<Value> {
    let digest = layout(&place.join("pushed"))?;
    let to = format!("docker://{host}/demo/app:1");
    let mut skopeo = shell::command("skopeo");
    skopeo
        .current_dir(place)
        .args(["--insecure-policy", "copy", "--all", "--preserve-digests"]);
    shell::run(skopeo.args(["--dest-tls-verify=false", "oci:pushed", &to]))?;
    Ok(digest)
}

/// Writes an image for both processors as an OCI layout; returns the digest of its index.
pub(super) fn layout(folder: &Path) -> Result<Value> {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let blob = |kind: &str, bytes: &[u8]| -> Result<Value> {
        let digest = Digest::of(bytes);
        fs::write(blobs.join(digest.hex()), bytes)?;
        let kind = format!("application/vnd.oci.image.{kind}");
        Ok(json!({ "mediaType": kind, "digest": digest, "size": bytes.len() }))
    };
    let empty_tar = [0; 1024];
    let layer = blob("layer.v1.tar", &empty_tar)?;
    let mut entries = Vec::new();
    for arch in ["amd64", "arm64"] {
        let config = json!({ "architecture": arch, "os": "linux", "config": {},
            "rootfs": { "type": "layers", "diff_ids": [Digest::of(&empty_tar)] } });
        let config = blob("config.v1+json", config.to_string().as_bytes())?;
        let manifest = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config, "layers": [layer] });
        let mut entry = blob("manifest.v1+json", manifest.to_string().as_bytes())?;
        entry["platform"] = json!({ "architecture": arch, "os": "linux" });
        entries.push(entry);
    }
    let index = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": entries });
    let root = blob("index.v1+json", index.to_string().as_bytes())?;
    let layout = json!({ "schemaVersion": 2, "manifests": [root] });
    fs::write(folder.join("index.json"), layout.to_string())?;
    let mark = json!({ "imageLayoutVersion": "1.0.0" });
    fs::write(folder.join("oci-layout"), mark.to_string())?;
    Ok(root["digest"].clone())
}
