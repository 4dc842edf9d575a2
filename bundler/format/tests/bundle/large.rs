//! Blobs that are large enough for a way of their own to the disk: they begin and end anywhere.

use std::fs;

use bundle_format::fake::Fake;
use bundle_format::{Direct, write_all_at};
use manifest_schema::Digest;

use crate::shelf::Shelf;

fn large() -> Shelf {
    let bytes = |seed: u32, size: u32| -> Vec<u8> {
        let byte = |n: u32| (n.wrapping_mul(n).wrapping_add(seed) >> 7) as u8;
        (0..size).map(byte).collect()
    };
    let files = [
        ("a.bin", bytes(1, 4 << 20)),
        ("b.bin", bytes(2, (5 << 20) + 77)),
        ("c.bin", bytes(3, 1000)),
        ("d.bin", bytes(4, (6 << 20) - 4095)),
    ];
    let mut fake = Fake::with_dataset("demo", 1, &files);
    fake.options.piece_size = 1 << 20;
    Shelf::of(fake)
}

fn assert_comes_out(shelf: &Shelf) {
    let bundle = shelf.check(&shelf.build()).unwrap();
    for expected in &shelf.fake.blobs {
        let mut found = Vec::new();
        let digest = Digest::of(expected);
        bundle
            .read_blob(&digest, |run| found.extend_from_slice(run))
            .unwrap();
        assert!(found == *expected, "{}", expected.len());
    }
}

#[test]
fn the_same_bytes_on_any_number_of_threads_and_all_come_out() {
    let mut shelf = large();
    let bytes = |shelf: &Shelf| fs::read(shelf.build().join("demo-1.ferry")).unwrap();
    let first = bytes(&shelf);
    for threads in [1, 5] {
        shelf.fake.options.threads = threads;
        assert!(bytes(&shelf) == first, "{threads}");
    }
    assert_comes_out(&shelf);
    shelf.fake.options.align = true;
    assert_comes_out(&shelf);
    shelf.fake.options.volume_size = Some(3 << 20);
    assert_comes_out(&shelf);
}

#[test]
fn two_pieces_are_copied_side_by_side_and_a_wrong_one_is_named() {
    let shelf = large();
    let bundle = shelf.check(&shelf.build()).unwrap();
    let [one, other] = [1, 3].map(|number| Digest::of(&shelf.fake.blobs[number]));
    let path = shelf.folder.path().join("copies");
    for (pieces, share) in [
        ([(&one, 5), (&other, 5)], 77),
        ([(&one, 0), (&other, 2)], 0),
    ] {
        let files =
            ["one", "other"].map(|name| fs::File::create(path.with_extension(name)).unwrap());
        let direct = files.each_ref().map(Direct::writing);
        bundle
            .copy_pieces(&pieces, |which, offset, run| {
                write_all_at(&files[which], direct[which].as_ref(), run, offset).unwrap();
                Ok(())
            })
            .unwrap();
        let files = ["one", "other"].map(|name| path.with_extension(name));
        let length = fs::metadata(&files[0]).unwrap().len();
        assert_eq!(length % (1 << 20), share);
        let checked = |files: &[std::path::PathBuf; 2]| {
            let files = files.each_ref().map(|path| fs::File::open(path).unwrap());
            let [(one, first), (other, second)] = pieces;
            let copies = [(one, first, &files[0]), (other, second, &files[1])];
            bundle.check_pieces(&copies, |_| ())
        };
        checked(&files).unwrap();
        let mut wrong = fs::read(&files[1]).unwrap();
        *wrong.last_mut().unwrap() ^= 1;
        fs::write(&files[1], wrong).unwrap();
        let error = report::Diagnose::code(&checked(&files).unwrap_err());
        assert_eq!(error, "bundle.piece-differs");
    }
}
