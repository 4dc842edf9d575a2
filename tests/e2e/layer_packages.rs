//! Packages of the system and a driver in one run: the packages come first, since the driver is built with them.

#![allow(clippy::print_stderr, reason = "a test says when it is skipped")]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use bundle_format::fake::placed_file;
use e2e::{ASCEND_FLAGS, Played, Rig};
use manifest_schema::{OsPackage, OsPackages, PackageFormat, PlacedFile};

const PACKAGE: &[u8] = b"an rpm of gcc";
const HEADERS: &[u8] = b"an rpm of headers";
const LIST: &[u8] = b"<repomd/>\n";

fn flags() -> Vec<&'static str> {
    [&ASCEND_FLAGS[..], &["--with-os-packages"]].concat()
}

/// A machine without a compiler, and a bundle that brings driver, toolkit and what the driver is built with. `None`
/// where nobody may install packages.
fn world(manager: &str) -> Option<Rig> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root may install packages");
        return None;
    }
    let mut rig = Rig::ascend();
    rig.played
        .write("there.txt", "/usr/bin/bash\n/usr/bin/gzip\n/usr/bin/tar\n");
    let kernel = rig.played.kernel();
    let (version, arch) = kernel.rsplit_once('.').unwrap();
    let package = |name: &str, version: &str, arch: &str, file: PlacedFile| OsPackage {
        name: name.parse().unwrap(),
        version: version.parse().unwrap(),
        arch: arch.to_owned(),
        license: None,
        file,
    };
    let set = OsPackages {
        name: "openeuler".parse().unwrap(),
        os: "openeuler".to_owned(),
        edition: None,
        arch: "aarch64".parse().unwrap(),
        format: PackageFormat::Rpm,
        kernel: Some(kernel.clone()),
        wanted: vec!["gcc".parse().unwrap(), "kernel-devel".parse().unwrap()],
        packages: vec![
            package(
                "gcc",
                "10.3.1-1",
                arch,
                placed_file("Packages/gcc.rpm", PACKAGE),
            ),
            package(
                "make",
                "4.3-1",
                arch,
                placed_file("Packages/make.rpm", PACKAGE),
            ),
            package(
                "kernel-devel",
                version,
                arch,
                placed_file("Packages/headers.rpm", HEADERS),
            ),
        ],
        metadata: vec![placed_file("repodata/repomd.xml", LIST)],
    };
    rig.site.fake().profiles.os_packages.push(set);
    let blobs = [PACKAGE, HEADERS, LIST].map(<[u8]>::to_vec);
    rig.site.fake().blobs.extend(blobs);
    rig.site.carry("both");
    let folder = rig.played.folder().display();
    // It reads its repository as the real one does, and says no when it is told to.
    let script = format!(
        "#!/bin/sh\nset -eu\nmachine='{folder}'\necho \"dnf $*\" >> \"$machine/ran.txt\"\n\
        for word in \"$@\"; do case \"$word\" in --setopt=reposdir=*)\n\
            grep -q \"baseurl=file://${{word##*=}}\" \"${{word##*=}}/ferry.repo\"\n\
            test -f \"${{word##*=}}/Packages/headers.rpm\" ;; esac; done\n\
        case \"$*\" in *assumeno*) echo 'Installing: gcc make kernel-devel'; exit 1;; esac\n{manager}\n"
    );
    rig.played.write("bin/dnf", &script);
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(rig.played.folder().join("bin/dnf"), mode).unwrap();
    Some(rig)
}

/// What a package manager leaves that did its work.
fn installs(played_kernel: &str) -> String {
    format!(
        "printf '/usr/bin/gcc\\n/usr/bin/make\\n/lib/modules/{played_kernel}/build\\n' >> \"$machine/there.txt\""
    )
}

const KERNEL: &str = "5.10.0-182.0.0.95.oe2203sp3.aarch64";

/// The programs that ran, without their words.
fn programs(played: &Played) -> Vec<String> {
    let first = |line: &String| line.split(' ').next().unwrap().to_owned();
    played.ran().iter().map(first).collect()
}

#[test]
fn packages_come_before_the_driver_in_one_run_and_once() {
    let Some(rig) = world(&installs(KERNEL)) else {
        return;
    };
    assert_eq!(rig.played.kernel(), KERNEL);
    // Without them the driver could not be built.
    let without: Vec<&str> = flags()
        .into_iter()
        .filter(|flag| *flag != "--with-os-packages")
        .collect();
    let said = rig.install_of("both", &without).ended_with(3);
    assert!(
        said.words.contains("host.kernel-headers-missing"),
        "{said:?}"
    );
    let said = rig.install_of("both", &flags()).ended_with(6);
    assert!(
        said.words.contains("Installing: gcc make kernel-devel"),
        "{said:?}"
    );
    let ran = programs(&rig.played);
    assert_eq!(
        ran,
        ["dnf", "dnf", "groupadd", "useradd", "driver", "firmware"]
    );
    assert!(
        rig.played.ran()[1].contains("--assumeyes install gcc kernel-devel"),
        "{:?}",
        rig.played.ran()
    );
    assert_eq!(rig.site.current(), None, "the release waits for the start");
    let staged = || {
        let entries = fs::read_dir(rig.site.prefix().join("releases"))
            .into_iter()
            .flatten();
        entries
            .map(|entry| entry.unwrap().file_name())
            .collect::<Vec<_>>()
    };
    assert!(staged().is_empty(), "{:?}", staged());
    rig.played.start("second");
    let _ = rig.resume().ended_with(0);
    assert_eq!(
        programs(&rig.played)[6..],
        ["toolkit"],
        "packages are not installed twice"
    );
    assert_eq!(rig.site.current().as_deref(), Some("1"));
    // The release has the repository too.
    let source = rig.site.prefix().join("current/os/openeuler/ferry.repo");
    assert!(
        fs::read_to_string(source)
            .unwrap()
            .contains("current/os/openeuler")
    );
    let _ = rig.site.installer(&["audit"]).ended_with(0);
    let log = rig.site.installer(&["log", "--json"]).ended_with(0).json();
    let actions: Vec<String> = log["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["action"].as_str().unwrap().to_owned())
        .collect();
    let of = |name: &str| actions.iter().position(|action| action == name).unwrap();
    assert!(of("os-packages") < of("host-run"), "{actions:?}");
}

#[test]
fn packages_that_bring_less_than_they_promise_stop_before_the_driver() {
    let Some(rig) = world("true") else {
        return;
    };
    let said = rig.install_of("both", &flags()).ended_with(3);
    assert!(said.words.contains("error[installer.unfit]"), "{said:?}");
    assert!(
        said.words.contains("missing programs: gcc make"),
        "{said:?}"
    );
    assert_eq!(programs(&rig.played), ["dnf", "dnf"]);
    let Some(rig) = world("echo disk full >&2; exit 100") else {
        return;
    };
    let said = rig.install_of("both", &flags()).ended_with(1);
    assert!(said.words.contains("disk full"), "{said:?}");
    assert_eq!(programs(&rig.played), ["dnf", "dnf"]);
    // Nothing of it is left in the way.
    let entries = fs::read_dir(rig.site.prefix().join("releases"))
        .into_iter()
        .flatten();
    assert_eq!(entries.count(), 0);
}

#[test]
fn a_dry_run_and_a_preflight_show_what_would_be_installed() {
    let Some(rig) = world("exit 9") else {
        return;
    };
    let before = rig.site.listing();
    let said = rig
        .install_of("both", &[&flags()[..], &["--dry-run"]].concat())
        .ended_with(0);
    let at = |text: &str| {
        said.data
            .find(text)
            .unwrap_or_else(|| panic!("{text}: {said:?}"))
    };
    assert!(at("gcc 10.3.1-1 aarch64") < at("groupadd"), "{said:?}");
    assert!(said.data.contains("3 files"), "{said:?}");
    let words = ["--with-driver", "--override", "host.toolkit-missing"];
    let said = rig.preflight("both", &words).ended_with(3);
    assert!(said.data.contains("[host.programs-missing]"), "{said:?}");
    assert!(said.data.contains("`--with-os-packages`"), "{said:?}");
    let said = rig
        .preflight("both", &[&words[..], &["--with-os-packages"]].concat())
        .ended_with(0);
    assert!(!said.data.contains("[host.programs-missing]"), "{said:?}");
    assert_eq!(
        rig.site.listing(),
        before,
        "nothing was run and nothing written"
    );
}
