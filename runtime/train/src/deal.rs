//! The examples of an epoch, dealt a step at a time.

use train_data::{Batch, DataError, Item, dealt, file_order, shuffled};

use crate::job::Job;
use crate::run::Material;
use crate::trainer::TrainError;

/// What one optimizer step learns from.
pub(crate) struct Dealt {
    pub(crate) batches: Vec<Batch>,
    /// Items in them.
    pub(crate) items: usize,
    /// Nothing of the epoch is left.
    pub(crate) last: bool,
}

/// The steps of an epoch.
pub(crate) struct Deal<'a> {
    source: Source<'a>,
    batch_size: usize,
    in_step: usize,
    padding_id: u32,
}

enum Source<'a> {
    Listed {
        items: &'a [Item],
        order: std::vec::IntoIter<usize>,
    },
    Streamed {
        items: Box<dyn Iterator<Item = Result<Item, DataError>> + 'a>,
        /// Read ahead, so that the last is known as such.
        next: Option<Item>,
    },
}

impl<'a> Deal<'a> {
    /// This process's part of the steps of epoch `epoch` of `job`, from the one after its first `skip` items on.
    pub(crate) fn of(
        job: &Job,
        material: &Material<'a>,
        epoch: u64,
        skip: usize,
    ) -> Result<Self, TrainError> {
        let source = if let Some(stream) = material.stream {
            let mut items = Box::new(stream.epoch(epoch, skip)?);
            let next = items.next().transpose()?;
            Source::Streamed { items, next }
        } else {
            let count = material.items.len();
            let order = if job.disable_shuffling {
                file_order(count)
            } else {
                shuffled(count, job.data_seed, epoch)
            };
            let peers = material.peers;
            let mut order = dealt(order, job.batch_size, peers.rank(), peers.count());
            order.drain(..skip.min(order.len()));
            Source::Listed {
                items: material.items,
                order: order.into_iter(),
            }
        };
        Ok(Self {
            source,
            batch_size: job.batch_size,
            in_step: job.batch_size * job.gradient_accumulation_steps,
            padding_id: material.padding_id,
        })
    }

    /// The next step; none: the epoch is over.
    pub(crate) fn next(&mut self) -> Result<Option<Dealt>, TrainError> {
        let (batch_size, padding_id) = (self.batch_size, self.padding_id);
        let collate = |rows: &[&Item]| Batch::of(rows, padding_id);
        let dealt = match &mut self.source {
            Source::Listed { items, order } => {
                let rows: Vec<&Item> = order
                    .by_ref()
                    .take(self.in_step)
                    .map(|at| &items[at])
                    .collect();
                Dealt {
                    batches: rows.chunks(batch_size).map(collate).collect(),
                    items: rows.len(),
                    last: order.len() == 0,
                }
            }
            Source::Streamed { items, next } => {
                let mut rows = Vec::with_capacity(self.in_step);
                while rows.len() < self.in_step
                    && let Some(item) = next.take()
                {
                    rows.push(item);
                    *next = items.next().transpose()?;
                }
                let rows: Vec<&Item> = rows.iter().collect();
                Dealt {
                    batches: rows.chunks(batch_size).map(collate).collect(),
                    items: rows.len(),
                    last: next.is_none(),
                }
            }
        };
        Ok((dealt.items > 0).then_some(dealt))
    }
}
