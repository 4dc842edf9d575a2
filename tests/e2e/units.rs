//! Units in systemd's folder: made, told of, kept through a switch, removed.

#![allow(clippy::print_stderr, reason = "a test says when it is skipped")]

use std::fs;
use std::path::Path;
use std::process::Command;

use e2e::{Played, Said, Site};

fn world() -> (Site, Played) {
    let site = Site::new();
    // This machine's own processor, and nothing else of the recorded one.
    let played = Played::plain(&site.folder().join("machine"));
    played.program("systemctl", "");
    (site, played)
}

fn run(site: &Site, played: &Played, words: &[&str]) -> Said {
    let machine = played.folder().display().to_string();
    site.installer(&[words, &["--machine", &machine]].concat())
}

fn install(site: &Site, played: &Played, bundle: &str, more: &[&str]) -> Said {
    let words = site.words_to_install(bundle);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    run(site, played, &[&words, more].concat())
}

const LINK: &str = "etc/systemd/system/ferry-train@.service";

#[test]
fn a_unit_is_a_link_through_current_and_goes_with_the_install() {
    let (site, played) = world();
    let before = site.listing();
    let said = install(&site, &played, "1", &["--systemd", "--dry-run"]).ended_with(0);
    assert!(said.data.contains("ferry-train@.service"), "{said:?}");
    assert_eq!(site.listing(), before);

    let _ = install(&site, &played, "1", &["--systemd"]).ended_with(0);
    assert_eq!(played.ran(), ["systemctl daemon-reload"]);
    let link = played.folder().join(LINK);
    let target = fs::read_link(&link).unwrap();
    assert_eq!(
        target,
        site.prefix().join("current/systemd/ferry-train@.service")
    );
    let unit = fs::read_to_string(&link).unwrap();
    let runtime = site.prefix().join("current/bin/ferry-runtime");
    assert!(unit.contains(&runtime.display().to_string()), "{unit}");
    // The unit is a file of the release like any other, and an audit knows every byte of it.
    let _ = site.installer(&["audit"]).ended_with(0);

    // Another release stands behind the same link, and systemd is told.
    let _ = install(&site, &played, "2", &[]).ended_with(0);
    assert_eq!(played.ran().len(), 2);
    assert_eq!(fs::read_link(&link).unwrap(), target);
    assert!(link.exists());

    let _ = run(&site, &played, &["uninstall", "--yes"]).ended_with(0);
    assert!(!link.is_symlink());
    assert_eq!(played.ran().len(), 3);
    let log = site.installer(&["log", "--json"]).ended_with(0).data;
    assert_eq!(log.matches("\"action\":\"units\"").count(), 2, "{log}");
}

#[test]
fn a_unit_of_somebody_else_stays_and_a_machine_without_systemctl_is_fine() {
    let (site, played) = world();
    fs::remove_file(played.folder().join("bin/systemctl")).unwrap();
    let _ = install(&site, &played, "1", &["--systemd"]).ended_with(0);
    assert_eq!(played.ran(), [""; 0]);
    let link = played.folder().join(LINK);
    assert!(link.exists());

    let (site, played) = world();
    played.write(LINK, "[Unit]\n");
    let said = install(&site, &played, "1", &["--systemd"]).ended_with(5);
    assert!(said.words.contains("install.unit-taken"), "{said:?}");
    assert_eq!(played.read(LINK), "[Unit]\n");
}

#[test]
fn a_user_has_units_of_their_own() {
    let (site, played) = world();
    let _ = install(&site, &played, "1", &["--systemd", "--user"]).ended_with(0);
    assert_eq!(played.ran(), ["systemctl --user daemon-reload"]);
    // The site's folder is the home of whoever installs.
    let link = site
        .folder()
        .join(".config/systemd/user/ferry-train@.service");
    assert!(link.exists());
    assert!(!played.folder().join(LINK).is_symlink());
    let _ = run(&site, &played, &["uninstall", "--yes"]).ended_with(0);
    assert!(!link.is_symlink());
}

#[test]
fn the_unit_trains_the_job_from_its_own_folder() {
    let (site, played) = world();
    let _ = install(&site, &played, "1", &["--systemd"]).ended_with(0);
    let unit = played.read(LINK);
    let line = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="))
        .unwrap();
    // What systemd makes of the line, with a runtime that tells where it was started.
    let script = line.split('\'').nth(1).unwrap();
    let script = script.replace("$$", "$").replace("%%", "%");
    let runtime = site.folder().join("tell");
    fs::write(&runtime, "#!/bin/sh\necho \"$PWD: $*\"\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&runtime, mode).unwrap();
    let folder = site.folder().join("my jobs");
    fs::create_dir(&folder).unwrap();
    let job = folder.join("job.yaml");
    let said = Command::new("/bin/sh")
        .args(["-c", &script])
        .arg(&runtime)
        .arg(&job)
        .output();
    let said = String::from_utf8(said.unwrap().stdout).unwrap();
    let expected = format!("{}: train {}\n", folder.display(), job.display());
    assert_eq!(said, expected);
}

/// What `systemd-analyze verify` says of a unit; `None` where it is not here.
fn verdict(unit: &Path) -> Option<String> {
    let mut analyze = Command::new("systemd-analyze");
    let said = analyze.args(["verify", "--man=no"]).arg(unit).output();
    // An emulator starts first and ends with 127 where the program is missing.
    let Some(said) = said.ok().filter(|said| said.status.code() != Some(127)) else {
        eprintln!("skipped: systemd-analyze is not here");
        return None;
    };
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    Some(if said.status.success() {
        text
    } else {
        format!("{}: {text}", said.status)
    })
}

#[test]
fn systemd_itself_has_nothing_to_say_against_the_units() {
    for prefix in ["prefix", "my 100% \"own\" 数据 $HOME"] {
        let (site, played) = world();
        let prefix = site.folder().join(prefix);
        let mut words = site.words_to_install("1");
        words.extend(["--prefix".to_owned(), prefix.display().to_string()]);
        let _ = site.bare(&words).ended_with(0);
        let unit = prefix.join("current/systemd/ferry-train@.service");
        let Some(said) = verdict(&unit) else { return };
        assert_eq!(said, "", "{}", prefix.display());
        // It would say so.
        let text = fs::read_to_string(&unit).unwrap();
        let spoilt = site.folder().join("ferry-spoilt@.service");
        fs::write(&spoilt, text.replace("KillMode=mixed", "KillMode=never")).unwrap();
        assert_ne!(verdict(&spoilt).unwrap(), "");
        // A value is taken as it is, a command's `$` is doubled.
        let cache = text
            .lines()
            .find(|line| line.starts_with("Environment="))
            .unwrap();
        assert!(!cache.contains("$$"), "{cache}");
        drop(played);
    }
}
