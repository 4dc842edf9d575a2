//! `status`, `rollback`, `uninstall` through the real program.

use std::fs;

use e2e::Site;
use serde_json::Value;

fn names(site: &Site) -> Vec<String> {
    let status = site.installer(&["status", "--json"]).ended_with(0).json();
    let releases = status["releases"].as_array().unwrap();
    releases
        .iter()
        .map(|release| release["name"].as_str().unwrap().to_owned())
        .collect()
}

fn both() -> Site {
    let site = Site::new();
    let _ = site.install("1").ended_with(0);
    let _ = site.install("2").ended_with(0);
    site
}

#[test]
fn status_of_an_empty_prefix_says_so_and_makes_nothing() {
    let site = Site::new();
    let said = site.installer(&["status"]).ended_with(0);
    assert!(said.data.contains("nothing is installed"), "{said:?}");
    let status = site.installer(&["status", "--json"]).ended_with(0).json();
    assert_eq!(
        (&status["current"], &status["releases"]),
        (&Value::Null, &Value::Array(vec![]))
    );
    assert!(!site.prefix().exists());
}

#[test]
fn rollback_goes_back_and_forth_and_to_a_name() {
    let site = both();
    let said = site
        .installer(&["rollback", "--dry-run", "--json"])
        .ended_with(0)
        .json();
    assert_eq!(said["dry_run"], true);
    let said = site.installer(&["rollback", "--dry-run"]).ended_with(0);
    assert!(said.data.starts_with("would go to demo-1-"), "{said:?}");
    assert_eq!(
        site.current().as_deref(),
        Some("2"),
        "a dry run changes nothing"
    );
    for expected in ["1", "2", "1"] {
        let _ = site.installer(&["rollback"]).ended_with(0);
        assert_eq!(site.current().as_deref(), Some(expected));
    }
    let second = names(&site)
        .into_iter()
        .find(|name| name.starts_with("demo-2-"))
        .unwrap();
    let _ = site.installer(&["rollback", "--to", &second]).ended_with(0);
    assert_eq!(site.current().as_deref(), Some("2"));
    let absent = ["rollback", "--to", "demo-9-000000000000-cpu"];
    for words in [&absent[..], &[&absent[..], &["--dry-run"]].concat()] {
        let said = site.installer(words).ended_with(1);
        assert!(said.words.contains("install.no-release"), "{said:?}");
    }
    let said = site
        .installer(&["rollback", "--to", "../../etc"])
        .ended_with(2);
    assert!(said.words.contains("not the name of a release"), "{said:?}");
    assert_eq!(site.current().as_deref(), Some("2"));
}

#[test]
fn rollback_without_an_earlier_release_is_refused() {
    let site = Site::new();
    let said = site.installer(&["rollback"]).ended_with(1);
    assert!(said.words.contains("install.nothing-installed"), "{said:?}");
    assert!(!site.prefix().exists());
    let _ = site.install("1").ended_with(0);
    let said = site.installer(&["rollback"]).ended_with(1);
    assert!(said.words.contains("install.nothing-before"), "{said:?}");
}

#[test]
fn what_is_not_there_is_refused_and_no_folder_is_made_for_it() {
    let site = Site::new();
    let root = "0".repeat(64);
    for (words, code) in [
        (
            &["rollback", "--to", "demo-1-000000000000-cpu"][..],
            "install.nothing-installed",
        ),
        (
            &["uninstall", "--release", "demo-1-000000000000-cpu", "--yes"],
            "install.no-release",
        ),
        (
            &[
                "uninstall",
                "--release",
                "demo-1-000000000000-cpu",
                "--dry-run",
            ],
            "install.no-release",
        ),
        (&["trust", "remove", &root, "--yes"], "install.root-unknown"),
        (&["audit"], "install.nothing-installed"),
    ] {
        let said = site.installer(words);
        assert!(said.words.contains(code), "{words:?}: {said:?}");
        assert_ne!(said.status, 0, "{words:?}");
    }
    let said = site.installer(&["uninstall", "--yes"]).ended_with(0);
    assert!(said.data.contains("nothing is installed"), "{said:?}");
    let _ = site.installer(&["gc"]).ended_with(0);
    let _ = site.installer(&["log", "verify"]).ended_with(0);
    assert!(!site.prefix().exists());
    // What is wrong is said before anybody is asked.
    let _ = site.install("1").ended_with(0);
    let said = site.installer(&["trust", "remove", &root]).ended_with(2);
    assert!(said.words.contains("install.root-unknown"), "{said:?}");
}

#[test]
fn uninstall_of_one_release_keeps_the_other_and_its_blobs() {
    let site = both();
    let names = names(&site);
    let (first, second) = (&names[0], &names[1]);
    let said = site
        .installer(&["uninstall", "--release", second, "--yes"])
        .ended_with(1);
    assert!(said.words.contains("install.release-in-use"), "{said:?}");
    let _ = site
        .installer(&["uninstall", "--release", first, "--dry-run"])
        .ended_with(0);
    assert!(site.prefix().join("releases").join(first).is_dir());
    let blobs = || {
        fs::read_dir(site.prefix().join("store/sha256"))
            .unwrap()
            .count()
    };
    assert_eq!(blobs(), 3, "two data files and one runtime");
    let _ = site
        .installer(&["uninstall", "--release", first, "--yes"])
        .ended_with(0);
    assert_eq!(blobs(), 2);
    assert_eq!(self::names(&site), std::slice::from_ref(second));
    let _ = site.installer(&["audit"]).ended_with(0);
}

#[test]
fn uninstall_needs_a_person_or_a_flag_and_leaves_what_is_not_its_own() {
    let site = both();
    let said = site.installer(&["uninstall"]).ended_with(2);
    assert!(said.words.contains("--yes"), "{said:?}");
    assert_eq!(site.current().as_deref(), Some("2"));
    fs::write(site.prefix().join("notes.txt"), "somebody's own").unwrap();
    // What the runtime made can be made again; the site's key cannot.
    let tokens = site.prefix().join("cache/tokens");
    fs::create_dir_all(&tokens).unwrap();
    fs::write(tokens.join("a"), "tokens").unwrap();
    let list = site.folder().join("inventory.json").display().to_string();
    let _ = site
        .installer(&["inventory", "--output", &list])
        .ended_with(0);
    let said = site.installer(&["uninstall", "--dry-run"]).ended_with(0);
    assert!(said.data.starts_with("would remove: demo-1-"), "{said:?}");
    let _ = site.installer(&["uninstall", "--yes"]).ended_with(0);
    let mut left: Vec<String> = fs::read_dir(site.prefix())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["keys", "lock", "log", "notes.txt", "trust.d"]);
    // What was trusted stays trusted, and what was newest stays the least that is taken.
    let bundle = site.bundle("1").display().to_string();
    let said = site.installer(&["install", &bundle, "--yes"]).ended_with(4);
    assert!(said.words.contains("install.downgrade"), "{said:?}");
    let _ = site
        .installer(&["install", &bundle, "--yes", "--allow-downgrade"])
        .ended_with(0);
    assert_eq!(site.current().as_deref(), Some("1"));
}
