//! Driver, firmware and toolkit from a bundle, on a machine that a folder plays.

use std::fs;

use e2e::{ASCEND_COMMANDS, ASCEND_FLAGS, Rig};
use manifest_schema::Digest;

#[test]
fn driver_and_firmware_wait_for_a_start_then_toolkit_and_release_follow() {
    let rig = Rig::ascend();
    let said = rig.install(&ASCEND_FLAGS).ended_with(6);
    assert!(said.data.contains("install --resume"), "{said:?}");
    assert_eq!(rig.played.ran(), ASCEND_COMMANDS);
    assert_eq!(rig.site.current(), None);
    // Before the start nothing goes on, whichever way it is asked.
    for words in [
        rig.words("1", &ASCEND_FLAGS),
        ["install", "--resume"].map(str::to_owned).to_vec(),
    ] {
        let said = rig.site.installer(&words).ended_with(6);
        assert!(said.words.contains("install.host-reboot-first"), "{said:?}");
    }
    assert_eq!(rig.played.ran().len(), ASCEND_COMMANDS.len());

    rig.played.start("second");
    let said = rig.resume().ended_with(0);
    assert!(
        !said.words.contains("huawei"),
        "terms are asked for once: {said:?}"
    );
    let toolkit = "toolkit --nox11 --install --quiet --install-for-all";
    assert_eq!(rig.played.ran()[ASCEND_COMMANDS.len()..], [toolkit]);
    assert_eq!(rig.site.current().as_deref(), Some("1"));
    assert!(!rig.site.prefix().join("host").exists());
    let terms = rig.site.prefix().join("current/eulas/huawei-cann.txt");
    assert!(fs::read_to_string(terms).unwrap().contains("许可条款"));

    let _ = rig.site.installer(&["audit"]).ended_with(0);
    let _ = rig.site.installer(&["log", "verify"]).ended_with(0);
    let log = rig.site.installer(&["log", "--json"]).ended_with(0).data;
    let text = Digest::of("Terms of the toolkit.\n许可条款\n".as_bytes()).to_string();
    for part in [
        "accept-terms",
        &text,
        "\"by\":\"flag\"",
        "--install-for-all",
        "host-end",
    ] {
        assert!(log.contains(part), "{part}: {log}");
    }
    // All is there: nothing runs again, and there is nothing to resume.
    let _ = rig.install(&ASCEND_FLAGS).ended_with(0);
    assert_eq!(rig.played.ran().len(), ASCEND_COMMANDS.len() + 1);
    let said = rig.site.installer(&["install", "--resume"]).ended_with(2);
    assert!(said.words.contains("install.nothing-to-resume"), "{said:?}");
}

#[test]
fn without_its_own_switch_the_machine_is_only_looked_at() {
    let rig = Rig::ascend();
    let said = rig.install(&ASCEND_FLAGS[2..]).ended_with(3);
    assert!(said.words.contains("host.driver-missing"), "{said:?}");
    assert_eq!(rig.played.ran(), [""; 0]);
    let said = rig.install(&["--with-toolkit", "--accept-eula", "huawei-cann"]);
    assert!(said.ended_with(3).words.contains("host.driver-missing"));
    assert_eq!(rig.played.ran(), [""; 0]);
}

#[test]
fn a_dry_run_shows_every_command_and_changes_nothing() {
    let rig = Rig::ascend();
    let before = rig.site.listing();
    let more = [&ASCEND_FLAGS[..], &["--dry-run"]].concat();
    let said = rig.install(&more).ended_with(0);
    for command in ASCEND_COMMANDS
        .iter()
        .chain(&["toolkit --nox11 --install --quiet --install-for-all"])
    {
        let (program, words) = command.split_once(' ').unwrap();
        assert!(
            said.data.contains(program) && said.data.contains(words),
            "{command}: {said:?}"
        );
    }
    assert!(
        said.data.contains("--uninstall"),
        "the way back is shown: {said:?}"
    );
    assert_eq!(rig.site.listing(), before);
}

#[test]
fn an_installer_that_fails_is_taken_back_and_a_second_try_goes_on() {
    let rig = Rig::ascend();
    rig.played.write("fail-firmware", "");
    let said = rig.install(&ASCEND_FLAGS).ended_with(1);
    assert!(said.words.contains("install.host-failed]"), "{said:?}");
    assert!(said.words.contains("no space for firmware"), "{said:?}");
    assert_eq!(rig.played.ran(), ASCEND_COMMANDS);
    fs::remove_file(rig.played.folder().join("fail-firmware")).unwrap();
    // The driver is there and is not run again; half a first installation is no upgrade.
    let _ = rig.install(&ASCEND_FLAGS).ended_with(6);
    assert_eq!(
        rig.played.ran()[ASCEND_COMMANDS.len()..],
        ["firmware --nox11 --full --quiet"]
    );
    rig.played.start("second");
    rig.played.write("fail-toolkit", "");
    let said = rig.resume().ended_with(1);
    assert!(
        said.words.contains("install.host-failed-undone"),
        "{said:?}"
    );
    assert_eq!(rig.played.ran().last().unwrap(), "toolkit --uninstall");
    assert_eq!(rig.site.current(), None);
    fs::remove_file(rig.played.folder().join("fail-toolkit")).unwrap();
    let _ = rig.resume().ended_with(0);
    assert_eq!(rig.site.current().as_deref(), Some("1"));
}

#[test]
fn an_upgrade_is_firmware_first() {
    let rig = Rig::ascend();
    for (kind, version) in [("driver", "25.0.rc1"), ("firmware", "7.5.0")] {
        let path = format!("usr/local/Ascend/{kind}/version.info");
        rig.played.write(&path, &format!("Version={version}\n"));
    }
    rig.played.start("second");
    let _ = rig.install(&ASCEND_FLAGS).ended_with(6);
    let ran = [
        "firmware --nox11 --upgrade --quiet",
        "driver --nox11 --upgrade --quiet",
    ];
    assert_eq!(rig.played.ran()[2..], ran);
}

#[test]
fn what_an_installer_needs_is_asked_for_before_it_runs() {
    let rig = Rig::ascend();
    rig.played.write("there.txt", "/usr/bin/bash\n");
    rig.played.write("cmd/id -un.txt", "li\n");
    let efi = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
    rig.played.write(efi, "\u{6}\0\0\0\u{1}");
    rig.played.write(
        "cmd/df -Pk _tmp.txt",
        "Filesystem 1024-blocks Used Available Capacity Mounted on\ntmpfs 9 9 0 100% /tmp\n",
    );
    let said = rig.install(&ASCEND_FLAGS).ended_with(3);
    for part in [
        "host.root",
        "host.programs-missing",
        "host.kernel-headers-missing",
    ] {
        assert!(said.words.contains(part), "{part}: {said:?}");
    }
    let said = rig.preflight("1", &["--with-driver"]).ended_with(3);
    for code in [
        "host.root",
        "host.kernel-headers-missing",
        "host.programs-missing",
        "host.secure-boot",
        "host.temporary-small",
        "host.vendor-unsigned",
    ] {
        assert!(said.data.contains(&format!("[{code}]")), "{code}: {said:?}");
    }
    assert_eq!(rig.played.ran(), [""; 0]);
}

#[test]
fn what_was_put_on_the_machine_is_named_with_the_vendors_way_and_not_taken_off() {
    let rig = Rig::ascend();
    let _ = rig.install(&ASCEND_FLAGS).ended_with(6);
    rig.played.start("second");
    let _ = rig.resume().ended_with(0);
    let ran = rig.played.ran();
    let script = "usr/local/Ascend/driver/script/uninstall.sh";
    rig.played.write(script, "#!/bin/sh\n");
    let toolkit = "usr/local/Ascend/cann-8.5.0/cann_uninstall.sh";
    rig.played.write(toolkit, "#!/bin/sh\n");
    let said = rig.uninstall(&["--dry-run"]).ended_with(0);
    let at = |text: &str| {
        said.data
            .find(text)
            .unwrap_or_else(|| panic!("{text}: {said:?}"))
    };
    // The way back: what came last goes first.
    assert!(
        at(&format!("bash /{toolkit}")) < at("firmware 7.7.0.2.220: no source"),
        "{said:?}"
    );
    assert!(
        at("firmware 7.7.0.2.220: no source") < at(&format!("bash /{script}")),
        "{said:?}"
    );
    let said = rig.uninstall(&["--yes", "--json"]).ended_with(0).json();
    let stays = said["on_machine"].as_array().unwrap();
    assert_eq!(stays.len(), 3, "{said}");
    assert_eq!(stays[2]["kinds"][0], "driver");
    assert_eq!(stays[2]["remove"][0], "bash");
    assert_eq!(rig.played.ran(), ran, "nothing was run");
    // A person did it: it is named no more.
    fs::remove_dir_all(rig.played.folder().join("usr/local/Ascend/driver")).unwrap();
    let said = rig.uninstall(&["--yes"]).ended_with(0);
    assert!(!said.data.contains("driver/script"), "{said:?}");
}
