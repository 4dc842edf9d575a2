//! Where an install may be told to go, and who may run it: odd names, mounts that cannot take it, nobody's home.

#![allow(clippy::print_stderr, reason = "a test says when it is skipped")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use e2e::{Said, Site, say};

/// Runs the installer below another prefix than the site's own.
fn at(site: &Site, prefix: &Path, words: &[&str]) -> Said {
    let prefix = prefix.display().to_string();
    site.bare(&[words, &["--prefix", &prefix]].concat())
}

fn install(site: &Site, prefix: &Path, name: &str) -> Said {
    let words = site.words_to_install(name);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    at(site, prefix, &words)
}

#[test]
fn a_prefix_may_have_blanks_quotes_and_letters_of_any_script() {
    for name in ["with blanks", "微调 环境", "it's \"50%\" $HOME"] {
        let site = Site::new();
        let prefix = site.folder().join(name);
        let _ = install(&site, &prefix, "1").ended_with(0);
        let _ = install(&site, &prefix, "2").ended_with(0);
        let _ = at(&site, &prefix, &["audit", "--deep"]).ended_with(0);
        let _ = at(&site, &prefix, &["rollback"]).ended_with(0);
        let _ = at(&site, &prefix, &["log", "verify"]).ended_with(0);
        // What a shell reads leads to the programs of the release.
        let script = ". \"$1/current/env.sh\" && command -v ferry-runtime && ferry-runtime doctor && echo \"$HF_HUB_CACHE\"";
        let said = say(Command::new("sh").args(["-euc", script, "sh"]).arg(&prefix)).ended_with(0);
        let current = prefix.join("current").display().to_string();
        assert_eq!(
            said.data,
            format!("{current}/bin/ferry-runtime\n{current}/hub\n"),
            "{name}"
        );
        let _ = at(&site, &prefix, &["uninstall", "--yes"]).ended_with(0);
        assert!(!prefix.join("current").exists(), "{name}");
    }
}

/// A file system in memory, until it is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn with(folder: &Path, options: &str) -> Option<Self> {
        fs::create_dir_all(folder).unwrap();
        let mut mount = Command::new("mount");
        let made = mount
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(folder)
            .output();
        if made.is_ok_and(|output| output.status.success()) {
            return Some(Self(folder.to_owned()));
        }
        eprintln!("skipped: nothing can be mounted here");
        None
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// Codes of the checks of the prefix that a preflight does not pass.
fn complaints(site: &Site, prefix: &Path) -> Vec<String> {
    let (bundle, trust) = (site.bundle("1").display().to_string(), site.fingerprint());
    let report = at(
        site,
        prefix,
        &["preflight", &bundle, "--trust-root", &trust, "--json"],
    )
    .json();
    let checks = report["checks"].as_array().unwrap().iter();
    let bad = checks.filter(|check| check["verdict"] == "stop");
    bad.map(|check| check["code"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_mount_that_cannot_take_an_install_is_named_and_nothing_is_left_on_it() {
    for (options, check, code) in [
        ("ro", "install.place-read-only", "install.place-read-only"),
        (
            "noexec",
            "install.place-no-programs",
            "install.place-no-programs",
        ),
        (
            "nr_inodes=8",
            "install.entries-missing",
            "install.no-entries",
        ),
        ("size=64k", "install.space-missing", "install.no-space"),
    ] {
        let site = Site::new();
        let Some(mounted) = Mounted::with(&site.folder().join("mount"), options) else {
            return;
        };
        let prefix = mounted.0.join("ferry");
        assert_eq!(complaints(&site, &prefix), [check], "{options}");
        for more in [&[][..], &["--dry-run"]] {
            let words = site.words_to_install("1");
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let said = at(&site, &prefix, &[&words[..], more].concat()).ended_with(5);
            assert!(said.words.contains(code), "{options}: {said:?}");
            // It is said before anything else is.
            assert!(!said.words.contains("store"), "{options}: {said:?}");
            assert!(!prefix.exists(), "{options}");
        }
    }
}

#[test]
fn a_folder_of_somebody_else_is_named_and_keeps_what_was_in_it() {
    let site = Site::new();
    let prefix = site.folder().join("srv");
    let theirs = ["cache/apt/list", "cache/tokens.txt", "host/a", "www"];
    for name in theirs {
        let path = prefix.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "somebody's own").unwrap();
    }
    // A slip in the name of the prefix costs nobody anything.
    let before = site.listing();
    for words in [
        &["uninstall", "--yes"][..],
        &["uninstall", "--dry-run"],
        &["gc"],
        &["status"],
    ] {
        let said = at(&site, &prefix, words).ended_with(0);
        assert!(said.data.contains("nothing"), "{said:?}");
    }
    assert_eq!(before, site.listing());
    let (bundle, trust) = (site.bundle("1").display().to_string(), site.fingerprint());
    let words = ["preflight", &bundle, "--trust-root", &trust, "--lang", "zh"];
    let said = at(&site, &prefix, &words).ended_with(0);
    assert!(said.data.contains("! [install.place-shared]"), "{said:?}");
    assert!(said.data.contains("cache, host, www"), "{said:?}");
    let said = install(&site, &prefix, "1").ended_with(0);
    assert!(
        said.words
            .contains("other things and no install: cache, host, www"),
        "{said:?}"
    );
    let again = install(&site, &prefix, "2").ended_with(0);
    assert!(!again.words.contains("other things"), "{again:?}");
    fs::create_dir_all(prefix.join("cache/tokens/a")).unwrap();
    let _ = at(&site, &prefix, &["uninstall", "--yes"]).ended_with(0);
    assert!(!prefix.join("cache/tokens").exists());
    for name in theirs {
        assert!(prefix.join(name).is_file(), "{name}");
    }
}

#[test]
fn a_prefix_of_which_a_part_is_another_disk_is_refused_before_anything_is_written() {
    for part in ["store", "releases", "store/sha256"] {
        let site = Site::new();
        let prefix = site.folder().join("prefix");
        let Some(mounted) = Mounted::with(&prefix.join(part), "size=64m") else {
            return;
        };
        assert_eq!(
            complaints(&site, &prefix),
            ["install.place-apart"],
            "{part}"
        );
        let before = site.listing();
        let said = install(&site, &prefix, "1").ended_with(5);
        assert!(said.words.contains("install.place-apart"), "{said:?}");
        let point = prefix.join(part).display().to_string();
        assert!(said.words.contains(&point), "{said:?}");
        assert_eq!(before, site.listing(), "{part}");
        drop(mounted);
        let _ = install(&site, &prefix, "1").ended_with(0);
    }
}

#[test]
fn what_lies_in_the_lower_layer_of_an_overlay_is_replaced_and_removed() {
    let site = Site::new();
    let Some(disk) = Mounted::with(&site.folder().join("disk"), "size=64m") else {
        return;
    };
    let part = |name: &str| {
        let folder = disk.0.join(name);
        fs::create_dir(&folder).unwrap();
        folder
    };
    let [lower, upper, work, both] = ["lower", "upper", "work", "both"].map(part);
    // One path for both: units name it.
    let mount = |words: &[&str]| Command::new("mount").args(words).arg(&both).status();
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.display(),
        upper.display(),
        work.display()
    );
    assert!(
        mount(&["--bind", &lower.display().to_string()])
            .unwrap()
            .success()
    );
    let bound = Mounted(both.clone());
    let prefix = both.join("ferry");
    let _ = install(&site, &prefix, "1").ended_with(0);
    drop(bound);
    if !mount(&["-t", "overlay", "-o", &options, "overlay"]).is_ok_and(|status| status.success()) {
        eprintln!("skipped: no overlay can be mounted here");
        return;
    }
    let _overlay = Mounted(both.clone());
    let _ = at(&site, &prefix, &["audit", "--deep"]).ended_with(0);
    let _ = install(&site, &prefix, "2").ended_with(0);
    let _ = at(&site, &prefix, &["audit", "--deep"]).ended_with(0);
    let _ = at(&site, &prefix, &["rollback"]).ended_with(0);
    let _ = at(&site, &prefix, &["uninstall", "--yes"]).ended_with(0);
    assert!(!prefix.join("releases").exists());
    assert!(lower.join("ferry/releases").exists());
}

#[test]
fn a_disk_that_became_read_only_is_called_so() {
    let site = Site::new();
    let Some(mounted) = Mounted::with(&site.folder().join("disk"), "size=64m") else {
        return;
    };
    let prefix = mounted.0.join("ferry");
    let _ = install(&site, &prefix, "1").ended_with(0);
    let mut remount = Command::new("mount");
    remount.args(["-o", "remount,ro"]).arg(&mounted.0);
    assert!(remount.status().unwrap().success());
    for words in [
        &["uninstall", "--yes"][..],
        &["trust", "add", &"0".repeat(64)],
    ] {
        let said = at(&site, &prefix, words).ended_with(5);
        assert!(said.words.contains("install.disk-read-only"), "{said:?}");
    }
    let _ = at(&site, &prefix, &["audit"]).ended_with(0);
}

#[test]
fn a_mount_where_no_program_runs_takes_what_has_none() {
    let data = [("data.json", b"[]\n".to_vec())];
    let site = Site::of(bundle_format::fake::Fake::with_dataset("demo", 1, &data));
    let Some(mounted) = Mounted::with(&site.folder().join("mount"), "noexec") else {
        return;
    };
    let prefix = mounted.0.join("ferry");
    assert_eq!(complaints(&site, &prefix), [""; 0]);
    let _ = install(&site, &prefix, "1").ended_with(0);
    let _ = at(&site, &prefix, &["audit"]).ended_with(0);
}

#[test]
fn a_way_out_names_the_mount_in_both_languages() {
    let site = Site::new();
    let Some(mounted) = Mounted::with(&site.folder().join("盘 一"), "noexec") else {
        return;
    };
    for (lang, hint) in [("en", "choose another disk"), ("zh", "选择其他磁盘")] {
        let words = site.words_to_install("1");
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let words = [&words[..], &["--lang", lang]].concat();
        let said = at(&site, &mounted.0.join("ferry"), &words).ended_with(5);
        let command = format!("mount -o remount,exec '{}'", mounted.0.display());
        assert!(said.words.contains(&command), "{said:?}");
        assert!(said.words.contains(hint), "{said:?}");
    }
}

#[test]
fn a_prefix_behind_links_is_one_prefix_before_it_is_made_and_after() {
    let site = Site::new();
    let real = site.folder().join("data/opt");
    fs::create_dir_all(&real).unwrap();
    let link = |target: &str, name: &str| {
        std::os::unix::fs::symlink(target, site.folder().join(name)).unwrap();
    };
    link("data/opt", "opt");
    link("data/opt/later", "dangling");
    for (name, place) in [("opt/ferry", "ferry"), ("dangling", "later")] {
        let prefix = site.folder().join(name);
        let _ = install(&site, &prefix, "1").ended_with(0);
        assert!(real.join(place).join("current").exists(), "{name}");
        for one in [&prefix, &real.join(place)] {
            let _ = at(&site, one, &["audit", "--deep"]).ended_with(0);
            let _ = install(&site, one, "1").ended_with(0);
        }
        let _ = install(&site, &prefix, "2").ended_with(0);
        let _ = at(&site, &prefix, &["rollback"]).ended_with(0);
        let _ = at(&site, &prefix, &["uninstall", "--yes"]).ended_with(0);
    }
}

/// A user whom the machine has no entry for.
const NOBODY_KNOWS: u32 = 54_321;

#[test]
fn a_user_without_a_home_and_without_a_name_installs_below_a_folder_of_their_own() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can become somebody else");
        return;
    }
    let site = Site::new();
    let open = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    open(site.folder(), 0o755);
    open(&site.bundle("1"), 0o644);
    let own = site.folder().join("own");
    fs::create_dir(&own).unwrap();
    chown(&own, Some(NOBODY_KNOWS), Some(NOBODY_KNOWS)).unwrap();
    let run = |words: &[String]| {
        let mut command = site.command();
        command
            .env_remove("HOME")
            .uid(NOBODY_KNOWS)
            .gid(NOBODY_KNOWS)
            .current_dir(&own)
            .args(words)
            .arg("--prefix")
            .arg(own.join("ferry"));
        say(&mut command)
    };
    let words = |words: &[&str]| {
        words
            .iter()
            .map(|word| (*word).to_owned())
            .collect::<Vec<_>>()
    };
    let first = run(&words(&["status"]));
    if first.status == -1 || first.words.contains("ermission denied") {
        eprintln!("skipped: another user may not run the installer where it lies");
        return;
    }
    let _ = run(&site.words_to_install("1")).ended_with(0);
    let _ = run(&words(&["audit"])).ended_with(0);
    let _ = run(&words(&["inventory", "--output", "inventory.json"])).ended_with(0);
    let _ = run(&words(&["support-bundle", "--output", "support.json"])).ended_with(0);
    // Another's prefix is not theirs to change.
    let _ = site.install("1").ended_with(0);
    let said = {
        let mut command = site.command();
        command
            .uid(NOBODY_KNOWS)
            .gid(NOBODY_KNOWS)
            .env_remove("HOME");
        command
            .args(["uninstall", "--yes", "--prefix"])
            .arg(site.prefix());
        say(&mut command)
    };
    assert_eq!(said.status, 5, "{said:?}");
    assert!(said.words.contains("install.permission-denied"), "{said:?}");
    let _ = site.installer(&["audit"]).ended_with(0);
}

#[test]
fn gc_beside_an_install_that_runs_takes_nothing_of_it() {
    let mut site = Site::new();
    let (came, go) = (site.folder().join("came"), site.folder().join("go"));
    // A runtime that waits in its smoke test: the store and the unfinished release are there, and nothing is current.
    let waits = format!(
        "#!/bin/sh\ntouch '{}'\nwhile [ ! -e '{}' ]; do sleep 0.02; done\n",
        came.display(),
        go.display()
    );
    let mut file = bundle_format::fake::placed_file("bin/ferry-runtime", waits.as_bytes());
    file.executable = true;
    let fake = site.fake();
    fake.profiles.backends[0].files = vec![file];
    fake.blobs.retain(|blob| blob != e2e::RUNTIME);
    fake.blobs.push(waits.into_bytes());
    site.carry("waits");
    let mut command = site.command();
    command
        .args(site.words_to_install("waits"))
        .arg("--prefix")
        .arg(site.prefix());
    let installing = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while !came.exists() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let before = site.listing();
    let said = site.installer(&["gc"]).ended_with(5);
    assert!(said.words.contains("install.lock-held"), "{said:?}");
    assert_eq!(site.listing(), before);
    fs::write(&go, "").unwrap();
    let ended = installing.wait_with_output().unwrap();
    assert!(
        ended.status.success(),
        "{}",
        String::from_utf8_lossy(&ended.stderr)
    );
    let _ = site.installer(&["audit"]).ended_with(0);
    let said = site.installer(&["gc"]).ended_with(0);
    assert!(said.data.contains("nothing to remove"), "{said:?}");
}

#[test]
fn a_damaged_blob_of_the_old_release_keeps_rollback_from_it_and_a_lost_name_does_not() {
    let site = Site::new();
    let _ = site.install("1").ended_with(0);
    let old = fs::canonicalize(site.prefix().join("current")).unwrap();
    let _ = site.install("2").ended_with(0);
    let data = old.join("datasets/demo/data.json");
    let store = site.prefix().join("store/sha256");
    let digest = manifest_schema::Digest::of(&fs::read(&data).unwrap()).hex();
    // The release has names of its own for its files: the store may lose one.
    let blob = store.join(digest);
    let kept = fs::read(&blob).unwrap();
    fs::remove_file(&blob).unwrap();
    let _ = site.installer(&["rollback"]).ended_with(0);
    let _ = site.installer(&["rollback"]).ended_with(0);
    assert_eq!(site.current().as_deref(), Some("2"));
    // What is damaged is damaged under each name.
    fs::hard_link(&data, &blob).unwrap();
    let mut bytes = kept.clone();
    bytes[7] ^= 1;
    fs::set_permissions(&blob, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&blob, bytes).unwrap();
    let said = site.installer(&["rollback"]).ended_with(4);
    assert!(said.words.contains("install.release-damaged"), "{said:?}");
    assert!(said.words.contains("datasets/demo/data.json"), "{said:?}");
    assert_eq!(site.current().as_deref(), Some("2"));
    // Its bundle mends it, once the damaged release is out of the way.
    let name = old.file_name().unwrap().to_str().unwrap().to_owned();
    let _ = site
        .installer(&["uninstall", "--release", &name, "--yes"])
        .ended_with(0);
    let mut words = site.words_to_install("1");
    words.push("--allow-downgrade".to_owned());
    let _ = site.installer(&words).ended_with(0);
    assert_eq!(fs::read(&data).unwrap(), kept);
    let _ = site.installer(&["audit", "--deep"]).ended_with(0);
}

#[test]
fn a_log_that_was_cut_anywhere_is_found() {
    let site = Site::new();
    let _ = site.install("1").ended_with(0);
    let _ = site.install("2").ended_with(0);
    let path = site.prefix().join("log/actions.jsonl");
    let text = fs::read(&path).unwrap();
    let lines: Vec<usize> = text
        .iter()
        .enumerate()
        .filter(|(_, b)| **b == b'\n')
        .map(|(at, _)| at)
        .collect();
    let last = *lines.last().unwrap();
    let (before, first) = (lines[lines.len() - 2], lines[0]);
    for length in [
        0,
        1,
        first,
        first + 1,
        first + 9,
        before,
        before + 1,
        before + 40,
        last - 1,
        last,
    ] {
        fs::write(&path, &text[..length]).unwrap();
        // Without its line end the last entry never came to be: power went while it was written.
        let said = site.installer(&["log", "verify"]).ended_with(4);
        assert!(!said.words.contains("panicked"), "{length}: {said:?}");
        let _ = site.installer(&["audit", "--deep"]).ended_with(4);
    }
    fs::write(&path, &text).unwrap();
    let _ = site.installer(&["log", "verify"]).ended_with(0);
}
