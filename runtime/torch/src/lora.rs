//! A linear layer, and the low-rank correction that LoRA adds to it.
//!
//! ```text
//! LoRA  y = W x + bias + s B A x                         s = alpha / rank, rank-stabilised: alpha / sqrt(rank)
//! DoRA  y = m / |W + s B A| * (W x + s B A x) + bias     |..|: length of each row, taken as a constant
//! ```
//!
//! The forward pass is made of libtorch's operations, so it can be differentiated by libtorch. Training does not use
//! that: [`Linear::backward`] needs nothing but the layer's input, where libtorch would keep every product as well.

use tch::{Kind, Tensor};
use torch_device::Place;

use crate::owed::Owed;
use crate::settings::{LoraSettings, Targets};
use crate::weight::Weight;
use crate::{BackendError, gradient, product};

/// How a pass computes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mode {
    /// Number format of the products.
    pub(crate) kind: Kind,
    /// Decides what dropout drops; without it nothing is dropped.
    pub(crate) noise: Option<u64>,
    /// Corrections are left out.
    pub(crate) bare: bool,
}

/// A and B of one layer, and the row lengths that `DoRA` trains.
#[derive(Debug)]
pub(crate) struct Correction {
    pub(crate) a: Tensor,
    pub(crate) b: Tensor,
    pub(crate) scale: f64,
    pub(crate) dropout: f64,
    pub(crate) magnitude: Option<Magnitude>,
}

#[derive(Debug)]
pub(crate) struct Magnitude {
    /// m, `[rows]`.
    pub(crate) lengths: Tensor,
    /// Squared length of each row of W.
    pub(crate) squares: Tensor,
}

/// A linear layer, with or without a correction.
#[derive(Debug)]
pub(crate) struct Linear {
    /// Name in the files without `.weight`, such as `model.layers.0.mlp.up_proj`.
    pub(crate) name: String,
    /// Its place among the linear layers of the model.
    pub(crate) number: u64,
    pub(crate) weight: Weight,
    pub(crate) bias: Option<Tensor>,
    pub(crate) correction: Option<Correction>,
    /// Takes the weight's gradient where that is not added up at once.
    pub(crate) owed: Option<Owed>,
}

impl Linear {
    /// The last part of the name, which `lora_target` chooses by.
    pub(crate) fn short_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or(&self.name)
    }

    /// Whether the layer is an expert's or chooses experts.
    pub(crate) fn is_routed(&self) -> bool {
        self.name.contains(".mlp.experts.") || self.name.ends_with(".mlp.gate")
    }

    /// Whether `lora_target` means this layer. `all` leaves experts and their routers alone, as the original with
    /// transformers 5 does, where they are no linear layers; by name they can be chosen.
    pub(crate) fn is_meant(&self, targets: &Targets) -> bool {
        match targets {
            Targets::All => !self.is_routed(),
            Targets::Named(names) => names.iter().any(|name| name == self.short_name()),
        }
    }

    /// Whether a backward pass has gradients to add here.
    pub(crate) fn trains(&self) -> bool {
        self.weight.trains()
            || self.bias.as_ref().is_some_and(Tensor::requires_grad)
            || self
                .correction
                .as_ref()
                .is_some_and(|c| c.a.requires_grad())
    }

    fn used(&self, mode: Mode) -> Option<&Correction> {
        self.correction.as_ref().filter(|_| !mode.bare)
    }

    /// Applies the layer to rows of `x`.
    pub(crate) fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor, BackendError> {
        let x = x.f_to_kind(mode.kind)?;
        let bias = self.bias.as_ref().map(|bias| bias.f_to_kind(mode.kind));
        let bias = bias.transpose()?;
        let Some(correction) = self.used(mode) else {
            return self.weight.forth(&x, bias.as_ref());
        };
        let low = correction.low(&correction.thinned(&x, self.number, mode)?, mode.kind)?;
        let raise = correction.b.f_to_kind(mode.kind)?;
        let raise = raise.f_transpose(0, 1)?;
        let Some(factor) = correction.factor(self, mode.kind)? else {
            let mut base = self.weight.forth(&x, bias.as_ref())?;
            return Ok(base.f_addmm_(&low, &raise)?);
        };
        let mut base = self.weight.forth(&x, None)?;
        let turned = base.f_addmm_(&low, &raise)?.f_mul(&factor)?;
        match bias {
            Some(bias) => Ok(turned.f_add(&bias)?),
            None => Ok(turned),
        }
    }

    /// Adds to the gradients of what trains here, given the layer's input `x` and the gradient `out` of its result.
    /// Where `wanted`, returns `sum` plus the gradient of `x`, in the number format of the products.
    pub(crate) fn backward(
        &self,
        x: &Tensor,
        out: &Tensor,
        sum: Option<Tensor>,
        wanted: bool,
        mode: Mode,
    ) -> Result<Option<Tensor>, BackendError> {
        if !wanted && !self.trains() {
            return Ok(sum);
        }
        let (x, out) = (x.f_to_kind(mode.kind)?, out.f_to_kind(mode.kind)?);
        if let Some(bias) = self.bias.as_ref().filter(|bias| bias.requires_grad()) {
            gradient::add(bias, &out.f_sum_dim_intlist(0, false, bias.kind())?)?;
        }
        let Some(correction) = self.used(mode) else {
            return self.backward_weight(&x, &out, sum, wanted);
        };
        let thinned = correction.thinned(&x, self.number, mode)?;
        let low = correction.low(&thinned, mode.kind)?;
        let out = match (&correction.magnitude, correction.factor(self, mode.kind)?) {
            (Some(magnitude), Some(factor)) => {
                let raise = correction.b.f_to_kind(mode.kind)?;
                let mut turned = self.weight.forth(&x, None)?;
                let turned = turned.f_addmm_(&low, &raise.f_transpose(0, 1)?)?;
                let along = turned
                    .f_mul(&out)?
                    .f_sum_dim_intlist(0, false, Kind::Float)?;
                let lengths = correction.lengths(self)?;
                gradient::add(&magnitude.lengths, &along.f_div(&lengths)?)?;
                out.f_mul(&factor)?
            }
            _ => out,
        };
        let raised = out.f_transpose(0, 1)?;
        gradient::add_product(&correction.b, &raised, &low)?;
        let raise = correction.b.f_to_kind(mode.kind)?;
        let narrow = out.f_mm(&raise)?.f_mul_scalar_(correction.scale)?;
        gradient::add_product(&correction.a, &narrow.f_transpose(0, 1)?, &thinned)?;
        let sum = if wanted {
            let lower = correction.a.f_to_kind(mode.kind)?;
            Some(match correction.mask(&x, self.number, mode)? {
                None => product::back(sum, &narrow, &lower)?,
                Some(mask) => {
                    let part = narrow.f_mm(&lower)?.f_mul(&mask)?;
                    match sum {
                        None => part,
                        Some(mut sum) => sum.f_add_(&part)?,
                    }
                }
            })
        } else {
            sum
        };
        self.backward_weight(&x, &out, sum, wanted)
    }

    fn backward_weight(
        &self,
        x: &Tensor,
        out: &Tensor,
        sum: Option<Tensor>,
        wanted: bool,
    ) -> Result<Option<Tensor>, BackendError> {
        if let Weight::Numbers(weight) = &self.weight
            && weight.requires_grad()
        {
            gradient::add_outer(weight, self.owed.as_ref(), out, x)?;
        }
        if !wanted {
            return Ok(sum);
        }
        self.weight.back(sum, out).map(Some)
    }

    /// Adds a fresh correction that changes no output: A is random, B is zero. `PiSSA` instead moves the strongest
    /// directions of the weight into A and B.
    ///
    /// The random numbers are drawn as PEFT draws them, which makes both matrices as torch's linear layers and then
    /// A once more: after the same seed the same job starts from the same adapter there and here.
    pub(crate) fn correct(&mut self, settings: &LoraSettings) -> Result<(), BackendError> {
        let (a, b) = if let Some(rounds) = settings.pissa {
            self.split(settings, rounds)?
        } else {
            self.fresh(settings.rank)?
        };
        self.set_correction(&a, &b, None, settings)
    }

    /// A and B as PEFT draws them.
    fn fresh(&self, rank: i64) -> Result<(Tensor, Tensor), BackendError> {
        let (rows, columns) = self.weight.size()?;
        let options = (Kind::Float, tch::Device::Cpu);
        let linear = |rows: i64, columns: i64| -> Result<Tensor, BackendError> {
            // Kaiming-uniform with a = sqrt(5), in torch's order of operations.
            let deviation = (2.0_f64 / 6.0).sqrt() / (columns as f64).sqrt();
            let bound = 3.0_f64.sqrt() * deviation;
            Ok(Tensor::f_empty([rows, columns], options)?.f_uniform_(-bound, bound)?)
        };
        let _overwritten = (linear(rank, columns)?, linear(rows, rank)?);
        Ok((
            linear(rank, columns)?,
            Tensor::f_zeros([rows, rank], options)?,
        ))
    }

    /// Draws what PEFT draws for a correction before it reads the saved one over it, so that what is drawn afterwards
    /// is the same here and there.
    pub(crate) fn pass_over(&self) -> Result<(), BackendError> {
        if let Some(correction) = &self.correction {
            let _dropped = self.fresh(correction.a.size()[0])?;
        }
        Ok(())
    }

    /// Puts given matrices in place. Fresh `DoRA` lengths are those of the corrected weight's rows.
    pub(crate) fn set_correction(
        &mut self,
        a: &Tensor,
        b: &Tensor,
        lengths: Option<Tensor>,
        settings: &LoraSettings,
    ) -> Result<(), BackendError> {
        let place = self.weight.place();
        let mut correction = Correction {
            a: place.put(a)?,
            b: place.put(b)?,
            scale: settings.scale(),
            dropout: settings.dropout,
            magnitude: None,
        };
        if settings.dora {
            tch::no_grad(|| {
                let weight = self.weight.matrix(Kind::Float)?;
                let squares = weight
                    .f_square()?
                    .f_sum_dim_intlist(1, false, Kind::Float)?;
                correction.magnitude = Some(Magnitude {
                    lengths: squares.f_sqrt()?,
                    squares,
                });
                let lengths = match lengths {
                    Some(lengths) => place.put(&lengths)?,
                    None => correction.lengths_of(&weight)?,
                };
                if let Some(magnitude) = &mut correction.magnitude {
                    magnitude.lengths = lengths;
                }
                Ok::<(), BackendError>(())
            })?;
        }
        self.correction = Some(correction);
        Ok(())
    }

    /// `PiSSA`: `W = rest + s B A` with the strongest singular directions in B A. All of them are computed where `rounds`
    /// is none; otherwise they are approximated by that many rounds of a random projection.
    fn split(
        &mut self,
        settings: &LoraSettings,
        rounds: Option<u32>,
    ) -> Result<(Tensor, Tensor), BackendError> {
        let Weight::Numbers(weight) = &mut self.weight else {
            return Err(BackendError::NotOnPacked { what: "PiSSA" });
        };
        tch::no_grad(|| {
            let wide = weight.f_to_kind(Kind::Float)?;
            let (left, strengths, right) = match rounds {
                None => decomposed(&wide)?,
                Some(rounds) => low_rank(&wide, settings.rank, rounds)?,
            };
            let roots = strengths
                .f_narrow(0, 0, settings.rank)?
                .f_div_scalar(settings.scale())?
                .f_sqrt()?;
            let b = left.f_narrow(1, 0, settings.rank)?.f_mul(&roots)?;
            let a = right
                .f_narrow(0, 0, settings.rank)?
                .f_mul(&roots.f_unsqueeze(1)?)?;
            let rest = wide.f_sub(&b.f_mm(&a)?.f_mul_scalar(settings.scale())?)?;
            *weight = rest.f_to_kind(weight.kind())?;
            Ok((a.f_contiguous()?, b.f_contiguous()?))
        })
    }

    /// The weight with its correction added for good, in `f32`.
    pub(crate) fn merged(&self) -> Result<Tensor, BackendError> {
        let weight = self.weight.matrix(Kind::Float)?;
        let Some(correction) = &self.correction else {
            return Ok(weight);
        };
        let (a, b) = (
            correction.a.f_to_kind(Kind::Float)?,
            correction.b.f_to_kind(Kind::Float)?,
        );
        let sum = weight.f_add(&b.f_mm(&a)?.f_mul_scalar(correction.scale)?)?;
        match correction.factor(self, Kind::Float)? {
            None => Ok(sum),
            Some(factor) => Ok(sum.f_mul(&factor.f_unsqueeze(1)?)?),
        }
    }
}

impl Correction {
    /// `s A x`, of as many numbers a row as the rank.
    fn low(&self, x: &Tensor, kind: Kind) -> Result<Tensor, BackendError> {
        let low = x.f_linear(&self.a.f_to_kind(kind)?, None::<&Tensor>)?;
        // Scaling the narrow side costs rank numbers a token instead of a whole row.
        Ok(low.f_mul_scalar(self.scale)?)
    }

    /// Zeros where dropout drops, and what makes up for them elsewhere. The same noise gives the same mask, so that it
    /// is drawn again in the backward pass instead of kept, and a resumed run drops what the first would have.
    fn mask(&self, x: &Tensor, number: u64, mode: Mode) -> Result<Option<Tensor>, BackendError> {
        let Some(noise) = mode.noise.filter(|_| self.dropout > 0.0) else {
            return Ok(None);
        };
        tch::no_grad(|| {
            tch::manual_seed(mixed(noise, number).cast_signed());
            let drawn = Place::of(x)
                .empty(&x.size(), Kind::Float)?
                .f_uniform_(0.0, 1.0)?;
            let kept = drawn.f_ge(self.dropout)?.f_to_kind(x.kind())?;
            Ok(Some(kept.f_div_scalar(1.0 - self.dropout)?))
        })
    }

    fn thinned(&self, x: &Tensor, number: u64, mode: Mode) -> Result<Tensor, BackendError> {
        Ok(match self.mask(x, number, mode)? {
            None => x.shallow_clone(),
            Some(mask) => x.f_mul(&mask)?,
        })
    }

    /// `DoRA`'s factor on each output, m over the length of the corrected row.
    fn factor(&self, layer: &Linear, kind: Kind) -> Result<Option<Tensor>, BackendError> {
        let Some(magnitude) = &self.magnitude else {
            return Ok(None);
        };
        let factor = magnitude.lengths.f_div(&self.lengths(layer)?)?;
        Ok(Some(factor.f_to_kind(kind)?))
    }

    /// Length of each row of `W + s B A`, as a constant.
    fn lengths(&self, layer: &Linear) -> Result<Tensor, BackendError> {
        tch::no_grad(|| self.lengths_of(&layer.weight.matrix(Kind::Float)?))
    }

    fn lengths_of(&self, weight: &Tensor) -> Result<Tensor, BackendError> {
        let (a, b) = (
            self.a.f_to_kind(Kind::Float)?,
            self.b.f_to_kind(Kind::Float)?,
        );
        let squares = match &self.magnitude {
            Some(magnitude) => magnitude.squares.shallow_clone(),
            None => weight
                .f_square()?
                .f_sum_dim_intlist(1, false, Kind::Float)?,
        };
        // |w + s b A|^2 = |w|^2 + 2 s (W A^T) . b + s^2 (b A A^T) . b, without a matrix as large as W.
        let cross = weight.f_mm(&a.f_transpose(0, 1)?)?.f_mul(&b)?;
        let own = b.f_mm(&a.f_mm(&a.f_transpose(0, 1)?)?)?.f_mul(&b)?;
        let added = cross
            .f_mul_scalar(2.0 * self.scale)?
            .f_add(&own.f_mul_scalar(self.scale * self.scale)?)?
            .f_sum_dim_intlist(1, false, Kind::Float)?;
        Ok(squares.f_add(&added)?.f_clamp_min(0.0)?.f_sqrt()?)
    }
}

/// The strongest `rank` singular directions of `weight` by random projection, as `torch.svd_lowrank`.
fn low_rank(
    weight: &Tensor,
    rank: i64,
    rounds: u32,
) -> Result<(Tensor, Tensor, Tensor), BackendError> {
    let (_, columns) = weight.size2()?;
    let across = weight.f_transpose(0, 1)?;
    let start = Tensor::f_randn([columns, rank], (Kind::Float, tch::Device::Cpu))?;
    let start = Place::of(weight).put(&start)?;
    let mut basis = Tensor::f_linalg_qr(&weight.f_mm(&start)?, "reduced")?.0;
    for _ in 0..rounds {
        let back = Tensor::f_linalg_qr(&across.f_mm(&basis)?, "reduced")?.0;
        basis = Tensor::f_linalg_qr(&weight.f_mm(&back)?, "reduced")?.0;
    }
    let small = basis.f_transpose(0, 1)?.f_mm(weight)?;
    let (left, strengths, right) = decomposed(&small)?;
    Ok((basis.f_mm(&left)?, strengths, right))
}

/// All singular directions: left as columns, right as rows. Not by `linalg_svd`, whose driver cannot be left open through
/// tch, and which refuses any that is named on a processor.
fn decomposed(matrix: &Tensor) -> Result<(Tensor, Tensor, Tensor), BackendError> {
    let (left, strengths, right) = matrix.f_svd(true, true)?;
    Ok((left, strengths, right.f_transpose(0, 1)?))
}

/// Two numbers as one seed (splitmix64), so that neighbouring layers and steps draw unrelated noise.
pub(crate) fn mixed(noise: u64, number: u64) -> u64 {
    let mut z = noise
        .wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
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
        Targets::All => {
            let meant = |kind: &&str| {
                let mut layers = layers.iter().filter(|layer| layer.short_name() == *kind);
                layers.any(|layer| layer.is_meant(&settings.targets))
            };
            Ok(kinds.into_iter().filter(meant).map(str::to_owned).collect())
        }
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
