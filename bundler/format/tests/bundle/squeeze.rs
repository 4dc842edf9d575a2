//! Weights in planes: smaller, the same when they come out, whatever the file says of itself.

use std::fs;

use bundle_format::fake::{Fake, safetensors, weights};
use bundle_format::{Sealed, Squeeze, Verified, repair, write_parity};
use manifest_schema::{Blob, Codec, Digest};
use report::{Diagnose as _, Silent};

use crate::shelf::Shelf;

/// A model as people publish them: brain floats, some full ones, and integers that stay as they are.
fn model() -> Vec<u8> {
    safetensors(&[
        ("layers.0.weight", "BF16", weights(1, 120_000, 2)),
        ("layers.0.scale", "F32", weights(2, 30_000, 4)),
        ("layers.0.packed", "I8", weights(9, 9000, 1)),
        ("layers.1.weight", "BF16", weights(3, 100_001, 2)),
        ("lm_head.weight", "F16", weights(4, 20_000, 2)),
        ("empty", "BF16", Vec::new()),
    ])
}

/// These files, squeezed.
fn squeezed(files: &[(&str, Vec<u8>)]) -> Shelf {
    let mut fake = Fake::with_dataset("demo", 1, files);
    fake.options.squeeze = Squeeze::ALL;
    fake.options.piece_size = 65_536;
    Shelf::of(fake)
}

impl Shelf {
    fn assert_comes_out(&self, bundle: &Verified) {
        for bytes in &self.fake.blobs {
            let digest = Digest::of(bytes);
            let out = self.folder.path().join("blob");
            let jobs = [(digest, out.clone())];
            bundle.extract_many(&jobs, 2, &Silent).unwrap();
            assert!(fs::read(&out).unwrap() == *bytes);
            fs::remove_file(out).unwrap();
            let mut read = Vec::new();
            bundle.copy_blob(&digest, &mut read).unwrap();
            assert!(read == *bytes);
        }
    }
}

fn blob<'a>(bundle: &'a Verified, bytes: &[u8]) -> &'a Blob {
    bundle.blob(&Digest::of(bytes)).unwrap()
}

fn share(blob: &Blob) -> f64 {
    blob.stored_size() as f64 / blob.size.0 as f64
}

#[test]
fn weights_are_stored_in_planes_and_come_out_as_they_were() {
    let shelf = squeezed(&[
        ("model.safetensors", model()),
        ("model.bin", weights(5, 100_000, 2)),
    ]);
    let bundle = shelf.check(&shelf.build()).unwrap();
    let model = blob(&bundle, &shelf.fake.blobs[0]);
    assert_eq!(model.codec, Codec::Planes);
    assert!(model.pieces.len() > 4 && model.member.as_str().ends_with(".planes"));
    assert!(share(model) < 0.75, "{}", share(model));
    assert_eq!(blob(&bundle, &shelf.fake.blobs[1]).codec, Codec::Raw);
    shelf.assert_comes_out(&bundle);
}

#[test]
fn only_the_kinds_that_were_asked_for_are_made_smaller() {
    let one =
        |kind, seed, width| safetensors(&[("w", kind, weights(seed, 400_000 / width, width))]);
    let mut shelf = squeezed(&[
        ("brain.safetensors", one("BF16", 1, 2)),
        ("half.safetensors", one("F16", 2, 2)),
        ("full.safetensors", one("F32", 3, 4)),
    ]);
    let none = Squeeze::default();
    let (raw, planes) = (Codec::Raw, Codec::Planes);
    for (squeeze, expected) in [
        (none, [raw, raw, raw]),
        (Squeeze { bf16: true, ..none }, [planes, raw, raw]),
        (Squeeze { fp16: true, ..none }, [raw, planes, raw]),
        (Squeeze { fp32: true, ..none }, [raw, raw, planes]),
        (Squeeze::ALL, [planes; 3]),
    ] {
        shelf.fake.options.squeeze = squeeze;
        let bundle = shelf.check(&shelf.build()).unwrap();
        let blobs = shelf.fake.blobs.iter().map(|bytes| blob(&bundle, bytes));
        let found: Vec<_> = blobs.clone().map(|blob| blob.codec).collect();
        assert_eq!(found, expected, "{squeeze:?}");
        for (blob, most) in blobs.zip([0.69, 0.69, 0.86]) {
            assert!(blob.codec == raw || share(blob) < most, "{}", share(blob));
        }
        shelf.assert_comes_out(&bundle);
    }
}

#[test]
fn a_header_that_lies_changes_nothing_but_the_size() {
    let data = weights(1, 60_000, 2);
    let with = |header: &str| {
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        file.extend(&data);
        file
    };
    let tensor = |begin: u64, end: u64| {
        let at = format!("[{begin},{end}]");
        format!(r#"{{"dtype":"BF16","shape":[1],"data_offsets":{at}}}"#)
    };
    let one = |begin, end| with(&format!(r#"{{"w":{}}}"#, tensor(begin, end)));
    let two = format!(
        r#"{{"v":{},"w":{}}}"#,
        tensor(0, 9000),
        tensor(8000, 90_000)
    );
    let mut long = u64::MAX.to_le_bytes().to_vec();
    long.extend(&data);
    let files = [
        ("not json", with("not json")),
        ("ends behind the file", one(0, 10_000_000)),
        ("ends before it begins", one(9000, 10)),
        ("overflows", one(0, u64::MAX)),
        ("overlaps", with(&two)),
        (
            "has no tensors",
            with(r#"{"__metadata__":{"format":"pt"}}"#),
        ),
        ("has a long header", long),
        ("is cut", data[..7].to_vec()),
        ("is empty", Vec::new()),
        // These are weights: with any size of header, in any phase.
        ("good, whole", one(0, 120_000)),
        ("good, even", one(2, 119_990)),
        (
            "good, odd",
            with(&format!(r#"{{ "w":{} }}"#, tensor(0, 119_999))),
        ),
    ];
    let paths: Vec<_> = (0..files.len())
        .map(|n| format!("{n}.safetensors"))
        .collect();
    let contents = files.iter().map(|(_, bytes)| bytes.clone());
    let placed: Vec<_> = paths.iter().map(String::as_str).zip(contents).collect();
    let shelf = squeezed(&placed);
    let bundle = shelf.check(&shelf.build()).unwrap();
    shelf.assert_comes_out(&bundle);
    for (what, bytes) in &files {
        let planes = blob(&bundle, bytes).codec == Codec::Planes;
        assert_eq!(planes, what.starts_with("good"), "{what}");
    }
}

#[test]
fn the_same_bytes_on_any_number_of_threads_and_nothing_is_left_beside() {
    let mut shelf = squeezed(&[
        ("model.safetensors", model()),
        ("a.json", vec![b'7'; 300_000]),
    ]);
    shelf.fake.options.compress = true;
    let bytes = |shelf: &Shelf| {
        let out = shelf.build();
        assert_eq!(fs::read_dir(&out).unwrap().count(), 1);
        fs::read(out.join("demo-1.ferry")).unwrap()
    };
    let first = bytes(&shelf);
    for threads in [1, 7] {
        shelf.fake.options.threads = threads;
        assert!(bytes(&shelf) == first, "{threads}");
    }
}

#[test]
fn volumes_of_planes_are_checked_alone_and_repaired() {
    let mut shelf = squeezed(&[
        ("model.safetensors", model()),
        (
            "other.safetensors",
            safetensors(&[("w", "BF16", weights(7, 60_000, 2))]),
        ),
    ]);
    shelf.fake.options.volume_size = Some(200_000);
    let out = shelf.build();
    let bundle = shelf.check(&out).unwrap();
    let model = blob(&bundle, &shelf.fake.blobs[0]);
    assert!(model.codec == Codec::Planes && model.parts.len() > 1);
    shelf.assert_comes_out(&bundle);
    let volumes = Sealed::open(&out).unwrap().complete().unwrap();
    for volume in &volumes {
        let alone = Sealed::open_alone(volume).unwrap();
        let alone = alone.verify(&shelf.fake.roots()).unwrap();
        alone.verify_all(1, &Silent).unwrap();
    }
    write_parity(&volumes, 20, None, 2, &Silent).unwrap();
    let whole = fs::read(&volumes[1]).unwrap();
    let mut scratched = whole.clone();
    let end = scratched.len() - 2000;
    scratched[end - 3000..end].fill(0x55);
    fs::write(&volumes[1], &scratched).unwrap();
    let error = shelf.check(&out).unwrap_err();
    assert_eq!(error.code(), "bundle.piece-differs");
    assert_eq!(error.path, volumes[1]);
    repair(&out, &Silent).unwrap();
    assert!(fs::read(&volumes[1]).unwrap() == whole);
    shelf.check(&out).unwrap();
}
