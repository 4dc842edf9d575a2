//! SHA-256 of two things at a time.
//!
//! One state leaves a processor's SHA instructions idle most of the time: each waits for the one before. Two states in step
//! fill the gaps. So the digests of a whole and of its pieces cost about what one of them does ([`update_same`]), and
//! two messages take much less than twice one ([`update_two`]).
//!
//! Padding and splitting are done here, the compression of one state by `sha2`. Of this crate only `compress` holds `unsafe`
//! code: the calls of functions whose instructions the processor was asked for.

#[cfg(target_arch = "aarch64")]
mod arm;
mod compress;
#[cfg(target_arch = "x86_64")]
mod x86;

use sha2::block_api::compress256;

use crate::compress::{Block, State};

/// A SHA-256 that takes bytes as they come.
#[derive(Clone, Debug)]
pub struct Hash {
    state: State,
    /// Bytes of a block that is not whole; as many as `length` is over.
    open: Block,
    /// Bytes taken.
    length: u64,
}

impl Hash {
    /// Of no bytes yet.
    pub const fn new() -> Self {
        Self {
            state: START,
            open: [0; BLOCK],
            length: 0,
        }
    }

    /// Takes bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        let (blocks, rest) = self.close(bytes).as_chunks();
        compress256(&mut self.state, blocks);
        self.took(blocks.len());
        self.open(rest);
    }

    /// The digest of all that was taken.
    pub fn finish(mut self) -> [u8; 32] {
        let bits = self.length.wrapping_mul(8).to_be_bytes();
        let held = self.held();
        let room = BLOCK - bits.len();
        let padding = if held < room { room } else { room + BLOCK } - held;
        self.update(&PADDING[..padding]);
        self.update(&bits);
        let mut digest = [0; 32];
        for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip(self.state) {
            *bytes = word.to_be_bytes();
        }
        digest
    }

    fn held(&self) -> usize {
        (self.length % BLOCK as u64) as usize
    }

    /// Fills the open block. Returns the bytes that did not go into it; where there are any, no block is open.
    fn close<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let held = self.held();
        if held == 0 {
            return bytes;
        }
        let (fill, rest) = bytes.split_at(bytes.len().min(BLOCK - held));
        self.open[held..held + fill.len()].copy_from_slice(fill);
        self.length += fill.len() as u64;
        if self.held() == 0 && !fill.is_empty() {
            compress256(&mut self.state, &[self.open]);
        }
        rest
    }

    fn took(&mut self, blocks: usize) {
        self.length += (blocks * BLOCK) as u64;
    }

    /// Keeps bytes until their block is whole.
    fn open(&mut self, rest: &[u8]) {
        self.open[..rest.len()].copy_from_slice(rest);
        self.length += rest.len() as u64;
    }
}

impl Default for Hash {
    fn default() -> Self {
        Self::new()
    }
}

/// Lets both take the same bytes. It is fast where their open blocks began together, as those of a whole and its pieces do.
pub fn update_same(one: &mut Hash, other: &mut Hash, bytes: &[u8]) {
    if one.held() != other.held() {
        one.update(bytes);
        other.update(bytes);
        return;
    }
    other.close(bytes);
    let (blocks, rest) = one.close(bytes).as_chunks();
    compress::same(&mut one.state, &mut other.state, blocks);
    for hash in [one, other] {
        hash.took(blocks.len());
        hash.open(rest);
    }
}

/// Lets each take bytes of its own. It is fast as far as both have some.
pub fn update_two(one: &mut Hash, its: &[u8], other: &mut Hash, others: &[u8]) {
    let (its, others) = (one.close(its), other.close(others));
    let count = its.len().min(others.len()) / BLOCK;
    let (its, its_rest) = its.split_at(count * BLOCK);
    let (others, others_rest) = others.split_at(count * BLOCK);
    compress::two(
        &mut one.state,
        its.as_chunks().0,
        &mut other.state,
        others.as_chunks().0,
    );
    one.took(count);
    other.took(count);
    one.update(its_rest);
    other.update(others_rest);
}

const BLOCK: usize = size_of::<Block>();

/// What ends a message, before its length.
const PADDING: [u8; 2 * BLOCK] = {
    let mut padding = [0; 2 * BLOCK];
    padding[0] = 0x80;
    padding
};

/// FIPS 180-4, 5.3.3.
const START: State = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use sha2::{Digest as _, Sha256};

    use super::*;

    fn digest(bytes: &[u8]) -> [u8; 32] {
        Sha256::digest(bytes).into()
    }

    #[test]
    fn every_length_has_its_digest() {
        let bytes: Vec<u8> = (0..400_u32).map(|n| (n * 7 % 251) as u8).collect();
        for length in 0..bytes.len() {
            let mut hash = Hash::new();
            hash.update(&bytes[..length]);
            assert_eq!(hash.finish(), digest(&bytes[..length]), "{length}");
        }
    }

    /// A message and where it is cut.
    fn cut() -> impl Strategy<Value = (Vec<u8>, Vec<usize>)> {
        (
            vec(any::<u8>(), 0..2000),
            vec(prop_oneof![0..200_usize, Just(64), Just(128)], 0..30),
        )
    }

    /// The runs of a message between its cuts.
    fn runs((bytes, cuts): &(Vec<u8>, Vec<usize>)) -> Vec<&[u8]> {
        let mut rest = bytes.as_slice();
        let mut runs = Vec::new();
        for cut in cuts {
            let (run, after) = rest.split_at((*cut).min(rest.len()));
            runs.push(run);
            rest = after;
        }
        runs.push(rest);
        runs
    }

    proptest! {
        #[test]
        fn one_after_the_other(message in cut()) {
            let mut hash = Hash::new();
            for run in runs(&message) {
                hash.update(run);
            }
            prop_assert_eq!(hash.finish(), digest(&message.0));
        }

        #[test]
        fn a_whole_and_what_began_later(before in vec(any::<u8>(), 0..300), message in cut()) {
            let (mut whole, mut piece) = (Hash::new(), Hash::new());
            whole.update(&before);
            for run in runs(&message) {
                update_same(&mut whole, &mut piece, run);
            }
            let all = [before.as_slice(), &message.0].concat();
            prop_assert_eq!(whole.finish(), digest(&all));
            prop_assert_eq!(piece.finish(), digest(&message.0));
        }

        #[test]
        fn two_messages(first in cut(), second in cut()) {
            let (mut one, mut other) = (Hash::new(), Hash::new());
            let (firsts, seconds) = (runs(&first), runs(&second));
            for at in 0..firsts.len().max(seconds.len()) {
                let run = |runs: &[&'_ [u8]]| runs.get(at).map_or(Vec::new(), |run| run.to_vec());
                update_two(&mut one, &run(&firsts), &mut other, &run(&seconds));
            }
            prop_assert_eq!(one.finish(), digest(&first.0));
            prop_assert_eq!(other.finish(), digest(&second.0));
        }
    }
}
