//! What memory a run needs, before it starts.

use serde::Serialize;
use train_data::Item;

use crate::job::{FineTuning, Job, Numeric, Objective};
use crate::shape::{ModelShape, ShapeError};

/// Bytes of a number in the computation, whatever the files hold.
const NUMBER: u64 = 4;

/// What the program and its libraries take before any model is loaded, measured with libtorch on CPU.
const PROGRAM: u64 = 170 << 20;

/// More numbers than any machine holds: what is above it is cut, so that sums stay below 64 bits.
const MOST: u64 = 1 << 56;

/// Bytes that a run needs at its peak, by what they are for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Memory {
    /// The model's weights.
    pub weights: u64,
    /// The model's once more, as it was before training, where the loss asks for that.
    pub reference: u64,
    /// The adapter's.
    pub adapter: u64,
    /// One number for each that is trained.
    pub gradients: u64,
    /// Two numbers for each that is trained.
    pub optimizer: u64,
    /// What the backward pass needs of the forward pass, of the longest micro-batch.
    pub activations: u64,
    /// Likelihoods of all words at each label of that micro-batch, with their logarithms and gradients.
    pub logits: u64,
    /// Program and libraries.
    pub program: u64,
}

impl Memory {
    /// Foresees what `job` needs to train a model of `shape` on `items`.
    pub fn of(job: &Job, shape: &ModelShape, items: &[Item]) -> Result<Self, ShapeError> {
        let trained = shape.trainable(&job.fine_tuning)?.min(MOST);
        let all = shape.parameters().min(MOST);
        let adapter = match &job.fine_tuning {
            FineTuning::Lora(_) => trained,
            FineTuning::Freeze(_) | FineTuning::Full => 0,
        };
        let (tokens, labels) = longest(items, job.batch_size);
        Ok(Self {
            weights: held(job, shape, all, trained),
            reference: if adapter == 0 && job.objective.needs_reference() {
                all * NUMBER - spared(shape, all)
            } else {
                0
            },
            adapter: adapter * NUMBER,
            gradients: trained * NUMBER,
            optimizer: 2 * trained * NUMBER,
            activations: tokens
                .saturating_mul(held_for_a_token(job, shape))
                .min(MOST)
                * NUMBER,
            logits: labels.saturating_mul(3 * shape.vocabulary).min(MOST) * NUMBER,
            program: PROGRAM,
        })
    }

    /// The same for one process on a processor: gradients of matrices are then the two sides that they are products of, where
    /// those are smaller.
    #[must_use]
    pub fn alone(mut self, job: &Job, shape: &ModelShape, items: &[Item]) -> Self {
        let wide = matches!(job.numeric, Numeric::Float32 | Numeric::Float16);
        if wide && job.fine_tuning == FineTuning::Full && job.objective == Objective::Tokens {
            let (tokens, labels) = longest(items, job.batch_size);
            let times = job.gradient_accumulation_steps as u64;
            let sides = shape.sides(tokens.saturating_mul(times), labels.saturating_mul(times));
            self.gradients = self.gradients.min(sides.min(MOST) * NUMBER);
        }
        self
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.parts().iter().map(|(_, bytes)| bytes).sum()
    }

    /// Each part with its name.
    pub fn parts(&self) -> [(&'static str, u64); 8] {
        [
            ("weights", self.weights),
            ("reference", self.reference),
            ("adapter", self.adapter),
            ("gradients", self.gradients),
            ("optimizer", self.optimizer),
            ("activations", self.activations),
            ("logits", self.logits),
            ("program", self.program),
        ]
    }
}

/// Bytes that frozen matrices of so many numbers do without, as they stay in the 16 bits of the files.
fn spared(shape: &ModelShape, numbers: u64) -> u64 {
    if shape.narrow {
        numbers * (NUMBER - 2)
    } else {
        0
    }
}

/// Bytes that hold a model of `all` numbers, of which so many are `trained`, or as many in an adapter. In four bits a number takes half a byte and its share of a scale; while one
/// matrix is packed or used, it is there as numbers, twice.
fn held(job: &Job, shape: &ModelShape, all: u64, trained: u64) -> u64 {
    let (packing, frozen) = match &job.fine_tuning {
        // Matrices that are changed before training are widened for good; what trains beside the adapter is, too.
        FineTuning::Lora(lora) if lora.pissa || lora.adapters.len() > usize::from(!lora.fresh) => {
            (lora.quantization, 0)
        }
        FineTuning::Lora(lora) if lora.whole_modules.is_empty() => (lora.quantization, all),
        FineTuning::Lora(lora) => (lora.quantization, all.saturating_sub(trained)),
        FineTuning::Freeze(_) | FineTuning::Full => (None, all.saturating_sub(trained)),
    };
    let Some(packing) = packing else {
        return all * NUMBER - spared(shape, frozen);
    };
    let (packed, largest) = shape.packed();
    let (packed, largest) = (packed.min(all), largest.min(MOST));
    let scales = packed / 64;
    let scales = if packing.double {
        scales + scales / 64
    } else {
        scales * NUMBER
    };
    let rest = all - packed;
    let rest = rest * NUMBER - spared(shape, rest.min(frozen));
    rest + packed / 2 + scales + 2 * largest * NUMBER
}

/// Numbers that are held of each token at the peak.
///
/// Of a block the way back needs its input and middle (2 widths), queries and attention's result (2 query widths), keys
/// and values, gate and up (2 feed-forward widths, of each expert that a token is sent to); where activations are
/// recomputed, of all blocks but one the input alone. Beside it the block that is gone back through works on about as
/// much again. A loss that compares answers goes back through libtorch's graph, which keeps about twice as much.
fn held_for_a_token(job: &Job, shape: &ModelShape) -> u64 {
    let (hidden, queries) = (shape.hidden, shape.queries);
    let feeds: Vec<u64> = (0..shape.layers)
        .map(|number| shape.width(number))
        .collect();
    let largest = feeds.iter().copied().max().unwrap_or(0);
    let all = |of_one: &dyn Fn(u64) -> u64| {
        let each = feeds.iter().map(|feed| of_one(*feed));
        each.fold(0, u64::saturating_add)
    };
    let work = |feed: u64| 2 * (hidden + queries + feed);
    let kept = |feed: u64| work(feed) + 2 * shape.keys;
    if job.objective != Objective::Tokens {
        return all(&|feed| 4 * hidden + 5 * queries + 4 * feed) + 2 * hidden;
    }
    if job.recomputation_asked {
        return shape.layers * hidden + kept(largest) + work(largest);
    }
    all(&kept).saturating_add(work(largest))
}

/// Tokens and labels of the longest micro-batch that a shuffle can deal.
fn longest(items: &[Item], batch_size: usize) -> (u64, u64) {
    let top = |mut counts: Vec<usize>| -> u64 {
        counts.sort_unstable_by(|a, b| b.cmp(a));
        counts.iter().take(batch_size).map(|n| *n as u64).sum()
    };
    (
        top(items.iter().map(Item::tokens).collect()),
        top(items.iter().map(Item::labels).collect()),
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use train_data::Example;

    use super::*;

    #[test]
    fn the_parts_are_those_of_the_longest_micro_batch() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/model");
        let shape = ModelShape::read(Path::new(root)).unwrap();
        let text = "model_name_or_path: m\ndataset: d\noutput_dir: o\nlora_rank: 8\n\
                    per_device_train_batch_size: 2\n";
        let job = Job::parse("job.yaml", text, &[]).unwrap();
        let item = |length: usize| {
            Item::Single(Example {
                input_ids: vec![1; length],
                labels: vec![1; length],
                packed: None,
            })
        };
        let items = [item(10), item(30), item(20)];
        let memory = Memory::of(&job, &shape, &items).unwrap();
        assert_eq!(memory.weights, 246_848 * 4);
        assert_eq!((memory.adapter, memory.optimizer), (38_912 * 4, 38_912 * 8));
        assert_eq!(memory.logits, 3 * 50 * 768 * 4);
        assert_eq!(memory.activations % 50, 0);
        let parts: u64 = memory.parts().iter().map(|(_, bytes)| bytes).sum();
        assert_eq!(memory.total(), parts);
        let less = ["gradient_checkpointing=true".to_owned()];
        let less = Job::parse("job.yaml", text, &less).unwrap();
        let less = Memory::of(&less, &shape, &items).unwrap();
        assert!(less.activations < memory.activations);
        let four = ["quantization_bit=4".to_owned()];
        let four = Job::parse("job.yaml", text, &four).unwrap();
        let four = Memory::of(&four, &shape, &items).unwrap();
        // The embedding, norms and biases stay; a matrix of 192 times 64 is there twice.
        let matrices = 246_848 - 768 * 64 - (9 * 64 + 4 * 128);
        let packed = matrices / 2 + matrices / 64 + matrices / 64 / 64;
        let rest = (246_848 - matrices) * 4;
        assert_eq!(four.weights, packed + rest + 2 * 4 * 192 * 64);
        let full_job = Job::parse("job.yaml", text, &["finetuning_type=full".to_owned()]).unwrap();
        let full = Memory::of(&full_job, &shape, &items).unwrap();
        // A matrix of 192 times 64 is smaller than 50 times both, one of 64 times 32 too.
        let alone = full.alone(&full_job, &shape, &items);
        let table = 50 * 64 + 50 * (768 + 64);
        assert_eq!(full.gradients - alone.gradients, (768 * 64 - table) * 4);
        // Of files of 16 bits frozen matrices keep them.
        let halved = ModelShape {
            narrow: true,
            ..shape.clone()
        };
        let memory_halved = Memory::of(&job, &halved, &items).unwrap();
        assert_eq!(memory_halved.weights, 246_848 * 2);
        let full_halved = Memory::of(&full_job, &halved, &items).unwrap();
        assert_eq!(full_halved.weights, full.weights);
        assert_eq!((full.adapter, full.gradients), (0, full.weights));
        assert_eq!((full.reference, memory.reference), (0, 0));
        let more = ["finetuning_type=full", "stage=dpo"].map(str::to_owned);
        let compared = Job::parse("job.yaml", text, &more).unwrap();
        let compared = Memory::of(&compared, &shape, &items).unwrap();
        assert_eq!(compared.reference, compared.weights);
    }
}
