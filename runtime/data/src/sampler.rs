//! The order of the examples in an epoch.

/// Returns the order of `count` examples in epoch `epoch`, shuffled by `seed`.
///
/// The order repeats for the same seed on every machine. It is a uniform shuffle, but not the one
/// `PyTorch` draws for that seed: a run that must match the original step by step needs
/// `disable_shuffling: true`, which is [`file_order`].
pub fn shuffled(count: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut state = seed ^ epoch.wrapping_mul(EPOCH_STRIDE);
    let mut order = file_order(count);
    for last in (1..count).rev() {
        // Multiply-and-shift maps a 64-bit number to 0..=last; its bias is under 2^-30 here.
        let drawn = u128::from(next(&mut state)) * (last as u128 + 1);
        order.swap(last, (drawn >> 64) as usize);
    }
    order
}

/// Returns the order of the files.
pub fn file_order(count: usize) -> Vec<usize> {
    (0..count).collect()
}

/// Any odd number far from the generator's own stride keeps epochs apart.
const EPOCH_STRIDE: u64 = 0xD6E8_FEB8_6659_FD93;

/// One draw of `SplitMix64` (Steele, Lea, Flood 2014).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffle_is_a_permutation_that_repeats() {
        let order = shuffled(100, 42, 0);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, file_order(100));
        assert_ne!(order, sorted);
        assert_eq!(order, shuffled(100, 42, 0));
        assert_ne!(order, shuffled(100, 42, 1));
        assert_ne!(order, shuffled(100, 43, 0));
        assert_eq!(shuffled(0, 1, 0), [0; 0]);
        assert_eq!(shuffled(1, 1, 0), [0]);
    }
}
