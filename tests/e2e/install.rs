//! Install, look, go back, take away.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use e2e::Site;

#[test]
fn install_rollback_and_uninstall() {
    let site = Site::new();
    let plan = site.words_to_install("1");
    let plan: Vec<String> = plan.into_iter().chain(["--dry-run".to_owned()]).collect();
    let _ = site.installer(&plan).ended_with(0);
    assert!(!site.prefix().exists(), "a dry run writes nothing");

    let _ = site.install("1").ended_with(0);
    assert_eq!(site.current().as_deref(), Some("1"));
    let current = site.prefix().join("current");
    assert!(current.join("datasets/demo/data.json").is_file());
    assert!(current.join("bin/ferry-runtime").is_file());

    let _ = site.install("2").ended_with(0);
    assert_eq!(site.current().as_deref(), Some("2"));
    let _ = site.installer(&["audit"]).ended_with(0);
    let _ = site.installer(&["rollback"]).ended_with(0);
    assert_eq!(site.current().as_deref(), Some("1"));
    let status = site.installer(&["status", "--json"]).ended_with(0).json();
    assert_eq!(status["releases"].as_array().unwrap().len(), 2);

    let _ = site.installer(&["uninstall", "--yes"]).ended_with(0);
    assert_eq!(site.current(), None);
    assert!(!site.prefix().join("store").exists());
    assert!(site.prefix().join("log/actions.jsonl").is_file());
}

#[test]
fn an_audit_names_what_is_not_as_signed_and_rollback_refuses_it() {
    let site = Site::new();
    let _ = site.install("1").ended_with(0);
    let _ = site.install("2").ended_with(0);
    let _ = site.installer(&["rollback"]).ended_with(0);
    let data = site.prefix().join("current/datasets/demo/data.json");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o644)).unwrap();
    let mut bytes = fs::read(&data).unwrap();
    bytes[100] ^= 1;
    fs::write(&data, bytes).unwrap();
    fs::write(site.prefix().join("current/backend/stowaway.so"), "x").unwrap();

    let report = site.installer(&["audit", "--json"]).ended_with(4).json();
    let files = report["audit"]["files"].as_array().unwrap();
    let standing = |end: &str| {
        let file = files
            .iter()
            .find(|file| file["path"].as_str().unwrap().ends_with(end))
            .unwrap_or_else(|| panic!("{end} is not named"));
        file["standing"].as_str().unwrap().to_owned()
    };
    assert_eq!(standing("datasets/demo/data.json"), "changed");
    assert_eq!(standing("backend/stowaway.so"), "unsigned");
    assert_eq!(standing("backend/bin/ferry-runtime"), "signed");

    // The damaged release is left, and nothing leads back to it.
    let _ = site.install("2").ended_with(0);
    let said = site.installer(&["rollback"]).ended_with(4);
    assert!(said.words.contains("install.release-damaged"), "{said:?}");
    assert_eq!(site.current().as_deref(), Some("2"));
}

#[test]
fn two_installers_at_once_leave_one_whole_release() {
    let site = Site::new();
    let start = || {
        let mut command = site.command();
        command.args(site.words_to_install("1"));
        command.arg("--prefix").arg(site.prefix());
        command
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    };
    let both = [start(), start()];
    let ended: Vec<_> = both
        .into_iter()
        .map(|child| child.wait_with_output().unwrap())
        .collect();
    assert!(
        ended.iter().any(|output| output.status.success()),
        "{ended:?}"
    );
    for output in ended.iter().filter(|output| !output.status.success()) {
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(words.contains("install.lock-held"), "{words}");
    }
    let _ = site.installer(&["audit"]).ended_with(0);
}
