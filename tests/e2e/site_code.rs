//! A machine's facts on the screen, read back by a scanner that knows nothing of Ferry.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::Site;
use manifest_schema::site_code::decode;

fn recorded(name: &str) -> String {
    let hosts = Path::new(env!("CARGO_MANIFEST_DIR")).join("hosts");
    hosts.join(name).display().to_string()
}

/// Machines with the most and the least to tell.
const HOSTS: [&str; 3] = ["kunpeng-910b-kylin", "mixed-910b-310p-nvidia", "laptop"];

/// The pictures on a screen: for each, its rows of modules, `true` where dark. What is not black on white by the
/// screen's own words counts as dark, as on a dark terminal.
fn pictures(screen: &str) -> Vec<Vec<Vec<bool>>> {
    let mut pictures: Vec<Vec<Vec<bool>>> = Vec::new();
    let mut inside = false;
    for line in screen.lines() {
        let Some(blocks) = line
            .strip_prefix("\u{1b}[0;30;47m")
            .and_then(|line| line.strip_suffix("\u{1b}[0m"))
        else {
            inside = false;
            continue;
        };
        if !inside {
            pictures.push(Vec::new());
            inside = true;
        }
        let picture = pictures.last_mut().unwrap();
        picture.push(blocks.chars().map(|c| matches!(c, '█' | '▀')).collect());
        picture.push(blocks.chars().map(|c| matches!(c, '█' | '▄')).collect());
    }
    pictures
}

/// A photograph of a picture: a grey map, four dots a module, on a desk that is darker than paper.
fn photograph(picture: &[Vec<bool>], path: &Path) {
    const DOTS: usize = 4;
    let (width, height) = (picture[0].len() * DOTS, picture.len() * DOTS);
    let mut bytes = format!("P5\n{width} {height}\n255\n").into_bytes();
    for row in picture {
        let line: Vec<u8> = row
            .iter()
            .flat_map(|dark| [if *dark { 40 } else { 200 }; DOTS])
            .collect();
        bytes.extend(line.repeat(DOTS));
    }
    fs::write(path, bytes).unwrap();
}

/// What Debian's `zbarimg` reads in these photographs; `None`, said aloud, where it is not installed.
fn scanned(photographs: &[PathBuf]) -> Option<String> {
    let output = Command::new("zbarimg")
        .args(["--quiet", "-Sdisable", "-Sqrcode.enable"])
        .args(photographs)
        .output();
    match output {
        // Under qemu's user emulation a program that is not there seems to start, and ends with 127.
        Ok(output) if output.status.code() != Some(127) => {
            assert!(output.status.success(), "{output:?}");
            Some(String::from_utf8(output.stdout).unwrap())
        }
        _ => {
            eprintln!("skipped: `zbarimg` is not there; Debian's zbar-tools has it");
            None
        }
    }
}

#[test]
fn a_scanner_reads_on_the_screen_what_the_probe_found() {
    let site = Site::new();
    for host in HOSTS {
        let words = ["probe", "--host", &recorded(host), "--qr"];
        let screen = site.bare(&words).ended_with(0).data;
        let columns = |line: &str| line.replace("\u{1b}[0;30;47m", "").replace("\u{1b}[0m", "");
        assert!(
            screen
                .lines()
                .all(|line| columns(line).chars().count() <= 80)
        );
        let pictures = pictures(&screen);
        let json = [&words[..], &["--json"]].concat();
        let made = site.bare(&json).ended_with(0).json();
        let parts: Vec<&str> = made["parts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| p.as_str().unwrap())
            .collect();
        assert_eq!(pictures.len(), parts.len(), "{host}");
        let mut photographs = Vec::new();
        for (number, picture) in pictures.iter().enumerate() {
            let path = site.folder().join(format!("{host}-{number}.pgm"));
            photograph(picture, &path);
            photographs.push(path);
        }
        let Some(text) = scanned(&photographs) else {
            return;
        };
        for part in parts {
            assert!(
                text.contains(&format!("QR-Code:{part}\n")),
                "{host}: {text}"
            );
        }
        let read = serde_json::to_value(decode(&text).unwrap()).unwrap();
        let all = site
            .bare(&["probe", "--host", &recorded(host), "--json"])
            .ended_with(0)
            .json();
        for fact in ["arch", "glibc", "kernel", "memory", "python"] {
            assert_eq!(read[fact]["value"], all[fact]["value"], "{host} {fact}");
        }
        let os = |value: &serde_json::Value| {
            ["id", "table", "edition"].map(|key| value["os"]["value"][key].clone())
        };
        assert_eq!(os(&read), os(&all), "{host}");
        let count = |value: &serde_json::Value| value["devices"].as_array().unwrap().len();
        assert_eq!(count(&read), count(&all), "{host}");
    }
}

#[test]
fn letters_are_what_the_codes_hold_and_name_nobody() {
    let site = Site::new();
    let host = recorded(HOSTS[0]);
    let said = site
        .bare(&["probe", "--host", &host, "--letters"])
        .ended_with(0);
    assert!(said.data.lines().all(|line| line.len() <= 40), "{said:?}");
    let read = decode(&said.data).unwrap();
    assert_eq!((read.user, read.clock), (None, None));
    assert_eq!(read.devices.len(), 8);
    // A slip of the pen is named by the sheet's own numbers.
    let slip = said.data.replacen(" 3:  ", " 3:  Z", 1);
    let error = decode(&slip).unwrap_err().to_string();
    assert!(error.contains("line 3 of part 1"), "{error}");
    let both = site.bare(&["probe", "--qr", "--letters"]);
    assert_eq!(both.status, 2, "{both:?}");
}

#[test]
fn without_colours_the_blocks_alone_are_drawn() {
    let site = Site::new();
    let words = [
        "probe",
        "--host",
        &recorded("laptop"),
        "--qr",
        "--color",
        "never",
    ];
    let said = site.bare(&words).ended_with(0);
    assert!(
        said.data.contains('▀') && !said.data.contains('\u{1b}'),
        "{said:?}"
    );
}
