//! The records of a stream in the order of an epoch: datasets mixed, and shuffled through a buffer.

use crate::dataset::{Dataset, Slot, Slots};
use crate::error::DataError;
use crate::mixing::{Mix, Turns};
use crate::prepare::Request;
use crate::shuffle::{Shuffled, generator};
use crate::streamed::Streaming;

/// All records of an epoch, mixed and shuffled.
pub(crate) fn shuffled<'a>(
    sets: &'a [Dataset],
    request: &Request<'_>,
    streaming: Streaming,
    epoch: u64,
) -> impl Iterator<Item = Result<Slot, DataError>> + use<'a> {
    let generator = generator(request.seed, epoch);
    let mut order: Vec<&Dataset> = sets.iter().collect();
    // Datasets that follow one another change places in every epoch.
    if sets.len() > 1 && request.mix == Mix::Concat {
        generator.clone().shuffle(&mut order);
    }
    let mixed = Mixed {
        readers: order.iter().map(|set| Reader::of(set)).collect(),
        turns: match request.mix {
            _ if sets.len() < 2 => None,
            Mix::Concat => None,
            Mix::Under(_) | Mix::Over(_) => {
                Some(Turns::new(&request.mix, sets.len(), generator.clone()))
            }
        },
        at: 0,
    };
    Shuffled::new(mixed, streaming.buffer, generator)
}

/// A dataset that is read again and again, a record ahead so that its last one is known as such.
struct Reader<'a> {
    set: &'a Dataset,
    slots: Slots<'a>,
    ahead: Option<Result<Slot, DataError>>,
}

impl<'a> Reader<'a> {
    fn of(set: &'a Dataset) -> Self {
        let mut slots = set.slots().early();
        let ahead = slots.next();
        Self { set, slots, ahead }
    }

    /// The next record, and whether it is the last.
    fn next(&mut self) -> Option<(Result<Slot, DataError>, bool)> {
        let slot = self.ahead.take()?;
        self.ahead = self.slots.next();
        Some((slot, self.ahead.is_none()))
    }
}

/// The records of several datasets, one after another or in turn.
struct Mixed<'a> {
    readers: Vec<Reader<'a>>,
    turns: Option<Turns>,
    at: usize,
}

impl Iterator for Mixed<'_> {
    type Item = Result<Slot, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let Some(turns) = &mut self.turns else {
            while let Some(reader) = self.readers.get_mut(self.at) {
                if let Some((slot, _)) = reader.next() {
                    return Some(slot);
                }
                self.at += 1;
            }
            return None;
        };
        let source = turns.next()?;
        let reader = self.readers.get_mut(source)?;
        let (slot, last) = reader.next()?;
        if last {
            turns.ran_out(source);
            *reader = Reader::of(reader.set);
        }
        Some(slot)
    }
}
