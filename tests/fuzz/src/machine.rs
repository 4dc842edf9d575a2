//! A machine whose every file and program says anything.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use host_probe::{Host, RecordedHost, facts, fit, probe, select};
use manifest_schema::site::Site;
use manifest_schema::site_code::SiteCode;
use manifest_schema::{Arch, Backend};

use crate::Target;

/// Kernel files, version files, and what vendors' tools print.
pub(crate) const PROBE: Target = Target {
    name: "probe",
    run: |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let site = probe(&Told::of(&text));
        let _ = facts(&site);
        let again = serde_json::to_vec(&site).expect("a site has a JSON form");
        assert_eq!(
            serde_json::from_slice::<Site>(&again).ok(),
            Some(site.clone())
        );
        let _ = SiteCode::of(&site).parts(600);
        let backends = backends();
        for backend in &backends {
            let _ = fit(&site, backend);
        }
        drop(select(&site, &backends, &[]));
    },
    seeds: || {
        let hosts = concat!(env!("CARGO_MANIFEST_DIR"), "/../hosts");
        let mut seeds = Vec::new();
        for entry in std::fs::read_dir(hosts).expect("recorded machines") {
            let mut text = String::new();
            collect(&entry.expect("a recorded machine").path(), "", &mut text);
            seeds.push(text.into_bytes());
        }
        seeds
    },
};

/// A recorded machine of this repository.
pub(crate) fn recorded(name: &str) -> Site {
    let hosts = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../hosts"));
    let root = hosts.join(name);
    probe(&RecordedHost { root })
}

/// A machine as one text: `#` and a path begin what is there. Programs are below `cmd`, names of `/dev` in `dev.txt`.
struct Told<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Told<'a> {
    fn of(text: &'a str) -> Self {
        let pieces = text.split("\n#").filter_map(|piece| piece.split_once('\n'));
        Self(pieces.collect())
    }

    fn at(&self, path: &str) -> io::Result<String> {
        let found = self.0.get(path).map(|text| (*text).to_owned());
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Host for Told<'_> {
    fn read(&self, path: &str) -> io::Result<String> {
        self.at(path)
    }

    fn run(&self, program: &str, args: &[&str], _: &[String]) -> io::Result<String> {
        let words: Vec<&str> = std::iter::once(program)
            .chain(args.iter().copied())
            .collect();
        self.at(&format!("/cmd/{}.txt", words.join(" ").replace('/', "_")))
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        if path == "/dev" {
            return Ok(self.at("/dev.txt")?.lines().map(str::to_owned).collect());
        }
        let below = |key: &&str| {
            let rest = key.strip_prefix(path)?.strip_prefix('/')?;
            Some(rest.split('/').next().unwrap_or(rest).to_owned())
        };
        let mut names: Vec<String> = self.0.keys().filter_map(below).collect();
        names.dedup();
        Ok(names)
    }

    fn exists(&self, path: &str) -> bool {
        self.0.keys().any(|key| key.starts_with(path))
    }
}

fn backends() -> Vec<Backend> {
    let backend = |name: &str, arch, versions: &[(&str, &str)]| Backend {
        name: name.parse().expect("a name"),
        chip: name.to_owned(),
        arch,
        glibc: Some("2.28".parse().expect("a version")),
        versions: versions
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect(),
        files: Vec::new(),
        python: None,
        signatures: Vec::new(),
        eulas: Vec::new(),
        host: Vec::new(),
        ports: Vec::new(),
    };
    vec![
        backend(
            "ascend-910b",
            Arch::Aarch64,
            &[("torch_npu", "2.9.0"), ("cann", "8.5.0")],
        ),
        backend(
            "ascend-310p",
            Arch::X86_64,
            &[("torch_npu", "2.9.0"), ("cann", "8.5.0")],
        ),
        backend(
            "hygon-dcu",
            Arch::X86_64,
            &[("dtk", "26.04"), ("driver", "6.3")],
        ),
        backend("cambricon-mlu", Arch::X86_64, &[("torch_mlu", "1.29.2")]),
        backend("nvidia-gpu", Arch::X86_64, &[("driver", "525")]),
        backend("cpu", Arch::Aarch64, &[]),
    ]
}

/// Writes a recorded folder as the text of [`Told`].
fn collect(folder: &Path, below: &str, text: &mut String) {
    let mut entries: Vec<_> = std::fs::read_dir(folder)
        .expect("a recorded machine can be listed")
        .map(|entry| entry.expect("a recorded machine can be listed").path())
        .collect();
    entries.sort();
    for entry in entries {
        let name = entry
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let path = format!("{below}/{name}");
        if entry.is_dir() {
            collect(&entry, &path, text);
        } else {
            let content = std::fs::read(&entry).unwrap_or_default();
            text.push_str("\n#");
            text.push_str(&path);
            text.push('\n');
            text.push_str(&String::from_utf8_lossy(&content));
        }
    }
}
