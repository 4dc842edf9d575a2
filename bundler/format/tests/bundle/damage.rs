//! Every flipped byte and every cut is found.

use crate::Bench;
use report::Diagnose as _;

#[test]
fn every_flipped_byte_is_found() {
    let bench = Bench::new();
    let mut bytes = bench.bytes();
    let blobs = bench.verified().index.blobs[0].offset as usize - 512;
    for position in 0..bytes.len() {
        // Every byte of the headers and sums near a block's start, and a sample of the rest.
        let near = position % 512 < 8 || (position % 512 > 120 && position % 512 < 130);
        if !near && position % if position < blobs { 7 } else { 31 } != 0 {
            continue;
        }
        bytes[position] ^= 1 << (position % 8);
        assert!(
            bench.check(&bytes).is_err(),
            "byte {position} of {}",
            bytes.len()
        );
        bytes[position] ^= 1 << (position % 8);
    }
    bench.check(&bytes).unwrap();
}

#[test]
fn every_cut_is_found_and_named() {
    let bench = Bench::new();
    let bytes = bench.bytes();
    let lengths = (0..bytes.len())
        .step_by(509)
        .chain(bytes.len() - 1030..bytes.len());
    for length in lengths {
        let code = bench.check(&bytes[..length]).unwrap_err().code();
        let expected = if length < 512 {
            "bundle.not-a-bundle"
        } else {
            "bundle.cut-short"
        };
        assert_eq!(code, expected, "{length} of {}", bytes.len());
    }
}

#[test]
fn bytes_after_the_end_are_found() {
    let bench = Bench::new();
    for tail in [1, 512, 10_240] {
        let mut bytes = bench.bytes();
        bytes.resize(bytes.len() + tail, 0);
        assert_eq!(
            bench.check(&bytes).unwrap_err().code(),
            "bundle.trailing-data"
        );
    }
}
