//! What a run must share with its checkpoint to go on where that was: examples, their order, batches.

use serde::{Deserialize, Serialize};
use train_data::Item;

use crate::job::Job;

/// What must be the same for a run to go on where it was.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Order {
    examples: usize,
    content: String,
    batch_size: usize,
    gradient_accumulation_steps: usize,
    data_seed: u64,
    disable_shuffling: bool,
    seed: u64,
    /// A checkpoint that does not say was written by one.
    #[serde(default = "one")]
    processes: usize,
}

fn one() -> usize {
    1
}

impl Order {
    pub(crate) fn of(job: &Job, items: &[Item], processes: usize) -> Self {
        Self {
            examples: items.len(),
            content: format!("{:016x}", digest(items)),
            batch_size: job.batch_size,
            gradient_accumulation_steps: job.gradient_accumulation_steps,
            data_seed: job.data_seed,
            disable_shuffling: job.disable_shuffling,
            seed: job.seed,
            processes,
        }
    }

    /// Of examples that nobody has counted, and that `content` stands for.
    pub(crate) fn streamed(job: &Job, content: String, processes: usize) -> Self {
        Self {
            content,
            ..Self::of(job, &[], processes)
        }
    }

    /// The first difference: what it is, what the checkpoint has, what the job has.
    pub(crate) fn difference(&self, now: &Self) -> Option<(&'static str, String, String)> {
        let pair = |name, then: &dyn ToString, now: &dyn ToString| {
            (name, then.to_string(), now.to_string())
        };
        [
            pair("examples", &self.examples, &now.examples),
            pair("content of the examples", &self.content, &now.content),
            pair(
                "per_device_train_batch_size",
                &self.batch_size,
                &now.batch_size,
            ),
            pair(
                "gradient_accumulation_steps",
                &self.gradient_accumulation_steps,
                &now.gradient_accumulation_steps,
            ),
            pair("data_seed", &self.data_seed, &now.data_seed),
            pair(
                "disable_shuffling",
                &self.disable_shuffling,
                &now.disable_shuffling,
            ),
            pair("seed", &self.seed, &now.seed),
            pair("number of processes", &self.processes, &now.processes),
        ]
        .into_iter()
        .find(|(_, then, now)| then != now)
    }
}

/// FNV-1a over every token and label: enough to notice other data, not to resist forgery.
fn digest(items: &[Item]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |number: u64| {
        hash = (hash ^ number).wrapping_mul(0x0000_0100_0000_01b3);
    };
    for item in items {
        let rows = match item {
            Item::Single(example) => [Some(example), None],
            Item::Pair { chosen, rejected } => [Some(chosen), Some(rejected)],
            Item::Judged {
                example,
                mismatched,
                desirable,
            } => {
                add(u64::from(*desirable));
                [Some(example), Some(mismatched)]
            }
        };
        for row in rows.into_iter().flatten() {
            add(row.input_ids.len() as u64);
            for (id, label) in row.input_ids.iter().zip(&row.labels) {
                add(u64::from(*id) ^ (*label as u64).rotate_left(32));
            }
        }
    }
    hash
}
