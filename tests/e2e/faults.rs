//! A killed installer, a disk without room, a stick that gives no bytes.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bundle_format::fake::Fake;
use e2e::{RUNTIME, Site, backend, say};

/// A bundle whose blobs take a while to write.
fn large(release: u64) -> Fake {
    let data: Vec<u8> = (0..24_u32 << 20).map(|at| (at ^ (at >> 8)) as u8).collect();
    let mut fake = Fake::with_dataset("demo", release, &[("data.json", data)]);
    let here = std::env::consts::ARCH.parse().unwrap();
    fake.profiles.backends.push(backend("cpu", "cpu", here));
    fake.blobs.push(RUNTIME.to_vec());
    fake
}

/// Starts to install `3`, kills the installer as soon as `came` says so, and finishes. Returns whether it was killed in
/// time.
fn kill_when(site: &Site, came: impl Fn() -> bool) -> bool {
    let mut command = site.command();
    command
        .args(site.words_to_install("3"))
        .arg("--prefix")
        .arg(site.prefix());
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_mins(1);
    while !came() && child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "the install does not begin");
        thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    !child.wait().unwrap().success()
}

/// The old release is whole, and the next installer says that it follows a crash, and ends well.
fn is_mended(site: &Site) {
    assert_eq!(site.current().as_deref(), Some("1"));
    let _ = site.installer(&["status"]).ended_with(0);
    let _ = site.installer(&["audit"]);
    let said = site.install("3").ended_with(0);
    assert!(said.words.contains("was cut off last time"), "{said:?}");
    assert_eq!(site.current().as_deref(), Some("3"));
    assert!(!has_unfinished(site));
    let _ = site.installer(&["audit", "--deep"]).ended_with(0);
    let _ = site.installer(&["log", "verify"]).ended_with(0);
}

fn has_unfinished(site: &Site) -> bool {
    let marked = |folder: &str, mark: &str| {
        let entries = fs::read_dir(site.prefix().join(folder)).unwrap();
        let mut names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.any(|name| name.starts_with(mark))
    };
    marked("store/sha256", ".part-") || marked("releases", ".staging-")
}

#[test]
fn an_installer_that_is_killed_while_it_writes_leaves_the_old_release() {
    // A fast disk may be done before the kill: then once more, from the beginning.
    for _ in 0..20 {
        let mut site = Site::new();
        let _ = site.install("1").ended_with(0);
        let fake = large(3);
        site.fake().profiles = fake.profiles;
        site.fake().blobs = fake.blobs;
        site.carry("3");
        if kill_when(&site, || has_unfinished(&site)) && site.current().as_deref() == Some("1") {
            return is_mended(&site);
        }
    }
    panic!("the installer was never killed in time");
}

#[test]
fn an_installer_that_is_killed_in_its_smoke_test_leaves_the_old_release() {
    let mut site = Site::new();
    let _ = site.install("1").ended_with(0);
    let came = site.folder().join("came");
    let go = site.folder().join("go");
    let (first, again) = (came.display(), go.display());
    let waits =
        format!("#!/bin/sh\ntouch '{first}'\nwhile [ ! -e '{again}' ]; do sleep 0.02; done\n");
    let mut file = bundle_format::fake::placed_file("bin/ferry-runtime", waits.as_bytes());
    file.executable = true;
    let fake = site.fake();
    fake.profiles.release = 3;
    fake.profiles.backends[0].files = vec![file];
    fake.blobs.retain(|blob| blob != RUNTIME);
    fake.blobs.push(waits.into_bytes());
    site.carry("3");
    assert!(kill_when(&site, || came.exists()));
    assert!(has_unfinished(&site));
    fs::write(&go, "").unwrap();
    is_mended(&site);
}

#[test]
fn a_disk_without_room_is_refused_before_anything_is_written() {
    let site = Site::of(large(1));
    let prefix = site.prefix();
    fs::create_dir(&prefix).unwrap();
    let installer = e2e::installer().display().to_string();
    let mut words = site.words_to_install("1");
    words.extend(["--prefix".to_owned(), prefix.display().to_string()]);
    // A file system of one mebibyte over the prefix, in a namespace of its own.
    let script = "mount -t tmpfs -o size=1m tmpfs \"$1\" || exit 77; shift; \"$@\"; status=$?; \
                  [ -z \"$(ls -A \"$0\")\" ] || exit 78; exit $status";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
    command
        .arg(&prefix)
        .arg(&prefix)
        .arg(&installer)
        .args(&words);
    command.env("LANG", "C").stdin(Stdio::null());
    let said = say(&mut command);
    if said.status == 77 || said.words.contains("unshare") {
        eprintln!("skipped: no namespace of one's own here: {}", said.words);
        return;
    }
    let said = said.ended_with(5);
    assert!(said.words.contains("install.no-space"), "{said:?}");
}

#[test]
fn a_bundle_that_may_not_be_read_is_named() {
    let site = Site::new();
    let said = site.install("absent").ended_with(5);
    assert!(said.words.contains("bundle.unreadable"), "{said:?}");
    assert!(said.words.contains("absent.ferry"), "{said:?}");
    assert!(
        said.words.contains("No such file"),
        "the system's own reason is told: {said:?}"
    );
    assert!(!site.prefix().exists());
}
