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

/// Returns the part of `order` that process `rank` of `count` learns from, in micro-batches of `size`.
///
/// Micro-batches are dealt round, as accelerate's `BatchSamplerShard` deals them; for every process to get as many, and
/// all of them full, the order goes on from its start. One process gets the order as it is.
pub fn dealt(mut order: Vec<usize>, size: usize, rank: usize, count: usize) -> Vec<usize> {
    let round = size * count;
    if count < 2 || round == 0 || order.is_empty() {
        return order;
    }
    let missing = order.len().next_multiple_of(round) - order.len();
    let start: Vec<usize> = order.iter().copied().take(round).collect();
    order.extend(start.into_iter().cycle().take(missing));
    let own = order.chunks(size).skip(rank).step_by(count);
    own.flatten().copied().collect()
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
    fn micro_batches_are_dealt_round_until_all_have_as_many() {
        let dealt = |items: usize, size, count| -> Vec<Vec<usize>> {
            let part = |rank| dealt(file_order(items), size, rank, count);
            (0..count).map(part).collect()
        };
        assert_eq!(dealt(8, 2, 2), [[0, 1, 4, 5], [2, 3, 6, 7]]);
        // Nine items: the last micro-batch of each process begins anew.
        assert_eq!(dealt(9, 2, 2), [[0, 1, 4, 5, 8, 0], [2, 3, 6, 7, 1, 2]]);
        // Fewer than one round.
        assert_eq!(dealt(3, 2, 4), [[0, 1], [2, 0], [1, 2], [0, 1]]);
        assert_eq!(dealt(5, 2, 1), [[0, 1, 2, 3, 4]]);
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
