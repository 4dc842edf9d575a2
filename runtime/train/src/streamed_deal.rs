//! A stream, dealt to processes as accelerate's `DataLoaderDispatcher` deals it.
//!
//! ```text
//! items 0 1 2 3 4 5 6 7 8 ...   a round: a micro-batch for each process, one after another
//!       |- 0 -|- 1 -|           two processes, micro-batches of two
//! the last round may be smaller: it is cut into equal parts, filled up with the first items of the epoch
//! ```
//!
//! There one process reads and sends the others their parts; here each reads all and makes its own, so that what is wrong with
//! the data is found by all at the same item, and nothing has to be sent.

use train_data::{DataError, Drawn, Item, Share, Streamed};

use crate::trainer::TrainError;

/// The rounds of an epoch, of which one process makes its own items.
pub(crate) struct StreamedDeal<'a> {
    stream: &'a Streamed<'a>,
    rounds: Rounds<'a, Drawn>,
}

/// A micro-batch for each process.
pub(crate) struct Round<D = Item> {
    /// This process's.
    pub(crate) own: Vec<D>,
    /// Items in all of them, those that fill up left out.
    pub(crate) items: usize,
}

impl<'a> StreamedDeal<'a> {
    /// The part of process `rank` of `count` in the rounds of an epoch, from the one after the first `skip` items on.
    pub(crate) fn of(
        stream: &'a Streamed<'_>,
        (rank, count): (usize, usize),
        batch_size: usize,
        epoch: u64,
        skip: usize,
    ) -> Result<Self, TrainError> {
        let share = Share {
            rank,
            count,
            size: batch_size,
        };
        let first = if count > 1 {
            stream.first(epoch, count)?
        } else {
            Vec::new()
        };
        let drawn = Box::new(stream.drawn(epoch, skip, share)?);
        let rounds = Rounds::over(drawn, first, (rank, count), batch_size)?;
        Ok(Self { stream, rounds })
    }

    /// Whether nothing is left.
    pub(crate) fn is_over(&self) -> bool {
        self.rounds.next.is_none()
    }

    /// The next round; none: the epoch is over.
    pub(crate) fn round(&mut self) -> Result<Option<Round>, TrainError> {
        let Some(Round { own, items }) = self.rounds.round()? else {
            return Ok(None);
        };
        let own = own.into_iter().map(|drawn| self.stream.item(drawn));
        let own = own.collect::<Result<_, DataError>>()?;
        Ok(Some(Round { own, items }))
    }
}

/// What is read, in rounds.
struct Rounds<'a, D> {
    items: Box<dyn Iterator<Item = Result<D, DataError>> + 'a>,
    /// Read ahead, so that the last is known as such.
    next: Option<D>,
    /// The first items of the epoch, one for each process where there are several.
    first: Vec<D>,
    rank: usize,
    count: usize,
    batch_size: usize,
}

impl<'a, D: Clone> Rounds<'a, D> {
    fn over(
        mut items: Box<dyn Iterator<Item = Result<D, DataError>> + 'a>,
        first: Vec<D>,
        (rank, count): (usize, usize),
        batch_size: usize,
    ) -> Result<Self, TrainError> {
        let next = items.next().transpose()?;
        Ok(Self {
            items,
            next,
            first,
            rank,
            count,
            batch_size,
        })
    }

    /// The next round; none: the epoch is over.
    fn round(&mut self) -> Result<Option<Round<D>>, TrainError> {
        let whole = self.batch_size * self.count;
        let mut all = Vec::with_capacity(whole);
        while all.len() < whole
            && let Some(item) = self.next.take()
        {
            all.push(item);
            self.next = self.items.next().transpose()?;
        }
        let items = all.len();
        if items == 0 {
            return Ok(None);
        }
        let share = items.div_ceil(self.count);
        if !items.is_multiple_of(self.count) {
            let filling = self.first.iter().cycle().cloned();
            all.extend(filling.take(share * self.count - items));
        }
        let own = all.into_iter().skip(self.rank * share).take(share);
        Ok(Some(Round {
            own: own.collect(),
            items,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers that each process gets in each of its rounds.
    fn dealt(items: u32, count: usize, batch_size: usize) -> Vec<Vec<Vec<u32>>> {
        let of = |rank| {
            let all = Box::new((0..items).map(Ok));
            let first = (0..items).take(count).collect();
            let mut rounds = Rounds::over(all, first, (rank, count), batch_size).unwrap();
            let mut dealt = Vec::new();
            while let Some(round) = rounds.round().unwrap() {
                dealt.push(round.own);
            }
            assert!(rounds.next.is_none());
            dealt
        };
        (0..count).map(of).collect()
    }

    /// What accelerate 1.11's `DataLoaderDispatcher` makes of the same.
    #[test]
    fn rounds_are_accelerates() {
        assert_eq!(
            dealt(8, 2, 2),
            [[[0, 1], [4, 5]], [[2, 3], [6, 7]]],
            "whole rounds"
        );
        assert_eq!(
            dealt(7, 2, 2),
            [[[0, 1], [4, 5]], [[2, 3], [6, 0]]],
            "the last one is filled up with the first"
        );
        assert_eq!(
            dealt(6, 2, 2),
            [vec![vec![0, 1], vec![4]], vec![vec![2, 3], vec![5]]],
            "a last one that can be halved is halved"
        );
        assert_eq!(
            dealt(1, 3, 2),
            [[[0]], [[0]], [[0]]],
            "fewer than processes"
        );
        assert_eq!(dealt(3, 1, 2), [[vec![0, 1], vec![2]]], "one process");
    }
}
