//! `probe`: this machine, recorded and played back.

use e2e::Site;

#[test]
fn a_recording_of_this_machine_tells_the_same_facts() {
    let site = Site::new();
    let folder = site.folder().join("recorded").display().to_string();
    let first = site
        .bare(&["probe", "--record", &folder, "--json"])
        .ended_with(0)
        .json();
    let again = site
        .bare(&["probe", "--host", &folder, "--json"])
        .ended_with(0)
        .json();
    assert_eq!(first, again);
    for fact in [
        "cpu",
        "arch",
        "kernel",
        "glibc",
        "memory",
        "os",
        "page_size",
    ] {
        assert!(
            first[fact]["value"] != serde_json::Value::Null,
            "{fact}: {first}"
        );
    }
    // A verdict on the recording is the verdict on the machine.
    let bundle = site.bundle("1").display().to_string();
    let trust = site.fingerprint();
    let preflight = |more: &[&str]| {
        let mut words = vec!["preflight", &bundle, "--trust-root", &trust, "--json"];
        words.extend(more);
        site.installer(&words).ended_with(0).json()["backends"].clone()
    };
    assert_eq!(preflight(&[]), preflight(&["--host", &folder]));
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let site = Site::new();
    std::fs::write(site.folder().join("taken"), "").unwrap();
    let folder = site.folder().join("taken").display().to_string();
    let said = site.bare(&["probe", "--record", &folder]).ended_with(5);
    assert!(said.words.contains("installer.record-failed"), "{said:?}");
    assert!(said.words.contains(&folder), "{said:?}");
}

#[test]
fn a_recording_that_is_not_there_is_refused() {
    let site = Site::new();
    let said = site
        .bare(&["probe", "--host", "no-such-folder"])
        .ended_with(2);
    assert!(
        said.words.contains("installer.host-not-recorded"),
        "{said:?}"
    );
}
