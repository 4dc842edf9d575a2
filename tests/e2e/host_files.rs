//! A vendor's file is run only as it was signed, from where it was signed, under a name that is only a name.

use bundle_format::fake::placed_file;
use e2e::{ASCEND_COMMANDS, ASCEND_FLAGS, Rig, host_item, installer_of};
use manifest_schema::Digest;

#[test]
fn an_installer_with_other_bytes_is_not_run() {
    let rig = Rig::ascend();
    let spot = installer_of("driver", "25.5.0");
    rig.site.spoil("flipped", |bytes| {
        let at = bytes
            .windows(spot.len())
            .position(|window| window == spot)
            .unwrap();
        bytes[at + 30] ^= 1;
    });
    let said = rig.install_of("flipped", &ASCEND_FLAGS).ended_with(4);
    assert!(said.words.contains("bundle.piece-differs"), "{said:?}");
    assert!(
        !rig.played
            .ran()
            .iter()
            .any(|line| line.starts_with("driver")),
        "{:?}",
        rig.played.ran()
    );
}

#[test]
fn an_insider_cannot_name_a_switch_a_path_or_a_second_text() {
    for name in ["--uninstall", "../../bin/sh", "a b.run", ".hidden"] {
        let mut rig = Rig::ascend();
        let item = &mut rig.site.fake().profiles.backends[0].host[2];
        // `..` is no path of a bundle at all; anything else is looked at again.
        match name.parse() {
            Ok(path) => item.file.path = path,
            Err(_) => continue,
        }
        rig.site.carry("hostile");
        let said = rig.install_of("hostile", &ASCEND_FLAGS).ended_with(4);
        assert!(said.words.contains("install.host-item"), "{name}: {said:?}");
        assert_eq!(rig.played.ran(), [""; 0], "{name}");
    }
    let mut rig = Rig::ascend();
    let name = "huawei-driver".parse().unwrap();
    rig.site.fake().profiles.backends[0].host[0]
        .eula
        .as_mut()
        .unwrap()
        .name = name;
    rig.site.carry("two-texts");
    let said = rig.install_of("two-texts", &ASCEND_FLAGS).ended_with(4);
    assert!(said.words.contains("eulas/huawei-driver.txt"), "{said:?}");
    assert_eq!(rig.played.ran(), [""; 0]);
}

#[test]
fn an_installer_is_taken_out_of_its_archive_and_nothing_else_is() {
    let mut rig = Rig::ascend();
    let inside = installer_of("driver", "25.5.0");
    let zip = zip_of(&[
        ("pack/driver.run", &inside),
        ("pack/other.run", b"#!/bin/sh\nexit 1\n"),
    ]);
    let mut item = host_item("driver", "25.5.0", placed_file("Ascend-hdk.zip", &zip));
    item.member = Some("pack/driver.run".parse().unwrap());
    let fake = rig.site.fake();
    let old = std::mem::replace(&mut fake.profiles.backends[0].host[2], item.clone());
    fake.blobs
        .retain(|blob| Digest::of(blob) != old.file.digest);
    let eula = old.eula.unwrap();
    fake.blobs
        .retain(|blob| Digest::of(blob) != eula.text.digest);
    fake.blobs.push(zip.clone());
    rig.site.carry("zip");
    let more = ["--with-driver", "--override", "host.toolkit-missing"];
    let _ = rig.install_of("zip", &more).ended_with(6);
    assert_eq!(rig.played.ran(), ASCEND_COMMANDS);

    rig.moves_to("other-machine");
    let _ = rig.site.installer(&["uninstall", "--yes"]);
    item.member = Some("pack/absent.run".parse().unwrap());
    rig.site.fake().profiles.backends[0].host[2] = item;
    rig.site.carry("no-member");
    let said = rig.install_of("no-member", &more).ended_with(4);
    assert!(said.words.contains("install.host-member"), "{said:?}");
    assert_eq!(rig.played.ran(), ASCEND_COMMANDS[..2]);
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
