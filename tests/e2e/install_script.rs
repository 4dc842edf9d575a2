//! `install.sh` out of the bundle, with the tools of any Linux.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use e2e::{Said, Site, installer, say};
use manifest_schema::Arch;

/// A site whose bundle carries this machine's installer for its own processor, and one that only tells its name
/// for the other.
fn site() -> Site {
    let here: Arch = std::env::consts::ARCH.parse().unwrap();
    let there = if here == Arch::X86_64 {
        Arch::Aarch64
    } else {
        Arch::X86_64
    };
    let mut site = Site::new();
    // The static program where there is one. A debug build is larger than a bundle allows, so a line starts it.
    let own = if std::env::var_os("FERRY_STATIC_INSTALLER").is_some() {
        fs::read(installer()).unwrap()
    } else {
        format!("#!/bin/sh\nexec '{}' \"$@\"\n", installer().display()).into_bytes()
    };
    let installers = &mut site.fake().installers;
    installers.insert(here, own);
    installers.insert(
        there,
        format!("#!/bin/sh\necho started for {there}: \"$@\"\n").into_bytes(),
    );
    site.carry("demo-1");
    unpack(&site, "demo-1");
    site
}

fn unpack(site: &Site, name: &str) {
    let unpacked = Command::new("tar")
        .arg("-xf")
        .arg(site.bundle(name))
        .args(["-C", &site.folder().display().to_string(), "install.sh"])
        .status()
        .unwrap();
    assert!(unpacked.success());
}

fn run(site: &Site, words: &[&str], uname: Option<&str>) -> Said {
    let mut command = Command::new("sh");
    let mut path = "/usr/bin:/bin".to_owned();
    if let Some(machine) = uname {
        let programs = site.folder().join("programs");
        fs::create_dir_all(&programs).unwrap();
        program(
            &programs.join("uname"),
            &format!("#!/bin/sh\necho {machine}\n"),
        );
        path = format!("{}:{path}", programs.display());
    }
    command
        .arg(site.folder().join("install.sh"))
        .args(words)
        .current_dir(site.folder())
        .env_clear()
        .env("PATH", path)
        .env("LANG", "C")
        .stdin(Stdio::null());
    say(&mut command)
}

fn program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn one_command_installs() {
    let site = site();
    let prefix = site.prefix().display().to_string();
    let fingerprint = site.fingerprint();
    let words = [
        "demo-1.ferry",
        "--yes",
        "--prefix",
        &prefix,
        "--trust-root",
        &fingerprint,
    ];
    let _ = run(&site, &words, None).ended_with(0);
    assert_eq!(
        site.current().as_deref(),
        Some("2"),
        "the demo's second release"
    );
    let _ = site.installer(&["audit"]).ended_with(0);
}

#[test]
fn the_installers_own_status_comes_through() {
    let site = site();
    let prefix = site.prefix().display().to_string();
    let wrong = "0".repeat(64);
    let words = [
        "demo-1.ferry",
        "--yes",
        "--prefix",
        &prefix,
        "--trust-root",
        &wrong,
    ];
    let said = run(&site, &words, None).ended_with(4);
    assert!(said.words.contains("installer.other-root"), "{said:?}");
    assert!(!site.prefix().exists());
}

#[test]
fn the_processor_decides_which_installer_runs() {
    let site = site();
    let there = if std::env::consts::ARCH == "x86_64" {
        "aarch64"
    } else {
        "x86_64"
    };
    let short = if there == "aarch64" { "arm64" } else { "amd64" };
    for machine in [there, short] {
        let said = run(&site, &["demo-1.ferry", "--yes"], Some(machine)).ended_with(0);
        let expected = format!("started for {there}: install ./demo-1.ferry --yes\n");
        assert_eq!(said.data, expected, "{machine}");
    }
    let said = run(&site, &["demo-1.ferry"], Some("riscv64")).ended_with(1);
    assert!(said.words.contains("no installer for riscv64"), "{said:?}");
}

#[test]
fn a_bundle_that_is_not_there_or_one_of_several_is_asked_for() {
    let site = site();
    let said = run(&site, &["absent.ferry"], None).ended_with(1);
    assert!(said.words.contains("no such file"), "{said:?}");
    // 1.ferry, 2.ferry and demo-1.ferry lie beside the script.
    let said = run(&site, &[], None).ended_with(1);
    assert!(said.words.contains("several bundles here"), "{said:?}");
}

#[test]
fn other_commands_and_what_goes_on_are_led_to_the_installer_too() {
    let site = site();
    let (there, expected) = if std::env::consts::ARCH == "x86_64" {
        ("aarch64", "started for aarch64: ")
    } else {
        ("x86_64", "started for x86_64: ")
    };
    for (words, passed) in [
        (
            &["preflight", "demo-1.ferry", "--verbose"][..],
            "preflight ./demo-1.ferry --verbose",
        ),
        (&["verify", "demo-1.ferry"], "verify ./demo-1.ferry"),
        (
            &["install", "demo-1.ferry", "--dry-run"],
            "install ./demo-1.ferry --dry-run",
        ),
        (
            &["--resume", "--prefix", "/x y"],
            "install --resume --prefix /x y",
        ),
        (&["install", "--resume"], "install --resume"),
        (&["probe", "--json"], "probe --json"),
        (&["trust", "list"], "trust list"),
        (&["rollback", "--to", "demo"], "rollback --to demo"),
    ] {
        // The only bundle beside the script is the one whose installers tell what they were started with.
        let alone = site.folder().join("alone");
        let _ = fs::remove_dir_all(&alone);
        fs::create_dir(&alone).unwrap();
        for name in ["install.sh", "demo-1.ferry"] {
            fs::copy(site.folder().join(name), alone.join(name)).unwrap();
        }
        let mut command = Command::new("sh");
        let programs = alone.join("programs");
        fs::create_dir(&programs).unwrap();
        program(
            &programs.join("uname"),
            &format!("#!/bin/sh\necho {there}\n"),
        );
        command
            .arg("install.sh")
            .args(words)
            .current_dir(&alone)
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", programs.display()));
        let said = say(&mut command).ended_with(0);
        assert_eq!(said.data, format!("{expected}{passed}\n"), "{words:?}");
    }
}
