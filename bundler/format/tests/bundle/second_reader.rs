//! A reader that was made of `docs/format.md` alone, in another language, agrees: it opens what this crate writes, to the
//! same bytes, and refuses what this crate refuses. It needs python3, openssl and zstd, and is skipped without them.
#![allow(clippy::print_stderr, reason = "a test says when it is skipped")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bundle_format::fake::{Fake, safetensors, weights};
use bundle_format::{Algorithm, RootDocument, SigningKey, Squeeze, write_parity};
use manifest_schema::{Digest, MadeFrom};
use report::Silent;

use crate::Bench;
use crate::golden::{FINGERPRINT, folder};

/// What the reader says; `None` where this machine cannot run it.
fn reader(arguments: &[&str], files: &[PathBuf]) -> Option<Result<String, String>> {
    let there = ["python3 --version", "openssl version", "zstd --version"]
        .iter()
        .all(|command| {
            let words: Vec<&str> = command.split(' ').collect();
            Command::new(words[0]).args(&words[1..]).output().is_ok()
        });
    if !there {
        eprintln!("skipped: python3, openssl or zstd is not here");
        return None;
    }
    let script =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/second-reader/second_reader.py");
    let mut python = Command::new("python3");
    // Nothing is left beside the script.
    python.arg("-B").arg(script).args(arguments).args(files);
    let output = python.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    Some(if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    })
}

/// Has the reader extract a bundle; returns its blobs by digest, each of which it must have checked.
fn extracted(fingerprint: &str, files: &[PathBuf]) -> Option<BTreeMap<String, Vec<u8>>> {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().to_str().unwrap();
    let said = reader(&[fingerprint.trim(), path], files)?;
    assert!(
        said.as_ref().is_ok_and(|said| said.starts_with("ok ")),
        "{said:?}"
    );
    let mut blobs = BTreeMap::new();
    for entry in fs::read_dir(out.path().join("blobs")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        blobs.insert(name, fs::read(entry.path()).unwrap());
    }
    for (name, bytes) in &blobs {
        assert_eq!(*name, Digest::of(bytes).hex());
    }
    Some(blobs)
}

#[test]
fn it_opens_every_golden_bundle() {
    for (fingerprint, files, count) in [
        (FINGERPRINT, &["one.ferry"][..], 4),
        (FINGERPRINT, &["many.vol002.ferry", "many.vol001.ferry"], 4),
        (FINGERPRINT, &["squeezed.ferry"], 3),
        (FINGERPRINT, &["image.ferry"], 10),
        (FINGERPRINT, &["chain.ferry"], 4),
    ] {
        let paths: Vec<PathBuf> = files.iter().map(|name| folder().join(name)).collect();
        let Some(blobs) = extracted(fingerprint, &paths) else {
            return;
        };
        assert_eq!(blobs.len(), count, "{files:?}");
    }
}

#[test]
fn it_opens_what_is_written_today() {
    let model = safetensors(&[
        ("a.weight", "BF16", weights(1, 200_000, 2)),
        ("a.scale", "F32", weights(2, 30_000, 4)),
        ("a.odd", "I8", weights(3, 2501, 1)),
    ]);
    let text = "{{ name }} and {{who}} {{".repeat(400).into_bytes();
    let noise: Vec<u8> = (0..900_u32)
        .flat_map(|n| Digest::of(&n.to_le_bytes()).hex().into_bytes())
        .collect();
    let files = [
        ("model.safetensors", model),
        ("card.md", text),
        ("noise.bin", noise),
        ("空.bin", Vec::new()),
    ];
    let mut fake = Fake::with_dataset("demo", 3, &files);
    for algorithm in [Algorithm::Sm2, Algorithm::Ed25519] {
        fake.keys.push(SigningKey::generate(algorithm).unwrap());
    }
    let fill = BTreeMap::from([("name".to_owned(), "{{who}} 渡".to_owned())]);
    let card = &mut fake.profiles.components[0].files[1];
    let made = MadeFrom {
        blob: card.digest,
        fill,
    };
    let filled = made.fill(std::str::from_utf8(&files[1].1).unwrap());
    (card.size.0, card.digest) = (filled.len() as u64, Digest::of(filled.as_bytes()));
    card.made_from = Some(made);
    fake.options.compress = true;
    fake.options.squeeze = Squeeze::ALL;
    fake.options.align = true;
    for volume_size in [None, Some(150_000)] {
        let scratch = tempfile::tempdir().unwrap();
        fake.options.volume_size = volume_size;
        fake.build(scratch.path(), &scratch.path().join("demo-3.ferry"))
            .unwrap();
        let entries = fs::read_dir(scratch.path()).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let ends = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "ferry");
        let bundle: Vec<PathBuf> = paths.filter(ends).collect();
        assert_eq!(bundle.len() > 1, volume_size.is_some());
        let root = Digest::of(&fake.root()).hex();
        let Some(blobs) = extracted(&root, &bundle) else {
            return;
        };
        assert_eq!(blobs.len(), files.len());
    }
}

#[test]
fn it_refuses_what_is_refused_here() {
    let bench = Bench::new();
    let whole = bench.bytes();
    let root = bench.verified().fingerprint.hex();
    let mut damaged = Vec::new();
    // A place in each block, another in each.
    for (number, block) in (0..whole.len()).step_by(512).enumerate() {
        let place = block + number * 41 % 512;
        let mut bytes = whole.clone();
        bytes[place] ^= 1 << (number % 8);
        damaged.push((format!("flipped-{place}"), bytes));
    }
    for cut in [1, 512, 1024, 5000, whole.len() - 511] {
        let end = whole.len() - cut;
        damaged.push((format!("cut-{cut}"), whole[..end].to_vec()));
    }
    damaged.push(("longer".to_owned(), [&whole[..], &[0; 512]].concat()));
    let mut paths = Vec::new();
    for (name, bytes) in &damaged {
        assert!(bench.check(bytes).is_err(), "{name}");
        let path = bench.folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        paths.push(path);
    }
    let Some(said) = reader(&["--each", &root], &paths) else {
        return;
    };
    let said = said.unwrap();
    assert_eq!(said.lines().count(), paths.len(), "{said}");
    for (line, path) in said.lines().zip(&paths) {
        assert!(line.starts_with("refused "), "{}: {line}", path.display());
    }
    // A root that would ask for more signatures than there are.
    let keys = [(), ()].map(|()| SigningKey::generate(Algorithm::P256).unwrap());
    let other = RootDocument::new(1, 2, &[keys[0].public(), keys[1].public()]).unwrap();
    let other = Digest::of(&other.to_bytes().unwrap()).hex();
    let said = reader(&["--each", &other], &[bench.bundle()]).unwrap();
    assert!(said.unwrap().contains("the root is not trusted"));
}

#[test]
fn it_computes_the_same_parity() {
    for (sizes, share) in [
        (&[70_000, 90_001, 16_384][..], 10),
        (&[70_000, 90_001, 16_384], 33),
        (&[70_000, 90_001, 16_384], 75),
        (&[300_000, 5], 20),
        (&[300_000, 5], 100),
        (&[1], 1),
    ] {
        let scratch = tempfile::tempdir().unwrap();
        let mut files = Vec::new();
        for (number, size) in (1..).zip(sizes) {
            let path = scratch.path().join(format!("demo-1.vol{number:03}.ferry"));
            fs::write(&path, weights(number, *size, 1)).unwrap();
            files.push(path);
        }
        let made = write_parity(&files, share, None, 2, &Silent).unwrap();
        files.insert(0, made.paths[0].clone());
        let Some(said) = reader(&["--parity"], &files) else {
            return;
        };
        assert_eq!(said.as_deref(), Ok("ok"), "{sizes:?} {share} %");
    }
}
