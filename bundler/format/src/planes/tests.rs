use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::LazyLock;

use manifest_schema::{Digest, Frame};
use proptest::prelude::*;

use super::read::Decoder;
use super::*;

/// The frame of a piece that begins at `start` of its blob.
fn encode(plain: &[u8], start: u64, numbers: &[Numbers]) -> (Vec<u8>, Frame) {
    let mut encoder = Encoder::new().unwrap();
    let (mut head, mut blocks) = (Vec::new(), Vec::new());
    for (number, block) in plain.chunks(BLOCK).enumerate() {
        let start = start + (number * BLOCK) as u64;
        head.extend(encoder.block(block, start, numbers, &mut blocks).unwrap());
    }
    let frame = frame(&head, blocks.len() as u64);
    head.extend(blocks);
    (head, frame)
}

/// What a reader makes of `stored`, and whether its digest is that of the piece.
fn decode(stored: &[u8], frame: &Frame, plain: &[u8]) -> Option<Vec<u8>> {
    let file: File = tempfile::tempfile().unwrap();
    file.write_all_at(b"before", 0).unwrap();
    file.write_all_at(stored, 6).unwrap();
    file.write_all_at(b"after", 6 + stored.len() as u64)
        .unwrap();
    let mut read = Vec::new();
    let found = read_frame(&file, 6, frame, plain.len() as u64, |at, run| {
        assert_eq!(at, read.len() as u64);
        read.extend_from_slice(run);
        Ok::<(), io::Error>(())
    });
    // A file that ends within a frame cannot be read.
    (found.ok()? == Digest::of(plain)).then_some(read)
}

/// Numbers as weights are: normally distributed, cut to their upper `width` bytes.
fn weights(count: usize, width: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut state = 1_u64;
    for _ in 0..count {
        let mut sum = -6.0_f32;
        for _ in 0..12 {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
            sum += (state >> 40) as f32 / 16_777_216.0;
        }
        bytes.extend_from_slice(&(sum * 0.02).to_le_bytes()[4 - width..]);
    }
    bytes
}

/// A piece of two blocks, and its frame.
static SAMPLE: LazyLock<(Vec<u8>, Vec<u8>, Frame)> = LazyLock::new(|| {
    let plain = weights(140_000, 2);
    let (stored, frame) = encode(&plain, 0, &all(&plain, 2));
    (plain, stored, frame)
});

fn all(plain: &[u8], width: u8) -> Vec<Numbers> {
    let (start, end) = (0, plain.len() as u64);
    vec![Numbers { start, end, width }]
}

#[test]
fn weights_become_as_small_as_their_exponents_allow() {
    for (width, count, most) in [(2, 150_000, 0.69), (4, 70_000, 0.86)] {
        let plain = weights(count, width);
        let (stored, frame) = encode(&plain, 0, &all(&plain, width as u8));
        let share = stored.len() as f64 / plain.len() as f64;
        assert!(share < most, "width {width}: {share}");
        assert_eq!(frame.size.0, stored.len() as u64);
        assert!(decode(&stored, &frame, &plain).unwrap() == plain);
    }
}

#[test]
fn every_pattern_of_bits_comes_back() {
    let every: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    let wide: Vec<u8> = (0..=u16::MAX)
        .flat_map(|n| (u32::from(n).wrapping_mul(0x9E37_79B1)).to_le_bytes())
        .collect();
    for (plain, width) in [(every, 2), (wide, 4)] {
        for cut in [0, 1, 3] {
            let plain = &plain[..plain.len() - cut];
            let (stored, frame) = encode(plain, 0, &all(plain, width));
            assert!(decode(&stored, &frame, plain).unwrap() == plain);
        }
    }
}

#[test]
fn a_run_begins_and_ends_with_whole_numbers() {
    let numbers = [(100, 9001, 2), (9001, 30_000, 4), (50_000, 51_000, 2)];
    let numbers = numbers.map(|(start, end, width)| Numbers { start, end, width });
    let found = |start, size| -> Vec<_> {
        let runs = write::runs(size, start, &numbers);
        runs.iter().map(|run| (run.width, run.size)).collect()
    };
    assert_eq!(
        found(0, 60_000),
        [(1, 100), (2, 8900), (1, 1), (4, 20_996), (1, 30_003)]
    );
    assert_eq!(found(4097, 4096), [(1, 1), (2, 4094), (1, 1)]);
    assert_eq!(found(12_000, 4096), [(1, 1), (4, 4092), (1, 3)]);
    assert_eq!(found(50_000, 4096), [(1, 4096)]);
    assert_eq!(found(8000, 3000), [(1, 3000)]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_encoded_comes_back(
        size in 1_usize..400_000, start in 0_u64..9, noise: u64, mask: u32,
        cuts in prop::collection::vec((0_u64..80_000, prop::sample::select(vec![1_u8, 2, 4])), 0..40),
    ) {
        let mut state = noise | 1;
        let plain: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ((state as u32) & mask).to_le_bytes()
        }).flatten().take(size).collect();
        let (mut at, mut numbers) = (0, Vec::new());
        for (length, width) in cuts {
            if width > 1 && length > 0 {
                numbers.push(Numbers { start: at, end: at + length, width });
            }
            at += length;
        }
        let (stored, frame) = encode(&plain, start, &numbers);
        prop_assert!(frame.size.0 <= largest_frame(size as u64));
        prop_assert!(decode(&stored, &frame, &plain).unwrap() == plain);
    }

    #[test]
    fn a_changed_or_cut_frame_is_no_piece(place: prop::sample::Index, change in 1_u8..=255) {
        let (plain, stored, frame) = &*SAMPLE;
        let place = place.index(stored.len());
        let mut bad = stored.clone();
        bad[place] ^= change;
        prop_assert_eq!(decode(&bad, frame, plain), None);
        prop_assert_eq!(decode(&stored[..place], frame, plain), None);
    }

    #[test]
    fn no_block_makes_the_decoder_stumble(
        mut block in prop::collection::vec(any::<u8>(), 0..400), size in 1_usize..5000, count in 0_u8..3,
    ) {
        if let [low, high, ..] = block.as_mut_slice() {
            (*low, *high) = (count, 0);
        }
        let mut out = vec![0; size];
        let _ = Decoder::new().unwrap().block(&block, &mut out);
    }
}

/// A block of one run, with the stored bytes of its planes.
fn block(width: u8, size: u32, planes: &[(u32, &[u8])]) -> Vec<u8> {
    let mut block = 1_u16.to_le_bytes().to_vec();
    block.push(width);
    block.extend(size.to_le_bytes());
    for (size, _) in planes {
        block.extend(size.to_le_bytes());
    }
    for (_, bytes) in planes {
        block.extend_from_slice(bytes);
    }
    block
}

/// What only a hostile writer makes: it is signed, and it lies.
#[test]
fn a_block_that_lies_is_refused_without_more_memory_than_its_piece_has() {
    let zstd = |bytes: &[u8]| zstd::bulk::compress(bytes, 3).unwrap();
    let half = zstd(&[7; 50]);
    let plain = |bytes: &'static [u8]| (bytes.len() as u32, bytes);
    let good = block(2, 100, &[(half.len() as u32, &half), plain(&[1; 50])]);
    let mut out = [0; 100];
    let mut decode = |block: &[u8]| Decoder::new().unwrap().block(block, &mut out);
    assert!(decode(&good).is_some());
    let short = zstd(&[7; 49]);
    let mut followed = good.clone();
    followed.push(0);
    let mut many = (MAX_RUNS as u16 + 1).to_le_bytes().to_vec();
    many.extend(vec![1; 9000]);
    for (what, bad) in [
        ("empty", Vec::new()),
        ("cut", good[..good.len() - 1].to_vec()),
        ("bytes behind", followed),
        ("too many runs", many),
        ("no runs", vec![0, 0]),
        ("an unknown width", block(3, 100, &[plain(&[1; 100])])),
        ("an empty run", block(1, 0, &[(0, b"")])),
        (
            "half a number",
            block(2, 99, &[plain(&[1; 50]), plain(&[1; 49])]),
        ),
        ("a longer run", block(1, 101, &[plain(&[1; 101])])),
        ("a shorter run", block(1, 99, &[plain(&[1; 99])])),
        ("a run of 4 GiB", block(1, u32::MAX, &[plain(&[1; 100])])),
        ("a longer plane", block(1, 100, &[plain(&[1; 101])])),
        ("a plane past the end", block(1, 100, &[(100, &[1; 99])])),
        ("a plane of 4 GiB", block(1, 100, &[(u32::MAX, &[1; 100])])),
        ("no zstd", block(1, 100, &[plain(&[1; 60])])),
        (
            "a short plane",
            block(2, 100, &[(short.len() as u32, &short), plain(&[1; 50])]),
        ),
    ] {
        assert!(decode(&bad).is_none(), "{what}");
    }
    let bomb = zstd(&vec![0; 64 << 20]);
    let bomb = block(1, 100_000, &[(bomb.len() as u32, &bomb)]);
    let mut out = vec![0; 100_000];
    assert!(Decoder::new().unwrap().block(&bomb, &mut out).is_none());
}

#[test]
fn a_head_that_lies_is_refused() {
    let (plain, stored, _) = &*SAMPLE;
    let head = plain.len().div_ceil(BLOCK) * ENTRY;
    let signed = |head: &[u8], blocks: &[u8], size: u64| {
        let mut bytes = head.to_vec();
        bytes.extend_from_slice(blocks);
        let mut frame = frame(head, size);
        frame.size.0 = size;
        decode(&bytes, &frame, plain)
    };
    let (good, blocks) = stored.split_at(head);
    let size = stored.len() as u64;
    assert!(signed(good, blocks, size).is_some());
    for size in [0, 1, head as u64, size - 1, size + 1, u64::MAX / 2] {
        assert_eq!(signed(good, blocks, size), None, "{size}");
    }
    let mut huge = good.to_vec();
    huge[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(signed(&huge, blocks, size), None);
    let mut swapped = good.to_vec();
    swapped[..2 * ENTRY].rotate_left(ENTRY);
    assert_eq!(signed(&swapped, blocks, size), None);
    assert_eq!(signed(&good[..ENTRY], blocks, size), None);
}
