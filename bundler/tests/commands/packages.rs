//! Packages of operating systems: from a repository on a server to one that apt and dnf read in a folder.

#![allow(clippy::print_stderr, reason = "a test says when it is skipped")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use manifest_schema::Digest;
use serde_json::{Value, json};

use crate::openpgp::{Key, gpgv_is_here};
use crate::server::{Answer, Server, honest};
use crate::world::World;

type Files = BTreeMap<String, Vec<u8>>;
/// A tag of an rpm header: its number, then kind, count and bytes.
type Tag = (u32, (u32, u32, Vec<u8>));

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

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
fn rpm(name: &str, version: &str, requires: &[(&str, &str)], files: &[&str]) -> Vec<u8> {
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
fn apt_files(version: &str) -> Files {
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
fn yum_files() -> Files {
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

fn serve(files: Files) -> Server {
    Server::new(move |_, asked| match files.get(&asked.path) {
        Some(body) => honest(asked, body),
        None => Answer::new(404, b"none"),
    })
}

fn world(files: Files) -> World {
    let world = World::with_web(serve(files));
    world.write("key.asc", &Key::new(7).public());
    world.keygen();
    world
}

fn plan(set: Value) -> Value {
    json!({ "format": 1, "name": "demo", "release": 1, "os_packages": [set] })
}

fn apt_plan(world: &World) -> Value {
    plan(json!({
        "name": "stable", "os": "debian", "edition": "12", "arch": "x86_64",
        "repositories": [{ "deb": { "uri": format!("{}/debian", world.web.url), "suite": "stable",
            "components": ["main"] } }],
        "keys": [{ "file": { "path": "key.asc" } }], "wanted": ["gcc"],
        "installed": { "list": "installed.txt" },
    }))
}

fn yum_plan(world: &World) -> Value {
    plan(json!({
        "name": "kylin", "os": "kylin-v10", "arch": "aarch64",
        "repositories": [{ "rpm": { "base_url": format!("{}/os", world.web.url),
            "unsafe_accept_unsigned_metadata": true } }],
        "wanted": ["gcc"], "wanted_for_kernel": ["kernel-devel"], "kernel": "5.10-1.aarch64",
    }))
}

fn set_of(world: &World) -> Value {
    let shown = world
        .run(&["inspect", "demo-1.ferry", "--json"])
        .ended_with(0)
        .json();
    shown["profiles"]["os_packages"][0].clone()
}

/// Puts a set's files where the installer puts them.
fn placed(world: &World, set: &Value) -> std::path::PathBuf {
    let folder = world.path("os");
    let packages = set["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| &package["file"]);
    for file in packages.chain(set["metadata"].as_array().unwrap()) {
        let target = folder.join(file["path"].as_str().unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        let hex = file["digest"]
            .as_str()
            .unwrap()
            .strip_prefix("sha256:")
            .unwrap()
            .to_owned();
        fs::copy(world.path("cache/sha256").join(hex), target).unwrap();
    }
    folder
}

fn names(set: &Value) -> Vec<&str> {
    let packages = set["packages"].as_array().unwrap().iter();
    packages
        .map(|package| package["name"].as_str().unwrap())
        .collect()
}

fn is_here(program: &str) -> bool {
    let here = Command::new(program).arg("--version").output().is_ok();
    if !here {
        eprintln!("skipped: {program} is not on this machine");
    }
    here
}

#[test]
fn a_signed_debian_repository_becomes_one_that_apt_installs_from() {
    if !gpgv_is_here() {
        return;
    }
    let world = world(apt_files("12"));
    world.write("installed.txt", b"libc6:amd64\t2.36\n");
    world.write_plan(&apt_plan(&world));
    let planned = world.run(&["plan", "plan.json"]).ended_with(0);
    assert!(
        planned
            .data
            .contains("os-packages stable  debian x86_64  2 packages for gcc"),
        "{planned:?}"
    );
    world.lock().ended_with(0);
    let lock: Value = serde_json::from_slice(&fs::read(world.path("ferry.lock")).unwrap()).unwrap();
    let locked = &lock["os_packages"][0];
    assert_eq!(
        locked["repositories"][0]["signed_by"]
            .as_str()
            .unwrap()
            .len(),
        40
    );
    assert_eq!(
        locked["installed"],
        Digest::of(b"libc6:amd64\t2.36\n").to_string()
    );
    world.build(&[]).ended_with(0);
    let set = set_of(&world);
    assert_eq!(names(&set), ["cpp", "gcc"]);
    let shown = world.run(&["inspect", "demo-1.ferry"]).ended_with(0);
    assert!(shown.data.contains("gcc 12 all"), "{shown:?}");
    let folder = placed(&world, &set);
    let index = fs::read_to_string(folder.join("Packages")).unwrap();
    assert!(
        index.contains("Description: gcc\n more of it\nFilename: ./pool/gcc_12_all.deb\n"),
        "{index}"
    );
    if is_here("apt-get") {
        let said = apt(&world, &folder, &["install", "--simulate", "gcc"]);
        assert!(
            said.contains("Inst cpp (12") && said.contains("Inst gcc (12"),
            "{said}"
        );
        apt(
            &world,
            &folder,
            &["install", "--download-only", "--assume-yes", "gcc"],
        );
        let fetched = world.path("apt/cache/archives");
        assert!(
            !fetched.join("gcc_12_all.deb").exists(),
            "what is in a folder is not copied"
        );
    }
}

/// apt with nothing but the repository and a machine that has libc6.
fn apt(world: &World, folder: &Path, words: &[&str]) -> String {
    let root = world.path("apt");
    for name in ["lists/partial", "cache/archives/partial", "etc"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    fs::write(
        root.join("status"),
        "Package: libc6\nStatus: install ok installed\nVersion: 2.36\nArchitecture: amd64\nMaintainer: T <t@example.org>\nDescription: c\n\n",
    )
    .unwrap();
    fs::write(
        root.join("ferry.list"),
        format!("deb [trusted=yes] file:{} ./\n", folder.display()),
    )
    .unwrap();
    let run = |words: &[&str]| {
        let mut command = Command::new("apt-get");
        for option in [
            format!("Dir::Etc::sourcelist={}", root.join("ferry.list").display()),
            "Dir::Etc::sourceparts=-".to_owned(),
            format!("Dir::Etc={}", root.join("etc").display()),
            format!("Dir::State={}", root.display()),
            format!("Dir::State::status={}", root.join("status").display()),
            format!("Dir::Cache={}", root.join("cache").display()),
            "APT::Architecture=amd64".to_owned(),
            "APT::Sandbox::User=".to_owned(),
            "Debug::NoLocking=1".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        let output = command.args(words).env("LC_ALL", "C").output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{words:?}: {said}");
        said
    };
    run(&["update"]);
    run(words)
}

#[test]
fn an_rpm_repository_becomes_one_that_dnf_installs_from() {
    let world = world(yum_files());
    world.write_plan(&yum_plan(&world));
    world.lock().ended_with(0);
    world.build(&[]).ended_with(0);
    let set = set_of(&world);
    assert_eq!(
        names(&set),
        ["binutils", "cpp", "gcc", "glibc", "kernel-devel"]
    );
    assert_eq!(set["wanted"], json!(["gcc", "kernel-devel=5.10-1"]));
    assert_eq!(set["kernel"], "5.10-1.aarch64");
    assert_eq!(set["packages"][2]["license"], "MIT");
    let folder = placed(&world, &set);
    if is_here("dnf") {
        let root = world.path("root");
        let output = Command::new("dnf")
            .arg(format!("--installroot={}", root.display()))
            .arg(format!(
                "--setopt=cachedir={}",
                world.path("dnf-cache").display()
            ))
            .arg(format!("--repofrompath=ferry,file://{}", folder.display()))
            .args([
                "--disablerepo=*",
                "--enablerepo=ferry",
                "--releasever=10",
                "--forcearch=aarch64",
            ])
            .args([
                "--setopt=ferry.gpgcheck=0",
                "--assumeno",
                "install",
                "gcc",
                "kernel-devel-5.10-1",
            ])
            .env("LC_ALL", "C")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        for name in ["binutils", "cpp", "gcc", "glibc", "kernel-devel"] {
            assert!(said.contains(&format!(" {name} ")), "{name}: {said}");
        }
        assert!(said.contains("Install  5 Packages"), "{said}");
    }
}

#[test]
fn the_same_lock_gives_the_same_bytes_and_another_package_another_difference() {
    let world = world(yum_files());
    world.write_plan(&yum_plan(&world));
    world.lock().ended_with(0);
    world.build(&["--threads", "1"]).ended_with(0);
    let first = fs::read(world.path("demo-1.ferry")).unwrap();
    fs::remove_dir_all(world.path("cache")).unwrap();
    world
        .build(&["--threads", "2", "-o", "again.ferry"])
        .ended_with(0);
    assert!(fs::read(world.path("again.ferry")).unwrap() == first);
    fs::rename(world.path("ferry.lock"), world.path("old.lock")).unwrap();
    let mut other = yum_plan(&world);
    other["os_packages"][0]["kernel"] = "5.11-1.aarch64".into();
    world.write_plan(&other);
    world.lock().ended_with(0);
    let changed = world
        .run(&["diff", "old.lock", "ferry.lock"])
        .ended_with(0)
        .data;
    for line in [
        "~ os-packages kylin",
        "kernel: 5.10-1.aarch64 → 5.11-1.aarch64",
        "package kernel-devel: 5.10-1 → 5.11-1",
    ] {
        assert!(changed.contains(line), "{line}: {changed}");
    }
}

#[test]
fn what_changed_between_lock_and_build_or_is_not_what_the_list_said_is_refused() {
    // Another file under the old name.
    let world = world(yum_files());
    world.write_plan(&yum_plan(&world));
    world.lock().ended_with(0);
    let lock = fs::read_to_string(world.path("ferry.lock")).unwrap();
    let mut files = yum_files();
    let size = files["/os/Packages/gcc-12-1.noarch.rpm"].len();
    files.insert("/os/Packages/gcc-12-1.noarch.rpm".into(), vec![7; size]);
    let renewed = serve(files);
    world.write(
        "ferry.lock",
        lock.replace(&world.web.url, &renewed.url).as_bytes(),
    );
    let said = world.build(&[]).ended_with(5);
    assert!(said.words.contains("gcc-12-1.noarch.rpm"), "{said:?}");
    // A list that lies about a package.
    let mut files = yum_files();
    let liar = rpm("gcc", "11", &[], &[]);
    let honest_one = files
        .insert("/os/Packages/gcc-12-1.noarch.rpm".into(), liar.clone())
        .unwrap();
    let swap = |text: &str| {
        text.replace(&Digest::of(&honest_one).hex(), &Digest::of(&liar).hex())
            .replace(
                &format!("size package='{}'", honest_one.len()),
                &format!("size package='{}'", liar.len()),
            )
    };
    let mut primary = String::new();
    std::io::Read::read_to_string(
        &mut flate2::read::GzDecoder::new(&files["/os/repodata/p.xml.gz"][..]),
        &mut primary,
    )
    .unwrap();
    let old = files["/os/repodata/p.xml.gz"].clone();
    let packed = gzip(swap(&primary).as_bytes());
    let repomd = String::from_utf8(files["/os/repodata/repomd.xml"].clone()).unwrap();
    let repomd = repomd
        .replace(&Digest::of(&old).hex(), &Digest::of(&packed).hex())
        .replace(
            &format!("<size>{}", old.len()),
            &format!("<size>{}", packed.len()),
        );
    files.insert("/os/repodata/repomd.xml".into(), repomd.into_bytes());
    files.insert("/os/repodata/p.xml.gz".into(), packed);
    let world = self::world(files);
    world.write_plan(&yum_plan(&world));
    world.lock().ended_with(0);
    let said = world.build(&[]).ended_with(1);
    assert!(
        said.words.contains("gcc 11-1 noarch") && said.words.contains("gcc 12-1 noarch"),
        "{said:?}"
    );
}

#[test]
fn a_plan_that_cannot_work_says_why_and_what_to_do() {
    let world = world(apt_files("13"));
    world.write("installed.txt", b"libc6:amd64\t2.36\n");
    type Edit = fn(&mut Value);
    let cases: [(Edit, i32, &[&str]); 6] = [
        // gcc needs cpp in version 12, and there is 13.
        (|_| (), 1, &["packages.unsolvable", "gcc", "cpp", "12"]),
        (
            |s| s["wanted"] = json!(["gfortran"]),
            2,
            &["packages.no-such-package", "gfortran"],
        ),
        (
            |s| s["wanted"] = json!(["cpp=12"]),
            2,
            &["packages.no-such-package", "there is 13"],
        ),
        (
            |s| s["wanted_for_kernel"] = json!(["linux-headers"]),
            2,
            &["bundler.no-kernel", "uname -r"],
        ),
        (
            |s| s["installed"] = json!({ "list": "key.asc" }),
            2,
            &["packages.installed-list", "line 1"],
        ),
        (
            |s| s["keys"][0]["file"]["path"] = "installed.txt".into(),
            2,
            &["packages.key", "installed.txt"],
        ),
    ];
    for (edit, status, words) in cases {
        if !gpgv_is_here() {
            return;
        }
        let mut plan = apt_plan(&world);
        edit(&mut plan["os_packages"][0]);
        world.write_plan(&plan);
        let said = world.lock().ended_with(status);
        for word in words {
            assert!(said.words.contains(word), "{word}: {said:?}");
        }
        assert!(!world.path("ferry.lock").exists());
    }
}

#[test]
fn init_asks_an_inventory_which_system_it_is_for() {
    let world = world(yum_files());
    let fact = |value: Value| json!({ "value": value, "source": "" });
    let os = json!({ "id": "kylin", "name": "Kylin", "table": "kylin-v10", "edition": "SP3" });
    let inventory = json!({
        "format": 1, "interpreters": [], "releases": [], "blobs": [],
        "site": { "os": fact(os), "arch": fact("aarch64".into()), "kernel": fact("5.10-1.aarch64".into()),
            "programs": [], "devices": [], "vendors": [] },
        "os_packages": { "format": "rpm", "source": "rpm -qa", "relations": true,
            "packages": [{ "name": "glibc", "version": "2-1", "arch": "noarch" }] },
    });
    world.write("inventory.json", inventory.to_string().as_bytes());
    let url = format!("{}/os", world.web.url);
    let words = [
        "init",
        "--name",
        "demo",
        "--model",
        "org/model",
        "--accept-license",
        "Apache-2.0",
        "--site",
        "inventory.json",
        "--os-repository",
        &url,
    ];
    let said = world.run(&words).ended_with(2);
    assert!(said.words.contains("keys that sign"), "{said:?}");
    world
        .run(&[&words[..], &["--os-key", "key.asc", "--os-package", "gcc"]].concat())
        .ended_with(0);
    let mut plan: Value =
        serde_json::from_slice(&fs::read(world.path("plan.json")).unwrap()).unwrap();
    let set = &mut plan["os_packages"][0];
    assert_eq!(set["name"], "kylin-v10-sp3-aarch64");
    assert_eq!(set["installed"], json!({ "inventory": "inventory.json" }));
    // The repository of this test is not signed.
    set["repositories"][0]["rpm"]["unsafe_accept_unsigned_metadata"] = true.into();
    set["wanted_for_kernel"] = json!(["kernel-devel"]);
    world.write_plan(&plan);
    world.lock().ended_with(0);
    let lock: Value = serde_json::from_slice(&fs::read(world.path("ferry.lock")).unwrap()).unwrap();
    let locked = &lock["os_packages"][0];
    assert_eq!(names(locked), ["binutils", "cpp", "gcc", "kernel-devel"]);
    // The machine's own kernel.
    assert_eq!(locked["kernel"], "5.10-1.aarch64");
    assert_eq!(locked["keys"][0]["path"], "keys/0.asc");
    set_system(&mut plan, "openeuler");
    world.write_plan(&plan);
    let said = world.lock().ended_with(2);
    assert!(
        said.words.contains("bundler.other-system") && said.words.contains("kylin-v10 aarch64"),
        "{said:?}"
    );
}

fn set_system(plan: &mut Value, os: &str) {
    let set = &mut plan["os_packages"][0];
    set["os"] = os.into();
    set.as_object_mut().unwrap().remove("edition");
}
