//! Drivers and toolkits of other vendors than the one that has the most: each as its vendor's data says.

use std::fs;
use std::path::Path;
use std::process::Command;

use e2e::{Played, Rig, bundle_for, installer_that_leaves};

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
    // What the driver brings is that of the machine that was recorded.
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
    let fake = bundle_for(
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
    let rig = Rig::with(played, fake);
    // The kernel is the system's own, and yet the headers are needed: this driver brings no module.
    let both = ["--with-driver", "--with-toolkit"];
    let said = rig.preflight("1", &both).ended_with(3);
    for code in ["host.kernel-headers-missing", "host.programs-missing"] {
        assert!(said.data.contains(code), "{code}: {said:?}");
    }
    assert!(said.data.contains("cmake automake rpm"), "{said:?}");
    let headers = format!("/lib/modules/{}/build", rig.played.kernel());
    let programs =
        ["gcc", "make", "cmake", "automake", "rpm"].map(|name| format!("/usr/bin/{name}"));
    let mut there: Vec<&str> = programs.iter().map(String::as_str).collect();
    there.push(&headers);
    rig.played.has(&there);
    let _ = rig.preflight("1", &both).ended_with(0);
    // Programs of the system, of which `/opt` is the machine's.
    rig.played.program(
        "tar",
        "/usr/bin/tar \"$1\" \"$2\" \"$3\" \"$FERRY_MACHINE$4\" \"$5\"",
    );
    rig.played.program(
        "ln",
        "/usr/bin/ln \"$1\" \"$(basename \"$2\")\" \"$FERRY_MACHINE$3\"",
    );
    fs::create_dir_all(rig.played.folder().join("opt")).unwrap();

    let more = [&both[..], &["--dry-run"]].concat();
    let said = rig.install(&more).ended_with(0);
    assert!(
        said.data.contains("&& ln -sfn /opt/dtk-26.04 /opt/dtk"),
        "{said:?}"
    );
    let _ = rig.install(&both).ended_with(6);
    assert_eq!(rig.played.ran(), ["driver "]);
    // Before the start the running module says nothing of it, and nothing goes on.
    let _ = rig.install(&both).ended_with(6);
    assert_eq!(rig.played.ran().len(), 1);
    rig.played.start("second");
    let _ = rig.resume().ended_with(0);
    let ran = rig.played.ran();
    assert_eq!(ran.len(), 3, "{ran:?}");
    assert!(
        ran[1].starts_with("tar -xzf /") && ran[1].ends_with("-C /opt --no-same-owner"),
        "{ran:?}"
    );
    assert_eq!(ran[2], "ln -sfn /opt/dtk-26.04 /opt/dtk");
    assert_eq!(rig.site.current().as_deref(), Some("1"));
    let _ = rig.install(&both).ended_with(0);
    assert_eq!(rig.played.ran().len(), 3, "all is there");

    // What stays on the machine is named with the vendor's own way, and nothing of it is run.
    rig.played.has(&["/usr/bin/rpm"]);
    let said = rig.uninstall(&["--yes"]).ended_with(0);
    assert!(said.data.contains("rpm -e rock"), "{said:?}");
    assert!(
        said.data.contains("toolkit 26.04: no source was found"),
        "{said:?}"
    );
    assert_eq!(rig.played.ran().len(), 3);
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
    let rig = Rig::with(played, bundle_for("hygon-dcu", &[("dtk", "26.04")], &host));
    let said = rig.install(&["--with-toolkit"]).ended_with(1);
    assert!(said.words.contains("install.host-failed]"), "{said:?}");
    assert!(
        said.words.contains("ln -sfn") && said.words.contains("no such folder"),
        "{said:?}"
    );
    // It ends well and the version file is not there: then it did not end well.
    rig.played.program("ln", "");
    let said = rig.install(&["--with-toolkit"]).ended_with(1);
    assert!(said.words.contains("install.host-not-there"), "{said:?}");
    assert_eq!(rig.site.current(), None);
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
    let rig = Rig::with(
        played,
        bundle_for("cambricon-mlu", &[("neuware", "3.7")], &host),
    );
    let said = rig.preflight("1", &[]).ended_with(3);
    assert!(
        said.data.contains("host.driver-missing-brought"),
        "{said:?}"
    );
    assert!(said.data.contains("--with-driver"), "{said:?}");
    let headers = format!("/lib/modules/{}/build", rig.played.kernel());
    rig.played.has(&[
        "/usr/bin/gcc",
        "/usr/bin/make",
        "/usr/bin/dkms",
        "/usr/bin/rpm",
        &headers,
    ]);
    rig.played.program(
        "rpm",
        "cp -r \"$FERRY_MACHINE/keep\" \"$FERRY_MACHINE/after-start\"",
    );
    let _ = rig.install(&["--with-driver"]).ended_with(6);
    let ran = rig.played.ran();
    assert!(
        ran.len() == 1 && ran[0].starts_with("rpm -ivh /") && ran[0].ends_with(name),
        "{ran:?}"
    );
    rig.played.start("second");
    let _ = rig.resume().ended_with(0);
    assert_eq!(rig.played.ran().len(), 1);
    assert_eq!(rig.site.current().as_deref(), Some("1"));
    let said = rig.uninstall(&["--dry-run"]).ended_with(0);
    assert!(
        said.data.contains("driver 5.10.22: no source was found"),
        "{said:?}"
    );
}

#[test]
fn what_nobody_knows_how_to_run_is_refused_with_the_reason() {
    let file = b"#!/bin/sh\n".as_slice();
    for (chip, kind, name, reason) in [
        (
            "cambricon-mlu",
            "driver",
            "driver.run",
            "a name like *.rpm, *.deb",
        ),
        (
            "cambricon-mlu",
            "toolkit",
            "cntoolkit.rpm",
            "one of driver, whose installers are known",
        ),
        (
            "enflame-gcu",
            "driver",
            "driver.run",
            "a name like enflame-*.run, TopsRider_*_amd64.run",
        ),
        (
            "enflame-gcu",
            "toolkit",
            "TopsRider_i3x_3.6.107_deb_amd64.run",
            "one of driver, whose installers are known",
        ),
        (
            "iluvatar-gpu",
            "toolkit",
            "corex-installer-linux64-4.4.0_x86_64_10.2.run",
            "one of driver, whose installers are known",
        ),
        ("thead-ppu", "driver", "ppu.run", "no source was found"),
    ] {
        let fake = bundle_for(chip, &[], &[(kind, "1.0", name, file)]);
        let rig = Rig::on("kylin-mlu370", fake);
        let said = rig
            .install(&["--with-driver", "--backend", "chip"])
            .ended_with(4);
        assert!(said.words.contains("install.host-item"), "{chip}: {said:?}");
        assert!(said.words.contains(reason), "{chip}: {said:?}");
        assert_eq!(rig.played.ran(), [""; 0]);
    }
}
