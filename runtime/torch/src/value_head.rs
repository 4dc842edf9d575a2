//! A reward model: one number for a text, from what the model sees at its last token.
//!
//! The head is a linear layer beside the model, kept as `value_head.safetensors` as the original keeps it. As in trl,
//! training drops a tenth of its inputs unless the model's `config.json` has another `summary_dropout_prob`.

use std::path::Path;

use tch::{Device, Kind, Tensor};
use torch_device::Place;
use train_data::Batch;

use crate::files::{self, TensorFiles};
use crate::lora::mixed;
use crate::model::{Model, Pass};
use crate::preference::Compared;
use crate::source::ModelFiles;
use crate::{BackendError, output};

/// The head's file, in a checkpoint and in an adapter to start from.
pub(crate) const FILE: &str = "value_head.safetensors";

/// Start of its tensors' names.
pub(crate) const PREFIX: &str = "v_head.";

const WEIGHT: &str = "v_head.summary.weight";
const BIAS: &str = "v_head.summary.bias";

/// Share of its inputs that trl's head drops where nothing is said.
const USUAL_DROPOUT: f64 = 0.1;

/// Its place beside the layers' numbers, for what is drawn by chance.
const HEAD: u64 = u64::MAX;

/// The linear layer that turns a state into a reward.
#[derive(Debug)]
pub(crate) struct ValueHead {
    weight: Tensor,
    bias: Tensor,
    dropout: f64,
}

impl ValueHead {
    /// The head in `folder`, if that holds one, else a fresh one.
    pub(crate) fn start(
        source: &ModelFiles,
        folder: Option<&Path>,
        width: i64,
        place: Place,
    ) -> Result<Self, BackendError> {
        let saved = folder.map(|folder| folder.join(FILE));
        let (weight, bias) = if let Some(path) = saved.filter(|path| path.is_file()) {
            let mut file = TensorFiles::open_file(&path)?;
            (file.read(WEIGHT, &[1, width])?, file.read(BIAS, &[1])?)
        } else {
            let bound = 1.0 / (width as f64).sqrt();
            let draw = |size: &[i64]| {
                Tensor::f_empty(size, (Kind::Float, Device::Cpu))?.f_uniform_(-bound, bound)
            };
            (draw(&[1, width])?, draw(&[1])?)
        };
        Ok(Self {
            weight: place.put(&weight)?,
            bias: place.put(&bias)?,
            dropout: dropout(source)?,
        })
    }

    /// Its tensors by name.
    pub(crate) fn tensors(&self) -> Vec<(String, &Tensor)> {
        vec![
            (WEIGHT.to_owned(), &self.weight),
            (BIAS.to_owned(), &self.bias),
        ]
    }

    pub(crate) fn save(&self, folder: &Path) -> Result<(), BackendError> {
        let tensors = self.tensors();
        output::placed(&folder.join(FILE), |fresh| {
            files::write(fresh, tensors.iter().map(|(name, t)| (name.as_str(), *t)))
        })
    }

    /// The loss of a batch whose first half of rows should be rewarded more than its second.
    pub(crate) fn compare(
        &self,
        model: &Model,
        batch: &Batch,
        training: bool,
    ) -> Result<Compared, BackendError> {
        let rewards = self.rewards(model, batch, training)?;
        let half = batch.rows as i64 / 2;
        let (chosen, rejected) = (
            rewards.f_narrow(0, 0, half)?,
            rewards.f_narrow(0, half, half)?,
        );
        let loss = chosen.f_sub(&rejected)?.f_log_sigmoid()?.f_neg()?;
        Ok(Compared {
            loss: loss.f_mean(Kind::Float)?,
            metrics: Vec::new(),
        })
    }

    /// One number a row.
    fn rewards(
        &self,
        model: &Model,
        batch: &Batch,
        training: bool,
    ) -> Result<Tensor, BackendError> {
        let bad = |reason: &str| BackendError::BadBatch {
            reason: reason.to_owned(),
        };
        if batch.rows == 0 || !batch.rows.is_multiple_of(2) {
            return Err(bad("its answers are no pairs"));
        }
        let (mut pass, mut last) = (Pass::default(), Vec::new());
        pass.reach = batch.columns as i64;
        let masks = batch.attention_mask.chunks(batch.columns.max(1));
        for (ids, mask) in batch.input_ids.chunks(batch.columns.max(1)).zip(masks) {
            let length = mask.iter().take_while(|on| **on != 0).count();
            if length == 0 {
                return Err(bad("one of its answers is empty"));
            }
            pass.tokens.extend_from_slice(&ids[..length]);
            pass.segments.push(length as i64);
            last.push(pass.tokens.len() as i64 - 1);
        }
        let states = model.hidden(&pass, None, training)?;
        let states = states
            .f_index_select(0, &model.place().of_slice(&last)?)?
            .f_to_kind(Kind::Float)?;
        let states = match model.mode(training).noise {
            Some(noise) if self.dropout > 0.0 => {
                // Seed and step alone decide what is dropped, so that a run that goes on drops the same.
                tch::manual_seed(mixed(noise, HEAD).cast_signed());
                states.f_dropout(self.dropout, true)?
            }
            _ => states,
        };
        Ok(states
            .f_linear(&self.weight, Some(&self.bias))?
            .f_squeeze_dim(1)?)
    }
}

fn dropout(source: &ModelFiles) -> Result<f64, BackendError> {
    match &source.config()?["summary_dropout_prob"] {
        serde_json::Value::Null => Ok(USUAL_DROPOUT),
        value => value
            .as_f64()
            .filter(|part| (0.0..1.0).contains(part))
            .ok_or_else(|| {
                let found = format!("`summary_dropout_prob`: {value}");
                let config = source.folder().join("config.json");
                BackendError::malformed(&config, found, "a number from 0 to below 1")
            }),
    }
}
