//! The static aarch64 installer under qemu's user emulation, where both are there.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use e2e::{Site, backend, say};
use manifest_schema::Arch;

/// A site that works with the aarch64 installer; `None`, said aloud, where it cannot be had.
fn emulated() -> Option<Site> {
    let Some(program) = env::var_os("FERRY_AARCH64_INSTALLER") else {
        eprintln!(
            "skipped: FERRY_AARCH64_INSTALLER is not set; `cargo xtask test` builds the program"
        );
        return None;
    };
    let found = Command::new("qemu-aarch64-static")
        .arg("--version")
        .output();
    if !found.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no qemu-aarch64-static on this machine");
        return None;
    }
    let words = vec!["qemu-aarch64-static".into(), program];
    let mut site = Site::new().with_program(words);
    let backends = &mut site.fake().profiles.backends;
    *backends = vec![
        backend("cpu-aarch64", "cpu", Arch::Aarch64),
        backend("cpu-x86-64", "cpu", Arch::X86_64),
    ];
    site.carry("both");
    // Programs that the emulated one starts are this machine's own, so `uname` is told what to say.
    let programs = site.folder().join("programs");
    fs::create_dir(&programs).unwrap();
    let uname = programs.join("uname");
    fs::write(&uname, "#!/bin/sh\necho aarch64\n").unwrap();
    fs::set_permissions(&uname, fs::Permissions::from_mode(0o755)).unwrap();
    Some(site.with_programs_of(&programs))
}

#[test]
fn the_aarch64_installer_verifies_probes_installs_and_audits() {
    let Some(site) = emulated() else { return };
    let bundle = site.bundle("both").display().to_string();
    let fingerprint = site.fingerprint();
    let said = site.installer(&["verify", &bundle, "--trust-root", &fingerprint, "--json"]);
    assert_eq!(said.ended_with(0).json()["release"], 2);
    let said = site.bare(&["probe", "--json"]).ended_with(0).json();
    assert_eq!(said["arch"]["value"], "aarch64", "{said}");
    assert!(said["kernel"]["value"].is_string(), "{said}");
    let said = site.install("both").ended_with(0);
    assert!(said.data.contains("-cpu-aarch64"), "{said:?}");
    let _ = site.installer(&["audit"]).ended_with(0);
    let _ = site.installer(&["status"]).ended_with(0);
    let mut bytes = fs::read(site.bundle("both")).unwrap();
    let spot = bytes
        .windows(9)
        .rposition(|window| window == b"\"release\"")
        .unwrap();
    bytes[spot] ^= 1;
    fs::write(site.bundle("flipped"), bytes).unwrap();
    let flipped = site.bundle("flipped").display().to_string();
    let said = site
        .installer(&["verify", &flipped, "--trust-root", &fingerprint])
        .ended_with(4);
    assert!(said.words.contains("bundle.piece-differs"), "{said:?}");
}

#[test]
fn the_aarch64_installer_is_static() {
    let Some(program) = env::var_os("FERRY_AARCH64_INSTALLER") else {
        eprintln!("skipped: FERRY_AARCH64_INSTALLER is not set");
        return;
    };
    let size = fs::metadata(&program).unwrap().len();
    assert!(size < 15 * 1024 * 1024, "{size} bytes");
    let said = say(Command::new("readelf").arg("-lW").arg(&program)).ended_with(0);
    assert!(
        !said.data.contains("INTERP"),
        "it asks for a loader of shared libraries"
    );
    // Kernels with pages of 64 KiB load a segment only where its alignment allows.
    for line in said
        .data
        .lines()
        .filter(|line| line.trim_start().starts_with("LOAD"))
    {
        assert!(line.ends_with("0x10000"), "{line}");
    }
}
