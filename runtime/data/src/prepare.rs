//! Named datasets into items, ready to batch.

use std::path::Path;

use crate::dataset::Datasets;
use crate::dropped::{Dropped, Fault, Origin};
use crate::error::DataError;
use crate::example::{Conversation, EncodeSettings, Example, Item};
use crate::packing::{Packing, pack};
use crate::pretrain;
use crate::sampler::shuffled;
use crate::stage::Stage;
use crate::tokenizer::Tokenizer;

/// Which datasets become items, and how.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Folder with `dataset_info.json`.
    pub folder: &'a Path,
    /// Datasets to train on, in order.
    pub names: &'a [String],
    /// Datasets to evaluate on; where there are none, `held_out` may take a part of the others.
    pub eval_names: &'a [String],
    /// At most this many records of each dataset.
    pub max_samples: Option<usize>,
    /// What is read of a record.
    pub stage: Stage,
    /// Whether examples share rows. In [`Stage::Pretrain`] anything but off joins the texts.
    pub packing: Packing,
    /// Records that are packed together.
    pub chunk: usize,
    /// What is held out of training for evaluation.
    pub held_out: HeldOut,
    /// Ends each plain text instead of the tokenizer's end token.
    pub text_end: Option<&'a str>,
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

/// Items of all datasets, one after another.
#[derive(Debug, Default)]
pub struct Prepared {
    /// Items to train on, in the order of the datasets and their files.
    pub items: Vec<Item>,
    /// Items to evaluate on.
    pub eval_items: Vec<Item>,
    /// Records left out, and those that teach nothing.
    pub dropped: Vec<Dropped>,
}

/// Loads and encodes what `request` names; `seed` draws what is held out.
///
/// The tokenizer must have been [adapted](Tokenizer::adapt_to) to the template.
pub fn prepare(
    request: &Request<'_>,
    tokenizer: &Tokenizer,
    settings: &EncodeSettings<'_>,
    seed: u64,
) -> Result<Prepared, DataError> {
    let datasets = Datasets::open(request.folder)?;
    let mut prepared = Prepared::default();
    let mut load = |names: &[String]| -> Result<Vec<(Origin, Conversation)>, DataError> {
        let mut all = Vec::new();
        for name in names {
            let loaded = datasets.load(name, request.stage, request.max_samples)?;
            all.extend(loaded.conversations);
            prepared.dropped.extend(loaded.dropped);
        }
        Ok(all)
    };
    let mut train = load(request.names)?;
    let mut eval = load(request.eval_names)?;
    let held = request.held_out.of(train.len());
    if held > 0 {
        (train, eval) = split(train, held, seed);
    }
    let encoder = Encoder {
        request,
        tokenizer,
        settings,
    };
    prepared.items = encoder.items(&train, &mut prepared.dropped)?;
    prepared.eval_items = encoder.items(&eval, &mut prepared.dropped)?;
    Ok(prepared)
}

/// Draws `held` of `all`; what stays keeps its order.
fn split<T>(all: Vec<T>, held: usize, seed: u64) -> (Vec<T>, Vec<T>) {
    let mut is_held = vec![false; all.len()];
    for index in shuffled(all.len(), seed, 0).into_iter().take(held) {
        is_held[index] = true;
    }
    let (mut stays, mut leaves) = (Vec::new(), Vec::new());
    for (item, held) in all.into_iter().zip(is_held) {
        if held {
            leaves.push(item);
        } else {
            stays.push(item);
        }
    }
    (stays, leaves)
}

struct Encoder<'a> {
    request: &'a Request<'a>,
    tokenizer: &'a Tokenizer,
    settings: &'a EncodeSettings<'a>,
}

impl Encoder<'_> {
    fn items(
        &self,
        conversations: &[(Origin, Conversation)],
        dropped: &mut Vec<Dropped>,
    ) -> Result<Vec<Item>, DataError> {
        let mut items = Vec::with_capacity(conversations.len());
        for chunk in conversations.chunks(self.request.chunk.max(1)) {
            match self.request.stage {
                Stage::Pretrain => {
                    let rows = self.texts(chunk)?;
                    items.extend(rows.into_iter().map(Item::Single));
                }
                Stage::Supervised => {
                    let examples = self.examples(chunk, dropped)?;
                    items.extend(examples.into_iter().map(Item::Single));
                }
                Stage::Pairwise => self.pairs(chunk, &mut items, dropped)?,
                Stage::Feedback => self.judged(chunk, &mut items, dropped)?,
            }
        }
        Ok(items)
    }

    fn texts(&self, chunk: &[(Origin, Conversation)]) -> Result<Vec<Example>, DataError> {
        let first = |(_, c): &(Origin, Conversation)| c.turns.first().map(|turn| turn.user.clone());
        let texts: Vec<String> = chunk.iter().filter_map(first).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let settings = pretrain::TextSettings {
            cutoff_len: self.settings.cutoff_len,
            joined: self.request.packing != Packing::Off,
            end: self.request.text_end,
        };
        pretrain::encode(&texts, self.tokenizer, settings)
    }

    fn examples(
        &self,
        chunk: &[(Origin, Conversation)],
        dropped: &mut Vec<Dropped>,
    ) -> Result<Vec<Example>, DataError> {
        let limit = self.settings.cutoff_len;
        let packing = self.request.packing;
        let mut examples = Vec::with_capacity(chunk.len());
        for (origin, conversation) in chunk {
            let example = Example::encode(conversation, self.tokenizer, self.settings)?;
            let tokens = example.input_ids.len();
            if packing != Packing::Off && tokens > limit {
                let fault = Fault::TooLong { tokens, limit };
                dropped.push(left_out(origin, fault));
                continue;
            }
            let item = Item::Single(example);
            note_labels(&item, origin, dropped);
            if let Item::Single(example) = item {
                examples.push(example);
            }
        }
        if packing == Packing::Off {
            return Ok(examples);
        }
        let pad = self.tokenizer.padding_id();
        Ok(pack(examples, limit, pad, packing))
    }

    fn pairs(
        &self,
        chunk: &[(Origin, Conversation)],
        items: &mut Vec<Item>,
        dropped: &mut Vec<Dropped>,
    ) -> Result<(), DataError> {
        for (origin, conversation) in chunk {
            let better = answer(conversation);
            let worse = conversation.rejected.as_deref().unwrap_or("");
            let both = [better, worse];
            let pair = Example::encode_answers(conversation, &both, self.tokenizer, self.settings)?;
            if let Ok([chosen, rejected]) = <[Example; 2]>::try_from(pair) {
                let item = Item::Pair { chosen, rejected };
                note_labels(&item, origin, dropped);
                items.push(item);
            }
        }
        Ok(())
    }

    /// Each question also gets the answer of the record before it; the first gets the last one's.
    fn judged(
        &self,
        chunk: &[(Origin, Conversation)],
        items: &mut Vec<Item>,
        dropped: &mut Vec<Dropped>,
    ) -> Result<(), DataError> {
        for (index, (origin, conversation)) in chunk.iter().enumerate() {
            let other = &chunk[(index + chunk.len() - 1) % chunk.len()].1;
            let encode = |text: &str| {
                Example::encode_answers(conversation, &[text], self.tokenizer, self.settings)
            };
            let own = answer(conversation);
            let pair = (encode(own)?.pop(), encode(answer(other))?.pop());
            if let (Some(example), Some(mismatched)) = pair {
                let item = Item::Judged {
                    example,
                    mismatched,
                    desirable: conversation.desirable == Some(true) && !own.is_empty(),
                };
                note_labels(&item, origin, dropped);
                items.push(item);
            }
        }
        Ok(())
    }
}

fn answer(conversation: &Conversation) -> &str {
    conversation
        .turns
        .last()
        .map_or("", |turn| turn.assistant.as_str())
}

fn left_out(origin: &Origin, fault: Fault) -> Dropped {
    Dropped {
        origin: origin.clone(),
        fault,
    }
}

fn note_labels(item: &Item, origin: &Origin, dropped: &mut Vec<Dropped>) {
    if item.labels() == 0 {
        dropped.push(left_out(origin, Fault::NoLabels));
    }
}

#[cfg(test)]
#[path = "prepare_tests.rs"]
mod tests;
