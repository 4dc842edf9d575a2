//! A linear layer, and the low-rank correction that LoRA adds to it: `y = W x + b + (alpha / rank) B A x`.

use tch::{Kind, Tensor};

use crate::BackendError;

/// Which layers get a correction.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Targets {
    /// Every linear layer but the output layer.
    All,
    /// The layers with these names, such as `q_proj`.
    Named(Vec<String>),
}

/// How a LoRA adapter is made.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraSettings {
    /// Rows of A, columns of B.
    pub rank: i64,
    /// Strength: the correction is multiplied by `alpha / rank`.
    pub alpha: f64,
    /// Share of inputs of A that training drops.
    pub dropout: f64,
    /// Which layers get one.
    pub targets: Targets,
}

impl LoraSettings {
    /// The usual strength for a rank: twice the rank.
    pub fn of_rank(rank: i64) -> Self {
        Self {
            rank,
            alpha: 2.0 * rank as f64,
            dropout: 0.0,
            targets: Targets::All,
        }
    }
}

/// A and B of one layer.
#[derive(Debug)]
pub(crate) struct Correction {
    pub(crate) a: Tensor,
    pub(crate) b: Tensor,
    pub(crate) scale: f64,
    pub(crate) dropout: f64,
}

/// A linear layer, with or without a correction.
#[derive(Debug)]
pub(crate) struct Linear {
    /// Name in the files without `.weight`, such as `model.layers.0.mlp.up_proj`.
    pub(crate) name: String,
    pub(crate) weight: Tensor,
    pub(crate) bias: Option<Tensor>,
    pub(crate) correction: Option<Correction>,
}

impl Linear {
    /// The last part of the name, which `lora_target` chooses by.
    pub(crate) fn short_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or(&self.name)
    }

    /// Applies the layer to rows of `x`.
    pub(crate) fn forward(&self, x: &Tensor, training: bool) -> Result<Tensor, BackendError> {
        let base = x.f_linear(&self.weight, self.bias.as_ref())?;
        let Some(correction) = &self.correction else {
            return Ok(base);
        };
        let low = if training && correction.dropout > 0.0 {
            let thinned = x.f_dropout(correction.dropout, true)?;
            thinned.f_linear(&correction.a, None::<&Tensor>)?
        } else {
            x.f_linear(&correction.a, None::<&Tensor>)?
        };
        // Scaling the narrow side costs rank numbers a token instead of a whole row.
        let low = low.f_mul_scalar(correction.scale)?;
        Ok(base.f_addmm(&low, &correction.b.f_transpose(0, 1)?)?)
    }

    /// Adds a fresh correction that changes no output: A is random, B is zero.
    ///
    /// The random numbers are drawn as PEFT draws them, which makes both matrices as torch's linear layers and then
    /// A once more: after the same seed the same job starts from the same adapter there and here.
    pub(crate) fn correct(&mut self, settings: &LoraSettings) -> Result<(), BackendError> {
        let (rows, columns) = self.weight.size2()?;
        let options = (Kind::Float, self.weight.device());
        let linear = |rows: i64, columns: i64| -> Result<Tensor, BackendError> {
            // Kaiming-uniform with a = sqrt(5), in torch's order of operations.
            let deviation = (2.0_f64 / 6.0).sqrt() / (columns as f64).sqrt();
            let bound = 3.0_f64.sqrt() * deviation;
            Ok(Tensor::f_empty([rows, columns], options)?.f_uniform_(-bound, bound)?)
        };
        // Drawn and dropped, as there.
        let _ = (
            linear(settings.rank, columns)?,
            linear(rows, settings.rank)?,
        );
        let a = linear(settings.rank, columns)?;
        let b = Tensor::f_zeros([rows, settings.rank], options)?;
        self.set_correction(a, b, settings);
        Ok(())
    }

    /// Puts given matrices in place.
    pub(crate) fn set_correction(&mut self, a: Tensor, b: Tensor, settings: &LoraSettings) {
        self.correction = Some(Correction {
            a,
            b,
            scale: settings.alpha / settings.rank as f64,
            dropout: settings.dropout,
        });
    }
}

/// Marks the layers that `settings` names, or says which name fits none.
pub(crate) fn chosen(
    settings: &LoraSettings,
    layers: &[&Linear],
) -> Result<Vec<String>, BackendError> {
    let mut kinds: Vec<&str> = layers.iter().map(|layer| layer.short_name()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    match &settings.targets {
        Targets::All => Ok(kinds.into_iter().map(str::to_owned).collect()),
        Targets::Named(names) => {
            for name in names {
                if !kinds.contains(&name.as_str()) {
                    return Err(BackendError::NoSuchTarget {
                        name: name.clone(),
                        known: kinds.join(", "),
                    });
                }
            }
            Ok(names.clone())
        }
    }
}
