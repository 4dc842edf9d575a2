//! Drivers and toolkits of other vendors than the one that has the most: each as its vendor's data says.

use std::fs;
use std::path::Path;
use std::process::Command;

use bundle_format::fake::{Fake, placed_file};
use e2e::{Played, RUNTIME, Said, Site, backend, host_item};

/// An installer that notes its words and leaves `leaves` (a path and its text) for the next start.
fn installer_that_leaves(kind: &str, leaves: &[(&str, &str)]) -> Vec<u8> {
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

/// A bundle with one backend for `chip` that brings these installers: kind, version, file name, bytes.
fn bundle(chip: &str, versions: &[(&str, &str)], host: &[(&str, &str, &str, &[u8])]) -> Site {
    let mut fake = Fake::with_dataset("demo", 1, &[("data.json", b"[]\n".to_vec())]);
    let mut made = backend("chip", chip, "x86_64".parse().unwrap());
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
    Site::of(fake)
}

fn install(site: &Site, played: &Played, more: &[&str]) -> Said {
    let mut words = site.words_to_install("1");
    let machine = played.folder().display().to_string();
    words.extend(["--machine".to_owned(), machine]);
    words.extend(more.iter().map(|word| (*word).to_owned()));
    site.installer(&words)
}

fn preflight(site: &Site, played: &Played, more: &[&str]) -> Said {
    let bundle = site.bundle("1").display().to_string();
    let (machine, trust) = (played.folder().display().to_string(), site.fingerprint());
    let words = [
        "preflight",
        &bundle,
        "--machine",
        &machine,
        "--trust-root",
        &trust,
    ];
    site.installer(&[&words, more].concat())
}

/// `Name-VERSION.tar.gz` as a vendor packs it: a folder with the version in it.
fn archive(folder: &Path) -> Vec<u8> {
    let inside = folder.join("pack/dtk-26.04/.info");
    fs::create_dir_all(&inside).unwrap();
    fs::write(inside.join("version"), "26.04\n").unwrap();
    let packed = Command::new("tar")
        .args(["-czf", "dtk.tar.gz", "-C", "pack", "dtk-26.04"])
        .current_dir(folder)
        .status();
    assert!(packed.unwrap().success());
    fs::read(folder.join("dtk.tar.gz")).unwrap()
}

#[test]
fn hygon_builds_its_driver_and_unpacks_its_toolkit_where_its_manual_says() {
    let scratch = tempfile::tempdir().unwrap();
    let played = Played::recorded("kylin-hygon-k100-ai", &scratch.path().join("machine"));
    let nodes = played.forget("dev.txt");
    let tool = played.forget("cmd/hy-smi.txt");
    let _ = played.forget("sys/module/hycu");
    let _ = played.forget("opt/dtk");
    played.write("dev.txt", "null\n");
    let driver = installer_that_leaves(
        "driver",
        &[
            ("sys/module/hycu/version", "6.3.31-V1.5.0a\n"),
            ("dev.txt", &nodes),
            ("cmd/hy-smi.txt", &tool),
        ],
    );
    let toolkit = archive(scratch.path());
    let site = bundle(
        "hygon-dcu",
        &[("dtk", "26.04"), ("driver", "6.3")],
        &[
            (
                "toolkit",
                "26.04",
                "DTK-26.04-Kylin-x86_64.tar.gz",
                &toolkit,
            ),
            (
                "driver",
                "6.3.31-V1.5.0a",
                "rock-6.3.31-V1.5.0a.run",
                &driver,
            ),
        ],
    );
    // The kernel is the system's own, and yet the headers are needed: this driver brings no module.
    let both = ["--with-driver", "--with-toolkit"];
    let said = preflight(&site, &played, &both).ended_with(3);
    for code in ["host.kernel-headers-missing", "host.programs-missing"] {
        assert!(said.data.contains(code), "{code}: {said:?}");
    }
    assert!(said.data.contains("cmake automake rpm"), "{said:?}");
    let headers = format!("/lib/modules/{}/build", played.kernel());
    let programs =
        ["gcc", "make", "cmake", "automake", "rpm"].map(|name| format!("/usr/bin/{name}"));
    let mut there: Vec<&str> = programs.iter().map(String::as_str).collect();
    there.push(&headers);
    played.has(&there);
    let _ = preflight(&site, &played, &both).ended_with(0);
    // Programs of the system, of which `/opt` is the machine's.
    played.program(
        "tar",
        "/usr/bin/tar \"$1\" \"$2\" \"$3\" \"$FERRY_MACHINE$4\" \"$5\"",
    );
    played.program(
        "ln",
        "/usr/bin/ln \"$1\" \"$(basename \"$2\")\" \"$FERRY_MACHINE$3\"",
    );
    fs::create_dir_all(played.folder().join("opt")).unwrap();

    let more = [&both[..], &["--dry-run"]].concat();
    let said = install(&site, &played, &more).ended_with(0);
    assert!(
        said.data.contains("&& ln -sfn /opt/dtk-26.04 /opt/dtk"),
        "{said:?}"
    );
    let _ = install(&site, &played, &both).ended_with(6);
    assert_eq!(played.ran(), ["driver "]);
    // Before the start the running module says nothing of it, and nothing goes on.
    let _ = install(&site, &played, &both).ended_with(6);
    assert_eq!(played.ran().len(), 1);
    played.start("second");
    let _ = site
        .installer(&["install", "--resume", "--yes"])
        .ended_with(0);
    let ran = played.ran();
    assert_eq!(ran.len(), 3, "{ran:?}");
    assert!(
        ran[1].starts_with("tar -xzf /") && ran[1].ends_with("-C /opt --no-same-owner"),
        "{ran:?}"
    );
    assert_eq!(ran[2], "ln -sfn /opt/dtk-26.04 /opt/dtk");
    assert_eq!(site.current().as_deref(), Some("1"));
    let _ = install(&site, &played, &both).ended_with(0);
    assert_eq!(played.ran().len(), 3, "all is there");

    // What stays on the machine is named with the vendor's own way, and nothing of it is run.
    played.has(&["/usr/bin/rpm"]);
    let machine = played.folder().display().to_string();
    let said = site
        .installer(&["uninstall", "--yes", "--machine", &machine])
        .ended_with(0);
    assert!(said.data.contains("rpm -e rock"), "{said:?}");
    assert!(
        said.data.contains("toolkit 26.04: no source was found"),
        "{said:?}"
    );
    assert_eq!(played.ran().len(), 3);
}

#[test]
fn a_command_that_follows_counts_like_the_first() {
    let scratch = tempfile::tempdir().unwrap();
    let played = Played::recorded("kylin-hygon-k100-ai", &scratch.path().join("machine"));
    let _ = played.forget("opt/dtk");
    played.program("tar", "");
    played.program("ln", "echo no such folder; exit 1");
    let toolkit = archive(scratch.path());
    let name = "DTK-26.04-Kylin-x86_64.tar.gz";
    let host: [(&str, &str, &str, &[u8]); 1] = [("toolkit", "26.04", name, &toolkit)];
    let site = bundle("hygon-dcu", &[("dtk", "26.04")], &host);
    let said = install(&site, &played, &["--with-toolkit"]).ended_with(1);
    assert!(said.words.contains("install.host-failed]"), "{said:?}");
    assert!(
        said.words.contains("ln -sfn") && said.words.contains("no such folder"),
        "{said:?}"
    );
    // It ends well and the version file is not there: then it did not end well.
    played.program("ln", "");
    let said = install(&site, &played, &["--with-toolkit"]).ended_with(1);
    assert!(said.words.contains("install.host-not-there"), "{said:?}");
    assert_eq!(site.current(), None);
}

#[test]
fn cambricon_has_its_driver_from_the_systems_own_package_manager() {
    let scratch = tempfile::tempdir().unwrap();
    let played = Played::recorded("kylin-mlu370", &scratch.path().join("machine"));
    let nodes = played.forget("dev.txt");
    let tool = played.forget("cmd/cnmon.txt");
    played.write("dev.txt", "null\n");
    played.write("keep/dev.txt", &nodes);
    played.write("keep/cmd/cnmon.txt", &tool);
    let name = "cambricon-mlu-driver-kylinV10-5.10.22-1.ky10.x86_64.rpm";
    let host: [(&str, &str, &str, &[u8]); 1] =
        [("driver", "5.10.22", name, b"\xed\xab\xee\xdb rpm")];
    let site = bundle("cambricon-mlu", &[("neuware", "3.7")], &host);
    let said = preflight(&site, &played, &[]).ended_with(3);
    assert!(
        said.data.contains("host.driver-missing-brought"),
        "{said:?}"
    );
    assert!(said.data.contains("--with-driver"), "{said:?}");
    let headers = format!("/lib/modules/{}/build", played.kernel());
    played.has(&[
        "/usr/bin/gcc",
        "/usr/bin/make",
        "/usr/bin/dkms",
        "/usr/bin/rpm",
        &headers,
    ]);
    played.program(
        "rpm",
        "cp -r \"$FERRY_MACHINE/keep\" \"$FERRY_MACHINE/after-start\"",
    );
    let _ = install(&site, &played, &["--with-driver"]).ended_with(6);
    let ran = played.ran();
    assert!(
        ran.len() == 1 && ran[0].starts_with("rpm -ivh /") && ran[0].ends_with(name),
        "{ran:?}"
    );
    played.start("second");
    let _ = site
        .installer(&["install", "--resume", "--yes"])
        .ended_with(0);
    assert_eq!(played.ran().len(), 1);
    assert_eq!(site.current().as_deref(), Some("1"));
    let machine = played.folder().display().to_string();
    let said = site
        .installer(&["uninstall", "--dry-run", "--machine", &machine])
        .ended_with(0);
    assert!(
        said.data.contains("driver 5.10.22: no source was found"),
        "{said:?}"
    );
}

#[test]
fn what_nobody_knows_how_to_run_is_refused_with_the_reason() {
    let scratch = tempfile::tempdir().unwrap();
    let driver = b"#!/bin/sh\n".as_slice();
    for (number, (chip, kind, name, reason)) in [
        (
            "cambricon-mlu",
            "driver",
            "driver.run",
            "ends with one of .rpm, .deb",
        ),
        (
            "cambricon-mlu",
            "toolkit",
            "cntoolkit.rpm",
            "one of driver, whose installers are known",
        ),
        ("kunlunxin-xpu", "driver", "xre.run", "no source was found"),
        (
            "enflame-gcu",
            "driver",
            "topsrider.run",
            "no source was found",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let played = Played::recorded("kylin-mlu370", &scratch.path().join(number.to_string()));
        let site = bundle(chip, &[], &[(kind, "1.0", name, driver)]);
        let said = install(&site, &played, &["--with-driver", "--backend", "chip"]).ended_with(4);
        assert!(said.words.contains("install.host-item"), "{chip}: {said:?}");
        assert!(said.words.contains(reason), "{chip}: {said:?}");
        assert_eq!(played.ran(), [""; 0]);
    }
}
