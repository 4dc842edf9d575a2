//! The commands of `README.txt` and `install.sh`, run as written with the machine's own tools.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use bundle_format::{Algorithm, RootChain, RootDocument, SignedRoot, SigningKey};

use crate::Bench;

fn shell(folder: &Path, script: &str) -> Output {
    Command::new("sh")
        .arg("-c")
        .arg(script)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8(text).unwrap()
}

/// The commands of the hand check, which follow its heading and are indented by four spaces.
fn commands(readme: &str) -> Vec<&str> {
    let check = readme.split_once("Check by hand").unwrap().1;
    check
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .collect()
}

#[test]
fn the_hand_check_works_as_it_is_written() {
    let bench = Bench::new();
    let folder = bench.folder.path();
    let readme = said(&shell(folder, "tar -xOf demo-1.ferry README.txt"));
    let commands = commands(&readme);
    let [
        take,
        fingerprint,
        listed,
        chain,
        signature,
        others,
        signed,
        same,
        complete,
    ] = commands[..]
    else {
        panic!("{commands:#?}");
    };
    let root = bench.verified().fingerprint.hex();
    assert_eq!(said(&shell(folder, take)), "");
    let check = folder.join("check");
    assert_eq!(
        said(&shell(&check, fingerprint)),
        format!("{root}  meta/root/001.json\n")
    );
    assert_eq!(said(&shell(&check, listed)), "listed\n");
    assert_eq!(said(&shell(&check, chain)), "");
    assert_eq!(said(&shell(&check, signature)), "Verified OK\n");
    assert_eq!(said(&shell(&check, others)), "");
    assert_eq!(said(&shell(&check, signed)), "signed\n");
    let lines = said(&shell(&check, same));
    let listed = fs::read_to_string(check.join("meta/SHA256SUMS"))
        .unwrap()
        .lines()
        .count();
    assert_eq!(
        lines
            .lines()
            .filter(|line| line.starts_with("same "))
            .count(),
        listed
    );
    assert_eq!(lines.lines().count(), listed);
    assert_eq!(said(&shell(&check, complete)), "complete\n");

    // The same commands see a change.
    let blob = folder
        .join("check/blobs/sha256")
        .join(bench.verified().index.blobs[1].digest.hex());
    assert!(blob.is_file());
    let mut bytes = bench.bytes();
    let offset = bench
        .verified()
        .index
        .blobs
        .iter()
        .find(|blob| blob.size.0 > 0)
        .unwrap()
        .offset;
    bytes[offset as usize] ^= 1;
    fs::write(bench.bundle(), bytes).unwrap();
    assert_eq!(said(&shell(&check, same)).matches("differs").count(), 1);
    assert!(!said(&shell(&check, complete)).contains("complete"));
    fs::write(check.join("meta/statement.json"), "{}").unwrap();
    assert!(!said(&shell(&check, signature)).contains("Verified OK"));
    assert_eq!(said(&shell(&check, signed)), "");
}

#[test]
fn the_hand_check_finds_every_algorithm_and_the_chain_of_roots() {
    let mut bench = Bench::new();
    let folder = bench.folder.path().to_owned();
    for algorithm in [Algorithm::Sm2, Algorithm::Ed25519] {
        bench
            .fake
            .keys
            .push(SigningKey::generate(algorithm).unwrap());
    }
    let keys = &bench.fake.keys;
    let first = RootDocument::new(1, 1, &[keys[0].public()]).unwrap();
    let mut roots = RootChain::first(first.to_bytes().unwrap()).unwrap();
    let mut next = roots.successor();
    next.threshold = 3;
    for key in keys {
        next.add(key.public());
    }
    let mut next = SignedRoot {
        bytes: next.to_bytes().unwrap(),
        signatures: Vec::new(),
    };
    for key in keys {
        next.sign(key);
    }
    roots.extend(next).unwrap();
    bench.fake.roots = Some(roots);
    bench.fake.build(&folder, &bench.bundle()).unwrap();
    let readme = said(&shell(&folder, "tar -xOf demo-1.ferry README.txt"));
    let commands = commands(&readme);
    let _ = shell(&folder, commands[0]);
    let check = folder.join("check");
    let listed = said(&shell(&check, commands[1]));
    let offered = bench.verified().fingerprint.hex();
    assert!(listed.ends_with(&format!("{offered}  meta/root/002.json\n")));
    assert_eq!(said(&shell(&check, commands[2])), "listed\n".repeat(3));
    assert_eq!(said(&shell(&check, commands[3])), "Verified OK\n");
    assert_eq!(said(&shell(&check, commands[4])), "Verified OK\n");
    let verified = "Signature Verified Successfully\n";
    assert_eq!(said(&shell(&check, commands[5])), verified.repeat(2));
    assert_eq!(said(&shell(&check, commands[6])), "signed\n");
    assert_eq!(said(&shell(&check, commands[8])), "complete\n");

    // And each sees a change.
    for name in ["meta/root/002.json", "meta/statement.json"] {
        let path = check.join(name);
        let mut bytes = fs::read(&path).unwrap();
        bytes.push(b' ');
        fs::write(&path, bytes).unwrap();
    }
    for command in &commands[3..6] {
        let said = said(&shell(&check, command));
        assert!(
            !said.contains("Verified OK") && !said.contains(verified),
            "{said}"
        );
    }
}

#[test]
fn install_sh_runs_the_installer_of_this_machine() {
    let bench = Bench::new();
    let folder = bench.folder.path();
    let machine = std::env::consts::ARCH;
    assert!(
        shell(folder, "tar -xf demo-1.ferry install.sh")
            .status
            .success()
    );
    let expected = format!("{machine} install ./demo-1.ferry --prefix /opt/a b\n");
    let output = shell(folder, "sh install.sh demo-1.ferry --prefix '/opt/a b'");
    assert_eq!(said(&output), expected);
    let beside = said(&shell(folder, "sh ./install.sh --yes"));
    assert!(beside.ends_with("/demo-1.ferry --yes\n"), "{beside}");
    let missing = shell(folder, "sh install.sh no.ferry");
    assert!(!missing.status.success() && said(&missing).contains("no.ferry"));
}
