//! The vendor's own signature: checked before its file is run, and shown before anything is done.

use std::fs;

use bundle_format::fake::placed_file;
use e2e::{ASCEND_COMMANDS, ASCEND_FLAGS, Rig, Site, installer_of};
use manifest_schema::Digest;

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
fn signed_bundles() -> Rig {
    let mut rig = Rig::ascend();
    for (signed, name) in [("driver", "good"), ("firmware", "of-another-file")] {
        let version = if signed == "driver" {
            "25.5.0"
        } else {
            "7.7.0.2.220"
        };
        let (root, cms) = signed_by_a_vendor(&rig.site, &installer_of(signed, version));
        let signature = manifest_schema::HostSignature {
            cms: placed_file("driver.run.cms", &cms),
            crl: None,
            root: placed_file("root.pem", &root),
        };
        let fake = rig.site.fake();
        let item = &mut fake.profiles.backends[0].host[2];
        if let Some(old) = item.signature.replace(signature) {
            fake.blobs.retain(|blob| Digest::of(blob) != old.cms.digest);
        } else {
            fake.blobs.push(root);
        }
        fake.blobs.push(cms);
        rig.site.carry(name);
    }
    rig
}

#[test]
fn the_vendors_own_signature_is_checked_before_its_file_is_run() {
    let mut rig = signed_bundles();
    let more = [&ASCEND_FLAGS[..], &["--override", "host.toolkit-missing"]].concat();
    rig.moves_to("bad-machine");
    let said = rig.install_of("of-another-file", &more).ended_with(4);
    assert!(
        said.words.contains("install.host-vendor-signature"),
        "{said:?}"
    );
    assert_eq!(
        rig.played.ran(),
        ASCEND_COMMANDS[..2],
        "accounts, and nothing of the vendor's"
    );
    rig.moves_to("good-machine");
    let _ = rig.site.installer(&["uninstall", "--yes"]);
    let _ = rig.install_of("good", &more).ended_with(6);
    assert_eq!(rig.played.ran(), ASCEND_COMMANDS);
}

#[test]
fn a_preflight_and_a_dry_run_say_who_signed_and_what_does_not_hold() {
    let mut rig = signed_bundles();
    let before = rig.site.listing();
    let said = rig.preflight("good", &ASCEND_FLAGS[..2]).ended_with(0);
    assert!(
        said.data
            .contains("Ascend-driver_25.5.0.run: signed by CN=Signer,O=Vendor"),
        "{said:?}"
    );
    assert!(said.data.contains("[vendor.remark-no-list]"), "{said:?}");
    let said = rig
        .preflight("of-another-file", &ASCEND_FLAGS[..2])
        .ended_with(3);
    let broken = "[host.vendor-signature-broken] Ascend-driver_25.5.0.run";
    assert!(said.data.contains(&format!("✗ {broken}")), "{said:?}");
    assert!(
        said.data
            .contains("is not what `CN=Signer,O=Vendor` signed"),
        "{said:?}"
    );
    // On a machine whose driver is there it would not be run: then it is only worth a look.
    let first = rig.moves_to("other");
    for (kind, version) in [("driver", "25.5.0"), ("firmware", "7.7.0.2.220")] {
        let path = format!("usr/local/Ascend/{kind}/version.info");
        rig.played.write(&path, &format!("Version={version}\n"));
    }
    rig.played.write(
        "usr/local/Ascend/cann/aarch64-linux/ascend_toolkit_install.info",
        "version=8.5.0\n",
    );
    rig.played.start("second");
    let said = rig.preflight("of-another-file", &[]).ended_with(0);
    assert!(said.data.contains(&format!("! {broken}")), "{said:?}");
    fs::remove_dir_all(rig.played.folder()).unwrap();
    rig.played = first;

    let dry = [&ASCEND_FLAGS[..], &["--dry-run"]].concat();
    let said = rig.install_of("good", &dry).ended_with(0);
    assert!(
        said.data.contains("signed by CN=Signer,O=Vendor"),
        "{said:?}"
    );
    let said = rig.install_of("of-another-file", &dry).ended_with(4);
    assert!(
        said.words.contains("install.host-vendor-signature"),
        "{said:?}"
    );
    assert!(said.data.contains(&format!("✗ {broken}")), "{said:?}");
    assert_eq!(rig.site.listing(), before);
    assert_eq!(rig.played.ran(), [""; 0]);
}
