//! Packages of the machine's own system: placed, checked, shown, and installed when asked.

#![allow(clippy::print_stderr, reason = "a test says when it is skipped")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bundle_format::fake::placed_file;
use e2e::Site;
use manifest_schema::{OsPackage, OsPackages, PackageFormat};

const PACKAGE: &[u8] = b"a package";
const LIST: &[u8] = b"Package: ferry-missing\n";

/// A site whose bundle `3` has a set for `os`, and a package manager that notes what it is told. `None` where this
/// machine's system is in no table.
fn site(os: Option<&str>) -> Option<(Site, PackageFormat)> {
    let mut site = Site::new();
    let facts = site.bare(&["probe", "--json"]).ended_with(0).json();
    let Some(here) = facts["os"]["value"]["table"].as_str() else {
        eprintln!("skipped: no table knows the system of this machine");
        return None;
    };
    let format = match here {
        "debian" | "ubuntu" => PackageFormat::Deb,
        _ => PackageFormat::Rpm,
    };
    let (package, list) = match format {
        PackageFormat::Deb => ("pool/ferry-missing.deb", "Packages"),
        PackageFormat::Rpm => ("Packages/ferry-missing.rpm", "repodata/repomd.xml"),
    };
    let set = OsPackages {
        name: "here".parse().unwrap(),
        os: os.unwrap_or(here).to_owned(),
        edition: None,
        arch: facts["arch"]["value"].as_str().unwrap().parse().unwrap(),
        format,
        kernel: Some("1.2.3-of-another-machine".to_owned()),
        wanted: vec!["ferry-missing".parse().unwrap()],
        packages: vec![OsPackage {
            name: "ferry-missing".parse().unwrap(),
            version: "1-1".parse().unwrap(),
            arch: "noarch".to_owned(),
            license: Some("MIT".to_owned()),
            file: placed_file(package, PACKAGE),
        }],
        metadata: vec![placed_file(list, LIST)],
    };
    site.fake().profiles.os_packages.push(set);
    site.fake().blobs.extend([PACKAGE.to_vec(), LIST.to_vec()]);
    site.carry("3");
    let programs = site.folder().join("programs");
    fs::create_dir(&programs).unwrap();
    manager(&programs, format, "echo would install ferry-missing");
    Some((site.with_programs_of(&programs), format))
}

/// Notes its words, one run a line, then does as `script` says.
fn manager(programs: &Path, format: PackageFormat, script: &str) {
    let name = match format {
        PackageFormat::Deb => "apt-get",
        PackageFormat::Rpm => "dnf",
    };
    let notes = programs.join("notes").display().to_string();
    let path = programs.join(name);
    fs::write(
        &path,
        format!("#!/bin/sh\necho \"$@\" >> '{notes}'\n{script}\n"),
    )
    .unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn with_packages(site: &Site) -> Vec<String> {
    let words = site.words_to_install("3");
    words
        .into_iter()
        .chain(["--with-os-packages".to_owned()])
        .collect()
}

fn results(site: &Site) -> Vec<String> {
    let log = site.installer(&["log", "--json"]).ended_with(0).json();
    let entries = log["entries"].as_array().unwrap().iter();
    let packages = entries.filter(|entry| entry["action"] == "os-packages");
    packages
        .map(|entry| entry["result"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn they_are_placed_checked_and_shown_and_nothing_is_installed_unasked() {
    let Some((site, format)) = site(None) else {
        return;
    };
    let bundle = site.bundle("3").display().to_string();
    let words = [
        "preflight",
        &bundle,
        "--json",
        "--trust-root",
        &site.fingerprint(),
    ];
    let report = site.installer(&words).json();
    let checks = report["checks"].as_array().unwrap();
    let of = |code: &str| checks.iter().find(|check| check["code"] == code);
    let missing = of("host.os-packages-missing")
        .or(of("host.os-packages-unlisted"))
        .expect("is judged");
    assert_eq!(missing["verdict"], "warn");
    assert!(
        missing["remedy"].as_str().unwrap().contains("install"),
        "{missing}"
    );
    assert!(of("host.os-packages-kernel").is_some(), "{report}");

    let said = site.install("3").ended_with(0);
    assert!(said.words.contains("current/os/here"), "{said:?}");
    assert!(
        !site.folder().join("programs/notes").exists(),
        "nothing was run"
    );
    let folder = site.prefix().join("current/os/here");
    let (package, source, within) = match format {
        PackageFormat::Deb => (
            "pool/ferry-missing.deb",
            "ferry.list",
            "deb [trusted=yes] file:",
        ),
        PackageFormat::Rpm => ("Packages/ferry-missing.rpm", "ferry.repo", "baseurl=file:"),
    };
    assert_eq!(fs::read(folder.join(package)).unwrap(), PACKAGE);
    assert!(
        fs::read_to_string(folder.join(source))
            .unwrap()
            .contains(within)
    );
    assert!(results(&site).is_empty());
    let _ = site.installer(&["audit"]).ended_with(0);
    // A package that somebody changed is found, and so is the file that says where they are.
    let list = folder.join(source);
    fs::set_permissions(&list, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&list, "deb [trusted=yes] http://elsewhere ./\n").unwrap();
    let _ = site.installer(&["audit"]).ended_with(4);
}

#[test]
fn asked_to_the_package_manager_shows_installs_and_is_logged() {
    let Some((site, format)) = site(None) else {
        return;
    };
    if !is_root() {
        let said = site.installer(&with_packages(&site)).ended_with(2);
        assert!(
            said.words.contains("installer.packages-not-root"),
            "{said:?}"
        );
        assert_eq!(site.current(), None, "refused before anything is done");
        return;
    }
    let said = site.installer(&with_packages(&site)).ended_with(0);
    assert!(
        said.words.contains("would install ferry-missing"),
        "{said:?}"
    );
    let programs = site.folder().join("programs");
    let notes = fs::read_to_string(programs.join("notes")).unwrap();
    let runs: Vec<&str> = notes.lines().collect();
    let (first, last) = match format {
        PackageFormat::Deb => (
            "update",
            "--assume-yes install --no-install-recommends --no-remove ferry-missing",
        ),
        PackageFormat::Rpm => (
            "--assumeno install ferry-missing",
            "--assumeyes install ferry-missing",
        ),
    };
    assert!(runs[0].ends_with(first), "{notes}");
    assert!(runs.last().unwrap().ends_with(last), "{notes}");
    assert!(
        !notes.contains("nodeps") && !notes.contains("force"),
        "{notes}"
    );
    assert_eq!(results(&site), ["begun", "done"]);

    // It fails: that is said and logged, and the release is in place all the same.
    manager(
        &programs,
        format,
        "case \"$*\" in *assume*yes*) echo disk full >&2; exit 100;; esac",
    );
    let said = site.installer(&with_packages(&site)).ended_with(1);
    assert!(said.words.contains("disk full"), "{said:?}");
    assert_eq!(results(&site), ["begun", "done", "begun", "failed"]);
    assert_eq!(site.current().as_deref(), Some("2"));
}

#[test]
fn packages_for_another_system_are_left_in_the_bundle() {
    let Some((site, _)) = site(Some("euleros")) else {
        return;
    };
    let said = site.installer(&with_packages(&site)).ended_with(3);
    assert!(said.words.contains("euleros"), "{said:?}");
    assert_eq!(site.current(), None);
    let _ = site.install("3").ended_with(0);
    assert!(!site.prefix().join("current/os").exists());
}
