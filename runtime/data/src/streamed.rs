//! Data larger than memory: examples made while they are trained on, from the start again in every epoch.
//!
//! ```text
//! files --slots--> mixed --buffer--> shuffled --held out taken away--> chunk --all cores--> items
//! ```
//!
//! In memory are the buffer, one chunk and its items. Where several processes share a stream each reads all of it, and makes
//! only the items of its own [`Share`]. The order depends on the seed and the epoch alone, and is the
//! original's with one worker (`dataloader_num_workers: 1`).

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use crate::cache::hex;
use crate::dataset::{Dataset, Slot};
use crate::dropped::{Dropped, Origin, Tallies, Tally};
use crate::encode::Encoder;
use crate::error::DataError;
use crate::example::{EncodeSettings, Example, Item};
use crate::listing::Datasets;
use crate::prepare::{HeldOut, Request};
use crate::stream_order::shuffled;
use crate::tokenizer::Tokenizer;

/// How a stream is shuffled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Streaming {
    /// Records that the next one is drawn from.
    pub buffer: usize,
}

/// Datasets that are read while they are trained on.
pub struct Streamed<'a> {
    encoder: Encoder<'a>,
    streaming: Streaming,
    sets: Vec<Dataset>,
    held: HashSet<Origin>,
    eval_items: Vec<Item>,
    tallies: Mutex<Tallies>,
}

impl<'a> Streamed<'a> {
    /// Opens what `request` names; what is held out is read and encoded at once.
    pub fn open(
        request: &'a Request<'a>,
        tokenizer: &'a Tokenizer,
        settings: &'a EncodeSettings<'a>,
        streaming: Streaming,
    ) -> Result<Self, DataError> {
        let encoder = Encoder {
            request,
            tokenizer,
            settings,
        };
        let datasets = Datasets::open(request.folder)?;
        let find = |names: &[String]| -> Result<Vec<Dataset>, DataError> {
            let found = names.iter().map(|name| datasets.find(name, request.stage));
            found.collect()
        };
        let mut streamed = Self {
            encoder,
            streaming,
            sets: find(request.names)?,
            held: HashSet::new(),
            eval_items: Vec::new(),
            tallies: Mutex::default(),
        };
        let mut held = Vec::new();
        if let HeldOut::Count(count) = request.held_out {
            for slot in shuffled(&streamed.sets, request, streaming, 0).take(count) {
                held.push(slot?);
            }
            streamed.held = held.iter().map(|slot| slot.origin.clone()).collect();
        }
        let eval = find(request.eval_names)?;
        if !eval.is_empty() {
            held = shuffled(&eval, request, streaming, 0).collect::<Result<_, _>>()?;
        }
        for chunk in held.chunks(request.chunk.max(1)) {
            let items = streamed.encode(chunk, true)?;
            streamed.eval_items.extend(items);
        }
        Ok(streamed)
    }

    /// What is evaluated on.
    pub fn eval_items(&self) -> &[Item] {
        &self.eval_items
    }

    /// The items of an epoch, from the one after the first `skip` on.
    pub fn epoch(
        &self,
        epoch: u64,
        skip: usize,
    ) -> Result<impl Iterator<Item = Result<Item, DataError>> + '_, DataError> {
        let drawn = self.drawn(epoch, skip, Share::ALL)?;
        Ok(drawn.map(|drawn| self.item(drawn?)))
    }

    /// The same, where only the items of `share` are made; the others may be, with [`Self::item`].
    pub fn drawn(
        &self,
        epoch: u64,
        skip: usize,
        share: Share,
    ) -> Result<impl Iterator<Item = Result<Drawn, DataError>> + '_, DataError> {
        let mut drawn = self.beginning(epoch, share, epoch == 0);
        drawn.skip_items(skip)?;
        Ok(drawn)
    }

    /// The first `count` items of an epoch, or all where there are fewer, none of them made.
    pub fn first(&self, epoch: u64, count: usize) -> Result<Vec<Drawn>, DataError> {
        let drawn = self.beginning(epoch, Share::NONE, false);
        drawn.take(count).collect()
    }

    /// Makes an item, if that has not been done.
    pub fn item(&self, drawn: Drawn) -> Result<Item, DataError> {
        match drawn.0 {
            Draft::Made(item) => Ok(item),
            Draft::Open(chunk, wanted) => {
                let (items, _counted_before) = self.encoder.part(&chunk, |at| at == wanted)?;
                let item = items.into_iter().flatten().next();
                // Each place that there is makes an item.
                Ok(item.unwrap_or_else(|| Item::Single(Example::default())))
            }
        }
    }

    /// An epoch from its start. `counts`: what is left out is counted.
    fn beginning(
        &self,
        epoch: u64,
        share: Share,
        counts: bool,
    ) -> Epoch<'_, impl Iterator<Item = Result<Slot, DataError>> + '_> {
        Epoch {
            streamed: self,
            slots: shuffled(&self.sets, self.encoder.request, self.streaming, epoch),
            share,
            number: 0,
            chunk: Vec::new(),
            ready: VecDeque::new(),
            counts,
        }
    }

    /// A digest of what is read and how, without the content, which may be too much to read for that.
    pub fn digest(&self) -> Result<String, DataError> {
        let mut hash = Sha256::new();
        let encoder = &self.encoder;
        hash.update(encoder.tokenizer.digest());
        hash.update(format!(
            "{:?} {:?} {:?}",
            encoder.request, encoder.settings, self.streaming
        ));
        for set in &self.sets {
            hash.update(&set.entry);
        }
        for file in self.sets.iter().flat_map(|set| set.source.files()) {
            let length = std::fs::metadata(file).map_err(|source| DataError::Read {
                path: file.to_path_buf(),
                source,
            })?;
            hash.update(format!("{} {:?}", length.len(), file.file_name()));
        }
        let digest = hash.finalize();
        Ok(hex(&digest[..8]))
    }

    /// What was left out until now, in the first epoch and of what is held out.
    pub fn tallies(&self) -> Vec<Tally> {
        let tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        tallies.all()
    }

    fn encode(&self, chunk: &[Slot], counts: bool) -> Result<Vec<Item>, DataError> {
        let encoded = self.encoder.chunk(chunk)?;
        if counts {
            self.count(&encoded.dropped);
        }
        Ok(encoded.items)
    }

    fn count(&self, dropped: &[Dropped]) {
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        for dropped in dropped {
            tallies.add(dropped);
        }
    }
}

/// One item of a stream. It may not have been made yet.
#[derive(Clone, Debug)]
pub struct Drawn(Draft);

#[derive(Clone, Debug)]
enum Draft {
    Made(Item),
    /// The records that it was read with, and its place among those that make an item.
    Open(Arc<[Slot]>, usize),
}

/// The items of an epoch that one process of several learns from: in rounds, a micro-batch for each.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Share {
    /// Which process.
    pub rank: usize,
    /// Processes.
    pub count: usize,
    /// Items of a micro-batch.
    pub size: usize,
}

impl Share {
    /// Of one process alone.
    const ALL: Self = Self {
        rank: 0,
        count: 1,
        size: 1,
    };

    const NONE: Self = Self {
        rank: 2,
        count: 2,
        size: 1,
    };

    /// Whether the item at a place is in it, as long as rounds are full.
    fn has(self, place: usize) -> bool {
        place / self.size.max(1) % self.count.max(1) == self.rank
    }
}

/// The items of an epoch.
struct Epoch<'a, I> {
    streamed: &'a Streamed<'a>,
    slots: I,
    share: Share,
    /// Items that were ready until now.
    number: usize,
    chunk: Vec<Slot>,
    ready: VecDeque<Drawn>,
    /// What is left out is counted.
    counts: bool,
}

impl<I: Iterator<Item = Result<Slot, DataError>>> Epoch<'_, I> {
    /// Reads the next chunk. Returns whether there is one.
    fn read(&mut self) -> Result<bool, DataError> {
        self.chunk.clear();
        let size = self.streamed.encoder.request.chunk.max(1);
        while self.chunk.len() < size
            && let Some(slot) = self.slots.next()
        {
            let slot = slot?;
            if !self.streamed.held.contains(&slot.origin) {
                self.chunk.push(slot);
            }
        }
        Ok(!self.chunk.is_empty())
    }

    /// Passes `skip` items, and encodes only the chunk that the last of them is in.
    fn skip_items(&mut self, mut skip: usize) -> Result<(), DataError> {
        while skip > 0 && self.read()? {
            if let Some(count) = self
                .streamed
                .encoder
                .count(&self.chunk)
                .filter(|c| *c <= skip)
            {
                skip -= count;
                continue;
            }
            skip -= self.fill(skip, false)?;
        }
        Ok(())
    }

    /// Makes the chunk's items ready but for the first `passed` of them; returns how many were passed.
    fn fill(&mut self, passed: usize, counts: bool) -> Result<usize, DataError> {
        let (streamed, share, first) = (self.streamed, self.share, self.number);
        let one_each = streamed.encoder.count(&self.chunk).is_some();
        let drawn: Vec<Drawn> = if one_each && share.count > 1 {
            let chunk: Arc<[Slot]> = std::mem::take(&mut self.chunk).into();
            let wanted = |at: usize| {
                at.checked_sub(passed)
                    .is_some_and(|at| share.has(first + at))
            };
            let (items, dropped) = streamed.encoder.part(&chunk, wanted)?;
            if counts {
                streamed.count(&dropped);
            }
            let drafts = items.into_iter().enumerate().map(|(at, item)| match item {
                Some(item) => Draft::Made(item),
                None => Draft::Open(Arc::clone(&chunk), at),
            });
            drafts.map(Drawn).collect()
        } else {
            let items = streamed.encode(&self.chunk, counts)?.into_iter();
            items.map(|item| Drawn(Draft::Made(item))).collect()
        };
        let passed = passed.min(drawn.len());
        self.number += drawn.len() - passed;
        self.ready = drawn.into_iter().skip(passed).collect();
        Ok(passed)
    }
}

impl<I: Iterator<Item = Result<Slot, DataError>>> Iterator for Epoch<'_, I> {
    type Item = Result<Drawn, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(drawn) = self.ready.pop_front() {
                return Some(Ok(drawn));
            }
            match self.read() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
            if let Err(error) = self.fill(0, self.counts) {
                return Some(Err(error));
            }
        }
    }
}

#[cfg(test)]
#[path = "streamed_tests.rs"]
mod tests;
