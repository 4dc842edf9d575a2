//! Toolkits that are archives with a script in them: unpacked beside nothing, run where they were unpacked, then gone.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use e2e::{Played, Rig, bundle_for};

/// An archive of `script` under `name`, packed as `how` says.
fn archive(folder: &Path, how: &str, name: &str, script: &str) -> Vec<u8> {
    let path = folder.join("pack").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let top = name.split('/').next().unwrap();
    let packed = Command::new("tar")
        .args([how, "archive", "-C", "pack", top])
        .current_dir(folder)
        .status();
    assert!(packed.unwrap().success());
    fs::read(folder.join("archive")).unwrap()
}

/// A script that notes its words, its folder's last part and what else is there, and writes the version file.
fn script(name: &str, mark: &str, text: &str) -> String {
    format!(
        "#!/bin/bash\nset -eu\necho \"{name} $* in $(basename \"$PWD\")\" >> \"$FERRY_MACHINE/ran.txt\"\n\
        [ -e \"$FERRY_MACHINE/fail\" ] && {{ echo no space on /; exit 3; }}\n\
        case \"${{1:-}}\" in -u|-U) rm -f \"$FERRY_MACHINE/{mark}\"; exit 0;; esac\n\
        mkdir -p \"$(dirname \"$FERRY_MACHINE/{mark}\")\"\n\
        cat > \"$FERRY_MACHINE/{mark}\" <<'EOF'\n{text}\nEOF\n"
    )
}

const MUSA: &str = "usr/local/musa/version.json";
const MUSA_ARCHIVE: &str = "musa_toolkits_5.2.0.tar.gz";

/// A machine with the driver, and a bundle with the toolkit.
fn musa(scratch: &Path) -> Rig {
    let text = "{\n  \"musa_toolkits\": {\n    \"version\": \"5.2.0\",\n  }\n}";
    let script = script("install.sh", MUSA, text);
    let bytes = archive(scratch, "-czf", "musa_toolkits_install/install.sh", &script);
    let played = Played::recorded("ubuntu-mtt-s4000", &scratch.join("machine"));
    let host = [("toolkit", "5.2.0", MUSA_ARCHIVE, bytes.as_slice())];
    Rig::with(
        played,
        bundle_for("mthreads-gpu", &[("musa", "5.2")], &host),
    )
}

#[test]
fn a_script_of_an_archive_runs_inside_it_and_nothing_of_it_is_left() {
    let scratch = tempfile::tempdir().unwrap();
    let rig = musa(scratch.path());
    let _ = rig.played.forget(MUSA);
    let said = rig.install(&["--with-toolkit", "--dry-run"]).ended_with(0);
    assert!(
        said.data
            .contains("&& env -C musa_toolkits_install bash ./install.sh"),
        "{said:?}"
    );
    let _ = rig.install(&["--with-toolkit"]).ended_with(0);
    assert_eq!(rig.played.ran(), ["install.sh  in musa_toolkits_install"]);
    assert_eq!(rig.site.current().as_deref(), Some("1"));
    assert!(!rig.site.prefix().join("host").exists());
    let _ = rig.install(&["--with-toolkit"]).ended_with(0);
    assert_eq!(rig.played.ran().len(), 1, "it is there");
    let _ = rig.site.installer(&["audit", "--deep"]).ended_with(0);
}

#[test]
fn over_an_older_toolkit_that_one_is_taken_off_first_as_its_vendor_says() {
    let scratch = tempfile::tempdir().unwrap();
    let rig = musa(scratch.path());
    assert!(rig.played.read(MUSA).contains("4.3.0"));
    let _ = rig.install(&["--with-toolkit"]).ended_with(0);
    let ran = [
        "install.sh -u in musa_toolkits_install",
        "install.sh  in musa_toolkits_install",
    ];
    assert_eq!(rig.played.ran(), ran);
    assert!(rig.played.read(MUSA).contains("5.2.0"));
}

#[test]
fn a_script_that_fails_leaves_no_archive_behind_and_is_run_anew() {
    let scratch = tempfile::tempdir().unwrap();
    let rig = musa(scratch.path());
    let _ = rig.played.forget(MUSA);
    rig.played.write("fail", "");
    let said = rig.install(&["--with-toolkit"]).ended_with(1);
    assert!(said.words.contains("no space on /"), "{said:?}");
    assert!(!rig.site.prefix().join("host/work").exists());
    assert_eq!(rig.site.current(), None);
    let _ = rig.played.forget("fail");
    let _ = rig.resume().ended_with(0);
    assert_eq!(rig.site.current().as_deref(), Some("1"));
}

#[test]
fn metax_takes_its_toolkit_off_by_the_script_that_it_left() {
    let scratch = tempfile::tempdir().unwrap();
    let mark = "opt/maca/Version.txt";
    let script = script("sdk-install", mark, "MACA:3.3.0.15");
    let bytes = archive(scratch.path(), "-cJf", "mxmaca-sdk-install.sh", &script);
    let played = Played::recorded("ubuntu-metax-c500", &scratch.path().join("machine"));
    played.write("opt/maca/bin/mxmaca-sdk-install.sh", &script);
    // `/opt` is the machine's.
    played.program(
        "bash",
        "case \"$1\" in /opt/*) exec /bin/bash \"$FERRY_MACHINE$@\";; *) exec /bin/bash \"$@\";; esac",
    );
    let name = "maca-sdk-3.3.0.15-deb-x86_64.tar.xz";
    let host = [("toolkit", "3.3.0.15", name, bytes.as_slice())];
    let fake = bundle_for("metax-gpu", &[("maca", "3.3")], &host);
    let rig = Rig::with(played, fake);
    // Without xz nothing of it can be unpacked.
    let there = rig.played.read("there.txt");
    rig.played
        .write("there.txt", &there.replace("/usr/bin/xz\n", ""));
    let said = rig.preflight("1", &["--with-toolkit"]).ended_with(3);
    assert!(said.data.contains("missing programs: xz"), "{said:?}");
    let said = rig.install(&["--with-toolkit"]).ended_with(3);
    assert!(said.words.contains("host.programs-missing"), "{said:?}");
    rig.played.write("there.txt", &there);
    let _ = rig.install(&["--with-toolkit"]).ended_with(0);
    let ran = rig.played.ran();
    let scripts: Vec<&String> = ran
        .iter()
        .filter(|line| line.starts_with("sdk-install"))
        .collect();
    assert_eq!(
        scripts,
        ["sdk-install -U in work", "sdk-install -f in work"]
    );
    assert!(rig.played.read(mark).contains("3.3.0.15"));
    rig.played.has(&["/opt/maca/bin/mxmaca-sdk-install.sh"]);
    let said = rig.uninstall(&["--dry-run"]).ended_with(0);
    assert!(
        said.data.contains("/opt/maca/bin/mxmaca-sdk-install.sh -U"),
        "{said:?}"
    );
}
