//! Packages of operating systems: from a repository on a server to one that apt and dnf read in a folder.

#![allow(clippy::print_stderr, reason = "a test says when it is skipped")]

use std::fs;
use std::path::Path;
use std::process::Command;

use manifest_schema::Digest;
use serde_json::{Value, json};

use crate::distributions::{apt_files, apt_plan, rpm, serve, world, yum_files, yum_plan};
use crate::openpgp::gpgv_is_here;
use crate::world::{World, gzip};

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
    let world = crate::distributions::world(files);
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
fn packages_of_a_module_are_taken_from_a_stream_that_is_on() {
    let modules = "---\ndocument: modulemd\nversion: 2\ndata:\n  name: toolset\n  stream: \"12\"\n  artifacts:\n    rpms:\n    \
        - gcc-0:12-1.noarch\n    - cpp-0:12-1.noarch\n...\n";
    let mut files = yum_files();
    let repomd = String::from_utf8(files["/os/repodata/repomd.xml"].clone()).unwrap();
    let data = format!(
        "<data type='modules'><checksum type='sha256'>{}</checksum><location href='repodata/m.yaml.gz'/></data></repomd>",
        Digest::of(&gzip(modules.as_bytes())).hex()
    );
    let repomd = repomd.replace("</repomd>", &data);
    files.insert("/os/repodata/repomd.xml".into(), repomd.into_bytes());
    files.insert("/os/repodata/m.yaml.gz".into(), gzip(modules.as_bytes()));
    let world = world(files);
    let lock = |modules: Value| {
        let mut plan = yum_plan(&world);
        plan["os_packages"][0]["modules"] = modules;
        world.write_plan(&plan);
        world.lock()
    };
    for (modules, words) in [
        (json!([]), ["packages.module-off", "`gcc`", "toolset:12"]),
        (
            json!(["toolset:13"]),
            [
                "packages.no-such-module",
                "toolset:13",
                "there is toolset:12",
            ],
        ),
        (
            json!(["toolset"]),
            ["modules", "`toolset`", "`name:stream`"],
        ),
    ] {
        let said = lock(modules).ended_with(2);
        for word in words {
            assert!(said.words.contains(word), "{word}: {said:?}");
        }
    }
    lock(json!(["toolset:12"])).ended_with(0);
    world.build(&[]).ended_with(0);
    let set = set_of(&world);
    assert!(names(&set).starts_with(&["binutils", "cpp", "gcc"]));
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
