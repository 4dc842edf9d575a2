//! Raw blobs at multiples of 4 KiB, and nothing but zeros between.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use bundle_format::fake::Fake;
use bundle_format::{Sealed, Verified, repair, write_parity};
use manifest_schema::{Codec, Digest};
use report::{Diagnose as _, Silent};

use crate::shelf::Shelf;

const SIZES: [usize; 8] = [0, 1, 511, 4095, 4096, 9000, 70_000, 12_288];

/// Blobs of all sorts of sizes, and one that is compressed.
fn aligned() -> Shelf {
    let names: Vec<_> = (0..SIZES.len()).map(|n| format!("{n}.bin")).collect();
    let bytes = |(seed, size): (usize, &usize)| -> Vec<u8> {
        (0..*size).map(|n| ((n * (seed + 7)) >> 3) as u8).collect()
    };
    let text: Vec<String> = (0..3000).map(|n| format!("line {n}\n")).collect();
    let files = names.iter().map(String::as_str);
    let mut files: Vec<_> = files.zip(SIZES.iter().enumerate().map(bytes)).collect();
    files.push(("text.txt", text.concat().into_bytes()));
    let mut fake = Fake::with_dataset("demo", 1, &files);
    fake.options.align = true;
    fake.options.compress = true;
    Shelf::of(fake)
}

/// Every aligned run of stored bytes begins at a multiple of 4 KiB, and is what it should be.
fn assert_aligned(bundle: &Verified, shelf: &Shelf) -> usize {
    assert_eq!(bundle.index.align, Some(4096));
    let mut aligned = 0;
    for blob in &bundle.index.blobs {
        let bytes = shelf
            .fake
            .blobs
            .iter()
            .find(|b| Digest::of(b) == blob.digest);
        let extents = bundle.extents(&blob.digest);
        if blob.codec != Codec::Raw || blob.size.0 < 4096 {
            assert!(extents.is_none());
            continue;
        }
        let mut read = Vec::new();
        for extent in extents.unwrap() {
            assert!(extent.offset.is_multiple_of(4096));
            let mut run = vec![0; extent.size as usize];
            extent.file.read_exact_at(&mut run, extent.offset).unwrap();
            read.extend(run);
            aligned += 1;
        }
        assert!(read == *bytes.unwrap());
    }
    aligned
}

#[test]
fn raw_blobs_begin_at_whole_blocks_and_other_tools_read_the_rest() {
    let shelf = aligned();
    let out = shelf.build();
    let bundle = shelf.check(&out).unwrap();
    assert_eq!(assert_aligned(&bundle, &shelf), 4);
    let script = "tar -xf out/demo-1.ferry && sha256sum --quiet -c meta/SHA256SUMS && \
        find fill -type f -size +3072c | grep -q . && exit 1; cat fill/* | tr -d '\\0' | wc -c";
    let made = std::process::Command::new("sh")
        .args(["-c", script])
        .current_dir(shelf.folder.path())
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&made.stdout).trim(),
        "0",
        "{made:?}"
    );
}

#[test]
fn each_volume_is_aligned_in_itself_and_repaired() {
    let mut shelf = aligned();
    shelf.fake.options.volume_size = Some(72_000);
    let out = shelf.build();
    let bundle = shelf.check(&out).unwrap();
    assert!(bundle.index.volumes > 1);
    assert!(assert_aligned(&bundle, &shelf) > 4);
    let volumes = Sealed::open(&out).unwrap().complete().unwrap();
    for volume in &volumes {
        assert!(fs::metadata(volume).unwrap().len() <= 72_000);
        let alone = Sealed::open_alone(volume).unwrap();
        let alone = alone.verify(&shelf.fake.roots()).unwrap();
        alone.verify_all(1, &Silent).unwrap();
    }
    write_parity(&volumes, 100, None, 2, &Silent).unwrap();
    let whole = fs::read(&volumes[1]).unwrap();
    fs::remove_file(&volumes[1]).unwrap();
    repair(&out, &Silent).unwrap();
    assert!(fs::read(&volumes[1]).unwrap() == whole);
    shelf.check(&out).unwrap();
}

#[test]
fn the_same_bytes_on_any_number_of_threads() {
    let mut shelf = aligned();
    let bytes = |shelf: &Shelf| fs::read(shelf.build().join("demo-1.ferry")).unwrap();
    let first = bytes(&shelf);
    for threads in [1, 5] {
        shelf.fake.options.threads = threads;
        assert!(bytes(&shelf) == first, "{threads}");
    }
}

/// Where the fillers' headers stand.
fn fillers(bytes: &[u8]) -> Vec<usize> {
    let starts = (0..bytes.len()).step_by(512);
    starts
        .filter(|at| bytes[*at..].starts_with(b"fill/"))
        .collect()
}

#[test]
fn a_filler_hides_nothing_and_stands_only_where_it_must() {
    let shelf = aligned();
    let path = shelf.build().join("demo-1.ferry");
    let good = fs::read(&path).unwrap();
    let found = fillers(&good);
    assert!(found.len() >= 2, "{found:?}");
    let size = |at: usize| {
        let text = std::str::from_utf8(&good[at + 124..at + 135]).unwrap();
        usize::from_str_radix(text, 8).unwrap()
    };
    let code = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        shelf.check(&path).unwrap_err().code()
    };
    for at in &found {
        for byte in 0..size(*at) {
            if byte % 701 == 0 {
                let mut bad = good.clone();
                bad[at + 512 + byte] = 1;
                assert_eq!(code(&bad), "bundle.padding-invalid");
            }
        }
        // Gone, with the content behind it moved up.
        let mut bad = good.clone();
        bad.drain(*at..at + 512 + size(*at));
        assert_ne!(code(&bad), "bundle.unreadable");
        // There twice, or before the end.
        let filler = good[*at..at + 512 + size(*at)].to_vec();
        let mut bad = good.clone();
        bad.splice(*at..*at, filler.clone());
        assert_eq!(code(&bad), "bundle.member-unexpected");
        let mut bad = good.clone();
        let end = bad.len() - 1024;
        bad.splice(end..end, filler);
        assert_eq!(code(&bad), "bundle.member-unexpected");
    }
    // One that the archive's own rules allow, where the index asks for none: its name and place agree.
    let (plain, mut fake) = (aligned(), aligned().fake);
    fake.options.align = false;
    let out = plain.folder.path().join("plain.ferry");
    fake.build(plain.folder.path(), &out).unwrap();
    let bytes = fs::read(&out).unwrap();
    assert!(fillers(&bytes).is_empty());
    let content = |at: &usize| bytes[*at..].starts_with(b"blobs/");
    let at = (0..bytes.len()).step_by(512).find(content).unwrap();
    let mut header = good[found[0]..found[0] + 512].to_vec();
    header[..20].copy_from_slice(format!("fill/{:015}", at + 1024).as_bytes());
    header[124..136].copy_from_slice(b"00000000000\0");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut bad = bytes.clone();
    bad.splice(at..at, header);
    fs::write(&out, bad).unwrap();
    let error = Sealed::open(&out).unwrap().verify(&fake.roots());
    assert_eq!(error.unwrap_err().code(), "bundle.member-unexpected");
}

#[test]
fn a_copy_that_differs_is_found_with_the_place_in_the_bundle() {
    let shelf = aligned();
    let bundle = shelf.check(&shelf.build()).unwrap();
    let bytes = &shelf.fake.blobs[6];
    let digest = Digest::of(bytes);
    let path = shelf.folder.path().join("copy");
    let check = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let copy = File::open(&path).unwrap();
        let mut pieces = 0..bundle.pieces(&digest).unwrap();
        pieces.try_for_each(|piece| bundle.check_pieces(&[(&digest, piece, &copy)], |_| ()))
    };
    check(bytes).unwrap();
    let mut bad = bytes.clone();
    bad[50_000] ^= 1;
    assert_eq!(check(&bad).unwrap_err().code(), "bundle.piece-differs");
    assert_eq!(
        check(&bytes[..60_000]).unwrap_err().code(),
        "bundle.unreadable"
    );
}
