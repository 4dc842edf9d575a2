//! The blocks of a model, one after the other: what their matrices are given, and what is made of them.
//!
//! In memory beside the mapped model are the texts as one block sees them, that block in `f32`, and the grids so far.

use std::collections::BTreeMap;

use report::{Sink, Step};
use tch::{Kind, Tensor};
use torch_device::Place;

use super::WORD;
use super::gram::{Factor, Gram};
use super::grid::Grid;
use crate::BackendError;
use crate::block::{Around, Block};
use crate::feed::Feed;
use crate::load::is_finite;
use crate::lora::{Linear, Mode};
use crate::model::{Model, Pass};
use crate::weight::{Compact as _, Weight};

/// How often the texts pass through a block: to see what is given to the first three matrices, to the fourth, to the
/// next two and to the last, and to see what comes out.
const PASSES: u64 = 4;

/// Rounds every matrix of the blocks to `bits`, by what it does to `texts`, all of which are of one length. The model's own
/// weights are as they were afterwards, but for corrections, which are added.
pub(crate) fn calibrate(
    model: &mut Model,
    bits: u32,
    texts: &[Vec<i64>],
    sink: &dyn Sink,
) -> Result<BTreeMap<String, Grid>, BackendError> {
    check_sizes(model)?;
    let Some(first) = texts.first() else {
        return Ok(BTreeMap::new());
    };
    let pass = Pass {
        wanted: Vec::new(),
        ..Pass::of_text(first)
    };
    if texts.iter().any(|text| text.len() != first.len()) {
        return Err(BackendError::BadBatch {
            reason: "its texts are of several lengths".to_owned(),
        });
    }
    if first.len() as i64 > model.config.positions {
        return Err(BackendError::TooLong {
            found: first.len(),
            limit: model.config.positions,
        });
    }
    for text in texts {
        model.check(&Pass::of_text(text))?;
    }
    let place = model.place();
    let around = model.around(&pass, MODE)?;
    let step = Step::start(
        sink,
        "step.calibrate",
        "",
        Some(model.blocks.len() as u64 * PASSES * texts.len() as u64),
        "texts",
    );
    let seen = texts.iter().map(|text| embedded(model, text, place));
    let mut run = Run {
        bits,
        place,
        around,
        seen: seen.collect::<Result<_, _>>()?,
        grids: BTreeMap::new(),
        step,
        done: 0,
    };
    for number in 0..model.blocks.len() {
        match run.block(&mut model.blocks[number]) {
            Err(BackendError::NoNumber) => return Err(model.no_number()),
            result => result?,
        }
    }
    run.step.finish();
    Ok(run.grids)
}

const MODE: Mode = Mode {
    kind: Kind::Float,
    noise: None,
    bare: false,
};

/// Before anything is computed.
fn check_sizes(model: &Model) -> Result<(), BackendError> {
    for layer in model.linears() {
        let (rows, columns) = layer.weight.size()?;
        if rows % WORD != 0 || columns % WORD != 0 {
            return Err(BackendError::Unpackable {
                layer: layer.name.clone(),
                rows,
                columns,
            });
        }
    }
    Ok(())
}

fn embedded(model: &Model, text: &[i64], place: Place) -> Result<Tensor, BackendError> {
    let tokens = Tensor::f_from_slice(text)?;
    let rows = Tensor::f_embedding(&model.embedding, &tokens, -1, false, false)?;
    Ok(place.put(&rows.f_to_kind(Kind::Float)?)?)
}

struct Run<'a> {
    bits: u32,
    place: Place,
    around: Around<'a>,
    /// Each text as the next block sees it, `[tokens, hidden]`.
    seen: Vec<Tensor>,
    grids: BTreeMap<String, Grid>,
    step: Step<'a>,
    done: u64,
}

impl Run<'_> {
    fn block(&mut self, block: &mut Block) -> Result<(), BackendError> {
        let own = widened(block, self.place)?;
        let gram = self.gram(|run, at| block.attention_norm.forward(&run.seen[at]))?;
        self.round(gram, [&mut block.query, &mut block.key, &mut block.value])?;

        let mut mixed = Vec::with_capacity(self.seen.len());
        let gram = self.gram(|run, at| {
            let rows = block.mixed(&run.seen[at], &run.around)?;
            mixed.push(rows.shallow_clone());
            Ok(rows)
        })?;
        self.round(gram, [&mut block.output])?;
        for (seen, mixed) in self.seen.iter_mut().zip(mixed) {
            *seen = seen.f_add(&block.output.forward(&mixed, MODE)?)?;
        }

        let Feed::Dense(feed) = &mut block.feed else {
            return Err(BackendError::NoPackedExperts);
        };
        let norm = &block.feed_norm;
        let gram = self.gram(|run, at| norm.forward(&run.seen[at]))?;
        self.round(gram, [&mut feed.gate, &mut feed.up])?;
        let gram = self.gram(|run, at| feed.product(&norm.forward(&run.seen[at])?, MODE))?;
        self.round(gram, [&mut feed.down])?;
        for seen in &mut self.seen {
            let product = feed.product(&norm.forward(seen)?, MODE)?;
            *seen = seen.f_add(&feed.down.forward(&product, MODE)?)?;
        }
        restore(block, own);
        Ok(())
    }

    /// What a matrix is given by all texts.
    fn gram(
        &mut self,
        mut inputs: impl FnMut(&Self, usize) -> Result<Tensor, BackendError>,
    ) -> Result<Tensor, BackendError> {
        let mut gram: Option<Gram> = None;
        for at in 0..self.seen.len() {
            let rows = inputs(self, at)?;
            if gram.is_none() {
                gram = Some(Gram::new(rows.size()[1], self.place)?);
            }
            if let Some(gram) = &mut gram {
                gram.add(&rows)?;
            }
            self.done += 1;
            self.step.progress(self.done);
        }
        gram.map_or(Ok(None), Gram::sum)?
            .ok_or(BackendError::NoNumber)
    }

    /// Rounds matrices that are given the same.
    fn round<const N: usize>(
        &mut self,
        sum: Tensor,
        layers: [&mut Linear; N],
    ) -> Result<(), BackendError> {
        let factor = Factor::of(&sum)?;
        drop(sum);
        for layer in layers {
            let factor = factor.as_ref().ok_or_else(|| BackendError::NoCalibration {
                layer: layer.name.clone(),
            })?;
            let matrix = Place::PROCESSOR.put(&layer.weight.matrix(Kind::Float)?)?;
            let grid = factor.round(&matrix, self.bits)?;
            let grid = grid.ok_or_else(|| BackendError::NotFinite {
                tensor: format!("{}.scales", layer.name),
                numbers: "float16",
            })?;
            layer.weight = Weight::Numbers(self.place.put(&grid.widen()?)?);
            self.grids.insert(layer.name.clone(), grid);
        }
        Ok(())
    }
}

/// A block's weights as they were.
struct Own {
    matrices: Vec<(Weight, Option<Tensor>)>,
    norms: Vec<Tensor>,
}

/// Puts the block in `f32` into `place`, its corrections added; returns what was there.
fn widened(block: &mut Block, place: Place) -> Result<Own, BackendError> {
    let mut matrices = Vec::new();
    for layer in block.linears_mut() {
        let merged = layer.merged()?;
        // What is no number has no nearest one: rounded, it would be taken for one.
        if !is_finite(&merged)? {
            return Err(BackendError::BrokenWeight {
                tensor: format!("{}.weight", layer.name),
            });
        }
        let wide = Weight::Numbers(place.put(&merged)?);
        layer.correction = None;
        let bias = match &layer.bias {
            Some(bias) => Some(place.put(&bias.f_to_kind(Kind::Float)?)?),
            None => None,
        };
        let bias = std::mem::replace(&mut layer.bias, bias);
        matrices.push((std::mem::replace(&mut layer.weight, wide), bias));
    }
    let mut norms = Vec::new();
    for norm in block.norms_mut() {
        let wide = place.put(&norm.weight.f_to_kind(Kind::Float)?)?;
        norms.push(std::mem::replace(&mut norm.weight, wide));
    }
    Ok(Own { matrices, norms })
}

fn restore(block: &mut Block, own: Own) {
    for (layer, (weight, bias)) in block.linears_mut().zip(own.matrices) {
        (layer.weight, layer.bias) = (weight, bias);
    }
    for (norm, weight) in block.norms_mut().zip(own.norms) {
        norm.weight = weight;
    }
}
