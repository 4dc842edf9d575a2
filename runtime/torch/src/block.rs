//! One layer of the decoder, forward and backward.
//!
//! ```text
//! x -> norm -> q k v (-> norms of heads) -> turn -> attention -> o -> +x = middle
//! middle -> norm -> feed-forward -> +middle
//! ```
//!
//! What is kept for the backward pass: x, the turned queries and keys, the values, the attention's result, the middle,
//! and what the feed-forward half keeps. Norms are computed again, which costs next to nothing; libtorch would keep
//! twice as much.

use tch::Tensor;

use crate::BackendError;
use crate::attention::{self, Angles, Span};
use crate::balance::Balance;
use crate::feed::{Feed, KeptFeed, nothing};
use crate::lora::{Linear, Mode};
use crate::norm::Norm;

#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) attention_norm: Norm,
    pub(crate) query: Linear,
    pub(crate) key: Linear,
    pub(crate) value: Linear,
    /// Norms of the heads of queries and keys (Qwen3).
    pub(crate) head_norms: Option<(Norm, Norm)>,
    pub(crate) output: Linear,
    pub(crate) feed_norm: Norm,
    pub(crate) feed: Feed,
    /// How far attention looks back, itself included.
    pub(crate) window: Option<i64>,
    /// Width of a head.
    pub(crate) width: i64,
}

/// Keys and values of the tokens seen so far, `[tokens, key heads, width]`.
pub(crate) type Remembered = Option<(Tensor, Tensor)>;

/// What all layers of a pass share.
pub(crate) struct Around<'a> {
    pub(crate) angles: Angles,
    pub(crate) segments: &'a [i64],
    pub(crate) mode: Mode,
    /// How evenly experts are used, where a loss asks for that.
    pub(crate) balance: Option<Balance>,
}

/// What a layer keeps for its backward pass.
#[derive(Debug)]
pub(crate) struct Kept {
    x: Tensor,
    /// Queries and keys before their norms, where there are such.
    raw: Option<(Tensor, Tensor)>,
    spans: Vec<Span>,
    middle: Tensor,
    feed: KeptFeed,
}

/// What attention is given.
struct Heads {
    /// Turned queries and keys, and values, `[tokens, heads, width]`.
    inputs: [Tensor; 3],
    /// Queries and keys before their norms, where there are such.
    raw: Option<(Tensor, Tensor)>,
}

impl Block {
    pub(crate) fn linears(&self) -> Box<dyn Iterator<Item = &Linear> + '_> {
        let attention = [&self.query, &self.key, &self.value, &self.output];
        Box::new(attention.into_iter().chain(self.feed.linears()))
    }

    pub(crate) fn linears_mut(&mut self) -> Box<dyn Iterator<Item = &mut Linear> + '_> {
        let attention = [
            &mut self.query,
            &mut self.key,
            &mut self.value,
            &mut self.output,
        ];
        Box::new(attention.into_iter().chain(self.feed.linears_mut()))
    }

    pub(crate) fn norms(&self) -> impl Iterator<Item = &Norm> {
        let heads = self.head_norms.iter().flat_map(|(q, k)| [q, k]);
        [&self.attention_norm, &self.feed_norm]
            .into_iter()
            .chain(heads)
    }

    pub(crate) fn norms_mut(&mut self) -> impl Iterator<Item = &mut Norm> {
        let heads = self.head_norms.iter_mut().flat_map(|(q, k)| [q, k]);
        [&mut self.attention_norm, &mut self.feed_norm]
            .into_iter()
            .chain(heads)
    }

    /// Whether anything of the layer trains.
    pub(crate) fn trains(&self) -> bool {
        self.linears().any(Linear::trains) || self.norms().any(|norm| norm.weight.requires_grad())
    }

    /// Computes the layer. Where `keep`, returns what [`Self::backward`] needs. Each segment follows what the slot in its
    /// place remembers, where there are slots.
    pub(crate) fn forward(
        &self,
        x: Tensor,
        around: &Around,
        slots: Option<&mut [&mut Remembered]>,
        keep: bool,
    ) -> Result<(Tensor, Option<Kept>), BackendError> {
        let Heads { inputs, raw } = self.heads(&x, around)?;
        let [queries, keys, values] = &inputs;
        let (mixed, spans) = if let Some(slots) = slots {
            let mixed = self.remembering([queries, keys, values], around.segments, slots)?;
            (mixed, Vec::new())
        } else {
            attention::forward([queries, keys, values], around.segments, self.window, keep)?
        };
        drop(inputs);
        let middle = x.f_add(&self.output.forward(&mixed, around.mode)?)?;
        drop(mixed);
        let normed = self.feed_norm.forward(&middle)?;
        let (added, feed) = self.feed.forward(normed, around, keep)?;
        let result = middle.f_add(&added)?;
        let kept = feed.map(|feed| Kept {
            x,
            raw,
            spans,
            middle,
            feed,
        });
        Ok((result, kept))
    }

    /// What attention makes of `x`: the input of the output matrix.
    pub(crate) fn mixed(&self, x: &Tensor, around: &Around) -> Result<Tensor, BackendError> {
        let [queries, keys, values] = self.heads(x, around)?.inputs;
        let inputs = [&queries, &keys, &values];
        Ok(attention::forward(inputs, around.segments, self.window, false)?.0)
    }

    fn heads(&self, x: &Tensor, around: &Around) -> Result<Heads, BackendError> {
        let normed = self.attention_norm.forward(x)?;
        let heads = |layer: &Linear| -> Result<Tensor, BackendError> {
            let rows = layer.forward(&normed, around.mode)?;
            Ok(rows.f_view([rows.size()[0], -1, self.width])?)
        };
        let (raw_queries, raw_keys, values) =
            (heads(&self.query)?, heads(&self.key)?, heads(&self.value)?);
        drop(normed);
        let turned = |raw: &Tensor, norm: Option<&Norm>| match norm {
            None => around.angles.turn(raw),
            Some(norm) => around.angles.turn(&norm.forward(raw)?),
        };
        let norms = self.head_norms.as_ref();
        let queries = turned(&raw_queries, norms.map(|(q, _)| q))?;
        let keys = turned(&raw_keys, norms.map(|(_, k)| k))?;
        Ok(Heads {
            inputs: [queries, keys, values],
            raw: norms.map(|_| (raw_queries, raw_keys)),
        })
    }

    fn remembering(
        &self,
        inputs: [&Tensor; 3],
        segments: &[i64],
        slots: &mut [&mut Remembered],
    ) -> Result<Tensor, BackendError> {
        let mut parts = Vec::with_capacity(segments.len());
        let mut start = 0;
        for (slot, &length) in slots.iter_mut().zip(segments) {
            let [queries, mut keys, mut values] = attention::cut(inputs, start, length)?;
            start += length;
            if let Some((old_keys, old_values)) = slot.take() {
                keys = Tensor::f_cat(&[&old_keys, &keys], 0)?;
                values = Tensor::f_cat(&[&old_values, &values], 0)?;
            }
            let mixed = attention::attend([&queries, &keys, &values], self.window, true)?;
            parts.push(attention::rows(&mixed)?);
            **slot = Some((keys, values));
        }
        attention::joined(parts)
    }

    /// Adds to the gradients of what trains, given the gradient `out` of the result. Returns that of the layer's input,
    /// unless nothing below trains.
    pub(crate) fn backward(
        &self,
        kept: Kept,
        mut out: Tensor,
        around: &Around,
        wanted: bool,
    ) -> Result<Option<Tensor>, BackendError> {
        let mode = around.mode;
        let Kept {
            x,
            raw,
            spans,
            middle,
            feed,
        } = kept;
        let normed = || self.feed_norm.forward(&middle);
        let inner = self.feed.backward(feed, &out, &normed, around)?;
        let part = self.feed_norm.backward(&middle, &inner)?;
        drop((inner, middle));
        out = out.f_add_(&part)?;
        drop(part);
        let mixed = attention::result(&spans)?;
        let inner = self.output.backward(&mixed, &out, None, true, mode)?;
        drop(mixed);
        let inner = inner.ok_or_else(nothing)?;
        let [queries, keys, values] = attention::backward(&spans, &inner)?;
        drop((spans, inner));
        let mut queries = around.angles.turn_back(&queries)?;
        let mut keys = around.angles.turn_back(&keys)?;
        if let (Some((query_norm, key_norm)), Some((raw_queries, raw_keys))) =
            (&self.head_norms, &raw)
        {
            queries = query_norm.backward(raw_queries, &queries)?;
            keys = key_norm.backward(raw_keys, &keys)?;
        }
        let normed = self.attention_norm.forward(&x)?;
        let below = wanted || self.attention_norm.weight.requires_grad();
        let mut sum = None;
        for (layer, part) in [
            (&self.query, &queries),
            (&self.key, &keys),
            (&self.value, &values),
        ] {
            let part = part.f_flatten(1, 2)?;
            sum = layer.backward(&normed, &part, sum, below, mode)?;
        }
        let Some(sum) = sum else {
            return Ok(None);
        };
        let part = self.attention_norm.backward(&x, &sum)?;
        Ok(if wanted {
            Some(out.f_add_(&part)?)
        } else {
            None
        })
    }
}
