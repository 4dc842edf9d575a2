//! The SHA-2 extension of aarch64: `sha256h` does four rounds and answers some cycles later, so two states that take turns
//! cost less than twice one.

use std::arch::aarch64::{
    uint32x4_t, vaddq_u32, vcombine_u32, vcombine_u64, vcreate_u32, vcreate_u64, vgetq_lane_u32,
    vreinterpretq_u8_u64, vreinterpretq_u32_u8, vrev32q_u8, vsha256h2q_u32, vsha256hq_u32,
    vsha256su0q_u32, vsha256su1q_u32,
};
use std::arch::is_aarch64_feature_detected;

use crate::compress::{Block, State, constants};

/// Whether this processor has what the functions here are made of.
pub(crate) fn is_there() -> bool {
    is_aarch64_feature_detected!("sha2")
}

#[target_feature(enable = "sha2")]
pub(crate) fn same(one: &mut State, other: &mut State, blocks: &[Block]) {
    let (mut a, mut b) = (Lane::of(one), Lane::of(other));
    let (first, last) = constants();
    for block in blocks {
        let before = (a, b);
        let mut message = Message::of(block);
        for k in first {
            let words = plus(message.next(), k);
            a.four_rounds(words);
            b.four_rounds(words);
        }
        for (words, k) in message.0.into_iter().zip(last) {
            let words = plus(words, k);
            a.four_rounds(words);
            b.four_rounds(words);
        }
        a.add(before.0);
        b.add(before.1);
    }
    (*one, *other) = (a.state(), b.state());
}

#[target_feature(enable = "sha2")]
pub(crate) fn two(one: &mut State, its: &[Block], other: &mut State, others: &[Block]) {
    let (mut a, mut b) = (Lane::of(one), Lane::of(other));
    let (first, last) = constants();
    for (block, other) in its.iter().zip(others) {
        let before = (a, b);
        let (mut message, mut second) = (Message::of(block), Message::of(other));
        for k in first {
            a.four_rounds(plus(message.next(), k));
            b.four_rounds(plus(second.next(), k));
        }
        for (at, k) in last.iter().enumerate() {
            a.four_rounds(plus(message.0[at], k));
            b.four_rounds(plus(second.0[at], k));
        }
        a.add(before.0);
        b.add(before.1);
    }
    (*one, *other) = (a.state(), b.state());
}

/// A state.
#[derive(Clone, Copy)]
struct Lane {
    abcd: uint32x4_t,
    efgh: uint32x4_t,
}

impl Lane {
    #[target_feature(enable = "sha2")]
    #[inline]
    fn of(state: &State) -> Self {
        Self {
            abcd: four([state[0], state[1], state[2], state[3]]),
            efgh: four([state[4], state[5], state[6], state[7]]),
        }
    }

    #[target_feature(enable = "sha2")]
    #[inline]
    fn state(self) -> State {
        let Self { abcd, efgh } = self;
        [
            vgetq_lane_u32::<0>(abcd),
            vgetq_lane_u32::<1>(abcd),
            vgetq_lane_u32::<2>(abcd),
            vgetq_lane_u32::<3>(abcd),
            vgetq_lane_u32::<0>(efgh),
            vgetq_lane_u32::<1>(efgh),
            vgetq_lane_u32::<2>(efgh),
            vgetq_lane_u32::<3>(efgh),
        ]
    }

    #[target_feature(enable = "sha2")]
    #[inline]
    fn four_rounds(&mut self, words: uint32x4_t) {
        let abcd = self.abcd;
        self.abcd = vsha256hq_u32(abcd, self.efgh, words);
        self.efgh = vsha256h2q_u32(self.efgh, abcd, words);
    }

    #[target_feature(enable = "sha2")]
    #[inline]
    fn add(&mut self, before: Self) {
        self.abcd = vaddq_u32(self.abcd, before.abcd);
        self.efgh = vaddq_u32(self.efgh, before.efgh);
    }
}

/// The next sixteen words of a block's schedule, four in each.
struct Message([uint32x4_t; 4]);

impl Message {
    #[target_feature(enable = "sha2")]
    #[inline]
    fn of(block: &Block) -> Self {
        let (halves, _) = block.as_chunks();
        let words = |at: usize| {
            let half = |at: usize| vcreate_u64(u64::from_le_bytes(halves[at]));
            let bytes = vreinterpretq_u8_u64(vcombine_u64(half(at), half(at + 1)));
            vreinterpretq_u32_u8(vrev32q_u8(bytes))
        };
        Self([words(0), words(2), words(4), words(6)])
    }

    /// The next four words; those that come sixteen words later are made of them.
    #[target_feature(enable = "sha2")]
    #[inline]
    fn next(&mut self) -> uint32x4_t {
        let [a, b, c, d] = self.0;
        self.0 = [b, c, d, vsha256su1q_u32(vsha256su0q_u32(a, b), c, d)];
        a
    }
}

#[target_feature(enable = "sha2")]
#[inline]
fn plus(words: uint32x4_t, constants: &[u32; 4]) -> uint32x4_t {
    vaddq_u32(words, four(*constants))
}

#[target_feature(enable = "sha2")]
#[inline]
fn four([a, b, c, d]: [u32; 4]) -> uint32x4_t {
    let half = |low, high| vcreate_u32(u64::from(low) | u64::from(high) << 32);
    vcombine_u32(half(a, b), half(c, d))
}
