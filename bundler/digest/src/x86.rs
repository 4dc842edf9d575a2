//! The SHA extensions of x86: `sha256rnds2` does two rounds and answers four cycles later, so two states that take turns
//! cost little more than one.

use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_extract_epi32, _mm_set_epi32, _mm_set_epi64x,
    _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8,
    _mm_shuffle_epi32,
};

use crate::compress::{Block, State, constants};

/// Whether this processor has what the functions here are made of.
pub(crate) fn is_there() -> bool {
    is_x86_feature_detected!("sha")
        && is_x86_feature_detected!("sse4.1")
        && is_x86_feature_detected!("ssse3")
}

#[target_feature(enable = "sha,sse4.1,ssse3")]
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

#[target_feature(enable = "sha,sse4.1,ssse3")]
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

/// A state, in the order that the instructions want.
#[derive(Clone, Copy)]
struct Lane {
    abef: __m128i,
    cdgh: __m128i,
}

impl Lane {
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    #[inline]
    fn of(state: &State) -> Self {
        let s = state.map(u32::cast_signed);
        Self {
            abef: _mm_set_epi32(s[0], s[1], s[4], s[5]),
            cdgh: _mm_set_epi32(s[2], s[3], s[6], s[7]),
        }
    }

    #[target_feature(enable = "sha,sse4.1,ssse3")]
    #[inline]
    fn state(self) -> State {
        let Self { abef, cdgh } = self;
        let words = [
            _mm_extract_epi32::<3>(abef),
            _mm_extract_epi32::<2>(abef),
            _mm_extract_epi32::<3>(cdgh),
            _mm_extract_epi32::<2>(cdgh),
            _mm_extract_epi32::<1>(abef),
            _mm_extract_epi32::<0>(abef),
            _mm_extract_epi32::<1>(cdgh),
            _mm_extract_epi32::<0>(cdgh),
        ];
        words.map(i32::cast_unsigned)
    }

    #[target_feature(enable = "sha,sse4.1,ssse3")]
    #[inline]
    fn four_rounds(&mut self, words: __m128i) {
        self.cdgh = _mm_sha256rnds2_epu32(self.cdgh, self.abef, words);
        let upper = _mm_shuffle_epi32::<0x0E>(words);
        self.abef = _mm_sha256rnds2_epu32(self.abef, self.cdgh, upper);
    }

    #[target_feature(enable = "sha,sse4.1,ssse3")]
    #[inline]
    fn add(&mut self, before: Self) {
        self.abef = _mm_add_epi32(self.abef, before.abef);
        self.cdgh = _mm_add_epi32(self.cdgh, before.cdgh);
    }
}

/// The next sixteen words of a block's schedule, four in each.
struct Message([__m128i; 4]);

impl Message {
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    #[inline]
    fn of(block: &Block) -> Self {
        let big_endian = _mm_set_epi64x(0x0C0D_0E0F_0809_0A0B, 0x0405_0607_0001_0203);
        let (halves, _) = block.as_chunks();
        let words = |at: usize| {
            let half = |at: usize| i64::from_le_bytes(halves[at]);
            _mm_shuffle_epi8(_mm_set_epi64x(half(at + 1), half(at)), big_endian)
        };
        Self([words(0), words(2), words(4), words(6)])
    }

    /// The next four words; those that come sixteen words later are made of them.
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    #[inline]
    fn next(&mut self) -> __m128i {
        let [a, b, c, d] = self.0;
        let sum = _mm_add_epi32(_mm_sha256msg1_epu32(a, b), _mm_alignr_epi8::<4>(d, c));
        self.0 = [b, c, d, _mm_sha256msg2_epu32(sum, d)];
        a
    }
}

#[target_feature(enable = "sha,sse4.1,ssse3")]
#[inline]
fn plus(words: __m128i, constants: &[u32; 4]) -> __m128i {
    let [a, b, c, d] = constants.map(u32::cast_signed);
    _mm_add_epi32(words, _mm_set_epi32(d, c, b, a))
}
