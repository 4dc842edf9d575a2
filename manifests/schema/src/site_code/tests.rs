//! A code says what went in, whatever scanner or hand it went through; a slip is found where it is.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::site::{Cpu, Device, DeviceState, Fact, Os, Release, VendorSoftware};
use crate::{Arch, ByteSize};

#[expect(
    clippy::unnecessary_wraps,
    reason = "every fact of a site may be absent"
)]
fn fact<T>(value: T) -> Option<Fact<T>> {
    let source = "/proc".to_owned();
    Some(Fact { value, source })
}

/// A server with eight accelerators.
fn server() -> Site {
    let device = |number: u32| Device {
        address: format!("0000:{number:02x}:00.0"),
        vendor: "19e5".into(),
        device: "d802".into(),
        subsystem: "19e5:3002".into(),
        class: "120000".into(),
        family: "ascend".into(),
        chip: Some("ascend-910b".into()),
        product: Some("Atlas 800I A2".into()),
        state: DeviceState::Ready,
    };
    Site {
        machine: fact("aarch64".to_owned()),
        arch: fact(Arch::Aarch64),
        cpu: fact(Cpu {
            vendor: "0x48".into(),
            part: Some("0xd01".into()),
            name: Some("Kunpeng 920 (TaiShan v110)".into()),
            processors: 192,
        }),
        os: fact(Os {
            id: "kylin".into(),
            name: "Kylin Linux Advanced Server V10".into(),
            version: None,
            table: Some("kylin-v10".into()),
            edition: Some("SP3".into()),
        }),
        kernel: fact("4.19.90-89.11.v2401.ky10.aarch64".to_owned()),
        glibc: fact("2.28".parse().unwrap()),
        memory: fact(ByteSize(1_610_612_736 * 1024)),
        clock: fact("2026-01-02T03:04:05Z".to_owned()),
        devices: (0..8).map(device).collect(),
        vendors: vec![VendorSoftware {
            family: "ascend".into(),
            nodes: (0..8).map(|number| format!("davinci{number}")).collect(),
            driver: fact(Release {
                version: "25.2.0".into(),
                inner: Some("V100R001C22SPC003B221".into()),
                accepts: [("compatible_version_fw".into(), Vec::new())].into(),
            }),
            ..VendorSoftware::default()
        }],
        ..Site::default()
    }
}

fn texts(longest: usize) -> Vec<String> {
    let parts = SiteCode::of(&server()).parts(longest).unwrap();
    parts.iter().map(SitePart::text).collect()
}

#[test]
fn a_site_comes_back_without_what_nobody_needs() {
    let found = decode(&texts(600).concat()).unwrap();
    let mut expected = server();
    expected.clock = None;
    for device in &mut expected.devices {
        device.address = String::new();
    }
    let plain = |site: &Site| {
        let text = serde_json::to_string(site).unwrap();
        text.replace("/proc", "site code")
    };
    assert_eq!(plain(&found), plain(&expected));
}

#[test]
fn scanners_and_people_may_write_it_in_their_own_way() {
    let parts = SiteCode::of(&server()).parts(260).unwrap();
    assert!(parts.len() > 1, "{parts:?}");
    let whole = decode(&texts(600).concat()).unwrap();
    let scanned: Vec<String> = parts
        .iter()
        .rev()
        .map(|part| format!("QR-Code:{}\n", part.text()))
        .collect();
    assert_eq!(decode(&scanned.concat()).unwrap(), whole);
    // Read twice, one after the other without an end of line.
    assert_eq!(
        decode(&[scanned.concat(), texts(260).concat()].concat()).unwrap(),
        whole
    );
    let mut typed = String::new();
    for part in &parts {
        let _ = write!(typed, "{}\r\n", part.head.to_lowercase());
        for (at, line) in part.lines.iter().enumerate() {
            let line = line.replace('0', "o").replace('1', "l").to_lowercase();
            let (front, back) = line.split_at(line.len().min(5));
            let _ = writeln!(typed, " {}:  {front} - {back}", at + 1);
        }
    }
    assert_eq!(decode(&typed).unwrap(), whole);
}

#[test]
fn what_is_missing_or_foreign_is_named() {
    let parts = texts(260);
    let total = parts.len();
    assert_eq!(decode("{}").unwrap_err(), SiteCodeError::NoCode);
    let missing = "1".to_owned();
    assert_eq!(
        decode(&parts[1..].concat()).unwrap_err(),
        SiteCodeError::Missing { missing, total }
    );
    let mut other = server();
    other.kernel = fact("6.6.0".to_owned());
    let other = SiteCode::of(&other).parts(260).unwrap();
    let mixed = [parts[0].clone(), other[1].text()].concat();
    let error = decode(&mixed).unwrap_err();
    assert!(
        matches!(error, SiteCodeError::OtherSite { part: 2, .. }),
        "{error}"
    );
    let newer = parts.concat().replace("FERRY1.", "FERRY2.");
    let found = "2".to_owned();
    assert_eq!(decode(&newer).unwrap_err(), SiteCodeError::Format { found });
    for head in [
        "FERRY1.0.1.ABCDEF.",
        "FERRY1.2.1.ABCDEF.",
        "FERRY1.1.99.ABCDEF.",
        "FERRY1.1",
    ] {
        let error = decode(&format!("{head}AAAA")).unwrap_err();
        assert!(
            matches!(error, SiteCodeError::Head { .. } | SiteCodeError::NoCode),
            "{error}"
        );
    }
    assert!(SiteCode::of(&server()).parts(39).is_none());
}

#[test]
fn a_code_that_unfolds_without_end_is_refused() {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&vec![b' '; 1 << 20]).unwrap();
    let packed = encoder.finish().unwrap();
    let code = SiteCode {
        id: id_of(&packed),
        symbols: letters::symbols(&packed),
        readable: true,
    };
    let text: String = code
        .parts(600)
        .unwrap()
        .iter()
        .map(SitePart::text)
        .collect();
    let error = decode(&text).unwrap_err().to_string();
    assert!(error.contains("more than 65536 bytes"), "{error}");
    // Nor is one made that nobody would read.
    let mut talkative = server();
    talkative.python = fact("3".repeat(1 << 17));
    assert!(SiteCode::of(&talkative).parts(600).is_none());
    let many = r#"{"d":[[4000000000,"19e5","d802","","120000","ready"]]}"#;
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(many.as_bytes()).unwrap();
    let error = unpack(&encoder.finish().unwrap()).unwrap_err().to_string();
    assert!(error.contains("at most 1024"), "{error}");
}

/// Where a slip is reported; every line of twenty stands for itself.
fn place(error: &SiteCodeError) -> Option<(usize, usize)> {
    match error {
        SiteCodeError::Slip { part, line, .. } => Some((*part, *line)),
        _ => None,
    }
}

#[test]
fn every_wrong_letter_and_every_swap_of_lines_is_found_where_it_is() {
    let parts = SiteCode::of(&server()).parts(260).unwrap();
    for (number, part) in parts.iter().enumerate() {
        for (at, line) in part.lines.iter().enumerate() {
            for spot in 0..line.len() {
                for letter in "0123456789ABCDEFGHJKMNPQRSTVWXYZU*".chars() {
                    let mut changed = part.clone();
                    let mut letters: Vec<char> = line.chars().collect();
                    if std::mem::replace(&mut letters[spot], letter) == letter {
                        continue;
                    }
                    changed.lines[at] = letters.into_iter().collect();
                    let error = decode(&changed.text()).unwrap_err();
                    assert_eq!(place(&error), Some((number + 1, at + 1)), "{error}");
                }
            }
            let mut swapped = part.clone();
            let next = (at + 1) % part.lines.len();
            swapped.lines.swap(at, next);
            let error = decode(&swapped.text()).unwrap_err();
            assert_eq!(
                place(&error),
                Some((number + 1, at.min(next) + 1)),
                "{error}"
            );
        }
    }
}

proptest! {
    #[test]
    fn two_slips_in_a_line_never_pass(first in 0_usize..20, second in 0_usize..20, letters in "[0-9A-HJKMNP-TV-Z]{2}") {
        let mut part = SiteCode::of(&server()).parts(600).unwrap().remove(0);
        let good = part.lines[2].clone();
        let mut line: Vec<char> = good.chars().collect();
        for (spot, letter) in [first, second].into_iter().zip(letters.chars()) {
            line[spot] = letter;
        }
        part.lines[2] = line.into_iter().collect();
        prop_assume!(part.lines[2] != good);
        prop_assert_eq!(place(&decode(&part.text()).unwrap_err()), Some((1, 3)));
    }

    #[test]
    fn bytes_become_letters_and_bytes_again(bytes in prop::collection::vec(any::<u8>(), 1..64)) {
        let text = letters::lines(7, &letters::symbols(&bytes)).concat();
        prop_assert_eq!(letters::bytes(&letters::read(7, &text).unwrap()), Some(bytes));
    }

    #[test]
    fn no_text_is_too_strange(text in "(FERRY1\\.[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9A-Z]{6}\\.)?[0-9A-Z .:\u{e9}\u{4e00}-]{0,80}") {
        let _ = decode(&text);
    }
}
