//! Driver, firmware and toolkit from a bundle, on a machine that a folder plays.

use std::fs;

use bundle_format::fake::placed_file;
use e2e::{Played, Said, Site, ascend_bundle, host_item, installer_of};
use manifest_schema::{ByteSize, Digest};

/// A site with the bundle, and the machine beside it.
fn world() -> (Site, Played) {
    let site = Site::of(ascend_bundle());
    let played = Played::without_driver(&site.folder().join("machine"));
    (site, played)
}

fn words(site: &Site, played: &Played, bundle: &str, more: &[&str]) -> Vec<String> {
    let mut words = site.words_to_install(bundle);
    let machine = played.folder().display().to_string();
    words.extend(["--machine".to_owned(), machine]);
    words.extend(more.iter().map(|word| (*word).to_owned()));
    words
}

const BOTH: [&str; 2] = ["--with-driver", "--with-toolkit"];
const TERMS: [&str; 4] = [
    "--accept-eula",
    "huawei-driver",
    "--accept-eula",
    "huawei-cann",
];

fn install(site: &Site, played: &Played, more: &[&str]) -> Said {
    site.installer(&words(site, played, "1", more))
}

fn all() -> Vec<&'static str> {
    [&BOTH[..], &TERMS].concat()
}

const FIRST: [&str; 4] = [
    "groupadd HwHiAiUser",
    "useradd -g HwHiAiUser -d /home/HwHiAiUser -m HwHiAiUser -s /bin/bash",
    "driver --nox11 --full --quiet --install-for-all",
    "firmware --nox11 --full --quiet",
];

#[test]
fn driver_and_firmware_wait_for_a_start_then_toolkit_and_release_follow() {
    let (site, played) = world();
    let said = install(&site, &played, &all()).ended_with(6);
    assert!(said.data.contains("install --resume"), "{said:?}");
    assert_eq!(played.ran(), FIRST);
    assert_eq!(site.current(), None);
    // Before the start nothing goes on, whichever way it is asked.
    for words in [
        words(&site, &played, "1", &all()),
        ["install", "--resume"].map(str::to_owned).to_vec(),
    ] {
        let said = site.installer(&words).ended_with(6);
        assert!(said.words.contains("install.host-reboot-first"), "{said:?}");
    }
    assert_eq!(played.ran().len(), FIRST.len());

    played.start("second");
    let said = site
        .installer(&["install", "--resume", "--yes"])
        .ended_with(0);
    assert!(
        !said.words.contains("huawei"),
        "terms are asked for once: {said:?}"
    );
    let toolkit = "toolkit --nox11 --install --quiet --install-for-all";
    assert_eq!(played.ran()[FIRST.len()..], [toolkit]);
    assert_eq!(site.current().as_deref(), Some("1"));
    assert!(!site.prefix().join("host").exists());
    let terms = site.prefix().join("current/eulas/huawei-cann.txt");
    assert!(fs::read_to_string(terms).unwrap().contains("许可条款"));

    let _ = site.installer(&["audit"]).ended_with(0);
    let _ = site.installer(&["log", "verify"]).ended_with(0);
    let log = site.installer(&["log", "--json"]).ended_with(0).data;
    let text = Digest::of("Terms of the toolkit.\n许可条款\n".as_bytes()).to_string();
    for part in [
        "accept-terms",
        &text,
        "\"by\":\"flag\"",
        "--install-for-all",
        "host-end",
    ] {
        assert!(log.contains(part), "{part}: {log}");
    }
    // All is there: nothing runs again, and there is nothing to resume.
    let _ = install(&site, &played, &all()).ended_with(0);
    assert_eq!(played.ran().len(), FIRST.len() + 1);
    let said = site.installer(&["install", "--resume"]).ended_with(2);
    assert!(said.words.contains("install.nothing-to-resume"), "{said:?}");
}

#[test]
fn without_its_own_switch_the_machine_is_only_looked_at() {
    let (site, played) = world();
    let said = install(&site, &played, &TERMS).ended_with(3);
    assert!(said.words.contains("host.driver-missing"), "{said:?}");
    assert_eq!(played.ran(), [""; 0]);
    let said = install(
        &site,
        &played,
        &["--with-toolkit", "--accept-eula", "huawei-cann"],
    );
    assert!(said.ended_with(3).words.contains("host.driver-missing"));
    assert_eq!(played.ran(), [""; 0]);
}

#[test]
fn nobody_accepts_terms_silently() {
    let (site, played) = world();
    let before = site.listing();
    for more in [
        &BOTH[..],
        &[
            "--with-driver",
            "--with-toolkit",
            "--accept-eula",
            "huawei-driver",
        ],
    ] {
        let said = install(&site, &played, more).ended_with(2);
        assert!(said.words.contains("--accept-eula huawei-cann"), "{said:?}");
    }
    assert_eq!(
        site.listing(),
        before,
        "nothing was done, nothing was logged"
    );
    // Terms of what is not asked for are nobody's business; the whole text can be read beforehand.
    let mut looked = words(
        &site,
        &played,
        "1",
        &["--dry-run", "--verbose", "--with-driver"],
    );
    looked.extend(["--override", "host.toolkit-missing"].map(str::to_owned));
    let said = site.installer(&looked).ended_with(0);
    assert!(said.data.contains("Terms of the driver."), "{said:?}");
    assert!(!said.data.contains("huawei-cann"), "{said:?}");
}

#[test]
fn a_dry_run_shows_every_command_and_changes_nothing() {
    let (site, played) = world();
    let before = site.listing();
    let more = [&all()[..], &["--dry-run"]].concat();
    let said = install(&site, &played, &more).ended_with(0);
    for command in FIRST
        .iter()
        .chain(&["toolkit --nox11 --install --quiet --install-for-all"])
    {
        let (program, words) = command.split_once(' ').unwrap();
        assert!(
            said.data.contains(program) && said.data.contains(words),
            "{command}: {said:?}"
        );
    }
    assert!(
        said.data.contains("--uninstall"),
        "the way back is shown: {said:?}"
    );
    assert_eq!(site.listing(), before);
}

#[test]
fn an_installer_that_fails_is_taken_back_and_a_second_try_goes_on() {
    let (site, played) = world();
    played.write("fail-firmware", "");
    let said = install(&site, &played, &all()).ended_with(1);
    assert!(said.words.contains("install.host-failed]"), "{said:?}");
    assert!(said.words.contains("no space for firmware"), "{said:?}");
    assert_eq!(played.ran(), FIRST);
    fs::remove_file(played.folder().join("fail-firmware")).unwrap();
    // The driver is there and is not run again; half a first installation is no upgrade.
    let _ = install(&site, &played, &all()).ended_with(6);
    assert_eq!(
        played.ran()[FIRST.len()..],
        ["firmware --nox11 --full --quiet"]
    );
    played.start("second");
    played.write("fail-toolkit", "");
    let said = site
        .installer(&["install", "--resume", "--yes"])
        .ended_with(1);
    assert!(
        said.words.contains("install.host-failed-undone"),
        "{said:?}"
    );
    assert_eq!(played.ran().last().unwrap(), "toolkit --uninstall");
    assert_eq!(site.current(), None);
    fs::remove_file(played.folder().join("fail-toolkit")).unwrap();
    let _ = site
        .installer(&["install", "--resume", "--yes"])
        .ended_with(0);
    assert_eq!(site.current().as_deref(), Some("1"));
}

#[test]
fn an_upgrade_is_firmware_first() {
    let (site, played) = world();
    for (kind, version) in [("driver", "25.0.rc1"), ("firmware", "7.5.0")] {
        let path = format!("usr/local/Ascend/{kind}/version.info");
        played.write(&path, &format!("Version={version}\n"));
    }
    played.start("second");
    let _ = install(&site, &played, &all()).ended_with(6);
    let ran = [
        "firmware --nox11 --upgrade --quiet",
        "driver --nox11 --upgrade --quiet",
    ];
    assert_eq!(played.ran()[2..], ran);
}

#[test]
fn what_an_installer_needs_is_asked_for_before_it_runs() {
    let (site, played) = world();
    played.write("there.txt", "/usr/bin/bash\n");
    played.write("cmd/id -un.txt", "li\n");
    let efi = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
    played.write(efi, "\u{6}\0\0\0\u{1}");
    played.write(
        "cmd/df -Pk _tmp.txt",
        "Filesystem 1024-blocks Used Available Capacity Mounted on\ntmpfs 9 9 0 100% /tmp\n",
    );
    let said = install(&site, &played, &all()).ended_with(3);
    for part in [
        "host.root",
        "host.programs-missing",
        "host.kernel-headers-missing",
    ] {
        assert!(said.words.contains(part), "{part}: {said:?}");
    }
    let bundle = site.bundle("1").display().to_string();
    let machine = played.folder().display().to_string();
    let trust = site.fingerprint();
    let rest = [
        &bundle,
        "--machine",
        &machine,
        "--trust-root",
        &trust,
        "--with-driver",
    ];
    let said = site
        .installer(&[&["preflight"], &rest[..]].concat())
        .ended_with(3);
    for code in [
        "host.root",
        "host.kernel-headers-missing",
        "host.programs-missing",
        "host.secure-boot",
        "host.temporary-small",
        "host.vendor-unsigned",
    ] {
        assert!(said.data.contains(&format!("[{code}]")), "{code}: {said:?}");
    }
    assert_eq!(played.ran(), [""; 0]);
}

#[test]
fn an_installer_with_other_bytes_is_not_run() {
    let (site, played) = world();
    let spot = installer_of("driver", "25.5.0");
    site.spoil("flipped", |bytes| {
        let at = bytes
            .windows(spot.len())
            .position(|window| window == spot)
            .unwrap();
        bytes[at + 30] ^= 1;
    });
    let words = words(&site, &played, "flipped", &all());
    let said = site.installer(&words).ended_with(4);
    assert!(said.words.contains("bundle.piece-differs"), "{said:?}");
    assert!(
        !played.ran().iter().any(|line| line.starts_with("driver")),
        "{:?}",
        played.ran()
    );
}

#[test]
fn an_insider_cannot_name_a_switch_a_path_or_a_second_text() {
    for name in ["--uninstall", "../../bin/sh", "a b.run", ".hidden"] {
        let (mut site, played) = world();
        let item = &mut site.fake().profiles.backends[0].host[2];
        // `..` is no path of a bundle at all; anything else is looked at again.
        match name.parse() {
            Ok(path) => item.file.path = path,
            Err(_) => continue,
        }
        site.carry("hostile");
        let said = site
            .installer(&words(&site, &played, "hostile", &all()))
            .ended_with(4);
        assert!(said.words.contains("install.host-item"), "{name}: {said:?}");
        assert_eq!(played.ran(), [""; 0], "{name}");
    }
    let (mut site, played) = world();
    let name = "huawei-driver".parse().unwrap();
    site.fake().profiles.backends[0].host[0]
        .eula
        .as_mut()
        .unwrap()
        .name = name;
    site.carry("two-texts");
    let said = site
        .installer(&words(&site, &played, "two-texts", &all()))
        .ended_with(4);
    assert!(said.words.contains("eulas/huawei-driver.txt"), "{said:?}");
    assert_eq!(played.ran(), [""; 0]);
}

#[test]
fn an_installer_is_taken_out_of_its_archive_and_nothing_else_is() {
    let (mut site, played) = world();
    let inside = installer_of("driver", "25.5.0");
    let zip = zip_of(&[
        ("pack/driver.run", &inside),
        ("pack/other.run", b"#!/bin/sh\nexit 1\n"),
    ]);
    let mut item = host_item("driver", "25.5.0", placed_file("Ascend-hdk.zip", &zip));
    item.member = Some("pack/driver.run".parse().unwrap());
    let fake = site.fake();
    let old = std::mem::replace(&mut fake.profiles.backends[0].host[2], item.clone());
    fake.blobs
        .retain(|blob| Digest::of(blob) != old.file.digest);
    let eula = old.eula.unwrap();
    fake.blobs
        .retain(|blob| Digest::of(blob) != eula.text.digest);
    fake.blobs.push(zip.clone());
    site.carry("zip");
    let more = ["--with-driver", "--override", "host.toolkit-missing"];
    let _ = site
        .installer(&words(&site, &played, "zip", &more))
        .ended_with(6);
    assert_eq!(played.ran(), FIRST);

    let played = Played::without_driver(&site.folder().join("other-machine"));
    let _ = site.installer(&["uninstall", "--yes"]);
    item.member = Some("pack/absent.run".parse().unwrap());
    site.fake().profiles.backends[0].host[2] = item;
    site.carry("no-member");
    let said = site
        .installer(&words(&site, &played, "no-member", &more))
        .ended_with(4);
    assert!(said.words.contains("install.host-member"), "{said:?}");
    assert_eq!(played.ran(), FIRST[..2]);
}

#[test]
fn terms_of_data_are_asked_for_too() {
    let mut site = Site::new();
    let text = b"Only for research.\n".to_vec();
    let eula = manifest_schema::Eula {
        name: "demo-data".parse().unwrap(),
        text: placed_file("LICENSE.txt", &text),
    };
    assert_eq!(eula.text.size, ByteSize(text.len() as u64));
    site.fake().profiles.components[0].eulas.push(eula);
    site.fake().blobs.push(text);
    site.carry("terms");
    let said = site.install("terms").ended_with(2);
    assert!(said.words.contains("--accept-eula demo-data"), "{said:?}");
    let mut words = site.words_to_install("terms");
    words.extend(["--accept-eula", "demo-data"].map(str::to_owned));
    let _ = site.installer(&words).ended_with(0);
    let _ = site.installer(&["audit"]).ended_with(0);
}

fn zip_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    use std::io::Write as _;
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in members {
        let options = zip::write::SimpleFileOptions::default();
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// What `openssl` makes of `bytes` as a vendor: the root, and a signature in DER.
fn signed_by_a_vendor(site: &Site, bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let folder = site.folder().join("vendor");
    if !folder.exists() {
        fs::create_dir(&folder).unwrap();
    }
    let openssl = |words: &str| {
        let mut command = std::process::Command::new("openssl");
        let said = command
            .args(words.split(' '))
            .current_dir(&folder)
            .output()
            .unwrap();
        assert!(
            said.status.success(),
            "{words}: {}",
            String::from_utf8_lossy(&said.stderr)
        );
    };
    if !folder.join("root.pem").exists() {
        let rights = "basicConstraints=CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=codeSigning\n";
        fs::write(folder.join("rights"), rights).unwrap();
        openssl(
            "req -x509 -newkey rsa:2048 -nodes -keyout root.key -subj /O=Vendor/CN=Root -days 9000 -out root.pem",
        );
        openssl(
            "req -new -newkey rsa:2048 -nodes -keyout signer.key -subj /O=Vendor/CN=Signer -out signer.csr",
        );
        openssl(
            "x509 -req -in signer.csr -CA root.pem -CAkey root.key -set_serial 3 -days 8000 -sha256 -extfile rights -out signer.pem",
        );
    }
    fs::write(folder.join("file"), bytes).unwrap();
    openssl(
        "cms -sign -binary -in file -signer signer.pem -inkey signer.key -md sha256 -outform DER -out file.cms",
    );
    let read = |name: &str| fs::read(folder.join(name)).unwrap();
    (read("root.pem"), read("file.cms"))
}

/// Bundles `good` and `of-another-file`: the vendor signed the driver of the first, and something else than that of the
/// second.
fn signed_bundles() -> (Site, Played) {
    let (mut site, played) = world();
    for (signed, name) in [("driver", "good"), ("firmware", "of-another-file")] {
        let version = if signed == "driver" {
            "25.5.0"
        } else {
            "7.7.0.2.220"
        };
        let (root, cms) = signed_by_a_vendor(&site, &installer_of(signed, version));
        let signature = manifest_schema::HostSignature {
            cms: placed_file("driver.run.cms", &cms),
            crl: None,
            root: placed_file("root.pem", &root),
        };
        let fake = site.fake();
        let item = &mut fake.profiles.backends[0].host[2];
        if let Some(old) = item.signature.replace(signature) {
            fake.blobs.retain(|blob| Digest::of(blob) != old.cms.digest);
        } else {
            fake.blobs.push(root);
        }
        fake.blobs.push(cms);
        site.carry(name);
    }
    (site, played)
}

#[test]
fn the_vendors_own_signature_is_checked_before_its_file_is_run() {
    let (site, _) = signed_bundles();
    let more = [&all()[..], &["--override", "host.toolkit-missing"]].concat();
    let played = Played::without_driver(&site.folder().join("bad-machine"));
    let said = site
        .installer(&words(&site, &played, "of-another-file", &more))
        .ended_with(4);
    assert!(
        said.words.contains("install.host-vendor-signature"),
        "{said:?}"
    );
    assert_eq!(
        played.ran(),
        FIRST[..2],
        "accounts, and nothing of the vendor's"
    );
    let played = Played::without_driver(&site.folder().join("good-machine"));
    let _ = site.installer(&["uninstall", "--yes"]);
    let _ = site
        .installer(&words(&site, &played, "good", &more))
        .ended_with(6);
    assert_eq!(played.ran(), FIRST);
}

#[test]
fn a_preflight_and_a_dry_run_say_who_signed_and_what_does_not_hold() {
    let (site, played) = signed_bundles();
    let before = site.listing();
    let preflight = |name: &str, more: &[&str]| {
        let bundle = site.bundle(name).display().to_string();
        let (machine, trust) = (played.folder().display().to_string(), site.fingerprint());
        let words = [
            "preflight",
            &bundle,
            "--machine",
            &machine,
            "--trust-root",
            &trust,
        ];
        site.installer(&[&words[..], more].concat())
    };
    let said = preflight("good", &BOTH).ended_with(0);
    assert!(
        said.data
            .contains("Ascend-driver_25.5.0.run: signed by CN=Signer,O=Vendor"),
        "{said:?}"
    );
    assert!(said.data.contains("[vendor.remark-no-list]"), "{said:?}");
    let said = preflight("of-another-file", &BOTH).ended_with(3);
    let broken = "[host.vendor-signature-broken] Ascend-driver_25.5.0.run";
    assert!(said.data.contains(&format!("✗ {broken}")), "{said:?}");
    assert!(
        said.data
            .contains("is not what `CN=Signer,O=Vendor` signed"),
        "{said:?}"
    );
    // On a machine whose driver is there it would not be run: then it is only worth a look.
    let other = Played::without_driver(&site.folder().join("other"));
    for (kind, version) in [("driver", "25.5.0"), ("firmware", "7.7.0.2.220")] {
        other.write(
            &format!("usr/local/Ascend/{kind}/version.info"),
            &format!("Version={version}\n"),
        );
    }
    other.write(
        "usr/local/Ascend/cann/aarch64-linux/ascend_toolkit_install.info",
        "version=8.5.0\n",
    );
    other.start("second");
    let bundle = site.bundle("of-another-file").display().to_string();
    let (machine, trust) = (other.folder().display().to_string(), site.fingerprint());
    let look = [
        "preflight",
        &bundle,
        "--machine",
        &machine,
        "--trust-root",
        &trust,
    ];
    let said = site.installer(&look).ended_with(0);
    assert!(said.data.contains(&format!("! {broken}")), "{said:?}");
    fs::remove_dir_all(other.folder()).unwrap();

    let dry = [&all()[..], &["--dry-run"]].concat();
    let said = site
        .installer(&words(&site, &played, "good", &dry))
        .ended_with(0);
    assert!(
        said.data.contains("signed by CN=Signer,O=Vendor"),
        "{said:?}"
    );
    let said = site
        .installer(&words(&site, &played, "of-another-file", &dry))
        .ended_with(4);
    assert!(
        said.words.contains("install.host-vendor-signature"),
        "{said:?}"
    );
    assert!(said.data.contains(&format!("✗ {broken}")), "{said:?}");
    assert_eq!(site.listing(), before);
    assert_eq!(played.ran(), [""; 0]);
}

#[test]
fn what_was_put_on_the_machine_is_named_with_the_vendors_way_and_not_taken_off() {
    let (site, played) = world();
    let _ = install(&site, &played, &all()).ended_with(6);
    played.start("second");
    let _ = site
        .installer(&["install", "--resume", "--yes"])
        .ended_with(0);
    let ran = played.ran();
    let script = "usr/local/Ascend/driver/script/uninstall.sh";
    played.write(script, "#!/bin/sh\n");
    let toolkit = "usr/local/Ascend/cann-8.5.0/cann_uninstall.sh";
    played.write(toolkit, "#!/bin/sh\n");
    let machine = played.folder().display().to_string();
    let uninstall = |more: &[&str]| {
        let words = ["uninstall", "--machine", &machine];
        site.installer(&[&words[..], more].concat()).ended_with(0)
    };
    let said = uninstall(&["--dry-run"]);
    let at = |text: &str| {
        said.data
            .find(text)
            .unwrap_or_else(|| panic!("{text}: {said:?}"))
    };
    // The way back: what came last goes first.
    assert!(
        at(&format!("bash /{toolkit}")) < at("firmware 7.7.0.2.220: no source"),
        "{said:?}"
    );
    assert!(
        at("firmware 7.7.0.2.220: no source") < at(&format!("bash /{script}")),
        "{said:?}"
    );
    let said = uninstall(&["--yes", "--json"]).json();
    let stays = said["on_machine"].as_array().unwrap();
    assert_eq!(stays.len(), 3, "{said}");
    assert_eq!(stays[2]["kinds"][0], "driver");
    assert_eq!(stays[2]["remove"][0], "bash");
    assert_eq!(played.ran(), ran, "nothing was run");
    // A person did it: it is named no more.
    fs::remove_dir_all(played.folder().join("usr/local/Ascend/driver")).unwrap();
    let said = uninstall(&["--yes"]);
    assert!(!said.data.contains("driver/script"), "{said:?}");
}
