//! Repositories of operating systems on a server of the test, and plans that take packages from them.

use std::collections::BTreeMap;

use manifest_schema::Digest;
use serde_json::{Value, json};

use crate::openpgp::Key;
use crate::server::{Answer, Server, honest};
use crate::world::{World, gzip};

pub type Files = BTreeMap<String, Vec<u8>>;
/// A tag of an rpm header: its number, then kind, count and bytes.
type Tag = (u32, (u32, u32, Vec<u8>));

/// A Debian package with nothing in it.
fn deb(control: &str) -> Vec<u8> {
    let tar = |files: &[(&str, &str)]| {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, text) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            archive
                .append_data(&mut header, name, text.as_bytes())
                .unwrap();
        }
        gzip(&archive.into_inner().unwrap())
    };
    let mut all = b"!<arch>\n".to_vec();
    for (name, bytes) in [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar.gz", tar(&[("./control", control)])),
        ("data.tar.gz", tar(&[])),
    ] {
        all.extend(
            format!(
                "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n",
                0,
                0,
                0,
                "100644",
                bytes.len()
            )
            .bytes(),
        );
        all.extend(&bytes);
        all.extend(std::iter::repeat_n(b'\n', bytes.len() % 2));
    }
    all
}

/// An rpm package with nothing in it: `requires` are names, and names with versions.
pub fn rpm(name: &str, version: &str, requires: &[(&str, &str)], files: &[&str]) -> Vec<u8> {
    let text = |text: &str| (6, 1, [text.as_bytes(), b"\0"].concat());
    let list = |texts: &[&str]| {
        let bytes: Vec<u8> = texts
            .iter()
            .flat_map(|one| [one.as_bytes(), b"\0"].concat())
            .collect();
        (8, texts.len() as u32, bytes)
    };
    let numbers = |all: &[u32]| {
        (
            4,
            all.len() as u32,
            all.iter().flat_map(|n| n.to_be_bytes()).collect(),
        )
    };
    let equal = |version: &&str| if version.is_empty() { 0 } else { 8 };
    let evr = format!("{version}-1");
    let (names, versions): (Vec<&str>, Vec<&str>) = requires.iter().copied().unzip();
    let senses: Vec<u32> = versions.iter().map(equal).collect();
    let bases: Vec<&str> = files
        .iter()
        .map(|path| path.rsplit('/').next().unwrap())
        .collect();
    let folders: Vec<&str> = files
        .iter()
        .zip(&bases)
        .map(|(path, base)| path.strip_suffix(base).unwrap())
        .collect();
    let mut tags: Vec<Tag> = vec![
        (1000, text(name)),
        (1001, text(version)),
        (1002, text("1")),
        (1004, (9, 1, b"a <summary> & more\0".to_vec())),
        (1005, (9, 1, b"text\0".to_vec())),
        (1006, numbers(&[1_600_000_000])),
        (1009, numbers(&[0])),
        (1014, text("MIT")),
        (1022, text("noarch")),
        (1044, text("source.src.rpm")),
        (1047, list(&[name])),
        (1048, numbers(&senses)),
        (1049, list(&names)),
        (1050, list(&versions)),
        (1112, numbers(&[8])),
        (1113, list(&[&evr])),
    ];
    if !files.is_empty() {
        tags.push((
            1030,
            (
                3,
                files.len() as u32,
                files
                    .iter()
                    .flat_map(|_| 0o100_755_u16.to_be_bytes())
                    .collect(),
            ),
        ));
        tags.push((1116, numbers(&(0..files.len() as u32).collect::<Vec<_>>())));
        tags.push((1117, list(&bases)));
        tags.push((1118, list(&folders)));
    }
    let header = |tags: &[Tag]| {
        let (mut index, mut store): (Vec<u8>, Vec<u8>) = (vec![], vec![]);
        for (tag, (kind, count, bytes)) in tags {
            while *kind == 4 && store.len() % 4 != 0 || *kind == 3 && store.len() % 2 != 0 {
                store.push(0);
            }
            for word in [*tag, *kind, store.len() as u32, *count] {
                index.extend(word.to_be_bytes());
            }
            store.extend(bytes);
        }
        let mut all = vec![0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0];
        all.extend((tags.len() as u32).to_be_bytes());
        all.extend((store.len() as u32).to_be_bytes());
        [all, index, store].concat()
    };
    let mut lead = vec![0; 96];
    lead[..4].copy_from_slice(&[0xed, 0xab, 0xee, 0xdb]);
    let mut signature = header(&[(1007, numbers(&[0]))]);
    signature.resize(signature.len().next_multiple_of(8), 0);
    [lead, signature, header(&tags), b"payload".to_vec()].concat()
}

/// A signed repository of Debian packages.
pub fn apt_files(version: &str) -> Files {
    let control = |name: &str, rest: &str| {
        format!(
            "Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: T <t@example.org>\n{rest}Description: {name}\n more of it\n"
        )
    };
    let packages = [
        ("gcc", control("gcc", "Depends: cpp (= 12), libc6 (>= 2)\n")),
        ("cpp", control("cpp", "Depends: libc6\n")),
        ("libc6", control("libc6", "")),
        ("unrelated", control("unrelated", "")),
    ];
    let (mut files, mut index) = (Files::new(), String::new());
    for (name, control) in packages {
        let bytes = deb(&control);
        let place = format!("pool/main/{name}_12_all.deb");
        let (size, hex) = (bytes.len(), Digest::of(&bytes).hex());
        index += &format!("{control}Filename: {place}\nSize: {size}\nSHA256: {hex}\n\n");
        files.insert(format!("/debian/{place}"), bytes);
    }
    let packed = gzip(index.as_bytes());
    let mut release = "Origin: Test\nSuite: stable\nSHA256:\n".to_owned();
    for arch in ["amd64", "arm64"] {
        let place = format!("main/binary-{arch}/Packages.gz");
        release += &format!(" {} {} {place}\n", Digest::of(&packed).hex(), packed.len());
        files.insert(format!("/debian/dists/stable/{place}"), packed.clone());
    }
    files.insert(
        "/debian/dists/stable/InRelease".into(),
        Key::new(7).inline(&release),
    );
    files
}

/// A repository of rpm packages, which nobody signed.
pub fn yum_files() -> Files {
    let (mut files, mut primary) = (Files::new(), String::new());
    for (name, version, requires, paths) in [
        (
            "gcc",
            "12",
            &[("cpp", "12-1"), ("/usr/bin/as", ""), ("glibc", "")][..],
            &["/usr/bin/gcc"][..],
        ),
        ("cpp", "12", &[("glibc", "")], &[]),
        ("binutils", "2", &[], &["/usr/bin/as", "/usr/share/doc/as"]),
        ("glibc", "2", &[], &[]),
        ("kernel-devel", "5.10", &[], &[]),
        ("kernel-devel", "5.11", &[], &[]),
    ] {
        let bytes = rpm(name, version, requires, paths);
        let place = format!("Packages/{name}-{version}-1.noarch.rpm");
        let needs = requires.iter().map(|(name, version)| match version.split_once('-') {
            None => format!("<rpm:entry name='{name}'/>"),
            Some((version, release)) => format!("<rpm:entry name='{name}' flags='EQ' epoch='0' ver='{version}' rel='{release}'/>"),
        });
        let needs: String = needs.collect();
        let paths: String = paths
            .iter()
            .map(|path| format!("<file>{path}</file>"))
            .collect();
        primary += &format!(
            "<package type='rpm'><name>{name}</name><arch>noarch</arch><version epoch='0' ver='{version}' rel='1'/>\
             <checksum type='sha256' pkgid='YES'>{}</checksum><size package='{}' installed='0' archive='0'/>\
             <location href='{place}'/><format><rpm:license>MIT</rpm:license><rpm:requires>{needs}</rpm:requires>\
             {paths}</format></package>",
            Digest::of(&bytes).hex(),
            bytes.len()
        );
        files.insert(format!("/os/{place}"), bytes);
    }
    let primary = format!("<metadata xmlns:rpm='r'>{primary}</metadata>");
    let packed = gzip(primary.as_bytes());
    let repomd = format!(
        "<repomd><data type='primary'><checksum type='sha256'>{}</checksum><location href='repodata/p.xml.gz'/>\
         <size>{}</size></data></repomd>",
        Digest::of(&packed).hex(),
        packed.len()
    );
    files.insert("/os/repodata/repomd.xml".into(), repomd.into_bytes());
    files.insert("/os/repodata/p.xml.gz".into(), packed);
    files
}

pub fn serve(files: Files) -> Server {
    Server::new(move |_, asked| match files.get(&asked.path) {
        Some(body) => honest(asked, body),
        None => Answer::new(404, b"none"),
    })
}

pub fn world(files: Files) -> World {
    let world = World::with_web(serve(files));
    world.write("key.asc", &Key::new(7).public());
    world.keygen();
    world
}

fn plan(set: Value) -> Value {
    json!({ "format": 1, "name": "demo", "release": 1, "os_packages": [set] })
}

pub fn apt_plan(world: &World) -> Value {
    plan(json!({
        "name": "stable", "os": "debian", "edition": "12", "arch": "x86_64",
        "repositories": [{ "deb": { "uri": format!("{}/debian", world.web.url), "suite": "stable",
            "components": ["main"] } }],
        "keys": [{ "file": { "path": "key.asc" } }], "wanted": ["gcc"],
        "installed": { "list": "installed.txt" },
    }))
}

pub fn yum_plan(world: &World) -> Value {
    plan(json!({
        "name": "kylin", "os": "kylin-v10", "arch": "aarch64",
        "repositories": [{ "rpm": { "base_url": format!("{}/os", world.web.url),
            "unsafe_accept_unsigned_metadata": true } }],
        "wanted": ["gcc"], "wanted_for_kernel": ["kernel-devel"], "kernel": "5.10-1.aarch64",
    }))
}
