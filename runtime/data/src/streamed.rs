//! Data larger than memory: examples made while they are trained on, from the start again in every epoch.
//!
//! ```text
//! files --slots--> mixed --buffer--> shuffled --held out taken away--> chunk --all cores--> items
//! ```
//!
//! In memory are the buffer, one chunk and its items. The order depends on the seed and the epoch alone, and is the
//! original's with one worker (`dataloader_num_workers: 1`).

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use crate::cache::hex;
use crate::dataset::{Dataset, Slot, Slots};
use crate::dropped::{Origin, Tallies, Tally};
use crate::encode::Encoder;
use crate::error::DataError;
use crate::example::{EncodeSettings, Item};
use crate::listing::Datasets;
use crate::mixing::{Mix, Turns};
use crate::prepare::{HeldOut, Request};
use crate::shuffle::{Shuffled, generator};
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
        let mut items = self.beginning(epoch, epoch == 0);
        items.skip_items(skip)?;
        Ok(items)
    }

    /// The first `count` items of an epoch, or all where there are fewer.
    pub fn first_items(&self, epoch: u64, count: usize) -> Result<Vec<Item>, DataError> {
        self.beginning(epoch, false).take(count).collect()
    }

    /// An epoch from its start. `counts`: what is left out is counted.
    fn beginning(
        &self,
        epoch: u64,
        counts: bool,
    ) -> Epoch<'_, impl Iterator<Item = Result<Slot, DataError>> + '_> {
        Epoch {
            streamed: self,
            slots: shuffled(&self.sets, self.encoder.request, self.streaming, epoch),
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
            let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
            for dropped in &encoded.dropped {
                tallies.add(dropped);
            }
        }
        Ok(encoded.items)
    }
}

/// The items of an epoch.
struct Epoch<'a, I> {
    streamed: &'a Streamed<'a>,
    slots: I,
    chunk: Vec<Slot>,
    ready: VecDeque<Item>,
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
            self.ready = self.streamed.encode(&self.chunk, false)?.into();
            let passed = skip.min(self.ready.len());
            self.ready.drain(..passed);
            skip -= passed;
        }
        Ok(())
    }
}

impl<I: Iterator<Item = Result<Slot, DataError>>> Iterator for Epoch<'_, I> {
    type Item = Result<Item, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Some(Ok(item));
            }
            match self.read() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
            match self.streamed.encode(&self.chunk, self.counts) {
                Ok(items) => self.ready = items.into(),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// All records of an epoch, mixed and shuffled.
fn shuffled<'a>(
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
        let mut slots = set.slots();
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

#[cfg(test)]
#[path = "streamed_tests.rs"]
mod tests;
