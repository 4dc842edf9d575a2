//! Packages of the system and a driver in one run: the packages come first, since the driver is built with them.

#![allow(clippy::print_stderr, reason = "a test says when it is skipped")]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use bundle_format::fake::placed_file;
use e2e::{Played, Said, Site, ascend_bundle};
use manifest_schema::{OsPackage, OsPackages, PackageFormat, PlacedFile};

const PACKAGE: &[u8] = b"an rpm of gcc";
const HEADERS: &[u8] = b"an rpm of headers";
const LIST: &[u8] = b"<repomd/>\n";
const FLAGS: [&str; 7] = [
    "--with-driver",
    "--with-toolkit",
    "--with-os-packages",
    "--accept-eula",
    "huawei-driver",
    "--accept-eula",
    "huawei-cann",
];

/// A machine without a compiler, and a bundle that brings driver, toolkit and what the driver is built with. `None`
/// where nobody may install packages.
fn world(manager: &str) -> Option<(Site, Played)> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root may install packages");
        return None;
    }
    let mut site = Site::of(ascend_bundle());
    let played = Played::without_driver(&site.folder().join("machine"));
    played.write("there.txt", "/usr/bin/bash\n/usr/bin/gzip\n/usr/bin/tar\n");
    let kernel = played.kernel();
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
    site.fake().profiles.os_packages.push(set);
    let blobs = [PACKAGE, HEADERS, LIST].map(<[u8]>::to_vec);
    site.fake().blobs.extend(blobs);
    site.carry("both");
    let folder = played.folder().display();
    // It reads its repository as the real one does, and says no when it is told to.
    let script = format!(
        "#!/bin/sh\nset -eu\nmachine='{folder}'\necho \"dnf $*\" >> \"$machine/ran.txt\"\n\
        for word in \"$@\"; do case \"$word\" in --setopt=reposdir=*)\n\
            grep -q \"baseurl=file://${{word##*=}}\" \"${{word##*=}}/ferry.repo\"\n\
            test -f \"${{word##*=}}/Packages/headers.rpm\" ;; esac; done\n\
        case \"$*\" in *assumeno*) echo 'Installing: gcc make kernel-devel'; exit 1;; esac\n{manager}\n"
    );
    played.write("bin/dnf", &script);
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(played.folder().join("bin/dnf"), mode).unwrap();
    Some((site, played))
}

/// What a package manager leaves that did its work.
fn installs(played_kernel: &str) -> String {
    format!(
        "printf '/usr/bin/gcc\\n/usr/bin/make\\n/lib/modules/{played_kernel}/build\\n' >> \"$machine/there.txt\""
    )
}

const KERNEL: &str = "5.10.0-182.0.0.95.oe2203sp3.aarch64";

fn install(site: &Site, played: &Played, more: &[&str]) -> Said {
    let mut words = site.words_to_install("both");
    let machine = played.folder().display().to_string();
    words.extend(["--machine".to_owned(), machine]);
    words.extend(more.iter().map(|word| (*word).to_owned()));
    site.installer(&words)
}

/// The programs that ran, without their words.
fn programs(played: &Played) -> Vec<String> {
    let first = |line: &String| line.split(' ').next().unwrap().to_owned();
    played.ran().iter().map(first).collect()
}

#[test]
fn packages_come_before_the_driver_in_one_run_and_once() {
    let Some((site, played)) = world(&installs(KERNEL)) else {
        return;
    };
    assert_eq!(played.kernel(), KERNEL);
    // Without them the driver could not be built.
    let without: Vec<&str> = FLAGS
        .into_iter()
        .filter(|flag| *flag != "--with-os-packages")
        .collect();
    let said = install(&site, &played, &without).ended_with(3);
    assert!(
        said.words.contains("host.kernel-headers-missing"),
        "{said:?}"
    );
    let said = install(&site, &played, &FLAGS).ended_with(6);
    assert!(
        said.words.contains("Installing: gcc make kernel-devel"),
        "{said:?}"
    );
    let ran = programs(&played);
    assert_eq!(
        ran,
        ["dnf", "dnf", "groupadd", "useradd", "driver", "firmware"]
    );
    assert!(
        played.ran()[1].contains("--assumeyes install gcc kernel-devel"),
        "{:?}",
        played.ran()
    );
    assert_eq!(site.current(), None, "the release waits for the start");
    let staged = || {
        let entries = fs::read_dir(site.prefix().join("releases"))
            .into_iter()
            .flatten();
        entries
            .map(|entry| entry.unwrap().file_name())
            .collect::<Vec<_>>()
    };
    assert!(staged().is_empty(), "{:?}", staged());
    played.start("second");
    let _ = site
        .installer(&["install", "--resume", "--yes"])
        .ended_with(0);
    assert_eq!(
        programs(&played)[6..],
        ["toolkit"],
        "packages are not installed twice"
    );
    assert_eq!(site.current().as_deref(), Some("1"));
    // The release has the repository too.
    let source = site.prefix().join("current/os/openeuler/ferry.repo");
    assert!(
        fs::read_to_string(source)
            .unwrap()
            .contains("current/os/openeuler")
    );
    let _ = site.installer(&["audit"]).ended_with(0);
    let log = site.installer(&["log", "--json"]).ended_with(0).json();
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
    let Some((site, played)) = world("true") else {
        return;
    };
    let said = install(&site, &played, &FLAGS).ended_with(3);
    assert!(said.words.contains("error[installer.unfit]"), "{said:?}");
    assert!(
        said.words.contains("missing programs: gcc make"),
        "{said:?}"
    );
    assert_eq!(programs(&played), ["dnf", "dnf"]);
    let Some((site, played)) = world("echo disk full >&2; exit 100") else {
        return;
    };
    let said = install(&site, &played, &FLAGS).ended_with(1);
    assert!(said.words.contains("disk full"), "{said:?}");
    assert_eq!(programs(&played), ["dnf", "dnf"]);
    // Nothing of it is left in the way.
    let entries = fs::read_dir(site.prefix().join("releases"))
        .into_iter()
        .flatten();
    assert_eq!(entries.count(), 0);
}

#[test]
fn a_dry_run_and_a_preflight_show_what_would_be_installed() {
    let Some((site, played)) = world("exit 9") else {
        return;
    };
    let before = site.listing();
    let said = install(&site, &played, &[&FLAGS[..], &["--dry-run"]].concat()).ended_with(0);
    let at = |text: &str| {
        said.data
            .find(text)
            .unwrap_or_else(|| panic!("{text}: {said:?}"))
    };
    assert!(at("gcc 10.3.1-1 aarch64") < at("groupadd"), "{said:?}");
    assert!(said.data.contains("3 files"), "{said:?}");
    let bundle = site.bundle("both").display().to_string();
    let (machine, trust) = (played.folder().display().to_string(), site.fingerprint());
    let words = [
        "preflight",
        &bundle,
        "--machine",
        &machine,
        "--trust-root",
        &trust,
        "--with-driver",
    ];
    let words = [&words[..], &["--override", "host.toolkit-missing"]].concat();
    let said = site.installer(&words).ended_with(3);
    assert!(said.data.contains("[host.programs-missing]"), "{said:?}");
    assert!(said.data.contains("`--with-os-packages`"), "{said:?}");
    let said = site
        .installer(&[&words[..], &["--with-os-packages"]].concat())
        .ended_with(0);
    assert!(!said.data.contains("[host.programs-missing]"), "{said:?}");
    assert_eq!(
        site.listing(),
        before,
        "nothing was run and nothing written"
    );
}
