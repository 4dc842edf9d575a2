//! The examples of an epoch, dealt a step at a time.

use train_data::{Batch, Item, dealt, file_order, shuffled};

use crate::job::Job;
use crate::run::Material;
use crate::streamed_deal::StreamedDeal;
use crate::trainer::TrainError;

/// What one optimizer step learns from.
pub(crate) struct Dealt {
    pub(crate) batches: Vec<Batch>,
    /// How far the source moved: this process's items; of a stream those of all processes.
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
    Streamed(Box<StreamedDeal<'a>>),
}

impl<'a> Deal<'a> {
    /// This process's part of the steps of epoch `epoch` of `job`, from the one after its first `skip` items on.
    pub(crate) fn of(
        job: &Job,
        material: &Material<'a>,
        epoch: u64,
        skip: usize,
    ) -> Result<Self, TrainError> {
        let peers = material.peers;
        let source = if let Some(stream) = material.stream {
            let place = (peers.rank(), peers.count());
            let deal = StreamedDeal::of(stream, place, job.batch_size, epoch, skip)?;
            Source::Streamed(Box::new(deal))
        } else {
            let count = material.items.len();
            let order = if job.disable_shuffling {
                file_order(count)
            } else {
                shuffled(count, job.data_seed, epoch)
            };
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
            in_step: job.gradient_accumulation_steps,
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
                    .take(self.in_step * batch_size)
                    .map(|at| &items[at])
                    .collect();
                Dealt {
                    batches: rows.chunks(batch_size).map(collate).collect(),
                    items: rows.len(),
                    last: order.len() == 0,
                }
            }
            Source::Streamed(deal) => {
                let (mut batches, mut items) = (Vec::with_capacity(self.in_step), 0);
                while batches.len() < self.in_step
                    && let Some(round) = deal.round()?
                {
                    let rows: Vec<&Item> = round.own.iter().collect();
                    batches.push(collate(&rows));
                    items += round.items;
                }
                Dealt {
                    batches,
                    items,
                    last: deal.is_over(),
                }
            }
        };
        Ok((dealt.items > 0).then_some(dealt))
    }
}
