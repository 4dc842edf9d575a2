//! Records into items, on all cores. What comes out does not depend on how many there are.

use rayon::prelude::*;

use crate::dataset::Slot;
use crate::dropped::{Dropped, Fault, Origin};
use crate::error::DataError;
use crate::example::{Conversation, EncodeSettings, Example, Item};
use crate::packing::{Packing, pack};
use crate::prepare::Request;
use crate::pretrain;
use crate::stage::Stage;
use crate::template::Turn;
use crate::tokenizer::Tokenizer;

/// What encodes records.
#[derive(Clone, Copy)]
pub(crate) struct Encoder<'a> {
    pub(crate) request: &'a Request<'a>,
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) settings: &'a EncodeSettings<'a>,
}

/// What became of some records.
#[derive(Debug, Default)]
pub(crate) struct Encoded {
    pub(crate) items: Vec<Item>,
    pub(crate) dropped: Vec<Dropped>,
}

/// A conversation with its place.
type Placed<'c> = (&'c Origin, &'c Conversation);

impl Encoder<'_> {
    /// Encodes records that are packed together, or whose answers are compared with each other's.
    pub(crate) fn chunk(&self, slots: &[Slot]) -> Result<Encoded, DataError> {
        let (placed, mut dropped) = sorted(slots);
        let mut encoded = match self.request.stage {
            Stage::Pretrain => self.texts(&placed)?,
            Stage::Supervised => self.examples(&placed)?,
            Stage::Pairwise | Stage::Feedback => {
                each(&placed, |index, _| self.one(&placed, index))?
            }
        };
        dropped.append(&mut encoded.dropped);
        encoded.dropped = dropped;
        Ok(encoded)
    }

    /// How many items a chunk will make, where each record makes one.
    pub(crate) fn count(&self, slots: &[Slot]) -> Option<usize> {
        let one_each = self.request.packing == Packing::Off && self.request.overlap.is_none();
        one_each.then(|| slots.iter().filter(|slot| slot.content.is_ok()).count())
    }

    /// The items of a chunk that are `wanted` by their places, where each record makes one. An error in the others is found
    /// all the same.
    pub(crate) fn part(
        &self,
        slots: &[Slot],
        wanted: impl Fn(usize) -> bool + Sync,
    ) -> Result<(Vec<Option<Item>>, Vec<Dropped>), DataError> {
        let (placed, mut dropped) = sorted(slots);
        let each: Result<Vec<Encoded>, DataError> = (0..placed.len())
            .into_par_iter()
            .map(|index| {
                let (origin, conversation) = placed[index];
                let encoded = if wanted(index) {
                    self.one(&placed, index)
                } else {
                    let judged = self.settings.judge(conversation);
                    judged.map(|()| Encoded::default())
                };
                encoded.map_err(|error| error.at(origin))
            })
            .collect();
        let items = each?.into_iter().map(|mut one| {
            dropped.append(&mut one.dropped);
            one.items.pop()
        });
        Ok((items.collect(), dropped))
    }

    /// The item of one of the records that are `placed` together.
    fn one(&self, placed: &[Placed<'_>], index: usize) -> Result<Encoded, DataError> {
        let one = placed[index];
        match self.request.stage {
            Stage::Pretrain => self.texts(&[one]),
            Stage::Supervised => self.example(one),
            Stage::Pairwise => self.pair(one),
            Stage::Feedback => {
                // Each question also gets the answer of the record before it; the first gets the last one's.
                let other = placed[(index + placed.len() - 1) % placed.len()].1;
                self.judged(one, other)
            }
        }
    }

    fn texts(&self, placed: &[Placed<'_>]) -> Result<Encoded, DataError> {
        let settings = pretrain::TextSettings {
            cutoff_len: self.settings.cutoff_len,
            joined: self.request.packing != Packing::Off,
            end: self.request.text_end,
            overlap: self.request.overlap,
        };
        let texts: Vec<&str> = placed.iter().map(|(_, c)| question(c)).collect();
        let rows = pretrain::encode(&texts, self.tokenizer, settings)?;
        Ok(Encoded {
            items: rows.into_iter().map(Item::Single).collect(),
            dropped: Vec::new(),
        })
    }

    fn examples(&self, placed: &[Placed<'_>]) -> Result<Encoded, DataError> {
        let packing = self.request.packing;
        let mut encoded = each(placed, |_, one| self.example(one))?;
        if packing == Packing::Off {
            return Ok(encoded);
        }
        let examples = encoded.items.into_iter().filter_map(|item| match item {
            Item::Single(example) => Some(example),
            Item::Pair { .. } | Item::Judged { .. } => None,
        });
        let pad = self.tokenizer.padding_id();
        let rows = pack(examples.collect(), self.settings.cutoff_len, pad, packing);
        encoded.items = rows.into_iter().map(Item::Single).collect();
        Ok(encoded)
    }

    fn example(&self, (origin, conversation): Placed<'_>) -> Result<Encoded, DataError> {
        let limit = self.settings.cutoff_len;
        let mut encoded = Encoded::default();
        if let Some(overlap) = self.request.overlap {
            let windows =
                Example::encode_windows(conversation, self.tokenizer, self.settings, overlap)?;
            match windows {
                Ok(windows) => {
                    encoded.items.extend(windows.into_iter().map(Item::Single));
                    return Ok(encoded);
                }
                Err(Some(tokens)) => {
                    let fault = Fault::NotSplit { tokens, limit };
                    encoded.dropped.push(left_out(origin, fault));
                }
                Err(None) => {}
            }
        }
        let example = Example::encode(conversation, self.tokenizer, self.settings)?;
        let tokens = example.input_ids.len();
        if self.request.packing != Packing::Off && tokens > limit {
            let fault = Fault::TooLong { tokens, limit };
            encoded.dropped.push(left_out(origin, fault));
            return Ok(encoded);
        }
        encoded.add(Item::Single(example), origin);
        Ok(encoded)
    }

    fn pair(&self, (origin, conversation): Placed<'_>) -> Result<Encoded, DataError> {
        let none = Turn::default();
        let better = conversation.turns.last().unwrap_or(&none);
        let worse = conversation.rejected.as_ref().unwrap_or(&none);
        let both = [better, worse];
        let pair = Example::encode_answers(conversation, &both, self.tokenizer, self.settings)?;
        let mut encoded = Encoded::default();
        if let Ok([chosen, rejected]) = <[Example; 2]>::try_from(pair) {
            encoded.add(Item::Pair { chosen, rejected }, origin);
        }
        Ok(encoded)
    }

    fn judged(
        &self,
        (origin, conversation): Placed<'_>,
        other: &Conversation,
    ) -> Result<Encoded, DataError> {
        let none = Turn::default();
        let own = conversation.turns.last().unwrap_or(&none);
        let foreign = other.turns.last().unwrap_or(&none);
        let encode = |answer: &Turn| {
            Example::encode_answers(conversation, &[answer], self.tokenizer, self.settings)
        };
        let mut encoded = Encoded::default();
        let pair = (encode(own)?.pop(), encode(foreign)?.pop());
        if let (Some(example), Some(mismatched)) = pair {
            let item = Item::Judged {
                example,
                mismatched,
                desirable: conversation.desirable == Some(true) && !own.assistant.is_empty(),
            };
            encoded.add(item, origin);
        }
        Ok(encoded)
    }
}

/// Records that can be encoded, and those that are left out.
fn sorted(slots: &[Slot]) -> (Vec<Placed<'_>>, Vec<Dropped>) {
    let (mut placed, mut dropped) = (Vec::with_capacity(slots.len()), Vec::new());
    for slot in slots {
        match &slot.content {
            Ok(conversation) => placed.push((&slot.origin, conversation)),
            Err(fault) => dropped.push(left_out(&slot.origin, fault.clone())),
        }
    }
    (placed, dropped)
}

/// Encodes each record by itself, side by side.
fn each(
    placed: &[Placed<'_>],
    encode: impl Fn(usize, Placed<'_>) -> Result<Encoded, DataError> + Sync,
) -> Result<Encoded, DataError> {
    let each: Result<Vec<Encoded>, DataError> = placed
        .par_iter()
        .enumerate()
        .map(|(index, one)| encode(index, *one).map_err(|error| error.at(one.0)))
        .collect();
    let mut all = Encoded::default();
    for mut one in each? {
        all.items.append(&mut one.items);
        all.dropped.append(&mut one.dropped);
    }
    Ok(all)
}

impl Encoded {
    /// Takes an item, and says so where it teaches nothing.
    fn add(&mut self, item: Item, origin: &Origin) {
        if item.labels() == 0 {
            self.dropped.push(left_out(origin, Fault::NoLabels));
        }
        self.items.push(item);
    }
}

fn question(conversation: &Conversation) -> &str {
    let first = conversation.turns.first();
    first.map_or("", |turn| turn.user.as_str())
}

fn left_out(origin: &Origin, fault: Fault) -> Dropped {
    Dropped {
        origin: origin.clone(),
        fault,
    }
}
