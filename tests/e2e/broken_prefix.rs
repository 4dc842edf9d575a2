//! One file of a prefix is cut, replaced or gone: the rest is shown, the file is named, and nothing is removed for it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::{Said, Site};

/// Two releases, the second of which is current.
fn both() -> Site {
    let site = Site::new();
    let _ = site.install("1").ended_with(0);
    let _ = site.install("2").ended_with(0);
    site
}

fn release(site: &Site, number: u32) -> String {
    let start = format!("demo-{number}-");
    let mut names = fs::read_dir(site.prefix().join("releases")).unwrap();
    let name = names.find_map(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        name.starts_with(&start).then_some(name)
    });
    name.unwrap()
}

fn record(site: &Site, number: u32) -> PathBuf {
    let release = site.prefix().join("releases").join(release(site, number));
    release.join("release.json")
}

/// The ways in which a file is not what was written.
const WAYS: [&str; 7] = [
    "cut", "empty", "gone", "folder", "pipe", "dangling", "zeros",
];

fn spoil(path: &Path, way: &str) {
    let text = fs::read(path).unwrap();
    fs::remove_file(path).unwrap();
    match way {
        "cut" => fs::write(path, &text[..text.len() / 2]).unwrap(),
        "empty" => fs::write(path, "").unwrap(),
        "gone" => {}
        "folder" => fs::create_dir(path).unwrap(),
        "pipe" => assert!(Command::new("mkfifo").arg(path).status().unwrap().success()),
        "dangling" => symlink("nowhere", path).unwrap(),
        _ => fs::write(path, vec![0; text.len()]).unwrap(),
    }
}

fn said_once(said: &Said, code: &str) {
    let count = said.words.matches(&format!("[{code}]")).count();
    assert_eq!(count, 1, "{code}: {said:#?}");
}

#[test]
fn a_release_whose_record_cannot_be_read_hides_no_other() {
    for way in WAYS {
        let site = both();
        let (old, new) = (release(&site, 1), release(&site, 2));
        spoil(&record(&site, 1), way);
        let status = site.installer(&["status"]).ended_with(5);
        assert!(
            status.data.contains(&format!("* {new}\n    backend")),
            "{way}: {status:#?}"
        );
        assert!(status.data.contains(&old), "{way}: {status:#?}");
        said_once(&status, "install.record-unreadable");
        let json = site.installer(&["status", "--json"]).ended_with(5).json();
        assert_eq!(json["releases"].as_array().unwrap().len(), 2, "{way}");
        assert_eq!(json["unread"][0]["args"]["release"], old.as_str(), "{way}");
        // The other one is audited whole, and the broken one is named.
        let audit = site.installer(&["audit", "--deep"]);
        assert!([4, 5].contains(&audit.status), "{way}: {audit:#?}");
        assert!(
            audit.data.contains(&format!("{new}: all ")),
            "{way}: {audit:#?}"
        );
        said_once(&audit, "install.record-unreadable");
        let _ = site.installer(&["audit"]).ended_with(0);
        let inventory = site.installer(&["inventory"]).ended_with(5);
        assert!(
            inventory.data.contains("\"blobs\""),
            "{way}: {inventory:#?}"
        );
        said_once(&inventory, "install.record-unreadable");
        let _ = site.installer(&["support-bundle"]).ended_with(0);
        if !["cut", "pipe"].contains(&way) {
            continue;
        }
        // Nothing is removed, and nothing is gone back to.
        let before = site.listing();
        let _ = site.installer(&["gc"]).ended_with(0);
        let rollback = site.installer(&["rollback"]).ended_with(5);
        said_once(&rollback, "install.record-unreadable");
        assert_eq!(before, site.listing(), "{way}");
        assert_eq!(site.current().as_deref(), Some("2"), "{way}");
        // Installing it again does not take its record for good; taken away first, it comes back whole.
        let mut words = site.words_to_install("1");
        words.push("--allow-downgrade".to_owned());
        let again = site.installer(&words).ended_with(4);
        said_once(&again, "install.release-damaged");
        assert!(again.words.contains("`release.json`"), "{way}: {again:#?}");
        let _ = site
            .installer(&["uninstall", "--release", &old, "--yes"])
            .ended_with(0);
        let _ = site.installer(&words).ended_with(0);
        let _ = site.installer(&["audit", "--deep"]).ended_with(0);
    }
}

#[test]
fn a_record_that_was_rewritten_is_not_logged_as_good() {
    let site = both();
    let record = record(&site, 1);
    let text = fs::read_to_string(&record).unwrap();
    fs::remove_file(&record).unwrap();
    fs::write(
        &record,
        text.replace("\"stable\"", "\"other\"").replace('\n', "\n "),
    )
    .unwrap();
    let mut words = site.words_to_install("1");
    words.push("--allow-downgrade".to_owned());
    let said = site.installer(&words).ended_with(4);
    said_once(&said, "install.release-damaged");
    assert_eq!(site.current().as_deref(), Some("2"));
}

#[test]
fn without_its_log_a_prefix_is_shown_and_not_changed() {
    for way in ["cut", "folder", "pipe", "zeros"] {
        let site = both();
        let (log, new) = (site.prefix().join("log/actions.jsonl"), release(&site, 2));
        if way == "cut" {
            // In the middle of a line that another one follows.
            let text = fs::read_to_string(&log).unwrap();
            let (first, rest) = text.split_once('\n').unwrap();
            fs::write(&log, format!("{}\n{rest}", &first[..40])).unwrap();
        } else {
            spoil(&log, way);
        }
        // Zeros without a line end are what power cut off: an empty log.
        let zeros = way == "zeros";
        let status = if way == "cut" { 4 } else { 5 };
        let (status, code) = match way {
            "cut" => (status, "install.log-broken"),
            _ => (status, "install.disk-failed"),
        };
        let shown = site.installer(&["status"]);
        assert!(
            shown.data.contains(&format!("* {new}")),
            "{way}: {shown:#?}"
        );
        let audit = site.installer(&["audit"]);
        assert!(audit.data.contains("datasets/"), "{way}: {audit:#?}");
        assert_eq!(
            audit.status, 4,
            "nothing vouches for the record: {audit:#?}"
        );
        if zeros {
            assert_eq!(shown.status, 0, "{shown:#?}");
            continue;
        }
        assert_eq!(shown.status, status, "{way}: {shown:#?}");
        said_once(&shown, code);
        said_once(&audit, code);
        let before = site.listing();
        for words in [
            &["log"][..],
            &["log", "verify"],
            &["rollback"],
            &["uninstall", "--yes"],
        ] {
            let said = site.installer(words).ended_with(status);
            said_once(&said, code);
        }
        assert_eq!(before, site.listing(), "{way}");
    }
}

#[test]
fn the_log_is_shown_as_far_as_it_holds() {
    let site = both();
    let log = site.prefix().join("log/actions.jsonl");
    let text = fs::read_to_string(&log).unwrap();
    let changed = text.replacen("\"user\":", "\"user\":1", 2);
    fs::write(&log, changed.replacen("\"user\":1", "\"user\":", 1)).unwrap();
    let said = site.installer(&["log"]).ended_with(4);
    assert!(said.data.starts_with("1  2"), "{said:#?}");
    assert!(!said.data.contains("\n3  "), "{said:#?}");
    assert!(!said.data.contains("head"), "{said:#?}");
    said_once(&said, "install.log-broken");
}

#[test]
fn a_current_that_names_no_release_hides_none_of_them() {
    for way in ["elsewhere", "folder", "file"] {
        let site = both();
        let (current, old, new) = (
            site.prefix().join("current"),
            release(&site, 1),
            release(&site, 2),
        );
        fs::remove_file(&current).unwrap();
        match way {
            "elsewhere" => symlink("/etc", &current).unwrap(),
            "folder" => fs::create_dir(&current).unwrap(),
            _ => fs::write(&current, "").unwrap(),
        }
        let status = site.installer(&["status"]).ended_with(5);
        assert!(status.data.contains(&format!("  {old}\n")), "{status:#?}");
        assert!(status.data.contains(&format!("  {new}\n")), "{status:#?}");
        said_once(&status, "install.disk-failed");
        let audit = site.installer(&["audit", "--deep"]).ended_with(5);
        for name in [&old, &new] {
            assert!(
                audit.data.contains(&format!("{name}: all ")),
                "{way}: {audit:#?}"
            );
        }
        let before = site.listing();
        // Which one is in use is not known, so none is removed alone.
        for words in [
            &["rollback"][..],
            &["uninstall", "--release", &old, "--yes"],
        ] {
            let said = site.installer(words).ended_with(5);
            assert!(said.words.contains("/current`"), "{way}: {said:#?}");
        }
        assert_eq!(before, site.listing(), "{way}");
    }
}

#[test]
fn a_trust_file_that_is_none_is_named_and_nothing_is_accepted_meanwhile() {
    for way in WAYS {
        if way == "gone" {
            continue;
        }
        let site = both();
        let trust = site.prefix().join("trust.d");
        let other = trust.join(format!("{}.json", "0".repeat(64)));
        fs::copy(trust.join(format!("{}.json", site.fingerprint())), &other).unwrap();
        spoil(&other, way);
        let list = site.installer(&["trust", "list"]);
        assert!([4, 5].contains(&list.status), "{way}: {list:#?}");
        assert!(list.data.contains(&site.fingerprint()), "{way}: {list:#?}");
        assert!(
            list.words.contains(&other.display().to_string()),
            "{way}: {list:#?}"
        );
        let _ = site.installer(&["status"]).ended_with(0);
        let before = site.listing();
        for words in [&["audit"][..], &["rollback"]] {
            let said = site.installer(words);
            assert!([4, 5].contains(&said.status), "{way}: {said:#?}");
            assert!(
                said.words.contains(&other.display().to_string()),
                "{way}: {said:#?}"
            );
        }
        assert_eq!(before, site.listing(), "{way}");
    }
}

#[test]
fn a_file_that_is_none_is_one_finding_of_an_audit() {
    let site = both();
    let release = site.prefix().join("releases").join(release(&site, 2));
    let data = release.join("datasets/demo/data.json");
    let blob = fs::read_dir(site.prefix().join("store/sha256")).unwrap();
    let blob = blob.map(|entry| entry.unwrap().path()).next().unwrap();
    for path in [&data, &release.join("meta/profiles.json"), &blob] {
        if path.exists() {
            spoil(path, "pipe");
        }
    }
    let said = site.installer(&["audit"]);
    // Metadata that is a pipe cannot be read, so nothing can be said of the release: at once, and with its name.
    assert!(said.words.contains("meta/profiles.json"), "{said:#?}");
    fs::remove_file(release.join("meta/profiles.json")).unwrap();
    fs::copy(
        site.prefix()
            .join("releases")
            .join(self::release(&site, 1))
            .join("meta/profiles.json"),
        release.join("meta/profiles.json"),
    )
    .unwrap();
    assert_eq!(site.installer(&["audit"]).status, 4);
    let inventory = site.installer(&["inventory"]).ended_with(5);
    said_once(&inventory, "install.disk-failed");
}

#[test]
fn a_lock_that_is_a_link_or_a_pipe_is_refused_and_what_it_leads_to_is_kept() {
    for way in ["pipe", "link", "folder"] {
        let site = both();
        let (lock, other) = (site.prefix().join("lock"), site.folder().join("other"));
        fs::write(&other, "somebody's own").unwrap();
        if way == "link" {
            fs::remove_file(&lock).unwrap();
            symlink(&other, &lock).unwrap();
        } else {
            spoil(&lock, way);
        }
        let said = site.installer(&["rollback"]).ended_with(5);
        assert!(said.words.contains("/lock`"), "{way}: {said:#?}");
        assert_eq!(
            fs::read_to_string(&other).unwrap(),
            "somebody's own",
            "{way}"
        );
    }
}
