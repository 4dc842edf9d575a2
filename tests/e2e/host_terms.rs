//! Terms are shown whole, and nobody accepts them silently.

use bundle_format::fake::placed_file;
use e2e::{ASCEND_FLAGS, Rig, Site};
use manifest_schema::ByteSize;

#[test]
fn nobody_accepts_terms_silently() {
    let rig = Rig::ascend();
    let before = rig.site.listing();
    for more in [
        &ASCEND_FLAGS[..2][..],
        &[
            "--with-driver",
            "--with-toolkit",
            "--accept-eula",
            "huawei-driver",
        ],
    ] {
        let said = rig.install(more).ended_with(2);
        assert!(said.words.contains("--accept-eula huawei-cann"), "{said:?}");
    }
    assert_eq!(
        rig.site.listing(),
        before,
        "nothing was done, nothing was logged"
    );
    // Terms of what is not asked for are nobody's business; the whole text can be read beforehand.
    let mut looked = rig.words("1", &["--dry-run", "--verbose", "--with-driver"]);
    looked.extend(["--override", "host.toolkit-missing"].map(str::to_owned));
    let said = rig.site.installer(&looked).ended_with(0);
    assert!(said.data.contains("Terms of the driver."), "{said:?}");
    assert!(!said.data.contains("huawei-cann"), "{said:?}");
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
