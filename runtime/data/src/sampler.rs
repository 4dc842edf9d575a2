//! The order of the examples in an epoch.

use rand_mt::Mt;

/// Returns the order of `count` examples in epoch `epoch`, shuffled by `seed`.
///
/// It is the order that LLaMA-Factory trains in: accelerate's `SeedableRandomSampler` seeds a generator with
/// `seed + epoch` in each epoch, and draws `torch.randperm(count)` from it.
pub fn shuffled(count: usize, seed: u64, epoch: u64) -> Vec<usize> {
    // torch keeps the low half of a seed, too.
    let mut generator = Mt::new(seed.wrapping_add(epoch) as u32);
    let mut order = file_order(count);
    for at in 0..count.saturating_sub(1) {
        let drawn = generator.next_u32() as usize % (count - at);
        order.swap(at, at + drawn);
    }
    order
}

/// Returns the order of the files.
pub fn file_order(count: usize) -> Vec<usize> {
    (0..count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Drawn by `torch.randperm(10, generator=torch.Generator().manual_seed(seed))` of torch 2.13.
    #[test]
    fn a_shuffle_is_torchs() {
        assert_eq!(shuffled(10, 42, 0), [2, 6, 1, 8, 4, 5, 0, 9, 3, 7]);
        assert_eq!(shuffled(10, 42, 1), [8, 4, 9, 0, 5, 1, 6, 7, 2, 3]);
        assert_eq!(shuffled(10, 43, 0), shuffled(10, 42, 1));
    }

    #[test]
    fn a_shuffle_is_a_permutation() {
        let mut sorted = shuffled(100, 42, 0);
        sorted.sort_unstable();
        assert_eq!(sorted, file_order(100));
        assert_eq!(shuffled(0, 1, 0), [0; 0]);
        assert_eq!(shuffled(1, 1, 0), [0]);
    }
}
