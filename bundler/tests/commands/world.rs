//! One connected machine: a package index, a hub, a web server, a plan, a key.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use manifest_schema::Digest;
use serde_json::{Value, json};

use crate::server::{Answer, Server, honest};

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub const TOKEN: &str = "hf_a_token_that_nobody_may_see";

/// The words that build `ferry.lock` with the world's key.
pub const BUILD: [&str; 6] = [
    "build",
    "ferry.lock",
    "--key",
    "key",
    "--passphrase-file",
    "passphrase",
];

/// A folder, and the servers that its plan names.
pub struct World {
    pub folder: tempfile::TempDir,
    pub index: Server,
    pub hub: Server,
    pub web: Server,
}

/// What the program said and how it ended.
#[derive(Debug)]
pub struct Said {
    pub status: i32,
    pub data: String,
    pub words: String,
}

impl Said {
    pub fn of(output: Output) -> Self {
        Self {
            status: output.status.code().unwrap_or(-1),
            data: String::from_utf8(output.stdout).unwrap(),
            words: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    pub fn ended_with(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{self:#?}");
        self
    }

    /// The last line of standard output.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(self.data.lines().last().unwrap()).unwrap()
    }

    /// Status and both streams, with what differs from run to run taken out.
    pub fn shown(&self) -> String {
        let text = format!("status {}\n{}{}", self.status, self.data, self.words);
        let mut shown = String::new();
        let mut run = String::new();
        for letter in text.trim_end().chars().chain(['\n']) {
            if letter.is_ascii_hexdigit() {
                run.push(letter);
                continue;
            }
            shown += if run.len() == 64 { "[DIGEST]" } else { &run };
            run.clear();
            shown.push(letter);
        }
        shown.trim_end().to_owned()
    }
}

/// A safetensors file with one tensor, larger than what a server of the tests sends at once.
pub fn weights() -> Vec<u8> {
    let header =
        json!({ "w": { "dtype": "U32", "shape": [400_000], "data_offsets": [0, 1_600_000] } });
    let header = header.to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.extend((0..400_000_u32).flat_map(u32::to_le_bytes));
    bytes
}

pub fn wheel() -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let plain = zip::write::SimpleFileOptions::default();
    for (name, text) in [
        ("demo/identity.json", r#"[{"output": "I am {{name}}."}]"#),
        ("demo/lib/liba.so", "a"),
        ("demo/lib/libb.so", "b"),
        (
            "demo-1.0.dist-info/METADATA",
            "Name: demo\nVersion: 1.0\nLicense-Expression: MIT OR 0BSD\n\nA demo.\n",
        ),
        ("demo-1.0.dist-info/licenses/LICENSE.MIT", "A text.\n"),
    ] {
        zip.start_file(name, plain).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

/// Writes a program for the shell.
pub fn script(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A wheel of uv, as far as a bundle takes something out of it.
pub fn uv_wheel() -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let program = zip::write::SimpleFileOptions::default().unix_permissions(0o755);
    zip.start_file("uv-0.13.9.data/scripts/uv", program)
        .unwrap();
    zip.write_all(b"#!/bin/sh\necho uv of the target\n")
        .unwrap();
    zip.finish().unwrap().into_inner()
}

fn index() -> Server {
    let wheel = wheel();
    let uv = uv_wheel();
    Server::new(move |_, asked| match asked.path.as_str() {
        "/simple/demo/" => Answer::new(
            200,
            json!({ "files": [{
                "filename": "demo-1.0-py3-none-any.whl",
                "url": "../../files/demo-1.0-py3-none-any.whl",
                "hashes": { "sha256": Digest::of(&wheel).hex() },
                "size": wheel.len(),
            }] })
            .to_string()
            .as_bytes(),
        )
        .with("Content-Type", "application/vnd.pypi.simple.v1+json"),
        "/files/demo-1.0-py3-none-any.whl" => honest(asked, &wheel),
        "/simple/uv/" => {
            let file = |arch: &str| {
                json!({ "filename": format!("uv-0.13.9-py3-none-manylinux_2_28_{arch}.whl"),
                    "url": "../../files/uv.whl", "size": uv.len(),
                    "hashes": { "sha256": Digest::of(&uv).hex() } })
            };
            let files = json!({ "files": [file("aarch64"), file("x86_64")] });
            Answer::new(200, files.to_string().as_bytes())
                .with("Content-Type", "application/vnd.pypi.simple.v1+json")
        }
        "/files/uv.whl" => honest(asked, &uv),
        _ => Answer::new(404, b""),
    })
}

fn hub(files: BTreeMap<String, Vec<u8>>) -> Server {
    let files = Arc::new(files);
    Server::new(move |_, asked| {
        let path = asked.path.split('?').next().unwrap();
        if path == "/api/models/org/model/revision/main" {
            return Answer::new(200, json!({ "sha": COMMIT }).to_string().as_bytes());
        }
        if path == format!("/api/models/org/model/tree/{COMMIT}") {
            let entries: Vec<Value> = files
                .iter()
                .map(|(path, bytes)| entry(path, bytes))
                .collect();
            return Answer::new(200, json!(entries).to_string().as_bytes());
        }
        let below = format!("/org/model/resolve/{COMMIT}/");
        match path.strip_prefix(&below).and_then(|name| files.get(name)) {
            Some(bytes) => honest(asked, bytes),
            None => Answer::new(404, b""),
        }
    })
}

/// A hub's listing of one file; weights are large, all else is in git.
pub fn entry(path: &str, bytes: &[u8]) -> Value {
    use sha1::Digest as _;
    let mut git = sha1::Sha1::new();
    git.update(format!("blob {}\0", bytes.len()));
    git.update(bytes);
    let oid: String = git.finalize().iter().map(|b| format!("{b:02x}")).collect();
    let mut entry = json!({ "type": "file", "path": path, "size": bytes.len(), "oid": oid });
    if path.ends_with(".safetensors") {
        entry["lfs"] = json!({
            "oid": Digest::of(bytes).hex(), "size": bytes.len(), "pointerSize": 134,
        });
    }
    entry
}

impl World {
    pub fn new() -> Self {
        let web = Server::new(|_, asked| honest(asked, b"#!/bin/sh\necho tool\n"));
        Self::with_web(web)
    }

    pub fn with_web(web: Server) -> Self {
        let files = [
            ("config.json", b"{\"model_type\": \"qwen2\"}\n".to_vec()),
            ("model.safetensors", weights()),
            ("pytorch_model.bin", b"pickle".to_vec()),
        ];
        let files = files.map(|(name, bytes)| (name.to_owned(), bytes));
        let world = Self {
            folder: tempfile::tempdir().unwrap(),
            index: index(),
            hub: hub(files.into()),
            web,
        };
        // Stands in for uv, which would ask a network: it answers with the one project that the index has.
        script(
            &world.path("uv"),
            "#!/bin/sh\nasked=$(cat)\nif [ \"$asked\" = uv ]; then echo uv==0.13.9; exit; fi\n\
              echo \"$asked\" > \"$(dirname \"$0\")/asked-of-uv\"\necho demo==1.0\n",
        );
        world.write("passphrase", b"a passphrase\n");
        world.write("local.so", b"a library of this machine");
        world.write("installer", b"#!/bin/sh\necho installer\n");
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    /// A plan that takes something from every kind of source.
    pub fn plan(&self) -> Value {
        let tool = b"#!/bin/sh\necho tool\n";
        json!({
            "format": 1, "name": "demo", "release": 1, "accept_licenses": ["Apache-2.0"],
            "models": [{ "name": "org/model", "license": "Apache-2.0",
                "hub": { "repo": "org/model", "include": ["*.json", "*.safetensors"] } }],
            "datasets": [{ "name": "identity", "license": "Apache-2.0",
                "files": [{ "path": "identity.json", "source": { "pypi": {
                    "project": "demo", "version": "1.0", "member": "demo/identity.json" } } }],
                "fill": { "name": "Xiaodu" },
                "dataset_info": { "file_name": "identity.json" } }],
            "backends": [{ "name": "cpu", "chip": "cpu", "arch": "x86_64", "glibc": "2.28",
                "files": [
                    { "path": "bin/tool", "executable": true, "source": { "https": {
                        "url": format!("{}/tool.run", self.web.url), "digest": Digest::of(tool) } } },
                    { "path": "lib/local.so", "source": { "file": { "path": "local.so" } } },
                    { "path": "lib", "source": { "pypi": { "project": "demo", "version": "1.0",
                        "members": ["demo/lib/*.so"], "strip": "demo/lib/" } } },
                ],
                "python": { "version": "3.11", "requirements": ["demo"], "forbid": ["nvidia-*"] } }],
            "installers": { "x86_64": { "file": { "path": "installer" } } },
        })
    }

    pub fn write_plan(&self, plan: &Value) {
        self.write("plan.json", plan.to_string().as_bytes());
    }

    /// The program with a cleared environment, in this world's folder.
    pub fn command(&self, words: &[&str]) -> Command {
        self.command_in(self.folder.path(), words)
    }

    pub fn command_in(&self, folder: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ferry-bundler"));
        command
            .args(words)
            .current_dir(folder)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", folder)
            .env("LANG", "C")
            .env("FERRY_CACHE", folder.join("cache"))
            .env("FERRY_UV", self.path("uv"))
            .env("UV_DEFAULT_INDEX", format!("{}/simple", self.index.url))
            .env("HF_ENDPOINT", &self.hub.url)
            .env("HF_TOKEN", TOKEN)
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, words: &[&str]) -> Said {
        Said::of(self.command(words).output().unwrap())
    }

    /// Makes `key/`.
    pub fn keygen(&self) -> String {
        let said = self.run(&["keygen", "key", "--passphrase-file", "passphrase"]);
        said.ended_with(0).data.trim().to_owned()
    }

    pub fn lock(&self) -> Said {
        self.run(&["lock", "plan.json"])
    }

    pub fn build(&self, more: &[&str]) -> Said {
        self.run(&[&BUILD, more].concat())
    }

    /// Everything up to `demo-1.ferry`; returns the fingerprint.
    pub fn built(&self) -> String {
        let fingerprint = self.keygen();
        self.write_plan(&self.plan());
        self.lock().ended_with(0);
        self.build(&[]).ended_with(0);
        fingerprint
    }
}
