//! Named datasets into items, ready to batch.

use std::path::Path;

use rayon::prelude::*;
use report::{Sink, Step};

use crate::cache::{Cache, Key};
use crate::dataset::{Dataset, Slot};
use crate::dropped::Dropped;
use crate::encode::{Encoded, Encoder};
use crate::error::DataError;
use crate::example::{EncodeSettings, Item};
use crate::listing::Datasets;
use crate::mixing::Mix;
use crate::numpy::Generator;
use crate::packing::Packing;
use crate::stage::Stage;
use crate::tokenizer::Tokenizer;
use crate::twister::Twister;

/// Which datasets become items, and how.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Folder with `dataset_info.json`.
    pub folder: &'a Path,
    /// Datasets to train on, in order.
    pub names: &'a [String],
    /// Datasets to evaluate on; where there are none, `held_out` may take a part of the others.
    pub eval_names: &'a [String],
    /// The datasets to evaluate on are looked at one by one, not mixed.
    pub eval_apart: bool,
    /// How several datasets become one.
    pub mix: Mix,
    /// At most this many records of each dataset.
    pub max_samples: Option<usize>,
    /// What is read of a record.
    pub stage: Stage,
    /// Whether examples share rows. In [`Stage::Pretrain`] anything but off joins the texts.
    pub packing: Packing,
    /// Records that are packed together.
    pub chunk: usize,
    /// The original's workers, each of which packs a stretch of the records by itself; a stream has none.
    pub workers: usize,
    /// Texts that are too long are split into examples that overlap by so many tokens; none: they are cut off.
    pub overlap: Option<usize>,
    /// What is held out of training for evaluation.
    pub held_out: HeldOut,
    /// Ends each plain text instead of the tokenizer's end token.
    pub text_end: Option<&'a str>,
    /// Draws what is held out, and what comes next in a mix.
    pub seed: u64,
}

impl<'a> Request<'a> {
    /// Conversations by the original's defaults: every record a row, and nothing held out.
    pub fn of(folder: &'a Path, names: &'a [String]) -> Self {
        Self {
            folder,
            names,
            eval_names: &[],
            eval_apart: false,
            mix: Mix::Concat,
            max_samples: None,
            stage: Stage::Supervised,
            packing: Packing::Off,
            chunk: 1000,
            workers: 1,
            overlap: None,
            held_out: HeldOut::Nothing,
            text_end: None,
            seed: 42,
        }
    }
}

/// A part of the examples that is not trained on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum HeldOut {
    /// None.
    #[default]
    Nothing,
    /// This many.
    Count(usize),
    /// This part, rounded up.
    Part(f64),
}

impl HeldOut {
    /// How many of `all` examples are held out.
    pub fn of(self, all: usize) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Count(count) => count.min(all),
            Self::Part(part) => ((part * all as f64).ceil() as usize).min(all),
        }
    }
}

/// Items of all datasets, mixed as was asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prepared {
    /// Items to train on.
    pub items: Vec<Item>,
    /// Items to evaluate on.
    pub eval_items: Vec<Item>,
    /// Where each dataset is evaluated by itself: its name, and how many of `eval_items` are its, in order.
    pub eval_parts: Vec<(String, usize)>,
    /// Records left out, and those that teach nothing.
    pub dropped: Vec<Dropped>,
}

/// Loads and encodes what `request` names, or takes it from `cache`.
///
/// The tokenizer must have been [adapted](Tokenizer::adapt_to) to the template.
pub fn prepare(
    request: &Request<'_>,
    tokenizer: &Tokenizer,
    settings: &EncodeSettings<'_>,
    cache: &Cache<'_>,
    sink: &dyn Sink,
) -> Result<Prepared, DataError> {
    let encoder = Encoder {
        request,
        tokenizer,
        settings,
    };
    let how = Key::of_settings(&encoder);
    if let Some(prepared) = cache.own(how)? {
        return Ok(prepared);
    }
    let datasets = Datasets::open(request.folder)?;
    let find = |names: &[String]| -> Result<Vec<Dataset>, DataError> {
        let found = names.iter().map(|name| datasets.find(name, request.stage));
        found.collect()
    };
    let (train, eval) = (find(request.names)?, find(request.eval_names)?);
    let key = how.with_data(request, &[&train, &eval])?;
    if let Some(prepared) = cache.find(key) {
        cache.keep_own(how, &prepared)?;
        return Ok(prepared);
    }
    let prepared = encoder.prepare(&train, &eval, sink)?;
    cache.keep_own(how, &prepared)?;
    // Data that changed while it was read must not stand under the name of what it was.
    if cache.keeps() && how.with_data(request, &[&train, &eval])? == key {
        cache.keep(key, &prepared, sink);
    }
    Ok(prepared)
}

impl Encoder<'_> {
    fn prepare(
        &self,
        train: &[Dataset],
        eval: &[Dataset],
        sink: &dyn Sink,
    ) -> Result<Prepared, DataError> {
        let request = self.request;
        // As in the original one generator draws from all datasets, in the order in which they are read.
        let mut twister = Twister::new(request.seed as u32);
        let mut load = |datasets: &[Dataset]| load(request, datasets, &mut twister);
        let mut prepared = Prepared::default();
        let mut slots = load(train)?;
        let mut held = Vec::new();
        let count = request.held_out.of(slots.len());
        if count > 0 {
            (slots, held) = split(slots, count, request.seed);
        }
        prepared.items = self.items(&slots, &mut prepared.dropped, sink)?;
        drop(slots);
        if request.eval_apart {
            for dataset in eval {
                let slots = load(std::slice::from_ref(dataset))?;
                let mut items = self.items(&slots, &mut prepared.dropped, sink)?;
                let part = (dataset.name.clone(), items.len());
                prepared.eval_parts.push(part);
                prepared.eval_items.append(&mut items);
            }
            return Ok(prepared);
        }
        if !eval.is_empty() {
            held = load(eval)?;
        }
        prepared.eval_items = self.items(&held, &mut prepared.dropped, sink)?;
        Ok(prepared)
    }

    /// Encodes all of `slots`, chunk by chunk.
    fn items(
        &self,
        slots: &[Slot],
        dropped: &mut Vec<Dropped>,
        sink: &dyn Sink,
    ) -> Result<Vec<Item>, DataError> {
        let size = self.request.chunk.max(1);
        let total = slots.len() as u64;
        // One chunk is done before a person could read what is being done.
        let step = (slots.len() > size)
            .then(|| Step::start(sink, "step.tokenize", "", Some(total), "steps"));
        let mut items = Vec::with_capacity(slots.len());
        let mut done = 0;
        let chunks = chunks(slots, size, self.request.workers);
        // So many at a time that every core has some to do, and that a person sees it go on.
        for some in chunks.chunks(rayon::current_num_threads()) {
            let encoded = some.par_iter().map(|chunk| self.chunk(chunk));
            for encoded in encoded.collect::<Result<Vec<Encoded>, DataError>>()? {
                items.extend(encoded.items);
                dropped.extend(encoded.dropped);
            }
            done += some.iter().map(|chunk| chunk.len()).sum::<usize>();
            if let Some(step) = &step {
                step.progress(done as u64);
            }
        }
        if let Some(step) = step {
            step.finish();
        }
        Ok(items)
    }
}

/// The records in chunks of `size`, as `datasets` has them with so many workers: each gets a stretch of them, the first ones
/// one more where they cannot be shared evenly.
fn chunks<T>(records: &[T], size: usize, workers: usize) -> Vec<&[T]> {
    let workers = workers.clamp(1, records.len().max(1));
    let (each, more) = (records.len() / workers, records.len() % workers);
    let mut rest = records;
    let mut chunks = Vec::new();
    for worker in 0..workers {
        let (stretch, behind) = rest.split_at(each + usize::from(worker < more));
        chunks.extend(stretch.chunks(size));
        rest = behind;
    }
    chunks
}

/// All records of `datasets`, mixed as was asked. `twister` draws where a dataset asks for a number of records.
fn load(
    request: &Request<'_>,
    datasets: &[Dataset],
    twister: &mut Twister,
) -> Result<Vec<Slot>, DataError> {
    let limit = request.max_samples.unwrap_or(usize::MAX);
    let sets = datasets.iter().map(|dataset| {
        let Some(count) = dataset.samples else {
            return dataset.slots().up_to(limit).collect();
        };
        let all = dataset.slots().collect::<Result<Vec<Slot>, DataError>>()?;
        let mut order = twister.sample(all.len(), count);
        order.truncate(limit);
        Ok(pick(all, &order))
    });
    let sets = sets.collect::<Result<Vec<Vec<Slot>>, DataError>>()?;
    let lengths: Vec<usize> = sets.iter().map(Vec::len).collect();
    let order = request.mix.order(&lengths, request.seed)?;
    Ok(pick(sets.into_iter().flatten().collect(), &order))
}

/// The records that a training run would evaluate on, to be answered: as in the original, their own answers may be missing.
pub(crate) fn evaluated(request: &Request<'_>) -> Result<Vec<Slot>, DataError> {
    let datasets = Datasets::open(request.folder)?;
    let mut twister = Twister::new(request.seed as u32);
    let mut named = |names: &[String]| -> Result<Vec<Slot>, DataError> {
        let found = names.iter().map(|name| datasets.find(name, request.stage));
        let found = found.map(|found| {
            Ok(Dataset {
                open: true,
                ..found?
            })
        });
        let found = found.collect::<Result<Vec<_>, DataError>>()?;
        load(request, &found, &mut twister)
    };
    if !request.eval_names.is_empty() {
        return named(request.eval_names);
    }
    let slots = named(request.names)?;
    let count = request.held_out.of(slots.len());
    Ok(split(slots, count, request.seed).1)
}

/// The slots at `order`. Where each is wanted once they move; a mix may want some again.
fn pick(slots: Vec<Slot>, order: &[usize]) -> Vec<Slot> {
    let straight =
        order.len() == slots.len() && order.iter().enumerate().all(|(at, index)| at == *index);
    if straight {
        return slots;
    }
    order.iter().map(|index| slots[*index].clone()).collect()
}

/// Draws `held` of `all`, as `train_test_split` of `datasets` does: both parts are in the order of the draw.
fn split(all: Vec<Slot>, held: usize, seed: u64) -> (Vec<Slot>, Vec<Slot>) {
    let order = Generator::new(seed).permutation(all.len());
    let mut all: Vec<Option<Slot>> = all.into_iter().map(Some).collect();
    let mut take = |order: &[usize]| {
        order
            .iter()
            .filter_map(|index| all[*index].take())
            .collect()
    };
    let (held, kept) = order.split_at(held);
    let held = take(held);
    (take(kept), held)
}

#[cfg(test)]
#[path = "prepare_tests.rs"]
mod tests;
