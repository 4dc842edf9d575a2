//! Long texts as windows that overlap, so that nothing of them is cut off.
//!
//! ```text
//! text      0123456789abcdef
//! window 0  01234567               width 8, overlap 3
//! window 1       56789abc
//! window 2            abcdef       the last may be shorter
//! ```
//!
//! What a window has in common with the one before it is there to be read: its labels are ignored, so that every token is
//! learnt once.

use std::ops::Range;

/// The windows over `length` tokens, each `width` long and `overlap` tokens into the one before it.
pub(crate) fn windows(
    length: usize,
    width: usize,
    overlap: usize,
) -> impl Iterator<Item = Range<usize>> {
    let step = width.saturating_sub(overlap).max(1);
    let mut next = Some(0);
    std::iter::from_fn(move || {
        let start = next?;
        let end = (start + width).min(length);
        next = (end < length).then_some(start + step);
        Some(start..end)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn windows_lie_as_drawn() {
        let all: Vec<_> = windows(16, 8, 3).collect();
        assert_eq!(all, [0..8, 5..13, 10..16]);
        for length in [8, 0] {
            let mut all = windows(length, 8, 3);
            assert_eq!((all.next(), all.next()), (Some(0..length), None));
        }
    }

    proptest! {
        #[test]
        fn every_token_is_new_in_one_window(length in 0_usize..500, width in 1_usize..50, part in 0.0..0.5) {
            let overlap = (width as f64 * part) as usize;
            let mut seen = 0;
            for (index, window) in windows(length, width, overlap).enumerate() {
                prop_assert!(window.len() <= width);
                let known = if index == 0 { 0 } else { overlap.min(window.len()) };
                prop_assert_eq!(window.start + known, seen);
                seen = window.end;
            }
            prop_assert_eq!(seen, length);
        }
    }
}
